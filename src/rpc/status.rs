//! The one place that chooses gRPC status codes.
//!
//! Every status carries `google.rpc.ErrorInfo` (domain `halyard`, a stable reason), and what else helps a program to act on it.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::auth::mask::masked;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::{store, watch};

const DOMAIN: &str = "halyard";
const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
const EVENTS_BEHIND: &str =
    "more events wait to be stored than this server may hold; send them again later, with the same ids";
/// The longest that another server can have our callers wait.
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// Why a request is refused, by what the caller can do about it.
#[derive(Debug)]
pub enum Refusal {
    /// Mend these fields.
    Invalid(Violations),
    /// The message cannot be read at all.
    Unreadable,
    /// Show a valid credential. Says nothing more on purpose.
    Unauthenticated,
    /// Ask somebody for the right to do this. Also where the caller may not know whether a thing exists.
    Denied,
    /// Use a server key: an explanation tells rules.
    ExplanationDenied,
    /// There is no such thing.
    NotFound {
        /// The kind of thing.
        entity: &'static str,
        /// Its key.
        key: String,
    },
    /// The store refused.
    Store(store::Error),
    /// Try again later, or elsewhere.
    Unavailable {
        /// What is missing now.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// Try again when others are done.
    Busy {
        /// What there is enough of already.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// Send fewer requests with this credential.
    TooFast {
        /// When the next passes.
        retry_after: Duration,
    },
    /// Try again a little later, or elsewhere: there is too much to do here, and nothing was begun.
    Overloaded {
        /// What there is too much of.
        what: &'static str,
    },
    /// Too many tries: wait.
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// This installation does not let people open accounts for themselves: ask an administrator for one.
    SignUpOff,
    /// The account has no password to be changed.
    NoPassword,
    /// The caller did not log in here: log out at the issuer.
    NoSession,
    /// Use the tokens that another caller got for the same refresh token.
    RefreshRaced,
    /// Send events to another server: this one, or the one that this sidecar is fed by, takes none.
    NoEvents,
    /// The message is larger than the limit.
    TooLarge,
    /// Send the message at once: it did not arrive in time.
    Late,
    /// Send one message: the method takes no more.
    SurplusMessage,
    /// The caller's deadline is over, and nothing was changed.
    DeadlineExceeded,
    /// The caller's deadline is over, and what became of a change is not known.
    OutcomeUnknown,
    /// A method that this version does not have.
    Unimplemented,
    /// Nothing; it is our bug, and logged.
    Internal,
}

/// Why a request was refused is logged here, once, if it is a failure of ours.
pub fn log(refusal: &Refusal) {
    if let Refusal::Store(error) = refusal
        && let store::Error::Corrupt { .. } | store::Error::Bug(_) = error
    {
        tracing::error!(error = error.summary(), "a request failed for a reason of our own");
    }
}

impl From<Violations> for Refusal {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<store::deadline::Over> for Refusal {
    fn from(over: store::deadline::Over) -> Self {
        match over {
            store::deadline::Over::Undone => Self::DeadlineExceeded,
            store::deadline::Over::Unanswered => Self::OutcomeUnknown,
        }
    }
}

impl From<watch::source::Unreachable> for Refusal {
    fn from(watch::source::Unreachable: watch::source::Unreachable) -> Self {
        Self::origin_away()
    }
}

impl Refusal {
    /// PostgreSQL cannot be asked, and the request needs it.
    pub fn database_away() -> Self {
        Self::Unavailable {
            what: "the database cannot be reached now",
            retry_after: Duration::from_secs(1),
        }
    }

    /// The OpenID Connect issuer cannot be asked, and the request needs it.
    pub fn issuer_away() -> Self {
        Self::Unavailable {
            what: "the token names a key that is not known, and its issuer cannot be asked now",
            retry_after: Duration::from_secs(5),
        }
    }

    /// What this server learns of changes from cannot be asked, and the request needs it.
    pub fn origin_away() -> Self {
        Self::Unavailable {
            what: "this server cannot reach its database, or a sidecar its upstream, now",
            retry_after: Duration::from_secs(1),
        }
    }

    /// So much of other requests is on its way in that there is no room for this one.
    pub fn requests_crowded() -> Self {
        Self::Busy {
            what: "more is on its way in than this server holds; try again",
            retry_after: Duration::from_secs(1),
        }
    }

    /// So much waits to be read that an answer as large as this one finds no room.
    pub fn answers_unread() -> Self {
        Self::Busy {
            what: "more answers wait to be read than this server holds; read them, and try again",
            retry_after: Duration::from_secs(1),
        }
    }

    /// So many ask what there is here that there is no room for another.
    pub fn reflections_taken() -> Self {
        Self::Busy {
            what: "too many streams of reflection are open here; try again",
            retry_after: Duration::from_secs(1),
        }
    }

    /// So many events wait to be stored that there is no room for more.
    pub fn events_behind() -> Self {
        Self::Busy {
            what: EVENTS_BEHIND,
            retry_after: Duration::from_secs(1),
        }
    }

    /// What the server that a sidecar is fed by said of a batch of events, as those who sent it can act on it. That a key of ours is
    /// refused is nothing that they could mend, so they come again, as if the server were away.
    pub fn of_events_upstream(status: &Status) -> Self {
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let retry_after = asked.map_or(Duration::from_secs(1), |asked| asked.min(LONGEST_RETRY));
        match status.code() {
            Code::ResourceExhausted if asked.is_none() => Self::TooLarge,
            Code::ResourceExhausted => Self::Busy {
                what: EVENTS_BEHIND,
                retry_after,
            },
            Code::Unimplemented => Self::NoEvents,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Internal
            | Code::DataLoss => Self::Internal,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::Unauthenticated
            | Code::PermissionDenied => Self::Unavailable {
                what: "the server that this sidecar is fed by cannot take events now; send them again later, with the same ids",
                retry_after,
            },
        }
    }

    /// The key is known, but its environment's state is still on its way here.
    pub fn not_loaded() -> Self {
        Self::Unavailable {
            what: "this replica has not loaded the environment yet",
            retry_after: Duration::from_millis(200),
        }
    }

    /// This server is shutting down; another is not.
    pub fn draining() -> Self {
        Self::Unavailable {
            what: "this server is shutting down",
            retry_after: Duration::from_millis(200),
        }
    }

    /// This replica has not applied the revision that was asked for.
    pub fn revision_not_reached() -> Self {
        Self::Unavailable {
            what: "this replica has not reached min_revision yet",
            retry_after: Duration::from_millis(200),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        log(&refusal);
        match refusal {
            Refusal::Invalid(violations) => invalid(&violations),
            Refusal::Unreadable => plain(
                Code::InvalidArgument,
                "UNREADABLE_MESSAGE",
                "the message cannot be read; is it nested too deeply?",
            ),
            Refusal::Unauthenticated => plain(
                Code::Unauthenticated,
                "INVALID_CREDENTIAL",
                "a valid credential is required: metadata `authorization: Bearer <credential>`",
            ),
            Refusal::Denied => plain(
                Code::PermissionDenied,
                "PERMISSION_DENIED",
                "the caller may not do this",
            ),
            Refusal::ExplanationDenied => plain(
                Code::PermissionDenied,
                "SERVER_KEY_REQUIRED",
                "an explanation tells rules, which client keys may not see; ask with a server key",
            ),
            Refusal::NotFound { entity, key } => {
                resource(Code::NotFound, "NOT_FOUND", entity, &key, "there is no such")
            }
            Refusal::Store(error) => stored(error),
            Refusal::Unavailable { what, retry_after } => retry(Code::Unavailable, "UNAVAILABLE", what, retry_after),
            Refusal::Busy { what, retry_after } => retry(Code::ResourceExhausted, "BUSY", what, retry_after),
            Refusal::TooFast { retry_after } => retry(
                Code::ResourceExhausted,
                "RATE_EXCEEDED",
                "this credential makes more requests a second than it may",
                retry_after,
            ),
            Refusal::Overloaded { what } => retry(Code::Unavailable, "OVERLOADED", what, overload_pause()),
            Refusal::Throttled { retry_after } => retry(
                Code::ResourceExhausted,
                "THROTTLED",
                "too many tries; wait before the next",
                retry_after,
            ),
            Refusal::SignUpOff => precondition(
                "SIGN_UP_OFF",
                "sign-up",
                "is switched off here; ask an administrator for an account",
            ),
            Refusal::NoPassword => precondition("NO_PASSWORD", "user", "has no password to be changed"),
            Refusal::NoSession => precondition(
                "NO_SESSION",
                "session",
                "is none of ours: the token is an OpenID Connect issuer's, where its bearer logs out",
            ),
            Refusal::RefreshRaced => plain(
                Code::Aborted,
                "REFRESH_RACED",
                "the refresh token was used a moment ago; use the tokens that its use gave",
            ),
            Refusal::NoEvents => plain(
                Code::Unimplemented,
                "EVENTS_NOT_TAKEN",
                "no events are taken here; send them to a server that takes them",
            ),
            Refusal::TooLarge => plain(
                Code::ResourceExhausted,
                "MESSAGE_TOO_LARGE",
                "the message is larger than this server takes, which is 4 MiB unless it is set otherwise, and 64 KiB for what anybody \
                 may call",
            ),
            Refusal::Late => plain(
                Code::DeadlineExceeded,
                "MESSAGE_TOO_LATE",
                "the request's message did not arrive in time",
            ),
            Refusal::SurplusMessage => plain(
                Code::InvalidArgument,
                "SURPLUS_MESSAGE",
                "the method takes one message, and more came",
            ),
            Refusal::DeadlineExceeded => plain(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline is over"),
            Refusal::OutcomeUnknown => plain(
                Code::DeadlineExceeded,
                OUTCOME_UNKNOWN,
                "the deadline is over, and the database has not answered the commit: the change may have been made, or be made yet; \
                 repeat it with the same request_id, or look",
            ),
            Refusal::Unimplemented => plain(Code::Unimplemented, "UNIMPLEMENTED", "there is no such method"),
            Refusal::Internal => internal(),
        }
    }
}

fn stored(error: store::Error) -> Status {
    use store::Error;
    match error {
        Error::Invalid(violations) => invalid(&violations),
        Error::NotFound { entity, key } => {
            resource(Code::NotFound, "NOT_FOUND", entity.name(), &key, "there is no such")
        }
        Error::AlreadyExists { entity, key } => resource(
            Code::AlreadyExists,
            "ALREADY_EXISTS",
            entity.name(),
            &key,
            "the key is taken by another",
        ),
        Error::Stale { entity, key } => resource(
            Code::Aborted,
            "STALE_ETAG",
            entity.name(),
            &key,
            "it was changed since you read it; read it again and repeat your change on the",
        ),
        Error::Denied => Refusal::Denied.into(),
        Error::Blocked {
            entity,
            key,
            description,
        } => precondition("BLOCKED", &format!("{entity} {key}"), &description),
        Error::LimitReached { entity, limit } => plain(
            Code::ResourceExhausted,
            "LIMIT_REACHED",
            &format!("there are {limit} of the kind {entity} already, which is the limit"),
        ),
        Error::Busy => Refusal::Busy {
            what: "others are activating uploads; try again",
            retry_after: Duration::from_secs(1),
        }
        .into(),
        Error::RequestIdReused => invalid(&Violations::one(
            "request_id",
            "was used for another request; a new request needs a new id",
        )),
        Error::Conflict(_) | Error::HandEdited => retry(
            Code::Aborted,
            "CONFLICT",
            "another change came in between; try again",
            Duration::from_millis(50),
        ),
        Error::Crowded => Refusal::Overloaded {
            what: "too many requests wait for the database here",
        }
        .into(),
        Error::Timeout(_) | Error::Late => Refusal::DeadlineExceeded.into(),
        Error::Unavailable(_) => Refusal::database_away().into(),
        Error::Unanswered(_) => retry(
            Code::Unavailable,
            OUTCOME_UNKNOWN,
            "the database went away during the commit: the change may have been made; repeat it with the same request_id, or look",
            Duration::from_secs(1),
        ),
        Error::Corrupt { .. } | Error::Bug(_) => internal(),
    }
}

/// Why a Watch ends before its time.
pub fn end_of_stream(end: &watch::End) -> Option<Status> {
    match end {
        watch::End::Finished => None,
        watch::End::Revoked | watch::End::Expired => Some(Refusal::Unauthenticated.into()),
        watch::End::EnvironmentGone => Some(resource(
            Code::NotFound,
            "NOT_FOUND",
            "environment",
            "",
            "there no longer is the key's",
        )),
        watch::End::Unreachable => Some(Refusal::origin_away().into()),
        watch::End::Stalled => Some(retry(
            Code::ResourceExhausted,
            "SLOW_CONSUMER",
            "the client left what it was sent unread for too long; resume with the last token",
            Duration::from_secs(1),
        )),
    }
}

/// What follows the last message of a stream. No status: it has said all it had to.
pub fn trailers(status: Option<Status>) -> HeaderMap {
    let status = status.unwrap_or_else(|| Status::new(Code::Ok, ""));
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // What cannot be told whole is told by its code.
        let _ = Status::new(status.code(), "").add_header(&mut trailers);
    }
    trailers
}

/// Completes a status that was not made here but by the transport, which knows nothing of details.
pub fn complete(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    match status.code() {
        Code::OutOfRange => Refusal::TooLarge.into(),
        Code::Unimplemented => Refusal::Unimplemented.into(),
        Code::Cancelled => Refusal::DeadlineExceeded.into(),
        code @ (Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated) => Status::with_error_details(code, status.message(), info("TRANSPORT")),
    }
}

fn info(reason: &str) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    details
}

fn plain(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, info(reason))
}

fn internal() -> Status {
    plain(
        Code::Internal,
        "INTERNAL",
        "an internal error; the server's log says more",
    )
}

fn retry(code: Code, reason: &str, message: &str, after: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// How long who finds a server overloaded is asked to wait: not all as long, so that they do not come back together.
fn overload_pause() -> Duration {
    Duration::from_millis(fastrand::u64(500..=1_500))
}

fn precondition(reason: &str, subject: &str, description: &str) -> Status {
    let (subject, description) = (masked(subject), masked(description));
    let mut details = info(reason);
    details.add_precondition_failure_violation("STATE", &*subject, &*description);
    Status::with_error_details(Code::FailedPrecondition, format!("{subject} {description}"), details)
}

fn resource(code: Code, reason: &str, entity: &str, key: &str, message: &str) -> Status {
    let key = masked(key);
    let mut details = info(reason);
    details.set_resource_info(entity, &*key, "", message);
    let separator = if key.is_empty() { "" } else { " " };
    Status::with_error_details(code, format!("{message} {entity}{separator}{key}"), details)
}

fn invalid(violations: &Violations) -> Status {
    let mut details = info("INVALID_FIELDS");
    let mut message = String::from("the request is invalid");
    for (n, violation) in violations.iter().enumerate() {
        let (field, description) = (short(&violation.field), short(&violation.description));
        if n == limits::VIOLATIONS {
            details.add_bad_request_violation("", "and more");
            break;
        }
        if n == 0 {
            message = format!("{field}: {description}");
        }
        details.add_bad_request_violation(field, description);
    }
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// What a caller sent comes back without our secrets, and shortened: trailers are small.
fn short(text: &str) -> String {
    const CHARS: usize = 300;
    let text = &*masked(text);
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
