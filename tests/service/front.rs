//! What every gRPC server is expected to offer, and what it must withstand.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::app::{App, bool_flag, evaluate, evaluation};
use crate::refusals::{invalid, refused};
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
    drop(watched);
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
    let mut request = Request::new(admin::ListProjectsRequest::default());
    request.set_timeout(Duration::from_millis(200));
    refused(app.projects().list_projects(request).await, Code::DeadlineExceeded);
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
