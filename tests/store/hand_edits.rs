//! Rows edited by hand: what counts, what it becomes, and that it meets no write of ours unseen.

use halyard::domain::form;
use halyard::store::configurations::{FlagConfiguration, Toggle};
use halyard::store::{Error, Outcome, Written};
use tokio_postgres::Client;

use crate::journal::verify_log;
use crate::support::{cluster, eventually, within};
use crate::world::*;

/// A world with a flag `f`, which is on in `dev`.
async fn on() -> World {
    let world = world().await;
    world.flag("f").await;
    done(toggle(&world, "f", true).await);
    world
}

async fn toggle(world: &World, key: &str, enabled: bool) -> Result<Outcome<Vec<FlagConfiguration>>, Error> {
    let (dev, flag) = (environment("dev"), flag(key));
    let toggles = [Toggle { flag, enabled }];
    let mutation = world.by_owner();
    world.store.toggle_flags(&mutation, shop(&dev), &toggles, respond).await
}

impl World {
    async fn edit(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap();
    }

    async fn adopt(&self) -> usize {
        self.store.adopt_hand_edits().await.unwrap()
    }

    async fn notes(&self) -> i64 {
        self.count("hand_edits").await
    }

    /// Who made a revision of `dev`.
    async fn actor(&self, revision: u64) -> String {
        let query = "select c.actor from changes c join environments e on e.id = c.environment_id
            where e.key = 'dev' and c.revision = $1";
        let revision = i64::try_from(revision).unwrap();
        self.sql.query_one(query, &[&revision]).await.unwrap().get(0)
    }

    /// The newest form of an item in the log of `dev`; `None` if it was deleted.
    async fn logged(&self, kind: &str, key: &str) -> Option<String> {
        let query = "select i.form from change_items i join environments e on e.id = i.environment_id
            where e.key = 'dev' and i.kind = $1 and i.key = $2 order by i.revision desc limit 1";
        let row = self.sql.query_one(query, &[&kind, &key]).await.unwrap();
        row.get::<_, Option<&[u8]>>(0)
            .map(|form| String::from_utf8_lossy(form).into_owned())
    }

    /// Checks that every row says what the log says at the head, in every environment: form and version.
    async fn check_rows(&self) {
        let differing = "(
            select environment_id, kind, key, form, version from (
                select distinct on (environment_id, kind, key) environment_id, kind, key, form, version
                from change_items order by environment_id, kind, key, revision desc
            ) latest where form is not null
        ) l
        full join (
            select e.id as environment_id, 'flag_definition' as kind, f.key, f.form, f.form_version as version
            from environments e join flags f on f.project_id = e.project_id where f.archived_at is null
            union all
            select c.environment_id, 'flag_configuration', f.key, c.form, c.version
            from flag_configurations c join flags f on f.id = c.flag_id where f.archived_at is null
            union all
            select c.environment_id, 'segment_configuration', s.key, c.form, c.version
            from segment_configurations c join segments s on s.id = c.segment_id
            union all
            select c.environment_id, 'segment_keys', s.key || '/' || c.chunk, c.form, c.version
            from segment_key_chunks c join segments s on s.id = c.segment_id
            union all
            select x.environment_id, 'experiment', f.key || '/' || x.key, x.form, x.form_version
            from experiments x join flags f on f.id = x.flag_id where x.form is not null
        ) r using (environment_id, kind, key)
        where l.form is distinct from r.form or l.version is distinct from r.version";
        assert_eq!(self.count(differing).await, 0);
        assert_eq!(self.notes().await, 0);
        verify_log(self, "dev").await;
    }

    /// An edit that is to become one revision of `dev`.
    async fn edited(&self, sql: &str) -> u64 {
        let before = self.revision("dev").await;
        self.edit(sql).await;
        assert_ne!(self.notes().await, 0, "{sql}");
        assert_ne!(self.adopt().await, 0, "{sql}");
        let after = self.revision("dev").await;
        assert_eq!(after, before + 1, "{sql}");
        assert_eq!(self.actor(after).await, "database");
        self.check_rows().await;
        assert_eq!(self.adopt().await, 0);
        after
    }

    /// An edit that is to leave no trace.
    async fn untouched(&self, sql: &str) {
        let before = self.log_sizes().await;
        self.edit(sql).await;
        assert_eq!(self.adopt().await, 0, "{sql}");
        assert_eq!(self.log_sizes().await, before, "{sql}");
        self.check_rows().await;
    }
}

