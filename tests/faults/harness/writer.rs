//! Writes through any replica, and what became of each.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::calls::{self, with};
use super::doors::Doors;
use super::template;
use crate::evidence::{Content, Outcome, Write};

/// How long a write may take, unless a fault says otherwise; what has not answered by then may have happened.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// What all writers have done.
#[derive(Clone)]
pub struct Ledger {
    writes: Arc<Mutex<Vec<Write>>>,
    /// How many were acknowledged, so that others can wait for more.
    acknowledged: watch::Sender<usize>,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            writes: Arc::default(),
            acknowledged: watch::Sender::new(0),
        }
    }

    fn enter(&self, write: Write) {
        let is_acknowledged = matches!(write.outcome, Outcome::Acknowledged(_));
        self.writes.lock().unwrap().push(write);
        if is_acknowledged {
            self.acknowledged.send_modify(|count| *count += 1);
        }
    }

    /// What was edited by hand is no write that anybody waits for.
    pub fn edited(&self, edit: Write) {
        self.writes.lock().unwrap().push(edit);
    }

    pub fn all(&self) -> Vec<Write> {
        self.writes.lock().unwrap().clone()
    }

    /// Returns once so many more writes were acknowledged.
    pub async fn more(&self, count: usize) {
        let mut acknowledged = self.acknowledged.subscribe();
        let goal = *acknowledged.borrow() + count;
        let _ = acknowledged.wait_for(|acknowledged| *acknowledged >= goal).await;
    }

    /// Returns once a write to an environment was acknowledged that began after `from`.
    pub async fn acknowledged_after(&self, environment: &str, from: Instant) {
        let mut acknowledged = self.acknowledged.subscribe();
        let is_it = |write: &Write| {
            write.environment == environment
                && write.began > from
                && matches!(write.outcome, Outcome::Acknowledged(Some(_)))
        };
        let there_is = |_: &usize| self.writes.lock().unwrap().iter().rev().any(is_it);
        let _ = acknowledged.wait_for(there_is).await;
    }
}

/// What is asked of a replica.
enum Call {
    Configure(Box<admin::UpdateFlagConfigurationRequest>),
    Toggle(admin::ToggleFlagsRequest),
}

/// Who writes.
pub struct Writer {
    pub number: usize,
    pub environment: String,
    pub token: String,
    pub doors: Doors,
    /// Where it writes. `None`: anywhere.
    pub replica: Option<usize>,
    pub ledger: Ledger,
    /// How long a write may take.
    pub deadline: Duration,
    /// Between two writes.
    pub pause: Duration,
    pub rng: fastrand::Rng,
    /// Held while it writes.
    pub gate: Arc<RwLock<()>>,
}

impl Writer {
    /// Writes until cancelled; what is on its way then is waited for.
    pub fn spawn(mut self, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut etag = String::new();
            for round in 0_u64.. {
                let gate = Arc::clone(&self.gate);
                let Some(writing) = stop.run_until_cancelled(gate.read()).await else {
                    return;
                };
                // The first writer of an environment has the group.
                if self.number == 0 && round % 2 == 1 {
                    self.toggle_group(round % 4 == 1).await;
                } else {
                    self.configure(round, &mut etag).await;
                }
                drop(writing);
                stop.run_until_cancelled(tokio::time::sleep(self.pause)).await;
            }
        })
    }

    /// Every fifth shows an etag that no longer holds, and must be refused.
    async fn configure(&mut self, round: u64, etag: &mut String) {
        let (flag, number) = (template::flag(self.number), self.number);
        let marker = format!("{}.{number}.{round}", self.environment);
        let mut request = calls::configure(&self.environment, &flag, &marker);
        let is_stale = round % 5 == 4 && !etag.is_empty();
        if is_stale {
            request.etag.clone_from(etag);
        }
        request.request_id = Uuid::from_u128(self.rng.u128(..)).to_string();
        let content = Content::Marked { flag, marker };
        let given = self.write(content, Call::Configure(Box::new(request))).await;
        if etag.is_empty() {
            *etag = given;
        }
    }

    async fn toggle_group(&mut self, enabled: bool) {
        let flags: Vec<_> = template::GROUP.map(str::to_owned).into();
        let mut request = calls::toggle(&self.environment, &flags, enabled);
        request.request_id = Uuid::from_u128(self.rng.u128(..)).to_string();
        let content = Content::Group { flags, enabled };
        self.write(content, Call::Toggle(request)).await;
    }

    /// Writes once, or, half of the time, again with the same request id until it is known what became of it. Returns the etag of
    /// what was written, if one was given.
    async fn write(&mut self, content: Content, call: Call) -> String {
        let (began, attempts) = (Instant::now(), if self.rng.bool() { 5 } else { 1 });
        let (mut outcome, mut etag) = (None, String::new());
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let replica = self.replica.unwrap_or_else(|| self.rng.usize(..self.doors.count()));
            let Some(channel) = self.doors.shared(replica) else {
                continue;
            };
            let client = FlagServiceClient::new(with(channel, &self.token));
            let answer =
                tokio::time::timeout(self.deadline + Duration::from_secs(1), call.send(client, self.deadline)).await;
            outcome = Some(match (answer, &outcome) {
                (Ok(Ok((revision, given))), _) => {
                    etag = given;
                    Outcome::Acknowledged(revision)
                }
                (Ok(Err(status)), None) if is_refusal(status.code()) => Outcome::Refused(status.code()),
                // What came before may still have happened.
                (Ok(Err(status)), _) => Outcome::Unknown(status.code()),
                (Err(_), _) => Outcome::Unknown(Code::DeadlineExceeded),
            });
            if !matches!(outcome, Some(Outcome::Unknown(_))) {
                break;
            }
        }
        let Some(outcome) = outcome else {
            return etag;
        };
        self.ledger.enter(Write {
            environment: self.environment.clone(),
            content,
            began,
            ended: Instant::now(),
            outcome,
        });
        etag
    }
}

impl Call {
    /// Returns the revision, if there is a new one, and the etag, if one was given.
    async fn send(
        &self,
        mut client: FlagServiceClient<calls::Client>,
        deadline: Duration,
    ) -> Result<(Option<u64>, String), Status> {
        let (revisions, configuration) = match self {
            Self::Configure(request) => {
                let response = client
                    .update_flag_configuration(within(deadline, request.as_ref()))
                    .await?;
                let response = response.into_inner();
                (response.revisions, response.configuration)
            }
            Self::Toggle(request) => {
                let response = client.toggle_flags(within(deadline, request)).await?.into_inner();
                (response.revisions, None)
            }
        };
        let revision = revisions.first().map(|revision| revision.revision);
        Ok((revision, configuration.unwrap_or_default().etag))
    }
}

fn within<T: Clone>(deadline: Duration, request: &T) -> Request<T> {
    let mut request = Request::new(request.clone());
    request.set_timeout(deadline);
    request
}

/// Whether the code says for certain that nothing was written.
fn is_refusal(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}
