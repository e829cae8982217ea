//! What is stored of units: who asks about one, and everything as a stream.

use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::read::Place;
use super::write::write_assignment;
use crate::domain::invalid::Violations;
use crate::domain::{key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::Refusal;
use crate::rpc::admin::{Call, at};
use crate::rpc::convert::common::{finish, place};
use crate::rpc::front::{Caller, Deadline};
use crate::store::{Store, deadline};

/// The environment in which a unit is asked about, if the caller may call this method there.
pub(super) async fn place_of_unit(
    call: &Call,
    mut violations: Violations,
    (project, environment): (&str, &str),
    unit: &str,
) -> Result<(key::Project, key::Environment), Refusal> {
    let place = place(&mut violations, project, environment);
    call.authorise(place.as_ref().map(|(project, _)| project)).await?;
    if unit.is_empty() {
        violations.add("unit", "is empty; name the unit");
    }
    finish(violations, place).map_err(Refusal::Invalid)
}

/// Assignments, part after part: each is read when the one before was taken, so that a slow reader costs the database nothing. Before
/// each it is asked whether the caller still may: the stream may go on for long, but not beyond the caller's deadline. `turn` is given
/// back at its end.
pub(super) fn export(
    store: Store,
    (caller, until): (Caller, Deadline),
    place: Place<key::Experiment>,
    turn: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<pb::ExportAssignmentsResponse, Status>> + Send {
    let begun = (store, caller, place, turn, Some(String::new()));
    try_unfold(begun, move |(store, caller, place, turn, after)| async move {
        let Some(after) = after else {
            return Ok(None);
        };
        caller.authorise_again(Some(&place.project)).await?;
        let found = store.experiment_assignments(
            at(&place.project, &place.environment),
            &place.named,
            &after,
            limits::PAGE_SIZE,
        );
        // Whoever reads may go away: then it is given up as any other request.
        let found = deadline::by(until.instant(), found).await;
        let found = found.map_err(Refusal::from)?.map_err(Refusal::Store)?;
        let next = found
            .last()
            .filter(|_| found.len() == limits::PAGE_SIZE)
            .map(|last| last.unit.clone());
        if found.is_empty() {
            return Ok(None);
        }
        let part = pb::ExportAssignmentsResponse {
            assignments: found.iter().map(write_assignment).collect(),
        };
        Ok(Some((part, (store, caller, place, turn, next))))
    })
}
