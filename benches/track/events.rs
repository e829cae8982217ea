//! Events that are new, as themselves and as messages.

use halyard::pb::evaluation::v1 as pb;
use jiff::Timestamp;
use prost::Message as _;
use uuid::Uuid;

/// Events of a batch: as many as one may have.
pub const BATCH: usize = 1_000;

/// An event, without any message or row around it.
pub struct Event {
    pub id: Uuid,
    pub unit: String,
    pub at: Timestamp,
    /// Of a value; `None`: an exposure.
    pub cents: Option<u32>,
}

/// Batches of new events, half of them exposures, half of them values.
pub fn make(batches: usize) -> Vec<Vec<Event>> {
    let event = |n: usize| Event {
        id: Uuid::now_v7(),
        unit: format!("user-{}", fastrand::u32(..1_000_000)),
        at: Timestamp::now(),
        cents: n.is_multiple_of(2).then(|| fastrand::u32(..100_000)),
    };
    (0..batches).map(|_| (0..BATCH).map(event).collect()).collect()
}

/// A request with these events, encoded.
pub fn request(batch: Vec<Event>) -> Vec<u8> {
    let events = batch.into_iter().map(message).collect();
    pb::TrackRequest {
        events,
        as_client: false,
    }
    .encode_to_vec()
}

fn message(event: Event) -> pb::Event {
    let Event { id, unit, at, cents } = event;
    let what = match cents {
        None => pb::event::What::Exposure(pb::Exposure {
            experiment: "checkout".into(),
            iteration: 1,
            arm: "on".into(),
            assignment_stored: true,
        }),
        Some(cents) => pb::event::What::Metric(pb::MetricEvent {
            metric: "revenue".into(),
            amount: Some(pb::metric_event::Amount::Value(f64::from(cents) / 100.0)),
            unit_attribute: String::new(),
        }),
    };
    pb::Event {
        id: id.to_string(),
        unit,
        occur_time: Some(prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        what: Some(what),
    }
}
