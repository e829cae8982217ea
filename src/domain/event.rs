//! Events: what applications tell of the units of experiments, and what becomes of each.

mod window;

use jiff::Timestamp;
use uuid::Uuid;

use super::decimal::Decimal;
use super::invalid::Violations;
use super::{check, limits};

pub use window::{Window, first_received, first_received_at};

/// An event, as an application tells it. It makes sense by itself; whether what it names exists, the store knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The client's name for it, by which it counts once.
    pub id: Uuid,
    /// Whom it is about.
    pub unit: String,
    /// When it happened, by the client's clock. `None`: when it was received.
    pub occurred_at: Option<Timestamp>,
    /// What happened.
    pub subject: Subject,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// The unit saw what its arm serves.
    Exposure(Exposure),
    /// Something that a metric counts.
    Metric(Measurement),
}

/// A unit saw what its arm serves: what it was answered by an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The experiment's key.
    pub experiment: String,
    /// The experiment's iteration.
    pub iteration: u32,
    /// The arm.
    pub arm: String,
    /// Whether the answer was a stored assignment.
    pub assignment_stored: bool,
}

/// Something that a metric counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// The metric's key.
    pub metric: String,
    /// The attribute of the context that the unit is. `None`: the targeting key.
    pub attribute: Option<String>,
    /// How much.
    pub measure: Measure,
}

/// How much, and in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// It happened.
    Conversion,
    /// An amount, such as of money.
    Value(Decimal),
    /// A number of things.
    Count(u64),
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is stored, and counts.
    Accepted,
    /// It is stored, and kept out of the results: the arm was not a stored one.
    Excluded,
    /// One with its id was stored before.
    Duplicate,
    /// It happened too long ago: its id may have been forgotten.
    Late,
    /// It happened in the future, or its id was made there.
    Early,
    /// No experiment has the key, or it never ran.
    UnknownExperiment,
    /// The experiment has no such iteration.
    UnknownIteration,
    /// The experiment has no such arm.
    UnknownArm,
    /// No experiment that ever ran has such a metric.
    UnknownMetric,
    /// Whichever experiments have the metric, they measure it otherwise.
    WrongMeasure,
    /// It makes no sense.
    Malformed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Excluded,
        Self::Duplicate,
        Self::Late,
        Self::Early,
        Self::UnknownExperiment,
        Self::UnknownIteration,
        Self::UnknownArm,
        Self::UnknownMetric,
        Self::WrongMeasure,
        Self::Malformed,
    ];

    /// The name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Excluded => "excluded",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Early => "early",
            Self::UnknownExperiment => "unknown_experiment",
            Self::UnknownIteration => "unknown_iteration",
            Self::UnknownArm => "unknown_arm",
            Self::UnknownMetric => "unknown_metric",
            Self::WrongMeasure => "wrong_measure",
            Self::Malformed => "malformed",
        }
    }
}

impl Event {
    /// Notes everything that is wrong with it.
    pub fn check(&self) -> Violations {
        let mut wrong = Violations::new();
        if self.id.is_nil() {
            wrong.add("id", "is all zeros; every event needs an id of its own");
        }
        if self.unit.is_empty() {
            wrong.add("unit", "is empty; say whom the event is about");
        }
        // As long as an attribute can be: of a long one the hash is stored.
        at_most(&mut wrong, "unit", &self.unit, limits::CONTEXT_BYTES);
        match &self.subject {
            Subject::Exposure(exposure) => exposure.check(&mut wrong),
            Subject::Metric(measurement) => measurement.check(&mut wrong),
        }
        wrong
    }

    /// About what it takes in memory, in bytes.
    pub fn size_bytes(&self) -> usize {
        let names = match &self.subject {
            Subject::Exposure(Exposure { experiment, arm, .. }) => experiment.len() + arm.len(),
            Subject::Metric(Measurement { metric, attribute, .. }) => {
                metric.len() + attribute.as_ref().map_or(0, String::len)
            }
        };
        size_of::<Self>() + self.unit.len() + names
    }
}

