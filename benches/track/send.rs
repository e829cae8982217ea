//! Batches over gRPC: encoded beforehand, by clients that do nothing but send and read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::client::SendRequest;
use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use crate::events::{BATCH, Event, request};
use crate::support::load::{Question, connect};
use crate::support::world::Replica;
use crate::support::{Error, Result};

const TRACK: &str = "/halyard.evaluation.v1.EvaluationService/Track";
/// The code that says: too much waits.
const RESOURCE_EXHAUSTED: u8 = 8;
/// Callers on one connection.
const OF_A_CONNECTION: usize = 16;
/// How long a caller that was refused waits: much less than the server asks for.
const AGAIN: Duration = Duration::from_millis(50);

/// Batches that are ready to be sent.
pub struct Batches(Vec<Question>);

impl Batches {
    pub fn of(replica: &Replica, key: &str, batches: Vec<Vec<Event>>) -> Result<Self> {
        let ready = |batch| Question::new(&replica.address, key, TRACK, &request(batch));
        Ok(Self(batches.into_iter().map(ready).collect::<Result<_>>()?))
    }

    /// Has callers send all of them, each as soon as its last one was answered, and again if it was refused. Returns how often any was.
    pub async fn send(self, replica: &Replica, callers: usize) -> Result<u64> {
        let batches = Arc::new(self.0);
        let (next, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let mut calls = Vec::new();
        for at in 0..callers.div_ceil(OF_A_CONNECTION) {
            let connection = connect(replica.address).await?;
            for _ in 0..OF_A_CONNECTION.min(callers - at * OF_A_CONNECTION) {
                let (connection, batches) = (connection.clone(), batches.clone());
                let (next, refused) = (next.clone(), refused.clone());
                calls.push(tokio::spawn(async move {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        refused.fetch_add(until_taken(batch, &connection).await?, Ordering::Relaxed);
                    }
                    Ok::<_, Error>(())
                }));
            }
        }
        for call in try_join_all(calls).await? {
            call?;
        }
        Ok(refused.load(Ordering::Relaxed))
    }
}

/// Sends a batch until it is taken, and returns how often it was refused.
async fn until_taken(batch: &Question, connection: &SendRequest<Bytes>) -> Result<u64> {
    let mut refused = 0;
    loop {
        match batch.call(connection).await? {
            (0, answer) => {
                let answers = pb::TrackResponse::decode(answer.get(5..).ok_or("no answer")?)?.answers;
                let accepted = |answer: &pb::EventAnswer| answer.outcome() == pb::EventOutcome::Accepted;
                assert!(
                    answers.len() == BATCH && answers.iter().all(accepted),
                    "not all were taken"
                );
                return Ok(refused);
            }
            (RESOURCE_EXHAUSTED, _) => {
                refused += 1;
                tokio::time::sleep(AGAIN).await;
            }
            (code, _) => return Err(format!("a batch was answered with code {code}").into()),
        }
    }
}
