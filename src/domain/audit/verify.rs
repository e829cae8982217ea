//! Recomputing a chain: is every entry as it was written, where it was written, and is the last the last?

use std::fmt;

use super::{Head, Linked};

/// What the verification of a chain found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every entry is as it was written, up to this head.
    Intact(Head),
    /// Something was tampered with.
    Broken(Break),
}

/// The first place at which a chain is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// The place, from 1.
    pub sequence: u64,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// What can be wrong at a place of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// There is no entry, though there are later ones, or the head or a kept head says that there are.
    Missing,
    /// The entry cannot be read.
    Unreadable,
    /// The entry's hash is not that of its content.
    Altered,
    /// The entry does not follow the one before: one of the two was replaced, moved or put in.
    Detached,
    /// There is an entry where the head says that the chain ends, or that has the place of another.
    Surplus,
    /// The head is gone, or is not that of the last entry, after which this would be the next.
    Head,
    /// The entry is not the one whose hash was kept: it, or one before it, was rewritten together with all that follow.
    Rewritten,
}

impl Flaw {
    /// Every flaw.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Unreadable,
        Self::Altered,
        Self::Detached,
        Self::Surplus,
        Self::Head,
        Self::Rewritten,
    ];
}

impl fmt::Display for Flaw {
    /// What is said of the place: `is missing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Unreadable => "cannot be read",
            Self::Altered => "was altered: its hash is not that of its content",
            Self::Detached => "does not follow the one before: one of them was replaced, moved or put in",
            Self::Surplus => "is one too many: the chain ends before it, or the place is taken",
            Self::Head => "would be the next, but the chain's head is gone or not that of the entry before",
            Self::Rewritten => "is not the one whose hash was kept: it, or one before it, was rewritten",
        })
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, flaw } = self;
        write!(f, "entry {sequence} {flaw}")
    }
}

/// Follows a chain from its first entry, in the order of their places, and remembers no more than the last.
#[derive(Debug)]
pub struct Verifier {
    last: Head,
    kept: Option<Head>,
}

impl Verifier {
    /// At the beginning of a chain; `kept` is what was its head once.
    pub fn new(kept: Option<Head>) -> Self {
        let last = Head::default();
        Self { last, kept }
    }

    /// The last entry that was followed.
    pub fn last(&self) -> Head {
        self.last
    }

    /// Goes on to the next entry.
    pub fn follow(&mut self, next: &Linked) -> Result<(), Break> {
        let Linked {
            entry,
            sequence,
            previous,
            hash,
        } = next;
        let place = self.last.sequence + 1;
        let computed = entry.hash(*previous, place);
        let flaw = if *sequence > place {
            Flaw::Missing
        } else if *sequence < place {
            Flaw::Surplus
        } else if *hash != computed {
            Flaw::Altered
        } else if *previous != self.last.hash {
            Flaw::Detached
        } else if self
            .kept
            .is_some_and(|kept| kept.sequence == place && kept.hash != *hash)
        {
            Flaw::Rewritten
        } else {
            self.last = Head {
                sequence: place,
                hash: *hash,
            };
            return Ok(());
        };
        Err(self.here(flaw))
    }

    /// Breaks at the place that comes next.
    pub fn here(&self, flaw: Flaw) -> Break {
        let sequence = self.last.sequence + 1;
        Break { sequence, flaw }
    }

