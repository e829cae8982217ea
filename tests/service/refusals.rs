//! How a refusal is held against what was expected of it.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::eventually;

/// What the server says at the end of a call's deadline. The client counts too, and may be the first, which is no word of the server's:
/// then it is asked again.
pub async fn by_server<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    eventually("the server's word", async || {
        let answer = ask().await;
        let by_client = answer.as_ref().is_err_and(|status| status.code() == Code::Cancelled);
        (!by_client).then_some(answer)
    })
    .await
}

/// Fails unless the call was refused with this code, with details, and without a trace of what is underneath.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) -> Status {
    let status = result.expect_err("the call should have been refused");
    assert_eq!(status.code(), code, "{status:?}");
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "halyard");
    assert!(!info.reason.is_empty());
    let said = format!("{status:?}").to_lowercase();
    for leak in [
        "select ",
        "insert into",
        "sqlstate",
        "relation \"",
        "constraint",
        "src/",
        "panicked",
    ] {
        assert!(!said.contains(leak), "{said} tells of {leak}");
    }
    status
}

/// Fails unless the request was invalid in exactly these fields.
#[track_caller]
pub fn invalid<T: std::fmt::Debug>(result: Result<T, Status>, fields: &[&str]) {
    let status = refused(result, Code::InvalidArgument);
    let details = status.get_details_bad_request().expect("a BadRequest");
    let found: Vec<_> = details
        .field_violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(found, fields, "{status:?}");
    assert!(
        details
            .field_violations
            .iter()
            .all(|violation| !violation.description.is_empty())
    );
}
