//! Toggles through one replica as the streams of another have them, and the same messages from a bare fan-out.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use super::Result;
use super::floor::Shape;
use super::load::{EVALUATE, Question, connect};
use super::process::SERVER;
use super::streams::{Step, Streams, commit};
use super::world::{Administrator, Replica, floor};
use h2::client::SendRequest;

/// When things happened to one change.
pub struct Moments {
    /// The request was sent.
    pub sent: Instant,
    /// Its response arrived.
    pub answered: Instant,
    /// The change was written, by the database's clock: inside the transaction, before it was committed. Not of the floor.
    pub written: Option<Instant>,
    /// The first stream had it.
    pub first: Instant,
    /// Every stream had it.
    pub last: Instant,
}

/// Who is made to send to streams, and those that listen to it.
pub struct Sender {
    cause: Cause,
    streams: Streams,
    /// The messages of the last step.
    pub messages: Vec<Bytes>,
}

enum Cause {
    /// A toggle at one replica; the streams are another's.
    Toggle { administrator: Administrator, on: bool },
    /// A call of the floor.
    Call {
        connection: SendRequest<Bytes>,
        question: Question,
    },
}

impl Sender {
    /// Streams of `b`, for toggles by the administrator.
    pub async fn service(
        administrator: Administrator,
        b: SocketAddr,
        key: &str,
        shape: (usize, usize),
    ) -> Result<Self> {
        let (streams, first) = Streams::open(b, key, shape.0, shape.1).await?;
        Ok(Self {
            cause: Cause::Toggle {
                administrator,
                on: false,
            },
            streams,
            messages: first.messages,
        })
    }

    /// Streams of a floor.
    pub async fn floor(address: SocketAddr, key: &str, shape: (usize, usize)) -> Result<Self> {
        let question = Question::new(&address, key, EVALUATE, &pb::EvaluateRequest::default().encode_to_vec())?;
        let connection = connect(address).await?;
        let (streams, first) = Streams::open(address, key, shape.0, shape.1).await?;
        Ok(Self {
            cause: Cause::Call { connection, question },
            streams,
            messages: first.messages,
        })
    }

    /// Has it send once, and waits until every stream has it.
    pub async fn step(&mut self) -> Result<Moments> {
        let Self {
            cause,
            streams,
            messages,
        } = self;
        let sent = Instant::now();
        let (caused, arrived) = tokio::join!(cause.once(), streams.step());
        let ((revision, answered), step) = (caused?, arrived?);
        let mut written = None;
        if let Some(revision) = revision {
            let commit = commit(&step)?;
            if commit.revision != revision {
                return Err(format!("revision {} arrived in place of {revision}", commit.revision).into());
            }
            written = Some(moment(&commit)?);
        }
        let moments = Moments::new(sent, answered, written, &step)?;
        *messages = step.messages;
        Ok(moments)
    }

    /// Has it send so many times.
    pub async fn steps(&mut self, count: u32) -> Result<Vec<Moments>> {
        let mut moments = Vec::new();
        for _ in 0..count {
            moments.push(self.step().await?);
        }
        Ok(moments)
    }

    /// A floor that sends the messages of the last step.
    pub fn bare(&self, before: &[String]) -> Result<Replica> {
        let answer_and_messages: Vec<_> = std::iter::once(String::new())
            .chain(self.messages.iter().map(hex::encode))
            .collect();
        floor(SERVER, Shape::PerCore(1), &answer_and_messages, before)
    }
}

impl Cause {
    /// The revision, if there is one, and when the response was there.
    async fn once(&mut self) -> Result<(Option<u64>, Instant)> {
        let revision = match self {
            Self::Toggle { administrator, on } => {
                let revision = administrator.toggle(*on).await?;
                *on = !*on;
                Some(revision)
            }
            Self::Call { connection, question } => {
                question.ask(connection).await?;
                None
            }
        };
        Ok((revision, Instant::now()))
    }
}

/// When a change was written, on our clock. Both clocks are this machine's.
fn moment(commit: &pb::Commit) -> Result<Instant> {
    let at = commit.committed_at.ok_or("a Commit without its time")?;
    let ago = SystemTime::now().duration_since(SystemTime::try_from(at)?)?;
    Ok(Instant::now()
        .checked_sub(ago)
        .ok_or("a Commit from before the machine was started")?)
}

impl Moments {
    fn new(sent: Instant, answered: Instant, written: Option<Instant>, step: &Step) -> Result<Self> {
        Ok(Self {
            sent,
            answered,
            written,
            first: *step.arrivals.first().ok_or("no stream")?,
            last: *step.arrivals.last().ok_or("no stream")?,
        })
    }
}
