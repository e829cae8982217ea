//! Messages that do not come, come without end, or are too large.

use h2::client::SendRequest;
use prost::bytes::Bytes;

use super::{EVALUATE, Victim};
use crate::support::half::{begin, connect, status};
use crate::support::plain::{Frames, http1, http2};
use crate::support::{Scrape, eventually};

const LATE: &str = r#"halyard_messages_refused_total{reason="late"}"#;
const CROWDED: &str = r#"halyard_messages_refused_total{reason="crowded"}"#;
const SURPLUS: &str = r#"halyard_messages_refused_total{reason="surplus"}"#;
/// What the server may hold of messages that are not whole.
const HELD_BYTES: u64 = 64 * 1024 * 1024;
/// What its memory may become meanwhile. The requests together would take 4 GB.
const MEMORY_BYTES: u64 = 500_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_not_waited_for_for_ever() {
    let victim = Victim::start(&["--request-timeout", "1s", "--max-request-bytes", "65536"]);
    let client = connect(victim.address).await;
    let mut begun = Vec::new();
    for n in 0..300 {
        let half: &[u8] = match n % 3 {
            0 => b"",
            1 => &[0, 0],
            _ => &[0, 0, 0, 0, 99, 1, 2, 3],
        };
        begun.push(begin(&client, EVALUATE, &victim.key, half).await);
    }
    victim.serves_others().await;
    for (response, sending) in begun {
        assert_eq!(status(response).await, "4");
        drop(sending);
    }
    victim.counted(LATE, 300).await;

    // A page that is slow, over HTTP/1.1.
    let headers = format!(
        "content-type: application/grpc-web\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n",
        victim.key
    );
    let late = http1(victim.address, &format!("POST {EVALUATE}"), &headers, b"").await;
    assert_eq!(Frames::read(&late.body).status(), "4", "{late:?}");

    // A stream of messages, by whoever shows nothing: it ends, as if no more came.
    let reflect = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let (response, sending) = begin(&connect(victim.address).await, reflect, &victim.key, b"").await;
    status(response).await;
    victim.counted(LATE, 302).await;
    drop(sending);

    // More than a message may have is refused when it is announced, and so is a second one.
    let bearer = format!("Bearer {}", victim.key);
    let headers = [("content-type", "application/grpc"), ("authorization", bearer.as_str())];
    for announced in [[0, 0x80, 0, 0, 0], [0, 0, 1, 0, 1]] {
        let answer = http2(victim.address, "POST", EVALUATE, &headers, &announced).await;
        assert_eq!(answer.header("grpc-status"), "8", "{answer:?}");
    }
    let twice = [0; 10];
    let answer = http2(victim.address, "POST", EVALUATE, &headers, &twice).await;
    assert_eq!(answer.header("grpc-status"), "3", "{answer:?}");
    victim.counted(SURPLUS, 1).await;
    victim.serves_others().await;
}

/// Pours into a message that never becomes whole, for as long as anybody takes it.
async fn pour(client: SendRequest<Bytes>, key: String) {
    const WHOLE: usize = 4 * 1024 * 1024;
    let length = u32::try_from(WHOLE).unwrap().to_be_bytes();
    let announced = [&[0], &length[..]].concat();
    let (response, mut sending) = begin(&client, EVALUATE, &key, &announced).await;
    let piece = Bytes::from(vec![7; 16 * 1024]);
    let pouring = async {
        for _ in 0..WHOLE / piece.len() - 1 {
            sending.reserve_capacity(piece.len());
            while sending.capacity() < piece.len() {
                match std::future::poll_fn(|context| sending.poll_capacity(context)).await {
                    Some(Ok(_)) => {}
                    _ => return,
                }
            }
            if sending.send_data(piece.clone(), false).is_err() {
                return;
            }
        }
        // The last piece does not come.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = pouring => {}
        _ = response => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_endless_messages_take_bounded_memory_and_others_are_served() {
    // Nobody is refused for being slow, which the machine may be.
    let victim = Victim::start(&["--request-timeout", "10m"]);
    victim.forget_peak();
    let mut pouring = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let client = connect(victim.address).await;
        for _ in 0..100 {
            pouring.spawn(pour(client.clone(), victim.key.clone()));
        }
    }
    eventually("a crowd", async || {
        (Scrape::of(victim.metrics).await.count(CROWDED) > 500).then_some(())
    })
    .await;
    victim.serves_others().await;
    assert!(victim.peak() > HELD_BYTES, "it was not tried: {}", victim.peak());
    assert!(victim.peak() < MEMORY_BYTES, "{}", victim.peak());
    pouring.shutdown().await;
    // Whoever has gone holds nothing.
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(
            begin(
                &connect(victim.address).await,
                EVALUATE,
                &victim.key,
                &[0, 0, 0x10, 0, 0, 7],
            )
            .await,
        );
    }
    let before = Scrape::of(victim.metrics).await.count(CROWDED);
    victim.serves_others().await;
    assert_eq!(Scrape::of(victim.metrics).await.count(CROWDED), before);
}
