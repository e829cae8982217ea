//! Keys that are made, used and taken away.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::calls::{Client, PROJECT, with};

/// Ten times the promise.
const GONE: Duration = Duration::from_secs(20);

/// A new key of an environment: its id and its secret.
pub async fn create(client: Client, environment: &str) -> (String, String) {
    let request = admin::CreateKeyRequest {
        project: PROJECT.into(),
        environment: environment.into(),
        kind: admin::KeyKind::Server.into(),
        ..admin::CreateKeyRequest::default()
    };
    let created = EnvironmentServiceClient::new(client).create_key(request).await.unwrap();
    let created = created.into_inner().key.unwrap();
    (created.key.unwrap().id, created.secret)
}

/// Takes a key away.
pub async fn revoke(client: Client, environment: &str, id: &str) {
    let request = admin::RevokeKeyRequest {
        project: PROJECT.into(),
        environment: environment.into(),
        key_id: id.into(),
        ..admin::RevokeKeyRequest::default()
    };
    let revoked = EnvironmentServiceClient::new(client).revoke_key(request).await.unwrap();
    assert!(revoked.into_inner().changed, "it was revoked already");
}

/// A stream that a key opens.
pub async fn watch(channel: Channel, secret: &str) -> Result<Streaming<pb::WatchResponse>, Status> {
    let request = pb::WatchRequest {
        resume_token: Vec::new(),
        heartbeat: None,
        client: None,
        forms: false,
    };
    let stream = WatchServiceClient::new(with(channel, secret)).watch(request).await;
    stream.map(tonic::Response::into_inner)
}

/// Reads a stream whose key was revoked just now until it ends, as it must soon, and then sees that the key opens no other.
pub async fn is_over(mut stream: Streaming<pb::WatchResponse>, channel: Channel, secret: String) {
    let deadline = Instant::now() + GONE;
    let end = loop {
        let message = timeout_at(deadline, stream.message()).await;
        match message.expect("the stream of a revoked key goes on") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream of a revoked key ended as if nothing were wrong"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unauthenticated, "{end}");
    let again = watch(channel, &secret).await.map(drop);
    assert_eq!(again.map_err(|status| status.code()), Err(Code::Unauthenticated));
}
