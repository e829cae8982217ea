//! Flags: definitions, and what a change of one means for every environment.

use halyard::domain::access::Role;
use halyard::domain::draft;
use halyard::domain::flag::{Lifecycle, Lifespan};
use halyard::domain::value::ValueType;
use halyard::store::configurations::{ConfigurationPatch, Toggle};
use halyard::store::flags::{Flag, FlagFilter, FlagPatch, FlagState};
use halyard::store::{Entity, Error, Mutation, Outcome};

use crate::world::*;

async fn update(world: &World, mutation: &Mutation, patch: FlagPatch, etag: &str) -> Result<Outcome<Flag>, Error> {
    world
        .store
        .update_flag(mutation, &project("shop"), &flag("f"), patch, etag, respond)
        .await
}

fn visible() -> FlagPatch {
    FlagPatch {
        client_visible: Some(true),
        ..FlagPatch::default()
    }
}

fn owned_by(owner: &str) -> FlagPatch {
    FlagPatch {
        owner: Some(owner.into()),
        ..FlagPatch::default()
    }
}

fn definition(key: &str, version: i64, put: bool) -> (String, String, i64, bool) {
    ("flag_definition".to_owned(), key.to_owned(), version, put)
}

fn configuration(key: &str, version: i64, put: bool) -> (String, String, i64, bool) {
    ("flag_configuration".to_owned(), key.to_owned(), version, put)
}

#[tokio::test]
async fn a_new_flag_is_a_change_of_every_environment() {
    let world = world().await;
    let written = world.flag("f").await;
    let touched: Vec<_> = written
        .revisions
        .iter()
        .map(|touched| (touched.environment.as_str(), touched.revision))
        .collect();
    assert_eq!(touched, [("dev", 2), ("prod", 2)]);
    assert_eq!(world.items("prod", 2).await, [definition("f", 1, true)]);
    assert_eq!(
        world.store.get_flag(&project("shop"), &flag("f")).await.unwrap(),
        written.entity
    );
    assert_eq!(world.count("flag_configurations").await, 0);
}

#[tokio::test]
async fn a_flag_needs_no_environment() {
    let world = empty().await;
    world.project("shop").await;
    let written = world.flag("f").await;
    assert!(written.changed && written.revisions.is_empty());
    world.environment("shop", "dev", false).await;
    assert_eq!(world.items("dev", 1).await, [definition("f", 1, true)]);
}

#[tokio::test]
async fn flags_that_cannot_be_created_are_refused() {
    let world = world().await;
    world.flag("f").await;
    let owner = world.by_owner();
    let create = async |mutation, new| world.store.create_flag(mutation, &project("shop"), new, respond).await;
    done(
        world
            .store
            .archive_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
            .await,
    );
    let taken = refused(create(&owner, bool_flag("f")).await);
    assert!(matches!(taken, Error::AlreadyExists { entity: Entity::Flag, key } if key == "f"));

    let mut bad = bool_flag("bad");
    bad.definition.off_variant = Some(variant("maybe"));
    bad.metadata.name = "x".repeat(201);
    assert_eq!(
        fields(&refused(create(&owner, bad).await)),
        ["flag.name", "flag.off_variant"]
    );
    let viewer = by(world.member(Role::Viewer).await);
    assert!(matches!(refused(create(&viewer, bool_flag("g")).await), Error::Denied));
    assert_eq!(world.count("flags").await, 1);
}

#[tokio::test]
async fn a_project_holds_no_more_flags_than_the_limit() {
    let world = world().await;
    let fill = "insert into flags (
            project_id, key, name, description, tags, owner, form, value_type, client_visible, form_version, created_at, updated_at)
        select p.id, 'f' || n, '', '', '{}', '', '', 'bool', false, 1, now(), now()
        from projects p, generate_series(1, 10000) n";
    world.sql.execute(fill, &[]).await.unwrap();
    let create = world
        .store
        .create_flag(&world.by_owner(), &project("shop"), bool_flag("g"), respond)
        .await;
    assert!(matches!(
        refused(create),
        Error::LimitReached {
            entity: Entity::Flag,
            limit: 10_000
        }
    ));
}

