//! How far a change has spread: where the streams of each replica stand, and what that says together.
//!
//! A replica says for an environment how many of its streams stand where, and names only those that are furthest behind. So what
//! it says has the same size however many clients there are.
//!
//! What is said together must never claim more than is known: a replica that has not been heard of may be dead, or may be serving what
//! it had, so that its streams are counted apart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::limits;

/// Generation and revision: where a stream stands.
pub type Order = (u64, u64);

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The stream's name.
    pub stream: String,
    /// What its client calls itself.
    pub client: String,
    /// What its client is made with.
    pub library: String,
    /// The last that was sent to it.
    pub sent: Order,
    /// The last that the client has applied. `None`: it has never said.
    pub applied: Option<Order>,
    /// Since when that is so.
    pub since: Timestamp,
}

/// What a client says that it has applied, at a replica that does not have its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The stream's number.
    pub stream: u64,
    /// The id of the key that was shown.
    pub key: String,
    /// What was applied. Generation 0: the only one that the stream has been in.
    pub order: Order,
}

/// Where the streams of one environment at one replica stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The newest that the replica has.
    pub head: Order,
    /// How many streams there are.
    pub streams: u32,
    /// How many of them have never said what they applied.
    pub silent: u32,
    sent: Counts,
    applied: Counts,
    /// Those that stand furthest back, the furthest first, also if they have the head: it may not be the newest anywhere.
    furthest: Vec<Place>,
}

/// What the database knows of an environment and its streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// The newest committed revision, with the generation of the store.
    pub head: Order,
    /// What the replicas say that are known to be alive.
    pub heard: Vec<Report>,
    /// What those last said that have not been heard of since: they are dead, or cut off from the database.
    pub unheard: Vec<Report>,
}

/// How many stand where, the newest last. Those that stand further back than is kept apart count to the oldest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts(Vec<(Order, u32)>);

/// What all replicas say together about a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagation {
    /// Which revision.
    pub revision: u64,
    /// How many replicas that are known to be alive have streams of the environment.
    pub replicas: u32,
    /// How many streams those have.
    pub streams: u32,
    /// How many were sent the revision or a later one.
    pub sent: u32,
    /// How many have applied it or a later one.
    pub applied: u32,
    /// How many have never said what they applied.
    pub silent: u32,
    /// Those that have not, the furthest behind first; not all of them if there are many.
    pub behind: Vec<Place>,
    /// How many replicas had streams and have not been heard of. If there are any, nothing is proved.
    pub unheard_replicas: u32,
    /// How many streams those had.
    pub unheard_streams: u32,
}

impl Report {
    /// What is said of these streams.
    pub fn of(head: Order, places: Vec<Place>) -> Self {
        let count = |places: &mut dyn Iterator<Item = Order>| Counts::of(places);
        let silent = places.iter().filter(|place| place.applied.is_none()).count();
        let (sent, applied) = (
            count(&mut places.iter().map(|place| place.sent)),
            count(&mut places.iter().filter_map(|place| place.applied)),
        );
        Self {
            head,
            streams: number(places.len()),
            silent: number(silent),
            sent,
            applied,
            furthest: furthest(places),
        }
    }
}

impl Propagation {
    /// What the replicas say about a revision of the store's generation; 0 stands for the newest.
    pub fn of(revision: u64, spread: Spread) -> Self {
        let Spread { head, heard, unheard } = spread;
        let revision = if revision == 0 { head.1 } else { revision };
        let order = (head.0, revision);
        let sum = |part: &dyn Fn(&Report) -> u32| heard.iter().map(part).fold(0, u32::saturating_add);
        Self {
            revision,
            replicas: number(heard.len()),
            streams: sum(&|report| report.streams),
            sent: sum(&|report| report.sent.at_least(order)),
            applied: sum(&|report| report.applied.at_least(order)),
            silent: sum(&|report| report.silent),
            unheard_replicas: number(unheard.len()),
            unheard_streams: unheard.iter().map(|report| report.streams).fold(0, u32::saturating_add),
            behind: furthest(
                heard
                    .into_iter()
                    .flat_map(|report| report.furthest)
                    .filter(|place| place.applied.is_none_or(|applied| applied < order))
                    .collect(),
            ),
        }
    }
}

impl Counts {
    fn of(orders: &mut dyn Iterator<Item = Order>) -> Self {
        let mut counts: BTreeMap<Order, u32> = BTreeMap::new();
        for order in orders {
            *counts.entry(order).or_default() += 1;
        }
        let excess = counts.len().saturating_sub(limits::PROPAGATION_POSITIONS);
        let mut kept: Vec<_> = counts.into_iter().collect();
        let lost: u32 = kept.drain(..excess).map(|(_, count)| count).sum();
        if lost > 0 {
            kept.insert(0, (Order::default(), lost));
        }
        Self(kept)
    }

