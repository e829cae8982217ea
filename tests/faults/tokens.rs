//! Resume tokens that are broken, foreign, from the future or forged: whoever shows one gets everything, or has to come again.

use std::collections::HashMap;
use std::time::Duration;

use halyard::domain::change::Digest;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use halyard::watch::{Shown, Token};
use pb::{Intent, SnapshotReason as Reason};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::calls::with;
use crate::harness::listener::{Listener, who};
use crate::harness::probe::{Probe, probe};
use crate::harness::template::Environment;
use crate::harness::world::World;
use crate::support::within;

/// How a token is made wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wrong {
    Flipped,
    Truncated,
    Longer,
    OtherEnvironment,
    OfAnswers,
    Ahead,
    OtherDigest,
    DigestOfAnotherRevision,
    LaterGeneration,
    EarlierGeneration,
    OtherStore,
}

const WRONG: [Wrong; 11] = [
    Wrong::Flipped,
    Wrong::Truncated,
    Wrong::Longer,
    Wrong::OtherEnvironment,
    Wrong::OfAnswers,
    Wrong::Ahead,
    Wrong::OtherDigest,
    Wrong::DigestOfAnotherRevision,
    Wrong::LaterGeneration,
    Wrong::EarlierGeneration,
    Wrong::OtherStore,
];

/// Wrong tokens are shown to both replicas all the time, of every kind.
pub async fn fuzzed(world: &mut World) {
    let [here, there] = world
        .furniture
        .environments
        .clone()
        .try_into()
        .expect("two environments");
    let channels: Vec<_> = (0..2).map(|replica| world.doors.own(replica).unwrap()).collect();
    let mut answers = Listener::start(&here, who("ada"), world.doors.clone(), 0, world.rng.u64(..));
    within("answers", answers.holds(1, 1)).await;
    let mut shown: HashMap<Wrong, usize> = HashMap::new();
    let mut rounds = world.rounds(Duration::from_millis(50));
    while rounds.next_until(shown.len() > WRONG.len() / 2).await {
        let channel = channels[world.rng.usize(..2)].clone();
        let fresh = |environment: &Environment| fresh(channel.clone(), environment.clone());
        let (before, foreign) = (fresh(&here).await, fresh(&there).await);
        world.writes(2).await;
        let own = fresh(&here).await;
        let mut wrongs = WRONG.to_vec();
        world.rng.shuffle(&mut wrongs);
        for wrong in &wrongs[..4] {
            let token = match wrong {
                // What was written may have been elsewhere: then it is no wrong digest.
                Wrong::DigestOfAnotherRevision if read(&before).revision == read(&own).revision => continue,
                Wrong::OtherEnvironment => foreign.commit.resume_token.clone(),
                Wrong::OfAnswers => answers.token(),
                Wrong::DigestOfAnotherRevision => {
                    let digest = read(&before).digest;
                    altered(&own, |token| token.digest = digest)
                }
                Wrong::Flipped
                | Wrong::Truncated
                | Wrong::Longer
                | Wrong::Ahead
                | Wrong::OtherDigest
                | Wrong::LaterGeneration
                | Wrong::EarlierGeneration
                | Wrong::OtherStore => made_wrong(*wrong, &own, &mut world.rng),
            };
            let answer = probe(channel.clone(), &here.server_key, &here.key, token).await;
            judge(*wrong, &answer);
            if let Some(recording) = answer.ok().and_then(|probe| probe.recording) {
                world.keep(recording);
            }
            *shown.entry(*wrong).or_default() += 1;
        }
        other_questions(&channel, &here, answers.token(), &mut world.rng).await;
    }
    assert!(shown.len() > WRONG.len() / 2, "only {shown:?}");
    world.keep_answers(answers.stop().await);
}

async fn fresh(channel: Channel, environment: Environment) -> Probe {
    let probe = probe(channel, &environment.server_key, &environment.key, Vec::new()).await;
    let probe = probe.expect("a snapshot");
    assert_eq!(probe.begin.reason(), Reason::NoState);
    probe
}

fn read(probe: &Probe) -> Token {
    match Shown::read(&probe.commit.resume_token) {
        Shown::Token(token) => token,
        shown @ (Shown::Nothing | Shown::OtherFormat | Shown::OtherQuestion(_)) => {
            panic!("a token that a server gave is read as {shown:?}")
        }
    }
}