#[tokio::test]
async fn metadata_alters_no_environment_but_is_audited() {
    let world = world().await;
    let before = world.flag("f").await.entity;
    let patch = FlagPatch {
        tags: Some(vec!["b".into(), "a".into(), "b".into()]),
        ..owned_by("team")
    };
    let written = done(update(&world, &world.by_owner(), patch, &before.etag).await);
    assert!(written.changed && written.revisions.is_empty());
    assert_eq!(written.entity.metadata.tags, ["a", "b"]);
    assert_ne!(written.entity.etag, before.etag);
    assert_eq!(world.revision("dev").await, 2);
    assert_eq!(world.count("audit_entries where action = 'flag.update'").await, 1);
    assert_eq!(
        world.store.get_flag(&project("shop"), &flag("f")).await.unwrap(),
        written.entity
    );
}

#[tokio::test]
async fn a_changed_definition_is_a_change_of_every_environment() {
    let world = world().await;
    world.flag("f").await;
    let written = done(update(&world, &world.by_owner(), visible(), "").await);
    assert_eq!(written.revisions.len(), 2);
    assert_eq!(world.items("dev", 3).await, [definition("f", 2, true)]);
    let sizes = world.log_sizes().await;
    let again = done(update(&world, &world.by_owner(), visible(), "").await);
    assert!(!again.changed && again.revisions.is_empty() && again.entity == written.entity);
    assert_eq!(world.log_sizes().await, sizes);
}

#[tokio::test]
async fn a_stale_flag_etag_is_refused_even_after_recreation() {
    let world = world().await;
    let old = world.flag("f").await.entity.etag;
    done(update(&world, &world.by_owner(), owned_by("x"), &old).await);
    let stale = |error| {
        matches!(
            error,
            Error::Stale {
                entity: Entity::Flag,
                ..
            }
        )
    };
    assert!(stale(refused(
        update(&world, &world.by_owner(), owned_by("y"), &old).await
    )));
    let shop = project("shop");
    assert!(stale(refused(
        world
            .store
            .archive_flag(&world.by_owner(), &shop, &flag("f"), &old, respond)
            .await
    )));
    assert!(stale(refused(
        world
            .store
            .delete_flag(&world.by_owner(), &shop, &flag("f"), &old, respond)
            .await
    )));
    done(
        world
            .store
            .delete_flag(&world.by_owner(), &shop, &flag("f"), "", respond)
            .await,
    );
    world.flag("f").await;
    assert!(stale(refused(
        update(&world, &world.by_owner(), owned_by("y"), &old).await
    )));
}

#[tokio::test]
async fn a_variant_that_is_served_cannot_be_removed() {
    let world = world().await;
    let mut definition = world.flag("f").await.entity.definition;
    let serve = ConfigurationPatch {
        default: Some(Some(draft::Serve::Variant("on".to_owned()))),
        ..ConfigurationPatch::default()
    };
    let prod = environment("prod");
    done(
        world
            .store
            .update_configuration(&world.by_owner(), shop(&prod), &flag("f"), serve, "", respond)
            .await,
    );
    definition.variants.remove(0);
    let patch = || FlagPatch {
        variants: Some(definition.variants.iter().map(Into::into).collect()),
        default_variant: Some(None),
        ..FlagPatch::default()
    };
    let blocked = refused(update(&world, &world.by_owner(), patch(), "").await);
    assert!(
        matches!(&blocked, Error::Blocked { entity: Entity::Flag, key, description }
        if key == "f" && description.ends_with("on in prod")),
        "{blocked:?}"
    );
    let clear = ConfigurationPatch {
        default: Some(None),
        ..ConfigurationPatch::default()
    };
    done(
        world
            .store
            .update_configuration(&world.by_owner(), shop(&prod), &flag("f"), clear, "", respond)
            .await,
    );
    assert_eq!(
        done(update(&world, &world.by_owner(), patch(), "").await)
            .entity
            .definition
            .variants
            .len(),
        1
    );
}

