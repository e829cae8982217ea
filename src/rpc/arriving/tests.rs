//! Messages that come whole, in pieces, late, too many, or not at all.

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;

const EVALUATE: &str = "/halyard.evaluation.v1.EvaluationService/Evaluate";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes.resize(PREFIX + length, 7);
    bytes
}

fn arrivals() -> (Arrivals, Arc<Counts>) {
    let terms = Terms {
        patience: Duration::from_secs(30),
        message_bytes: HELD_BYTES / LARGEST_AT_ONCE,
    };
    let counts = Arc::new(Counts::default());
    (Arrivals::new(terms, &counts), counts)
}

/// The body of a request, and where its pieces come from.
fn arriving(
    arrivals: &Arrivals,
    path: &str,
) -> (
    mpsc::Sender<Vec<u8>>,
    Arriving<impl Body<Data = Bytes, Error = BoxError> + Unpin>,
) {
    let (send, pieces) = mpsc::channel::<Vec<u8>>(8);
    let pieces = ReceiverStream::new(pieces).map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
    (send, arrivals.of(path).of(StreamBody::new(pieces)))
}

fn code(error: &BoxError) -> Code {
    error.downcast_ref::<Status>().unwrap().code()
}

#[test]
fn no_method_of_ours_takes_a_stream() {
    let files = prost_types::FileDescriptorSet::decode(crate::pb::DESCRIPTORS)
        .unwrap()
        .file;
    let methods = files
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method);
    assert!(methods.clone().count() > 50);
    for method in methods {
        assert!(!method.client_streaming(), "{}", method.name());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_come_is_not_waited_for_for_ever() {
    let (arrivals, counts) = arrivals();
    for half in [&b""[..], &[0], &[0, 0, 0, 0, 9], &[0, 0, 0, 0, 9, 1, 2]] {
        let (send, mut body) = arriving(&arrivals, EVALUATE);
        if !half.is_empty() {
            send.send(half.to_owned()).await.unwrap();
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!(code(&body.frame().await.unwrap().unwrap_err()), Code::DeadlineExceeded);
        drop(body);
        assert_eq!(arrivals.known.held.load(Ordering::Relaxed), 0);
    }
    assert_eq!(counts.late.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_do_not_prolong_it() {
    let (arrivals, _) = arrivals();
    let (send, mut body) = arriving(&arrivals, EVALUATE);
    let trickle = tokio::spawn(async move {
        for byte in message(100) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if send.send(vec![byte]).await.is_err() {
                return;
            }
        }
    });
    let began = tokio::time::Instant::now();
    let refused = loop {
        if let Err(error) = body.frame().await.unwrap() {
            break error;
        }
    };
    assert_eq!(code(&refused), Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_secs(), 30);
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn of_many_messages_each_has_its_time() {
    let (arrivals, counts) = arrivals();
    let (send, mut body) = arriving(&arrivals, REFLECT);
    tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            send.send(message(10)).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    for _ in 0..5 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(code(&body.frame().await.unwrap().unwrap_err()), Code::DeadlineExceeded);
    assert_eq!(counts.late.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_second_message_is_refused_where_one_is_expected() {
    let (arrivals, counts) = arrivals();
    for second in [message(0), message(3), vec![0]] {
        let (send, mut body) = arriving(&arrivals, EVALUATE);
        send.send(message(4)).await.unwrap();
        body.frame().await.unwrap().unwrap();
        send.send(second).await.unwrap();
        assert_eq!(code(&body.frame().await.unwrap().unwrap_err()), Code::InvalidArgument);
    }
    assert_eq!(counts.surplus.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn what_is_held_of_all_requests_is_bounded_and_whole_messages_are_not_counted() {
    let (arrivals, counts) = arrivals();
    // Each a piece of its message and no more.
    let piece = |length: usize| message(length + 1)[..length].to_owned();
    let mut bodies = Vec::new();
    let many = 64;
    for _ in 0..many {
        let (send, mut body) = arriving(&arrivals, EVALUATE);
        send.send(piece(HELD_BYTES / many)).await.unwrap();
        body.frame().await.unwrap().unwrap();
        bodies.push((send, body));
    }
    assert_eq!(arrivals.known.held.load(Ordering::Relaxed), HELD_BYTES);
    let (send, mut body) = arriving(&arrivals, EVALUATE);
    send.send(piece(100)).await.unwrap();
    assert_eq!(code(&body.frame().await.unwrap().unwrap_err()), Code::ResourceExhausted);
    assert_eq!(counts.crowded.load(Ordering::Relaxed), 1);
    let (send, mut body) = arriving(&arrivals, EVALUATE);
    send.send(message(100)).await.unwrap();
    body.frame().await.unwrap().unwrap();
    let (send, mut last) = bodies.pop().unwrap();
    send.send(vec![7; PREFIX + 1]).await.unwrap();
    last.frame().await.unwrap().unwrap();
    assert_eq!(
        arrivals.known.held.load(Ordering::Relaxed),
        HELD_BYTES - HELD_BYTES / many,
        "it is whole"
    );
    drop(bodies);
    assert_eq!(arrivals.known.held.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_anybody_may_call_has_a_pot_of_its_own() {
    const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";
    let (arrivals, counts) = arrivals();
    let piece = message(OPEN_REQUEST_BYTES)[..OPEN_REQUEST_BYTES].to_owned();
    let mut bodies = Vec::new();
    for path in [LOGIN, "/grpc.health.v1.Health/Check", REFLECT, "/nobody/knows"]
        .iter()
        .cycle()
        .take(64)
    {
        let (send, mut body) = arriving(&arrivals, path);
        send.send(piece.clone()).await.unwrap();
        body.frame().await.unwrap().unwrap();
        bodies.push((send, body));
    }
    assert_eq!(arrivals.open.held.load(Ordering::Relaxed), OPEN_HELD_BYTES);
    let (send, mut body) = arriving(&arrivals, LOGIN);
    send.send(piece.clone()).await.unwrap();
    assert_eq!(code(&body.frame().await.unwrap().unwrap_err()), Code::ResourceExhausted);
    assert_eq!(counts.crowded.load(Ordering::Relaxed), 1);
    for path in [EVALUATE, "/halyard.admin.v1.FlagService/ToggleFlags"] {
        let (send, mut body) = arriving(&arrivals, path);
        send.send(piece.clone()).await.unwrap();
        body.frame().await.unwrap().unwrap();
    }
    drop(bodies);
    assert_eq!(arrivals.open.held.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_soon_as_it_is_announced() {
    let (arrivals, _) = arrivals();
    for (path, largest) in [
        (EVALUATE, HELD_BYTES / LARGEST_AT_ONCE),
        ("/grpc.health.v1.Health/Check", OPEN_REQUEST_BYTES),
    ] {
        for (length, is_refused) in [(largest, false), (largest + 1, true)] {
            let (send, mut body) = arriving(&arrivals, path);
            let length = u32::try_from(length).unwrap().to_be_bytes();
            send.send([&[0], &length[..]].concat()).await.unwrap();
            let first = body.frame().await.unwrap();
            assert_eq!(first.is_err(), is_refused, "{path}");
            if let Err(refused) = first {
                assert_eq!(code(&refused), Code::ResourceExhausted);
            }
        }
    }
}

proptest! {
    /// However messages are cut into pieces, the same ones come out.
    #[test]
    fn pieces_make_the_same_messages(lengths in prop::collection::vec(0_usize..300, 0..8), cuts in prop::collection::vec(1_usize..200, 1..20)) {
        let all: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        let (mut position, mut whole, mut rest) = (Position::default(), 0, &all[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            whole += position.advance(piece);
            rest = behind;
        }
        prop_assert_eq!(whole, lengths.len());
        prop_assert_eq!(position, Position::default());
    }
}
