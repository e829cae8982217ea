//! A small world to test in, and short words for it.

use halyard::domain::access::Directory;
use halyard::domain::access::{KeyKind, Role};
use halyard::domain::change::Digest;
use halyard::domain::flag::{Definition, Metadata, Variant};
use halyard::domain::key;
use halyard::domain::segment;
use halyard::domain::value::{Value, ValueType};
use halyard::store::environments::{Address, Environment, NewEnvironment};
use halyard::store::feed::{self, Feed, Hints};
use halyard::store::flags::{Flag, NewFlag};
use halyard::store::keys::NewKey;
use halyard::store::projects::NewProject;
use halyard::store::segments::{NewSegment, Segment};
use halyard::store::{Actor, Caller, Error, Mutation, Outcome, PageRequest, Settings, Store, Written};
use tokio_postgres::{Client, Config};
use uuid::Uuid;

use halyard::watch::source::Event;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::cluster;
use crate::support::within;

pub struct World {
    pub store: Store,
    /// A connection around the store, to look and to meddle.
    pub sql: Client,
    pub config: Config,
    /// The owner of `shop`.
    pub owner: Uuid,
}

/// A project `shop` with an environment `dev` and a protected one `prod`, and no flags.
pub async fn world() -> World {
    let world = empty().await;
    world.project("shop").await;
    world.environment("shop", "dev", false).await;
    world.environment("shop", "prod", true).await;
    world
}

/// A user and nothing else.
pub async fn empty() -> World {
    let config = cluster::database().await.config;
    let mut settings = Settings::new(config.clone());
    settings.pool_size = 16;
    let store = Store::connect(&settings, Hints::new()).await.unwrap();
    let sql = cluster::client(&config).await;
    let mut world = World {
        store,
        sql,
        config,
        owner: Uuid::nil(),
    };
    world.owner = world.user("owner@example.com", None).await;
    world
}

impl World {
    pub async fn user(&self, email: &str, instance_role: Option<&str>) -> Uuid {
        let id = Uuid::new_v4();
        // Administrators whom nothing lets in count for none.
        let insert = "insert into users (id, email, email_normalized, instance_role, password_hash)
            values ($1, $2, $2, $3, case when $3::text is not null then 'hash' end)";
        self.sql.execute(insert, &[&id, &email, &instance_role]).await.unwrap();
        id
    }

    /// A new user with a role in `shop`.
    pub async fn member(&self, role: Role) -> Uuid {
        let id = self.user(&format!("{}@example.com", role.name()), None).await;
        let insert =
            "insert into members (project_id, user_id, role) select id, $1, $2 from projects where key = 'shop'";
        self.sql.execute(insert, &[&id, &role.name()]).await.unwrap();
        id
    }

    /// What replicas are told of who may do what.
    pub async fn directory(&self) -> Arc<Directory> {
        let cancel = CancellationToken::new();
        let _cancelled = cancel.clone().drop_guard();
        let (pool, options) = (self.store.pool().clone(), feed::Options::default());
        let spawn = |_, task| drop(tokio::spawn(task));
        let (_feed, mut events) = Feed::start(self.config.clone(), pool, Hints::new(), options, cancel, spawn);
        loop {
            if let Event::Access(directory) = within("the directory", events.recv()).await.expect("the feed runs") {
                return directory;
            }
        }
    }

    pub fn by_owner(&self) -> Mutation {
        by(self.owner)
    }

    pub async fn project(&self, key: &str) {
        let new = NewProject {
            key: project(key),
            name: key.to_owned(),
            description: String::new(),
        };
        done(self.store.create_project(&self.by_owner(), new, respond).await);
    }

    pub async fn environment(&self, in_project: &str, key: &str, protected: bool) -> Environment {
        let project = project(in_project);
        let new = new_environment(key, protected);
        let outcome = self
            .store
            .create_environment(&self.by_owner(), &project, new, respond)
            .await;
        done(outcome).entity.environment
    }

    /// Creates a bool flag in `shop`.
    pub async fn flag(&self, key: &str) -> Written<Flag> {
        let outcome = self
            .store
            .create_flag(&self.by_owner(), &project("shop"), bool_flag(key), respond)
            .await;
        done(outcome)
    }

    /// Creates a segment in `shop`.
    pub async fn segment(&self, key: &str) -> Written<Segment> {
        let outcome = self
            .store
            .create_segment(&self.by_owner(), &project("shop"), new_segment(key), respond)
            .await;
        done(outcome)
    }

    pub async fn count(&self, query: &str) -> i64 {
        let query = format!("select count(*) from {query}");
        self.sql.query_one(&query, &[]).await.unwrap().get(0)
    }

