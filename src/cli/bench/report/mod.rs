//! What was measured, and whether it is good enough. Printed for people by `text`, for programs by `object`.

mod object;
mod text;

use std::io::Write;

use super::super::Error;
use super::compare::Round;
use super::recorder::{Recorder, share};
use super::watch::{Propagation, Seen};
use crate::config::{Load, Output, Pace, Window};

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Report {
    /// The command: `evaluate`, `watch`, `write` or `mixed`.
    pub name: &'static str,
    pub endpoint: String,
    pub window: Window,
    /// How many seconds counted: fewer than were asked for if it was interrupted.
    pub seconds: f64,
    pub interrupted: bool,
    pub max_error_rate: f64,
    pub evaluate: Option<Requests>,
    pub write: Option<Requests>,
    /// Whether every flag is as it was. `None`: none was touched.
    pub restored: Option<bool>,
    pub watch: Option<Watched>,
    pub comparison: Option<Comparison>,
}

/// Requests of one kind.
#[derive(Debug)]
pub(super) struct Requests {
    pub load: Load,
    pub recorded: Recorder,
}

/// Streams.
#[derive(Debug)]
pub(super) struct Watched {
    pub streams: usize,
    pub connections: usize,
    /// How many had their first state in time.
    pub ready: usize,
    pub seen: Seen,
    /// `None`: nothing was written.
    pub propagation: Option<Propagation>,
}

/// Another server that took turns with the first.
#[derive(Debug)]
pub(super) struct Comparison {
    pub endpoint: String,
    pub requests: Requests,
    pub rounds: Vec<Round>,
    /// How many seconds counted of the other server's turns.
    pub seconds: f64,
}

/// Why a result is not good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortfall {
    /// Too large a share of evaluations without a good answer.
    EvaluateErrorRate,
    /// The same of changes.
    WriteErrorRate,
    /// The same of the other server.
    ComparedErrorRate,
    /// Of what was to be sent nothing counted.
    NothingMeasured,
    /// Not every stream had its first state in time.
    StreamsNotReady,
    /// Too large a share of streams broke off.
    StreamErrorRate,
    /// A stream was not what its contract says.
    OutOfOrder,
    /// A change did not arrive on every stream.
    Undelivered,
    /// Flags could not be put back.
    NotRestored,
}

impl Shortfall {
    fn name(self) -> &'static str {
        match self {
            Self::EvaluateErrorRate => "EVALUATE_ERROR_RATE",
            Self::WriteErrorRate => "WRITE_ERROR_RATE",
            Self::ComparedErrorRate => "COMPARED_ERROR_RATE",
            Self::NothingMeasured => "NOTHING_MEASURED",
            Self::StreamsNotReady => "STREAMS_NOT_READY",
            Self::StreamErrorRate => "STREAM_ERROR_RATE",
            Self::OutOfOrder => "OUT_OF_ORDER",
            Self::Undelivered => "UNDELIVERED",
            Self::NotRestored => "NOT_RESTORED",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::EvaluateErrorRate => "too many evaluations without a good answer",
            Self::WriteErrorRate => "too many changes without a good answer",
            Self::ComparedErrorRate => "too many requests to the other server without a good answer",
            Self::NothingMeasured => "no request counted; measure for longer, or ask for more",
            Self::StreamsNotReady => "not every stream had its first state in time",
            Self::StreamErrorRate => "too many streams broke off",
            Self::OutOfOrder => "streams were not in order",
            Self::Undelivered => "changes did not arrive on every stream",
            Self::NotRestored => "the flags could not be put back as they were",
        }
    }
}

impl Report {
    /// Prints it. It is an error if it is not good enough.
    pub fn conclude(&self, output: Output, out: &mut (dyn Write + Send)) -> Result<(), Error> {
        match output {
            Output::Text => text::lines(self).iter().try_for_each(|line| writeln!(out, "{line}"))?,
            Output::Json => writeln!(out, "{}", object::object(self))?,
        }
        out.flush()?;
        let sentences: Vec<_> = self.shortfalls().into_iter().map(Shortfall::sentence).collect();
        if sentences.is_empty() {
            Ok(())
        } else {
            Err(Error::NotGoodEnough(sentences.join("; ")))
        }
    }

    fn shortfalls(&self) -> Vec<Shortfall> {
        let above = |requests: Option<&Requests>| {
            requests.is_some_and(|requests| requests.recorded.error_rate() > self.max_error_rate)
        };
        let compared = self.comparison.as_ref().map(|comparison| &comparison.requests);
        let kinds = [self.evaluate.as_ref(), self.write.as_ref(), compared];
        let nothing = kinds.into_iter().flatten().any(|requests| requests.recorded.due() == 0);
        let watch = self.watch.as_ref();
        let is = |holds: fn(&Watched) -> bool| watch.is_some_and(holds);
        let found = [
            (Shortfall::EvaluateErrorRate, above(self.evaluate.as_ref())),
            (Shortfall::WriteErrorRate, above(self.write.as_ref())),
            (Shortfall::ComparedErrorRate, above(compared)),
            (Shortfall::NothingMeasured, nothing),
            (Shortfall::StreamsNotReady, is(|watch| watch.ready < watch.streams)),
            (
                Shortfall::StreamErrorRate,
                watch.is_some_and(|watch| watch.error_rate() > self.max_error_rate),
            ),
            (Shortfall::OutOfOrder, is(|watch| watch.seen.disordered() > 0)),
            (Shortfall::Undelivered, is(|watch| watch.undelivered() > 0)),
            (Shortfall::NotRestored, self.restored == Some(false)),
        ];
        found
            .into_iter()
            .filter_map(|(shortfall, holds)| holds.then_some(shortfall))
            .collect()
    }
}

impl Watched {
    /// How often a stream broke off, to how many there are.
    fn error_rate(&self) -> f64 {
        share(self.seen.broken(), self.streams as u64)
    }

    fn undelivered(&self) -> u64 {
        self.propagation
            .as_ref()
            .map_or(0, |propagation| propagation.undelivered)
    }
}

impl Requests {
    fn is_open_loop(&self) -> bool {
        matches!(self.load.pace, Pace::Rate(_))
    }
}

#[cfg(test)]
mod tests;
