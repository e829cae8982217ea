//! What evaluation takes of memory: nothing while it answers, little while it waits. Counted by the allocator, so that the numbers
//! are the same on every machine.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; the numbers are worth seeing"
)]

use std::sync::Arc;

use allocation_counter::measure;
use halyard::domain::context::{Attribute, Context};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::evaluate::{Assigned, Experiment, Freshness, Reason, Snapshot, key_chunk};
use serde_json::{Value, json};

fn put(snapshot: &mut Snapshot, kind: Kind, key: &str, form: &[u8]) {
    let key = Arc::from(key);
    snapshot.put(&ItemId { kind, key }, form);
}

fn put_json(snapshot: &mut Snapshot, kind: Kind, key: &str, form: &Value) -> usize {
    let form = form.to_string();
    put(snapshot, kind, key, form.as_bytes());
    form.len()
}

fn definition(key: &str) -> Value {
    let variants = [("on", true), ("off", false)].map(|(key, value)| json!({ "key": key, "value": { "bool": value } }));
    json!({
        "format": 1, "key": key, "type": "bool", "variants": variants, "off_variant": "off", "client_visible": true,
    })
}

fn condition(attribute: &str, operator: &str, values: &Value) -> Value {
    json!({ "attribute": attribute, "operator": operator, "values": values })
}

/// One flag for each operator, of one rule of one condition that holds.
fn conditions() -> Vec<Value> {
    let companies: Vec<_> = (0..1_000).map(|n| format!("company-{n}")).collect();
    let texts = |operator| condition("email", operator, &json!(["x", "ada@example.com"]));
    let number = |operator, than: f64| condition("age", operator, &json!([than]));
    let version = |operator, than: &str| condition("version", operator, &json!([than]));
    vec![
        condition("company", "equals", &json!(["company-567"])),
        condition("company", "one_of", &json!(companies)),
        texts("contains"),
        texts("starts_with"),
        texts("ends_with"),
        condition("email", "matches", &json!(["^nobody$", "@example\\.(com|org)$"])),
        number("number_equal", 36.0),
        number("number_not_equal", 1.0),
        number("number_less", 37.0),
        number("number_less_or_equal", 36.0),
        number("number_greater", 35.0),
        number("number_greater_or_equal", 36.0),
        version("version_equal", "1.2.3-rc.1"),
        version("version_not_equal", "1.2.3"),
        version("version_less", "1.2.3"),
        version("version_less_or_equal", "1.2.3"),
        version("version_greater", "1.2.2"),
        version("version_greater_or_equal", "1.2.2"),
        version("version_tilde", "1.2.3-beta"),
        version("version_caret", "1.2.3-beta"),
        condition("joined", "before", &json!(["2026-01-01T00:00:00Z"])),
        condition("joined", "after", &json!(["2024-01-01T00:00:00+01:00"])),
        condition(
            "address",
            "ip_in_range",
            &json!(["192.168.0.0/16", "2001:db8::/32", "10.0.0.0/8"]),
        ),
        condition("tags", "equals", &json!(["second"])),
        condition("nested.deep", "exists", &json!([])),
        condition("", "in_segment", &json!(["unknown", "listed"])),
        condition("", "in_segment", &json!(["made-of-others"])),
    ]
}

fn context() -> Context {
    let text = |text: &str| Attribute::String(text.to_owned());
    let nested = [("deep".to_owned(), Attribute::Bool(true))].into_iter().collect();
    let attributes = [
        ("company", text("company-567")),
        ("email", text("ada@example.com")),
        ("age", Attribute::Number(36.0)),
        ("version", text("1.2.3-rc.1")),
        ("joined", text("2025-06-30T12:00:00.5Z")),
        ("address", text("10.1.2.3")),
        ("tags", Attribute::List(vec![text("first"), text("second")])),
        ("nested", Attribute::Object(nested)),
    ];
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
    Context::new("user-77".to_owned(), attributes.collect())
}

