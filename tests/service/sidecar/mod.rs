//! Sidecars: the same answers as the server's, whatever becomes of the server.

mod age;
mod answers;
mod callers;
mod disk;
mod following;
mod hostile;
mod large;
mod replaced;
mod stock;

use std::path::Path;
use std::time::Duration;

use halyard::auth::keys;
use halyard::domain::access::AcceptedKey;
use halyard::pb::evaluation::v1 as pb;
use halyard::server::{Address, Sidecar, SidecarOptions};
use halyard::upstream::{Callers, Options, Timing};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::app::evaluation;
use crate::support::eventually;

/// A running sidecar, and a channel to it.
pub struct Side {
    pub sidecar: Sidecar,
    pub channel: Channel,
}

/// As a caller knows a key.
pub fn accepted(key: &str) -> AcceptedKey {
    let presented = keys::parse(key).unwrap();
    AcceptedKey {
        id: presented.id.into(),
        kind: presented.kind,
        secret_hash: presented.hash,
    }
}

/// As a test wants it: quick to stop, everything else as in production.
pub fn options(upstream: &str, key: &str) -> SidecarOptions {
    SidecarOptions {
        connections: halyard::server::Connections::default(),
        listen: Address::Tcp("127.0.0.1:0".parse().unwrap()),
        metrics: None,
        upstream: Options {
            endpoint: upstream.parse().unwrap(),
            tls: None,
            key: key.to_owned().into(),
            key_id: keys::parse(key).unwrap().id.to_owned(),
            callers: Callers {
                keys: vec![accepted(key)],
                anonymous: None,
            },
            state_file: None,
            timing: Timing::default(),
        },
        staleness: halyard::domain::staleness::Limits::default(),
        watch: halyard::watch::Options {
            drain_window: Duration::from_millis(200),
            ahead_wait: Duration::from_secs(6),
            ..halyard::watch::Options::default()
        },
        keepalive: halyard::server::Keepalive::default(),
        workers: 1,
        drain_window: Duration::from_millis(200),
        grace: Duration::from_secs(5),
    }
}

impl Side {
    pub async fn start(options: SidecarOptions) -> Self {
        let sidecar = Sidecar::start(options).await.unwrap();
        let address = sidecar.address().to_string();
        let scheme = if address.starts_with("unix:") { "" } else { "http://" };
        let endpoint = Endpoint::from_shared(format!("{scheme}{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self { sidecar, channel }
    }

    /// One that follows, with whatever state it has got.
    pub async fn follow(upstream: &str, key: &str) -> Self {
        Self::start(options(upstream, key)).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.sidecar.address())
    }

    pub async fn stop(self) {
        self.sidecar.stop().await.unwrap();
    }
}

/// Options with a state file in this folder.
pub fn with_state_file(upstream: &str, key: &str, folder: &Path) -> SidecarOptions {
    let mut options = options(upstream, key);
    options.upstream.state_file = Some(folder.join("state"));
    options
}

/// What everybody is answered, of one revision at least.
pub async fn everything(
    channel: &Channel,
    key: &str,
    targeting_key: &str,
    min_revision: u64,
) -> pb::EvaluateAllResponse {
    let answer = try_everything(channel, key, targeting_key, min_revision).await;
    answer.unwrap()
}

/// The same, if it is answered.
pub async fn try_everything(
    channel: &Channel,
    key: &str,
    targeting_key: &str,
    min_revision: u64,
) -> Result<pb::EvaluateAllResponse, Status> {
    let request = pb::EvaluateAllRequest {
        context: Some(context(targeting_key)),
        flags: Vec::new(),
        min_revision,
    };
    let answer = evaluation(channel, key).evaluate_all(request).await?;
    Ok(answer.into_inner())
}

pub fn context(targeting_key: &str) -> pb::Context {
    let attributes = [(
        "country",
        if targeting_key.len().is_multiple_of(2) {
            "DE"
        } else {
            "FR"
        },
    )];
    let fields = attributes.map(|(name, value)| {
        let kind = Some(prost_types::value::Kind::StringValue(value.to_owned()));
        (name.to_owned(), prost_types::Value { kind })
    });
    pb::Context {
        targeting_key: targeting_key.to_owned(),
        attributes: Some(prost_types::Struct { fields: fields.into() }),
    }
}

/// Returns once the sidecar says how it is informed.
pub async fn until_quality(side: &Side, quality: halyard::watch::Quality) {
    eventually("the quality", async || {
        (side.sidecar.hub().status().quality == quality).then_some(())
    })
    .await;
}
