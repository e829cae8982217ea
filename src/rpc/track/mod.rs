//! Events of experiments, handed to the store, or by a sidecar to its server.

mod forward;

use std::sync::Arc;

use jiff::Timestamp;
use tonic::metadata::MetadataMap;

use super::Refusal;
use super::convert::event;
use super::front::{Application, Deadline};
use crate::domain::access::KeyKind;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::pb::evaluation::v1 as pb;
use crate::store::events::{Intake, Refused};

pub use forward::Forwarding;

/// Where events go.
#[derive(Clone)]
pub enum Destination {
    /// Into the database.
    Stored(Arc<Intake>),
    /// To the server that a sidecar is fed by.
    Forwarded(Arc<Forwarding>),
    /// Nowhere: they are refused.
    Nowhere,
}

/// Takes a batch, of a caller who sent this metadata. Only its size can be wrong with a batch as a whole.
pub(super) async fn take(
    to: &Destination,
    application: &Application,
    deadline: Deadline,
    batch: pb::TrackRequest,
    caller: &MetadataMap,
) -> Result<pb::TrackResponse, Refusal> {
    let pb::TrackRequest { events, as_client } = batch;
    if events.len() > limits::EVENTS {
        let description = format!("are {}; a batch has at most {}", events.len(), limits::EVENTS);
        return Err(Violations::one("events", description).into());
    }
    let kind = if as_client { KeyKind::Client } else { application.kind };
    match to {
        Destination::Stored(intake) => store(intake, application, kind, events).await,
        Destination::Forwarded(forwarding) => {
            let as_client = kind == KeyKind::Client;
            let batch = pb::TrackRequest { events, as_client };
            forwarding.take(batch, deadline, caller).await
        }
        Destination::Nowhere => Err(Refusal::NoEvents),
    }
}

async fn store(
    intake: &Intake,
    application: &Application,
    kind: KeyKind,
    events: Vec<pb::Event>,
) -> Result<pb::TrackResponse, Refusal> {
    let now = Timestamp::now();
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
    let taken = intake.take(application.environment, kind, well_formed, now);
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
