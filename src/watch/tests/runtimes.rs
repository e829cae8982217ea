//! Streams as they run: in tasks, woken by the hub's task, on runtimes of their own.

use std::thread;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::watch::testing::request;

const REVISIONS: u64 = 300;

/// Listens until the client stands at the last revision, and returns what it holds.
async fn follow(mut stream: Subscription) -> Client {
    let mut client = Client::default();
    loop {
        client.hear(stream.next().await.expect("the stream goes on"));
        let committed = client.committed.as_ref().map(|commit| commit.position.revision);
        if committed == Some(REVISIONS) {
            return client;
        }
    }
}

/// What a source sends: a state, then revisions up to the last.
async fn feed(events: mpsc::Sender<Event>) -> History {
    let mut history = History::of(0);
    events.send(Event::Identity(history.identity)).await.unwrap();
    events.send(history.reset(0)).await.unwrap();
    events.send(Event::Complete).await.unwrap();
    for revision in 0..REVISIONS {
        let number = u8::try_from(revision % 7).unwrap();
        let event = history.write(&[(number, Some(revision.to_string().into_bytes()))]);
        events.send(event).await.unwrap();
        // Wakes everybody for nothing.
        events.send(Event::Access(Arc::default())).await.unwrap();
    }
    history
}

/// The clock moves only when everybody sleeps: a wake that got lost would show as a heartbeat that had to be waited for.
#[tokio::test(start_paused = true)]
async fn no_wake_is_lost() {
    let hub = Hub::new(Told::new(), Options::default());
    let (sender, receiver) = mpsc::channel(1);
    let (cancel, began_at) = (CancellationToken::new(), Instant::now());
    let running = tokio::spawn(Arc::clone(&hub).run(receiver, cancel.clone()));
    let feeding = tokio::spawn(feed(sender.clone()));
    hub.ready().await;
    let streams: Vec<_> = (0..50)
        .map(|_| tokio::spawn(follow(hub.subscribe(ENVIRONMENT, request(b"")).unwrap())))
        .collect();
    let history = feeding.await.unwrap();
    for stream in streams {
        assert_eq!(stream.await.unwrap().items, history.last().items);
    }
    assert_eq!(began_at.elapsed(), Duration::ZERO);
    assert_eq!(hub.streams(), 0);
    assert!(!running.is_finished());
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_hub_ends_with_its_source() {
    let hub = Hub::new(Told::new(), Options::default());
    let (sender, receiver) = mpsc::channel(1);
    drop(sender);
    hub.run(receiver, CancellationToken::new()).await;
}

#[test]
fn streams_may_live_on_runtimes_of_their_own() {
    let hub = Hub::new(Told::new(), Options::default());
    let (sender, receiver) = mpsc::channel(16);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let cancel = CancellationToken::new();
    thread::scope(|scope| {
        scope.spawn(|| runtime().block_on(Arc::clone(&hub).run(receiver, cancel.clone())));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let hub = Arc::clone(&hub);
                scope.spawn(move || {
                    runtime().block_on(async {
                        hub.ready().await;
                        follow(hub.subscribe(ENVIRONMENT, request(b"")).unwrap()).await
                    })
                })
            })
            .collect();
        let history = runtime().block_on(feed(sender.clone()));
        for client in threads {
            assert_eq!(client.join().unwrap().items, history.last().items);
        }
        cancel.cancel();
    });
    assert_eq!(hub.streams(), 0);
}
