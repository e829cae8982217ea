//! Changes: flags that are turned on and off in turn, and are as they were in the end.
//!
//! Each flag is turned to what it is not, as far as one caller can know: of two changes of a flag that are on their way at once the
//! later may be applied first, and then the other changes nothing. That is counted by its own name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::super::Error;
use super::super::call::Caller;
use super::super::identify::identify;
use super::drive::Work;
use super::evaluate::in_turn;
use super::watch::Board;
use crate::config::{Credential, Server, WriteLoad};
use crate::pb::admin::v1::flag_service_client::FlagServiceClient;
use crate::pb::admin::v1::{
    GetFlagConfigurationRequest, GetFlagConfigurationResponse, Toggle, ToggleFlagsRequest, ToggleFlagsResponse,
};

/// Changes of one environment through one server.
pub(super) struct Writes {
    /// One for each connection.
    callers: Vec<Caller>,
    project: String,
    environment: String,
    flags: Vec<Flag>,
    /// Where changes are awaited.
    board: Option<Arc<Board>>,
}

/// What is changed, whoever does it.
struct Changes {
    project: String,
    environment: String,
    flags: Vec<String>,
    connections: usize,
}

struct Flag {
    key: String,
    /// Whether it was on before.
    was_on: bool,
}

/// Kinds of answers.
const CHANGED: &str = "CHANGED";
const UNCHANGED: &str = "UNCHANGED";
/// What the changes say of themselves in the history.
const REASON: (&str, &str) = ("x-halyard-reason", "halyard bench");
/// How often it is tried to put flags back, and how long after each failure the next try is.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

impl Changes {
    fn of(load: WriteLoad) -> (Credential, Self) {
        let WriteLoad {
            credential,
            project,
            environment,
            flags,
            load,
        } = load;
        let changes = Self {
            project: project.into(),
            environment: environment.into(),
            flags: flags.into_iter().map(Into::into).collect(),
            connections: load.connections.get(),
        };
        (credential, changes)
    }
}

impl Writes {
    /// Identifies itself, and looks how the flags are and whether they may be changed. Nothing is.
    pub async fn begin(server: &Server, load: WriteLoad, board: Option<Arc<Board>>) -> Result<Self, Error> {
        let (credential, changes) = Changes::of(load);
        let caller = identify(Caller::new(server.clone())?, credential).await?;
        Self::through(caller, &changes, board).await
    }

    /// The same through two servers of one installation: what is shown to the first is shown to the second.
    pub async fn begin_both([a, b]: [&Server; 2], load: WriteLoad) -> Result<[Self; 2], Error> {
        let (credential, changes) = Changes::of(load);
        let caller = identify(Caller::new(a.clone())?, credential).await?;
        let other = caller.towards(b.clone())?;
        Ok([
            Self::through(caller, &changes, None).await?,
            Self::through(other, &changes, None).await?,
        ])
    }

    async fn through(caller: Caller, changes: &Changes, board: Option<Arc<Board>>) -> Result<Self, Error> {
        let mut callers = vec![caller.clone()];
        for _ in 1..changes.connections {
            callers.push(caller.again()?);
        }
        let mut writes = Self {
            callers,
            project: changes.project.clone(),
            environment: changes.environment.clone(),
            flags: Vec::new(),
            board,
        };
        for key in &changes.flags {
            let was_on = writes.is_on(&caller, key).await?;
            let key = key.clone();
            writes.flags.push(Flag { key, was_on });
        }
        writes.connect().await?;
        writes.may_change(&caller).await?;
        Ok(writes)
    }

    /// Asks something over every connection, so that nobody waits for one later.
    async fn connect(&self) -> Result<(), Error> {
        for (n, caller) in (0..).zip(&self.callers) {
            if let Some(flag) = in_turn(&self.flags, n) {
                self.is_on(caller, &flag.key).await?;
            }
        }
        Ok(())
    }

    /// Whether the flags may be changed. Nothing is.
    async fn may_change(&self, caller: &Caller) -> Result<(), Error> {
        let toggles = self.flags.iter().map(|flag| Toggle {
            flag: flag.key.clone(),
            enabled: next(flag.was_on, 0),
        });
        let mut request = self.request(caller, toggles.collect());
        request.get_mut().validate_only = true;
        let mut client = FlagServiceClient::new(caller.channel.clone());
        caller.answer(client.toggle_flags(request)).await.map(drop)
    }

    fn caller(&self, n: u64) -> Result<&Caller, Error> {
        in_turn(&self.callers, n).ok_or(Error::Answer("there is no connection"))
    }

