//! Very many clients of Watch over a hundred connections. They keep their tokens, come back when their streams end, and count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use pb::{Intent, SnapshotReason};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::calls::with;
use super::doors::connect;

/// What a crowd shows when it comes.
#[derive(Debug, Clone)]
pub enum Shows {
    Nothing,
    /// What each was given last.
    Own,
    /// All the same.
    This(Vec<u8>),
}

/// The crowd; gone when dropped.
pub struct Crowd {
    size: usize,
    tokens: Arc<Vec<Mutex<Vec<u8>>>>,
    told: Arc<Mutex<Told>>,
    tasks: JoinSet<()>,
}

/// What it was told since it came last.
#[derive(Default)]
struct Told {
    /// Who has completed its first step.
    live: usize,
    first: HashMap<(Intent, SnapshotReason), usize>,
    /// Streams that failed or ended.
    ended: usize,
    /// From when a change was made to its Commit here, beside when it came.
    latencies: Vec<(Instant, Duration)>,
}

impl Crowd {
    pub fn of(size: usize) -> Self {
        Self {
            size,
            tokens: Arc::new((0..size).map(|_| Mutex::default()).collect()),
            told: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// All of them leave, whatever they were doing.
    pub async fn leave(&mut self) {
        self.tasks.shutdown().await;
    }

    /// All come to one place at once.
    pub async fn come(&mut self, address: std::net::SocketAddr, key: &str, shows: &Shows) {
        self.leave().await;
        self.told = Arc::default();
        let channels: Vec<_> = (0..self.size.min(100)).map(|_| connect(address)).collect();
        for member in 0..self.size {
            match shows {
                Shows::Nothing => self.tokens[member].lock().unwrap().clear(),
                Shows::Own => {}
                Shows::This(token) => self.tokens[member].lock().unwrap().clone_from(token),
            }
            let member = Member {
                channel: channels[member % channels.len()].clone(),
                key: key.to_owned(),
                tokens: Arc::clone(&self.tokens),
                number: member,
                told: Arc::clone(&self.told),
                is_live: false,
            };
            self.tasks.spawn(member.stay());
        }
    }

    /// Returns once all have completed their first step.
    pub async fn all_live(&self) {
        while self.told.lock().unwrap().live < self.size {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the first steps were.
    pub fn first(&self) -> HashMap<(Intent, SnapshotReason), usize> {
        self.told.lock().unwrap().first.clone()
    }

    /// How many streams failed or ended.
    pub fn ended(&self) -> usize {
        self.told.lock().unwrap().ended
    }

    /// The latencies since some moment, sorted.
    pub fn latencies(&self, since: Instant) -> Vec<Duration> {
        let told = self.told.lock().unwrap();
        let recent = told.latencies.iter().filter(|(at, _)| *at >= since);
        let mut latencies: Vec<_> = recent.map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        latencies
    }
}

struct Member {
    channel: Channel,
    key: String,
    tokens: Arc<Vec<Mutex<Vec<u8>>>>,
    number: usize,
    told: Arc<Mutex<Told>>,
    is_live: bool,
}

impl Member {
    async fn stay(mut self) {
        loop {
            let _ended = self.follow().await;
            self.told.lock().unwrap().ended += 1;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500))).await;
        }
    }

    async fn follow(&mut self) -> Option<()> {
        let request = pb::WatchRequest {
            resume_token: self.tokens[self.number].lock().unwrap().clone(),
            ..pb::WatchRequest::default()
        };
        let mut client = WatchServiceClient::new(with(self.channel.clone(), &self.key));
        let mut stream = client.watch(request).await.ok()?.into_inner();
        let mut first = None;
        loop {
            match stream.message().await.ok()??.message? {
                Message::Begin(begin) => drop(first.get_or_insert((begin.intent(), begin.reason()))),
                Message::Commit(commit) => self.take(commit, first?),
                Message::Heartbeat(heartbeat) => {
                    *self.tokens[self.number].lock().unwrap() = heartbeat.resume_token;
                }
                Message::Item(_) => {}
                Message::Goodbye(_) => return Some(()),
            }
        }
    }

    fn take(&mut self, commit: pb::Commit, first: (Intent, SnapshotReason)) {
        *self.tokens[self.number].lock().unwrap() = commit.resume_token;
        let mut told = self.told.lock().unwrap();
        if self.is_live {
            let made = commit.committed_at.and_then(|at| SystemTime::try_from(at).ok());
            let latency = made.and_then(|made| made.elapsed().ok());
            told.latencies.extend(latency.map(|latency| (Instant::now(), latency)));
        } else {
            self.is_live = true;
            told.live += 1;
            *told.first.entry(first).or_default() += 1;
        }
    }
}

/// Clients that open streams and never read a byte of them.
pub struct Unread {
    streams: Vec<tonic::Streaming<pb::WatchResponse>>,
}

impl Unread {
    /// Opens so many, over connections on whose streams so many bytes may be on their way.
    pub async fn open(address: std::net::SocketAddr, key: &str, count: usize, window: u32) -> Self {
        let channels: Vec<_> = (0..10).map(|_| super::doors::connect_narrow(address, window)).collect();
        let opening = (0..count).map(async |number| {
            let mut client = WatchServiceClient::new(with(channels[number % 10].clone(), key));
            client
                .watch(pb::WatchRequest::default())
                .await
                .expect("a stream")
                .into_inner()
        });
        Self {
            streams: futures_util::future::join_all(opening).await,
        }
    }

    /// Reads at last. Returns how many were taken away, as they are told.
    pub async fn read(self) -> usize {
        let reading = self.streams.into_iter().map(async |mut stream| {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return false,
                    Err(status) => return status.code() == tonic::Code::ResourceExhausted,
                }
            }
        });
        let read = futures_util::future::join_all(reading).await;
        read.into_iter().filter(|taken| *taken).count()
    }
}