    pub async fn revision(&self, environment: &str) -> u64 {
        self.store
            .get_environment(shop(&self::environment(environment)))
            .await
            .unwrap()
            .revision
    }

    pub async fn access_revision(&self) -> i64 {
        self.sql
            .query_one("select revision from access_head", &[])
            .await
            .unwrap()
            .get(0)
    }

    /// How much is in the logs, to see that nothing was added.
    pub async fn log_sizes(&self) -> (i64, i64, i64) {
        (
            self.count("changes").await,
            self.count("change_items").await,
            self.count("audit_entries").await,
        )
    }

    /// The items of a revision: kind, key, version, and whether there is a form.
    pub async fn items(&self, environment: &str, revision: u64) -> Vec<(String, String, i64, bool)> {
        let id = self
            .store
            .get_environment(shop(&self::environment(environment)))
            .await
            .unwrap()
            .id
            .0;
        let query = "select kind, key, version, form is not null from change_items
            where environment_id = $1 and revision = $2 order by kind, key";
        let rows = self
            .sql
            .query(query, &[&id, &i64::try_from(revision).unwrap()])
            .await
            .unwrap();
        rows.iter()
            .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
            .collect()
    }
}

pub fn by(user: Uuid) -> Mutation {
    Mutation {
        caller: Caller {
            actor: Actor::User(user),
            name: "someone@example.com".into(),
            credential: "token-1".into(),
            peer: "192.0.2.1".into(),
            reason: "because".into(),
        },
        method: "test/Method",
        request: None,
        validate_only: false,
    }
}

pub fn respond<T>(_: &T) -> Vec<u8> {
    b"response".to_vec()
}

/// What was written, by a mutation that was not replayed.
pub fn done<T>(outcome: Result<Outcome<T>, Error>) -> Written<T> {
    match outcome.expect("the mutation succeeds") {
        Outcome::Done(written) => written,
        Outcome::Replayed(_) => panic!("replayed"),
    }
}

/// What a mutation was refused with.
pub fn refused<T>(outcome: Result<Outcome<T>, Error>) -> Error {
    match outcome {
        Err(error) => error,
        Ok(_) => panic!("the mutation should have been refused"),
    }
}

/// The paths of an invalid request's violations.
pub fn fields(error: &Error) -> Vec<&str> {
    let Error::Invalid(violations) = error else {
        panic!("should be invalid: {error:?}");
    };
    let fields = violations.iter().map(|violation| violation.field.as_str());
    fields.collect()
}

pub fn project(key: &str) -> key::Project {
    key::Project::new(key).unwrap()
}

pub fn environment(key: &str) -> key::Environment {
    key::Environment::new(key).unwrap()
}

pub fn flag(key: &str) -> key::Flag {
    key::Flag::new(key).unwrap()
}

pub fn segment(key: &str) -> key::Segment {
    key::Segment::new(key).unwrap()
}

pub fn new_segment(key: &str) -> NewSegment {
    NewSegment {
        key: segment(key),
        metadata: segment::Metadata {
            name: key.to_owned(),
            description: String::new(),
        },
    }
}

pub fn variant(key: &str) -> key::Variant {
    key::Variant::new(key).unwrap()
}

/// An environment of `shop`.
pub fn shop(environment: &key::Environment) -> Address<'_> {
    static SHOP: std::sync::OnceLock<key::Project> = std::sync::OnceLock::new();
    let project = SHOP.get_or_init(|| project("shop"));
    Address { project, environment }
}

pub fn new_environment(key: &str, protected: bool) -> NewEnvironment {
    NewEnvironment {
        key: environment(key),
        name: key.to_owned(),
        description: String::new(),
        protected,
        keys: [new_key(KeyKind::Server), new_key(KeyKind::Client)],
    }
}

pub fn new_key(kind: KeyKind) -> NewKey {
    NewKey {
        id: Uuid::new_v4().simple().to_string(),
        kind,
        name: String::new(),
        secret_hash: Digest([7; 32]),
        expires_at: None,
    }
}

pub fn bool_flag(key: &str) -> NewFlag {
    let variants = [("on", true), ("off", false)].map(|(key, value)| Variant {
        key: variant(key),
        value: Value::Bool(value),
        description: String::new(),
    });
    NewFlag {
        definition: Definition {
            key: flag(key),
            value_type: ValueType::Bool,
            variants: variants.into(),
            off_variant: Some(variant("off")),
            default_variant: Some(variant("on")),
            client_visible: false,
        },
        metadata: Metadata {
            name: key.to_owned(),
            ..Metadata::default()
        },
    }
}

pub fn page(size: usize, after: &str) -> PageRequest {
    PageRequest {
        size,
        after: after.to_owned(),
    }
}
