//! That nobody but admins and owners alters an answer of a protected environment: every mutation of flags and segments, and what
//! concerns the environment itself, each tried by a developer, a person and a machine, and then by an admin.
//!
//! A mutation of these services without a row fails.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer};
use halyard::pb::evaluation::v1 as evaluation;
use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{FieldMask, FileDescriptorSet};
use tonic::{Code, Status};

use crate::app::{App, bool_flag};
use crate::people::{Person, service_token};
use crate::raw;
use crate::refusals::refused;
use crate::words::{for_segment, only};

/// What a developer may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Developers {
    /// It alters no answer.
    Always,
    /// In an environment that is not protected.
    InOthers,
    /// In a project that has no protected environment: it concerns all of them.
    InOtherProjects,
    /// Whatever is protected.
    Never,
}

/// What a row is tried on: its own in each place, since the rows change it.
struct Thing {
    project: &'static str,
    environment: &'static str,
    /// A flag that is on, and was off before.
    flag: String,
    /// When it was off.
    off_at: u64,
    /// A segment that a rule of that flag asks.
    segment: String,
    /// An upload of that segment's keys, of one piece.
    upload: String,
    key: String,
}

/// What a thing is like before it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    /// The flag is archived.
    Archived,
    /// Nothing asks the segment.
    Unasked,
}

use Developers::{Always, InOtherProjects, InOthers, Never};
use State::{Archived, Plain, Unasked};

struct Row {
    method: &'static str,
    what: &'static str,
    developers: Developers,
    state: State,
    request: fn(&Thing) -> Vec<u8>,
}

const fn row(
    method: &'static str,
    what: &'static str,
    developers: Developers,
    state: State,
    request: fn(&Thing) -> Vec<u8>,
) -> Row {
    Row {
        method,
        what,
        developers,
        state,
        request,
    }
}

