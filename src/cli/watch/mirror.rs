//! What a client holds of an environment, and whether it is what the server holds.
//!
//! It changes at Commit and at no other time. It trusts nothing: that steps are whole, that they follow what is held, that
//! nothing goes back, and that the hash of what is held is the server's.

mod segments;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::change::{Digest, StateHash};
use crate::domain::form::Kind;
use crate::pb::evaluation::v1::item::Change;
use crate::pb::evaluation::v1::put::Item as Form;
use crate::pb::evaluation::v1::{
    Begin, Commit, Delete, FlagConfiguration, FlagDefinition, Intent, Item, Put, SnapshotReason,
};

pub(super) use segments::SegmentChange;

/// What a client holds.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    items: Items,
    /// The generation and revision that are held.
    at: Option<(u64, u64)>,
    /// Where to resume.
    token: Vec<u8>,
    step: Option<Step>,
}

/// Items by the name of their kind, since kinds that we do not know are held too, and their key.
type Items = BTreeMap<(String, String), Held>;

#[derive(Debug, Clone)]
struct Held {
    form_hash: Digest,
    /// `None`: of a kind that is not looked at, or a chunk of a list, which may be one of a thousand; their hashes will do.
    form: Option<Form>,
}

/// A step that has begun. Of an item that changes twice the later change counts.
#[derive(Debug)]
struct Step {
    begin: Begin,
    received: u32,
    changes: BTreeMap<(String, String), Option<Held>>,
}

/// A step that is complete.
#[derive(Debug)]
pub(super) struct Advance {
    pub intent: Intent,
    pub reason: SnapshotReason,
    pub generation: u64,
    pub revision: u64,
    pub state_hash: Digest,
    pub committed_at: Option<prost_types::Timestamp>,
    /// The flags that differ from before, by key.
    pub flags: Vec<FlagChange>,
    /// The segments that differ from before, by key.
    pub segments: Vec<SegmentChange>,
}

/// How a flag differs from before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FlagChange {
    pub key: String,
    pub before: Option<FlagState>,
    pub after: Option<FlagState>,
}

/// A flag that exists, in the environment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FlagState {
    pub definition: FlagDefinition,
    /// `None`: never written, off.
    pub configuration: Option<FlagConfiguration>,
}

impl FlagState {
    /// Whether it is on.
    pub fn enabled(&self) -> bool {
        self.configuration
            .as_ref()
            .is_some_and(|configuration| configuration.enabled)
    }
}

/// The stream is not what its contract says. What is held cannot be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0} came outside of a step")]
    OutsideStep(&'static str),
    #[error("a step began before the last was complete")]
    StepWithinStep,
    #[error("a step announced {announced} items and held {received}")]
    ItemCount { announced: u32, received: u32 },
    #[error("a step begins at generation {generation} revision {from}, which is not held")]
    DoesNotFollow { generation: u64, from: u64 },
    #[error("revision {to} of generation {generation} was announced, revision {revision} was committed")]
    NotAsAnnounced { generation: u64, to: u64, revision: u64 },
    #[error("the stream went back from {held:?} to {to:?} (generation, revision)")]
    WentBack { held: (u64, u64), to: (u64, u64) },
    #[error("a message lacks {0}")]
    Lacks(&'static str),
    #[error(
        "STATE MISMATCH at revision {revision}: the server holds {server:?}, what was received adds up to {ours:?}"
    )]
    StateMismatch {
        revision: u64,
        server: Digest,
        ours: Digest,
    },
}

impl Mirror {
    /// Where to resume. Empty: nothing is held.
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// A connection ended: what had begun is forgotten, what is held stays.
    pub fn disconnected(&mut self) {
        self.step = None;
    }

    pub fn begin(&mut self, begin: Begin) -> Result<(), Broken> {
        if self.step.is_some() {
            return Err(Broken::StepWithinStep);
        }
        let (generation, from) = (begin.generation, begin.from_revision);
        let follows = match begin.intent() {
            Intent::Snapshot => true,
            Intent::Delta | Intent::None => self.at == Some((generation, from)),
            Intent::Unspecified => return Err(Broken::Lacks("its intent")),
        };
        if !follows {
            return Err(Broken::DoesNotFollow { generation, from });
        }
        self.step = Some(Step {
            begin,
            received: 0,
            changes: BTreeMap::new(),
        });
        Ok(())
    }

    pub fn item(&mut self, item: Item) -> Result<(), Broken> {
        let step = self.step.as_mut().ok_or(Broken::OutsideStep("an item"))?;
        let Item { change } = item;
        let (id, held) = match change.ok_or(Broken::Lacks("its change"))? {
            Change::Put(Put {
                kind,
                key,
                version: _,
                form_hash,
                item,
                form: _,
            }) => {
                let form_hash = Digest::from_slice(&form_hash).ok_or(Broken::Lacks("a form hash of 32 bytes"))?;
                let form = item.filter(|form| !matches!(form, Form::SegmentKeys(_)));
                let held = Held { form_hash, form };
                ((kind, key), Some(held))
            }
            Change::Delete(Delete { kind, key }) => ((kind, key), None),
        };
        step.received += 1;
        step.changes.insert(id, held);
        Ok(())
    }

