//! That nobody but admins and owners alters an answer of a protected environment: every mutation of flags and segments, and what
//! concerns the environment itself, each tried by a developer, a person and a machine, and then by an admin.
//!
//! A mutation of these services without a row fails.

mod rows;

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;
use tonic::{Code, Status};

use self::rows::Developers::{Always, InOtherProjects, InOthers, Never};
use self::rows::{ROWS, Row, State, Thing, configure, flag, variant};
use crate::app::App;
use crate::people::{Person, service_token};
use crate::raw;
use crate::refusals::refused;
use crate::words::for_segment;

/// A service with the project `vault`, whose `prod` is protected and whose `dev` is not, and `shop` with its `dev`.
struct World {
    app: App,
    admin: Person,
    developer: Person,
    sql: tokio_postgres::Client,
    /// All but who logged in and what was used.
    tables: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let app = App::start().await;
        app.shop().await;
        app.project("vault").await;
        app.environment("vault", "dev").await;
        let environment = pb::Environment {
            project: "vault".into(),
            key: "prod".into(),
            protected: true,
            ..Default::default()
        };
        let request = pb::CreateEnvironmentRequest {
            environment: Some(environment),
            ..Default::default()
        };
        app.environments().create_environment(request).await.unwrap();
        let admin = Person::member(&app, "admin@example.com", "vault", Admin).await;
        let developer = Person::member(&app, "developer@example.com", "vault", Developer).await;
        admin.becomes(&app, "shop", Admin).await;
        developer.becomes(&app, "shop", Developer).await;
        let sql = app.database.client().await;
        let tables = "select tablename::text from pg_tables where schemaname = 'public'
            and tablename not in ('sessions', 'credential_uses', 'audit_heads') order by 1";
        let tables = sql.query(tables, &[]).await.unwrap();
        Self {
            tables: tables.iter().map(|row| row.get(0)).collect(),
            sql,
            app,
            admin,
            developer,
        }
    }

    async fn call(&self, method: &str, credential: &str, request: &[u8]) -> Result<(), Status> {
        let path = format!("/halyard.admin.v1.{method}");
        raw::call(&self.app.channel, &path, Some(credential), request.to_vec())
            .await
            .map(drop)
    }

    /// As a row wants it, by the instance's administrator.
    async fn thing(&self, n: usize, state: State, (project, environment): (&'static str, &'static str)) -> Thing {
        let mut it = Thing {
            project,
            environment,
            flag: format!("f{n}-{environment}"),
            off_at: 0,
            segment: format!("s{n}-{environment}"),
            upload: String::new(),
            key: self.key(project, environment).await,
        };
        let created = pb::CreateSegmentRequest {
            segment: Some(pb::Segment {
                project: project.into(),
                key: it.segment.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.app.segments().create_segment(created).await.unwrap();
        it.upload = self.upload(&it).await;
        let flag = flag(&it, |flag| {
            flag.variants = vec![variant("on", true), variant("off", false)];
        });
        let created = pb::CreateFlagRequest {
            flag,
            ..Default::default()
        };
        self.app.flags().create_flag(created).await.unwrap();
        for enabled in [false, true] {
            let rules = if state == State::Unasked {
                vec![]
            } else {
                vec![for_segment(&it.segment)]
            };
            let request = configure(&it, &[], |configuration| {
                (configuration.enabled, configuration.rules) = (enabled, rules);
                // What is not written is not there: an off flag is written too.
                configuration.salt.clone_from(&it.flag);
            });
            let request = pb::UpdateFlagConfigurationRequest {
                update_mask: None,
                ..pb::UpdateFlagConfigurationRequest::decode(&*request).unwrap()
            };
            let written = self.app.flags().update_flag_configuration(request).await.unwrap();
            if !enabled {
                it.off_at = written.into_inner().revisions[0].revision;
            }
        }
        if state == State::Archived {
            let request = pb::ArchiveFlagRequest {
                project: project.into(),
                flag: it.flag.clone(),
                ..Default::default()
            };
            self.app.flags().archive_flag(request).await.unwrap();
        }
        it
    }

    async fn key(&self, project: &str, environment: &str) -> String {
        let request = pb::CreateKeyRequest {
            project: project.into(),
            environment: environment.into(),
            kind: pb::KeyKind::Server.into(),
            ..Default::default()
        };
        let made = self.app.environments().create_key(request).await.unwrap().into_inner();
        made.key.unwrap().key.unwrap().id
    }

    async fn upload(&self, it: &Thing) -> String {
        // There may be only so many of a project at a time.
        let drop_others = "delete from segment_uploads";
        self.app
            .database
            .client()
            .await
            .batch_execute(drop_others)
            .await
            .unwrap();
        let request = pb::CreateSegmentUploadRequest {
            project: it.project.into(),
            environment: it.environment.into(),
            segment: it.segment.clone(),
        };
        let begun = self.app.segments().create_segment_upload(request).await.unwrap();
        let upload = begun.into_inner().upload;
        let piece = pb::UploadSegmentKeysRequest {
            project: it.project.into(),
            upload: upload.clone(),
            piece: 0,
            keys: vec!["ada".into()],
        };
        self.app.segments().upload_segment_keys(piece).await.unwrap();
        upload
    }

    /// Everything that is stored in these tables, but that somebody was denied.
    async fn stored(&self) -> String {
        let rows = |table: &String| {
            let denials = if table == "audit_entries" {
                "where action <> 'method.denied'"
            } else {
                ""
            };
            format!(
                "(select coalesce(string_agg(to_jsonb(t)::text, ' ' order by t::text), '') from {table} t {denials})"
            )
        };
        let everything: Vec<_> = self.tables.iter().map(rows).collect();
        let everything = format!("select {}", everything.join(" || "));
        self.sql.query_one(&everything, &[]).await.unwrap().get(0)
    }
}

#[test]
fn every_mutation_of_flags_and_segments_has_a_row() {
    let set = FileDescriptorSet::decode(halyard::pb::DESCRIPTORS).unwrap();
    let mut mutations = 0;
    for service in set.file.iter().flat_map(|file| &file.service) {
        if !matches!(service.name(), "FlagService" | "SegmentService") {
            continue;
        }
        for method in &service.method {
            let level = method
                .options
                .as_ref()
                .map(prost_types::MethodOptions::idempotency_level);
            if level == Some(IdempotencyLevel::NoSideEffects) {
                continue;
            }
            mutations += 1;
            let name = format!("{}/{}", service.name(), method.name());
            assert!(ROWS.iter().any(|row| row.method == name), "{name} has no row");
        }
    }
    assert!(mutations > 10, "{mutations}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_alter_what_a_protected_environment_answers() {
    let world = World::new().await;
    for (n, row) in ROWS.iter().enumerate() {
        for place in [("shop", "dev"), ("vault", "dev"), ("vault", "prod")] {
            try_out(&world, n, row, place).await;
        }
    }
}

async fn try_out(world: &World, n: usize, row: &Row, place: (&'static str, &'static str)) {
    let it = world.thing(n, row.state, place).await;
    let request = (row.request)(&it);
    let what = format!("{} {} in {place:?}", row.method, row.what);
    let allowed = match row.developers {
        Always => true,
        InOthers => place.1 != "prod",
        InOtherProjects => place.0 != "vault",
        Never => false,
    };
    let before = world.stored().await;
    if allowed {
        let done = world.call(row.method, &world.developer.token(), &request).await;
        assert!(done.is_ok(), "{what}: {done:?}");
        assert_ne!(world.stored().await, before, "{what} changed nothing");
        return;
    }
    let (_, machine) = service_token(&world.app, it.project, Developer).await;
    let before = world.stored().await;
    for developer in [world.developer.token(), machine] {
        let denied = world.call(row.method, &developer, &request).await;
        assert_eq!(
            denied.as_ref().err().map(Status::code),
            Some(Code::PermissionDenied),
            "{what}: {denied:?}"
        );
        refused(denied, Code::PermissionDenied);
        assert_eq!(world.stored().await, before, "{what} changed something");
    }
    let done = world.call(row.method, &world.admin.token(), &request).await;
    assert!(done.is_ok(), "{what}: {done:?}");
    assert_ne!(world.stored().await, before, "{what} changed nothing");
}
