//! Snapshots: the same whatever way they came about, and sharing what a change leaves alone.

use std::collections::{BTreeMap, BTreeSet};

use halyard::domain::context::{Context, Object};
use halyard::domain::form::{ItemId, Kind};
use halyard::evaluate::{Flag, Malformed, Snapshot, key_chunk};
use proptest::prelude::*;
use proptest::sample::select;

use super::{generate, item, reference::Outcome};

/// An item and its new form, or that it is deleted.
type Change = (ItemId, Option<Vec<u8>>);

/// All changes that lead to an environment and some that lead elsewhere, in any order.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let changed = |world: super::World| {
        let items = world.items().into_iter();
        items.map(|(id, form)| (id, Some(form))).collect::<Vec<_>>()
    };
    let items =
        (generate::world(), generate::world()).prop_map(move |(one, other)| [changed(one), changed(other)].concat());
    let damage = (
        select(&Kind::ALL[..]),
        select(&["f", "g", "s", "s/0", "s/1", "s/01"][..]),
        any::<bool>(),
    )
        .prop_map(|(kind, key, deleted)| (item(kind, key), (!deleted).then(|| b"{".to_vec())));
    (items, prop::collection::vec(damage, 0..10))
        .prop_map(|(items, damage)| [items, damage].concat())
        .prop_shuffle()
}

fn apply(snapshot: &mut Snapshot, id: &ItemId, form: Option<&[u8]>) {
    match form {
        Some(form) => snapshot.put(id, form),
        None => snapshot.delete(id),
    }
}

/// Everything that can be seen of a snapshot, for one context.
fn seen(snapshot: &Snapshot, context: &Context) -> Vec<(String, bool, Outcome)> {
    let seen = |flag: &Flag| {
        let key = flag.key().to_owned();
        (key, flag.client_visible(), flag.evaluate(context, snapshot).into())
    };
    snapshot.flags().map(seen).collect()
}

