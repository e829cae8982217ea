//! Pages of lists, and the etags of what is in them.

use super::error::{Entity, Error};
use super::rows;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many.
    pub size: usize,
    /// The `next` of the page before. Empty: the first page.
    pub after: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page begins. `None`: this is the last.
    pub next: Option<String>,
}

impl PageRequest {
    /// How many rows to ask for: one more than the page, to know whether there is another.
    pub(super) fn limit(&self) -> i64 {
        rows::to_sql(self.size as u64 + 1)
    }

    /// The page of the items found by that limit.
    pub(super) fn page<T>(&self, mut items: Vec<T>, key: impl FnOnce(&T) -> String) -> Page<T> {
        let more = items.len() > self.size;
        items.truncate(self.size);
        let next = items.last().filter(|_| more).map(key);
        Page { items, next }
    }
}

/// An etag: differs after every change, and after a deletion and creation under the same key.
pub(super) fn etag<const N: usize>(parts: [i64; N]) -> String {
    parts.map(|part| format!("{part:x}")).join(".")
}

/// Refuses an etag that is not the current one. Empty: no check.
pub(super) fn check_etag(given: &str, current: &str, entity: Entity, key: &str) -> Result<(), Error> {
    if given.is_empty() || given == current {
        return Ok(());
    }
    let key = key.to_owned();
    Err(Error::Stale { entity, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_next() {
        let check = |size: usize, found: &[&str], items: &[&str], next: Option<&str>| {
            let request = PageRequest {
                size,
                after: String::new(),
            };
            let page = request.page(found.to_vec(), |item| (*item).to_owned());
            assert_eq!((page.items.as_slice(), page.next.as_deref()), (items, next));
        };
        check(2, &[], &[], None);
        check(2, &["a", "b"], &["a", "b"], None);
        check(2, &["a", "b", "c"], &["a", "b"], Some("b"));
    }

    #[test]
    fn only_another_etag_is_stale() {
        let check = |given: &str| check_etag(given, "1.2", Entity::Flag, "f").is_ok();
        assert!(check(""));
        assert!(check(&etag([1, 2])));
        assert!(!check(&etag([1, 3])));
    }
}