    /// Applies the step. After an error nothing of it is held.
    pub fn commit(&mut self, commit: Commit) -> Result<Advance, Broken> {
        let step = self.step.take().ok_or(Broken::OutsideStep("a commit"))?;
        let Commit {
            resume_token,
            generation,
            revision,
            state_hash,
            committed_at,
        } = commit;
        step.check(self.at, (generation, revision))?;
        let intent = step.begin.intent();
        let touched: BTreeSet<_> = step.changes.keys().cloned().collect();
        let after = match intent {
            Intent::Snapshot => step.puts().collect(),
            Intent::Delta | Intent::None | Intent::Unspecified => step.applied_to(self.items.clone()),
        };
        let server = Digest::from_slice(&state_hash).ok_or(Broken::Lacks("a state hash of 32 bytes"))?;
        verify(&after, server, revision)?;
        let touched = match intent {
            Intent::Snapshot => self.items.keys().chain(after.keys()).cloned().collect(),
            Intent::Delta | Intent::None | Intent::Unspecified => touched,
        };
        let flags = differences(
            &self.items,
            &after,
            touched.iter().map(|(_, key)| key.clone()).collect(),
        );
        let segments = segments::differences(&self.items, &after, &touched);
        self.items = after;
        self.at = Some((generation, revision));
        self.token = resume_token;
        Ok(Advance {
            intent,
            reason: step.begin.reason(),
            generation,
            revision,
            state_hash: server,
            committed_at,
            flags,
            segments,
        })
    }

    /// A heartbeat moves the token on, between steps only.
    pub fn heartbeat(&mut self, resume_token: Vec<u8>) {
        if self.step.is_none() && !resume_token.is_empty() {
            self.token = resume_token;
        }
    }
}

impl Step {
    fn check(&self, held: Option<(u64, u64)>, to: (u64, u64)) -> Result<(), Broken> {
        let Self { begin, received, .. } = self;
        if begin.item_count != *received {
            return Err(Broken::ItemCount {
                announced: begin.item_count,
                received: *received,
            });
        }
        if (begin.generation, begin.to_revision) != to {
            return Err(Broken::NotAsAnnounced {
                generation: begin.generation,
                to: begin.to_revision,
                revision: to.1,
            });
        }
        // What is held was never this history's, or no longer is; these reasons say so.
        let comparable = !matches!(
            begin.reason(),
            SnapshotReason::DifferentStore | SnapshotReason::Diverged
        );
        match held {
            Some(held) if comparable && to < held => Err(Broken::WentBack { held, to }),
            Some(_) | None => Ok(()),
        }
    }

    fn puts(&self) -> impl Iterator<Item = ((String, String), Held)> + '_ {
        let changes = self.changes.iter();
        changes.filter_map(|(id, held)| held.clone().map(|held| (id.clone(), held)))
    }

    fn applied_to(&self, mut items: Items) -> Items {
        for (id, held) in &self.changes {
            match held {
                Some(held) => items.insert(id.clone(), held.clone()),
                None => items.remove(id),
            };
        }
        items
    }
}

fn verify(items: &Items, server: Digest, revision: u64) -> Result<(), Broken> {
    let mut ours = StateHash::EMPTY;
    for ((kind, key), held) in items {
        ours.toggle(kind, key, &held.form_hash);
    }
    let ours = Digest(*ours.as_bytes());
    if ours == server {
        Ok(())
    } else {
        Err(Broken::StateMismatch { revision, server, ours })
    }
}

fn differences(before: &Items, after: &Items, keys: BTreeSet<String>) -> Vec<FlagChange> {
    let changes = keys.into_iter().map(|key| FlagChange {
        before: flag(before, &key),
        after: flag(after, &key),
        key,
    });
    changes.filter(|change| change.before != change.after).collect()
}

/// A flag exists if its definition does; a configuration may outlive it, as an archived flag's does.
fn flag(items: &Items, key: &str) -> Option<FlagState> {
    let form = |kind: Kind| items.get(&(kind.name().to_owned(), key.to_owned()))?.form.clone();
    let Some(Form::FlagDefinition(definition)) = form(Kind::FlagDefinition) else {
        return None;
    };
    let configuration = match form(Kind::FlagConfiguration) {
        Some(Form::FlagConfiguration(configuration)) => Some(configuration),
        Some(Form::FlagDefinition(_) | Form::SegmentConfiguration(_) | Form::SegmentKeys(_) | Form::Experiment(_))
        | None => None,
    };
    Some(FlagState {
        definition,
        configuration,
    })
}

#[cfg(test)]
pub(super) mod tests;
