//! What the streams and the states that they follow are counted by. Plain numbers; whoever shows metrics reads them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::latency::{Latency, Sharded};
use super::message::{GoodbyeReason, Intent, Reason};
use super::request::{End, Refused};

/// Since the start of the process. All but what is open only rise.
#[derive(Debug, Default)]
pub struct Counts {
    /// Streams that are open.
    pub open: Kinds<AtomicUsize>,
    /// Streams that were opened.
    pub opened: Kinds<AtomicU64>,
    /// Streams that were not.
    pub refused: RefusedStreams,
    /// Streams that ended.
    pub ended: EndedStreams,
    /// Steps and batches that were begun.
    pub begun: Sharded<Begun>,
    /// From a revision's commit until it is what this replica answers from.
    pub applied: Latency,
    /// From a revision's commit until the end of what leads there was handed to a stream's transport. Without the first of each
    /// stream, which says when a client came and not how long anything took.
    pub sent: Latency,
}

/// One for each kind of stream.
#[derive(Debug, Default)]
pub struct Kinds<T> {
    /// Of those that tell items.
    pub items: T,
    /// Of those that tell answers.
    pub answers: T,
}

/// Streams that were refused, by why.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "as the variants of `Refused`")]
pub struct RefusedStreams {
    pub unknown_environment: AtomicU64,
    pub draining: AtomicU64,
    pub too_many: AtomicU64,
    pub too_many_of_key: AtomicU64,
    /// The questions of streams of answers take as much memory as they may.
    pub too_large: AtomicU64,
}

/// Streams that ended, by why.
#[derive(Debug, Default)]
pub struct EndedStreams {
    /// They said Goodbye because the server stops.
    pub draining: AtomicU64,
    /// They said Goodbye because they had lived long enough.
    pub rotated: AtomicU64,
    /// The client closed them, or its connection broke.
    pub left: AtomicU64,
    /// The client did not read.
    pub stalled: AtomicU64,
    /// The credential was revoked.
    pub revoked: AtomicU64,
    /// The credential has expired.
    pub expired: AtomicU64,
    /// The environment was deleted.
    pub environment_gone: AtomicU64,
    /// The client was ahead, or its environment was replaced, and has to come again.
    pub unreachable: AtomicU64,
}

/// Steps and batches that were begun.
#[derive(Debug, Default)]
pub struct Begun {
    /// Those that change some of what the client holds.
    pub delta: AtomicU64,
    /// Those that confirm what it holds.
    pub none: AtomicU64,
    /// Those that replace it, by why.
    pub snapshot: Snapshots,
}

/// Snapshots, by why.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "as the variants of `Reason`")]
pub struct Snapshots {
    pub no_state: AtomicU64,
    pub compacted: AtomicU64,
    pub diverged: AtomicU64,
    pub different_store: AtomicU64,
    pub format_changed: AtomicU64,
    pub cheaper_as_snapshot: AtomicU64,
    pub other_question: AtomicU64,
    pub may_have_changed: AtomicU64,
}

/// What a stream tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Items,
    Answers,
}

impl Counts {
    pub(super) fn open(&self, kind: Kind) {
        add(self.opened.of(kind));
        self.open.of(kind).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, why: Refused) {
        let refused = &self.refused;
        add(match why {
            Refused::UnknownEnvironment => &refused.unknown_environment,
            Refused::Draining => &refused.draining,
            Refused::TooMany => &refused.too_many,
            Refused::TooManyOfKey => &refused.too_many_of_key,
            Refused::TooLarge => &refused.too_large,
        });
    }

    /// A stream has ended. `goodbye`: it had said so.
    pub(super) fn end(&self, kind: Kind, end: End, goodbye: Option<GoodbyeReason>) {
        let ended = &self.ended;
        add(match (goodbye, end) {
            (Some(GoodbyeReason::Draining), _) => &ended.draining,
            (Some(GoodbyeReason::Rotated), _) => &ended.rotated,
            (None, End::Finished) => &ended.left,
            (None, End::Stalled) => &ended.stalled,
            (None, End::Revoked) => &ended.revoked,
            (None, End::Expired) => &ended.expired,
            (None, End::EnvironmentGone) => &ended.environment_gone,
            (None, End::Unreachable) => &ended.unreachable,
        });
        self.open.of(kind).fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, intent: Intent) {
        let begun = self.begun.here();
        let snapshot = &begun.snapshot;
        add(match intent {
            Intent::Delta => &begun.delta,
            Intent::None => &begun.none,
            Intent::Snapshot(Reason::NoState) => &snapshot.no_state,
            Intent::Snapshot(Reason::Compacted) => &snapshot.compacted,
            Intent::Snapshot(Reason::Diverged) => &snapshot.diverged,
            Intent::Snapshot(Reason::DifferentStore) => &snapshot.different_store,
            Intent::Snapshot(Reason::FormatChanged) => &snapshot.format_changed,
            Intent::Snapshot(Reason::CheaperAsSnapshot) => &snapshot.cheaper_as_snapshot,
            Intent::Snapshot(Reason::OtherQuestion) => &snapshot.other_question,
            Intent::Snapshot(Reason::MayHaveChanged) => &snapshot.may_have_changed,
        });
    }
}

impl<T> Kinds<T> {
    fn of(&self, kind: Kind) -> &T {
        match kind {
            Kind::Items => &self.items,
            Kind::Answers => &self.answers,
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
