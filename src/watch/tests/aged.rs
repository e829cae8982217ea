//! Streams of answers whose state becomes too old for some flags.

use tokio::time::{Instant, advance};
use tokio_util::sync::CancellationToken;

use super::answers::{Listener, asking, history, redefine};
use super::*;
use crate::domain::key;
use crate::domain::staleness::Limits;
use crate::evaluate::Reason;
use crate::watch::Part;
use crate::watch::message::{Intent, Reason as Snapshot};

/// Six flags, of which one may be four seconds old.
fn fixture() -> Fixture {
    let limits = Limits {
        all_ms: None,
        flags_ms: [(key::Flag::new("flag-1").unwrap(), 4_000)].into(),
    };
    let options = Options {
        staleness: Arc::new(limits),
        ..Options::default()
    };
    let fixture = Fixture::with(history(6), options);
    fixture.confirm();
    fixture
}

fn reasons(part: &Part) -> Vec<(&str, Reason)> {
    let answer = |key| {
        let flag = part.question.flag(&part.state, key).unwrap();
        let (context, snapshot) = (&part.question.context, &part.state.snapshot);
        flag.evaluate_fresh(context, snapshot, part.age.freshness()).reason
    };
    part.changed.iter().map(|key| (&**key, answer(key))).collect()
}

async fn next_part(stream: &mut Subscription) -> Part {
    loop {
        if let Message::Answers(part) = stream.next().await.expect("the stream goes on") {
            return *part;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_become_too_old_is_said_at_once_and_so_is_that_it_no_longer_is() {
    let fixture = fixture();
    let telling = tokio::spawn(fixture.hub.clone().tell_age(CancellationToken::new()));
    let mut stream = fixture.subscribe(asking(b"", None));
    assert_eq!(next_part(&mut stream).await.changed.len(), 6);
    let began = Instant::now();
    let stale = next_part(&mut stream).await;
    assert!(
        (seconds(4)..seconds(5)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        (stale.intent, reasons(&stale)),
        (Intent::Delta, vec![("flag-1", Reason::Stale)])
    );
    fixture.confirm();
    let fresh = next_part(&mut stream).await;
    assert!(began.elapsed() < seconds(5));
    assert_eq!(reasons(&fresh), [("flag-1", Reason::Disabled)]);
    assert_eq!(fresh.state.head.revision, stale.state.head.revision);
    telling.abort();
}

#[tokio::test(start_paused = true)]
async fn a_change_and_an_age_come_in_one_batch() {
    let mut fixture = fixture();
    let mut stream = fixture.subscribe(asking(b"", None));
    let mut listener = Listener::default();
    listener.hear_all(&mut stream);
    listener.heard.clear();
    advance(seconds(5)).await;
    redefine(&mut fixture, 2, "second");
    listener.hear_all(&mut stream);
    assert_eq!(listener.heard, [(Intent::Delta, 2, 0)]);
    // What is too old is off, whatever its rules have become.
    listener.heard.clear();
    redefine(&mut fixture, 3, "second");
    listener.hear_all(&mut stream);
    assert_eq!(listener.heard, [(Intent::Delta, 1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_of_answers_at_one_age() {
    let fixture = fixture();
    let hear = |token: &[u8]| {
        let mut listener = Listener::default();
        listener.hear_all(&mut fixture.subscribe(asking(token, None)));
        (listener.heard.remove(0).0, listener.token)
    };
    let everything = Intent::Snapshot(Snapshot::OtherQuestion);
    let (_, fresh) = hear(b"");
    assert_eq!(hear(&fresh).0, Intent::None);
    advance(seconds(5)).await;
    let (intent, stale) = hear(&fresh);
    assert_eq!(intent, everything);
    advance(seconds(5)).await;
    assert_eq!(hear(&stale).0, Intent::None, "it was too old already");
    fixture.confirm();
    assert_eq!(hear(&stale).0, everything);
    assert_eq!(hear(&fresh).0, Intent::None);
}
