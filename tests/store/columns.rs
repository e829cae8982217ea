//! The columns that people read and edit: after every write, encoding what they say gives the stored form byte for byte.

use halyard::domain::draft;
use std::collections::BTreeSet;

use halyard::domain::flag::{Configuration, Definition, Variant};
use halyard::domain::form;
use halyard::domain::key;
use halyard::domain::value::{Value, ValueType};
use halyard::store::configurations::{ConfigurationPatch, Toggle};
use halyard::store::flags::{FlagPatch, NewFlag};
use proptest::test_runner::{Config, TestRunner};
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use crate::generate::{self, Life};
use crate::world::*;

/// What the columns of a flag and its variants say.
fn definition(flag: &Row, variants: &[Row]) -> Definition {
    let value_type = ValueType::from_name(flag.get("value_type")).unwrap();
    let variant = |row: &Row| Variant {
        key: row.get::<_, &str>("key").parse().unwrap(),
        value: value(value_type, row.get("value")),
        description: row.get("description"),
    };
    Definition {
        key: flag.get::<_, &str>("key").parse().unwrap(),
        value_type,
        variants: variants.iter().map(variant).collect(),
        off_variant: named(flag.get("off_variant")),
        default_variant: named(flag.get("default_variant")),
        client_visible: flag.get("client_visible"),
    }
}

fn named(key: Option<&str>) -> Option<key::Variant> {
    key.map(|key| key.parse().unwrap())
}

fn value(value_type: ValueType, json: &str) -> Value {
    match value_type {
        ValueType::Bool => Value::Bool(parsed(json)),
        ValueType::String => Value::String(parsed(json)),
        ValueType::Integer => Value::Integer(parsed(json)),
        ValueType::Double => Value::Double(parsed(json)),
        ValueType::Object => Value::Object(parsed(json)),
    }
}

fn parsed<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

/// What the columns of a configuration say.
fn configuration(row: &Row) -> Configuration {
    Configuration {
        enabled: row.get("enabled"),
        prerequisites: parsed(row.get("prerequisites")),
        rules: parsed(row.get("rules")),
        default: row.get::<_, Option<&str>>("default_serve").map(parsed),
        salt: row.get("salt"),
    }
}

/// Checks every row there is, and that there are so many flags, variants and configurations.
async fn check(world: &World, counts: [usize; 3]) {
    let flags = "select id, key, value_type, off_variant, default_variant, client_visible, form from flags";
    let variants = "select key, value::text, description from flag_variants where flag_id = $1 order by position";
    let configurations = "select enabled, rules::text, default_serve::text, salt, prerequisites::text, form,
            array(
                select f.key from flag_prerequisites l join flags f on f.id = l.prerequisite_id
                where l.environment_id = c.environment_id and l.flag_id = c.flag_id order by f.key
            ) as linked_flags,
            array(
                select s.key from flag_segments l join segments s on s.id = l.segment_id
                where l.environment_id = c.environment_id and l.flag_id = c.flag_id order by s.key
            ) as linked_segments
        from flag_configurations c";
    let (mut found, sql) = ([0; 3], &world.sql);
    for flag in sql.query(flags, &[]).await.unwrap() {
        let variants = sql.query(variants, &[&flag.get::<_, i64>("id")]).await.unwrap();
        check_form(&flag, &form::write_definition(&definition(&flag, &variants)));
        found[0] += 1;
        found[1] += variants.len();
    }
    for row in sql.query(configurations, &[]).await.unwrap() {
        let configuration = configuration(&row);
        check_form(&row, &form::write_configuration(&configuration));
        check_links(&row, &configuration);
        found[2] += 1;
    }
    assert_eq!(found, counts);
}

/// Checks that the links are to what the configuration depends on.
fn check_links(row: &Row, configuration: &Configuration) {
    let prerequisites = configuration.prerequisites.iter();
    let flags: BTreeSet<_> = prerequisites.map(|prerequisite| prerequisite.flag.as_str()).collect();
    let segments: BTreeSet<_> = configuration.segments().collect();
    let linked: [Vec<&str>; 2] = [row.get("linked_flags"), row.get("linked_segments")];
    assert_eq!(
        linked,
        [flags, segments].map(|keys| keys.into_iter().collect::<Vec<_>>())
    );
}

fn check_form(row: &Row, encoded: &[u8]) {
    let stored: &[u8] = row.get("form");
    assert_eq!(String::from_utf8_lossy(encoded), String::from_utf8_lossy(stored));
}

async fn create(world: &World, new: NewFlag) {
    let mutation = world.by_owner();
    done(world.store.create_flag(&mutation, &project("shop"), new, respond).await);
}

async fn update(world: &World, patch: FlagPatch) {
    let (mutation, shop, f) = (world.by_owner(), project("shop"), flag("f"));
    let outcome = world.store.update_flag(&mutation, &shop, &f, patch, "", respond).await;
    done(outcome);
}