#[tokio::test]
async fn developers_change_definitions_only_where_nothing_is_protected() {
    let world = world().await;
    let developer = by(world.member(Role::Developer).await);
    let create = async |key| {
        let new = bool_flag(key);
        world
            .store
            .create_flag(&developer, &project("shop"), new, respond)
            .await
    };
    assert!(matches!(refused(create("f").await), Error::Denied));
    world.flag("f").await;
    done(update(&world, &developer, owned_by("x"), "").await);
    assert!(matches!(
        refused(update(&world, &developer, visible(), "").await),
        Error::Denied
    ));
    let archive = async || {
        world
            .store
            .archive_flag(&developer, &project("shop"), &flag("f"), "", respond)
            .await
    };
    assert!(matches!(refused(archive().await), Error::Denied));
    let prod = environment("prod");
    done(
        world
            .store
            .delete_environment(&world.by_owner(), shop(&prod), "", respond)
            .await,
    );
    done(update(&world, &developer, visible(), "").await);
    done(archive().await);
    done(create("g").await);
    let delete = world
        .store
        .delete_flag(&developer, &project("shop"), &flag("f"), "", respond)
        .await;
    assert!(matches!(refused(delete), Error::Denied));
}

#[tokio::test]
async fn an_archived_flag_leaves_every_environment_and_keeps_its_rows() {
    let world = world().await;
    world.flag("f").await;
    let (dev, toggle) = (
        environment("dev"),
        [Toggle {
            flag: flag("f"),
            enabled: true,
        }],
    );
    done(
        world
            .store
            .toggle_flags(&world.by_owner(), shop(&dev), &toggle, respond)
            .await,
    );
    let archive = async || {
        done(
            world
                .store
                .archive_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
                .await,
        )
    };
    let written = archive().await;
    assert!(written.entity.archived_at.is_some());
    assert_eq!(
        world.items("dev", 4).await,
        [configuration("f", 3, false), definition("f", 1, false)]
    );
    assert_eq!(world.items("prod", 3).await, [definition("f", 1, false)]);
    assert_eq!(world.count("flag_configurations").await, 1);
    assert!(!archive().await.changed);
    assert_eq!(world.revision("dev").await, 4);

    // Nothing that happens to it now is anyone's business but people's.
    let written = done(update(&world, &world.by_owner(), visible(), "").await);
    assert!(written.changed && written.revisions.is_empty());
    let written = done(
        world
            .store
            .delete_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
            .await,
    );
    assert!(written.revisions.is_empty());
}

#[tokio::test]
async fn a_recreated_flag_never_repeats_a_version() {
    let world = world().await;
    let dev = environment("dev");
    let toggle = [Toggle {
        flag: flag("f"),
        enabled: true,
    }];
    world.flag("f").await;
    done(
        world
            .store
            .toggle_flags(&world.by_owner(), shop(&dev), &toggle, respond)
            .await,
    );
    done(
        world
            .store
            .delete_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
            .await,
    );
    assert_eq!(
        world.items("dev", 4).await,
        [configuration("f", 3, false), definition("f", 1, false)]
    );
    world.flag("f").await;
    done(
        world
            .store
            .toggle_flags(&world.by_owner(), shop(&dev), &toggle, respond)
            .await,
    );
    assert_eq!(world.items("dev", 5).await, [definition("f", 2, true)]);
    assert_eq!(world.items("dev", 6).await, [configuration("f", 6, true)]);
}

#[tokio::test]
async fn missing_flags_are_named() {
    let world = world().await;
    let missing = |error| matches!(error, Error::NotFound { entity: Entity::Flag, key } if key == "f");
    assert!(missing(refused(update(&world, &world.by_owner(), visible(), "").await)));
    assert!(missing(
        world.store.get_flag(&project("shop"), &flag("f")).await.unwrap_err()
    ));
    let nowhere = world.store.get_flag(&project("nowhere"), &flag("f")).await;
    assert!(matches!(
        nowhere,
        Err(Error::NotFound {
            entity: Entity::Project,
            ..
        })
    ));
}

