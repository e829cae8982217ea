//! Streams of answers: the question as it is asked, and the batches as they are sent.

use std::sync::Arc;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::encode::write_intent;
use crate::domain::access::KeyKind;
use crate::evaluate::{Experiment, Need};
use crate::pb::evaluation::v1 as pb;
use crate::rpc::Refusal;
use crate::rpc::assignments::{Assignments, Settled};
use crate::rpc::convert::common::timestamp;
use crate::rpc::convert::evaluation;
use crate::rpc::evaluation::read_question;
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

/// A part of a batch, once all assignments that its answers need are found out, as far as there is time.
pub(super) async fn settle(part: Box<Part>, assignments: Assignments) -> pb::Batch {
    let mut settled = Settled::new(&assignments);
    loop {
        match write(&part, &settled) {
            Ok(batch) => return batch,
            Err(needs) => {
                settled
                    .settle(&part.question.context, part.state.head.revision, needs)
                    .await
            }
        }
    }
}

/// A part of a batch as its message. `Err`: what has to be found out first.
pub(super) fn write(part: &Part, settled: &Settled<'_>) -> Result<pb::Batch, Vec<Need>> {
    let Part {
        question,
        state,
        age,
        intent,
        changed,
        removed,
        resume_token,
        stream,
    } = part;
    let revision = state.head.revision;
    let answered = changed.iter().filter_map(|key| question.flag(state, key));
    let known = |experiment: &Experiment, unit: &str| settled.get(experiment, unit);
    let (mut evaluations, mut needs) = (Vec::new(), Vec::new());
    for flag in answered {
        match flag.evaluate_knowing(&question.context, &state.snapshot, age.freshness(), &known) {
            Ok(answer) => evaluations.push(evaluation::write(flag, &answer, revision, question.asked_by)),
            Err(need) => needs.push(*need),
        }
    }
    if !needs.is_empty() {
        return Err(needs);
    }
    let (intent, reason) = write_intent(*intent);
    Ok(pb::Batch {
        intent: intent.into(),
        reason: reason.into(),
        evaluations,
        removed: removed.iter().map(ToString::to_string).collect(),
        more: resume_token.is_none(),
        generation: state.identity.generation,
        revision,
        resume_token: resume_token.as_deref().unwrap_or_default().to_vec(),
        committed_at: Some(timestamp(state.head.committed_at)),
        stream: stream.to_string(),
    })
}
