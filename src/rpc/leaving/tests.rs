//! Answers that leave, unread.

use bytes::Buf as _;
use http_body_util::{BodyExt as _, Full};

use super::*;

fn answer(length: usize) -> Body {
    Body::new(Full::from(vec![7; length]))
}

/// What a connection hands over of an answer.
async fn leave(unread: &Unread, length: usize) -> Frame<Bytes> {
    let mut body = Leaving::new(answer(length), Some(unread.clone()));
    body.frame().await.unwrap().unwrap()
}

#[tokio::test]
async fn what_is_unread_for_two_turns_ends_its_connection_and_no_other() {
    let (slow, other) = (Unread::default(), Unread::default());
    let piece = leave(&slow, 10).await;
    assert!(!slow.turn());
    assert!(slow.turn());
    // It stays so until somebody looks who can end it.
    assert!(slow.turn());
    assert!(!other.turn() && !other.turn());
    drop(piece);
    assert!(!slow.turn() && !slow.turn());
}

#[tokio::test]
async fn who_reads_within_each_period_is_never_ended() {
    let unread = Unread::default();
    let mut before = leave(&unread, 10).await;
    for _ in 0..10 {
        assert!(!unread.turn());
        // There is always something unread, and never for long.
        before = leave(&unread, 10).await;
    }
    drop(before);
}

#[tokio::test]
async fn a_piece_counts_until_all_of_it_has_gone_however_it_is_cut() {
    let unread = Unread::default();
    let length = 3 * LARGE_BYTES;
    let mut piece = leave(&unread, length).await.into_data().unwrap();
    assert_eq!(unread.0.pot.bytes(), length);
    assert_eq!(piece.copy_to_bytes(LARGE_BYTES).len(), LARGE_BYTES);
    piece.advance(LARGE_BYTES);
    assert_eq!((piece.remaining(), piece.chunk().len()), (LARGE_BYTES, LARGE_BYTES));
    assert_eq!(unread.0.pot.bytes(), length);
    drop(piece);
    assert_eq!((unread.0.pot.bytes(), unread.0.bytes.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn what_finds_no_room_is_refused_and_small_answers_always_find_some() {
    const LENGTH: usize = 1024 * 1024;
    let pot = Pot::default();
    let mut held = Vec::new();
    let crowd: Vec<_> = (0..5).map(|_| Unread::new(pot.clone())).collect();
    for unread in &crowd {
        while let Ok(piece) = leave(unread, LENGTH).await.into_data() {
            held.push(piece);
        }
        assert!(unread.0.bytes.load(Ordering::Relaxed) <= CONNECTION_UNREAD_BYTES);
        leave(unread, LARGE_BYTES - 1).await.into_data().unwrap();
    }
    assert_eq!(pot.bytes(), UNREAD_BYTES);
    assert_eq!(pot.refused(), 5);

    let mut body = Leaving::new(answer(LENGTH), Some(Unread::new(pot.clone())));
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    let refused = Status::from_header_map(&trailers).unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(body.frame().await.is_none());

    held.truncate(1);
    leave(&crowd[4], LENGTH).await.into_data().unwrap();
    held.clear();
    assert_eq!(pot.bytes(), 0);
}

#[tokio::test]
async fn streams_that_have_a_stall_of_their_own_are_not_counted() {
    assert!(!is_counted("/halyard.evaluation.v1.WatchService/Watch"));
    assert!(!is_counted("/halyard.evaluation.v1.WatchService/WatchEvaluations"));
    for path in ["/halyard.evaluation.v1.WatchService/Acknowledge", "/metrics"] {
        assert!(is_counted(path), "{path}");
    }
    let mut body = Leaving::new(answer(UNREAD_BYTES + 1), None);
    body.frame().await.unwrap().unwrap().into_data().unwrap();
}
