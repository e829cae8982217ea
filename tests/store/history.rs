//! What was: revisions, rollback, and the state as of a revision.

use halyard::domain::draft;
use halyard::domain::flag::{Configuration, Prerequisite};
use halyard::domain::form::{self, Kind};
use halyard::domain::rule::{Condition, Operand, Operator, Rule, Serve};
use halyard::domain::segment;
use halyard::evaluate::key_chunk;
use halyard::store::configurations::{ConfigurationPatch, FlagConfiguration, Toggle};
use halyard::store::flags::FlagPatch;
use halyard::store::history::{FlagRevision, Part};
use halyard::store::{Entity, Error, Outcome};

use crate::world::*;

async fn toggle(world: &World, key: &str, enabled: bool) -> u64 {
    let (dev, mutation) = (environment("dev"), world.by_owner());
    let toggles = [Toggle {
        flag: flag(key),
        enabled,
    }];
    let written = done(world.store.toggle_flags(&mutation, shop(&dev), &toggles, respond).await);
    written.revisions[0].revision
}

async fn configure(world: &World, patch: ConfigurationPatch) -> u64 {
    let (dev, mutation) = (environment("dev"), world.by_owner());
    let outcome = world
        .store
        .update_configuration(&mutation, shop(&dev), &flag("f"), patch, "", respond)
        .await;
    done(outcome).revisions[0].revision
}

fn serving(variant: &str) -> ConfigurationPatch {
    ConfigurationPatch {
        enabled: Some(true),
        default: Some(Some(draft::Serve::Variant(variant.to_owned()))),
        ..ConfigurationPatch::default()
    }
}

async fn rollback(world: &World, revision: u64, etag: &str) -> Result<Outcome<FlagConfiguration>, Error> {
    let (dev, mutation) = (environment("dev"), world.by_owner());
    world
        .store
        .rollback_configuration(&mutation, shop(&dev), &flag("f"), revision, etag, respond)
        .await
}

async fn revisions(world: &World, before: Option<u64>, size: usize) -> (Vec<FlagRevision>, Option<String>) {
    let dev = environment("dev");
    let page = world
        .store
        .list_revisions(shop(&dev), &flag("f"), before, size)
        .await
        .unwrap();
    (page.items, page.next)
}

/// `revision part:field,field` of each change; `-part` if it is gone, `+part` if it is new.
fn told(revisions: &[FlagRevision]) -> Vec<String> {
    let changes = revisions.iter().flat_map(|revision| {
        revision.changes.iter().map(|change| {
            let (name, there) = match &change.part {
                Part::Definition(after) => ("definition", after.is_some()),
                Part::Configuration(after) => ("configuration", after.is_some()),
            };
            let sign = match (there, change.fields.is_empty()) {
                (false, _) => "-",
                (true, true) => "+",
                (true, false) => "",
            };
            format!("{} {sign}{name}:{}", revision.revision, change.fields.join(","))
        })
    });
    changes.collect()
}

#[tokio::test]
async fn revisions_say_what_changed_newest_first() {
    let world = world().await;
    world.flag("f").await;
    world.flag("other").await;
    toggle(&world, "f", true).await;
    configure(&world, serving("off")).await;
    let visible = FlagPatch {
        client_visible: Some(true),
        ..FlagPatch::default()
    };
    let (mutation, shop, f) = (world.by_owner(), project("shop"), flag("f"));
    done(
        world
            .store
            .update_flag(&mutation, &shop, &f, visible, "", respond)
            .await,
    );
    done(world.store.archive_flag(&mutation, &shop, &f, "", respond).await);
    done(world.store.restore_flag(&mutation, &shop, &f, "", respond).await);
    done(world.store.delete_flag(&mutation, &shop, &f, "", respond).await);
    let all = [
        "9 -definition:",
        "9 -configuration:",
        "8 +definition:",
        "8 +configuration:",
        "7 -definition:",
        "7 -configuration:",
        "6 definition:client_visible",
        "5 configuration:default_serve",
        "4 +configuration:",
        "2 +definition:",
    ];
    let (found, next) = revisions(&world, None, 100).await;
    assert_eq!((told(&found), next), (all.map(str::to_owned).to_vec(), None));
    assert_eq!(found[0].actor, format!("user:{}", world.owner));
    assert_eq!(found[0].actor_name, "owner@example.com");

    let (first, next) = revisions(&world, None, 2).await;
    assert_eq!(
        (told(&first), next.as_deref()),
        (all[..4].iter().map(ToString::to_string).collect(), Some("8"))
    );
    let (second, next) = revisions(&world, Some(8), 2).await;
    assert_eq!(
        (told(&second), next.as_deref()),
        (all[4..7].iter().map(ToString::to_string).collect(), Some("6"))
    );
    let (last, next) = revisions(&world, Some(6), 3).await;
    assert_eq!(
        (told(&last), next),
        (all[7..].iter().map(ToString::to_string).collect(), None)
    );
}