impl Exposure {
    fn check(&self, wrong: &mut Violations) {
        let Self {
            experiment,
            iteration,
            arm,
            assignment_stored: _,
        } = self;
        named(wrong, "exposure.experiment", experiment, limits::KEY_BYTES);
        if *iteration == 0 {
            wrong.add("exposure.iteration", "is 0; iterations are counted from 1");
        }
        named(wrong, "exposure.arm", arm, limits::KEY_BYTES);
    }
}

impl Measurement {
    fn check(&self, wrong: &mut Violations) {
        let Self {
            metric,
            attribute,
            measure,
        } = self;
        named(wrong, "metric.metric", metric, limits::KEY_BYTES);
        if let Some(attribute) = attribute {
            // No experiment has another, and not every text can be stored.
            check::text(wrong, "metric.unit_attribute", attribute, limits::ATTRIBUTE_CHARS);
        }
        if let Measure::Count(count) = measure
            && *count > limits::METRIC_VALUE
        {
            wrong.add("metric.count", format!("is more than {}", limits::METRIC_VALUE));
        }
    }
}

fn named(wrong: &mut Violations, field: &str, key: &str, bytes: usize) {
    if key.is_empty() {
        wrong.add(field, "is empty");
    }
    at_most(wrong, field, key, bytes);
}

fn at_most(wrong: &mut Violations, field: &str, text: &str, bytes: usize) {
    if text.len() > bytes {
        wrong.add(field, format!("is longer than {bytes} bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure() -> Event {
        Event {
            id: Uuid::from_u128(1),
            unit: "ada".into(),
            occurred_at: None,
            subject: Subject::Exposure(Exposure {
                experiment: "checkout".into(),
                iteration: 1,
                arm: "on".into(),
                assignment_stored: true,
            }),
        }
    }

    fn fields(event: &Event) -> Vec<String> {
        event.check().iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn everything_wrong_with_an_event_is_said_at_once() {
        assert_eq!(fields(&exposure()), Vec::<String>::new());
        let nothing = Event {
            id: Uuid::nil(),
            unit: String::new(),
            occurred_at: None,
            subject: Subject::Exposure(Exposure {
                experiment: String::new(),
                iteration: 0,
                arm: "x".repeat(limits::KEY_BYTES + 1),
                assignment_stored: false,
            }),
        };
        let expected = [
            "id",
            "unit",
            "exposure.experiment",
            "exposure.iteration",
            "exposure.arm",
        ];
        assert_eq!(fields(&nothing), expected);
        let vast = Event {
            unit: "x".repeat(limits::CONTEXT_BYTES + 1),
            subject: Subject::Metric(Measurement {
                metric: String::new(),
                attribute: Some("é".repeat(limits::ATTRIBUTE_CHARS + 1)),
                measure: Measure::Count(limits::METRIC_VALUE + 1),
            }),
            ..exposure()
        };
        let expected = ["unit", "metric.metric", "metric.unit_attribute", "metric.count"];
        assert_eq!(fields(&vast), expected);
    }

    #[test]
    fn an_attribute_that_no_experiment_can_have_is_malformed() {
        for (attribute, expected) in [
            ("a\0b", vec!["metric.unit_attribute"]),
            ("\u{1b}", vec!["metric.unit_attribute"]),
            ("address.country", vec![]),
        ] {
            let event = Event {
                subject: Subject::Metric(Measurement {
                    metric: "bought".into(),
                    attribute: Some(attribute.into()),
                    measure: Measure::Conversion,
                }),
                ..exposure()
            };
            assert_eq!(fields(&event), expected);
        }
    }

    #[test]
    fn any_string_is_a_unit() {
        for unit in [
            "x".repeat(limits::CONTEXT_BYTES),
            "\0".into(),
            " ".into(),
            "日本".into(),
        ] {
            assert_eq!(fields(&Event { unit, ..exposure() }), Vec::<String>::new());
        }
    }
}