#[tokio::test]
async fn a_form_counts_and_its_columns_follow() {
    let world = on().await;
    world
        .edited(r#"update flag_configurations set form = '{"format":1,"enabled":false,"salt":"s"}'"#)
        .await;
    let row = world
        .sql
        .query_one("select enabled, salt from flag_configurations", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, &str>(1)), (false, "s"));
}

#[tokio::test]
async fn columns_count_beside_a_form_that_nobody_touched() {
    let world = on().await;
    world
        .edited(r#"update flag_configurations set enabled = false, default_serve = '{"variant": "off"}'"#)
        .await;
    let form = world.logged("flag_configuration", "f").await.unwrap();
    assert_eq!(form, r#"{"format":1,"enabled":false,"default":{"variant":"off"}}"#);
}

#[tokio::test]
async fn what_means_the_same_is_set_back_without_a_revision() {
    let world = on().await;
    for edit in [
        r#"update flag_configurations set form = '{ "format" : 1, "enabled" : true }'"#,
        "update flag_configurations set form = ''",
        "update flag_configurations set version = 99",
        "update flag_configurations set enabled = enabled",
        "update flags set form_version = 99",
        "update flag_variants set description = description",
        "begin; update flag_configurations set enabled = false; update flag_configurations set enabled = true; commit",
    ] {
        world.untouched(edit).await;
    }
}

#[tokio::test]
async fn what_alters_no_answer_is_not_looked_at() {
    let world = on().await;
    world
        .edit("update flags set name = 'another', tags = '{a}'; update flag_configurations set updated_at = now()")
        .await;
    world
        .edit("update segments set name = 'x'; update environments set name = 'x'; update projects set name = 'x'")
        .await;
    assert_eq!(world.notes().await, 0);
}

#[tokio::test]
async fn rows_may_come_and_go() {
    let world = on().await;
    world.flag("g").await;
    world
        .edited(
            "insert into flag_configurations (project_id, environment_id, flag_id, form, enabled, rules, version, updated_at)
             select e.project_id, e.id, f.id, '', true, '[]', 0, now()
             from environments e join flags f on f.key = 'g' where e.key = 'dev'",
        )
        .await;
    let form = world.logged("flag_configuration", "g").await.unwrap();
    assert_eq!(form, r#"{"format":1,"enabled":true}"#);
    world
        .edited("delete from flag_configurations where flag_id = (select id from flags where key = 'g')")
        .await;
    assert_eq!(world.logged("flag_configuration", "g").await, None);
    world.edited("delete from flags where key = 'f'").await;
    assert_eq!(world.logged("flag_definition", "f").await, None);
    assert_eq!(world.logged("flag_configuration", "f").await, None);
    world.edited("truncate flags cascade").await;
    assert_eq!(world.logged("flag_definition", "g").await, None);
}

#[tokio::test]
async fn a_definition_is_every_environments_and_one_entry() {
    let world = on().await;
    let (prod, entries) = (world.revision("prod").await, world.count("audit_entries").await);
    world.edited("update flags set client_visible = true").await;
    assert_eq!(world.revision("prod").await, prod + 1);
    assert_eq!(world.count("audit_entries").await, entries + 1);
    world
        .edited("update flag_variants set value = 'false', description = 'none' where key = 'on'")
        .await;
    let definition = form::read_definition(world.logged("flag_definition", "f").await.unwrap().as_bytes()).unwrap();
    assert!(definition.client_visible && definition.variants[0].description == "none");
    let flag = world.store.get_flag(&project("shop"), &flag("f")).await.unwrap();
    assert_eq!(flag.definition, definition);
}

#[tokio::test]
async fn a_flag_can_be_renamed_archived_and_restored() {
    let world = on().await;
    world.edited("update flags set key = 'renamed'").await;
    assert_eq!(world.logged("flag_definition", "f").await, None);
    let renamed = world.store.get_flag(&project("shop"), &flag("renamed")).await.unwrap();
    assert_eq!(renamed.definition.key, flag("renamed"));
    assert!(world.logged("flag_configuration", "renamed").await.is_some());
    world.edited("update flags set archived_at = now()").await;
    assert_eq!(world.logged("flag_configuration", "renamed").await, None);
    world.edited("update flags set archived_at = null").await;
    assert!(world.logged("flag_configuration", "renamed").await.is_some());
}

#[tokio::test]
async fn segments_and_their_lists_count_too() {
    let world = on().await;
    world.segment("beta").await;
    world
        .edited(
            "insert into segment_configurations
                (project_id, environment_id, segment_id, form, included, excluded, conditions, version, updated_at)
             select e.project_id, e.id, s.id, '', '{ada,bob}', '{}', '[]', 0, now()
             from environments e join segments s on s.key = 'beta' where e.key = 'dev'",
        )
        .await;
    let form = world.logged("segment_configuration", "beta").await.unwrap();
    assert_eq!(form, r#"{"format":1,"included":["ada","bob"]}"#);
    world
        .edited("update segment_configurations set excluded = '{bob}', key_list_chunks = 1, key_list_keys = 1")
        .await;
    world
        .edited(
            r#"insert into segment_key_chunks (environment_id, segment_id, chunk, form, version)
               select environment_id, segment_id, 0, '{"format":1,"keys":["eve"]}', 0 from segment_configurations"#,
        )
        .await;
    assert!(world.logged("segment_keys", "beta/0").await.is_some());
    world.edited("update segments set key = 'gamma'").await;
    assert_eq!(world.logged("segment_keys", "beta/0").await, None);
    assert!(world.logged("segment_keys", "gamma/0").await.is_some());
    world.edited("delete from segments").await;
    assert_eq!(world.logged("segment_keys", "gamma/0").await, None);
    let entries = world
        .sql
        .query(
            "select coalesce(before, '') || coalesce(after, '') from audit_entries",
            &[],
        )
        .await;
    assert!(
        entries
            .unwrap()
            .iter()
            .all(|row| !row.get::<_, &str>(0).contains("eve")),
        "a key of a list was audited"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_adopted_as_it_is_and_blocks_nothing() {
    let world = on().await;
    world.edited(r"update flag_configurations set form = '\x7b00ff'").await;
    world.edited("update flags set form = '{}'").await;
    // Columns cannot hold it: two variants of one key, and a zero byte.
    world
        .edited(
            r#"update flags set form = '{"format":1,"key":"f","type":"string","client_visible":true,"variants":[
                {"key":"a","value":{"string":"\\u0000"},"description":"\\u0000"},{"key":"a","value":{"string":""}}]}'"#,
        )
        .await;
    world.flag("g").await;
    done(toggle(&world, "g", true).await);
    // A damaged row does not come back by itself, only when somebody asks for it.
    world
        .edited("update flags set archived_at = now() where key = 'f'")
        .await;
    world
        .edited("update flags set archived_at = null, form = '' where key = 'f'")
        .await;
    let damaged = world.logged("flag_configuration", "f").await.unwrap();
    assert!(form::read_configuration(damaged.as_bytes()).is_err());
    world
        .edited("update flag_configurations set form = '' where flag_id = (select id from flags where key = 'f')")
        .await;
    done(toggle(&world, "f", false).await);
    world.check_rows().await;
}

#[tokio::test]
async fn a_write_of_ours_writes_down_first_what_was_edited() {
    let world = on().await;
    world.edit("update flag_configurations set salt = 'by hand'").await;
    let before = world.revision("dev").await;
    let Written { entity, revisions, .. } = done(toggle(&world, "f", false).await);
    assert_eq!(entity[0].configuration.salt.as_deref(), Some("by hand"));
    assert_eq!(revisions[0].revision, before + 2);
    assert_eq!(world.actor(before + 1).await, "database");
    assert_eq!(world.actor(before + 2).await, format!("user:{}", world.owner));
    world.check_rows().await;
    assert_eq!(world.adopt().await, 0);
}

#[tokio::test]
async fn a_refused_write_leaves_what_was_edited_to_the_next() {
    let world = on().await;
    world.edit("update flag_configurations set salt = 'by hand'").await;
    let before = world.log_sizes().await;
    let unknown = toggle(&world, "unknown", true).await;
    assert!(matches!(unknown, Err(Error::Invalid(_))));
    assert_eq!(world.log_sizes().await, before);
    assert_eq!(world.adopt().await, 1);
    world.check_rows().await;
}

/// Waits until so many backends wait for locks that others hold.
async fn waiting(sql: &Client, count: i64) {
    let query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("a wait for a lock", async || {
        let waiting: i64 = sql.query_one(query, &[]).await.unwrap().get(0);
        (waiting >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_edit_that_is_committed_under_a_write_is_not_overwritten() {
    let world = on().await;
    world.flag("g").await;
    let hand = cluster::client(&world.config).await;
    hand.batch_execute("begin; update flag_configurations set salt = 'by hand'")
        .await
        .unwrap();
    // Another flag's write is not in the way.
    within("another flag", async { done(toggle(&world, "g", true).await) }).await;
    let meeting = async {
        waiting(&world.sql, 1).await;
        hand.batch_execute("commit").await.unwrap();
    };
    let (toggled, ()) = tokio::join!(toggle(&world, "f", false), meeting);
    assert!(matches!(toggled, Err(Error::HandEdited)), "{toggled:?}");
    let again = done(toggle(&world, "f", false).await);
    assert_eq!(again.entity[0].configuration.salt.as_deref(), Some("by hand"));
    world.check_rows().await;
}

#[tokio::test]
async fn an_edit_that_waited_for_a_write_comes_after_it() {
    let world = on().await;
    let (hand, holder) = (
        cluster::client(&world.config).await,
        cluster::client(&world.config).await,
    );
    // A write stops where it has changed the row, before it is journalled.
    holder
        .batch_execute("begin; lock table audit_entries in share mode")
        .await
        .unwrap();
    let meeting = async {
        waiting(&world.sql, 1).await;
        let release = async {
            waiting(&world.sql, 2).await;
            holder.batch_execute("rollback").await.unwrap();
        };
        let edit = hand.batch_execute("update flag_configurations set salt = 'by hand'");
        tokio::join!(edit, release).0.unwrap();
    };
    let (toggled, ()) = tokio::join!(toggle(&world, "f", false), meeting);
    drop(done(toggled));
    world.adopt().await;
    let form = world.logged("flag_configuration", "f").await.unwrap();
    assert_eq!(form, r#"{"format":1,"enabled":false,"salt":"by hand"}"#);
    world.check_rows().await;
}

#[tokio::test]
async fn replicas_that_look_at_once_make_one_revision() {
    let world = on().await;
    let before = world.revision("dev").await;
    world.edit("update flag_configurations set salt = 'by hand'").await;
    let adopted = futures_util::future::join_all((0..8).map(|_| world.adopt())).await;
    assert_eq!(adopted.iter().sum::<usize>(), 1, "{adopted:?}");
    assert_eq!(world.revision("dev").await, before + 1);
    world.check_rows().await;
}

#[tokio::test]
async fn whoever_may_edit_a_row_needs_no_other_right() {
    let world = on().await;
    let role = format!("hand_{}", uuid::Uuid::new_v4().simple());
    world
        .edit(&format!(
            "create role {role} login; grant select, update on flag_configurations to {role};
             create schema {role} authorization {role};
             create table {role}.hand_edits (); alter table {role}.hand_edits owner to {role}"
        ))
        .await;
    world
        .edit(&format!(
            "set session authorization {role}; set search_path = {role}, public; set application_name = 'psql';
             update public.flag_configurations set salt = 'by hand'; reset session authorization; reset search_path"
        ))
        .await;
    assert_eq!(world.adopt().await, 1);
    let last =
        "select actor, actor_name, reason from audit_entries where chain <> 'instance' order by sequence desc limit 1";
    let row = world.sql.query_one(last, &[]).await.unwrap();
    let told: [&str; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(told[..2], ["database", role.as_str()]);
    assert!(
        told[2].starts_with(&format!("edited in the database by {role} (psql) at 2")),
        "{}",
        told[2]
    );
    world.edit(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn what_is_restored_or_deleted_as_a_whole_leaves_no_notes() {
    let world = on().await;
    world
        .edit("begin; set local session_replication_role = replica; update flag_configurations set version = version; commit")
        .await;
    world
        .edit("begin; set local halyard.journal = 'on'; update flag_configurations set version = version; commit")
        .await;
    // What one transaction of a connection says does not hold for the next.
    world
        .edit("begin; set local halyard.journal = 'on'; rollback; update flag_configurations set version = version")
        .await;
    assert_eq!(world.notes().await, 1);
    world.adopt().await;
    world.edit("delete from environments where key = 'prod'").await;
    world.edit("delete from projects").await;
    world.adopt().await;
    assert_eq!(world.notes().await, 0);
}

#[tokio::test]
async fn many_edits_at_once_are_one_revision() {
    let world = on().await;
    for n in 0..200 {
        world.flag(&format!("f{n}")).await;
    }
    let before = world.revision("dev").await;
    world.edit("update flags set client_visible = true").await;
    world.edit("update flag_configurations set enabled = false").await;
    world.adopt().await;
    assert_eq!(world.revision("dev").await, before + 1);
    assert_eq!(world.items("dev", before + 1).await.len(), 202);
    world.check_rows().await;
}
