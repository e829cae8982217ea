//! Where environments stand, step by step.

use std::time::Duration;

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
    environments.start(1).unwrap();
    environments.finish(ONE, Finished::Replaced(at(revision)));
    environments
}

#[test]
fn a_hint_of_what_was_sent_is_not_read() {
    let mut environments = sent(5);
    environments.hint(ONE, 5);
    assert_eq!(environments.start(1), None);
    environments.hint(ONE, 6);
    assert_eq!(environments.start(1).unwrap().applied, Some(at(5)));
}

#[test]
fn an_environment_is_read_once_at_a_time() {
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    environments.start(1).unwrap();
    environments.hint(ONE, 7);
    assert_eq!(environments.start(1), None);
    environments.finish(ONE, Finished::Advanced { to: at(6), more: false });
    assert_eq!(environments.start(1).unwrap().applied, Some(at(6)));
}

#[test]
fn what_was_hinted_while_it_was_read_is_not_read_again() {
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    environments.start(1).unwrap();
    environments.hint(ONE, 7);
    environments.finish(ONE, Finished::Advanced { to: at(7), more: false });
    assert_eq!(environments.start(1), None);
    assert!(environments.has(ONE, 9));
}

#[test]
fn a_hint_of_what_does_not_exist_costs_one_look() {
    let mut environments = sent(5);
    environments.hint(ONE, 99);
    environments.start(1).unwrap();
    assert!(!environments.has(ONE, 99));
    environments.finish(ONE, Finished::Current);
    assert_eq!(environments.start(1), None);
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
        assert!(environments.start(1).is_some());
        environments.finish(ONE, Finished::Current);
        assert!(environments.has(ONE, awaited.revision));
    }
    let mut environments = sent(5);
    assert_eq!(environments.note(ONE, Some(at(5))), None);
    assert_eq!(environments.start(1), None);
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
    for (parked, unparked_by_poll) in [(Parked::Poll, true), (Parked::Scan, false)] {
        let mut environments = sent(5);
        environments.hint(ONE, 6);
        environments.start(1).unwrap();
        environments.finish(ONE, Finished::Failed(parked));
        environments.hint(ONE, 7);
        assert_eq!(environments.start(1), None);
        environments.unpark(false, Instant::now());
        assert_eq!(environments.start(1).is_some(), unparked_by_poll);
        environments.unpark(true, Instant::now());
        assert_eq!(environments.start(1).is_some(), !unparked_by_poll);
    }
}

const PAUSES: Pauses = Pauses {
    least: Duration::from_secs(1),
    most: Duration::from_secs(30),
};

/// An environment whose only read failed.
fn failed(environments: &mut Environments, environment: EnvironmentId, fault: Fault) {
    environments.look(environment);
    environments.start(9).unwrap();
    environments.fail(environment, fault, PAUSES, Instant::now());
}

#[test]
fn what_is_excused_holds_nothing_up_until_it_has_caught_up() {
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    assert!(!environments.has(ONE, 6));
    assert!(environments.excuse(ONE));
    assert!(!environments.excuse(ONE));
    assert!(environments.has(ONE, 6) && environments.is_behind(ONE));

    environments.start(1).unwrap();
    // Polled while it is read, and counted as sent.
    environments.note(ONE, Some(at(7)));
    assert!(!environments.finish(ONE, Finished::Advanced { to: at(6), more: false }));
    assert!(!environments.has(ONE, 7) && environments.is_behind(ONE));
    environments.start(1).unwrap();
    environments.note(ONE, Some(at(8)));
    assert!(environments.finish(ONE, Finished::Advanced { to: at(7), more: false }));
    assert!(!environments.is_behind(ONE));
    assert!(!environments.has(ONE, 8));
}

#[test]
fn what_is_sent_again_under_another_generation_is_still_behind() {
    let mut environments = sent(5);
    environments.excuse(ONE);
    environments.restart();
    assert!(environments.has(ONE, 9));
    environments.start(1).unwrap();
    assert!(environments.finish(ONE, Finished::Replaced(at(9))));
}

#[test]
fn an_environment_is_tried_again_at_the_next_poll_and_then_less_and_less_often() {
    let mut environments = Environments::default();
    environments.look(ONE);
    let mut now = Instant::now();
    environments.start(1).unwrap();
    assert!(environments.fail(ONE, Fault::Read, PAUSES, now));
    environments.unpark(false, now);
    environments.start(1).unwrap();
    assert!(!environments.fail(ONE, Fault::Read, PAUSES, now));
    environments.unpark(true, now);
    assert_eq!(environments.start(1), None);
    now += PAUSES.least;
    environments.unpark(false, now);
    environments.start(1).unwrap();
    // A read that succeeds begins anew.
    environments.finish(ONE, Finished::Replaced(at(1)));
    environments.hint(ONE, 2);
    environments.start(1).unwrap();
    assert!(environments.fail(ONE, Fault::Read, PAUSES, now));
}

