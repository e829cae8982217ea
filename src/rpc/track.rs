//! Events of experiments, handed to the store.

use jiff::Timestamp;

use super::Refusal;
use super::convert::event;
use super::front::Application;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::pb::evaluation::v1 as pb;
use crate::store::events::{Intake, Refused};

/// Takes a batch. Only its size can be wrong with a batch as a whole.
pub(super) async fn take(
    intake: &Intake,
    application: &Application,
    events: Vec<pb::Event>,
) -> Result<pb::TrackResponse, Refusal> {
    let now = Timestamp::now();
    if events.len() > limits::EVENTS {
        let description = format!("are {}; a batch has at most {}", events.len(), limits::EVENTS);
        return Err(Violations::one("events", description).into());
    }
    let mut well_formed = Vec::with_capacity(events.len());
    let mut malformed = 0;
    // `None`: the store will say.
    let mut answers = Vec::with_capacity(events.len());
    for event in events {
        match event::read(event) {
            Ok(event) => {
                well_formed.push(event);
                answers.push(None);
            }
            Err(wrong) => {
                malformed += 1;
                answers.push(Some(event::write_malformed(&wrong)));
            }
        }
    }
    let taken = intake.take(application.environment, application.kind, well_formed, now);
    let mut outcomes = taken.await.map_err(refusal)?.into_iter();
    intake.note_malformed(malformed);
    let answers = answers
        .into_iter()
        .filter_map(|answer| answer.or_else(|| outcomes.next().map(event::write)))
        .collect();
    Ok(pb::TrackResponse { answers })
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Behind => Refusal::events_behind(),
        Refused::Away => Refusal::database_away(),
        Refused::Broken => Refusal::Internal,
    }
}
