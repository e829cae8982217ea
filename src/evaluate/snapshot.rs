//! The flags and segments of one environment at one revision, compiled. Copies share whatever they have in common, so that a change
//! costs what it changes, and readers of an older copy keep it unharmed.

use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap, OrdSet};

use super::budget::Budget;
use super::compile::{Definition, Stored};
use super::experiment::Experiment;
use super::explanation::SegmentOutcome;
use super::flag::Flag;
use super::keys::Keys;
use super::malformed::Malformed;
use super::segment::{Audience, Segment};
use crate::domain::context::Context;
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::{experiment, segment};

/// For finding one thing. Seeded by the process, so that nobody can choose keys that collide.
type ByKey<T> = GenericHashMap<Arc<str>, Arc<T>, RandomState, DefaultSharedPtr>;

/// The flags and segments of one environment. Cloning costs the same however many there are.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    flags: ByKey<Flag>,
    /// For going through the flags in order, and for compiling them anew when a part changes.
    entries: OrdMap<Arc<str>, Entry>,
    segments: ByKey<Segment>,
    /// The experiments with their flags, for finding them by their keys.
    experiments: OrdSet<(Arc<str>, Arc<str>)>,
}

/// What is known of one flag. The parts come one by one and in any order.
#[derive(Debug, Clone, Default)]
struct Entry {
    definition: Option<Arc<Definition>>,
    /// The stored form: it is compiled against the definition, and again when that changes.
    configuration: Option<Arc<[u8]>>,
    /// Those that run on it, sorted by key.
    experiments: Vec<Stored>,
    /// `None`: without a definition there is no flag.
    flag: Option<Arc<Flag>>,
}

impl Snapshot {
    /// Takes an item that is new or has changed. A form that cannot be read or compiled makes its flag or segment malformed, and no
    /// other.
    pub fn put(&mut self, id: &ItemId, form: &[u8]) {
        match id.kind {
            Kind::Experiment => {
                // Another key is not that of an experiment: no flag asks it.
                if let Some((flag, key)) = experiment::parse_item(&id.key) {
                    let running = form::read_experiment(form).map(Arc::new).map_err(Malformed::from);
                    let (flag, key): (Arc<str>, Arc<str>) = (flag.into(), key.into());
                    self.experiments.insert((key.clone(), flag.clone()));
                    self.change_flag(&flag, |entry| entry.put_experiment(key, running));
                }
            }
            Kind::FlagDefinition => {
                let definition = Arc::new(Definition::compile(id.key.clone(), form));
                self.change_flag(&id.key, |entry| entry.definition = Some(definition));
            }
            Kind::FlagConfiguration => self.change_flag(&id.key, |entry| entry.configuration = Some(form.into())),
            Kind::SegmentConfiguration => {
                let audience = Audience::compile(form).map(Arc::new);
                self.change_segment(&id.key, |segment| segment.audience = Some(audience));
            }
            Kind::SegmentKeys => {
                // Another key is not that of a chunk: no list asks for it.
                if let Some((key, chunk)) = segment::parse_chunk_item(&id.key) {
                    let keys = Keys::compile(chunk, form);
                    self.change_segment(key, |segment| segment.put_chunk(chunk, keys));
                }
            }
        }
    }

    /// Forgets an item. One that is not known changes nothing.
    pub fn delete(&mut self, id: &ItemId) {
        match id.kind {
            Kind::Experiment => {
                if let Some((flag, key)) = experiment::parse_item(&id.key) {
                    let (flag, key): (Arc<str>, Arc<str>) = (flag.into(), key.into());
                    self.change_flag(&flag, |entry| entry.experiments.retain(|stored| stored.key != key));
                    self.experiments.remove(&(key, flag));
                }
            }
            Kind::FlagDefinition => self.change_flag(&id.key, |entry| entry.definition = None),
            Kind::FlagConfiguration => self.change_flag(&id.key, |entry| entry.configuration = None),
            Kind::SegmentConfiguration => self.change_segment(&id.key, |segment| segment.audience = None),
            Kind::SegmentKeys => {
                if let Some((key, chunk)) = segment::parse_chunk_item(&id.key) {
                    self.change_segment(key, |segment| segment.delete_chunk(chunk));
                }
            }
        }
    }

