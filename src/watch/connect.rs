//! What a client that stands somewhere is answered: a pure function of where it stands and of the state here.
//!
//! The same function answers a client that connects and a stream that looks for its next step.

use super::message::Reason;
use super::ring::Merged;
use super::state::State;
use super::token::{Shown, Token};

/// Changes of fewer bytes are never worth a snapshot, however small the environment is.
const SMALL_DELTA_BYTES: usize = 4 * 1024;

/// What a client is answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Everything.
    Snapshot(Reason),
    /// What changed since.
    Delta(Merged),
    /// Nothing has changed.
    None,
    /// The client has seen what is not known here: the origin has to be asked.
    Ahead,
}

/// Decides. Numbers alone never make a client's state ours: its digest must be the one that our history has at that revision.
pub(super) fn decide(shown: &Shown, state: &State) -> Answer {
    let token = match shown {
        Shown::Nothing => return Answer::Snapshot(Reason::NoState),
        Shown::OtherFormat => return Answer::Snapshot(Reason::FormatChanged),
        Shown::OtherQuestion(token) | Shown::Token(token) => token,
    };
    let here = &state.commit.position;
    if token.identity.store != here.identity.store || token.environment != here.environment {
        return Answer::Snapshot(Reason::DifferentStore);
    }
    // Whatever was asked: who has seen newer answers is not to be sent older ones.
    if token.order() > here.order() {
        return Answer::Ahead;
    }
    if matches!(shown, Shown::OtherQuestion(_)) {
        return Answer::Snapshot(Reason::OtherQuestion);
    }
    if token.identity.generation != here.identity.generation {
        return Answer::Snapshot(Reason::Diverged);
    }
    if token.revision == here.revision {
        return if token.proves(&here.digest) {
            Answer::None
        } else {
            Answer::Snapshot(Reason::Diverged)
        };
    }
    behind(token, state)
}

