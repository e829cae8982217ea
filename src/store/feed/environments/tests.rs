//! Where environments stand, step by step.

use super::*;
use crate::domain::change::Digest;
use proptest::prelude::*;

const ONE: EnvironmentId = EnvironmentId(1);

fn at(revision: u64) -> Cursor {
    Cursor {
        revision,
        digest: Digest([u8::try_from(revision).unwrap(); 32]),
    }
}

/// An environment that was sent at this revision.
fn sent(revision: u64) -> Environments {
    let mut environments = Environments::default();
    environments.look(ONE);
    environments.start().unwrap();
    environments.finish(ONE, Finished::Replaced(at(revision)));
    environments
}

#[test]
fn a_hint_of_what_was_sent_is_not_read() {
    let mut environments = sent(5);
    environments.hint(ONE, 5);
    assert_eq!(environments.start(), None);
    environments.hint(ONE, 6);
    assert_eq!(environments.start().unwrap().applied, Some(at(5)));
}

#[test]
fn an_environment_is_read_once_at_a_time() {
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    environments.start().unwrap();
    environments.hint(ONE, 7);
    assert_eq!(environments.start(), None);
    environments.finish(ONE, Finished::Advanced { to: at(6), more: false });
    assert_eq!(environments.start().unwrap().applied, Some(at(6)));
}

#[test]
fn what_was_hinted_while_it_was_read_is_not_read_again() {
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    environments.start().unwrap();
    environments.hint(ONE, 7);
    environments.finish(ONE, Finished::Advanced { to: at(7), more: false });
    assert_eq!(environments.start(), None);
    assert!(environments.has(ONE, 9));
}

#[test]
fn a_hint_of_what_does_not_exist_costs_one_look() {
    let mut environments = sent(5);
    environments.hint(ONE, 99);
    environments.start().unwrap();
    assert!(!environments.has(ONE, 99));
    environments.finish(ONE, Finished::Current);
    assert_eq!(environments.start(), None);
    assert!(environments.has(ONE, 99));
}

#[test]
fn a_polled_head_behind_ours_or_with_another_digest_asks_for_a_look() {
    let other = Cursor { revision: 5, ..at(9) };
    for head in [Some(at(4)), Some(other), None] {
        let mut environments = sent(5);
        let awaited = environments.note(ONE, head).unwrap();
        assert!(!awaited.unexpected);
        assert!(!environments.has(ONE, awaited.revision));
        assert!(environments.start().is_some());
        environments.finish(ONE, Finished::Current);
        assert!(environments.has(ONE, awaited.revision));
    }
    let mut environments = sent(5);
    assert_eq!(environments.note(ONE, Some(at(5))), None);
    assert_eq!(environments.start(), None);
}

#[test]
fn a_newer_polled_head_is_unexpected_only_without_a_hint() {
    let mut environments = sent(5);
    for unexpected in [true, false] {
        let awaited = Awaited {
            revision: 6,
            unexpected,
        };
        assert_eq!(environments.note(ONE, Some(at(6))), Some(awaited));
    }
}

#[test]
fn what_failed_waits_for_a_poll_and_what_is_malformed_for_a_scan() {
    for (parked, unparked_by_poll) in [(Parked::UntilPoll, true), (Parked::UntilScan, false)] {
        let mut environments = sent(5);
        environments.hint(ONE, 6);
        environments.start().unwrap();
        environments.finish(ONE, Finished::Failed(parked));
        environments.hint(ONE, 7);
        assert_eq!(environments.start(), None);
        environments.unpark(false);
        assert_eq!(environments.start().is_some(), unparked_by_poll);
        environments.unpark(true);
        assert_eq!(environments.start().is_some(), !unparked_by_poll);
    }
}

#[test]
fn the_unreadable_holds_nothing_up_unless_it_was_sent() {
    let mut never_sent = Environments::default();
    never_sent.hint(ONE, 6);
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    for (environments, has) in [(&mut never_sent, true), (&mut environments, false)] {
        environments.start().unwrap();
        environments.finish(ONE, Finished::Failed(Parked::UntilScan));
        assert_eq!(environments.has(ONE, 6), has);
    }
}

#[test]
fn only_what_was_sent_is_removed() {
    assert!(sent(5).gone(ONE));
    let mut environments = Environments::default();
    environments.hint(ONE, 1);
    environments.start().unwrap();
    assert!(!environments.gone(ONE));
    assert!(!environments.knows(ONE));
}

#[test]
fn another_history_is_read_whole_and_without_recent_revisions_once() {
    let mut environments = sent(5);
    environments.restart();
    let wish = environments.start().unwrap();
    assert_eq!((wish.applied, wish.recent), (None, false));
    environments.finish(ONE, Finished::Replaced(at(3)));
    environments.look(ONE);
    let wish = environments.start().unwrap();
    assert_eq!((wish.applied, wish.recent), (Some(at(3)), true));
}

#[test]
fn the_revision_that_follows_is_read_alone_if_nothing_newer_is_known_of() {
    let single = |environments: &mut Environments| environments.start().unwrap().single;
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    assert!(single(&mut environments));
    environments.finish(ONE, Finished::Advanced { to: at(6), more: true });
    assert!(!single(&mut environments));
    environments.finish(ONE, Finished::Current);
    environments.hint(ONE, 7);
    environments.hint(ONE, 8);
    assert!(!single(&mut environments));
    let mut unread = Environments::default();
    unread.hint(ONE, 1);
    assert!(!single(&mut unread));
}

proptest! {
    /// Whatever is hinted, polled and read in whatever order, the environment ends where the origin stands, and what was read
    /// one by one has neither gaps nor doubles.
    #[test]
    fn it_always_arrives(steps in prop::collection::vec((0_u8..6, 0_u64..4), 1..60)) {
        let mut environments = Environments::default();
        let mut origin = 1;
        let mut reading = None;
        environments.note(ONE, Some(at(origin)));
        for (step, n) in steps {
            match step {
                0 => origin += n,
                1 => environments.hint(ONE, n),
                2 => { environments.note(ONE, Some(at(origin.saturating_sub(n).max(1)))); }
                3 => environments.unpark(false),
                4 => reading = reading.or_else(|| environments.start()),
                _ => if let Some(wish) = reading.take() {
                    finish(&mut environments, wish, origin, n);
                },
            }
            prop_assert!(reading.is_none() || environments.start().is_none());
        }
        if let Some(wish) = reading {
            finish(&mut environments, wish, origin, 0);
        }
        environments.unpark(false);
        environments.note(ONE, Some(at(origin)));
        for _ in 0..200 {
            let Some(wish) = environments.start() else { break };
            prop_assert!(!environments.has(ONE, origin) || wish.applied == Some(at(origin)));
            finish(&mut environments, wish, origin, 0);
        }
        prop_assert_eq!(environments.start(), None);
        prop_assert_eq!(environments.note(ONE, Some(at(origin))), None);
    }
}

fn finish(environments: &mut Environments, wish: Wish, origin: u64, n: u64) {
    let how = match (wish.applied, n) {
        (_, 3) => Finished::Failed(Parked::UntilPoll),
        (None, _) => Finished::Replaced(at(origin)),
        (Some(applied), _) if applied.revision >= origin => Finished::Current,
        (Some(applied), _) => Finished::Advanced {
            to: at(applied.revision + 1),
            more: applied.revision + 1 < origin,
        },
    };
    environments.finish(wish.environment, how);
}
