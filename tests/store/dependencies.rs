//! Who depends on whom: what is checked when it is written, and what can no longer be done while someone depends on it.

use halyard::domain::draft;
use halyard::domain::flag::Prerequisite;
use halyard::domain::rule::Operator;
use halyard::store::configurations::{ConfigurationPatch, FlagConfiguration, Toggle};
use halyard::store::flags::{Flag, FlagPatch};
use halyard::store::{Error, Mutation, Outcome};

use crate::world::*;

fn needing(flags: &[&str]) -> ConfigurationPatch {
    let prerequisite = |flag: &&str| draft::Prerequisite {
        flag: (*flag).to_owned(),
        variants: vec!["on".to_owned()],
    };
    ConfigurationPatch {
        prerequisites: Some(flags.iter().map(prerequisite).collect()),
        ..ConfigurationPatch::default()
    }
}

fn asking(segment: &str) -> ConfigurationPatch {
    let condition = draft::Condition {
        operator: Some(Operator::InSegment),
        values: vec![Some(halyard::domain::rule::Operand::String(segment.to_owned()))],
        ..draft::Condition::default()
    };
    let rule = draft::Rule {
        key: "r".to_owned(),
        conditions: vec![condition],
        serve: draft::Serve::Variant("on".to_owned()),
        ..draft::Rule::default()
    };
    ConfigurationPatch {
        rules: Some(vec![rule]),
        ..ConfigurationPatch::default()
    }
}

async fn configure(
    world: &World,
    of: &str,
    in_environment: &str,
    patch: ConfigurationPatch,
) -> Result<Outcome<FlagConfiguration>, Error> {
    let (mutation, environment) = (world.by_owner(), environment(in_environment));
    world
        .store
        .update_configuration(&mutation, shop(&environment), &flag(of), patch, "", respond)
        .await
}

/// Two flags of which `b` needs `a` in `prod`.
async fn pair() -> World {
    let world = world().await;
    for key in ["a", "b"] {
        world.flag(key).await;
    }
    done(configure(&world, "b", "prod", needing(&["a"])).await);
    world
}

async fn archive(world: &World, key: &str) -> Result<Outcome<Flag>, Error> {
    let (mutation, shop) = (world.by_owner(), project("shop"));
    world
        .store
        .archive_flag(&mutation, &shop, &flag(key), "", respond)
        .await
}

async fn restore(world: &World, key: &str) -> Result<Outcome<Flag>, Error> {
    let (mutation, shop) = (world.by_owner(), project("shop"));
    world
        .store
        .restore_flag(&mutation, &shop, &flag(key), "", respond)
        .await
}

async fn delete(world: &World, key: &str) -> Result<Outcome<Flag>, Error> {
    let (mutation, shop) = (world.by_owner(), project("shop"));
    world.store.delete_flag(&mutation, &shop, &flag(key), "", respond).await
}

/// What was in the way.
#[track_caller]
fn blocked<T>(outcome: Result<Outcome<T>, Error>) -> String {
    let error = refused(outcome);
    let Error::Blocked { key, description, .. } = &error else {
        panic!("{error:?}");
    };
    format!("{key} {description}")
}

/// Everything that was wrong.
#[track_caller]
fn wrong<T>(outcome: Result<Outcome<T>, Error>) -> String {
    let error = refused(outcome);
    let Error::Invalid(violations) = &error else {
        panic!("{error:?}");
    };
    violations.to_string()
}

#[tokio::test]
async fn prerequisites_are_written_and_read_back() {
    let world = pair().await;
    let prod = environment("prod");
    let read = world.store.get_configuration(shop(&prod), &flag("b")).await.unwrap();
    let expected = Prerequisite {
        flag: flag("a"),
        variants: vec![variant("on")],
    };
    assert_eq!(read.configuration.prerequisites, [expected]);
    assert_eq!(world.count("flag_prerequisites").await, 1);
    done(configure(&world, "b", "prod", needing(&[])).await);
    assert_eq!(world.count("flag_prerequisites").await, 0);
}

#[tokio::test]
async fn a_circle_is_refused_with_the_path_that_closes_it() {
    let world = world().await;
    for key in ["a", "b", "c"] {
        world.flag(key).await;
    }
    done(configure(&world, "a", "dev", needing(&["b"])).await);
    done(configure(&world, "b", "dev", needing(&["c"])).await);
    let circle = wrong(configure(&world, "c", "dev", needing(&["a"])).await);
    assert!(circle.contains("configuration.prerequisites"), "{circle}");
    assert!(circle.contains("c → a → b → c"), "{circle}");
    let itself = wrong(configure(&world, "c", "dev", needing(&["c"])).await);
    assert!(itself.contains("configuration.prerequisites[0].flag"), "{itself}");
    // In another environment nobody depends on anybody.
    done(configure(&world, "c", "prod", needing(&["a"])).await);
}

#[tokio::test]
async fn only_flags_and_segments_that_there_are_can_be_named() {
    let world = pair().await;
    done(archive(&world, "b").await);
    for nonsense in ["b", "nobody", "", "a\0", "way too wrong"] {
        let wrong = wrong(configure(&world, "a", "dev", needing(&[nonsense])).await);
        assert!(wrong.contains("configuration.prerequisites[0].flag"), "{wrong}");
    }
    for nonsense in ["nobody", "", "a\0", "way too wrong"] {
        let wrong = wrong(configure(&world, "a", "dev", asking(nonsense)).await);
        assert!(wrong.contains("configuration.rules[0].conditions[0].values"), "{wrong}");
    }
}

