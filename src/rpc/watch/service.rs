//! The service: a subscription per stream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::Frame;
use super::encode::{Items, frame};
use super::generated::watch_service_server::WatchService;
use crate::auth::keys;
use crate::domain::access::{Directory, Term};
use crate::domain::invalid::Violations;
use crate::pb::evaluation::v1 as pb;
use crate::rpc::front::Application;
use crate::rpc::{Answer, Refusal, status};
use crate::watch::{self, Hub, Refused, Subscription};

/// Streams from a hub.
pub struct Watch {
    hub: Arc<Hub>,
}

impl Watch {
    /// Streams from this hub.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

/// The longest wait for an environment that was made a moment ago.
const PATIENCE: Duration = Duration::from_secs(3);

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

#[tonic::async_trait]
impl WatchService for Watch {
    type WatchStream = Frames;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Answer<Frames> {
        let application = request.extensions().get::<Application>().cloned();
        let application = application.ok_or(Refusal::Unauthenticated)?;
        let pb::WatchRequest {
            resume_token,
            heartbeat,
            client,
            forms,
        } = request.into_inner();
        let items = if forms { Items::Forms } else { Items::Typed };
        let heartbeat = heartbeat.map(read_interval).transpose().map_err(Refusal::Invalid)?;
        let pb::ClientInfo { name, library } = client.unwrap_or_default();
        tracing::debug!(key = &*application.key_id, client = name, library, "a stream begins");
        let patience = tokio::time::Instant::now() + PATIENCE;
        let environment = self.hub.await_environment(application.environment, patience).await;
        environment.ok_or_else(Refusal::not_loaded)?;
        let subscription = self.hub.subscribe(
            application.environment,
            watch::Request {
                token: &resume_token,
                heartbeat,
                still_valid: Box::new(move |directory| term(&application, directory)),
            },
        );
        let subscription = subscription.map_err(|refused| match refused {
            Refused::UnknownEnvironment => Refusal::not_loaded(),
            Refused::Draining => Refusal::draining(),
        })?;
        Ok(Response::new(frames(subscription, items)))
    }
}

/// How long the secret that opened the stream does so. A key that was revoked is no longer in the directory, and one that was
/// rotated knows the secret before for a while.
fn term(application: &Application, directory: &Directory) -> Option<Term> {
    let key = directory.keys.get(&application.key_id)?;
    let same = key.environment == application.environment && key.kind == application.kind;
    same.then(|| keys::term(key, &application.secret_hash)).flatten()
}

fn frames(subscription: Subscription, items: Items) -> Frames {
    Box::pin(stream::unfold(Some(subscription), move |subscription| async move {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(message) => Some((Ok(frame(&message, items)), Some(subscription))),
            Err(end) => status::end_of_stream(&end).map(|status| (Err(status), None)),
        }
    }))
}

fn read_interval(interval: prost_types::Duration) -> Result<Duration, Violations> {
    let prost_types::Duration { seconds, nanos } = interval;
    let whole = u64::try_from(seconds).ok().map(Duration::from_secs);
    let part = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    whole
        .zip(part)
        .map(|(whole, part)| whole + Duration::from_nanos(part.into()))
        .ok_or_else(|| Violations::one("heartbeat", "is not a duration; it must not be negative"))
}