async fn archive(world: &World) {
    let (mutation, shop, f) = (world.by_owner(), project("shop"), flag("f"));
    done(world.store.archive_flag(&mutation, &shop, &f, "", respond).await);
}

async fn configure(world: &World, patch: ConfigurationPatch) {
    let (mutation, dev, f) = (world.by_owner(), environment("dev"), flag("f"));
    let at = shop(&dev);
    let outcome = world
        .store
        .update_configuration(&mutation, at, &f, patch, "", respond)
        .await;
    done(outcome);
}

async fn toggle(world: &World, toggles: &[(&str, bool)]) {
    let toggles: Vec<_> = toggles
        .iter()
        .map(|&(key, enabled)| Toggle {
            flag: flag(key),
            enabled,
        })
        .collect();
    let (mutation, dev) = (world.by_owner(), environment("dev"));
    done(world.store.toggle_flags(&mutation, shop(&dev), &toggles, respond).await);
}

fn redefining(definition: &Definition) -> FlagPatch {
    let definition = draft::Definition::from(definition);
    FlagPatch {
        variants: Some(definition.variants),
        off_variant: Some(definition.off_variant),
        default_variant: Some(definition.default_variant),
        client_visible: Some(definition.client_visible),
        ..FlagPatch::default()
    }
}

fn saying(configuration: &Configuration) -> ConfigurationPatch {
    let configuration = draft::Configuration::from(configuration);
    ConfigurationPatch {
        enabled: Some(configuration.enabled),
        prerequisites: Some(configuration.prerequisites),
        rules: Some(configuration.rules),
        default: Some(configuration.default),
        salt: Some(configuration.salt),
        strict: false,
    }
}

/// A flag whose variants `v0`, `v1`, … have these values.
fn flag_of(values: impl IntoIterator<Item = Value>) -> NewFlag {
    let variants: Vec<_> = values
        .into_iter()
        .enumerate()
        .map(|(n, value)| Variant {
            key: variant(&format!("v{n}")),
            value,
            description: String::new(),
        })
        .collect();
    let mut new = bool_flag("f");
    new.definition = Definition {
        value_type: variants[0].value.value_type(),
        variants,
        off_variant: None,
        default_variant: None,
        ..new.definition
    };
    new
}

/// Checks what people see of a flag's values.
async fn check_spelling<const N: usize>(values: [(Value, &str); N]) {
    let world = world().await;
    let spellings = values.each_ref().map(|&(_, spelling)| spelling.to_owned());
    create(&world, flag_of(values.map(|(value, _)| value))).await;
    let query = "select value::text from flag_variants order by position";
    let rows = world.sql.query(query, &[]).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, spellings);
    check(&world, [1, N, 0]).await;
}

#[tokio::test]
async fn bools_are_bare() {
    check_spelling([(Value::Bool(true), "true"), (Value::Bool(false), "false")]).await;
}

