//! E-mail addresses: by which people log in.
//!
//! Nothing here tries to prove that an address can be delivered to; only a message sent there could.

use std::fmt;

use super::{invalid::Violations, limits};

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
        if given
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
        {
            violations.add("", "must hold neither white space nor control or invisible characters");
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
            normalized: given.to_lowercase(),
        })
    }

    /// As it was given, without the white space around it: what is shown.
    pub fn given(&self) -> &str {
        &self.given
    }

    /// What is before the @, in lower case.
    pub fn local(&self) -> &str {
        self.normalized.split_once('@').map_or("", |(local, _)| local)
    }

    /// In lower case: what accounts are found by, and unique by.
    pub fn normalized(&self) -> &str {
        &self.normalized
    }
}

/// Whether a character shows nothing of itself, so that two addresses which differ in it alone look the same: soft hyphens, zero
/// widths, marks of direction, invisible operators, variation selectors, tags.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(Email::new(text).is_ok(), valid, "{text:?}");
    }

    #[test]
    fn addresses_have_one_at_sign_with_something_on_both_sides() {
        check("ada@example.com", true);
        check("ada+flags@localhost", true);
        check("grüße@exämple.de", true);
        check("", false);
        check("  ", false);
        check("ada", false);
        check("@example.com", false);
        check("ada@", false);
        check("ada@b@c", false);
        check("ada lovelace@example.com", false);
        check("ada@exa\u{7}mple.com", false);
        check("ada\u{a0}@example.com", false);
        check("ada\u{200b}@example.com", false);
        check("\u{202e}ada@example.com", false);
    }

    #[test]
    fn length_is_limited_in_bytes() {
        check(&format!("{}@example.com", "a".repeat(242)), true);
        check(&format!("{}@example.com", "a".repeat(243)), false);
        check(&format!("{}@example.com", "ä".repeat(122)), false);
    }

    #[test]
    fn case_and_surrounding_space_make_no_other_account() {
        let email = Email::new("  Ada@Example.COM\n").unwrap();
        assert_eq!(email.given(), "Ada@Example.COM");
        assert_eq!(email.normalized(), "ada@example.com");
        assert_eq!(email.normalized(), Email::new("ada@example.com").unwrap().normalized());
    }

    #[test]
    fn all_violations_come_at_once() {
        let violations = Email::new(&"a ".repeat(200)).unwrap_err();
        assert_eq!(violations.iter().count(), 3);
    }
}
