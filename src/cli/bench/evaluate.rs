//! Evaluations by generated units, who ask in turn.

use prost_types::Struct;
use tonic::Status;
use tonic::transport::Channel;

use super::super::call::{ANSWER_BYTES, Caller};
use super::super::{Error, json};
use super::drive::Work;
use crate::config::{EvaluateLoad, Server};
use crate::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use crate::pb::evaluation::v1::{
    Context, EvaluateAllRequest, EvaluateAllResponse, EvaluateRequest, EvaluateResponse, Evaluation, Reason,
};

/// Evaluations of one environment at one server.
pub(super) struct Evaluations {
    /// One for each connection.
    callers: Vec<Caller>,
    /// None: all at once.
    flags: Vec<String>,
    units: u64,
    attributes: Option<Struct>,
}

/// Kinds of answers to a question about every flag at once.
const NO_ERROR: &str = "NO_ERROR";
const SOME_ERROR: &str = "SOME_ERROR";

impl Evaluations {
    pub fn new(server: &Server, load: &EvaluateLoad) -> Result<Self, Error> {
        let EvaluateLoad {
            key,
            load,
            flags,
            units,
            attributes,
        } = load;
        let caller = || Caller::new(server.clone())?.with_key(key);
        let attributes = (!attributes.is_empty()).then(|| json::to_struct(attributes.clone()));
        Ok(Self {
            callers: (0..load.connections.get())
                .map(|_| caller())
                .collect::<Result<_, _>>()?,
            flags: flags.iter().map(ToString::to_string).collect(),
            units: units.get() as u64,
            attributes,
        })
    }

    /// Asks once for every flag over every connection, so that what cannot work is said before anything is measured, and nobody waits
    /// for a connection later.
    pub async fn try_out(&self) -> Result<(), Error> {
        for (n, caller) in (0..).zip(&self.callers) {
            let all = if n == 0 { self.flags.len().max(1) } else { 1 };
            for flag in 0..all as u64 {
                let answer = tokio::time::timeout(caller.server.timeout, self.ask_over(caller, flag)).await;
                let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
                answer.map_err(|status| caller.failed(status))?;
            }
        }
        Ok(())
    }

    async fn ask_over(&self, caller: &Caller, n: u64) -> Result<&'static str, Status> {
        let context = Some(Context {
            targeting_key: unit(n, self.units),
            attributes: self.attributes.clone(),
        });
        let mut client = EvaluationServiceClient::<Channel>::new(caller.channel.clone());
        let Some(flag) = in_turn(&self.flags, n) else {
            let request = EvaluateAllRequest {
                context,
                flags: Vec::new(),
                min_revision: 0,
            };
            client = client.max_decoding_message_size(ANSWER_BYTES);
            let answer = client.evaluate_all(caller.bounded_request(request)).await?;
            let EvaluateAllResponse {
                evaluations,
                revision: _,
            } = answer.into_inner();
            let any = evaluations
                .iter()
                .any(|evaluation| evaluation.reason() == Reason::Error);
            return Ok(if any { SOME_ERROR } else { NO_ERROR });
        };
        let request = EvaluateRequest {
            flag: flag.clone(),
            context,
            min_revision: 0,
            explain: false,
        };
        let answer = client.evaluate(caller.bounded_request(request)).await?;
        let EvaluateResponse {
            evaluation,
            explanation: _,
        } = answer.into_inner();
        Ok(reason(&evaluation.unwrap_or_default()))
    }
}

impl Work for Evaluations {
    async fn ask(&self, n: u64, _: bool) -> Result<&'static str, Status> {
        match in_turn(&self.callers, n) {
            Some(caller) => self.ask_over(caller, n).await,
            None => Err(Status::internal("there is no connection")),
        }
    }
}

/// One after the other, again and again. `None` of none.
pub(super) fn in_turn<T>(all: &[T], n: u64) -> Option<&T> {
    let at = n.checked_rem(all.len() as u64)?;
    all.get(usize::try_from(at).ok()?)
}

/// The targeting key of who asks for the nth time. Each round of all units begins with the next one, or else the same units would for
/// ever ask for the same flag over the same connection where their numbers share a factor.
fn unit(n: u64, units: u64) -> String {
    let round = n / units;
    format!("bench-{}", n.wrapping_add(round) % units)
}

fn reason(evaluation: &Evaluation) -> &'static str {
    let name = evaluation.reason().as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_ask_in_turn_and_each_asks_for_every_flag() {
        let units: Vec<_> = (0..4).map(|n| unit(n, 4)).collect();
        assert_eq!(units, ["bench-0", "bench-1", "bench-2", "bench-3"]);
        // With as many flags as units each round begins one further.
        let second: Vec<_> = (4..8).map(|n| unit(n, 4)).collect();
        assert_eq!(second, ["bench-1", "bench-2", "bench-3", "bench-0"]);
        assert_eq!(unit(u64::MAX, 1), "bench-0");
    }

    #[test]
    fn all_have_their_turn() {
        let turns: Vec<_> = (0..5).filter_map(|n| in_turn(&["a", "b"], n)).collect();
        assert_eq!(turns, [&"a", &"b", &"a", &"b", &"a"]);
        assert_eq!(in_turn::<u8>(&[], 1), None);
    }
}
