//! What a client of Watch holds, and the hash over it. It judges nothing: the checker does.

use std::collections::HashMap;

use halyard::domain::change::{Digest, StateHash};

use crate::evidence::Name;

#[derive(Default, Clone)]
pub struct Mirror {
    items: HashMap<Name, Digest>,
    hash: StateHash,
    step: Option<Step>,
}

#[derive(Clone)]
struct Step {
    replaces: bool,
    changes: Vec<(Name, Option<Digest>)>,
}

impl Mirror {
    /// A step begins; whether it replaces everything.
    pub fn begin(&mut self, replaces: bool) {
        let changes = Vec::new();
        self.step = Some(Step { replaces, changes });
    }

    /// An item of the step. `None`: it is gone.
    pub fn change(&mut self, name: Name, form_hash: Option<Digest>) {
        if let Some(step) = &mut self.step {
            step.changes.push((name, form_hash));
        }
    }

    /// The step is complete. Returns the hash over what is held now.
    pub fn commit(&mut self) -> Digest {
        if let Some(step) = self.step.take() {
            if step.replaces {
                (self.items, self.hash) = (HashMap::new(), StateHash::EMPTY);
            }
            for (name, form_hash) in step.changes {
                self.set(name, form_hash);
            }
        }
        Digest(*self.hash.as_bytes())
    }

    /// A connection ended: what had begun is forgotten.
    pub fn disconnected(&mut self) {
        self.step = None;
    }

    fn set(&mut self, name: Name, form_hash: Option<Digest>) {
        if let Some(before) = self.items.remove(&name) {
            self.hash.toggle(&name.0, &name.1, &before);
        }
        if let Some(form_hash) = form_hash {
            self.hash.toggle(&name.0, &name.1, &form_hash);
            self.items.insert(name, form_hash);
        }
    }
}
