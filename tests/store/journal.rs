//! What must hold of the logs however writers interleave and fail.

use halyard::domain::audit::verify::Verdict;
use halyard::domain::change::{self, Digest, ItemChange};
use halyard::domain::form::{ItemId, Kind};
use halyard::store::configurations::Toggle;
use halyard::store::flags::FlagPatch;
use halyard::store::{Error, Outcome};

use crate::world::*;

async fn toggle(world: &World, enabled: bool) -> Result<(), Error> {
    let (dev, toggles) = (
        environment("dev"),
        [Toggle {
            flag: flag("f"),
            enabled,
        }],
    );
    let outcome = world
        .store
        .toggle_flags(&world.by_owner(), shop(&dev), &toggles, respond)
        .await;
    outcome.map(|_: Outcome<_>| ())
}

pub async fn chain(world: &World) -> String {
    world
        .sql
        .query_one("select id::text from projects where key = 'shop'", &[])
        .await
        .unwrap()
        .get(0)
}

/// Recomputes the digests of an environment from its log, and returns the revisions found.
pub async fn verify_log(world: &World, in_environment: &str) -> Vec<i64> {
    let id = world
        .store
        .get_environment(shop(&environment(in_environment)))
        .await
        .unwrap()
        .id
        .0;
    let changes = "select revision, previous_digest, digest from changes where environment_id = $1 order by revision";
    let items = "select kind, key, version, form from change_items where environment_id = $1 and revision = $2";
    let (mut previous, mut revisions) = (Digest::default(), Vec::new());
    for row in world.sql.query(changes, &[&id]).await.unwrap() {
        let revision: i64 = row.get("revision");
        let rows = world.sql.query(items, &[&id, &revision]).await.unwrap();
        let ids = rows.iter().map(|row| ItemId {
            kind: Kind::from_name(row.get("kind")).unwrap(),
            key: row.get::<_, &str>("key").into(),
        });
        let ids: Vec<_> = ids.into_iter().collect();
        let items = ids.iter().zip(&rows).map(|(id, row)| ItemChange {
            id,
            version: u64::try_from(row.get::<_, i64>("version")).unwrap(),
            form: row.get("form"),
        });
        let items: Vec<_> = items.collect();
        assert_eq!(
            Digest::from_slice(row.get("previous_digest")),
            Some(previous),
            "revision {revision}"
        );
        previous = change::digest(previous, u64::try_from(revision).unwrap(), &items);
        assert_eq!(
            Digest::from_slice(row.get("digest")),
            Some(previous),
            "revision {revision}"
        );
        revisions.push(revision);
    }
    let head = world
        .sql
        .query_one(
            "select revision, digest from environment_heads where environment_id = $1",
            &[&id],
        )
        .await;
    let head = head.unwrap();
    assert_eq!(revisions.last(), Some(&head.get("revision")));
    assert_eq!(Digest::from_slice(head.get("digest")), Some(previous));
    revisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_leave_no_gap_and_an_unbroken_chain() {
    let world = world().await;
    for n in 0..4 {
        world.flag(&format!("f{n}")).await;
    }
    // Toggles of both environments and changes of definitions, all at once.
    let writers = (0..16).map(|writer| {
        let (store, mutation) = (world.store.clone(), world.by_owner());
        tokio::spawn(async move {
            let (mut written, key) = (0, flag(&format!("f{}", writer % 4)));
            for round in 0..10 {
                let changed = if writer % 8 == 0 {
                    let patch = FlagPatch {
                        client_visible: Some(round % 2 == 0),
                        ..FlagPatch::default()
                    };
                    done(
                        store
                            .update_flag(&mutation, &project("shop"), &key, patch, "", respond)
                            .await,
                    )
                    .revisions
                    .len()
                } else {
                    let at = environment(if writer % 2 == 0 { "dev" } else { "prod" });
                    let toggles = [Toggle {
                        flag: key.clone(),
                        enabled: round % 2 == 0,
                    }];
                    done(store.toggle_flags(&mutation, shop(&at), &toggles, respond).await)
                        .revisions
                        .len()
                };
                written += changed;
            }
            written
        })
    });
    let written: usize = futures_util::future::join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    let mut logged = 0;
    for at in ["dev", "prod"] {
        let revisions = verify_log(&world, at).await;
        assert_eq!(
            revisions,
            (1..=i64::try_from(revisions.len()).unwrap()).collect::<Vec<_>>()
        );
        // The first revision and four new flags were written before.
        logged += revisions.len() - 5;
    }
    assert_eq!(logged, written);
    let verdict = world.store.verify_chain(&chain(&world).await, None).await.unwrap();
    assert!(matches!(verdict, Verdict::Intact(_)), "{verdict:?}");

    // The rows are what the log says.
    let differing = "flag_configurations c join flags f on f.id = c.flag_id
        where c.form is distinct from (
            select i.form from change_items i where i.environment_id = c.environment_id and i.kind = 'flag_configuration'
                and i.key = f.key order by i.revision desc limit 1)";
    assert_eq!(world.count(differing).await, 0);
}

#[tokio::test]
async fn without_its_audit_entry_nothing_is_written() {
    let world = world().await;
    world.flag("f").await;
    let break_audit = "create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create trigger refuse before insert on audit_entries for each row execute function refuse()";
    world.sql.batch_execute(break_audit).await.unwrap();
    let (sizes, access) = (world.log_sizes().await, world.access_revision().await);
    assert!(matches!(toggle(&world, true).await, Err(Error::Bug(_))));
    let shop_key = project("shop");
    let create = world
        .store
        .create_flag(&world.by_owner(), &shop_key, bool_flag("g"), respond)
        .await;
    assert!(matches!(refused(create), Error::Bug(_)));
    let archive = world
        .store
        .archive_flag(&world.by_owner(), &shop_key, &flag("f"), "", respond)
        .await;
    assert!(matches!(refused(archive), Error::Bug(_)));
    let dev = environment("dev");
    let delete = world
        .store
        .delete_environment(&world.by_owner(), shop(&dev), "", respond)
        .await;
    assert!(matches!(refused(delete), Error::Bug(_)));
    let delete = world
        .store
        .delete_project(&world.by_owner(), &shop_key, "", respond)
        .await;
    assert!(matches!(refused(delete), Error::Bug(_)));

    assert_eq!(
        (world.log_sizes().await, world.access_revision().await),
        (sizes, access)
    );
    assert_eq!((world.revision("dev").await, world.revision("prod").await), (2, 2));
    assert_eq!(
        (world.count("flags").await, world.count("flag_configurations").await),
        (1, 0)
    );
    world
        .sql
        .batch_execute("drop trigger refuse on audit_entries")
        .await
        .unwrap();
    // What was rolled back is given back.
    toggle(&world, true).await.unwrap();
    assert_eq!(verify_log(&world, "dev").await, [1, 2, 3]);
}

#[tokio::test]
async fn audit_entries_say_who_did_what_to_what() {
    let world = world().await;
    world.flag("f").await;
    toggle(&world, true).await.unwrap();
    let query =
        "select actor, actor_name, credential, entity, entity_key, project, environment, before, after, peer, reason
        from audit_entries where action = 'flag_configuration.toggle'";
    let row = world.sql.query_one(query, &[]).await.unwrap();
    let text = |column: &str| row.get::<_, Option<String>>(column).unwrap_or_default();
    assert_eq!(text("actor"), format!("user:{}", world.owner));
    let columns = [
        "actor_name",
        "credential",
        "entity",
        "entity_key",
        "project",
        "environment",
        "peer",
        "reason",
    ];
    assert_eq!(
        columns.map(text),
        [
            "someone@example.com",
            "token-1",
            "flag_configuration",
            "f",
            "shop",
            "dev",
            "192.0.2.1",
            "because"
        ]
    );
    assert_eq!(row.get::<_, Option<String>>("before"), None);
    assert_eq!(text("after"), r#"{"flag":"f","enabled":true}"#);
    let secrets = world
        .count("audit_entries where coalesce(before, '') || coalesce(after, '') ~ 'secret|0707|hash'")
        .await;
    assert_eq!(secrets, 0);
}