/// The table.
const ROWS: &[Row] = &[
    // Off everywhere, it is known now.
    row("FlagService/CreateFlag", "", InOtherProjects, Plain, |it| {
        let flag = flag(it, |flag| flag.key = format!("new-{}", it.flag));
        pb::CreateFlagRequest {
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/UpdateFlag", "name", Always, Plain, |it| {
        update(it, &["name"], |flag| flag.name = "Other".into())
    }),
    row("FlagService/UpdateFlag", "words", Always, Plain, |it| {
        let fields = ["description", "tags", "owner", "lifecycle", "expected_removal_time"];
        update(it, &fields, |flag| {
            flag.description = "other".into();
            flag.tags = vec!["other".into()];
            flag.owner = "others".into();
            flag.lifecycle = pb::Lifecycle::Temporary.into();
            flag.expected_removal_time = Some(prost_types::Timestamp {
                seconds: 4_000_000_000,
                nanos: 0,
            });
        })
    }),
    row("FlagService/UpdateFlag", "variants", InOtherProjects, Plain, |it| {
        update(it, &["variants"], |flag| {
            flag.variants = ["on", "off", "more"].map(|key| variant(key, key != "off")).into();
        })
    }),
    row("FlagService/UpdateFlag", "off variant", InOtherProjects, Plain, |it| {
        update(it, &["off_variant"], |flag| flag.off_variant = "on".into())
    }),
    row(
        "FlagService/UpdateFlag",
        "default variant",
        InOtherProjects,
        Plain,
        |it| update(it, &["default_variant"], |flag| flag.default_variant = "off".into()),
    ),
    row(
        "FlagService/UpdateFlag",
        "client visibility",
        InOtherProjects,
        Plain,
        |it| update(it, &["client_visible"], |flag| flag.client_visible = false),
    ),
    row(
        "FlagService/UpdateFlag",
        "client visibility among words",
        InOtherProjects,
        Plain,
        |it| {
            update(it, &["name", "client_visible"], |flag| {
                flag.name = "Other".into();
                flag.client_visible = false;
            })
        },
    ),
    row("FlagService/ArchiveFlag", "", InOtherProjects, Plain, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::ArchiveFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/RestoreFlag", "", InOtherProjects, Archived, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::RestoreFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/DeleteFlag", "", Never, Plain, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::DeleteFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/DeleteFlag", "an archived one", Never, Archived, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::DeleteFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/UpdateFlagConfiguration", "off", InOthers, Plain, |it| {
        configure(it, &["enabled"], |configuration| configuration.enabled = false)
    }),
    row("FlagService/UpdateFlagConfiguration", "rules", InOthers, Plain, |it| {
        configure(it, &["rules"], |configuration| configuration.rules = Vec::new())
    }),
    row(
        "FlagService/UpdateFlagConfiguration",
        "default",
        InOthers,
        Plain,
        |it| {
            configure(it, &["default_serve"], |configuration| {
                configuration.default_serve = Some(only("off"))
            })
        },
    ),
    row("FlagService/UpdateFlagConfiguration", "salt", InOthers, Plain, |it| {
        configure(it, &["salt"], |configuration| configuration.salt = "other".into())
    }),
    row("FlagService/ToggleFlags", "", InOthers, Plain, |it| {
        let toggle = pb::Toggle {
            flag: it.flag.clone(),
            enabled: false,
        };
        let (project, environment) = (it.project.into(), it.environment.into());
        pb::ToggleFlagsRequest {
            project,
            environment,
            toggles: vec![toggle],
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/RollbackFlagConfiguration", "", InOthers, Plain, |it| {
        let (project, environment, flag) = (it.project.into(), it.environment.into(), it.flag.clone());
        pb::RollbackFlagConfigurationRequest {
            project,
            environment,
            flag,
            revision: it.off_at,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    // A segment that nothing asks answers nothing.
    row("SegmentService/CreateSegment", "", Always, Plain, |it| {
        let segment = Some(pb::Segment {
            project: it.project.into(),
            key: format!("new-{}", it.segment),
            ..Default::default()
        });
        pb::CreateSegmentRequest {
            segment,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/UpdateSegment", "words", Always, Plain, |it| {
        let segment = pb::Segment {
            project: it.project.into(),
            key: it.segment.clone(),
            name: "Other".into(),
            description: "other".into(),
            ..Default::default()
        };
        pb::UpdateSegmentRequest {
            segment: Some(segment),
            update_mask: mask(&["name", "description"]),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/DeleteSegment", "", Never, Unasked, |it| {
        let (project, segment) = (it.project.into(), it.segment.clone());
        pb::DeleteSegmentRequest {
            project,
            segment,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/UpdateSegmentConfiguration", "", InOthers, Plain, |it| {
        let configuration = pb::SegmentConfiguration {
            project: it.project.into(),
            environment: it.environment.into(),
            segment: it.segment.clone(),
            included: vec!["eve".into()],
            ..Default::default()
        };
        pb::UpdateSegmentConfigurationRequest {
            configuration: Some(configuration),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/CreateSegmentUpload", "", InOthers, Plain, |it| {
        let (project, environment, segment) = (it.project.into(), it.environment.into(), it.segment.clone());
        pb::CreateSegmentUploadRequest {
            project,
            environment,
            segment,
        }
        .encode_to_vec()
    }),
    row("SegmentService/UploadSegmentKeys", "", InOthers, Plain, |it| {
        let (project, upload, keys) = (it.project.into(), it.upload.clone(), vec!["eve".into()]);
        pb::UploadSegmentKeysRequest {
            project,
            upload,
            piece: 1,
            keys,
        }
        .encode_to_vec()
    }),
    row("SegmentService/ActivateSegmentUpload", "", InOthers, Plain, |it| {
        let (project, upload, mode) = (it.project.into(), it.upload.clone(), pb::UploadMode::Replace.into());
        pb::ActivateSegmentUploadRequest {
            project,
            upload,
            mode,
            pieces: 1,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/CreateKey", "", Never, Plain, |it| {
        let (project, environment, kind) = (it.project.into(), it.environment.into(), pb::KeyKind::Client.into());
        pb::CreateKeyRequest {
            project,
            environment,
            kind,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/RotateKey", "", Never, Plain, |it| {
        let (project, environment, key_id) = (it.project.into(), it.environment.into(), it.key.clone());
        pb::RotateKeyRequest {
            project,
            environment,
            key_id,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/RevokeKey", "", Never, Plain, |it| {
        let (project, environment, key_id) = (it.project.into(), it.environment.into(), it.key.clone());
        pb::RevokeKeyRequest {
            project,
            environment,
            key_id,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/CreateEnvironment", "", Never, Plain, |it| {
        let environment = pb::Environment {
            project: it.project.into(),
            key: format!("new-{}", it.flag),
            ..Default::default()
        };
        pb::CreateEnvironmentRequest {
            environment: Some(environment),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("ProjectService/UpdateProject", "", Never, Plain, |it| {
        let project = pb::Project {
            key: it.project.into(),
            name: it.flag.clone(),
            ..Default::default()
        };
        pb::UpdateProjectRequest {
            project: Some(project),
            update_mask: mask(&["name"]),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    // The last two, since nothing is protected any more after them.
    row(
        "EnvironmentService/UpdateEnvironment",
        "protection",
        Never,
        Plain,
        |it| {
            let environment = pb::Environment {
                project: it.project.into(),
                key: it.environment.into(),
                protected: it.environment != "prod",
                ..Default::default()
            };
            pb::UpdateEnvironmentRequest {
                environment: Some(environment),
                update_mask: mask(&["protected"]),
                ..Default::default()
            }
            .encode_to_vec()
        },
    ),
    row("EnvironmentService/DeleteEnvironment", "", Never, Plain, |it| {
        let (project, environment) = (it.project.into(), it.environment.into());
        pb::DeleteEnvironmentRequest {
            project,
            environment,
            ..Default::default()
        }
        .encode_to_vec()
    }),
];

fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(ToString::to_string).collect();
    Some(FieldMask { paths })
}

fn variant(key: &str, value: bool) -> evaluation::Variant {
    evaluation::Variant {
        key: key.into(),
        value: Some(evaluation::variant::Value::BoolValue(value)),
        ..Default::default()
    }
}

fn flag(it: &Thing, change: impl FnOnce(&mut pb::Flag)) -> Option<pb::Flag> {
    let mut flag = pb::Flag {
        project: it.project.into(),
        ..bool_flag(&it.flag)
    };
    change(&mut flag);
    Some(flag)
}

fn update(it: &Thing, fields: &[&str], change: impl FnOnce(&mut pb::Flag)) -> Vec<u8> {
    let request = pb::UpdateFlagRequest {
        flag: flag(it, change),
        update_mask: mask(fields),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn configure(it: &Thing, fields: &[&str], change: impl FnOnce(&mut pb::FlagConfiguration)) -> Vec<u8> {
    let mut configuration = pb::FlagConfiguration {
        project: it.project.into(),
        environment: it.environment.into(),
        flag: it.flag.clone(),
        ..Default::default()
    };
    change(&mut configuration);
    let request = pb::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        update_mask: mask(fields),
        ..Default::default()
    };
    request.encode_to_vec()
}

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
            and tablename not in ('sessions', 'credential_uses') order by 1";
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
            flag.variants = vec![variant("on", true), variant("off", false)]
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
                configuration.salt = it.flag.clone();
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

    /// Everything that is stored in these tables.
    async fn stored(&self) -> String {
        let rows = |table: &String| {
            format!("(select coalesce(string_agg(to_jsonb(t)::text, ' ' order by t::text), '') from {table} t)")
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