proptest! {
    #[test]
    fn a_snapshot_depends_on_its_items_and_not_on_how_they_came(
        changes in changes(),
        context in generate::context(),
    ) {
        let mut snapshot = Snapshot::default();
        let mut items = BTreeMap::new();
        for (id, form) in changes {
            let before = snapshot.clone();
            let seen_before = seen(&before, &context);
            apply(&mut snapshot, &id, form.as_deref());
            prop_assert_eq!(seen(&before, &context), seen_before, "an older copy stays as it is");
            match form {
                Some(form) => items.insert(id, form),
                None => items.remove(&id),
            };
        }
        let mut anew = Snapshot::default();
        for (id, form) in items.iter().rev() {
            anew.put(id, form);
        }
        prop_assert_eq!(seen(&snapshot, &context), seen(&anew, &context));
        for id in items.keys() {
            let why = |snapshot: &Snapshot| snapshot.malformed(id).map(Malformed::to_string);
            prop_assert_eq!(why(&snapshot), why(&anew), "{}", id);
        }

        let defined: BTreeSet<_> = items.keys().filter(|id| id.kind == Kind::FlagDefinition).map(|id| &*id.key).collect();
        let keys: Vec<_> = snapshot.flags().map(Flag::key).collect();
        prop_assert_eq!(keys, defined.iter().copied().collect::<Vec<_>>(), "every defined flag, sorted");
        prop_assert_eq!(snapshot.len(), defined.len());
        prop_assert_eq!(snapshot.is_empty(), defined.is_empty());
        for key in ["f", "g", "h", "i", "s", "unknown"] {
            let in_order = snapshot.flags().find(|flag| flag.key() == key);
            let found = snapshot.get(key);
            prop_assert!(found.map(std::ptr::from_ref) == in_order.map(std::ptr::from_ref), "one flag, found twice");
        }

        for id in items.keys() {
            snapshot.delete(id);
        }
        prop_assert!(seen(&snapshot, &context).is_empty());
        prop_assert!(items.keys().all(|id| snapshot.malformed(id).is_none()), "nothing is left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_flag_that_a_change_does_not_touch_answers_as_before(
        before in changes(),
        then in changes(),
        count in 1..4_usize,
        context in generate::context(),
    ) {
        let mut snapshot = Snapshot::default();
        for (id, form) in &before {
            apply(&mut snapshot, id, form.as_deref());
        }
        let (mut after, then) = (snapshot.clone(), &then[..count.min(then.len())]);
        for (id, form) in then {
            apply(&mut after, id, form.as_deref());
        }
        let touched = after.touched_by(then.iter().map(|(id, _)| id));
        prop_assert!(touched.is_sorted_by(|one, other| one < other), "{:?}", touched);
        let untouched = |snapshot: &Snapshot| {
            let mut seen = seen(snapshot, &context);
            seen.retain(|(key, ..)| !touched.iter().any(|touched| **touched == **key));
            seen
        };
        prop_assert_eq!(untouched(&after), untouched(&snapshot), "touched: {:?}", touched);
    }
}

#[test]
fn a_change_touches_only_who_asks_about_it() {
    let mut snapshot = flags(10);
    let put = |snapshot: &mut Snapshot, kind, key: &str, form: &str| snapshot.put(&item(kind, key), form.as_bytes());
    let on = r#""format":1,"enabled":true,"default":{"variant":"on"}"#;
    let asks = |segment: &str| {
        format!(
            r#"{{{on},"rules":[{{"key":"r","conditions":[{{"operator":"in_segment","values":["{segment}"]}}],"serve":{{"variant":"on"}}}}]}}"#
        )
    };
    let needs = |flag: &str| format!(r#"{{{on},"prerequisites":[{{"flag":"{flag}","variants":["on"]}}]}}"#);
    put(
        &mut snapshot,
        Kind::SegmentConfiguration,
        "outer",
        r#"{"format":1,"segments":["inner"]}"#,
    );
    put(&mut snapshot, Kind::FlagConfiguration, "flag-1", &asks("outer"));
    put(&mut snapshot, Kind::FlagConfiguration, "flag-2", &needs("flag-1"));
    put(&mut snapshot, Kind::FlagConfiguration, "flag-3", &asks("other"));
    assert!(snapshot.flags().all(|flag| flag.malformed().is_none()));
    let check = |kind, key: &str, expected: &[&str]| {
        let id = item(kind, key);
        let touched = snapshot.touched_by([&id].into_iter());
        assert_eq!(touched.iter().map(|key| &**key).collect::<Vec<_>>(), expected, "{id}");
    };
    check(Kind::SegmentConfiguration, "inner", &["flag-1", "flag-2"]);
    check(Kind::SegmentKeys, "outer/0", &["flag-1", "flag-2"]);
    check(Kind::SegmentConfiguration, "other", &["flag-3"]);
    check(Kind::SegmentConfiguration, "nobody-asks", &[]);
    check(Kind::FlagConfiguration, "flag-1", &["flag-1", "flag-2"]);
    check(Kind::FlagDefinition, "flag-2", &["flag-2"]);
    check(Kind::FlagDefinition, "gone", &["gone"]);
}

fn flags(count: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for n in 0..count {
        let key = format!("flag-{n}");
        let form = format!(
            r#"{{"format":1,"key":"{key}","type":"bool","variants":[{{"key":"on","value":{{"bool":true}}}}],"client_visible":true}}"#
        );
        snapshot.put(&item(Kind::FlagDefinition, &key), form.as_bytes());
    }
    snapshot
}

#[test]
fn a_change_leaves_every_other_flag_where_it_is() {
    let before = flags(1_000);
    let mut after = before.clone();
    let on = br#"{"format":1,"enabled":true,"default":{"variant":"on"}}"#;
    after.put(&item(Kind::FlagConfiguration, "flag-7"), on);
    after.delete(&item(Kind::FlagDefinition, "flag-8"));
    for flag in before.flags() {
        let shared = after.get(flag.key()).is_some_and(|other| std::ptr::eq(flag, other));
        let changed = matches!(flag.key(), "flag-7" | "flag-8");
        assert_ne!(shared, changed, "{}", flag.key());
    }
    assert_eq!((before.len(), after.len()), (1_000, 999));
}

#[test]
fn only_a_readable_definition_makes_a_flag_visible_to_clients() {
    let check = |form: &str, visible: bool, malformed: bool| {
        let mut snapshot = Snapshot::default();
        snapshot.put(&item(Kind::FlagDefinition, "f"), form.as_bytes());
        let flag = snapshot.get("f");
        assert_eq!(flag.map(Flag::client_visible), Some(visible), "{form}");
        assert_eq!(flag.map(|flag| flag.malformed().is_some()), Some(malformed), "{form}");
    };
    let variants = r#"[{"key":"on","value":{"bool":true}}]"#;
    let form = |format: u32, off: &str, visible: bool| {
        format!(
            r#"{{"format":{format},"key":"f","type":"bool","variants":{variants},"off_variant":"{off}","client_visible":{visible}}}"#
        )
    };
    check(&form(1, "on", true), true, false);
    check(&form(1, "on", false), false, false);
    check(&form(1, "unknown", true), true, true);
    check(&form(1, "unknown", false), false, true);
    check(&form(2, "on", true), false, true);
    check("", false, true);
}

#[test]
fn a_malformed_flag_says_why() {
    let check = |configuration: &str, expected: &str| {
        let mut snapshot = flags(1);
        snapshot.put(&item(Kind::FlagConfiguration, "flag-0"), configuration.as_bytes());
        let malformed = snapshot
            .get("flag-0")
            .and_then(Flag::malformed)
            .map(ToString::to_string);
        assert_eq!(malformed.as_deref(), Some(expected), "{configuration}");
    };
    check(
        r#"{"format":1,"enabled":true,"default":{"variant":"off"}}"#,
        "off is not a variant of the flag",
    );
    check(
        r#"{"format":1,"enabled":true,"default":{"split":{"variants":[{"variant":"on","weight":0}]}}}"#,
        "the weights of a split sum to 0",
    );
    check(
        r#"{"format":1,"enabled":true,"prerequisites":[{"flag":"other","variants":[]}]}"#,
        "the prerequisite other names no variants",
    );
    check(
        r#"{"format":1,"enabled":true,"rules":[{"key":"r","conditions":[{"attribute":"x","operator":"in_segment","values":["s"]}],"serve":{"variant":"on"}}]}"#,
        "a condition on segments names the attribute x",
    );
    check(
        r#"{"format":9,"enabled":true}"#,
        "the stored form has format 9, this version reads 1",
    );
}

#[test]
fn nobody_asks_an_empty_snapshot_in_vain() {
    let snapshot = Snapshot::default();
    let nobody = Context::new(String::new(), Object::default());
    assert!(snapshot.is_empty() && snapshot.get("f").is_none() && seen(&snapshot, &nobody).is_empty());
}

/// Whether `user-1` is in the segment `s`.
fn is_listed(snapshot: &mut Snapshot) -> bool {
    let asking = generate::asking_about("s");
    let form = halyard::domain::form::write_definition(&asking.definition);
    snapshot.put(&item(Kind::FlagDefinition, "g"), &form);
    let form = halyard::domain::form::write_configuration(&asking.configuration.unwrap());
    snapshot.put(&item(Kind::FlagConfiguration, "g"), &form);
    let context = Context::new("user-1".to_owned(), Object::default());
    snapshot.get("g").unwrap().evaluate(&context, snapshot).rule.is_some()
}

/// Items of one change are applied one by one, and some of another list may stay behind.
#[test]
fn a_list_and_its_chunks_may_disagree() {
    let chunk = |chunks: u32| item(Kind::SegmentKeys, &format!("s/{}", key_chunk("user-1", chunks)));
    let list = |chunks: u32| format!(r#"{{"format":1,"key_list":{{"chunks":{chunks},"keys":1}}}}"#);
    let segment = item(Kind::SegmentConfiguration, "s");
    let keys = br#"{"format":1,"keys":["user-1"]}"#;
    assert_ne!(chunk(4), chunk(1024), "the test's key is in two chunks");

    let mut snapshot = Snapshot::default();
    assert!(!is_listed(&mut snapshot), "nothing there");
    snapshot.put(&chunk(4), keys);
    assert!(!is_listed(&mut snapshot), "keys without a configuration");
    snapshot.put(&segment, list(1024).as_bytes());
    assert!(!is_listed(&mut snapshot), "keys of a smaller list");
    snapshot.put(&segment, list(4).as_bytes());
    assert!(is_listed(&mut snapshot), "keys of this list");
    snapshot.put(&segment, br#"{"format":1}"#);
    assert!(!is_listed(&mut snapshot), "keys without a list");
    snapshot.put(&segment, list(4).as_bytes());
    snapshot.put(&item(Kind::SegmentKeys, "s/4294967295"), keys);
    assert!(is_listed(&mut snapshot), "keys beyond the last chunk");
    snapshot.put(&item(Kind::SegmentKeys, "s/04"), b"{");
    assert!(is_listed(&mut snapshot), "an item that is no chunk");
    snapshot.delete(&chunk(4));
    assert!(!is_listed(&mut snapshot), "the chunk is gone");
}

#[test]
fn a_segment_that_cannot_be_read_contains_nobody_and_says_why() {
    let check = |configuration: &str, damaged_chunk: Option<u32>, expected: Option<&str>| {
        let mut snapshot = Snapshot::default();
        let segment = item(Kind::SegmentConfiguration, "s");
        snapshot.put(&segment, configuration.as_bytes());
        let chunk = item(Kind::SegmentKeys, &format!("s/{}", damaged_chunk.unwrap_or(0)));
        if damaged_chunk.is_some() {
            snapshot.put(&chunk, b"{\"format\":7}");
        }
        assert_eq!(is_listed(&mut snapshot), expected.is_none(), "{configuration}");
        for id in [&segment, &chunk] {
            let malformed = snapshot.malformed(id).map(ToString::to_string);
            assert_eq!(malformed.as_deref(), expected, "{configuration}");
        }
        if damaged_chunk.is_some() {
            snapshot.put(&chunk, br#"{"format":1,"keys":[]}"#);
            assert!(
                snapshot.malformed(&segment).is_none() && is_listed(&mut snapshot),
                "mended"
            );
        }
    };
    let included = r#""format":1,"included":["user-1"]"#;
    check(&format!("{{{included}}}"), None, None);
    check(&format!("{{{included}}}"), Some(0), None);
    let list = format!(r#"{{{included},"key_list":{{"chunks":2,"keys":1}}}}"#);
    check(&list, None, None);
    let newer = "the stored form has format 7, this version reads 1";
    check(&list, Some(1), Some(&format!("chunk 1 of the key list: {newer}")));
    check(
        &format!(r#"{{{included},"key_list":{{"chunks":3,"keys":1}}}}"#),
        None,
        Some("the key list has 3 chunks, which is no power of two"),
    );
    check(
        &format!(r#"{{{included},"key_list":{{"chunks":0,"keys":0}}}}"#),
        None,
        Some("the key list has 0 chunks, which is no power of two"),
    );
    check(
        &format!(r#"{{{included},"conditions":[{{"attribute":"v","operator":"version_less","values":["1.2"]}}]}}"#),
        None,
        Some(
            "a condition on v has a value that is not a semantic version 2.0.0; write one with all three numbers and no v, such \
             as 1.4.0 or 2.0.0-rc.1",
        ),
    );
    check("{", None, Some("the stored form is malformed"));
}
