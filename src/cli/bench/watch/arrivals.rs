//! When revisions arrived on the streams, beside when they were written. Pure: moments are given.
//!
//! A stream may have a revision before its writer hears of it, and a step may carry several revisions: every one that it covers arrived
//! with it. Revisions that others wrote arrive as well; they are forgotten when newer ones take their room.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::recorder::Latencies;

/// Revisions that are remembered at a time, and arrivals: with many streams fewer revisions.
const REMEMBERED: usize = 4_096;
const ARRIVALS: usize = 4_000_000;

/// Revisions on their way.
#[derive(Debug)]
pub(in crate::cli::bench) struct Arrivals {
    /// How many streams each is to arrive on.
    streams: usize,
    pending: BTreeMap<u64, Pending>,
    propagation: Propagation,
}

#[derive(Debug, Default)]
struct Pending {
    /// When it was sent and acknowledged, if it is ours and counts.
    written: Option<(Instant, Instant)>,
    arrivals: Vec<Instant>,
}

/// How long changes took to arrive. Only those that arrived on every stream.
#[derive(Debug, Clone, Default)]
pub(in crate::cli::bench) struct Propagation {
    /// How many arrived on every stream.
    pub delivered: u64,
    /// How many did not.
    pub undelivered: u64,
    pub sent_to_first: Latencies,
    pub sent_to_last: Latencies,
    /// Zero where it arrived before it was acknowledged; so below.
    pub acknowledged_to_first: Latencies,
    pub acknowledged_to_last: Latencies,
    /// One for each change and stream.
    pub acknowledged_to_each: Latencies,
    pub first_to_last: Latencies,
}

impl Arrivals {
    /// For so many streams.
    pub fn on(streams: usize) -> Self {
        Self {
            streams,
            pending: BTreeMap::new(),
            propagation: Propagation::default(),
        }
    }

    /// Fewer streams than were meant are there to have anything.
    pub fn expect(&mut self, streams: usize) {
        self.streams = streams;
    }

    /// A change of ours was acknowledged.
    pub fn acknowledged(&mut self, revision: u64, sent: Instant, acknowledged: Instant) {
        self.pending.entry(revision).or_default().written = Some((sent, acknowledged));
        self.look_at(revision);
        self.make_room();
    }

    /// A stream that held one revision now holds another, and so everything in between.
    pub fn arrived(&mut self, from: u64, to: u64, at: Instant) {
        let oldest = to.saturating_sub(self.remembered() as u64);
        for revision in from.max(oldest) + 1..=to {
            self.pending.entry(revision).or_default().arrivals.push(at);
            self.look_at(revision);
        }
        self.make_room();
    }

    /// How many changes of ours have not arrived everywhere.
    pub fn on_their_way(&self) -> usize {
        self.pending
            .values()
            .filter(|pending| pending.written.is_some())
            .count()
    }

    /// What has arrived by now; what has not is undelivered.
    pub fn propagation(&self) -> Propagation {
        let mut propagation = self.propagation.clone();
        propagation.undelivered += self.on_their_way() as u64;
        propagation
    }

    /// Counts a revision if it is ours and everywhere, and forgets it then.
    fn look_at(&mut self, revision: u64) {
        let Some(Pending {
            written: Some((sent, acknowledged)),
            arrivals,
        }) = self.pending.get(&revision)
        else {
            return;
        };
        // First: this is looked at with every arrival.
        if arrivals.len() < self.streams {
            return;
        }
        let (Some(first), Some(last)) = (arrivals.iter().min(), arrivals.iter().max()) else {
            return;
        };
        let counted = &mut self.propagation;
        counted.delivered += 1;
        counted.sent_to_first.record(first.saturating_duration_since(*sent));
        counted.sent_to_last.record(last.saturating_duration_since(*sent));
        let since = |moment: &Instant| moment.saturating_duration_since(*acknowledged);
        counted.acknowledged_to_first.record(since(first));
        counted.acknowledged_to_last.record(since(last));
        for arrival in arrivals {
            counted.acknowledged_to_each.record(since(arrival));
        }
        counted.first_to_last.record(last.saturating_duration_since(*first));
        self.pending.remove(&revision);
    }

    fn remembered(&self) -> usize {
        (ARRIVALS / self.streams.max(1)).clamp(64, REMEMBERED)
    }

    fn make_room(&mut self) {
        while self.pending.len() > self.remembered() {
            let forgotten = self.pending.pop_first();
            let is_ours = forgotten.is_some_and(|(_, pending)| pending.written.is_some());
            self.propagation.undelivered += u64::from(is_ours);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= expected / 1e3, "{value} is not {expected}");
    }

    #[test]
    fn a_change_is_delivered_when_every_stream_has_it() {
        let (mut arrivals, start) = (Arrivals::on(2), Instant::now());
        arrivals.acknowledged(7, start, after(start, 10));
        arrivals.arrived(6, 7, after(start, 15));
        assert_eq!((arrivals.on_their_way(), arrivals.propagation().undelivered), (1, 1));
        arrivals.arrived(6, 7, after(start, 40));
        let seen = arrivals.propagation();
        assert_eq!((seen.delivered, seen.undelivered, arrivals.on_their_way()), (1, 0, 0));
        close(seen.sent_to_first.max(), 15.0);
        close(seen.sent_to_last.max(), 40.0);
        close(seen.acknowledged_to_first.max(), 5.0);
        close(seen.acknowledged_to_last.max(), 30.0);
        close(seen.first_to_last.max(), 25.0);
        assert_eq!(seen.acknowledged_to_each.count(), 2);
    }

    #[test]
    fn what_arrives_before_it_is_acknowledged_counts_as_at_once() {
        let (mut arrivals, start) = (Arrivals::on(2), Instant::now());
        arrivals.arrived(6, 7, after(start, 5));
        arrivals.arrived(6, 7, after(start, 6));
        arrivals.acknowledged(7, start, after(start, 8));
        let seen = arrivals.propagation();
        assert_eq!((seen.delivered, seen.undelivered), (1, 0));
        close(seen.sent_to_last.max(), 6.0);
        close(seen.acknowledged_to_last.max(), 0.0);
    }

    #[test]
    fn a_merged_step_brings_every_revision_in_it() {
        let (mut arrivals, start) = (Arrivals::on(1), Instant::now());
        for revision in 7..=9 {
            arrivals.acknowledged(revision, start, start);
        }
        arrivals.arrived(6, 9, after(start, 5));
        assert_eq!(arrivals.propagation().delivered, 3);
    }

    #[test]
    fn the_revisions_of_others_are_forgotten_in_time_and_ours_are_missed() {
        let (mut arrivals, start) = (Arrivals::on(2), Instant::now());
        arrivals.acknowledged(7, start, start);
        arrivals.arrived(6, 1_000_000, start);
        assert_eq!(arrivals.pending.len(), REMEMBERED);
        let seen = arrivals.propagation();
        assert_eq!((seen.delivered, seen.undelivered), (0, 1));
    }

    #[test]
    fn of_many_streams_fewer_revisions_are_remembered() {
        let (mut arrivals, start) = (Arrivals::on(50_000), Instant::now());
        arrivals.arrived(6, 1_000_000, start);
        assert_eq!(arrivals.pending.len(), 80);
    }

    #[test]
    fn fewer_streams_may_be_expected() {
        let (mut arrivals, start) = (Arrivals::on(3), Instant::now());
        arrivals.expect(1);
        arrivals.acknowledged(7, start, start);
        arrivals.arrived(6, 7, start);
        assert_eq!(arrivals.propagation().delivered, 1);
    }
}
