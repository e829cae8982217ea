//! A store that tests write to by plain SQL, as a replica would.

use deadpool_postgres::{Manager, Pool};
use halyard::domain::change::{Digest, EnvironmentId, ItemChange, digest};
use halyard::domain::form::{ItemId, Kind};
use halyard::domain::segment::chunk_item;
use tokio_postgres::{Client, NoTls};

use crate::cluster::Cluster;

/// A store with one project and one flag, and a connection that writes to it.
pub struct World {
    pub cluster: Cluster,
    pub client: Client,
}

impl World {
    pub async fn new() -> Self {
        let cluster = Cluster::start().await;
        let client = cluster.client().await;
        halyard::store::migrate::run(&cluster.config()).await.unwrap();
        // What this connection does is journalled, as a replica's writes are: it edits nothing by hand.
        client.batch_execute("set halyard.journal = 'on'").await.unwrap();
        client
            .batch_execute(
                "insert into projects (key, name, description, created_at, updated_at) values ('shop', '', '', now(), now());
                 insert into flags (project_id, key, name, description, tags, owner, value_type, client_visible, form,
                     form_version, created_at, updated_at)
                 values (1, 'flag', '', '', '{}', '', 'bool', true, '{}', 1, now(), now())",
            )
            .await
            .unwrap();
        Self { cluster, client }
    }

    pub fn pool(&self) -> Pool {
        pool_of(self.cluster.config())
    }

    /// Connects again, after the server was away.
    pub async fn reconnect(&mut self) {
        self.client = self.cluster.client().await;
    }

    /// Makes an environment whose revision 1 holds the definition of the flag.
    pub async fn environment(&mut self, key: &str) -> EnvironmentId {
        let sql = "
            insert into environments (project_id, key, name, description, protected, created_at, updated_at)
            values (1, $1, '', '', false, now(), now()) returning id";
        let id: i64 = self.client.query_one(sql, &[&key]).await.unwrap().get(0);
        let sql =
            "insert into environment_heads (environment_id, revision, digest, committed_at) values ($1, 0, $2, now())";
        self.client.execute(sql, &[&id, &[0_u8; 32].as_slice()]).await.unwrap();
        self.change_access().await;
        self.append(EnvironmentId(id), Kind::FlagDefinition, 1, b"{}").await;
        EnvironmentId(id)
    }

    /// A new revision of the access head.
    pub async fn change_access(&self) {
        self.client
            .execute("update access_head set revision = revision + 1", &[])
            .await
            .unwrap();
    }

    /// Writes the flag's configuration, in one transaction. Returns the new revision.
    pub async fn write(&mut self, environment: EnvironmentId, form: &str) -> u64 {
        let sql = "
            insert into flag_configurations (project_id, environment_id, flag_id, enabled, rules, form, version, updated_at)
            values (1, $1, 1, true, '[]', $2, 1, now())
            on conflict (environment_id, flag_id)
            do update set form = excluded.form, version = flag_configurations.version + 1
            returning version";
        self.client.batch_execute("begin").await.unwrap();
        let row = self
            .client
            .query_one(sql, &[&environment.0, &form.as_bytes()])
            .await
            .unwrap();
        let version = u64::try_from(row.get::<_, i64>(0)).unwrap();
        let revision = self
            .append(environment, Kind::FlagConfiguration, version, form.as_bytes())
            .await;
        self.client.batch_execute("commit").await.unwrap();
        revision
    }

    /// Writes a segment with a list of so many chunks, as one revision in one transaction. Returns the new revision.
    pub async fn write_list(&mut self, environment: EnvironmentId, chunks: u32, chunk_bytes: usize) -> u64 {
        let sql = "
            with made as (
                insert into segments (project_id, key, name, description, created_at, updated_at)
                values (1, 'beta', '', '', now(), now()) returning id
            )
            insert into segment_configurations (
                project_id, environment_id, segment_id, form, included, excluded, conditions, version, updated_at)
            select 1, $1, id, '{}', '{}', '{}', '[]', 1, now() from made";
        self.client.batch_execute("begin").await.unwrap();
        self.client.execute(sql, &[&environment.0]).await.unwrap();
        let sql = "
            insert into segment_key_chunks (environment_id, segment_id, chunk, form, version)
            select $1, id, $2, $3, 1 from segments";
        let mut items = vec![(item(Kind::SegmentConfiguration, "beta"), b"{}".to_vec())];
        for chunk in 0..chunks {
            // Bytes that do not compress.
            let form: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(chunk_bytes).collect();
            let number = i32::try_from(chunk).unwrap();
            self.client
                .execute(sql, &[&environment.0, &number, &form])
                .await
                .unwrap();
            items.push((item(Kind::SegmentKeys, &chunk_item("beta", chunk)), form));
        }
        let revision = self.append_all(environment, 1, &items).await;
        self.client.batch_execute("commit").await.unwrap();
        revision
    }

