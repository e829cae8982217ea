//! The hub and its streams together. The pure parts are tested where they are.

mod aged;
mod ahead;
mod answers;
mod authorised;
mod departures;
mod heartbeats;
mod histories;
mod holding;
mod replicas;
mod runtimes;
mod stalled;
mod streams;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use super::message::{Begin, Heartbeat, Message};
use super::request::{End, Request, View};
use super::source::{Event, Quality};
use super::subscription::Subscription;
use super::testing::{Client, ENVIRONMENT, History, Told, now};
use super::{Hub, Options};

/// A hub that holds a history, and what feeds it.
struct Fixture {
    hub: Arc<Hub>,
    source: Arc<Told>,
    history: History,
}

impl Fixture {
    fn new(history: History) -> Self {
        Self::with(history, Options::default())
    }

    fn with(history: History, options: Options) -> Self {
        let source = Told::new();
        let hub = Hub::new(source.clone(), options);
        hub.apply(Event::Identity(history.identity));
        hub.apply(history.reset(1_000));
        hub.apply(Event::Complete);
        Self { hub, source, history }
    }

    /// Changes one item.
    fn write(&mut self, number: u8, form: &str) {
        let event = self.history.write(&[(number, Some(form.as_bytes().to_vec()))]);
        self.hub.apply(event);
    }

    /// The source is certain that everything was sent.
    fn confirm(&self) {
        self.hub.apply(Event::Status {
            quality: Quality::Live,
            confirmed_at: Some(tokio::time::Instant::now().into_std()),
        });
    }

    fn subscribe(&self, request: Request<'_>) -> Subscription {
        self.hub.subscribe(ENVIRONMENT, request).unwrap()
    }

    /// The history goes back to `revision` and on from there under the next generation, and the hub is told.
    fn diverge(&mut self, revision: usize) {
        self.history.revisions.truncate(revision + 1);
        self.history.identity.generation += 1;
        self.hub.apply(Event::Identity(self.history.identity));
        self.hub.apply(self.history.reset(1_000));
    }
}

/// Lets a client hear everything that its stream says now. Returns how the steps began.
fn hear_all(client: &mut Client, stream: &mut Subscription) -> Vec<Begin> {
    let mut begins = Vec::new();
    while let Some(message) = now(stream) {
        let message = message.expect("the stream goes on");
        if let Message::Begin(begin) = &message {
            begins.push(begin.clone());
        }
        client.hear(message);
    }
    begins
}

/// A stream that has said all it has to say, and the client that heard it.
fn idle(fixture: &Fixture, request: Request<'_>) -> (Client, Subscription) {
    let (mut client, mut stream) = (Client::default(), fixture.subscribe(request));
    hear_all(&mut client, &mut stream);
    (client, stream)
}

async fn next_heartbeat(stream: &mut Subscription) -> Heartbeat {
    loop {
        if let Message::Heartbeat(heartbeat) = stream.next().await.expect("the stream goes on") {
            return heartbeat;
        }
    }
}

/// How the stream ends, passing over what it says before.
async fn end(stream: &mut Subscription) -> End {
    loop {
        if let Err(end) = stream.next().await {
            return end;
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