#[tokio::test]
async fn flags_are_listed_by_key_with_what_was_asked_for() {
    let world = world().await;
    for key in ["b", "B", "a"] {
        world.flag(key).await;
    }
    let dev = environment("dev");
    let toggle = [Toggle {
        flag: flag("b"),
        enabled: true,
    }];
    done(
        world
            .store
            .toggle_flags(&world.by_owner(), shop(&dev), &toggle, respond)
            .await,
    );
    done(
        world
            .store
            .archive_flag(&world.by_owner(), &project("shop"), &flag("a"), "", respond)
            .await,
    );
    let list = async |environment, archived, page| {
        let filter = FlagFilter {
            environment,
            archived,
            ..FlagFilter::default()
        };
        let list = world.store.list_flags(&project("shop"), filter, &page).await.unwrap();
        let keys = list.items.iter().map(|(flag, configuration)| {
            let state = configuration
                .as_ref()
                .map(|c| if c.configuration.enabled { "+" } else { "-" });
            format!("{}{}", flag.definition.key, state.unwrap_or_default())
        });
        (keys.collect::<Vec<_>>().join(" "), list.next)
    };
    assert_eq!(list(None, true, page(2, "")).await, ("B a".into(), Some("a".into())));
    assert_eq!(list(None, true, page(2, "a")).await, ("b".into(), None));
    assert_eq!(list(Some(&dev), false, page(9, "")).await, ("B- b+".into(), None));
    let nowhere = environment("nowhere");
    let filter = FlagFilter {
        environment: Some(&nowhere),
        ..FlagFilter::default()
    };
    let missing = world.store.list_flags(&project("shop"), filter, &page(1, "")).await;
    assert!(matches!(
        missing,
        Err(Error::NotFound {
            entity: Entity::Environment,
            ..
        })
    ));
}

#[tokio::test]
async fn a_damaged_form_is_an_error_and_not_a_panic() {
    let world = world().await;
    world.flag("f").await;
    world.sql.execute("update flags set form = 'null'", &[]).await.unwrap();
    let read = world.store.get_flag(&project("shop"), &flag("f")).await;
    assert!(matches!(read, Err(Error::Corrupt { column: "form", .. })), "{read:?}");
}

