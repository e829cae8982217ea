//! What every gRPC server is expected to offer, and what it must withstand.

use std::time::Duration;

use halyard::cli::create_admin::create_administrator;
use halyard::domain::email::Email;
use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::rpc::methods::{METHODS, Method, Needs};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::app::{App, Bearer, PASSWORD, bool_flag, evaluate, evaluation, login};
use crate::refusals::{by_server, invalid, refused};
use crate::support::within;

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_for_every_service() {
    let app = App::start().await;
    let services = [
        "",
        "halyard.admin.v1.AuthService",
        "halyard.admin.v1.ProjectService",
        "halyard.admin.v1.EnvironmentService",
        "halyard.admin.v1.FlagService",
        "halyard.evaluation.v1.EvaluationService",
        "halyard.evaluation.v1.WatchService",
    ];
    for service in services {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        crate::support::eventually(service, async || {
            let response = HealthClient::new(app.channel.clone())
                .check(request.clone())
                .await
                .ok()?
                .into_inner();
            (response.status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let request = HealthCheckRequest {
        service: "nothing".into(),
    };
    refused(
        HealthClient::new(app.channel.clone()).check(request).await,
        Code::NotFound,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_can_be_watched_to_the_end() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let mut watched = HealthClient::new(channel)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let next = async |watched: &mut tonic::Streaming<tonic_health::pb::HealthCheckResponse>| {
        within("a status", watched.message()).await
    };
    while next(&mut watched).await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let stopping = tokio::spawn(replica.stop());
    assert_eq!(
        next(&mut watched).await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    // Who goes on watching, as the service config has it, does not hold up the end until the grace is over.
    let over = within("the end of the watch", watched.message()).await;
    assert!(matches!(over, Ok(None)), "{over:?}");
    within("the stop", stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_reflections_know_every_service() {
    let app = App::start().await;
    let expected = [
        "halyard.admin.v1.FlagService",
        "halyard.evaluation.v1.EvaluationService",
        "halyard.evaluation.v1.WatchService",
        "grpc.health.v1.Health",
    ];

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(app.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(listed) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(
        expected.iter().all(|service| names.iter().any(|name| name == service)),
        "{names:?}"
    );

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(expected[0].into()),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(app.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(
        matches!(
            answer,
            v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
        ),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_understood() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let request = pb::EvaluateRequest {
            flag: "f".into(),
            ..Default::default()
        };
        evaluation(&app.channel, &keys.server)
            .send_compressed(encoding)
            .evaluate(request)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_unimplemented() {
    let app = App::start().await;
    let mut client = tonic::client::Grpc::new(app.channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/halyard.admin.v1.FlagService/DoAnything");
    let codec = tonic_prost::ProstCodec::<pb::EvaluateRequest, pb::EvaluateResponse>::default();
    let answer = client
        .unary(Request::new(pb::EvaluateRequest::default()), path, codec)
        .await;
    refused(answer.map(drop), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_too_deep_are_told_so_and_harm_nobody() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let large = pb::EvaluateRequest {
        flag: "f".repeat(10 * 1024 * 1024),
        ..Default::default()
    };
    refused(
        evaluation(&app.channel, &keys.server).evaluate(large).await,
        Code::ResourceExhausted,
    );

    let nested = |levels: usize| {
        let mut value = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        for _ in 0..levels {
            value = Value {
                kind: Some(Kind::ListValue(ListValue { values: vec![value] })),
            };
        }
        let attributes = Some(Struct {
            fields: [("a".to_owned(), value)].into(),
        });
        pb::EvaluateRequest {
            flag: "f".into(),
            context: Some(pb::Context {
                targeting_key: String::new(),
                attributes,
            }),
            min_revision: 0,
            explain: false,
        }
    };
    refused(
        evaluation(&app.channel, &keys.server).evaluate(nested(1000)).await,
        Code::InvalidArgument,
    );
    invalid(
        evaluation(&app.channel, &keys.server).evaluate(nested(20)).await,
        &["context.attributes"],
    );
    evaluation(&app.channel, &keys.server)
        .evaluate(nested(16))
        .await
        .unwrap();
    evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_databases_choke_on_is_refused_and_the_rest_kept_as_it_is() {
    let app = App::start().await;
    app.shop().await;
    let nul = admin::Flag {
        description: "a\0b".into(),
        owner: "\u{1}".into(),
        ..bool_flag("f")
    };
    invalid(
        app.flags()
            .create_flag(admin::CreateFlagRequest {
                flag: Some(nul),
                ..Default::default()
            })
            .await,
        &["flag.description", "flag.owner"],
    );
    let injection = "'; drop table flags; -- \u{202e}ẞ𝔘";
    app.create_flag(admin::Flag {
        description: injection.into(),
        ..bool_flag("f")
    })
    .await;
    let read = app
        .flags()
        .get_flag(admin::GetFlagRequest {
            project: "shop".into(),
            flag: "f".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read.flag.unwrap().description, injection);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_speak_nonsense_harm_nobody() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let noise: Vec<u8> = (0..10_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let half_a_frame = [preface.clone(), vec![0, 0, 200, 1]].concat();
    let huge_frame = [preface, vec![0xff; 64]].concat();
    for bytes in [
        noise,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        half_a_frame,
        huge_frame,
        vec![],
    ] {
        let mut connection = TcpStream::connect(app.server.address()).await.unwrap();
        // The server may hang up in the middle.
        let _ = connection.write_all(&bytes).await;
        let _ = connection.shutdown().await;
        let mut rest = Vec::new();
        let _ = within("the server to hang up", connection.read_to_end(&mut rest)).await;
        evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_is_told() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut client = app.database.client().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("lock table projects in access exclusive mode")
        .await
        .unwrap();
    let told = by_server(async || {
        let mut request = Request::new(admin::ListProjectsRequest::default());
        request.set_timeout(Duration::from_millis(200));
        app.projects().list_projects(request).await
    });
    refused(told.await, Code::DeadlineExceeded);
    evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_finishes_what_it_has_begun() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let (replica, channel) = app.replica().await;
    // It waits for a revision that comes while the server stops.
    let waiting = tokio::spawn({
        let (channel, key) = (channel.clone(), keys.server.clone());
        async move { evaluate(&channel, &key, "f", 3).await }
    });
    crate::support::eventually("the request", async || {
        evaluate(&channel, &keys.server, "f", 0).await.ok()
    })
    .await;
    let stopping = tokio::spawn(replica.stop());
    app.toggle("f", true).await;
    assert_eq!(within("the answer", waiting).await.unwrap().unwrap().variant, "on");
    drop(channel);
    within("the stop", stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_though_clients_do_not_let_go() {
    let app = App::start().await;
    let mut options = crate::app::options(&app.database);
    options.grace = Duration::from_millis(300);
    let replica = halyard::server::Server::start(options).await.unwrap();
    replica.ready().await;
    let channel = crate::app::connect(&replica).await;
    let mut watched = HealthClient::new(channel)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    watched.message().await.unwrap();
    let silent = TcpStream::connect(replica.address()).await.unwrap();
    within("the stop", replica.stop()).await.unwrap();
    within("the end of the stream", async {
        while let Ok(Some(_)) = watched.message().await {}
    })
    .await;
    drop(silent);
}

/// Calls any method with an empty message.
async fn call(channel: &tonic::transport::Channel, method: &Method, credential: Option<&str>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    within("the channel", client.ready()).await.unwrap();
    let mut request = Request::new(admin::WhoAmIRequest {});
    if let Some(credential) = credential {
        let header = format!("Bearer {credential}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    let path = http::uri::PathAndQuery::from_static(method.path);
    let codec = tonic_prost::ProstCodec::<admin::WhoAmIRequest, admin::WhoAmIRequest>::default();
    client
        .server_streaming(request, path, codec)
        .await?
        .into_inner()
        .message()
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_lets_anybody_in_with_the_wrong_credential() {
    let app = App::start().await;
    let keys = app.shop().await;
    for method in METHODS {
        let wrong: &[&str] = match method.needs {
            Needs::Nothing => continue,
            Needs::MaybeUser | Needs::User | Needs::Principal | Needs::Permission(_) => {
                &["x", &keys.server, &keys.client]
            }
            Needs::AnyKey | Needs::ServerKey => &["x", &app.token],
        };
        if method.needs != Needs::MaybeUser {
            refused(call(&app.channel, method, None).await, Code::Unauthenticated);
        }
        for credential in wrong {
            refused(
                call(&app.channel, method, Some(credential)).await,
                Code::Unauthenticated,
            );
        }
        if method.needs == Needs::ServerKey {
            refused(
                call(&app.channel, method, Some(&keys.client)).await,
                Code::PermissionDenied,
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_denied_alike_what_exists_and_what_does_not() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let stranger = stranger(&app).await;
    let service =
        |token: &str| tonic::service::interceptor::InterceptedService::new(app.channel.clone(), Bearer::new(token));
    let mut projects = ProjectServiceClient::new(service(&stranger));
    let mut environments = EnvironmentServiceClient::new(service(&stranger));
    let mut flags = FlagServiceClient::new(service(&stranger));
    for project in ["shop", "nothing"] {
        let project = || project.to_owned();
        let get = projects
            .get_project(admin::GetProjectRequest { project: project() })
            .await;
        refused(get, Code::PermissionDenied);
        let delete = admin::DeleteProjectRequest {
            project: project(),
            confirm: project(),
            ..Default::default()
        };
        refused(projects.delete_project(delete).await, Code::PermissionDenied);
        let list = admin::ListEnvironmentsRequest {
            project: project(),
            ..Default::default()
        };
        refused(environments.list_environments(list).await, Code::PermissionDenied);
        let key = admin::CreateKeyRequest {
            project: project(),
            environment: "dev".into(),
            kind: admin::KeyKind::Server.into(),
            ..Default::default()
        };
        refused(environments.create_key(key).await, Code::PermissionDenied);
        let get = admin::GetFlagRequest {
            project: project(),
            flag: "f".into(),
        };
        refused(flags.get_flag(get).await, Code::PermissionDenied);
        let toggle = admin::ToggleFlagsRequest {
            project: project(),
            ..crate::app::toggle("f", true)
        };
        refused(flags.toggle_flags(toggle).await, Code::PermissionDenied);
        let create = admin::Flag {
            project: project(),
            ..bool_flag("g")
        };
        let create = admin::CreateFlagRequest {
            flag: Some(create),
            ..Default::default()
        };
        refused(flags.create_flag(create).await, Code::PermissionDenied);
        let restore = admin::RestoreFlagRequest {
            project: project(),
            flag: "f".into(),
            ..Default::default()
        };
        refused(flags.restore_flag(restore).await, Code::PermissionDenied);
        let at = admin::EvaluateAtRequest {
            project: project(),
            environment: "dev".into(),
            revision: 1,
            ..Default::default()
        };
        refused(flags.evaluate_at(at).await, Code::PermissionDenied);
    }
    let listed = projects
        .list_projects(admin::ListProjectsRequest::default())
        .await
        .unwrap();
    assert!(listed.into_inner().projects.is_empty());
}

/// The token of a user who has no role anywhere: an administrator who no longer is one.
pub async fn stranger(app: &App) -> String {
    let email = Email::new("eve@example.com").unwrap();
    create_administrator(app.server.store(), &email, PASSWORD.to_owned().into())
        .await
        .unwrap();
    let degrade = "update users set instance_role = null where email = 'eve@example.com';
                   update access_head set revision = revision + 1";
    app.database.client().await.batch_execute(degrade).await.unwrap();
    let token = login(&app.channel, "eve@example.com", PASSWORD).await.unwrap();
    crate::support::eventually("the loss of the role", async || {
        let service = tonic::service::interceptor::InterceptedService::new(app.channel.clone(), Bearer::new(&token));
        let me = AuthServiceClient::new(service)
            .who_am_i(admin::WhoAmIRequest {})
            .await
            .ok()?
            .into_inner();
        (me.user?.role() == admin::InstanceRole::Unspecified).then_some(())
    })
    .await;
    token
}
