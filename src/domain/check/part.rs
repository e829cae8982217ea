//! What many checks share: texts, lists, keys.

use std::str::FromStr;

use crate::domain::invalid::Violations;

/// PostgreSQL's `jsonb`, and C in general, cannot hold the character: a form that has it could not be queried.
pub(super) const NUL: &str = "holds a NUL character; leave it out";

/// Nor should it hold others of its kind, which nobody sees and a form writes with six bytes.
pub(super) const CONTROL: &str = "holds a control character";

/// Hexadecimal digits in the id of a credential.
const ID_DIGITS: usize = 16;

/// Checks the length of a text, and that it holds no control characters but line breaks and tabs.
pub fn text(violations: &mut Violations, field: &str, text: &str, max_chars: usize) {
    if text.chars().count() > max_chars {
        violations.add(field, format!("is longer than {max_chars} characters"));
    }
    if has_control(text) {
        violations.add(field, CONTROL);
    }
}

/// Checks the id of a credential; `what` says of which. What is none is not repeated: it may be the secret itself.
pub fn id(violations: &mut Violations, field: &str, text: &str, what: &str) {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != ID_DIGITS || !text.bytes().all(is_digit) {
        violations.add(
            field,
            format!("is not the id of {what}: {ID_DIGITS} hexadecimal digits"),
        );
    }
}

/// Whether a text holds control characters other than line breaks and tabs.
pub(super) fn has_control(text: &str) -> bool {
    text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

pub(super) fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Checks each entry, with its index in the path. What is beyond the limit is not looked at.
pub(super) fn list<'d, D, T>(
    violations: &mut Violations,
    field: &str,
    drafts: &'d [D],
    limit: usize,
    mut check: impl FnMut(&'d D) -> Result<T, Violations>,
) -> Vec<T> {
    at_most(violations, field, drafts.len(), limit);
    let checked = drafts.iter().take(limit).enumerate();
    checked
        .filter_map(|(n, draft)| violations.take(&format!("{field}[{n}]"), check(draft)))
        .collect()
}

pub(super) fn at_most(violations: &mut Violations, field: &str, count: usize, limit: usize) {
    if count > limit {
        violations.add(field, format!("has more entries than the limit of {limit}"));
    }
}

/// Reads a key that must be one of those that `known` finds; `what` says what they are.
pub(super) fn known<K>(text: &str, known: impl Fn(&K) -> bool, what: &str) -> Result<K, Violations>
where
    K: FromStr<Err = Violations> + std::fmt::Display,
{
    let key: K = text.parse()?;
    if known(&key) {
        return Ok(key);
    }
    Err(Violations::one("", format!("names {key}, which is not {what}")))
}