    /// The flag of a key. `None`: unknown. A configuration without a definition makes no flag.
    pub fn get(&self, flag: &str) -> Option<&Flag> {
        self.flags.get(flag).map(|flag| &**flag)
    }

    /// Every flag, sorted by key.
    pub fn flags(&self) -> impl Iterator<Item = &Flag> {
        self.entries.values().filter_map(|entry| entry.flag.as_deref())
    }

    /// Every flag whose key is greater, sorted by key. `None`: every flag.
    pub fn flags_after(&self, key: Option<&str>) -> impl Iterator<Item = &Flag> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range::<_, str>((start, Bound::Unbounded));
        entries.filter_map(|(_, entry)| entry.flag.as_deref())
    }

    /// How many flags there are.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there are no flags.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Why the flag or segment that an item belongs to cannot be compiled, for the log. `None`: it can, or is not there.
    pub fn malformed(&self, id: &ItemId) -> Option<&Malformed> {
        match id.kind {
            Kind::Experiment => {
                let (flag, key) = experiment::parse_item(&id.key)?;
                self.entries.get(flag)?.malformed_experiment(key)
            }
            Kind::FlagDefinition | Kind::FlagConfiguration => self.get(&id.key)?.malformed(),
            Kind::SegmentConfiguration => self.segment(&id.key)?.malformed(),
            Kind::SegmentKeys => self.segment(segment::parse_chunk_item(&id.key)?.0)?.malformed(),
        }
    }

    /// The running experiment of a key, and its flag.
    pub fn experiment(&self, key: &str) -> Option<(&Flag, &Arc<Experiment>)> {
        let (found, flag) = self.experiments.get_next(&(key.into(), "".into()))?;
        let flag = self.get(flag).filter(|_| **found == *key)?;
        Some((flag, flag.experiment(key)?))
    }

    /// Whether a context is in a segment, and why.
    pub(super) fn membership(&self, segment: &str, context: &Context) -> SegmentOutcome {
        match self.segment(segment) {
            Some(segment) => segment
                .ask(context, self, &mut Budget::of_a_segment())
                .unwrap_or(SegmentOutcome::Malformed),
            None => SegmentOutcome::Unconfigured,
        }
    }

    pub(super) fn segment(&self, key: &str) -> Option<&Segment> {
        self.segments.get(key).map(|segment| &**segment)
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = (&str, &Segment)> {
        self.segments.iter().map(|(key, segment)| (&**key, &**segment))
    }

    fn change_flag(&mut self, key: &Arc<str>, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.entries.get(key).cloned().unwrap_or_default();
        change(&mut entry);
        let configuration = entry.configuration.as_deref();
        let compiled = entry
            .definition
            .as_ref()
            .map(|definition| definition.configured(configuration, &entry.experiments));
        entry.flag = compiled.map(Arc::new);
        match &entry.flag {
            Some(flag) => self.flags.insert(key.clone(), flag.clone()),
            None => self.flags.remove(key),
        };
        if entry.definition.is_none() && entry.configuration.is_none() && entry.experiments.is_empty() {
            self.entries.remove(key);
        } else {
            self.entries.insert(key.clone(), entry);
        }
    }

    fn change_segment(&mut self, key: &str, change: impl FnOnce(&mut Segment)) {
        let mut segment = self.segment(key).cloned().unwrap_or_default();
        change(&mut segment);
        if segment.is_empty() {
            self.segments.remove(key);
        } else {
            self.segments.insert(key.into(), Arc::new(segment));
        }
    }
}

impl Entry {
    fn put_experiment(&mut self, key: Arc<str>, running: Result<Arc<experiment::Running>, Malformed>) {
        let found = self.experiments.binary_search_by(|stored| stored.key.cmp(&key));
        let stored = Stored { key, running };
        match found {
            Ok(at) => {
                if let Some(place) = self.experiments.get_mut(at) {
                    *place = stored;
                }
            }
            Err(at) => self.experiments.insert(at, stored),
        }
    }

    fn malformed_experiment(&self, key: &str) -> Option<&Malformed> {
        let experiments = self.flag.as_ref()?.experiments.as_ref()?;
        let mut malformed = experiments.malformed.iter();
        malformed.find(|(of, _)| **of == *key).map(|(_, malformed)| malformed)
    }
}
