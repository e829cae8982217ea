//! Snapshots: the same whatever way they came about, and sharing what a change leaves alone.

use std::collections::{BTreeMap, BTreeSet};

use halyard::domain::context::{Context, Object};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::evaluate::{Flag, Snapshot};
use proptest::prelude::*;
use proptest::sample::select;

use super::{generate, item, reference::Outcome};

const KEYS: [&str; 4] = ["b", "a", "C", "a-1"];

/// An item and its new form, or that it is deleted.
fn change() -> impl Strategy<Value = (ItemId, Option<Vec<u8>>)> {
    select(&KEYS[..]).prop_flat_map(|key| {
        let definition = generate::definition(key).prop_map(|definition| form::write_definition(&definition));
        let configuration =
            generate::configuration().prop_map(|configuration| form::write_configuration(&configuration));
        let damaged = Just(b"{".to_vec());
        prop_oneof![
            definition.prop_map(|form| (Kind::FlagDefinition, Some(form))),
            configuration.prop_map(|form| (Kind::FlagConfiguration, Some(form))),
            (kind(), damaged).prop_map(|(kind, form)| (kind, Some(form))),
            kind().prop_map(|kind| (kind, None)),
        ]
        .prop_map(move |(kind, form)| (item(kind, key), form))
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    select(&[Kind::FlagDefinition, Kind::FlagConfiguration][..])
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
        (key, flag.client_visible(), flag.evaluate(context).into())
    };
    snapshot.flags().map(seen).collect()
}

proptest! {
    #[test]
    fn a_snapshot_depends_on_its_items_and_not_on_how_they_came(
        changes in prop::collection::vec(change(), 0..30),
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

        let defined: BTreeSet<_> = items.keys().filter(|id| id.kind == Kind::FlagDefinition).map(|id| &*id.key).collect();
        let keys: Vec<_> = snapshot.flags().map(Flag::key).collect();
        prop_assert_eq!(keys, defined.iter().copied().collect::<Vec<_>>(), "every defined flag, sorted");
        prop_assert_eq!(snapshot.len(), defined.len());
        prop_assert_eq!(snapshot.is_empty(), defined.is_empty());
        for key in KEYS {
            let in_order = snapshot.flags().find(|flag| flag.key() == key);
            let found = snapshot.get(key);
            prop_assert!(found.map(std::ptr::from_ref) == in_order.map(std::ptr::from_ref), "one flag, found twice");
        }
    }
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
