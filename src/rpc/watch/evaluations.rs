//! Streams of answers: the question as it is asked, and the batches as they are sent.

use std::cell::Cell;
use std::sync::Arc;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;

use super::encode::write_intent;
use crate::domain::access::KeyKind;
use crate::evaluate::{Assigned, Experiment, Need};
use crate::pb::evaluation::v1 as pb;
use crate::rpc::Refusal;
use crate::rpc::assignments::{Assignments, Settled};
use crate::rpc::convert::common::timestamp;
use crate::rpc::convert::evaluation;
use crate::rpc::evaluation::read_question;
use crate::rpc::front::Deadline;
use crate::watch::{Fingerprint, Part, Question};

/// Reads a question.
pub(super) fn read(
    context: Option<pb::Context>,
    mut flags: Vec<String>,
    asked_by: KeyKind,
) -> Result<Arc<Question>, Refusal> {
    let read = read_question(context.clone(), &flags)?;
    flags.sort_unstable();
    flags.dedup();
    let fingerprint = fingerprint(context.unwrap_or_default(), &flags, asked_by);
    let flags: Vec<Arc<str>> = flags.into_iter().map(Into::into).collect();
    Ok(Arc::new(Question {
        context: read,
        flags: (!flags.is_empty()).then(|| flags.into()),
        asked_by,
        fingerprint,
    }))
}

/// Tells the question from others: half of the SHA-256 of all that is asked, as its messages are written here.
fn fingerprint(context: pb::Context, flags: &[String], asked_by: KeyKind) -> Fingerprint {
    let asked = pb::WatchEvaluationsRequest {
        context: Some(context),
        flags: flags.to_vec(),
        ..pb::WatchEvaluationsRequest::default()
    };
    let mut hash = Sha256::new();
    hash.update(match asked_by {
        KeyKind::Server => b"server",
        KeyKind::Client => b"client",
    });
    hash.update(asked.encode_to_vec());
    let hash: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Fingerprint(half)
}

/// A part of a batch as its message, which says where to resume only when the stream knows what is not settled.
pub(super) struct Answered {
    pub(super) batch: pb::Batch,
    /// The flags that were answered although an assignment that they depend on could not be found out, sorted.
    pub(super) unsettled: Vec<Arc<str>>,
}

/// A part of a batch, once all assignments that its answers need are found out, as far as there is time.
pub(super) async fn settle(part: Box<Part>, assignments: Assignments) -> (Box<Part>, Answered) {
    let mut settled = Settled::new(&assignments, Deadline::default());
    loop {
        match write(&part, &settled) {
            Ok(answered) => return (part, answered),
            Err(needs) => {
                // A stream outlives whatever trace it was opened in.
                let nobody = MetadataMap::new();
                settled
                    .settle(&part.question.context, part.state.head.revision, needs, &nobody)
                    .await;
            }
        }
    }
}

/// A part of a batch as its message. `Err`: what has to be found out first.
pub(super) fn write(part: &Part, settled: &Settled<'_>) -> Result<Answered, Vec<Need>> {
    let Part {
        question,
        state,
        age,
        intent,
        changed,
        removed,
        resume_token,
        again,
        stream,
    } = part;
    let revision = state.head.revision;
    let is_settled = Cell::new(true);
    let known = |experiment: &Experiment, unit: &str| {
        let assigned = settled.get(experiment, unit);
        if assigned == Assigned::Unreachable {
            is_settled.set(false);
        }
        assigned
    };
    let (mut evaluations, mut needs, mut unsettled) = (Vec::new(), Vec::new(), Vec::new());
    for key in changed {
        let Some(flag) = question.flag(state, key) else {
            continue;
        };
        is_settled.set(true);
        let answer = match flag.evaluate_knowing(&question.context, &state.snapshot, age.freshness(), &known) {
            Ok(answer) => answer,
            Err(need) => {
                needs.push(*need);
                continue;
            }
        };
        if !is_settled.get() {
            unsettled.push(Arc::clone(key));
            // The client has this answer already.
            if *again {
                continue;
            }
        }
        evaluations.push(evaluation::write(flag, &answer, revision, question.asked_by));
    }
    if !needs.is_empty() {
        return Err(needs);
    }
    let (intent, reason) = write_intent(*intent);
    let batch = pb::Batch {
        intent: intent.into(),
        reason: reason.into(),
        evaluations,
        removed: removed.iter().map(ToString::to_string).collect(),
        more: resume_token.is_none(),
        generation: state.identity.generation,
        revision,
        resume_token: Vec::new(),
        committed_at: Some(timestamp(state.head.committed_at)),
        stream: stream.to_string(),
    };
    Ok(Answered { batch, unsettled })
}