#[tokio::test]
async fn strings_are_bare() {
    let texts = [
        ("", r#""""#),
        ("1", r#""1""#),
        ("\"\\\n", r#""\"\\\n""#),
        ("på 🚩\u{7f}", "\"på 🚩\u{7f}\""),
    ];
    check_spelling(texts.map(|(text, spelling)| (Value::String(text.into()), spelling))).await;
}

#[tokio::test]
async fn integers_are_bare() {
    let ends = [(i64::MIN, "-9223372036854775808"), (i64::MAX, "9223372036854775807")];
    check_spelling(ends.map(|(number, spelling)| (Value::Integer(number), spelling))).await;
}

#[tokio::test]
async fn doubles_keep_their_spelling() {
    let numbers = [
        (1.0, "1.0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
    ];
    check_spelling(numbers.map(|(number, spelling)| (Value::Double(number), spelling))).await;
}

#[tokio::test]
async fn objects_keep_the_order_of_their_keys() {
    let spelling = r#"{"z":1,"a":{"y":[1.0,{"b":null,"a":-0.0}],"x":18446744073709551615},"":"på"}"#;
    check_spelling([
        (Value::Object(parsed(spelling)), spelling),
        (Value::Object(parsed("{}")), "{}"),
    ])
    .await;
}

#[tokio::test]
async fn every_write_of_a_flag_writes_its_columns() {
    let world = world().await;
    create(&world, bool_flag("f")).await;
    check(&world, [1, 2, 0]).await;
    // Keys change places, one goes, others come.
    let mut definition = bool_flag("f").definition;
    definition.variants.reverse();
    definition.variants.push(Variant {
        key: variant("maybe"),
        value: Value::Bool(true),
        description: "perhaps".into(),
    });
    update(&world, redefining(&definition)).await;
    check(&world, [1, 3, 0]).await;
    definition.variants.truncate(1);
    (definition.off_variant, definition.default_variant) = (None, None);
    definition.client_visible = true;
    update(&world, redefining(&definition)).await;
    check(&world, [1, 1, 0]).await;
    let owned = FlagPatch {
        owner: Some("team".into()),
        ..FlagPatch::default()
    };
    update(&world, owned).await;
    check(&world, [1, 1, 0]).await;
    archive(&world).await;
    check(&world, [1, 1, 0]).await;
    update(&world, redefining(&bool_flag("f").definition)).await;
    check(&world, [1, 2, 0]).await;
    let (mutation, shop, f) = (world.by_owner(), project("shop"), flag("f"));
    done(world.store.delete_flag(&mutation, &shop, &f, "", respond).await);
    assert_eq!(world.count("flag_variants").await, 0);
}

#[tokio::test]
async fn every_write_of_a_configuration_writes_its_columns() {
    let world = world().await;
    for key in ["f", "g"] {
        create(&world, bool_flag(key)).await;
    }
    let full = ConfigurationPatch {
        default: Some(Some(draft::Serve::Variant("on".to_owned()))),
        salt: Some(Some("pepper".into())),
        ..ConfigurationPatch::default()
    };
    configure(&world, full).await;
    check(&world, [2, 4, 1]).await;
    toggle(&world, &[("g", true), ("f", true)]).await;
    check(&world, [2, 4, 2]).await;
    configure(&world, saying(&Configuration::default())).await;
    check(&world, [2, 4, 2]).await;
}

#[test]
fn random_lives_of_flags_leave_columns_that_say_what_the_forms_say() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(world());
    let segments = "insert into segments (project_id, key, name, description, created_at, updated_at)
        select p.id, s.key, '', '', now(), now() from projects p, (values ('s'), ('t')) s (key)";
    runtime.block_on(world.sql.execute(segments, &[])).unwrap();
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let live = async |life: Life| {
        // Also what a life that failed left behind, so that shorter ones fail for the same reason.
        world.sql.execute("delete from flags", &[]).await.unwrap();
        for key in ["p", "q"] {
            create(&world, bool_flag(key)).await;
        }
        let (definition, metadata) = (life.first, bool_flag("f").metadata);
        let variants = [definition.variants.len(), life.second.variants.len()];
        create(&world, NewFlag { definition, metadata }).await;
        check(&world, [3, 4 + variants[0], 0]).await;
        update(&world, redefining(&life.second)).await;
        check(&world, [3, 4 + variants[1], 0]).await;
        let enabled = life.configuration.enabled;
        configure(&world, saying(&life.configuration)).await;
        toggle(&world, &[("f", !enabled)]).await;
        check(&world, [3, 4 + variants[1], 1]).await;
        configure(&world, saying(&Configuration::default())).await;
        check(&world, [3, 4 + variants[1], 1]).await;
        archive(&world).await;
        check(&world, [3, 4 + variants[1], 1]).await;
    };
    let outcome = TestRunner::new(config).run(&generate::life("f"), |life| {
        runtime.block_on(live(life));
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn edited_columns_are_not_read_in_place_of_the_form() {
    let world = world().await;
    create(&world, bool_flag("f")).await;
    toggle(&world, &[("f", true)]).await;
    let edits = "update flag_configurations set enabled = false, rules = 'null';
        update flags set off_variant = 'on', client_visible = true;
        update flag_variants set value = '1'";
    let (shop, dev, f) = (project("shop"), environment("dev"), flag("f"));
    let read = async || {
        let flag = world.store.get_flag(&shop, &f).await.unwrap();
        (flag, world.store.get_configuration(self::shop(&dev), &f).await.unwrap())
    };
    let before = read().await;
    world.sql.batch_execute(edits).await.unwrap();
    assert_eq!(read().await, before);
}

/// Checks that the database itself refuses an edit.
async fn check_refused(edit: &str, constraint: &str) {
    let world = world().await;
    create(&world, bool_flag("f")).await;
    let error = world.sql.execute(edit, &[]).await.unwrap_err();
    let refusal = error.as_db_error().and_then(|refusal| refusal.constraint());
    assert_eq!(refusal, Some(constraint));
}

#[tokio::test]
async fn a_type_that_does_not_exist_cannot_be_written_by_hand() {
    check_refused("update flags set value_type = 'boolean'", "flags_value_type_check").await;
}

#[tokio::test]
async fn two_variants_of_one_key_cannot_be_written_by_hand() {
    check_refused("update flag_variants set key = 'on'", "flag_variants_flag_key_key").await;
}

#[tokio::test]
async fn variants_of_no_flag_cannot_be_written_by_hand() {
    check_refused("update flag_variants set flag_id = 0", "flag_variants_flag_fkey").await;
}
