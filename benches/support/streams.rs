//! Watch streams, received by nothing but h2: what arrives is told by its first byte, and the moment of every Commit is kept.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Result;
use super::load::{Question, connect};

const WATCH: &str = "/halyard.evaluation.v1.WatchService/Watch";
/// The tags of the fields of a `WatchResponse`, of wire type 2.
const BEGIN: u8 = 1 << 3 | 2;
const COMMIT: u8 = 3 << 3 | 2;

/// Open streams.
pub struct Streams {
    count: usize,
    arrivals: mpsc::Receiver<Arrival>,
    /// A connection ends with the last of its handles.
    tasks: JoinSet<Result<()>>,
}

/// A step that has arrived on a stream.
struct Arrival {
    at: Instant,
    messages: Option<Vec<Bytes>>,
}

/// A step that has arrived on every stream.
pub struct Step {
    /// When its Commit arrived, stream by stream, in the order of arrival.
    pub arrivals: Vec<Instant>,
    /// The messages as the first stream had them.
    pub messages: Vec<Bytes>,
}

impl Streams {
    /// Opens streams over connections, and waits for the first step on each.
    pub async fn open(server: SocketAddr, credential: &str, count: usize, connections: usize) -> Result<(Self, Step)> {
        let (sender, arrivals) = mpsc::channel(count);
        let mut streams = Self {
            count,
            arrivals,
            tasks: JoinSet::new(),
        };
        let question = Question::new(&server, credential, WATCH, &pb::WatchRequest::default().encode_to_vec())?;
        let connections = connections.min(count);
        for n in 0..connections {
            let connection = connect(server).await?;
            for stream in (n..count).step_by(connections) {
                let body = question.send(&connection).await?.await?.into_body();
                streams.tasks.spawn(receive(body, stream == 0, sender.clone()));
            }
        }
        let first = streams.step().await?;
        Ok((streams, first))
    }

    /// Waits until a step has arrived on any stream.
    pub async fn next(&mut self) -> Result<()> {
        tokio::select! {
            biased;
            arrival = self.arrivals.recv() => arrival.map(drop).ok_or_else(|| "no stream is left".into()),
            Some(ended) = self.tasks.join_next() => {
                ended??;
                Err("a stream ended".into())
            }
        }
    }

    /// Waits until a step has arrived on every stream.
    pub async fn step(&mut self) -> Result<Step> {
        let mut step = Step {
            arrivals: Vec::with_capacity(self.count),
            messages: Vec::new(),
        };
        while step.arrivals.len() < self.count {
            tokio::select! {
                biased;
                arrival = self.arrivals.recv() => {
                    let Arrival { at, messages } = arrival.ok_or("no stream is left")?;
                    step.arrivals.push(at);
                    step.messages.extend(messages.into_iter().flatten());
                }
                Some(ended) = self.tasks.join_next() => {
                    ended??;
                    return Err("a stream ended".into());
                }
            }
        }
        step.arrivals.sort();
        Ok(step)
    }
}

/// Receives one stream's steps. Only one stream keeps its messages; to keep them all would cost what is measured.
async fn receive(mut body: h2::RecvStream, keeps: bool, arrivals: mpsc::Sender<Arrival>) -> Result<()> {
    let mut rest = BytesMut::new();
    let mut kept = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        rest.extend_from_slice(&data);
        while let Some(message) = next(&mut rest) {
            let at = Instant::now();
            let tag = message.first().copied();
            if keeps {
                if tag == Some(BEGIN) {
                    kept.clear();
                }
                kept.push(message);
            }
            if tag == Some(COMMIT) {
                let messages = keeps.then(|| std::mem::take(&mut kept));
                arrivals.send(Arrival { at, messages }).await?;
            }
        }
    }
    Ok(())
}

/// Takes the next message out of what has arrived. `None`: it is not complete yet.
fn next(rest: &mut BytesMut) -> Option<Bytes> {
    let length = rest.get(1..5)?.try_into().ok().map(u32::from_be_bytes)?;
    let end = 5 + usize::try_from(length).ok()?;
    (rest.len() >= end).then(|| {
        let mut message = rest.split_to(end).freeze();
        message.advance(5);
        message
    })
}

/// The Commit that ends a step.
pub fn commit(step: &Step) -> Result<pb::Commit> {
    let last = step.messages.last().ok_or("an empty step")?;
    match pb::WatchResponse::decode(last.clone())?.message {
        Some(pb::watch_response::Message::Commit(commit)) => Ok(commit),
        _ => Err("a step without a Commit".into()),
    }
}