#[test]
fn what_failed_is_read_after_others_and_takes_no_more_than_its_share() {
    let [two, three, sound] = [2, 3, 4].map(EnvironmentId);
    let mut environments = Environments::default();
    for environment in [ONE, two, three] {
        failed(&mut environments, environment, Fault::Read);
    }
    environments.unpark(false, Instant::now());
    environments.look(sound);
    assert_eq!(environments.start(1).unwrap().environment, sound);
    let first = environments.start(1).unwrap().environment;
    assert_eq!(environments.start(1), None);
    environments.look(EnvironmentId(5));
    assert_eq!(environments.start(1).unwrap().environment, EnvironmentId(5));
    environments.gone(first);
    assert!(environments.start(1).is_some());
    assert_eq!(environments.start(1), None);
}

#[test]
fn what_makes_no_sense_is_read_again_after_a_scan() {
    let mut environments = Environments::default();
    failed(&mut environments, ONE, Fault::Rows);
    environments.unpark(false, Instant::now());
    assert_eq!(environments.start(1), None);
    assert_eq!(environments.unreadable(Instant::now()), [ONE]);
    environments.unpark(true, Instant::now());
    assert!(environments.start(1).is_some());
}

#[test]
fn only_what_was_sent_is_removed() {
    assert!(sent(5).gone(ONE));
    let mut environments = Environments::default();
    environments.hint(ONE, 1);
    environments.start(1).unwrap();
    assert!(!environments.gone(ONE));
    assert!(!environments.knows(ONE));
}

#[test]
fn another_history_is_read_whole_and_without_recent_revisions_once() {
    let mut environments = sent(5);
    environments.restart();
    let wish = environments.start(1).unwrap();
    assert_eq!((wish.applied, wish.recent), (None, false));
    environments.finish(ONE, Finished::Replaced(at(3)));
    environments.look(ONE);
    let wish = environments.start(1).unwrap();
    assert_eq!((wish.applied, wish.recent), (Some(at(3)), true));
}

#[test]
fn a_few_revisions_that_follow_may_be_read_together() {
    let together = |environments: &mut Environments| environments.start(1).unwrap().together;
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    assert!(together(&mut environments));
    environments.finish(ONE, Finished::Advanced { to: at(6), more: true });
    assert!(!together(&mut environments), "nobody knows what there is");
    environments.finish(ONE, Finished::Current);
    environments.hint(ONE, 7);
    environments.hint(ONE, 6 + u64::from(together::REVISIONS));
    assert!(together(&mut environments));
    environments.finish(ONE, Finished::Current);
    environments.hint(ONE, 7 + u64::from(together::REVISIONS));
    assert!(!together(&mut environments), "there are too many");
    let mut unread = Environments::default();
    unread.hint(ONE, 1);
    assert!(!together(&mut unread));
}

#[test]
fn what_others_must_not_wait_for_is_read_alone_once() {
    let mut environments = sent(5);
    environments.hint(ONE, 6);
    assert!(environments.start(1).unwrap().together);
    environments.finish(ONE, Finished::Alone);
    assert!(!environments.start(1).unwrap().together);
    environments.finish(ONE, Finished::Advanced { to: at(6), more: false });
    assert_eq!(environments.start(1), None);
    environments.hint(ONE, 7);
    assert!(environments.start(1).unwrap().together);
}

#[test]
fn what_follows_is_read_together_unless_it_failed_or_more_is_known_of() {
    const OTHERS: [EnvironmentId; 4] = [
        EnvironmentId(11),
        EnvironmentId(12),
        EnvironmentId(13),
        EnvironmentId(14),
    ];
    let mut environments = sent(5);
    for other in OTHERS {
        environments.look(other);
        environments.start(1).unwrap();
        environments.finish(other, Finished::Replaced(at(5)));
    }
    let [failed, further, ..] = OTHERS;
    environments.look(failed);
    environments.start(1).unwrap();
    environments.finish(failed, Finished::Replaced(at(5)));
    environments.hint(failed, 6);
    environments.start(1).unwrap();
    environments.fail(failed, Fault::Read, PAUSES, Instant::now());
    for environment in [ONE, OTHERS[2], further, OTHERS[3]] {
        environments.hint(environment, 6);
    }
    environments.hint(further, 6 + u64::from(together::REVISIONS));
    environments.unpark(true, Instant::now());
    let mut read = || {
        let wishes = environments.start_several(1);
        wishes.iter().map(|wish| wish.environment).collect::<Vec<_>>()
    };
    assert_eq!(read(), [ONE, OTHERS[2]]);
    assert_eq!(read(), [further]);
    assert_eq!(read(), [OTHERS[3]]);
    assert_eq!(read(), [failed]);
    assert_eq!(read(), []);
}