/// The token is of our generation and of an earlier revision.
fn behind(token: &Token, state: &State) -> Answer {
    match state.digest_at(token.revision) {
        None => Answer::Snapshot(Reason::Compacted),
        Some(digest) if !token.proves(&digest) => Answer::Snapshot(Reason::Diverged),
        Some(_) => match state.since(token.revision) {
            None => Answer::Snapshot(Reason::Compacted),
            Some(merged) if merged.weight > state.weight.max(SMALL_DELTA_BYTES) => {
                Answer::Snapshot(Reason::CheaperAsSnapshot)
            }
            Some(merged) => Answer::Delta(merged),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::change::{Digest, EnvironmentId};
    use crate::watch::options::Options;
    use crate::watch::source::Identity;
    use crate::watch::testing::History;
    use crate::watch::token::{Fingerprint, Holding};

    /// A token of the history's revision, then altered.
    fn token_at(history: &History, revision: usize) -> Token {
        let head = history.revisions[revision].delta.head;
        Token {
            identity: history.identity,
            environment: history.environment,
            revision: head.revision,
            digest: head.digest,
            sealed: false,
        }
    }

    /// What is wrong with a token.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        None,
        Store,
        Environment,
        OlderGeneration,
        NewerGeneration,
        Digest,
        Future,
    }

    fn altered(mut token: Token, fault: Fault, head: u64) -> Token {
        match fault {
            Fault::None => {}
            Fault::Store => token.identity.store = uuid::Uuid::from_u128(2),
            Fault::Environment => token.environment = EnvironmentId(8),
            Fault::OlderGeneration => token.identity.generation -= 1,
            Fault::NewerGeneration => token.identity.generation += 1,
            Fault::Digest => token.digest = Digest([9; 32]),
            Fault::Future => token.revision += head + 1,
        }
        token
    }

    fn fault() -> impl Strategy<Value = Fault> {
        prop_oneof![
            4 => Just(Fault::None),
            1 => Just(Fault::Store),
            1 => Just(Fault::Environment),
            1 => Just(Fault::OlderGeneration),
            1 => Just(Fault::NewerGeneration),
            2 => Just(Fault::Digest),
            1 => Just(Fault::Future),
        ]
    }

    /// The answer in a word.
    fn word(answer: &Answer) -> &'static str {
        match answer {
            Answer::Snapshot(Reason::NoState) => "no state",
            Answer::Snapshot(Reason::Compacted) => "compacted",
            Answer::Snapshot(Reason::Diverged) => "diverged",
            Answer::Snapshot(Reason::DifferentStore) => "different store",
            Answer::Snapshot(Reason::FormatChanged) => "format changed",
            Answer::Snapshot(Reason::CheaperAsSnapshot) => "cheaper",
            Answer::Snapshot(Reason::OtherQuestion | Reason::MayHaveChanged) => "of answers",
            Answer::Delta(_) => "delta",
            Answer::None => "none",
            Answer::Ahead => "ahead",
        }
    }

    proptest! {
        #[test]
        fn every_token_has_its_answer(
            revisions in 0..30_u8, at: prop::sample::Index, kept in 0..35_usize, ring in 0..35_usize, fault in fault(),
        ) {
            let history = History::of(revisions);
            let (head, at) = (usize::from(revisions), at.index(usize::from(revisions) + 1));
            let limits = Options { ring_revisions: ring, ..Options::default() };
            let state = history.state(kept, &limits);
            let shown = Shown::Token(altered(token_at(&history, at), fault, head as u64));
            let known = at == head || at + kept.min(ring) >= head;
            let expected = match fault {
                Fault::Store | Fault::Environment => "different store",
                Fault::NewerGeneration | Fault::Future => "ahead",
                Fault::OlderGeneration => "diverged",
                Fault::Digest if known => "diverged",
                Fault::None | Fault::Digest if !known => "compacted",
                Fault::None | Fault::Digest if at == head => "none",
                Fault::None | Fault::Digest => "delta",
            };
            prop_assert_eq!(word(&decide(&shown, &state)), expected);
            // Who holds answers is told the same, by the sealed digest; of another question whatever is not newer is of no use.
            let Shown::Token(token) = shown else { unreachable!() };
            let (own, other) = (Holding::Answers(Fingerprint([1; 16])), Holding::Answers(Fingerprint([2; 16])));
            let sealed = Shown::read_for(own, &token.write_for(own));
            prop_assert_eq!(word(&decide(&sealed, &state)), expected);
            let otherwise = Shown::read_for(other, &token.write_for(own));
            let expected = match expected {
                "different store" | "ahead" => expected,
                _ => "of answers",
            };
            prop_assert_eq!(word(&decide(&otherwise, &state)), expected);
        }

        #[test]
        fn only_the_head_itself_is_up_to_date(revisions in 0..10_u8, generation in 0..3_u64, revision in 0..12_u64, right: bool) {
            let history = History::of(revisions);
            let mut token = token_at(&history, usize::from(revisions));
            token.identity.generation = generation;
            token.revision = revision;
            if !right {
                token.digest = Digest([9; 32]);
            }
            let here = token == token_at(&history, usize::from(revisions));
            let answer = decide(&Shown::Token(token), &history.state(100, &Options::default()));
            prop_assert_eq!(matches!(answer, Answer::None), here);
        }
    }

    /// The answer as the contract has it, from the whole history instead of from what a replica keeps of it. `known`: how many
    /// revisions before the head can be led on from.
    fn specified(token: &Token, history: &History, known: usize) -> &'static str {
        let here = (history.identity.generation, history.head().revision);
        let there = (token.identity.generation, token.revision);
        let is_ours = || {
            let revision = usize::try_from(token.revision).ok();
            let revision = revision.and_then(|revision| history.revisions.get(revision));
            revision.is_some_and(|revision| revision.delta.head.digest == token.digest)
        };
        let is_known = || usize::try_from(here.1 - there.1).is_ok_and(|behind| behind <= known);
        if token.identity.store != history.identity.store || token.environment != history.environment {
            "different store"
        } else if there > here {
            "ahead"
        } else if there.0 < here.0 {
            "diverged"
        } else if there == here {
            if is_ours() { "none" } else { "diverged" }
        } else if !is_known() {
            "compacted"
        } else if is_ours() {
            "delta"
        } else {
            "diverged"
        }
    }

    prop_compose! {
        /// Whatever a token can say, near to what is true.
        fn any_token(history: History)(
            store in 0..3_u128, environment in 6..9_i64, generation in 1..4_u64, revision in 0..14_u64, of in 0..14_usize,
        ) -> Token {
            let digest = history.revisions.get(of).map_or(Digest([9; 32]), |revision| revision.delta.head.digest);
            Token {
                identity: Identity { store: uuid::Uuid::from_u128(store.max(1)), generation },
                environment: EnvironmentId(environment.min(7)),
                revision,
                digest,
                sealed: false,
            }
        }
    }

    fn generation_two(revisions: u8) -> History {
        let mut history = History::new();
        history.identity.generation = 2;
        for revision in 0..revisions {
            history.write(&[(revision % 5, Some(vec![revision]))]);
        }
        history
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_combination_is_answered_as_specified(
            (history, token) in (0..12_u8).prop_map(generation_two).prop_flat_map(|it| (Just(it.clone()), any_token(it))),
            kept in 0..14_usize, ring in 0..14_usize,
        ) {
            let state = history.state(kept, &Options { ring_revisions: ring, ..Options::default() });
            let answer = decide(&Shown::Token(token), &state);
            prop_assert_eq!(word(&answer), specified(&token, &history, kept.min(ring)));
        }
    }

    #[test]
    fn a_client_without_state_gets_everything() {
        let state = History::of(3).state(9, &Options::default());
        assert_eq!(word(&decide(&Shown::Nothing, &state)), "no state");
    }

    #[test]
    fn a_token_of_another_format_gets_everything() {
        let state = History::of(3).state(9, &Options::default());
        assert_eq!(word(&decide(&Shown::OtherFormat, &state)), "format changed");
    }

    /// Creates `created` items, then deletes all but one; answers the client that has seen them all.
    fn after_deleting(created: u8) -> &'static str {
        let mut history = History::new();
        let puts: Vec<_> = (0..created).map(|number| (number, Some(vec![1]))).collect();
        history.write(&puts);
        let deletes: Vec<_> = (1..created).map(|number| (number, None)).collect();
        history.write(&deletes);
        let state = history.state(9, &Options::default());
        word(&decide(&Shown::Token(token_at(&history, 1)), &state))
    }

    #[test]
    fn many_deletes_are_cheaper_as_a_snapshot() {
        assert_eq!(after_deleting(200), "cheaper");
    }

    #[test]
    fn a_few_deletes_are_a_delta_even_if_little_is_left() {
        assert_eq!(after_deleting(5), "delta");
    }
}
