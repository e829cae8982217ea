//! What bounds requests: how many one credential makes a second, how many are in flight, and how long one may take.
//!
//! What is refused for this is refused before anything is done for it. The bounds are of one process; `docs/decisions/overload.md` says
//! why they are cut as they are.

mod rate;
mod share;
mod waiting;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admit::Who;
use super::caller::{Own, Peer};
use super::deadline::Deadline;
use crate::domain::limits;
use crate::rpc::Refusal;
use crate::rpc::methods::{Load, Method};
use crate::watch::Hub;
use rate::Rates;
pub use share::Share;
pub(super) use share::Slot;
pub use waiting::Waiting;

/// How requests are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second of one credential, and as many at once. `None`: as many as it likes.
    pub key_rate: Option<NonZeroU32>,
    /// Calls in flight, all kinds of them together. Streams are not among them.
    pub requests: usize,
    /// The longest that a call may take, whatever deadline its caller has.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_rate: None,
            requests: limits::REQUESTS,
            deadline: Duration::from_mins(1),
        }
    }
}

/// How long a call may take that needs no credential: whoever shows nothing could keep what they have begun to send for ever.
const LONGEST_OPEN: Duration = Duration::from_secs(30);
/// How long a call may take at least that deletes what has years of history, or reads all of it: longer than the store lets one of its
/// statements take.
const LONGEST_LONG: Duration = Duration::from_mins(6);
/// Streams without a credential that each connection may have for itself: one by which a client learns whether to use it, and another.
const OWN_STREAMS: usize = 2;

/// What bounds requests, and counts those that it refuses.
#[derive(Debug)]
pub struct Bounds {
    rates: Option<Rates>,
    longest: Duration,
    /// Questions of applications.
    pub evaluations: Arc<Share>,
    /// Events of experiments.
    pub events: Arc<Share>,
    /// Administration.
    pub administration: Arc<Share>,
    /// Logins and the like, which anybody may call.
    pub logins: Arc<Share>,
    /// Whatever waits until its credential is known: somebody has to be asked.
    pub strangers: Arc<Share>,
    /// Streams without a credential, but for those that are their connections' own.
    pub open_streams: Arc<Share>,
    /// Calls whose message has not come whole: administration by whoever was let in.
    pub arriving: Waiting,
    /// The same of what anybody may call.
    pub arriving_open: Waiting,
}

/// The place of a stream without a credential, until it is dropped.
#[derive(Debug)]
pub(super) enum OpenStream {
    /// One that its connection has for itself.
    Own(#[expect(dead_code, reason = "its drop is what it is for")] Own),
    /// One of the share.
    Shared(#[expect(dead_code, reason = "its drop is what it is for")] Slot<Arc<Share>>),
}

impl Bounds {
    /// Divides what there is: no kind of calls can take the place of another.
    pub fn new(limits: Limits) -> Self {
        let Limits {
            key_rate,
            requests,
            deadline,
        } = limits;
        let tenth = (requests / 10).max(1);
        let share = |most| Arc::new(Share::of(most));
        Self {
            rates: key_rate.map(Rates::new),
            longest: deadline,
            evaluations: share(requests.saturating_sub(4 * tenth).max(1)),
            events: share(tenth),
            administration: share(tenth),
            logins: share(tenth),
            strangers: share(tenth),
            open_streams: share(tenth),
            arriving: Waiting::of(tenth),
            arriving_open: Waiting::of(tenth),
        }
    }

    /// By when a call that has come now must be answered. A stream may go on for as long as its caller wants.
    pub(super) fn cut(&self, deadline: Deadline, now: Instant, method: &Method) -> Deadline {
        if method.streams {
            return deadline;
        }
        let longest = if method.is_open() {
            self.longest.min(LONGEST_OPEN)
        } else if method.is_long() {
            self.longest.max(LONGEST_LONG)
        } else {
            self.longest
        };
        deadline.at_most(now + longest)
    }

    /// Counts a request of whoever was let in, or refuses it. Who showed nothing is nobody whose requests could be counted.
    pub(super) fn count(&self, who: &Who, hub: &Hub) -> Result<(), Refusal> {
        match &self.rates {
            Some(rates) => rates.count(who, &hub.directory()),
            None => Ok(()),
        }
    }

    /// How many requests were refused since their credential made too many.
    pub fn too_fast(&self) -> u64 {
        self.rates.as_ref().map_or(0, Rates::refused)
    }

    /// A place for a stream of somebody who shows no credential.
    pub(super) fn open_stream(&self, peer: &Peer) -> Result<OpenStream, Refusal> {
        match peer.own_stream(OWN_STREAMS) {
            Some(own) => Ok(OpenStream::Own(own)),
            None => Share::enter(self.open_streams.clone()).map(OpenStream::Shared),
        }
    }

    /// Where a call waits for its message.
    pub(super) fn arriving(&self, method: &Method) -> &Waiting {
        if method.is_open() {
            &self.arriving_open
        } else {
            &self.arriving
        }
    }

    /// The share that a call is part of. `None`: it is part of none.
    pub(super) fn share(&self, load: Load) -> Option<&Arc<Share>> {
        match load {
            Load::Evaluation => Some(&self.evaluations),
            Load::Events => Some(&self.events),
            Load::Administration => Some(&self.administration),
            Load::Login => Some(&self.logins),
            Load::Unbounded => None,
        }
    }
}

/// What somebody is told who finds a share taken.
pub(super) fn overloaded() -> Refusal {
    Refusal::Overloaded {
        what: "too many requests of this kind are in flight here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(requests: usize) -> [usize; 8] {
        let bounds = Bounds::new(Limits {
            requests,
            ..Limits::default()
        });
        let Bounds {
            rates: _,
            longest: _,
            evaluations,
            events,
            administration,
            logins,
            strangers,
            open_streams,
            arriving,
            arriving_open,
        } = &bounds;
        let shares = [evaluations, events, administration, logins, strangers, open_streams];
        let mut parts = [0; 8];
        let waiting = [arriving.most(), arriving_open.most()];
        let most = shares.map(|share| share.most()).into_iter().chain(waiting);
        parts.iter_mut().zip(most).for_each(|(part, most)| *part = most);
        parts
    }

    #[test]
    fn a_connection_has_streams_of_its_own_whatever_others_have() {
        let bounds = Bounds::new(Limits {
            requests: 10,
            ..Limits::default()
        });
        let crowd = Peer::default();
        let mut open: Vec<_> = (0..=OWN_STREAMS).map(|_| bounds.open_stream(&crowd).unwrap()).collect();
        assert_eq!(bounds.open_streams.taken(), 1);
        assert!(matches!(bounds.open_stream(&crowd), Err(Refusal::Overloaded { .. })));
        let other = Peer::default();
        let others: Vec<_> = (0..OWN_STREAMS).map(|_| bounds.open_stream(&other).unwrap()).collect();
        assert!(matches!(bounds.open_stream(&other), Err(Refusal::Overloaded { .. })));
        assert_eq!(bounds.open_streams.refused(), 2);
        drop(others);
        // An own place that was given back is taken again before one of the share.
        drop(open.remove(0));
        open.push(bounds.open_stream(&crowd).unwrap());
        assert_eq!(bounds.open_streams.taken(), 1);
        drop(open);
        assert_eq!(bounds.open_streams.taken(), 0);
    }

    #[test]
    fn what_there_is_is_divided_and_everybody_has_some() {
        assert_eq!(parts(10_000), [6_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]);
        assert_eq!(parts(19), [15, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(parts(1), [1; 8]);
    }
}