    fn at_least(&self, order: Order) -> u32 {
        let there = self.0.iter().filter(|(stands, _)| *stands >= order);
        there.map(|(_, count)| *count).fold(0, u32::saturating_add)
    }
}

/// Those that stand furthest back, the furthest first: those that have never said anything, then those that have stood there longest.
fn furthest(mut places: Vec<Place>) -> Vec<Place> {
    let by = |place: &Place| (place.applied, place.since);
    if places.len() > limits::PROPAGATION_LISTED {
        places.select_nth_unstable_by_key(limits::PROPAGATION_LISTED, by);
        places.truncate(limits::PROPAGATION_LISTED);
    }
    places.sort_unstable_by_key(by);
    places
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(applied: Option<Order>, since: i64) -> Place {
        Place {
            stream: format!("{since:016x}"),
            client: "client".into(),
            library: String::new(),
            sent: applied.unwrap_or_default(),
            applied,
            since: Timestamp::from_second(since).unwrap(),
        }
    }

    fn orders() -> impl Strategy<Value = Vec<Option<Order>>> {
        prop::collection::vec(prop::option::weighted(0.8, (1..3_u64, 0..400_u64)), 0..500)
    }

    proptest! {
        #[test]
        fn replicas_together_say_what_one_would(orders in orders(), cut: prop::sample::Index, asked in 300..420_u64) {
            let places: Vec<_> = orders.iter().zip(0..).map(|(order, since)| place(*order, since)).collect();
            let at = cut.index(places.len() + 1);
            let head = (2, 400);
            // The second is late: it has not heard of the newest, and says nothing of who lacks that.
            let heard = vec![Report::of(head, places[..at].to_vec()), Report::of((1, 0), places[at..].to_vec())];
            let told = Propagation::of(asked, Spread { head, heard, unheard: Vec::new() });
            let has = |place: &&Place| place.applied.is_some_and(|applied| applied >= (2, asked));
            let expected = places.iter().filter(has).count();
            prop_assert_eq!(told.applied as usize, expected);
            prop_assert_eq!(told.streams as usize, places.len());
            prop_assert_eq!(told.silent as usize, orders.iter().filter(|order| order.is_none()).count());
            let behind = places.len() - expected;
            prop_assert_eq!(told.behind.len(), behind.min(limits::PROPAGATION_LISTED));
            prop_assert!(told.behind.is_sorted_by_key(|place| (place.applied, place.since)));
            prop_assert!(told.behind.iter().all(|place| !has(&place)));
        }

        #[test]
        fn what_is_said_is_bounded_and_survives_being_written(orders in orders()) {
            let places: Vec<_> = orders.iter().zip(0..).map(|(order, since)| place(*order, since)).collect();
            let report = Report::of((2, 400), places);
            prop_assert!(report.applied.0.len() <= limits::PROPAGATION_POSITIONS + 1);
            prop_assert!(report.furthest.len() <= limits::PROPAGATION_LISTED);
            let written = serde_json::to_string(&report).unwrap();
            prop_assert_eq!(serde_json::from_str::<Report>(&written).unwrap(), report);
        }
    }

    fn heard(head: Order, reports: Vec<Report>) -> Spread {
        Spread {
            head,
            heard: reports,
            unheard: Vec::new(),
        }
    }

    #[test]
    fn a_stream_of_an_older_generation_is_behind_whatever_its_revision() {
        let places = vec![place(Some((1, 900)), 0), place(Some((2, 5)), 1)];
        let told = Propagation::of(5, heard((2, 5), vec![Report::of((2, 5), places)]));
        assert_eq!((told.streams, told.applied, told.behind.len()), (2, 1, 1));
    }

    #[test]
    fn the_generation_is_the_stores_and_not_that_of_replicas_which_have_not_heard_of_it() {
        let told = Propagation::of(
            851,
            heard((2, 852), vec![Report::of((1, 900), vec![place(Some((1, 900)), 0)])]),
        );
        assert_eq!((told.streams, told.applied, told.behind.len()), (1, 0, 1));
    }

    #[test]
    fn a_replica_that_was_not_heard_of_is_counted_apart() {
        let told = Propagation::of(
            0,
            Spread {
                head: (1, 6),
                heard: vec![Report::of((1, 6), vec![place(Some((1, 6)), 0)])],
                unheard: vec![Report::of((1, 5), vec![place(Some((1, 5)), 0), place(None, 1)])],
            },
        );
        assert_eq!((told.revision, told.streams, told.applied), (6, 1, 1));
        assert_eq!((told.unheard_replicas, told.unheard_streams), (1, 2));
    }

    #[test]
    fn without_streams_there_is_nothing_to_say() {
        let told = Propagation::of(7, heard((1, 3), Vec::new()));
        assert_eq!((told.revision, told.replicas, told.streams, told.applied), (7, 0, 0, 0));
    }
}