/// The keys of the flags that pass a filter.
async fn passing(world: &World, filter: FlagFilter<'_>) -> String {
    let all = world.store.list_flags(&project("shop"), filter, &page(100, "")).await;
    let keys = all
        .unwrap()
        .items
        .into_iter()
        .map(|(flag, _)| flag.definition.key.to_string());
    keys.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn flags_are_found_by_text_in_any_case() {
    let world = world().await;
    let texts = [
        ("plain", "Größe", ""),
        ("Under_score", "100 %", "A\nB"),
        ("x.y", "[a-z]*", "ÅNGSTRÖM \\ ***:"),
    ];
    for (key, name, description) in texts {
        let mut new = bool_flag(key);
        (new.metadata.name, new.metadata.description) = (name.into(), description.into());
        done(
            world
                .store
                .create_flag(&world.by_owner(), &project("shop"), new, respond)
                .await,
        );
    }
    let all = "Under_score plain x.y";
    let check = async |text: &str, keys: &str| {
        let filter = FlagFilter {
            text,
            ..FlagFilter::default()
        };
        assert_eq!(passing(&world, filter).await, keys, "{text:?}");
    };
    for (text, keys) in [
        ("", all),
        ("PLAIN", "plain"),
        ("grösse", ""),
        ("GRÖßE", "plain"),
        ("ångström", "x.y"),
        ("_", "Under_score"),
        ("%", "Under_score"),
        ("a\nb", "Under_score"),
        (".", "x.y"),
        ("[A-Z]*", "x.y"),
        ("***:", "x.y"),
        ("\\", "x.y"),
        ("nothing", ""),
    ] {
        check(text, keys).await;
    }
}

#[tokio::test]
async fn flags_pass_every_filter_or_are_left_out() {
    let world = world().await;
    let create = async |key: &str, tags: &[&str], owner: &str, lifecycle| {
        let mut new = bool_flag(key);
        new.metadata.tags = tags.iter().map(ToString::to_string).collect();
        new.metadata.owner = owner.into();
        new.metadata.lifecycle = lifecycle;
        done(
            world
                .store
                .create_flag(&world.by_owner(), &project("shop"), new, respond)
                .await,
        );
    };
    let temporary = Lifecycle::Temporary {
        expected_removal: Some("2027-01-01T00:00:00Z".parse().unwrap()),
    };
    create("a", &["x", "y"], "web", Lifecycle::Permanent).await;
    create("b", &["x"], "web", temporary).await;
    create("c", &[], "", temporary).await;
    let dev = environment("dev");
    let toggles = [("a", true), ("b", true)].map(|(key, enabled)| Toggle {
        flag: flag(key),
        enabled,
    });
    let toggle = async |toggles: &[Toggle]| {
        let owner = world.by_owner();
        done(world.store.toggle_flags(&owner, shop(&dev), toggles, respond).await);
    };
    toggle(&toggles).await;
    toggle(&[Toggle {
        flag: flag("b"),
        enabled: false,
    }])
    .await;
    let any = FlagFilter::default();
    let check = async |filter: FlagFilter<'_>, keys: &str| assert_eq!(passing(&world, filter).await, keys);
    let (x, xy) = (["x".to_owned()], ["y".to_owned(), "x".to_owned()]);
    check(FlagFilter { tags: &x, ..any }, "a b").await;
    check(FlagFilter { tags: &xy, ..any }, "a").await;
    let of = |owner| FlagFilter {
        owner: Some(owner),
        ..any
    };
    check(of("web"), "a b").await;
    check(of("WEB"), "").await;
    let typed = |value_type| FlagFilter {
        value_type: Some(value_type),
        ..any
    };
    check(typed(ValueType::Bool), "a b c").await;
    check(typed(ValueType::String), "").await;
    let living = |lifespan| FlagFilter {
        lifespan: Some(lifespan),
        ..any
    };
    check(living(Lifespan::Temporary), "b c").await;
    check(living(Lifespan::Permanent), "a").await;
    let state = |state| FlagFilter {
        environment: Some(&dev),
        state: Some(state),
        ..any
    };
    check(state(FlagState::Enabled), "a").await;
    check(state(FlagState::Disabled), "b c").await;
    check(state(FlagState::Unconfigured), "c").await;
    let many = FlagFilter {
        tags: &x,
        owner: Some("web"),
        lifespan: Some(Lifespan::Temporary),
        text: "B",
        ..state(FlagState::Disabled)
    };
    check(many, "b").await;
}

#[tokio::test]
async fn a_lifecycle_is_kept_and_makes_no_revision() {
    let world = world().await;
    world.flag("f").await;
    let owner = world.by_owner();
    let revision = world.revision("dev").await;
    let date = "2027-01-01T00:00:00.000001Z".parse().unwrap();
    let expected = |date| FlagPatch {
        expected_removal: Some(date),
        ..FlagPatch::default()
    };
    let living = |lifespan| FlagPatch {
        lifespan: Some(lifespan),
        ..FlagPatch::default()
    };
    let refusal = refused(update(&world, &owner, expected(Some(date)), "").await);
    assert_eq!(fields(&refusal), ["flag.expected_removal_time"]);
    let temporary = FlagPatch {
        lifespan: Some(Lifespan::Temporary),
        ..expected(Some(date))
    };
    let written = done(update(&world, &owner, temporary.clone(), "").await);
    assert!(written.changed && written.revisions.is_empty());
    let read = world.store.get_flag(&project("shop"), &flag("f")).await.unwrap();
    let lifecycle = Lifecycle::Temporary {
        expected_removal: Some(date),
    };
    assert_eq!((read.metadata.lifecycle, &read), (lifecycle, &written.entity));
    assert!(!done(update(&world, &owner, temporary, "").await).changed);
    assert!(!done(update(&world, &owner, living(Lifespan::Temporary), "").await).changed);
    let written = done(update(&world, &owner, living(Lifespan::Permanent), "").await);
    assert_eq!(written.entity.metadata.lifecycle, Lifecycle::Permanent);
    assert_eq!(world.revision("dev").await, revision);
    assert_eq!(world.count("audit_entries where action = 'flag.update'").await, 2);
}