#[tokio::test]
async fn a_change_of_something_else_keeps_what_it_depends_on() {
    let world = pair().await;
    let segment = "insert into segments (project_id, key, name, description, created_at, updated_at)
        select id, 's', '', '', now(), now() from projects where key = 'shop'";
    world.sql.execute(segment, &[]).await.unwrap();
    done(configure(&world, "b", "prod", asking("s")).await);
    let salted = ConfigurationPatch {
        salt: Some(Some("pepper".into())),
        ..ConfigurationPatch::default()
    };
    let after = done(configure(&world, "b", "prod", salted).await).entity.configuration;
    assert_eq!((after.prerequisites.len(), after.segments().count()), (1, 1));
    assert_eq!(world.count("flag_prerequisites").await, 1);
    assert_eq!(world.count("flag_segments").await, 1);
    // What is gone from under it by hand is noticed then.
    world.sql.execute("delete from flag_segments", &[]).await.unwrap();
    world.sql.execute("delete from segments", &[]).await.unwrap();
    let salted = ConfigurationPatch {
        salt: Some(None),
        ..ConfigurationPatch::default()
    };
    assert!(wrong(configure(&world, "b", "prod", salted).await).contains("rules[0].conditions[0].values[0]"));
}

#[tokio::test]
async fn a_flag_that_another_needs_can_neither_be_archived_nor_deleted() {
    let world = pair().await;
    let needed = "a is a prerequisite of b in prod";
    assert_eq!(blocked(archive(&world, "a").await), needed);
    assert_eq!(blocked(delete(&world, "a").await), needed);
    done(archive(&world, "b").await);
    assert_eq!(blocked(delete(&world, "a").await), format!("{needed} (archived)"));
    done(archive(&world, "a").await);
    assert_eq!(
        blocked(delete(&world, "a").await),
        format!("{needed} (archived)"),
        "what is restored would miss it"
    );
    done(delete(&world, "b").await);
    done(delete(&world, "a").await);
    assert_eq!(world.count("flag_prerequisites").await, 0);
}

#[tokio::test]
async fn not_all_who_need_a_flag_are_named() {
    let world = world().await;
    world.flag("a").await;
    for n in 0..12 {
        world.flag(&format!("b{n:02}")).await;
        done(configure(&world, &format!("b{n:02}"), "dev", needing(&["a"])).await);
    }
    let refusal = blocked(archive(&world, "a").await);
    assert!(
        refusal.starts_with("a is a prerequisite of b00 in dev, b01 in dev"),
        "{refusal}"
    );
    assert!(refusal.ends_with("b09 in dev and more"), "{refusal}");
}

#[tokio::test]
async fn a_flag_comes_back_only_after_what_it_needs() {
    let world = pair().await;
    done(archive(&world, "b").await);
    done(archive(&world, "a").await);
    let refusal = blocked(restore(&world, "b").await);
    assert!(refusal.ends_with("a in prod"), "{refusal}");
    done(restore(&world, "a").await);
    done(restore(&world, "b").await);
}

#[tokio::test]
async fn a_variant_that_a_prerequisite_names_cannot_be_removed() {
    let world = pair().await;
    let update = async |mutation: &Mutation| {
        let before = world.store.get_flag(&project("shop"), &flag("a")).await.unwrap();
        let mut definition = draft::Definition::from(&before.definition);
        definition.variants.retain(|variant| variant.key != "on");
        let patch = FlagPatch {
            variants: Some(definition.variants),
            default_variant: Some(None),
            ..FlagPatch::default()
        };
        world
            .store
            .update_flag(mutation, &project("shop"), &flag("a"), patch, "", respond)
            .await
    };
    let refusal = blocked(update(&world.by_owner()).await);
    assert!(
        refusal.ends_with("that prerequisites name: on by b in prod"),
        "{refusal}"
    );
    done(archive(&world, "b").await);
    assert!(blocked(update(&world.by_owner()).await).ends_with("on by b in prod"));
    done(delete(&world, "b").await);
    done(update(&world.by_owner()).await);
}

#[tokio::test]
async fn a_restored_flag_is_back_everywhere_with_what_it_was() {
    let world = pair().await;
    let (dev, toggles) = (
        environment("dev"),
        [Toggle {
            flag: flag("a"),
            enabled: true,
        }],
    );
    done(
        world
            .store
            .toggle_flags(&world.by_owner(), shop(&dev), &toggles, respond)
            .await,
    );
    let before = world.store.get_configuration(shop(&dev), &flag("a")).await.unwrap();
    done(archive(&world, "b").await);
    done(archive(&world, "a").await);
    let revisions = (world.revision("dev").await, world.revision("prod").await);
    let restored = done(restore(&world, "a").await);
    assert!(restored.changed && restored.entity.archived_at.is_none());
    assert_eq!(restored.revisions.len(), 2);
    let item = |kind: &str, version| (kind.to_owned(), "a".to_owned(), version, true);
    let revision = i64::try_from(revisions.0 + 1).unwrap();
    assert_eq!(
        world.items("dev", revisions.0 + 1).await,
        [item("flag_configuration", revision), item("flag_definition", 3)]
    );
    assert_eq!(world.items("prod", revisions.1 + 1).await, [item("flag_definition", 3)]);
    let after = world.store.get_configuration(shop(&dev), &flag("a")).await.unwrap();
    assert_eq!(after.configuration, before.configuration);
    let stored = "flags f join flag_configurations c on c.flag_id = f.id where f.key = 'a' and f.form_version = 3";
    assert_eq!(world.count(&format!("{stored} and c.version = {revision}")).await, 1);
    assert_eq!(world.count("audit_entries where action = 'flag.restore'").await, 1);

    let sizes = world.log_sizes().await;
    assert!(!done(restore(&world, "a").await).changed);
    assert_eq!(world.log_sizes().await, sizes);
}