#[test]
fn no_more_are_read_together_than_may_be() {
    let mut environments = Environments::default();
    let all = (1..=40).map(EnvironmentId);
    for environment in all.clone() {
        environments.look(environment);
        environments.start(1).unwrap();
        environments.finish(environment, Finished::Replaced(at(5)));
    }
    all.for_each(|environment| environments.hint(environment, 6));
    let sizes: Vec<_> =
        std::iter::from_fn(|| Some(environments.start_several(1).len()).filter(|size| *size > 0)).collect();
    assert_eq!(sizes, [16, 16, 8]);
}

proptest! {
    /// Polls that counted while the environment was excused are honoured before it is said to have caught up, whatever happens
    /// while it is read.
    #[test]
    fn it_has_caught_up_only_with_all_that_counted(steps in prop::collection::vec((0_u8..6, 0_u64..3), 1..80)) {
        let mut environments = sent(1);
        let (mut origin, mut counted) = (1, 0);
        let mut reading: Option<(Wish, u64)> = None;
        for (step, n) in steps {
            match step {
                0 => origin += n,
                1 => drop(environments.note(ONE, Some(at(origin)))),
                2 => drop(environments.excuse(ONE)),
                3 => reading = reading.or_else(|| environments.start(1).map(|wish| (wish, origin))),
                4 => environments.unpark(true, Instant::now() + Duration::from_hours(1)),
                _ => if let Some((wish, seen)) = reading.take() {
                    let applied = wish.applied.unwrap();
                    let caught_up = match n {
                        0 => {
                            environments.fail(ONE, Fault::Read, PAUSES, Instant::now());
                            false
                        }
                        _ if applied.revision >= seen => environments.finish(ONE, Finished::Current),
                        1 => environments.finish(ONE, Finished::Replaced(at(seen))),
                        _ => {
                            let to = at(applied.revision + 1);
                            environments.finish(ONE, Finished::Advanced { to, more: to.revision < seen })
                        }
                    };
                    if caught_up {
                        let applied = environments.tracked[&ONE].applied.unwrap();
                        prop_assert!(applied.revision >= counted, "{applied:?} {counted}");
                    }
                },
            }
            // A poll that finds this counts now.
            if environments.has(ONE, origin) && environments.tracked[&ONE].want.is_some() {
                let noted = environments.tracked[&ONE].want;
                counted = counted.max(noted.unwrap_or_default());
            }
        }
    }

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
                3 => environments.unpark(false, Instant::now()),
                4 => reading = reading.or_else(|| environments.start(1)),
                _ => if let Some(wish) = reading.take() {
                    finish(&mut environments, wish, origin, n);
                },
            }
            prop_assert!(reading.is_none() || environments.start(1).is_none());
        }
        if let Some(wish) = reading {
            finish(&mut environments, wish, origin, 0);
        }
        environments.unpark(false, Instant::now());
        environments.note(ONE, Some(at(origin)));
        for _ in 0..200 {
            let Some(wish) = environments.start(1) else { break };
            prop_assert!(!environments.has(ONE, origin) || wish.applied == Some(at(origin)));
            finish(&mut environments, wish, origin, 0);
        }
        prop_assert_eq!(environments.start(1), None);
        prop_assert_eq!(environments.note(ONE, Some(at(origin))), None);
    }
}

fn finish(environments: &mut Environments, wish: Wish, origin: u64, n: u64) {
    let how = match (wish.applied, n) {
        (_, 3) => Finished::Failed(Parked::Poll),
        (None, _) => Finished::Replaced(at(origin)),
        (Some(applied), _) if applied.revision >= origin => Finished::Current,
        (Some(applied), _) => Finished::Advanced {
            to: at(applied.revision + 1),
            more: applied.revision + 1 < origin,
        },
    };
    environments.finish(wish.environment, how);
}
