//! Pages of lists: which one a request asks for, and the token that leads to the next.
//!
//! A token is where the next page begins, behind a hash of the method and of everything else that was asked: with other filters
//! it would skip what the caller never saw, and is refused. To callers it is opaque.

use prost::Message;

use crate::domain::change::form_hash;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::rpc::convert::common::{PageSizes, page_size};
use crate::store::{Page, PageRequest};

/// Bytes of the hash in a token. It keeps nobody out: what a token leads to, its caller may read anyway.
const BOND: usize = 4;

/// Which page a request asks for.
pub(super) struct Paging {
    /// What the store is asked.
    pub request: PageRequest,
    bond: [u8; BOND],
}

impl Paging {
    /// Reads a page size and a token. `asked` is the request without them.
    pub(super) fn read<M: Message>(
        violations: &mut Violations,
        method: &str,
        sizes: PageSizes,
        (size, token): (i32, String),
        asked: &M,
    ) -> Self {
        let bond = bond(method, asked);
        let after = read_token(&token, bond).unwrap_or_else(|| {
            violations.add("page_token", "is not the token of a page before, with the same filters");
            String::new()
        });
        let size = page_size(violations, sizes, size);
        Self {
            request: PageRequest { size, after },
            bond,
        }
    }

    /// A page's messages and the token of the next.
    pub(super) fn write<T, M>(&self, page: Page<T>, write: impl Fn(&T) -> M) -> (Vec<M>, String) {
        let token = page
            .next
            .map(|next| hex::encode([&self.bond, next.as_bytes()].concat()));
        (page.items.iter().map(write).collect(), token.unwrap_or_default())
    }
}

fn bond<M: Message>(method: &str, asked: &M) -> [u8; BOND] {
    let hash = form_hash(&[method.as_bytes(), &asked.encode_to_vec()].concat());
    std::array::from_fn(|n| hash.0[n])
}

/// Where the page begins; empty: at the beginning. `None`: no token of such a request.
fn read_token(token: &str, bond: [u8; BOND]) -> Option<String> {
    if token.is_empty() {
        return Some(String::new());
    }
    let bytes = hex::decode(token).ok()?;
    let after = std::str::from_utf8(bytes.strip_prefix(&bond)?).ok()?;
    let plausible = after.len() <= limits::ATTRIBUTE_CHARS && !after.contains(char::is_control);
    plausible.then(|| after.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::admin::v1::ListFlagsRequest;

    fn of_owner(owner: &str) -> ListFlagsRequest {
        ListFlagsRequest {
            owner: owner.into(),
            ..ListFlagsRequest::default()
        }
    }

    /// Where the page begins that `token` leads to.
    fn after(method: &str, owner: &str, token: &str) -> Result<String, Violations> {
        let mut violations = Violations::new();
        let paging = Paging::read(
            &mut violations,
            method,
            PageSizes::ENTITIES,
            (0, token.to_owned()),
            &of_owner(owner),
        );
        violations.or(paging.request.after)
    }

    fn token(method: &str, owner: &str, next: &str) -> String {
        let mut violations = Violations::new();
        let asked = of_owner(owner);
        let paging = Paging::read(&mut violations, method, PageSizes::ENTITIES, (0, String::new()), &asked);
        let page = Page {
            items: vec![()],
            next: Some(next.into()),
        };
        paging.write(page, |()| ()).1
    }

    #[test]
    fn a_token_leads_on_with_the_same_question_only() {
        let token = token("ListFlags", "web", "a.flag");
        assert!(!token.contains("flag"), "{token}");
        assert_eq!(after("ListFlags", "web", &token).unwrap(), "a.flag");
        assert!(after("ListFlags", "api", &token).is_err());
        assert!(after("ListSegments", "web", &token).is_err());
        assert_eq!(after("ListFlags", "web", "").unwrap(), "");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for nonsense in ["x", "00", "a.flag", "00000000", &"0".repeat(10_000)] {
            assert!(after("ListFlags", "", nonsense).is_err(), "{nonsense}");
        }
        assert!(after("ListFlags", "", &token("ListFlags", "", "a\0b")).is_err());
    }
}
