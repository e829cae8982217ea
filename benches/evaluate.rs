//! What evaluation and a change of the snapshot cost: `cargo bench --bench evaluate`. What they take of memory is counted by
//! `tests/evaluate_memory.rs`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use halyard::auth::keys;
use halyard::domain::access::{Directory, EnvironmentKey, KeyKind, Term};
use halyard::domain::change::EnvironmentId;
use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::domain::segment::chunk_item;
use halyard::evaluate::{Reason, Snapshot, hash, key_chunk};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

/// The most flags that a project may have.
const FLAGS: usize = 10_000;

/// The most targeting keys that a segment's list may have.
const KEYS: usize = 1_000_000;
/// Keys of about this length, 500 to a chunk, keep a chunk within its 32 KiB.
const CHUNKS: u32 = 2_048;

/// An item and its stored form.
type Stored = (ItemId, Vec<u8>);

fn stored(kind: Kind, key: &str, form: &Value) -> Stored {
    let key = Arc::from(key);
    (ItemId { kind, key }, form.to_string().into_bytes())
}

fn definition(key: &str) -> Stored {
    let variants = [("on", true), ("off", false)].map(|(key, value)| json!({ "key": key, "value": { "bool": value } }));
    let form = json!({
        "format": 1, "key": key, "type": "bool", "variants": variants, "off_variant": "off", "client_visible": true,
    });
    stored(Kind::FlagDefinition, key, &form)
}

fn rule(key: &str, conditions: &[Value], serve: &Value) -> Value {
    json!({ "key": key, "conditions": conditions, "serve": serve })
}

/// Three rules of two conditions, the last a split. The benchmark's context passes all conditions but two.
fn three_rules(key: &str, percent: usize) -> Stored {
    let country = json!({ "attribute": "country", "operator": "one_of", "values": ["NO", "SE", "DK"] });
    let age = |than: u32| json!({ "attribute": "age", "operator": "number_greater_or_equal", "values": [than] });
    let email = json!({ "attribute": "email", "operator": "ends_with", "values": ["@example.com"] });
    let plan = json!({ "attribute": "plan", "operator": "equals", "values": ["free"], "negated": true });
    let split = json!({ "split": { "variants": [
        { "variant": "on", "weight": percent }, { "variant": "off", "weight": 100 - percent },
    ] } });
    let rules = [
        rule("first", &[country.clone(), age(65)], &json!({ "variant": "on" })),
        rule("second", &[email.clone(), age(65)], &json!({ "variant": "off" })),
        rule("third", &[country, plan], &split),
    ];
    let form = json!({ "format": 1, "enabled": true, "rules": rules });
    stored(Kind::FlagConfiguration, key, &form)
}

fn one_of_thousand(key: &str) -> Stored {
    let values: Vec<_> = (0..1_000).map(|n| format!("company-{n}")).collect();
    let condition = json!({ "attribute": "company", "operator": "one_of", "values": values });
    let form = json!({
        "format": 1, "enabled": true, "rules": [rule("companies", &[condition], &json!({ "variant": "on" }))],
    });
    stored(Kind::FlagConfiguration, key, &form)
}

/// A flag for whoever is in a segment.
fn in_segment(key: &str) -> Stored {
    let condition = json!({ "operator": "in_segment", "values": ["listed"] });
    let form = json!({
        "format": 1, "enabled": true, "rules": [rule("listed", &[condition], &json!({ "variant": "on" }))],
    });
    stored(Kind::FlagConfiguration, key, &form)
}

/// A segment with the longest list that there can be.
fn list() -> Vec<Stored> {
    let mut chunks = vec![Vec::new(); CHUNKS as usize];
    let own = context().targeting_key().cloned();
    let others = (0..KEYS).map(|n| format!("7c1b2a90-0000-4000-8000-{n:012}"));
    let own = own.into_iter().filter_map(|key| match key {
        Attribute::String(key) => Some(key),
        Attribute::Bool(_) | Attribute::Number(_) | Attribute::List(_) | Attribute::Object(_) => None,
    });
    for key in others.skip(1).chain(own) {
        let chunk = key_chunk(&key, CHUNKS);
        chunks
            .get_mut(chunk as usize)
            .into_iter()
            .for_each(|keys| keys.push(key.clone()));
    }
    let list = json!({ "format": 1, "key_list": { "chunks": CHUNKS, "keys": KEYS } });
    let chunks = (0..).zip(&chunks).map(|(n, keys)| {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let key = chunk_item("listed", n);
        (
            ItemId {
                kind: Kind::SegmentKeys,
                key,
            },
            form::write_keys(&keys),
        )
    });
    let chunks: Vec<_> = chunks.collect();
    std::iter::once(stored(Kind::SegmentConfiguration, "listed", &list))
        .chain(chunks)
        .collect()
}

/// The flag `prerequisites`, which asks two others, of which one asks a third; no other has rules.
fn prerequisites() -> Vec<Stored> {
    let asking = |key: &str, others: &[&str]| {
        let others: Vec<_> = others
            .iter()
            .map(|flag| json!({ "flag": flag, "variants": ["on"] }))
            .collect();
        let form = json!({ "format": 1, "enabled": true, "default": { "variant": "on" }, "prerequisites": others });
        [definition(key), stored(Kind::FlagConfiguration, key, &form)]
    };
    let all = [
        asking("prerequisites", &["one", "two"]),
        asking("one", &[]),
        asking("two", &["three"]),
        asking("three", &[]),
    ];
    all.into_iter().flatten().collect()
}

