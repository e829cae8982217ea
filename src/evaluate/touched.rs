//! Which answers a change can have altered: those of the flags that ask, directly or not, about what changed.
//!
//! What a flag or segment asks about stands in its own items. If those did not change it asks the same as before, so the later
//! snapshot alone says who asks about what: on any way from a flag to what changed, all before the first changed item is the same in
//! both.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::flag::{Flag, State, Targeting};
use super::matcher::{Condition, Question};
use super::segment::Segment;
use super::snapshot::Snapshot;
use crate::domain::form::{ItemId, Kind};
use crate::domain::{experiment, segment};

type Keys<'a> = HashSet<&'a str, RandomState>;

impl Snapshot {
    /// The keys of the flags whose answers, here and in an earlier snapshot, may differ for somebody if no other items changed in
    /// between than these; sorted. Flags that are gone are among them. Takes a look at every flag.
    pub fn touched_by<'a>(&'a self, changed: impl Iterator<Item = &'a ItemId>) -> Vec<Arc<str>> {
        let (mut flags, mut segments) = (Keys::default(), Keys::default());
        for id in changed {
            match id.kind {
                Kind::Experiment => flags.extend(experiment::parse_item(&id.key).map(|(flag, _)| flag)),
                Kind::FlagDefinition | Kind::FlagConfiguration => drop(flags.insert(&id.key)),
                Kind::SegmentConfiguration => drop(segments.insert(&id.key)),
                Kind::SegmentKeys => segments.extend(segment::parse_chunk_item(&id.key).map(|(key, _)| key)),
            }
        }
        if !segments.is_empty() {
            let parts = self.segments();
            spread(
                &mut segments,
                parts.flat_map(|(key, segment)| segment.asks_about().map(move |part| (key, part))),
            );
            let asking = self
                .flags()
                .filter(|flag| flag.segments().any(|segment| segments.contains(segment)));
            flags.extend(asking.map(Flag::key));
        }
        let prerequisites = self
            .flags()
            .flat_map(|flag| flag.prerequisites().map(move |prerequisite| (flag.key(), prerequisite)));
        spread(&mut flags, prerequisites);
        let mut touched: Vec<_> = flags.into_iter().map(Arc::from).collect();
        touched.sort_unstable();
        touched
    }
}

/// Adds whoever asks about what is there, and whoever asks about them; `asks` are pairs of who asks about whom.
fn spread<'a>(there: &mut Keys<'a>, asks: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut asked_by: HashMap<_, Vec<_>, RandomState> = HashMap::default();
    for (who, whom) in asks {
        asked_by.entry(whom).or_default().push(who);
    }
    let mut new: Vec<_> = there.iter().copied().collect();
    while let Some(key) = new.pop() {
        for who in asked_by.get(key).into_iter().flatten() {
            if there.insert(who) {
                new.push(who);
            }
        }
    }
}

impl Flag {
    fn targeting(&self) -> Option<&Targeting> {
        match &self.state {
            State::Enabled(targeting) => Some(targeting),
            State::Disabled | State::Malformed(_) => None,
        }
    }

    fn prerequisites(&self) -> impl Iterator<Item = &str> {
        let targeting = self.targeting().into_iter();
        targeting.flat_map(|targeting| targeting.prerequisites.iter().map(|it| it.flag.as_str()))
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        let targeting = self.targeting().into_iter();
        let by_rules = targeting.flat_map(|targeting| targeting.rules.iter().flat_map(|rule| asked(&rule.conditions)));
        let experiments = self.experiments.iter().flat_map(|experiments| &experiments.placed);
        by_rules.chain(experiments.flat_map(|placed| asked(placed.experiment.audience())))
    }
}

impl Segment {
    fn asks_about(&self) -> impl Iterator<Item = &str> {
        let audience = self.audience.as_ref().and_then(|audience| audience.as_ref().ok());
        audience.into_iter().flat_map(|audience| {
            let parts = audience.parts.iter().map(|part| &**part);
            parts.chain(asked(&audience.conditions))
        })
    }
}

/// The segments that conditions ask about.
fn asked(conditions: &[Condition]) -> impl Iterator<Item = &str> {
    let segments = conditions.iter().flat_map(|condition| match &condition.question {
        Question::Segments(segments) => &**segments,
        Question::Attribute(..) => &[],
    });
    segments.map(|segment| &**segment)
}
