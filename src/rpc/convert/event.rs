//! Events in, and what became of them out.

use uuid::Uuid;

use super::common::read_timestamp;
use crate::domain::context::own_attribute;
use crate::domain::decimal::Decimal;
use crate::domain::event::{Event, Exposure, Measure, Measurement, Outcome, Subject};
use crate::domain::invalid::Violations;
use crate::pb::evaluation::v1 as pb;

/// Reads an event, or says everything that is wrong with it.
pub fn read(event: pb::Event) -> Result<Event, Violations> {
    let pb::Event {
        id,
        unit,
        occur_time,
        what,
    } = event;
    let mut wrong = Violations::new();
    let id = read_id(&mut wrong, &id);
    let occurred_at = occur_time.and_then(|time| read_timestamp(&mut wrong, "occur_time", time));
    let subject = match what {
        Some(pb::event::What::Exposure(exposure)) => Some(Subject::Exposure(read_exposure(exposure))),
        Some(pb::event::What::Metric(metric)) => read_metric(&mut wrong, metric).map(Subject::Metric),
        None => {
            wrong.add("what", "is absent; an event is an exposure or a metric event");
            None
        }
    };
    // Whatever could not be read has been noted.
    let Some(subject) = subject else { return Err(wrong) };
    let event = Event {
        // What is looked at below must not be refused for what was noted above.
        id: id.unwrap_or(Uuid::max()),
        unit,
        occurred_at,
        subject,
    };
    wrong.nest("", event.check());
    wrong.or(event)
}

fn read_id(wrong: &mut Violations, id: &str) -> Option<Uuid> {
    let read = Uuid::try_parse(id).ok();
    if read.is_none() {
        wrong.add("id", "is not a UUID, such as 0197a3c4-2f6e-7b1d-9c55-3f0e8a6d2b41");
    }
    read
}

fn read_exposure(exposure: pb::Exposure) -> Exposure {
    let pb::Exposure {
        experiment,
        iteration,
        arm,
        assignment_stored,
    } = exposure;
    Exposure {
        experiment,
        iteration,
        arm,
        assignment_stored,
    }
}

fn read_metric(wrong: &mut Violations, event: pb::MetricEvent) -> Option<Measurement> {
    let pb::MetricEvent {
        metric,
        amount,
        unit_attribute,
    } = event;
    let measure = match amount {
        None => Measure::Conversion,
        Some(pb::metric_event::Amount::Count(count)) => Measure::Count(count),
        Some(pb::metric_event::Amount::Value(value)) => match Decimal::shortest(value) {
            Ok(value) => Measure::Value(value),
            Err(refused) => {
                wrong.add("metric.value", refused.to_string());
                return None;
            }
        },
    };
    Some(Measurement {
        metric,
        attribute: own_attribute(&unit_attribute).map(ToOwned::to_owned),
        measure,
    })
}

/// What became of an event.
pub fn write(outcome: Outcome) -> pb::EventAnswer {
    let outcome = match outcome {
        Outcome::Accepted => pb::EventOutcome::Accepted,
        Outcome::Excluded => pb::EventOutcome::Excluded,
        Outcome::Duplicate => pb::EventOutcome::Duplicate,
        Outcome::Late => pb::EventOutcome::Late,
        Outcome::Early => pb::EventOutcome::Early,
        Outcome::UnknownExperiment => pb::EventOutcome::UnknownExperiment,
        Outcome::UnknownIteration => pb::EventOutcome::UnknownIteration,
        Outcome::UnknownArm => pb::EventOutcome::UnknownArm,
        Outcome::UnknownMetric => pb::EventOutcome::UnknownMetric,
        Outcome::WrongMeasure => pb::EventOutcome::WrongMeasure,
        Outcome::Malformed => pb::EventOutcome::Malformed,
    };
    pb::EventAnswer {
        outcome: outcome.into(),
        description: String::new(),
    }
}

/// What is wrong with an event that makes no sense.
pub fn write_malformed(wrong: &Violations) -> pb::EventAnswer {
    pb::EventAnswer {
        outcome: pb::EventOutcome::Malformed.into(),
        description: wrong.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn event() -> pb::Event {
        pb::Event {
            id: "0197a3c4-2f6e-7b1d-9c55-3f0e8a6d2b41".into(),
            unit: "ada".into(),
            occur_time: Some(Timestamp {
                seconds: 1_700_000_000,
                nanos: 5,
            }),
            what: Some(pb::event::What::Metric(pb::MetricEvent {
                metric: "revenue".into(),
                amount: Some(pb::metric_event::Amount::Value(19.99)),
                unit_attribute: String::new(),
            })),
        }
    }

    #[test]
    fn an_event_is_read_whole() {
        let read = read(event()).unwrap();
        assert_eq!(read.id, Uuid::from_u128(0x0197_a3c4_2f6e_7b1d_9c55_3f0e_8a6d_2b41));
        assert_eq!(read.occurred_at, jiff::Timestamp::new(1_700_000_000, 5).ok());
        let expected = Measurement {
            metric: "revenue".into(),
            attribute: None,
            measure: Measure::Value(Decimal::shortest(19.99).unwrap()),
        };
        assert_eq!(read.subject, Subject::Metric(expected));
    }

    #[test]
    fn everything_wrong_is_told_together() {
        let wrong = pb::Event {
            id: "17".into(),
            unit: String::new(),
            occur_time: Some(Timestamp { seconds: 0, nanos: -1 }),
            what: Some(pb::event::What::Exposure(pb::Exposure::default())),
        };
        let wrong = read(wrong).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|violation| violation.field.as_str()).collect();
        let expected = [
            "id",
            "occur_time",
            "unit",
            "exposure.experiment",
            "exposure.iteration",
            "exposure.arm",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn an_amount_that_cannot_be_summed_is_told() {
        let event = pb::Event {
            what: Some(pb::event::What::Metric(pb::MetricEvent {
                amount: Some(pb::metric_event::Amount::Value(f64::NAN)),
                ..pb::MetricEvent::default()
            })),
            ..event()
        };
        assert_eq!(
            read(event).unwrap_err().to_string(),
            "metric.value: is not a finite number"
        );
        let nothing = pb::Event {
            what: None,
            ..self::event()
        };
        assert!(read(nothing).unwrap_err().to_string().starts_with("what: is absent"));
    }

    #[test]
    fn the_targeting_key_is_the_unit_by_either_name() {
        for (name, expected) in [
            ("", None),
            ("targeting_key", None),
            ("company", Some("company".to_owned())),
        ] {
            let metric = pb::MetricEvent {
                unit_attribute: name.into(),
                ..pb::MetricEvent::default()
            };
            let read = read_metric(&mut Violations::new(), metric).unwrap();
            assert_eq!(read.attribute, expected);
        }
    }
}
