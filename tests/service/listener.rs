//! A client of `WatchEvaluations` that keeps the answers it is sent, and checks every promise while it does.

use std::collections::BTreeMap;

use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_evaluations_response::Message;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::app::{evaluation, watch};
use crate::support::within;

/// A stream of answers and what came of it.
pub struct Listener {
    /// Answers by flag, without their revisions: those that a client keeps are of earlier ones.
    pub held: BTreeMap<String, pb::Evaluation>,
    pub order: (u64, u64),
    pub token: Vec<u8>,
    pub stream_id: String,
    asked: pb::WatchEvaluationsRequest,
    stream: Streaming<pb::WatchEvaluationsResponse>,
}

/// A batch that was applied.
#[derive(Debug)]
pub struct Applied {
    pub intent: pb::Intent,
    pub reason: pb::SnapshotReason,
    /// The flags answered.
    pub answered: Vec<String>,
    pub removed: Vec<String>,
    pub messages: usize,
}

pub fn question(context: Option<pb::Context>) -> pb::WatchEvaluationsRequest {
    pb::WatchEvaluationsRequest {
        context,
        heartbeat: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    }
}

impl Listener {
    pub async fn new(channel: &Channel, key: &str, asked: pb::WatchEvaluationsRequest) -> Result<Self, Status> {
        let stream = watch(channel, key).watch_evaluations(asked.clone()).await?.into_inner();
        Ok(Self {
            held: BTreeMap::new(),
            order: (0, 0),
            token: Vec::new(),
            stream_id: String::new(),
            asked,
            stream,
        })
    }

    /// The same client, connected anew with the token that it holds.
    pub async fn reconnect(self, channel: &Channel, key: &str) -> Result<Self, Status> {
        let asked = pb::WatchEvaluationsRequest {
            resume_token: self.token.clone(),
            ..self.asked
        };
        let stream = watch(channel, key).watch_evaluations(asked.clone()).await?.into_inner();
        Ok(Self { asked, stream, ..self })
    }

    /// The next message, or why there is none; `None` is the stream's end.
    pub async fn message(&mut self) -> Result<Option<Message>, Status> {
        let response = within("a message", self.stream.message()).await?;
        Ok(response.map(|response| response.message.expect("a message")))
    }

    /// The next batch, applied; heartbeats before it are taken note of. An error or Goodbye is the stream's end.
    pub async fn batch(&mut self) -> Result<Applied, Option<Status>> {
        loop {
            if let Some(batch) = self.next().await? {
                return Ok(batch);
            }
        }
    }

    /// The next batch, applied, or nothing but a heartbeat.
    pub async fn next(&mut self) -> Result<Option<Applied>, Option<Status>> {
        match self.message().await? {
            Some(Message::Batch(batch)) => self.finish(batch).await.map(Some),
            Some(Message::Heartbeat(heartbeat)) => {
                self.hear(&heartbeat);
                Ok(None)
            }
            Some(Message::Goodbye(_)) | None => Err(None),
        }
    }

    /// Listens until this revision is held, and returns the batches that came.
    pub async fn until(&mut self, revision: u64) -> Result<Vec<Applied>, Option<Status>> {
        let mut batches = Vec::new();
        while self.order.1 < revision {
            batches.extend(self.next().await?);
        }
        Ok(batches)
    }

    fn hear(&mut self, heartbeat: &pb::Heartbeat) {
        let order = (heartbeat.generation, heartbeat.head_revision);
        assert!(order >= self.order && self.order > (0, 0), "{heartbeat:?}");
        self.order = order;
        self.token.clone_from(&heartbeat.resume_token);
    }

    async fn finish(&mut self, first: pb::Batch) -> Result<Applied, Option<Status>> {
        let (mut answers, mut removed, mut messages) = (Vec::new(), Vec::new(), 1);
        let mut part = first.clone();
        loop {
            assert_eq!(
                (part.intent, part.reason, part.generation, part.revision),
                (first.intent, first.reason, first.generation, first.revision)
            );
            assert_eq!(part.more, part.resume_token.is_empty());
            answers.append(&mut part.evaluations);
            removed.append(&mut part.removed);
            if !part.more {
                break;
            }
            part = match self.message().await? {
                Some(Message::Batch(next)) => next,
                Some(Message::Heartbeat(_) | Message::Goodbye(_)) => panic!("inside of a batch"),
                None => return Err(None),
            };
            messages += 1;
        }
        self.apply(&part, &answers, &removed);
        Ok(Applied {
            intent: part.intent(),
            reason: part.reason(),
            answered: answers.into_iter().map(|answer| answer.flag).collect(),
            removed,
            messages,
        })
    }

    fn apply(&mut self, last: &pb::Batch, answers: &[pb::Evaluation], removed: &[String]) {
        assert!(
            answers.is_sorted_by(|one, other| one.flag < other.flag),
            "sorted, none twice"
        );
        let order = (last.generation, last.revision);
        assert!(order >= self.order, "went back from {:?} to {order:?}", self.order);
        // Age alters answers without a revision.
        let stale = |answer: &pb::Evaluation| answer.reason() == pb::Reason::Stale;
        // So does an assignment that could not be found out when its flag was answered, of the flag or of one that it needs.
        let unstored = |answer: &pb::Evaluation| {
            answer
                .experiment
                .as_ref()
                .is_some_and(|it| it.sticky && !it.assignment_stored)
        };
        let settles = self.held.values().any(unstored);
        let aged = |answer: &pb::Evaluation| stale(answer) || self.held.get(&answer.flag).is_some_and(stale);
        match last.intent() {
            pb::Intent::Snapshot => self.held.clear(),
            pb::Intent::Delta => {
                assert!(
                    order > self.order || settles || answers.iter().any(aged),
                    "the same revision twice"
                );
                assert!(!answers.is_empty() || !removed.is_empty(), "a batch of nothing");
            }
            pb::Intent::None => assert!(answers.is_empty() && removed.is_empty()),
            pb::Intent::Unspecified => panic!("a batch without intent"),
        }
        for flag in removed {
            self.held.remove(flag).expect("what is removed was there");
        }
        for answer in answers {
            assert_eq!(answer.revision, last.revision, "all of one revision");
            let answer = bare(answer.clone());
            let before = self.held.insert(answer.flag.clone(), answer.clone());
            assert_ne!(before, Some(answer), "what has not changed is not sent");
        }
        self.order = order;
        self.token.clone_from(&last.resume_token);
        self.stream_id.clone_from(&last.stream);
    }

    /// Fails unless what is held is what `EvaluateAll` answers.
    pub async fn check(&self, channel: &Channel, key: &str) {
        let request = pb::EvaluateAllRequest {
            context: self.asked.context.clone(),
            flags: self.asked.flags.clone(),
            min_revision: self.order.1,
        };
        let all = evaluation(channel, key)
            .evaluate_all(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(all.revision, self.order.1);
        let expected = all.evaluations.into_iter().map(bare);
        assert_eq!(
            self.held,
            expected.map(|answer| (answer.flag.clone(), answer)).collect()
        );
    }

    /// The variant that is held.
    pub fn variant(&self, flag: &str) -> Option<&str> {
        self.held.get(flag).map(|answer| answer.variant.as_str())
    }
}

fn bare(answer: pb::Evaluation) -> pb::Evaluation {
    pb::Evaluation { revision: 0, ..answer }
}
