//! No mutation without its audit entry: with the audit log refusing entries, every method that writes is refused whole, and with
//! the audit log working again the same requests are carried out, each with its entry.
//!
//! The methods come from the descriptor set: a new one without a row here fails the test.

use std::pin::Pin;

use futures_util::StreamExt as _;
use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::ValueType;
use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::app::{App, EMAIL, Keys, PASSWORD, connect, login, serve, toggle};
use crate::refusals::refused;
use crate::support::within;

/// What the rows are about: a project `shop` with the environments `dev` and `spare` and the flags `f`, `old`, `gone` and
/// `archived`, and a project `other`.
struct World {
    app: App,
    dev: Keys,
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + 'a>>;

/// A method, and a request to it that is carried out once those of the rows before it were.
struct Row {
    method: &'static str,
    call: fn(&World) -> Call<'_>,
}

macro_rules! row {
    ($method:literal, |$world:ident| $call:expr) => {
        Row {
            method: $method,
            call: |$world| Box::pin(async move { $call.map(drop) }),
        }
    };
}

const ROWS: &[Row] = &[
    row!("ProjectService/CreateProject", |world| {
        world
            .app
            .projects()
            .create_project(pb::CreateProjectRequest {
                project: Some(project("new")),
                request_id: request_id(1),
                ..Default::default()
            })
            .await
    }),
    row!("AuthService/Login", |world| login(&world.app.channel, EMAIL, PASSWORD)
        .await),
    row!("ProjectService/UpdateProject", |world| {
        world
            .app
            .projects()
            .update_project(pb::UpdateProjectRequest {
                project: Some(pb::Project {
                    name: "The shop".into(),
                    ..project("shop")
                }),
                request_id: request_id(2),
                ..Default::default()
            })
            .await
    }),
    row!("ProjectService/DeleteProject", |world| {
        world
            .app
            .projects()
            .delete_project(pb::DeleteProjectRequest {
                project: "other".into(),
                confirm: "other".into(),
                request_id: request_id(3),
                ..Default::default()
            })
            .await
    }),
    row!("EnvironmentService/CreateEnvironment", |world| {
        let request = pb::CreateEnvironmentRequest {
            environment: Some(environment("stage")),
            request_id: request_id(4),
            ..Default::default()
        };
        world.app.environments().create_environment(request).await
    }),
    row!("EnvironmentService/UpdateEnvironment", |world| {
        let request = pb::UpdateEnvironmentRequest {
            environment: Some(pb::Environment {
                protected: true,
                ..environment("dev")
            }),
            request_id: request_id(5),
            ..Default::default()
        };
        world.app.environments().update_environment(request).await
    }),
    row!("EnvironmentService/DeleteEnvironment", |world| {
        let request = pb::DeleteEnvironmentRequest {
            project: "shop".into(),
            environment: "spare".into(),
            request_id: request_id(6),
            ..Default::default()
        };
        world.app.environments().delete_environment(request).await
    }),
    row!("EnvironmentService/CreateKey", |world| {
        world
            .app
            .environments()
            .create_key(pb::CreateKeyRequest {
                project: "shop".into(),
                environment: "dev".into(),
                kind: pb::KeyKind::Client.into(),
                request_id: request_id(7),
                ..Default::default()
            })
            .await
    }),
    row!("EnvironmentService/RevokeKey", |world| {
        world
            .app
            .environments()
            .revoke_key(pb::RevokeKeyRequest {
                project: "shop".into(),
                environment: "dev".into(),
                key_id: world.dev.server_id.clone(),
                request_id: request_id(8),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/CreateFlag", |world| {
        world
            .app
            .flags()
            .create_flag(pb::CreateFlagRequest {
                flag: Some(flag("new")),
                request_id: request_id(9),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/UpdateFlag", |world| {
        world
            .app
            .flags()
            .update_flag(pb::UpdateFlagRequest {
                flag: Some(pb::Flag {
                    client_visible: true,
                    ..flag("f")
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["client_visible".into()],
                }),
                request_id: request_id(10),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/UpdateFlagConfiguration", |world| {
        let request = pb::UpdateFlagConfigurationRequest {
            configuration: Some(pb::FlagConfiguration {
                project: "shop".into(),
                environment: "dev".into(),
                flag: "f".into(),
                salt: "s".into(),
                ..Default::default()
            }),
            request_id: request_id(11),
            ..Default::default()
        };
        world.app.flags().update_flag_configuration(request).await
    }),
    row!("FlagService/ToggleFlags", |world| {
        world
            .app
            .flags()
            .toggle_flags(pb::ToggleFlagsRequest {
                request_id: request_id(12),
                ..toggle("f", true)
            })
            .await
    }),
    row!("FlagService/ArchiveFlag", |world| {
        world
            .app
            .flags()
            .archive_flag(pb::ArchiveFlagRequest {
                project: "shop".into(),
                flag: "old".into(),
                request_id: request_id(13),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/RestoreFlag", |world| {
        let request = pb::RestoreFlagRequest {
            project: "shop".into(),
            flag: "archived".into(),
            request_id: request_id(15),
            ..Default::default()
        };
        world.app.flags().restore_flag(request).await
    }),
    row!("FlagService/DeleteFlag", |world| {
        world
            .app
            .flags()
            .delete_flag(pb::DeleteFlagRequest {
                project: "shop".into(),
                flag: "gone".into(),
                request_id: request_id(14),
                ..Default::default()
            })
            .await
    }),
];

/// Methods that are described but not made yet: the test holds them to that, and asks for their rows once they are.
const UNMADE: &[&str] = &[
    "FlagService/RollbackFlagConfiguration",
    "SegmentService/CreateSegment",
    "SegmentService/UpdateSegment",
    "SegmentService/DeleteSegment",
    "SegmentService/UpdateSegmentConfiguration",
    "SegmentService/CreateSegmentUpload",
    "SegmentService/UploadSegmentKeys",
    "SegmentService/ActivateSegmentUpload",
];

fn project(key: &str) -> pb::Project {
    pb::Project {
        key: key.into(),
        ..Default::default()
    }
}

fn environment(key: &str) -> pb::Environment {
    pb::Environment {
        project: "shop".into(),
        key: key.into(),
        ..Default::default()
    }
}

fn flag(key: &str) -> pb::Flag {
    pb::Flag {
        project: "shop".into(),
        key: key.into(),
        r#type: ValueType::Bool.into(),
        ..Default::default()
    }
}

/// The same for every call of a row: what was refused is not remembered.
fn request_id(row: u128) -> String {
    Uuid::from_u128(row).to_string()
}

impl World {
    /// Served by a server that has written nothing yet.
    async fn new() -> Self {
        let app = App::start().await;
        let dev = app.shop().await;
        app.environment("shop", "spare").await;
        app.project("other").await;
        for key in ["f", "old", "gone", "archived"] {
            app.create_flag(flag(key)).await;
        }
        let archive = pb::ArchiveFlagRequest {
            project: "shop".into(),
            flag: "archived".into(),
            ..Default::default()
        };
        app.flags().archive_flag(archive).await.unwrap();
        let App {
            database,
            server,
            channel: _,
            token,
        } = app;
        server.stop().await.unwrap();
        let server = serve(&database).await;
        let channel = connect(&server).await;
        let app = App {
            database,
            server,
            channel,
            token,
        };
        Self { app, dev }
    }
}

/// Every method of administration that is not marked as one that only reads, without its package.
fn mutations() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(halyard::pb::DESCRIPTORS)
        .unwrap()
        .file;
    let ours = files.into_iter().filter(|file| file.package() == "halyard.admin.v1");
    let methods = ours.flat_map(|file| file.service).flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| (name.clone(), method))
    });
    let writing = methods.filter(|(_, method)| {
        let options = method.options.clone().unwrap_or_default();
        options.idempotency_level() != IdempotencyLevel::NoSideEffects
    });
    writing
        .map(|(service, method)| format!("{service}/{}", method.name()))
        .collect()
}

/// What the service says of a request without content.
async fn call_empty(app: &App, method: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(app.channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {}", app.token).parse().unwrap());
    let path = format!("/halyard.admin.v1.{method}").parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(request, path, codec).await.map(drop)
}

/// Every row of every table.
async fn everything(sql: &Client) -> Vec<(String, String)> {
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by tablename";
    let mut contents = Vec::new();
    for row in sql.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let rows = format!("select coalesce(string_agg(t::text, e'\\n' order by t::text), '') from {table} t");
        let rows = sql.query_one(&rows, &[]).await.unwrap();
        contents.push((table, rows.get(0)));
    }
    contents
}

/// What the replicas tell each other from now on, but for what they ask themselves.
async fn notifications(app: &App) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = app.database.config.connect(NoTls).await.unwrap();
    let (send, receive) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(|context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(said) = message
                && !said.payload().starts_with("probe ")
            {
                let _ = send.send(said.payload().to_owned());
            }
        }
    });
    client.batch_execute("listen halyard").await.unwrap();
    (client, receive)
}

async fn number(sql: &Client, query: &str) -> i64 {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

#[test]
fn every_mutation_has_a_row() {
    let mut rows: Vec<_> = ROWS
        .iter()
        .map(|row| row.method)
        .chain(UNMADE.iter().copied())
        .collect();
    let mut described = mutations();
    rows.sort_unstable();
    described.sort_unstable();
    assert_eq!(rows, described);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_made_yet_has_no_row_yet() {
    let app = App::start().await;
    for method in UNMADE {
        let answer = call_empty(&app, method).await;
        let code = answer.map_or_else(|status| status.code(), |()| Code::Ok);
        assert_eq!(code, Code::Unimplemented, "{method} is made: it needs a row");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutation_is_carried_out_without_its_entry() {
    let world = World::new().await;
    let sql = world.app.database.client().await;
    let (_listening, mut notified) = notifications(&world.app).await;
    let refuse = "
        create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create trigger refuse before insert on audit_entries for each row execute function refuse()";
    sql.batch_execute(refuse).await.unwrap();

    let before = everything(&sql).await;
    for Row { method, call } in ROWS {
        let status = call(&world).await.expect_err(method);
        assert_eq!(status.code(), Code::Internal, "{method}: {status:?}");
        refused::<()>(Err(status), Code::Internal);
        assert_eq!(everything(&sql).await, before, "{method}");
    }

    sql.batch_execute("drop trigger refuse on audit_entries").await.unwrap();
    for (n, Row { method, call }) in ROWS.iter().enumerate() {
        let entries = number(&sql, "select count(*) from audit_entries").await;
        call(&world)
            .await
            .unwrap_or_else(|status| panic!("{method}: {status:?}"));
        let added = number(&sql, "select count(*) from audit_entries").await - entries;
        assert!(added > 0, "{method} has left no entry");
        if n == 0 {
            // The first thing that anyone is told of is the first that was carried out.
            let access = number(&sql, "select revision from access_head").await;
            let first = within("a notification", notified.recv()).await;
            assert_eq!(first, Some(format!("access {access}")));
        }
    }
}
