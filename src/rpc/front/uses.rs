//! Which keys and service tokens have let somebody in since they were last asked for. Costs a request two atomic reads.
//!
//! Nothing is timed here: what is taken out was used since the time before, and that is as exact as last-used times are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::domain::access::{Directory, TokenId};

/// What was used.
#[derive(Debug, Default)]
pub struct Uses {
    keys: Marks<Arc<str>>,
    tokens: Marks<TokenId>,
}

/// What was used between two times of asking, by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Environment keys.
    pub keys: Vec<Arc<str>>,
    /// Service tokens.
    pub tokens: Vec<TokenId>,
}

impl Used {
    /// Whether nothing was used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.tokens.is_empty()
    }
}

impl Uses {
    /// Notes that a key has let somebody in.
    pub(super) fn mark_key(&self, id: &Arc<str>) {
        self.keys.mark(id);
    }

    /// Notes that a service token has let somebody in.
    pub(super) fn mark_token(&self, id: TokenId) {
        self.tokens.mark(&id);
    }

    /// Takes out what was used since the last time, and forgets what is no longer in the directory.
    pub fn take(&self, directory: &Directory) -> Used {
        Used {
            keys: self.keys.take(|id| directory.keys.contains_key(id)),
            tokens: self.tokens.take(|id| directory.tokens.contains_key(id)),
        }
    }

    /// Puts back what could not be written down, for the next time.
    pub fn put_back(&self, used: &Used) {
        let Used { keys, tokens } = used;
        for id in keys {
            self.keys.mark(id);
        }
        for id in tokens {
            self.tokens.mark(id);
        }
    }
}

/// A mark for each id that was ever used here, set or not. The map changes only when a new id comes, or one goes.
#[derive(Debug)]
struct Marks<K>(ArcSwap<HashMap<K, Arc<AtomicBool>, RandomState>>);

impl<K> Default for Marks<K> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<K: Eq + Hash + Clone> Marks<K> {
    fn mark<Q>(&self, id: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K>,
    {
        if let Some(mark) = self.0.load().get(id) {
            // Most find it set: then nobody's cache line is taken away.
            if !mark.load(Ordering::Relaxed) {
                mark.store(true, Ordering::Relaxed);
            }
            return;
        }
        self.0.rcu(|marks| {
            let mut marks = HashMap::clone(marks);
            marks.entry(id.to_owned()).or_default().store(true, Ordering::Relaxed);
            marks
        });
    }

    fn take(&self, exists: impl Fn(&K) -> bool) -> Vec<K> {
        let marks = self.0.load_full();
        let used = marks.iter().filter(|(_, mark)| mark.swap(false, Ordering::Relaxed));
        let used = used.map(|(id, _)| id.clone()).filter(&exists).collect();
        if !marks.keys().all(&exists) {
            self.0.rcu(|marks| {
                let mut marks = HashMap::clone(marks);
                marks.retain(|id, _| exists(id));
                marks
            });
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::{EnvironmentKey, KeyKind};
    use crate::domain::change::{Digest, EnvironmentId};

    fn directory(keys: &[&str]) -> Directory {
        let key = EnvironmentKey {
            environment: EnvironmentId(1),
            kind: KeyKind::Server,
            secret_hash: Digest::default(),
            expires_at: None,
            previous: None,
        };
        Directory {
            keys: keys.iter().map(|id| ((*id).into(), key.clone())).collect(),
            ..Directory::default()
        }
    }

    fn taken(uses: &Uses, keys: &[&str]) -> Vec<String> {
        let taken = uses.take(&directory(keys));
        assert!(taken.tokens.is_empty());
        let mut ids: Vec<_> = taken.keys.iter().map(ToString::to_string).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_use_is_taken_out_once() {
        let uses = Uses::default();
        for id in ["a", "b", "a"] {
            uses.mark_key(&id.into());
        }
        assert_eq!(taken(&uses, &["a", "b"]), ["a", "b"]);
        assert!(taken(&uses, &["a", "b"]).is_empty());
        uses.mark_key(&"b".into());
        assert_eq!(taken(&uses, &["a", "b"]), ["b"]);
    }

    #[test]
    fn what_was_put_back_is_taken_out_again() {
        let uses = Uses::default();
        uses.mark_key(&"a".into());
        let first = uses.take(&directory(&["a"]));
        uses.put_back(&first);
        assert_eq!(taken(&uses, &["a"]), ["a"]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let uses = Uses::default();
        uses.mark_key(&"a".into());
        uses.mark_key(&"b".into());
        assert_eq!(taken(&uses, &["b"]), ["b"]);
        assert_eq!(uses.keys.0.load().len(), 1);
    }
}
