//! The hub's numbers: how well it is informed, its streams, and how long changes take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::families::{Families, Family, count, read};
use crate::watch::{Begun, Counts, EndedStreams, Gate, Hub, Kinds, Quality, RefusedStreams, Snapshots, Status};

const STALENESS: Family<'_> = Family {
    name: "source_staleness",
    help: "Time since it was last certain that this replica held the newest of everything, on a monotonic clock; +Inf if it never \
           was",
    unit: Some(&Unit::Seconds),
};
const APPLIED: Family<'_> = Family {
    name: "commit_applied_latency",
    help: "Time from a revision's commit until this replica answers from it. The commit is told by the database's clock and the \
           end by this machine's: if the database's is ahead by d, every observation is d too short, and 0 at least; if it is \
           behind, d too long",
    unit: Some(&Unit::Seconds),
};
const SENT: Family<'_> = Family {
    name: "commit_sent_latency",
    help: "Time from a revision's commit until the end of what leads there was handed to a stream's transport, for every stream \
           and step but each stream's first; by the same two clocks as halyard_commit_applied_latency_seconds",
    unit: Some(&Unit::Seconds),
};

/// A hub that is asked for its numbers.
pub(super) struct Numbers(pub Arc<Hub>);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hub's numbers")
    }
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (hub, mut families) = (&self.0, Families(encoder));
        families.info(
            count("build", "The program that is running"),
            "version",
            env!("CARGO_PKG_VERSION"),
        )?;
        let ready = count(
            "ready",
            "1 if every environment was seen at least once and no shutdown has begun, whatever becomes of the database; else 0",
        );
        families.gauge(ready, flag(hub.is_ready()))?;
        families.gauge(
            count("draining", "1 from the moment that a shutdown begins, else 0"),
            flag(hub.is_draining()),
        )?;
        let held = u32::try_from(hub.environments()).unwrap_or(u32::MAX);
        families.gauge(
            count("environments_held", "Environments that are held in memory"),
            held.into(),
        )?;
        source(&mut families, hub.status())?;
        streams(&mut families, hub.counts())?;
        snapshots(&mut families, hub.gate())
    }
}

fn source(families: &mut Families<'_>, status: Status) -> fmt::Result {
    let Status { quality, staleness } = status;
    let qualities = [
        ("live", Quality::Live),
        ("polling", Quality::Polling),
        ("disconnected", Quality::Disconnected),
    ];
    families.gauges(
        count(
            "source_state",
            "1 for how this replica learns of changes now, 0 for the other ways",
        ),
        "state",
        &qualities.map(|(name, state)| (name, u64::from(state == quality))),
    )?;
    families.gauge(
        STALENESS,
        staleness.map_or(f64::INFINITY, |staleness| staleness.as_secs_f64()),
    )
}

fn streams(families: &mut Families<'_>, counts: &Counts) -> fmt::Result {
    let Counts {
        open,
        opened,
        refused,
        ended,
        begun,
        applied,
        sent,
    } = counts;
    let Kinds { items, answers } = open;
    let count_of = |open: &std::sync::atomic::AtomicUsize| open.load(Ordering::Relaxed) as u64;
    families.gauges(
        count("streams_open", "Streams that are open"),
        "kind",
        &[("items", count_of(items)), ("answers", count_of(answers))],
    )?;
    let Kinds { items, answers } = opened;
    families.counters(
        count("streams_opened", "Streams that were opened"),
        "kind",
        &[("items", read(items)), ("answers", read(answers))],
    )?;
    let RefusedStreams {
        unknown_environment,
        draining,
        too_many,
        too_many_of_key,
        too_large,
    } = refused;
    families.counters(
        count(
            "streams_refused",
            "Streams that were refused after their credential was accepted",
        ),
        "reason",
        &[
            ("unknown_environment", read(unknown_environment)),
            ("draining", read(draining)),
            ("too_many", read(too_many)),
            ("too_many_of_key", read(too_many_of_key)),
            ("too_large", read(too_large)),
        ],
    )?;
    ends(families, ended)?;
    families.counters(
        count(
            "stream_steps_begun",
            "Steps and batches that streams began, by what they do with what the client holds",
        ),
        "intent",
        &[
            ("snapshot", begun.sum(|Begun { snapshot, .. }| all(snapshot))),
            ("delta", begun.sum(|Begun { delta, .. }| read(delta))),
            ("none", begun.sum(|Begun { none, .. }| read(none))),
        ],
    )?;
    let of = |reason: fn(&Snapshots) -> u64| begun.sum(|Begun { snapshot, .. }| reason(snapshot));
    families.counters(
        count(
            "stream_snapshots_begun",
            "Snapshots among them, by why there had to be one",
        ),
        "reason",
        &[
            ("no_state", of(|it| read(&it.no_state))),
            ("compacted", of(|it| read(&it.compacted))),
            ("diverged", of(|it| read(&it.diverged))),
            ("different_store", of(|it| read(&it.different_store))),
            ("format_changed", of(|it| read(&it.format_changed))),
            ("cheaper_as_snapshot", of(|it| read(&it.cheaper_as_snapshot))),
            ("other_question", of(|it| read(&it.other_question))),
            ("may_have_changed", of(|it| read(&it.may_have_changed))),
        ],
    )?;
    families.histogram(APPLIED, &applied.read())?;
    families.histogram(SENT, &sent.read())
}

fn snapshots(families: &mut Families<'_>, gate: &Gate) -> fmt::Result {
    let bytes = |name, help| Family {
        name,
        help,
        unit: Some(&Unit::Bytes),
    };
    // Up to 4 GiB, which is exact.
    let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX).into();
    families.gauge(
        bytes("snapshot_in_flight", "Snapshots that are being sent, all together"),
        number(gate.bytes_in_flight()),
    )?;
    families.gauge(
        bytes(
            "snapshot_limit",
            "What they may be together, as --max-snapshot-bytes says",
        ),
        number(gate.bytes()),
    )?;
    families.gauge(
        count(
            "snapshots_waiting",
            "Streams that wait for their turn to be sent a snapshot",
        ),
        number(gate.waiting()),
    )?;
    families.counter(
        count(
            "snapshot_turns_lost",
            "Times that a stream had to let others come before it because its client did not read",
        ),
        gate.taken_back(),
    )
}

fn ends(families: &mut Families<'_>, ended: &EndedStreams) -> fmt::Result {
    let EndedStreams {
        draining,
        rotated,
        left,
        stalled,
        revoked,
        expired,
        environment_gone,
        unreachable,
    } = ended;
    families.counters(
        count("streams_ended", "Streams that ended, by why"),
        "reason",
        &[
            ("draining", read(draining)),
            ("rotated", read(rotated)),
            ("left", read(left)),
            ("stalled", read(stalled)),
            ("revoked", read(revoked)),
            ("expired", read(expired)),
            ("environment_gone", read(environment_gone)),
            ("unreachable", read(unreachable)),
        ],
    )
}

/// Snapshots for whatever reason.
fn all(snapshots: &Snapshots) -> u64 {
    let Snapshots {
        no_state,
        compacted,
        diverged,
        different_store,
        format_changed,
        cheaper_as_snapshot,
        other_question,
        may_have_changed,
    } = snapshots;
    [
        no_state,
        compacted,
        diverged,
        different_store,
        format_changed,
        cheaper_as_snapshot,
        other_question,
        may_have_changed,
    ]
    .into_iter()
    .map(read)
    .sum()
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}