    async fn is_on(&self, caller: &Caller, flag: &str) -> Result<bool, Error> {
        let request = GetFlagConfigurationRequest {
            project: self.project.clone(),
            environment: self.environment.clone(),
            flag: flag.to_owned(),
        };
        let mut client = FlagServiceClient::new(caller.channel.clone());
        let answer = caller.answer(client.get_flag_configuration(caller.bounded_request(request)));
        let GetFlagConfigurationResponse { configuration } = answer.await?;
        Ok(configuration.ok_or(Error::Answer("it holds no configuration"))?.enabled)
    }

    fn request(&self, caller: &Caller, toggles: Vec<Toggle>) -> Request<ToggleFlagsRequest> {
        let mut request = caller.bounded_request(ToggleFlagsRequest {
            project: self.project.clone(),
            environment: self.environment.clone(),
            toggles,
            validate_only: false,
            request_id: String::new(),
        });
        let (name, reason) = REASON;
        request.metadata_mut().insert(name, MetadataValue::from_static(reason));
        request
    }

    /// Puts the flags back, and sees that they are: what was given up may have been applied late.
    pub async fn restore(&self) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.try_to_restore().await {
                Ok(true) => return Ok(()),
                Ok(false) if tries == TRIES => return Err(Error::Answer("the flags do not stay as they were before")),
                Err(error) if tries == TRIES || !may_heal(&error) => return Err(error),
                Ok(false) | Err(_) => {}
            }
            tries += 1;
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// Gives whether every flag is as it was.
    async fn try_to_restore(&self) -> Result<bool, Error> {
        // Over a connection that nothing waits on.
        let caller = self.caller(0)?.again()?;
        let toggles = self.flags.iter().map(|flag| Toggle {
            flag: flag.key.clone(),
            enabled: flag.was_on,
        });
        let mut client = FlagServiceClient::new(caller.channel.clone());
        let request = self.request(&caller, toggles.collect());
        caller.answer(client.toggle_flags(request)).await?;
        for flag in &self.flags {
            if self.is_on(&caller, &flag.key).await? != flag.was_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What to do by hand where the flags could not be put back.
    pub fn by_hand(&self) -> String {
        let state = |flag: &Flag| format!("{} {}", flag.key, if flag.was_on { "on" } else { "off" });
        let states: Vec<_> = self.flags.iter().map(state).collect();
        let caller = self.callers.first();
        let endpoint = caller.map(|caller| format!(" --endpoint {}", caller.server.endpoint));
        format!(
            "halyard toggle{} --project {} --environment {} {}",
            endpoint.unwrap_or_default(),
            self.project,
            self.environment,
            states.join(" ")
        )
    }
}

/// Whether trying again can help.
fn may_heal(error: &Error) -> bool {
    matches!(error, Error::Call { status, .. } if matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::ResourceExhausted
    ))
}

impl Work for Writes {
    async fn ask(&self, n: u64, counts: bool) -> Result<&'static str, Status> {
        let (Some(caller), Some(flag)) = (in_turn(&self.callers, n), in_turn(&self.flags, n)) else {
            return Err(Status::internal("there is no connection"));
        };
        let toggle = Toggle {
            flag: flag.key.clone(),
            enabled: next(flag.was_on, n / self.flags.len() as u64),
        };
        let request = self.request(caller, vec![toggle]);
        let sent = Instant::now();
        let answer = FlagServiceClient::new(caller.channel.clone())
            .toggle_flags(request)
            .await?;
        let acknowledged = Instant::now();
        let ToggleFlagsResponse {
            configurations: _,
            revisions,
            changed,
        } = answer.into_inner();
        if let (Some(board), Some(revision), true) = (&self.board, revisions.first(), counts) {
            board.acknowledged(revision.revision, sent, acknowledged);
        }
        Ok(if changed { CHANGED } else { UNCHANGED })
    }
}

/// What a flag is turned to, round by round: first to what it was not.
fn next(was_on: bool, round: u64) -> bool {
    was_on == (round % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_first_turned_to_what_it_was_not() {
        assert_eq!([0, 1, 2].map(|round| next(true, round)), [false, true, false]);
        assert_eq!([0, 1, 2].map(|round| next(false, round)), [true, false, true]);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let failed = |status| {
            may_heal(&Error::Call {
                endpoint: http::Uri::from_static("http://halyard.example"),
                status: Box::new(status),
                credential: "--token",
            })
        };
        assert!(failed(Status::unavailable("")) && failed(Status::aborted("")));
        assert!(!failed(Status::permission_denied("")) && !failed(Status::not_found("")));
        assert!(!may_heal(&Error::Interrupted));
    }
}