    /// There are no more entries; `head` is where the chain itself says that it ends. `None`: it does not say.
    pub fn finish(self, head: Option<Head>) -> Verdict {
        let mut promised = [head, self.kept].into_iter().flatten();
        if promised.any(|head| head.sequence > self.last.sequence) {
            return Verdict::Broken(self.here(Flaw::Missing));
        }
        match head {
            Some(head) if head.sequence < self.last.sequence => Verdict::Broken(Break {
                sequence: head.sequence + 1,
                flaw: Flaw::Surplus,
            }),
            Some(head) if head != self.last => Verdict::Broken(self.here(Flaw::Head)),
            Some(_) | None => Verdict::Intact(self.last),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::super::Entry;
    use super::*;
    use crate::domain::change::Digest;

    /// An intact chain.
    pub fn chain(length: u64) -> Vec<Linked> {
        let mut previous = Digest::default();
        let link = |sequence| {
            let entry = entry(sequence);
            let hash = entry.hash(previous, sequence);
            let linked = Linked {
                entry,
                sequence,
                previous,
                hash,
            };
            previous = hash;
            linked
        };
        (1..=length).map(link).collect()
    }

    fn entry(n: u64) -> Entry {
        Entry {
            id: Uuid::from_u128(n.into()),
            at: jiff::Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
            actor: "user:1".into(),
            actor_name: "ada@example.com".into(),
            credential: String::new(),
            action: "flag.update".into(),
            entity: "flag".into(),
            entity_key: "checkout".into(),
            project: "shop".into(),
            environment: String::new(),
            before: (n > 1).then(|| "{\"a\":\"\\n\"}".into()),
            after: Some(format!("{{\"n\":{n}}}")),
            request_id: String::new(),
            peer: "192.0.2.1".into(),
            reason: "because\n\"it\" had to".into(),
        }
    }

    fn head(chain: &[Linked]) -> Head {
        chain.last().map_or_else(Head::default, |last| Head {
            sequence: last.sequence,
            hash: last.hash,
        })
    }

    fn verify(chain: &[Linked], head: Head, kept: Option<Head>) -> Verdict {
        let mut verifier = Verifier::new(kept);
        for linked in chain {
            if let Err(broken) = verifier.follow(linked) {
                return Verdict::Broken(broken);
            }
        }
        verifier.finish(Some(head))
    }

    /// What is found after `tamper` with a chain of five whose head stays as it was.
    fn check(tamper: impl FnOnce(&mut Vec<Linked>), sequence: u64, flaw: Flaw) {
        let mut chain = chain(5);
        let head = head(&chain);
        tamper(&mut chain);
        assert_eq!(verify(&chain, head, None), Verdict::Broken(Break { sequence, flaw }));
    }

    /// Makes a chain again of what follows a place.
    fn rehash(chain: &mut [Linked], from: usize) {
        for n in from..chain.len() {
            let previous = n
                .checked_sub(1)
                .map_or_else(Digest::default, |before| chain[before].hash);
            chain[n].sequence = n as u64 + 1;
            chain[n].previous = previous;
            chain[n].hash = chain[n].entry.hash(previous, n as u64 + 1);
        }
    }

    #[test]
    fn an_untouched_chain_is_intact() {
        for length in 0..4 {
            let chain = chain(length);
            let head = head(&chain);
            assert_eq!(verify(&chain, head, None), Verdict::Intact(head));
            assert_eq!(verify(&chain, head, Some(head)), Verdict::Intact(head));
        }
    }

    #[test]
    fn the_first_place_that_was_tampered_with_is_found() {
        check(|chain| chain[2].entry.reason.clear(), 3, Flaw::Altered);
        check(|chain| chain[0].entry.before = Some(String::new()), 1, Flaw::Altered);
        check(|chain| drop(chain.remove(0)), 1, Flaw::Missing);
        check(|chain| drop(chain.remove(3)), 4, Flaw::Missing);
        check(|chain| drop(chain.pop()), 5, Flaw::Missing);
        check(Vec::clear, 1, Flaw::Missing);
        check(|chain| chain.swap(1, 3), 2, Flaw::Missing);
        check(|chain| chain.insert(2, chain[1].clone()), 3, Flaw::Surplus);
        check(|chain| chain[1].hash = Digest([1; 32]), 2, Flaw::Altered);
        check(|chain| chain[1].previous = Digest([1; 32]), 2, Flaw::Altered);
    }

    #[test]
    fn a_tampering_that_mends_its_own_hash_is_found_one_further() {
        let alter = |chain: &mut Vec<Linked>| {
            chain[1].entry.actor.clear();
            rehash(&mut chain[..2], 1);
        };
        check(alter, 3, Flaw::Detached);
        let exchange = |chain: &mut Vec<Linked>| {
            chain.swap(1, 2);
            rehash(&mut chain[..3], 1);
        };
        check(exchange, 4, Flaw::Detached);
        let put_in = |chain: &mut Vec<Linked>| {
            chain.insert(1, chain[3].clone());
            rehash(chain, 1);
        };
        check(put_in, 6, Flaw::Surplus);
    }

    #[test]
    fn a_history_that_was_rewritten_with_its_head_is_found_against_a_kept_head() {
        let (whole, mut shorter) = (chain(5), chain(5));
        let kept = Some(head(&whole));
        shorter.truncate(3);
        let found = |sequence, flaw| Verdict::Broken(Break { sequence, flaw });
        assert_eq!(verify(&shorter, head(&shorter), None), Verdict::Intact(head(&shorter)));
        assert_eq!(verify(&shorter, head(&shorter), kept), found(4, Flaw::Missing));

        let mut other = chain(7);
        other[2].entry.actor.clear();
        rehash(&mut other, 2);
        assert_eq!(verify(&other, head(&other), None), Verdict::Intact(head(&other)));
        assert_eq!(verify(&other, head(&other), kept), found(5, Flaw::Rewritten));
    }

    #[test]
    fn a_head_that_was_tampered_with_is_found() {
        let chain = chain(3);
        let other = |sequence| Head {
            sequence,
            hash: Digest([1; 32]),
        };
        let found = |sequence, flaw| Verdict::Broken(Break { sequence, flaw });
        assert_eq!(verify(&chain, other(3), None), found(4, Flaw::Head));
        assert_eq!(verify(&chain, other(2), None), found(3, Flaw::Surplus));
        assert_eq!(verify(&chain, other(4), None), found(4, Flaw::Missing));
    }
}
