//! What can go wrong with a command, in words that say what to do.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;

use http::Uri;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Exit;

/// What went wrong with a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The password cannot be read from the terminal.
    #[error("the password cannot be read: {0}")]
    Prompt(#[source] io::Error),
    /// The server's answer is an error, or there is none.
    #[error("{}", explain(.endpoint, .status, .credential))]
    Call {
        /// Which server.
        endpoint: Uri,
        /// What it said, or what was said in its place.
        status: Box<Status>,
        /// What the caller showed, as it is called on the command line.
        credential: &'static str,
    },
    /// The server answers, but not what its contract says.
    #[error("the answer is not what a Halyard server gives: {0}; is something else listening at that address?")]
    Answer(&'static str),
    /// The server, or one of its services, is not ready.
    #[error("not ready")]
    NotServing,
    /// What was received was not always what the server held.
    #[error("what was received was not always what the server held, see above")]
    Mismatched,
    /// Load was put on a server, and it did not do well enough.
    #[error("not good enough: {0}")]
    NotGoodEnough(String),
    /// It was asked to stop before it was done.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            // Whoever read the output has seen enough: `halyard watch | head -1`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_)
            | Self::Prompt(_)
            | Self::Answer(_)
            | Self::Mismatched
            | Self::NotGoodEnough(_)
            | Self::Interrupted => Exit::Failed,
            Self::NotServing => Exit::Unavailable,
            Self::Call { status, .. } => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Exit::Unavailable,
                Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
                Code::Ok
                | Code::Unknown
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Internal
                | Code::DataLoss => Exit::Failed,
            },
        }
    }
}

fn explain(endpoint: &Uri, status: &Status, credential: &str) -> String {
    let said = status.message();
    let endpoint = endpoint.to_string();
    let endpoint = endpoint.trim_end_matches('/');
    let mut text = match status.code() {
        Code::Unavailable => format!(
            "{endpoint} cannot answer now: {said}{}\nIs Halyard running there{}? Another address goes into --endpoint or \
             HALYARD_ENDPOINT.",
            root_cause(status),
            // What begins with a handshake says nothing that a client in clear could understand.
            if endpoint.starts_with("http:") {
                ", in clear (otherwise https://)"
            } else {
                ""
            }
        ),
        // tonic's own timer says Cancelled.
        Code::DeadlineExceeded | Code::Cancelled => {
            format!("{endpoint} did not answer in time; give it longer with --timeout")
        }
        Code::Unauthenticated => format!(
            "{endpoint} does not accept this credential{}\nIt may be mistyped, revoked, expired, or of another \
             installation. Check {credential}.",
            own_words(status)
        ),
        Code::PermissionDenied => {
            format!("this credential is valid, but may not do that: {said}\nCheck {credential}.")
        }
        Code::NotFound => format!("not found: {said}"),
        Code::InvalidArgument if is_violation(status) => "the request is refused:".to_owned(),
        Code::InvalidArgument => format!("the request is refused: {said}"),
        Code::FailedPrecondition => format!("not in this state: {said}"),
        Code::ResourceExhausted => format!("a limit is reached: {said}"),
        Code::Aborted => format!("somebody else changed it at the same time; try again: {said}"),
        Code::Unimplemented => {
            format!("{endpoint} does not know this call; is it an older Halyard, or something else? {said}")
        }
        Code::Ok | Code::Unknown | Code::AlreadyExists | Code::OutOfRange | Code::Internal | Code::DataLoss => {
            format!("{endpoint} answered {:?}: {said}", status.code())
        }
    };
    add_details(&mut text, status);
    text
}

/// What lies at the bottom of a connection that failed, such as `: Connection refused (os error 111)`.
fn root_cause(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    cause.map_or_else(String::new, |cause| format!(": {cause}"))
}

/// What is said of a credential, unless it is what Halyard says of every one: how programs show theirs.
fn own_words(status: &Status) -> String {
    if status.get_details_error_info().is_some() {
        ".".to_owned()
    } else {
        format!(": {}", status.message())
    }
}

/// Whether the message is the first of the violations, which are listed anyway.
fn is_violation(status: &Status) -> bool {
    let first = status
        .get_details_bad_request()
        .and_then(|details| details.field_violations.into_iter().next());
    first.is_some_and(|first| status.message() == format!("{}: {}", first.field, first.description))
}

fn add_details(text: &mut String, status: &Status) {
    let violations = status.get_details_bad_request().map(|details| details.field_violations);
    for violation in violations.into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    let blocks = status
        .get_details_precondition_failure()
        .map(|details| details.violations);
    for block in blocks.into_iter().flatten() {
        let _ = write!(text, "\n  {}: {}", block.subject, block.description);
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn call(status: Status) -> Error {
        Error::Call {
            endpoint: "http://halyard.example:50051".parse().unwrap(),
            status: Box::new(status),
            credential: "--key or HALYARD_KEY",
        }
    }

    fn check(status: Status, exit: Exit, said: &str) {
        let error = call(status);
        assert_eq!(error.exit(), exit, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }

    #[test]
    fn every_failure_says_what_to_do() {
        check(
            Status::unavailable("tcp connect error"),
            Exit::Unavailable,
            "--endpoint or HALYARD_ENDPOINT",
        );
        check(Status::deadline_exceeded(""), Exit::Unavailable, "--timeout");
        check(Status::cancelled("Timeout expired"), Exit::Unavailable, "--timeout");
        check(
            Status::unauthenticated("no"),
            Exit::Denied,
            "Check --key or HALYARD_KEY",
        );
        check(Status::permission_denied("no"), Exit::Denied, "may not do that: no");
        check(Status::not_found("no flag x"), Exit::Failed, "not found: no flag x");
        check(Status::internal("oh"), Exit::Failed, "answered Internal: oh");
    }

    #[test]
    fn every_violation_is_listed() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("toggles[0].flag", "is unknown");
        details.add_bad_request_violation("toggles[1].flag", "is archived");
        check(
            Status::with_error_details(Code::InvalidArgument, "2 violations", details),
            Exit::Failed,
            "refused: 2 violations\n  toggles[0].flag: is unknown\n  toggles[1].flag: is archived",
        );
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("toggles[0].flag", "is unknown");
        check(
            Status::with_error_details(Code::InvalidArgument, "toggles[0].flag: is unknown", details),
            Exit::Failed,
            "refused:\n  toggles[0].flag: is unknown",
        );
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_CREDENTIAL", "halyard", std::collections::HashMap::new());
        check(
            Status::with_error_details(Code::Unauthenticated, "metadata is wanted", details),
            Exit::Denied,
            "this credential.\nIt may be",
        );
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        assert_eq!(
            Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(),
            Exit::Done
        );
        assert_eq!(
            Error::from(io::Error::from(io::ErrorKind::StorageFull)).exit(),
            Exit::Failed
        );
    }
}
