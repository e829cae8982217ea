//! E-mail addresses: by which people log in.
//!
//! Nothing here tries to prove that an address can be delivered to; only a message sent there could.
//!
//! Letters of every script are welcome, in one script per part. Characters that only stand for others are refused (full widths, the
//! sign for kelvin), so that [`fold`] joins nothing but a letter's cases and the spellings that Unicode calls the same text.

mod letters;

use std::fmt;

use super::{invalid::Violations, limits};
pub use letters::fold;

/// An e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email {
    given: String,
    normalized: String,
}

impl Email {
    /// Checks an address; white space around it does not count. The violations' field is empty, for the caller to name.
    pub fn new(text: &str) -> Result<Self, Violations> {
        let given = text.trim();
        if given.is_empty() {
            return Err(Violations::one("", "is empty; an e-mail address is required"));
        }
        let mut violations = Violations::new();
        if given.len() > limits::EMAIL_BYTES {
            violations.add("", format!("is longer than {} bytes", limits::EMAIL_BYTES));
        }
        let unseen = |c: char| c.is_whitespace() || c.is_control() || letters::is_invisible(c);
        if given.chars().any(unseen) {
            violations.add("", "must hold neither white space nor control or invisible characters");
        } else if let Some(mistakable) = letters::mistakable(given) {
            violations.add("", mistakable);
        }
        let two_parts = given
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        if !two_parts {
            violations.add(
                "",
                "must hold exactly one @ with something on both sides, such as you@example.com",
            );
        }
        violations.or(Self {
            given: given.to_owned(),
            normalized: fold(given),
        })
    }

    /// As it was given, without the white space around it: what is shown.
    pub fn given(&self) -> &str {
        &self.given
    }

    /// What is before the @, as [`fold`] makes it.
    pub fn local(&self) -> &str {
        self.normalized.split_once('@').map_or("", |(local, _)| local)
    }

    /// As [`fold`] makes it: what accounts are found by, and unique by.
    pub fn normalized(&self) -> &str {
        &self.normalized
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

#[cfg(test)]
mod tests;
