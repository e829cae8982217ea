//! How a flag is answered.

use std::sync::Arc;

use crate::domain::form::ItemId;

/// Every item of an environment, ready to be evaluated. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    items: imbl::OrdMap<ItemId, Arc<[u8]>>,
}

impl Snapshot {
    /// Adds or replaces an item.
    pub fn put(&mut self, id: &ItemId, form: &[u8]) {
        self.items.insert(id.clone(), form.into());
    }

    /// Takes an item away.
    pub fn delete(&mut self, id: &ItemId) {
        self.items.remove(id);
    }
}