#[tokio::test]
async fn a_page_of_large_revisions_is_short_and_none_is_missed() {
    let world = world().await;
    world.flag("f").await;
    let large = |n: usize| {
        let values = (0..10_000).map(|m| Some(Operand::String(format!("{n:05}-{m:010}"))));
        let condition = draft::Condition {
            attribute: "a".into(),
            operator: Some(Operator::OneOf),
            values: values.collect(),
            ..draft::Condition::default()
        };
        let rule = draft::Rule {
            key: "r".into(),
            conditions: vec![condition],
            serve: draft::Serve::Variant("on".into()),
            ..draft::Rule::default()
        };
        ConfigurationPatch {
            rules: Some(vec![rule]),
            ..ConfigurationPatch::default()
        }
    };
    for n in 0..15 {
        configure(&world, large(n)).await;
    }
    let (first, next) = revisions(&world, None, 100).await;
    assert!((8..15).contains(&first.len()), "{}", first.len());
    let (rest, end) = revisions(&world, Some(next.unwrap().parse().unwrap()), 100).await;
    assert_eq!((first.len() + rest.len(), end), (16, None));
}

#[tokio::test]
async fn a_flag_that_never_was_has_no_history() {
    let world = world().await;
    let dev = environment("dev");
    let missing = world.store.list_revisions(shop(&dev), &flag("f"), None, 10).await;
    assert!(
        matches!(
            missing,
            Err(Error::NotFound {
                entity: Entity::Flag,
                ..
            })
        ),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_configuration_goes_back_to_what_it_was() {
    let world = world().await;
    world.flag("f").await;
    let first = configure(&world, serving("off")).await;
    let second = configure(&world, serving("on")).await;
    let written = done(rollback(&world, first, "").await);
    assert_eq!(written.revisions[0].revision, second + 1);
    assert_eq!(
        written.entity.configuration.default,
        Some(Serve::Variant(variant("off")))
    );
    assert_eq!(
        world
            .count("audit_entries where action = 'flag_configuration.rollback'")
            .await,
        1
    );
    let sizes = world.log_sizes().await;
    assert!(!done(rollback(&world, first, &written.entity.etag).await).changed);
    assert!(matches!(
        refused(rollback(&world, first, "stale").await),
        Error::Stale { .. }
    ));
    assert_eq!(world.log_sizes().await, sizes);
    // Before it was ever written it was off.
    let written = done(rollback(&world, first - 1, "").await);
    assert_eq!(written.entity.configuration, Configuration::default());
}

#[tokio::test]
async fn what_no_longer_makes_sense_is_not_brought_back() {
    let world = world().await;
    let before = world.flag("f").await.entity.definition;
    let first = configure(&world, serving("on")).await;
    configure(&world, serving("off")).await;
    let mut definition = draft::Definition::from(&before);
    definition.variants.retain(|variant| variant.key != "on");
    let patch = FlagPatch {
        variants: Some(definition.variants),
        default_variant: Some(None),
        ..FlagPatch::default()
    };
    let (mutation, shop, f) = (world.by_owner(), project("shop"), flag("f"));
    done(world.store.update_flag(&mutation, &shop, &f, patch, "", respond).await);
    let error = refused(rollback(&world, first, "").await);
    assert_eq!(fields(&error), ["configuration.default_serve.variant"]);
    done(world.store.archive_flag(&mutation, &shop, &f, "", respond).await);
    assert!(matches!(
        refused(rollback(&world, first, "").await),
        Error::Blocked { .. }
    ));
}

#[tokio::test]
async fn a_revision_to_come_is_unknown_and_one_that_is_gone_is_refused() {
    let world = world().await;
    world.flag("f").await;
    let (first, second) = (toggle(&world, "f", true).await, toggle(&world, "f", false).await);
    let dev = environment("dev");
    let state = async |revision| world.store.state_at(shop(&dev), revision, None, None).await.map(drop);
    let unknown = |error: &Error| {
        matches!(
            error,
            Error::NotFound {
                entity: Entity::Revision,
                ..
            }
        )
    };
    for revision in [0, second + 1, u64::MAX] {
        assert!(unknown(&refused(rollback(&world, revision, "").await)), "{revision}");
        assert!(unknown(&state(revision).await.unwrap_err()), "{revision}");
    }
    let delete = "delete from changes where revision = $1";
    world
        .sql
        .execute(delete, &[&i64::try_from(first).unwrap()])
        .await
        .unwrap();
    let gone = |error: &Error| {
        matches!(
            error,
            Error::Blocked {
                entity: Entity::Revision,
                ..
            }
        )
    };
    for revision in [first, second] {
        assert!(gone(&refused(rollback(&world, revision, "").await)), "{revision}");
        assert!(gone(&state(revision).await.unwrap_err()), "{revision}");
    }
    state(first - 1).await.unwrap();
}

/// The items of `dev` as of a revision, as `kind key`.
async fn items(world: &World, revision: u64, flags: Option<&[&str]>, targeting_key: &str) -> Vec<String> {
    let dev = environment("dev");
    let flags: Option<Vec<_>> = flags.map(|flags| flags.iter().map(|key| flag(key)).collect());
    let state = world
        .store
        .state_at(shop(&dev), revision, flags.as_deref(), Some(targeting_key))
        .await
        .unwrap();
    let mut items: Vec<_> = state.items.iter().map(|(id, _)| id.to_string()).collect();
    items.sort();
    items
}

#[tokio::test]
async fn the_state_as_of_a_revision_holds_what_the_flags_asked_for_depend_on() {
    let world = world().await;
    for key in ["f", "needed", "other"] {
        world.flag(key).await;
    }
    let asks = |segments: &[&str]| Rule {
        key: "r".parse().unwrap(),
        description: String::new(),
        conditions: vec![Condition {
            attribute: String::new(),
            operator: Operator::InSegment,
            values: segments.iter().map(|key| Operand::String((*key).into())).collect(),
            negated: false,
        }],
        serve: Serve::Variant(variant("on")),
    };
    let chunks = 8;
    let configuration = Configuration {
        prerequisites: vec![Prerequisite {
            flag: flag("needed"),
            variants: vec![variant("on")],
        }],
        rules: vec![asks(&["s"])],
        ..Configuration::default()
    };
    let segment = |segments: &[&str], key_list| segment::Configuration {
        segments: segments.iter().map(|key| key.parse().unwrap()).collect(),
        key_list,
        ..segment::Configuration::default()
    };
    let list = segment::KeyList { chunks, keys: 1 };
    let chunk = key_chunk("ada", chunks);
    let mut forms = vec![
        (
            Kind::FlagConfiguration,
            "f".to_owned(),
            form::write_configuration(&configuration),
        ),
        (
            Kind::SegmentConfiguration,
            "s".to_owned(),
            form::write_segment(&segment(&["t"], None)),
        ),
        // A circle that someone made by hand ends.
        (
            Kind::SegmentConfiguration,
            "t".to_owned(),
            form::write_segment(&segment(&["s"], Some(list))),
        ),
        (
            Kind::SegmentConfiguration,
            "unused".to_owned(),
            form::write_segment(&segment(&[], None)),
        ),
    ];
    forms.extend((0..chunks).map(|n| (Kind::SegmentKeys, format!("t/{n}"), form::write_keys(&["ada"]))));
    let insert = "insert into change_items (environment_id, revision, kind, key, version, form)
        select h.environment_id, h.revision, $1, $2, 1, $3
        from environment_heads h join environments e on e.id = h.environment_id where e.key = 'dev'";
    for (kind, key, form) in forms {
        world.sql.execute(insert, &[&kind.name(), &key, &form]).await.unwrap();
    }
    let head = world.revision("dev").await;
    let expected = [
        "flag_configuration f".to_owned(),
        "flag_definition f".to_owned(),
        "flag_definition needed".to_owned(),
        "segment_configuration s".to_owned(),
        "segment_configuration t".to_owned(),
        format!("segment_keys t/{chunk}"),
    ];
    assert_eq!(items(&world, head, Some(&["f"]), "ada").await, expected);
    assert_eq!(
        items(&world, head, Some(&["other", "f", "nobody"]), "ada").await.len(),
        7
    );
    assert_eq!(items(&world, head, None, "ada").await.len(), 7);
    assert_eq!(items(&world, head, Some(&[]), "ada").await.len(), 0);
    // One revision before, `f` depended on nothing and `other` was not there.
    assert_eq!(items(&world, head - 1, None, "ada").await.len(), 2);
}

#[tokio::test]
async fn what_was_deleted_at_a_revision_is_not_in_its_state() {
    let world = world().await;
    world.flag("f").await;
    let on = toggle(&world, "f", true).await;
    let (mutation, shop) = (world.by_owner(), project("shop"));
    done(
        world
            .store
            .archive_flag(&mutation, &shop, &flag("f"), "", respond)
            .await,
    );
    assert_eq!(items(&world, on, None, "").await.len(), 2);
    assert_eq!(items(&world, on + 1, None, "").await.len(), 0);
    assert_eq!(items(&world, on + 1, Some(&["f"]), "").await.len(), 0);
}