#[test]
fn an_evaluation_allocates_nothing() {
    let mut snapshot = Snapshot::default();
    put_list(&mut snapshot, "listed", 100);
    let parts = json!({
        "format": 1, "excluded": ["user-1"], "segments": ["unknown", "nobody"],
        "conditions": [condition("", "in_segment", &json!(["listed"])), condition("company", "exists", &json!([]))],
    });
    put_json(&mut snapshot, Kind::SegmentConfiguration, "made-of-others", &parts);
    put_json(
        &mut snapshot,
        Kind::SegmentConfiguration,
        "nobody",
        &json!({ "format": 1 }),
    );
    let split =
        json!({ "split": { "variants": [{ "variant": "on", "weight": 1 }, { "variant": "off", "weight": 0 }] } });
    let mut keys = Vec::new();
    for (n, condition) in conditions().into_iter().enumerate() {
        let key = format!("flag-{n}");
        // Each is the prerequisite of the next.
        let before: Vec<_> = keys
            .last()
            .map(|flag| json!({ "flag": flag, "variants": ["on"] }))
            .into_iter()
            .collect();
        let rule = json!({ "key": "r", "conditions": [condition], "serve": split });
        let configuration = json!({ "format": 1, "enabled": true, "prerequisites": before, "rules": [rule] });
        put_json(&mut snapshot, Kind::FlagDefinition, &key, &definition(&key));
        put_json(&mut snapshot, Kind::FlagConfiguration, &key, &configuration);
        keys.push(key);
    }
    let context = context();
    for key in &keys {
        let ask = || snapshot.get(key).map(|flag| flag.evaluate(&context, &snapshot).reason);
        // A regular expression takes memory for its search once per thread.
        assert_eq!(ask(), Some(Reason::Split), "{key}");
        let counted = measure(|| {
            ask();
        });
        assert_eq!(counted.count_total, 0, "{key}: {counted:?}");
    }
}

#[test]
fn an_experiment_allocates_nothing_for_whom_it_knows() {
    let mut snapshot = Snapshot::default();
    put_json(&mut snapshot, Kind::FlagDefinition, "f", &definition("f"));
    put_json(
        &mut snapshot,
        Kind::FlagConfiguration,
        "f",
        &json!({ "format": 1, "enabled": true }),
    );
    let salt = "6b1f9e2c-0d44-4a57-9c3e-000000000001";
    let arms = json!([{ "variant": "on", "weight": 1 }, { "variant": "off", "weight": 1 }]);
    let audience = [condition("company", "equals", &json!(["company-567"]))];
    for sticky in [true, false] {
        let running = json!({
            "format": 1, "flag": "f", "salt": salt, "iteration": 1, "arms": arms, "audience": audience,
            "allocation": 1_000_000, "largest_allocation": 1_000_000, "sticky": sticky,
            "layer": { "salt": salt, "start": 0, "end": 1_000_000 },
        });
        put_json(&mut snapshot, Kind::Experiment, "f/x", &running);
        let known = Assigned::Arm {
            arm: "off".parse().unwrap(),
            iteration: 1,
        };
        let context = context();
        let ask = || {
            let flag = snapshot.get("f").unwrap();
            let known = |_: &Experiment, _: &str| known.clone();
            let answer = flag.evaluate_knowing(&context, &snapshot, Freshness::ANY, &known);
            answer.unwrap().reason
        };
        assert_eq!(ask(), Reason::Experiment);
        let counted = measure(|| {
            ask();
        });
        assert_eq!(counted.count_total, 0, "sticky: {sticky}: {counted:?}");
    }
}

