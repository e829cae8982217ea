//! What a toggle costs where thousands listen for the answers of their contexts: `cargo bench --bench answers`.
//!
//! In one process and on one thread, without a network: what is measured is finding the flags that a change touches, once for all
//! streams, and comparing their answers, for each. Beside it, what comparing the answers of all flags would cost each stream.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use halyard::domain::access::{KeyKind, Term};
use halyard::domain::change::{Digest, EnvironmentId};
use halyard::domain::context;
use halyard::domain::form::{ItemId, Kind};
use halyard::watch::source::{
    Answer, Event, Head, Identity, Source, StoredChange, StoredDelta, StoredItem, Unreachable,
};
use halyard::watch::{Client, Fingerprint, Hub, Message, Options, Question, Request, State, Stream, View};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ENVIRONMENT: EnvironmentId = EnvironmentId(1);
const STREAMS: usize = 1_000;
const ROUNDS: u64 = 50;

/// A source that cannot be asked.
struct Away;

impl Source for Away {
    fn confirm_head(&self, _: EnvironmentId) -> Answer<'_, Option<Head>> {
        Box::pin(async { Err(Unreachable) })
    }

    fn confirm_access(&self) -> Answer<'_, u64> {
        Box::pin(async { Err(Unreachable) })
    }
}

fn item(kind: Kind, key: &str, form: String) -> StoredItem {
    StoredItem {
        id: ItemId { kind, key: key.into() },
        version: 1,
        form: form.into(),
    }
}

fn definition(n: usize) -> StoredItem {
    let key = format!("flag-{n}");
    let form = format!(
        r#"{{"format":1,"key":"{key}","type":"bool","variants":[{{"key":"on","value":{{"bool":true}}}},{{"key":"off","value":{{"bool":false}}}}],"off_variant":"off","default_variant":"on","client_visible":true}}"#
    );
    item(Kind::FlagDefinition, &key, form)
}

/// Five rules of one condition each; every tenth flag asks about a segment, every tenth other about another flag.
fn configuration(n: usize, enabled: bool) -> StoredItem {
    let rule = |rule: usize| {
        let condition = if n.is_multiple_of(10) && rule == 0 {
            r#"{"operator":"in_segment","values":["beta"]}"#.to_owned()
        } else {
            format!(r#"{{"attribute":"plan","operator":"equals","values":["plan-{rule}"]}}"#)
        };
        format!(r#"{{"key":"r{rule}","conditions":[{condition}],"serve":{{"variant":"on"}}}}"#)
    };
    let rules: Vec<_> = (0..5).map(rule).collect();
    let prerequisites = match n % 10 {
        1 => format!(r#","prerequisites":[{{"flag":"flag-{}","variants":["on"]}}]"#, n + 1),
        _ => String::new(),
    };
    let form = format!(
        r#"{{"format":1,"enabled":{enabled},"rules":[{}],"default":{{"variant":"on"}}{prerequisites}}}"#,
        rules.join(",")
    );
    item(Kind::FlagConfiguration, &format!("flag-{n}"), form)
}

fn head(revision: u64) -> Head {
    let mut digest = Digest::default();
    digest.0[..8].copy_from_slice(&revision.to_be_bytes());
    Head {
        revision,
        digest,
        committed_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn question(n: usize) -> Arc<Question> {
    let attributes = [("plan".to_owned(), context::Attribute::String(format!("plan-{}", n % 7)))];
    Arc::new(Question {
        context: context::Context::new(format!("user-{n}"), attributes.into_iter().collect()),
        flags: None,
        asked_by: KeyKind::Client,
        fingerprint: Fingerprint([0; 16]),
    })
}

fn open(hub: &Arc<Hub>, question: Arc<Question>) -> Stream {
    let request = Request {
        token: b"",
        heartbeat: None,
        still_valid: Box::new(|_| Some(Term::Endless)),
        view: View::Answers(question),
    };
    hub.open(ENVIRONMENT, request, Client::default()).unwrap()
}

/// Everything that a stream says now: how many answers.
fn drain(stream: &mut Stream) -> usize {
    let mut answers = 0;
    while let Poll::Ready(message) = stream.poll_next(&mut Context::from_waker(Waker::noop())) {
        if let Message::Answers(part) = message.unwrap() {
            answers += part.changed.len();
        }
    }
    answers
}

async fn measure(flags: usize) {
    let hub = Hub::new(Arc::new(Away), Options::default());
    let (events, received) = mpsc::channel(16);
    let running = tokio::spawn(Arc::clone(&hub).run(received, CancellationToken::new()));
    let identity = Identity {
        store: uuid::Uuid::nil(),
        generation: 1,
    };
    events.send(Event::Identity(identity)).await.unwrap();
    let items = (0..flags)
        .flat_map(|n| [definition(n), configuration(n, true)])
        .collect();
    let reset = Event::Reset {
        environment: ENVIRONMENT,
        head: head(0),
        items,
        recent: Vec::new(),
    };
    events.send(reset).await.unwrap();
    events.send(Event::Complete).await.unwrap();
    hub.ready().await;
    let environment = hub.environment(ENVIRONMENT).unwrap();
    let questions: Vec<_> = (0..STREAMS).map(question).collect();
    let mut streams: Vec<_> = questions
        .iter()
        .map(|question| open(&hub, Arc::clone(question)))
        .collect();
    let first = Instant::now();
    let answers: usize = streams.iter_mut().map(drain).sum();
    assert_eq!(answers, flags * STREAMS);
    let first = first.elapsed();

    let (mut all, mut touched) = (Duration::ZERO, Duration::ZERO);
    for revision in 1..=ROUNDS {
        // One that no flag depends on.
        let change = configuration(3, revision % 2 == 0);
        let id = change.id.clone();
        let delta = StoredDelta {
            head: head(revision),
            previous_revision: revision - 1,
            previous_digest: head(revision - 1).digest,
            changes: vec![StoredChange::Put(change)],
        };
        let environment_id = ENVIRONMENT;
        let advance = Event::Advance {
            environment: environment_id,
            delta,
        };
        events.send(advance).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let state = environment.wait_for(revision, deadline).await.unwrap();
        let started = Instant::now();
        let told: usize = streams.iter_mut().map(drain).sum();
        all += started.elapsed();
        assert_eq!(told, STREAMS);
        let started = Instant::now();
        black_box(state.snapshot.touched_by([&id].into_iter()));
        touched += started.elapsed();
    }
    let rounds = u32::try_from(ROUNDS).unwrap();
    let (all, touched) = (all / rounds, touched / rounds);
    let each = all.saturating_sub(touched) / u32::try_from(STREAMS).unwrap();
    let whole = everything(&environment.state(), &questions[0]);
    println!("| {flags} | {first:.1?} | {all:.1?} | {touched:.1?} | {each:.1?} | {whole:.1?} |");
    drop(events);
    running.await.unwrap();
}

/// What it takes to answer every flag before and after.
fn everything(state: &State, question: &Question) -> Duration {
    let started = Instant::now();
    for _ in 0..2 {
        for flag in state.snapshot.flags() {
            black_box(flag.evaluate(&question.context, &state.snapshot));
        }
    }
    started.elapsed()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{STREAMS} streams, each of another context, which ask for every flag; one flag is toggled\n");
    println!(
        "| flags | first batches of all | a toggle, all streams | of it once: finding the flags | each stream | all flags, each stream |"
    );
    println!("|---|---|---|---|---|---|");
    for flags in [100, 1_000, 10_000] {
        measure(flags).await;
    }
}
