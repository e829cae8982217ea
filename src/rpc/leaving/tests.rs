//! Answers that leave, unread.

use bytes::Buf as _;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};

use super::*;

fn answer(length: usize) -> Body {
    Body::new(Full::from(vec![7; length]))
}

/// What a connection hands over of an answer.
async fn leave(unread: &Unread, length: usize) -> Frame<Bytes> {
    let mut body = Leaving::new(answer(length), Some(unread.clone()), Told::InTrailers);
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
async fn a_slice_counts_until_all_of_it_has_gone_however_it_is_cut() {
    let unread = Unread::default();
    let mut slice = leave(&unread, SLICE_BYTES).await.into_data().unwrap();
    assert_eq!(unread.0.pot.bytes(), SLICE_BYTES);
    let quarter = SLICE_BYTES / 4;
    assert_eq!(slice.copy_to_bytes(quarter).len(), quarter);
    slice.advance(quarter);
    assert_eq!((slice.remaining(), slice.chunk().len()), (2 * quarter, 2 * quarter));
    assert_eq!(unread.0.pot.bytes(), SLICE_BYTES);
    drop(slice);
    assert_eq!((unread.0.pot.bytes(), unread.0.bytes.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn who_reads_a_large_answer_slowly_is_never_ended_and_who_stops_is() {
    const SLICES: usize = 10;
    let unread = Unread::default();
    let length = (SLICES - 1) * SLICE_BYTES + 1;
    let mut body = Leaving::new(answer(length), Some(unread.clone()), Told::InTrailers);
    let (mut left, mut slices) = (length, 0);
    // As the transport has it: one that is sent, and one that is next.
    let mut sent = None;
    while let Some(frame) = body.frame().await {
        let slice = frame.unwrap().into_data().unwrap();
        slices += 1;
        assert_eq!(unread.0.pot.bytes(), left);
        left -= sent.replace(slice).map_or(0, |before: Bytes| before.len());
        assert!(!unread.turn(), "{slices}");
    }
    assert_eq!((slices, left), (SLICES, 1));
    assert!(unread.turn());
    drop(sent);
    assert!(!unread.turn());
    assert_eq!((unread.0.pot.bytes(), unread.0.bytes.load(Ordering::Relaxed)), (0, 0));
    // What nobody asks for any more is given back with what was handed over.
    let mut body = Leaving::new(answer(length), Some(unread.clone()), Told::InTrailers);
    assert_eq!(body.size_hint().exact(), Some(length as u64));
    let slice = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(body.size_hint().exact(), Some((length - SLICE_BYTES) as u64));
    assert!(!body.is_end_stream());
    drop(body);
    assert_eq!(unread.0.pot.bytes(), slice.len());
    drop(slice);
    assert_eq!(unread.0.pot.bytes(), 0);
}

/// A body of which one slice has left, as long as it is kept.
async fn leaving(
    unread: &Unread,
    length: usize,
    told: Told,
) -> Result<(Leaving, Bytes), Option<Result<Frame<Bytes>, Status>>> {
    let mut body = Leaving::new(answer(length), Some(unread.clone()), told);
    match body.frame().await {
        Some(Ok(frame)) => match frame.into_data() {
            Ok(slice) => Ok((body, slice)),
            Err(other) => Err(Some(Ok(other))),
        },
        other => Err(other),
    }
}

#[tokio::test]
async fn what_finds_no_room_is_refused_and_small_answers_always_find_some() {
    const LENGTH: usize = 1024 * 1024;
    let pot = Pot::default();
    let mut held = Vec::new();
    let crowd: Vec<_> = (0..5).map(|_| Unread::new(pot.clone())).collect();
    for unread in &crowd {
        while let Ok(one) = leaving(unread, LENGTH, Told::InTrailers).await {
            held.push(one);
        }
        assert!(unread.0.bytes.load(Ordering::Relaxed) <= CONNECTION_UNREAD_BYTES);
        leave(unread, LARGE_BYTES - 1).await.into_data().unwrap();
    }
    assert_eq!(pot.bytes(), UNREAD_BYTES);
    assert_eq!(pot.refused(), 5);

    let other = Unread::new(pot.clone());
    let Err(Some(Ok(refused))) = leaving(&other, LENGTH, Told::InTrailers).await else {
        panic!("it is told in trailers");
    };
    let refused = Status::from_header_map(&refused.into_trailers().unwrap()).unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let Err(Some(Err(refused))) = leaving(&other, LENGTH, Told::ByBreakingOff).await else {
        panic!("it breaks off");
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    held.truncate(1);
    held.push(leaving(&crowd[4], LENGTH, Told::InTrailers).await.unwrap());
    held.clear();
    assert_eq!(pot.bytes(), 0);
}

#[tokio::test]
async fn one_that_is_larger_than_a_connection_may_have_is_given_alone() {
    let unread = Unread::default();
    let alone = leaving(&unread, CONNECTION_UNREAD_BYTES + 1, Told::InTrailers)
        .await
        .unwrap();
    leaving(&unread, LARGE_BYTES, Told::InTrailers).await.unwrap_err();
    drop(alone);
    leaving(&unread, LARGE_BYTES, Told::InTrailers).await.unwrap();
}

#[tokio::test]
async fn streams_that_have_a_stall_of_their_own_are_not_counted() {
    assert!(!is_counted("/halyard.evaluation.v1.WatchService/Watch"));
    assert!(!is_counted("/halyard.evaluation.v1.WatchService/WatchEvaluations"));
    for path in ["/halyard.evaluation.v1.WatchService/Acknowledge", "/metrics"] {
        assert!(is_counted(path), "{path}");
    }
    let mut body = Leaving::new(answer(UNREAD_BYTES + 1), None, Told::InTrailers);
    body.frame().await.unwrap().unwrap().into_data().unwrap();
}