#[test]
fn ten_thousand_flags_take_less_than_30_mib() {
    const FLAGS: usize = 10_000;
    let country = condition("country", "one_of", &json!(["NO", "SE", "DK"]));
    let age = condition("age", "number_greater_or_equal", &json!([65]));
    let email = condition("email", "ends_with", &json!(["@example.com"]));
    let plan = json!({ "attribute": "plan", "operator": "equals", "values": ["free"], "negated": true });
    let split =
        json!({ "split": { "variants": [{ "variant": "on", "weight": 30 }, { "variant": "off", "weight": 70 }] } });
    let rules = json!([
        { "key": "first", "conditions": [country, age], "serve": { "variant": "on" } },
        { "key": "second", "conditions": [email, age], "serve": { "variant": "off" } },
        { "key": "third", "conditions": [country, plan], "serve": split },
    ]);
    let configuration = json!({ "format": 1, "enabled": true, "rules": rules });
    let (mut snapshot, mut stored, mut kept) = (Snapshot::default(), 0, 0);
    let counted = measure(|| {
        for n in 0..FLAGS {
            let key = format!("flag-{n:05}");
            // The configuration's form is kept with the flag, to be compiled again when the definition changes.
            kept += put_json(&mut snapshot, Kind::FlagConfiguration, &key, &configuration);
            stored += put_json(&mut snapshot, Kind::FlagDefinition, &key, &definition(&key));
        }
    });
    assert_eq!(snapshot.len(), FLAGS);
    let compiled = usize::try_from(counted.bytes_current).unwrap() - kept;
    let mib = |bytes: usize| {
        let hundredths = bytes * 100 / (1 << 20);
        format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
    };
    println!(
        "{FLAGS} flags: {} compiled, {} bytes each; {} of stored forms, of which {} are kept",
        mib(compiled),
        compiled / FLAGS,
        mib(stored + kept),
        mib(kept)
    );
    assert!(compiled < 30 << 20, "{compiled} bytes");
}

/// Puts a list of targeting keys as the service cuts it. Returns the bytes of the keys alone.
fn put_list(snapshot: &mut Snapshot, segment: &str, keys: usize) -> usize {
    let chunks = u32::try_from(keys.div_ceil(500).next_power_of_two()).unwrap();
    let list = json!({ "format": 1, "key_list": { "chunks": chunks, "keys": keys } });
    put_json(snapshot, Kind::SegmentConfiguration, segment, &list);
    let mut cut = vec![Vec::new(); chunks as usize];
    for n in 0..keys {
        let key = format!("user-{n}");
        cut[key_chunk(&key, chunks) as usize].push(key);
    }
    let mut text = 0;
    for (chunk, keys) in cut.iter().enumerate() {
        text += keys.iter().map(String::len).sum::<usize>();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        put(
            snapshot,
            Kind::SegmentKeys,
            &format!("{segment}/{chunk}"),
            &form::write_keys(&keys),
        );
    }
    text
}

#[test]
fn a_listed_key_takes_less_than_seven_bytes_beside_its_text() {
    const KEYS: usize = 100_000;
    let (mut snapshot, mut text) = (Snapshot::default(), 0);
    let counted = measure(|| text = put_list(&mut snapshot, "listed", KEYS));
    let held = usize::try_from(counted.bytes_current).unwrap();
    println!("{KEYS} keys: {held} bytes for {text} of text");
    assert!(held - text < 7 * KEYS, "{held} bytes for {text} of text");
}

#[test]
fn a_change_of_one_chunk_copies_no_other() {
    let mut snapshot = Snapshot::default();
    put_list(&mut snapshot, "listed", 100_000);
    let form = form::write_keys(&["user-0"]);
    let mut changed = snapshot.clone();
    let counted = measure(|| put(&mut changed, Kind::SegmentKeys, "listed/7", &form));
    assert!(counted.bytes_total < 16 * 1024, "{counted:?}");
    drop(snapshot);
}

/// What a change of one flag among many takes: the way to it in two trees, and the flag.
#[test]
fn a_change_of_one_flag_copies_no_other() {
    let mut snapshot = Snapshot::default();
    for n in 0..10_000 {
        let key = format!("flag-{n}");
        put_json(&mut snapshot, Kind::FlagDefinition, &key, &definition(&key));
    }
    let mut changed = snapshot.clone();
    let counted = measure(|| {
        put(
            &mut changed,
            Kind::FlagConfiguration,
            "flag-7",
            br#"{"format":1,"enabled":true}"#,
        );
    });
    assert!(counted.bytes_total < 16 * 1024, "{counted:?}");
    drop(snapshot);
}