/// With a right checksum.
fn altered(probe: &Probe, alter: impl FnOnce(&mut Token)) -> Vec<u8> {
    let mut token = read(probe);
    alter(&mut token);
    token.write().to_vec()
}

fn made_wrong(wrong: Wrong, own: &Probe, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = own.commit.resume_token.clone();
    match wrong {
        Wrong::Flipped => {
            let bit = rng.usize(..8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        }
        Wrong::Truncated => bytes[..rng.usize(..bytes.len())].to_vec(),
        Wrong::Longer => {
            let more = rng.usize(1..1_000);
            bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(more));
            bytes
        }
        Wrong::Ahead => altered(own, |token| token.revision += [1, 2, 1_000, 1 << 40][rng.usize(..4)]),
        Wrong::OtherDigest => altered(own, |token| token.digest = Digest([rng.u8(..); 32])),
        Wrong::LaterGeneration => altered(own, |token| token.identity.generation += rng.u64(1..3)),
        Wrong::EarlierGeneration => altered(own, |token| token.identity.generation -= 1),
        Wrong::OtherStore => altered(own, |token| token.identity.store = uuid::Uuid::from_u128(rng.u128(..))),
        Wrong::OtherEnvironment | Wrong::OfAnswers | Wrong::DigestOfAnotherRevision => {
            unreachable!("made where there is more to make it of")
        }
    }
}

/// Everything with a reason that fits, or UNAVAILABLE where only the primary could say.
fn judge(wrong: Wrong, answer: &Result<Probe, Status>) {
    let reasons: &[Reason] = match wrong {
        Wrong::Flipped | Wrong::Truncated | Wrong::Longer => &[Reason::NoState],
        Wrong::OtherEnvironment | Wrong::OtherStore => &[Reason::DifferentStore],
        Wrong::OfAnswers => &[Reason::FormatChanged],
        // A revision that came meanwhile shows that the digest is not its own.
        Wrong::Ahead
        | Wrong::OtherDigest
        | Wrong::DigestOfAnotherRevision
        | Wrong::LaterGeneration
        | Wrong::EarlierGeneration => &[Reason::Diverged],
    };
    match answer {
        Ok(probe) => {
            let (intent, reason) = (probe.begin.intent(), probe.begin.reason());
            assert_eq!(
                intent,
                Intent::Snapshot,
                "{wrong:?} was taken for what the client holds"
            );
            assert!(reasons.contains(&reason), "{wrong:?} was answered with {reason:?}");
        }
        Err(status) => {
            let may_wait = matches!(wrong, Wrong::Ahead | Wrong::LaterGeneration);
            assert!(
                may_wait && status.code() == Code::Unavailable,
                "{wrong:?} was answered with {status:?}"
            );
        }
    }
}

/// The token of one question with another one: everything is answered anew.
async fn other_questions(channel: &Channel, environment: &Environment, mut token: Vec<u8>, rng: &mut fastrand::Rng) {
    let mut reasons = vec![Reason::OtherQuestion];
    if rng.bool() {
        let bit = rng.usize(..8 * token.len());
        token[bit / 8] ^= 1 << (bit % 8);
        reasons = vec![Reason::NoState];
    }
    let request = pb::WatchEvaluationsRequest {
        context: Some(who("bob")),
        resume_token: token,
        ..pb::WatchEvaluationsRequest::default()
    };
    let mut client = WatchServiceClient::new(with(channel.clone(), &environment.server_key));
    let mut stream = match client.watch_evaluations(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => panic!("a token of another question was refused: {status:?}"),
    };
    let first = match within("answers", stream.message()).await {
        Ok(message) => message.and_then(|response| response.message),
        // Ahead of this replica, and nobody could say in time.
        Err(status) if status.code() == Code::Unavailable => return,
        Err(status) => panic!("{status:?}"),
    };
    let Some(pb::watch_evaluations_response::Message::Batch(batch)) = first else {
        panic!("{first:?} came first");
    };
    assert_eq!(
        batch.intent(),
        Intent::Snapshot,
        "answers to another question were taken for these"
    );
    assert!(
        reasons.contains(&batch.reason()),
        "{:?} instead of {reasons:?}",
        batch.reason()
    );
}