fn context() -> Context {
    let texts = [
        ("company", "company-567"),
        ("country", "NO"),
        ("email", "ada@example.com"),
        ("plan", "pro"),
    ];
    let texts = texts.map(|(name, text)| (name.to_owned(), Attribute::String(text.to_owned())));
    let age = ("age".to_owned(), Attribute::Number(36.0));
    let attributes: Object = texts.into_iter().chain([age]).collect();
    Context::new("3b9f6f0e-52c1-4d0f-a7ab-0c5b8d7a1e44".to_owned(), attributes)
}

fn build(items: &[Stored]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (id, form) in items {
        snapshot.put(id, form);
    }
    snapshot
}

/// Definitions and configurations of many flags, sorted as they are loaded: the configurations first.
fn many() -> Vec<Stored> {
    let keys: Vec<_> = (0..FLAGS).map(|n| format!("flag-{n:05}")).collect();
    let configurations = keys.iter().enumerate().map(|(n, key)| three_rules(key, n % 101));
    configurations.chain(keys.iter().map(|key| definition(key))).collect()
}

fn evaluating(criterion: &mut Criterion) {
    let context = context();
    let mut items = vec![
        definition("rules"),
        three_rules("rules", 50),
        definition("list"),
        one_of_thousand("list"),
        definition("segment"),
        in_segment("segment"),
    ];
    items.extend(prerequisites());
    items.extend(list());
    let snapshot = build(&items);
    for (key, name, reason) in [
        ("rules", "evaluate/3 rules of 2 conditions and a split", Reason::Split),
        ("list", "evaluate/one of 1000 strings", Reason::TargetingMatch),
        ("segment", "evaluate/a segment of 1000000 keys", Reason::TargetingMatch),
        ("prerequisites", "evaluate/3 prerequisites", Reason::Static),
    ] {
        let flag = snapshot
            .get(key)
            .filter(|flag| flag.evaluate(&context, &snapshot).reason == reason);
        assert!(flag.is_some(), "{key} is not what it should be");
        if let Some(flag) = flag {
            criterion.bench_function(name, |bencher| {
                bencher.iter(|| black_box(flag).evaluate(black_box(&context), &snapshot));
            });
        }
    }
    let value = Attribute::String("3b9f6f0e-52c1-4d0f-a7ab-0c5b8d7a1e44".to_owned());
    criterion.bench_function("evaluate/the hash of a split alone", |bencher| {
        bencher.iter(|| hash(black_box("rules"), black_box(&value)));
    });
}

fn snapshots(criterion: &mut Criterion) {
    let items = many();
    let snapshot = build(&items);
    assert_eq!(snapshot.len(), FLAGS);
    let context = context();
    criterion.bench_function("snapshot of 10000/look one flag up", |bencher| {
        bencher.iter(|| snapshot.get(black_box("flag-04321")).map(std::ptr::from_ref));
    });
    criterion.bench_function("snapshot of 10000/evaluate all", |bencher| {
        bencher.iter(|| {
            snapshot
                .flags()
                .filter(|flag| flag.evaluate(&context, &snapshot).rule.is_some())
                .count()
        });
    });
    let (id, form) = three_rules("flag-04321", 7);
    criterion.bench_function("snapshot of 10000/apply one change", |bencher| {
        bencher.iter_batched(
            || snapshot.clone(),
            |mut changed| {
                changed.put(&id, &form);
                changed
            },
            BatchSize::SmallInput,
        );
    });
    let list = list();
    let with_list = build(&list);
    let chunk = list.last().cloned();
    if let Some((id, form)) = chunk {
        criterion.bench_function("list of 1000000/apply one chunk", |bencher| {
            bencher.iter_batched(
                || with_list.clone(),
                |mut changed| {
                    changed.put(&id, &form);
                    changed
                },
                BatchSize::SmallInput,
            );
        });
    }
    let mut group = criterion.benchmark_group("list of 1000000");
    group.sample_size(10);
    group.bench_function("build", |bencher| bencher.iter(|| build(&list)));
    group.finish();
    let mut group = criterion.benchmark_group("snapshot of 10000");
    group.sample_size(20);
    group.bench_function("build", |bencher| bencher.iter(|| build(&items)));
    group.finish();
}

/// What it takes to know an application by what it shows, among as many keys as a large installation has.
fn authorising(criterion: &mut Criterion) {
    let generated: Vec<_> = (0..FLAGS)
        .filter_map(|_| keys::generate(KeyKind::Server).ok())
        .collect();
    let known = |key: &keys::Generated| EnvironmentKey {
        environment: EnvironmentId(1),
        kind: KeyKind::Server,
        secret_hash: key.hash,
        expires_at: None,
        previous: None,
    };
    let directory = Directory {
        keys: generated
            .iter()
            .map(|key| (key.id.as_str().into(), known(key)))
            .collect(),
        ..Directory::default()
    };
    let shown = generated
        .last()
        .map(|key| key.secret.expose_secret())
        .unwrap_or_default();
    let admitted = |shown: &str| {
        let presented = keys::parse(shown)?;
        keys::term(directory.keys.get(presented.id)?, &presented.hash)
    };
    assert_eq!(admitted(shown), Some(Term::Endless));
    criterion.bench_function("authorise/a key among 10000", |bencher| {
        bencher.iter(|| admitted(black_box(shown)));
    });
}

criterion_group!(benches, evaluating, snapshots, authorising);
criterion_main!(benches);
