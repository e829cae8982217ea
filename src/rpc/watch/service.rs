//! The service: a stream of the hub for each of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Empty};
use tokio::time::sleep_until;
use tonic::{Request, Response, Status};

use super::body::Messages;
use super::encode::Items;
use super::evaluations;
use super::generated::watch_service_server::WatchService;
use crate::auth::keys;
use crate::domain::access::{Directory, Term};
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::pb::evaluation::v1 as pb;
use crate::rpc::assignments::Assignments;
use crate::rpc::convert::common::finish;
use crate::rpc::front::{Application, Deadline};
use crate::rpc::{Answer, Refusal};
use crate::watch::{self, Hub, NotTaken, Refused, StreamId, View};

/// Streams from a hub.
pub struct Watch {
    hub: Arc<Hub>,
    assignments: Assignments,
}

impl Watch {
    /// Streams from this hub, with these assignments.
    pub fn new(hub: Arc<Hub>, assignments: Assignments) -> Self {
        Self { hub, assignments }
    }
}

/// The longest wait for an environment that was made a moment ago.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long who finds too many streams is asked to wait.
const PAUSE: Duration = Duration::from_secs(5);

/// What tonic is given to send: nothing. What is sent are [`Messages`].
type Nothing = Empty<Result<Bytes, Status>>;

#[tonic::async_trait]
impl WatchService for Watch {
    type WatchStream = Nothing;
    type WatchEvaluationsStream = Nothing;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Answer<Nothing> {
        let (application, message) = parts(request)?;
        let pb::WatchRequest {
            resume_token,
            heartbeat,
            client,
            forms,
        } = message;
        let opening = Opening {
            resume_token: &resume_token,
            heartbeat,
            client,
            view: View::Items,
            items: if forms { Items::Forms } else { Items::Typed },
            deadline: application.deadline,
        };
        self.open(application, opening).await
    }

    async fn watch_evaluations(&self, request: Request<pb::WatchEvaluationsRequest>) -> Answer<Nothing> {
        let (application, message) = parts(request)?;
        let pb::WatchEvaluationsRequest {
            context,
            flags,
            resume_token,
            heartbeat,
            client,
        } = message;
        let opening = Opening {
            resume_token: &resume_token,
            heartbeat,
            client,
            view: View::Answers(evaluations::read(context, flags, application.kind)?),
            items: Items::Typed,
            deadline: application.deadline,
        };
        self.open(application, opening).await
    }

    async fn acknowledge(&self, request: Request<pb::AcknowledgeRequest>) -> Answer<pb::AcknowledgeResponse> {
        let (application, message) = parts(request)?;
        let (stream, order) = read_acknowledgement(message).map_err(Refusal::Invalid)?;
        let shown = (application.environment, &application.key_id);
        self.hub
            .acknowledge(shown, stream, order)
            .map_err(|not_taken| match not_taken {
                NotTaken::NotYours => Refusal::Denied,
                NotTaken::NotSent => Refusal::Invalid(Violations::one("revision", "was not sent on this stream")),
                NotTaken::TooMany => Refusal::Busy {
                    what: "too many acknowledgements are on their way to other replicas",
                    retry_after: Duration::from_secs(1),
                },
            })?;
        Ok(Response::new(pb::AcknowledgeResponse {}))
    }
}

fn read_acknowledgement(message: pb::AcknowledgeRequest) -> Result<(StreamId, (u64, u64)), Violations> {
    let pb::AcknowledgeRequest {
        stream,
        revision,
        generation,
    } = message;
    let mut violations = Violations::new();
    let id = StreamId::read(&stream);
    if id.is_none() {
        violations.add("stream", "is not the name of a stream, as its first message tells it");
    }
    if revision == 0 {
        violations.add("revision", "is zero; name the revision that was applied");
    }
    finish(violations, id.map(|id| (id, (generation, revision))))
}

/// How a stream is to be.
struct Opening<'a> {
    resume_token: &'a [u8],
    heartbeat: Option<prost_types::Duration>,
    client: Option<pb::ClientInfo>,
    view: View,
    items: Items,
    deadline: Deadline,
}

impl Watch {
    async fn open(&self, application: Application, opening: Opening<'_>) -> Answer<Nothing> {
        let Opening {
            resume_token,
            heartbeat,
            client,
            view,
            items,
            deadline,
        } = opening;
        let heartbeat = heartbeat.map(read_interval).transpose().map_err(Refusal::Invalid)?;
        let pb::ClientInfo { name, library } = client.unwrap_or_default();
        tracing::debug!(key = &*application.key_id, client = name, library, "a stream begins");
        let client = watch::Client {
            key: Arc::clone(&application.key_id),
            name: short(name),
            library: short(library),
        };
        let (id, patience) = (application.environment, tokio::time::Instant::now() + PATIENCE);
        let environment = self.hub.await_environment(id, patience).await;
        environment.ok_or_else(Refusal::not_loaded)?;
        let request = watch::Request {
            token: resume_token,
            heartbeat,
            still_valid: Box::new(move |directory| term(&application, directory)),
            view,
        };
        let stream = self.hub.open(id, request, client).map_err(|refused| match refused {
            Refused::UnknownEnvironment => Refusal::not_loaded(),
            Refused::Draining => Refusal::draining(),
            Refused::TooMany => too_many("this server has as many streams open as it may; try another"),
            Refused::TooManyOfKey => too_many("the key has as many streams open here as one may have"),
            Refused::TooLarge => too_many("contexts and flags of open streams take as much memory here as they may"),
        })?;
        let deadline = deadline.instant().map(|end| Box::pin(sleep_until(end.into())));
        let messages = Messages::new(stream, items, deadline, self.assignments.clone());
        Ok(messages.into_response(stream::empty()))
    }
}

fn parts<M>(request: Request<M>) -> Result<(Application, M), Refusal> {
    let application = request.extensions().get::<Application>().cloned();
    Ok((application.ok_or(Refusal::Unauthenticated)?, request.into_inner()))
}

fn too_many(what: &'static str) -> Refusal {
    Refusal::Busy {
        what,
        retry_after: PAUSE,
    }
}

/// What a client says of itself, cut off where it is too long: nobody is refused for a name.
fn short(text: String) -> Box<str> {
    match text.char_indices().nth(limits::NAME_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or_default().into(),
        None => text.into(),
    }
}

/// How long the secret that opened the stream does so. A key that was revoked is no longer in the directory, and one that was
/// rotated knows the secret before for a while.
fn term(application: &Application, directory: &Directory) -> Option<Term> {
    let key = directory.keys.get(&application.key_id)?;
    let same = key.environment == application.environment && key.kind == application.kind;
    same.then(|| keys::term(key, &application.secret_hash)).flatten()
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