    async fn append(&self, environment: EnvironmentId, kind: Kind, version: u64, form: &[u8]) -> u64 {
        self.append_all(environment, version, &[(item(kind, "flag"), form.to_vec())])
            .await
    }

    async fn append_all(&self, environment: EnvironmentId, version: u64, items: &[(ItemId, Vec<u8>)]) -> u64 {
        let sql = "select revision, digest from environment_heads where environment_id = $1 for update";
        let row = self.client.query_one(sql, &[&environment.0]).await.unwrap();
        let revision = row.get::<_, i64>(0) + 1;
        let previous = Digest::from_slice(row.get(1)).unwrap();
        let changes: Vec<_> = items
            .iter()
            .map(|(id, form)| ItemChange {
                id,
                version,
                form: Some(form),
            })
            .collect();
        let digest = digest(previous, u64::try_from(revision).unwrap(), &changes).0.to_vec();
        let sql = "
            with head as (
                update environment_heads
                set revision = $2, digest = $4, committed_at = now(), mod_xid = pg_current_xact_id()
                where environment_id = $1
            ), change as (
                insert into changes (environment_id, revision, previous_digest, digest, committed_at, actor)
                values ($1, $2, $3, $4, now(), 'test')
            )
            insert into change_items (environment_id, revision, kind, key, version, form)
            select $1, $2, item.kind, item.key, $5, item.form
            from unnest($6::text[], $7::text[], $8::bytea[]) as item (kind, key, form)";
        let (previous, version) = (previous.0.to_vec(), i64::try_from(version).unwrap());
        let kinds: Vec<_> = items.iter().map(|(id, _)| id.kind.name()).collect();
        let keys: Vec<_> = items.iter().map(|(id, _)| &*id.key).collect();
        let forms: Vec<_> = items.iter().map(|(_, form)| form.as_slice()).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
            &environment.0,
            &revision,
            &previous,
            &digest,
            &version,
            &kinds,
            &keys,
            &forms,
        ];
        self.client.execute(sql, &parameters).await.unwrap();
        u64::try_from(revision).unwrap()
    }

    /// Sets an environment back to an earlier revision, as an older copy of the database would.
    pub async fn set_back(&self, environment: EnvironmentId, revision: u64) {
        let sql = format!(
            "begin;
             delete from change_items where environment_id = {id} and revision > {revision};
             delete from changes where environment_id = {id} and revision > {revision};
             update environment_heads head set revision = change.revision, digest = change.digest
             from changes change
             where head.environment_id = {id} and change.environment_id = {id} and change.revision = {revision};
             commit",
            id = environment.0
        );
        self.client.batch_execute(&sql).await.unwrap();
    }

    /// Tells replicas of a change.
    pub async fn notify(&self, environment: EnvironmentId, revision: u64) {
        let payload = format!("{} {revision}", environment.0);
        self.client
            .execute("select pg_notify('halyard', $1)", &[&payload])
            .await
            .unwrap();
    }

    pub async fn generation(&self) -> i64 {
        self.client
            .query_one("select generation from store_identity", &[])
            .await
            .unwrap()
            .get(0)
    }

    /// The processes that serve listeners.
    pub async fn listeners(&self) -> Vec<i32> {
        let sql = "select pid from pg_stat_activity where application_name = 'halyard listener'";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// A pool as a feed has one.
pub fn pool_of(mut config: tokio_postgres::Config) -> Pool {
    config.application_name("follower");
    let manager = Manager::new(config, NoTls);
    Pool::builder(manager).max_size(6).build().unwrap()
}

fn item(kind: Kind, key: &str) -> ItemId {
    ItemId { kind, key: key.into() }
}
