//! What a world saw and did while something was broken: plain data, which the checker holds against the history.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use halyard::domain::change::Digest;
use tonic::Code;

/// An item's kind, by name, and its key.
pub type Name = (String, String);

/// Everything.
#[derive(Debug, Default)]
pub struct Evidence {
    /// What the database held: the last era is what it holds in the end.
    pub eras: Vec<Era>,
    pub recordings: Vec<Recording>,
    pub writes: Vec<Write>,
    pub answers: Vec<Answer>,
    /// When PostgreSQL could certainly not be asked.
    pub outages: Vec<Span>,
    /// When whoever notes what comes, and perhaps the whole machine, stood still.
    pub stalls: Vec<Span>,
    /// When a replica was cut off from PostgreSQL, or from its notifications.
    pub cuts: Vec<Cut>,
    /// When a replica could not answer, by its number.
    pub absences: Vec<(usize, Span)>,
    /// How old replicas said that they are.
    pub ages: Vec<Aged>,
    /// When clients were still behind the head, long after everything was healed; in words.
    pub unfinished: Vec<String>,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Instant,
    /// `None`: it went on to the end.
    pub to: Option<Instant>,
}

impl Span {
    pub fn overlaps(&self, from: Instant, to: Instant) -> bool {
        self.from <= to && self.to.is_none_or(|end| from <= end)
    }
}

/// A stretch of time in which a replica could not hear of changes as it usually does.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub replica: usize,
    pub span: Span,
    pub loses: Loses,
    pub notices: Notices,
}

/// What is lost by a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loses {
    /// The primary cannot be asked, and notifies of nothing.
    Everything,
    /// Polls are answered.
    Notifications,
}

/// How the replica learns of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// By the end of its connections.
    AtOnce,
    /// Connections stay open, and silent: by its next probe.
    ByProbe,
}

/// A history as it was at some time, while nothing wrote. A restore or a failover begins another.
#[derive(Debug, Clone)]
pub struct Era {
    pub generations: RangeInclusive<u64>,
    /// `None`: at the end.
    pub saved: Option<Instant>,
    /// By the environment's key.
    pub logs: BTreeMap<String, Log>,
}

/// The change log of one environment.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// What the head row says.
    pub head: (u64, Digest),
    pub revisions: Vec<Revision>,
}

#[derive(Debug, Clone)]
pub struct Revision {
    pub number: u64,
    pub previous: Digest,
    pub digest: Digest,
    /// Who made it, as the log has it.
    pub actor: String,
    pub items: Vec<LoggedItem>,
}

#[derive(Debug, Clone)]
pub struct LoggedItem {
    pub name: Name,
    pub version: u64,
    /// `None`: deleted.
    pub form: Option<Vec<u8>>,
}

/// What one client saw, over all of its connections.
#[derive(Debug, Clone)]
pub struct Recording {
    pub client: String,
    pub environment: String,
    /// What its messages may be late by beside what everybody's may: the road that it takes is held up, or whom it hears from.
    pub late: Duration,
    pub seen: Vec<Seen>,
}

impl Recording {
    /// Where its stream is open. `None`: it has none at the moment.
    pub fn replica(&self) -> Option<usize> {
        let told = self.seen.iter().rev().find_map(|seen| match seen.what {
            What::Opened { replica } => Some(Some(replica)),
            What::Ended(_) => Some(None),
            What::Begin { .. }
            | What::Put { .. }
            | What::Delete { .. }
            | What::Commit { .. }
            | What::Heartbeat { .. }
            | What::Goodbye => None,
        });
        told.flatten()
    }
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    /// Which of the client's connections, from 1.
    pub connection: u32,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A stream was accepted by this replica.
    Opened {
        replica: usize,
    },
    Begin {
        intent: halyard::pb::evaluation::v1::Intent,
        reason: halyard::pb::evaluation::v1::SnapshotReason,
        generation: u64,
        from: u64,
        to: u64,
        count: u32,
    },
    Put {
        name: Name,
        form_hash: Digest,
    },
    Delete {
        name: Name,
    },
    Commit {
        generation: u64,
        revision: u64,
        /// What the server says that the client holds.
        server: Digest,
        /// What the client holds.
        own: Digest,
    },
    Heartbeat {
        generation: u64,
        revision: u64,
        source: halyard::pb::evaluation::v1::SourceState,
        staleness: Duration,
    },
    Goodbye,
    /// The stream ended, in these words.
    Ended(String),
}

/// What a replica told whoever watches over it: how long ago it was certain that it held the newest of everything.
#[derive(Debug, Clone, Copy)]
pub struct Aged {
    pub replica: usize,
    /// When it was asked. It answered later.
    pub asked: Instant,
    pub staleness: Duration,
}

/// One write, and what became of it.
#[derive(Debug, Clone)]
pub struct Write {
    pub environment: String,
    pub content: Content,
    pub began: Instant,
    pub ended: Instant,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A configuration of one flag, recognisable by the name of its rule, which is used once.
    Marked { flag: String, marker: String },
    /// All flags of the group were turned on or off in one transaction.
    Group { flags: Vec<String>, enabled: bool },
    /// The row of an item was edited by hand, past the service, and is recognisable by a word in it that is used once.
    Edited { item: Name, marker: String },
    /// The row of an item was deleted by hand.
    Removed { item: Name },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, as this revision; `None`: it was so already.
    Acknowledged(Option<u64>),
    /// Certainly not done.
    Refused(Code),
    /// Perhaps done.
    Unknown(Code),
}

/// What one call of EvaluateAll was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub environment: String,
    pub replica: usize,
    pub asked: Instant,
    pub answered: Instant,
    pub result: Result<Answers, String>,
}

#[derive(Debug, Clone)]
pub struct Answers {
    pub revision: u64,
    /// Flag, the rule that served (empty: none), and the variant.
    pub flags: Vec<(String, String, String)>,
}
