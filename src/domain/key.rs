//! The keys by which entities are addressed. Read them with their module: `key::Flag` is the key of a flag.
//!
//! The credential of an application is not one of these; see [`access`](super::access).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{invalid::Violations, limits};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $syntax:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a key; the violation's field is empty, for the caller to name.
            pub fn new(text: &str) -> Result<Self, Violations> {
                $syntax.check(text)?;
                Ok(Self(text.into()))
            }

            /// The key's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Violations;
            fn try_from(text: String) -> Result<Self, Violations> {
                Self::new(&text)
            }
        }

        impl FromStr for $name {
            type Err = Violations;
            fn from_str(text: &str) -> Result<Self, Violations> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(key: $name) -> Self {
                key.as_str().to_owned()
            }
        }

        impl From<$name> for Arc<str> {
            fn from(key: $name) -> Self {
                key.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

key!(
    /// The key of a project, unique in the installation.
    Project,
    LOWER
);
key!(
    /// The key of an environment, unique in its project.
    Environment,
    LOWER
);
key!(
    /// The key of a variant, unique in its flag.
    Variant,
    LOWER
);
key!(
    /// The key of a rule, unique in its configuration.
    Rule,
    LOWER
);
key!(
    /// The key of a flag, unique in its project.
    Flag,
    FLAG
);
key!(
    /// The key of a segment, unique in its project.
    Segment,
    LOWER
);
key!(
    /// The key of an experiment, unique in its environment.
    Experiment,
    LOWER
);
key!(
    /// The key of a layer of experiments, unique in its environment.
    Layer,
    LOWER
);
key!(
    /// The key of a metric: what events of it are called.
    Metric,
    LOWER
);

struct Syntax {
    upper_case: bool,
    max_bytes: usize,
}

const LOWER: Syntax = Syntax {
    upper_case: false,
    max_bytes: limits::KEY_BYTES,
};
const FLAG: Syntax = Syntax {
    upper_case: true,
    max_bytes: limits::FLAG_KEY_BYTES,
};

impl Syntax {
    fn check(&self, text: &str) -> Result<(), Violations> {
        if text.is_empty() {
            return Err(Violations::one("", "is empty; a key is required"));
        }
        if text.len() > self.max_bytes {
            let Self { max_bytes, .. } = self;
            return Err(Violations::one("", format!("is longer than {max_bytes} characters")));
        }
        let letter =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || (self.upper_case && c.is_ascii_uppercase());
        let bytes = text.as_bytes();
        let well_formed = bytes.first().is_some_and(|&c| letter(c))
            && bytes.iter().all(|&c| letter(c) || matches!(c, b'.' | b'_' | b'-'));
        if well_formed {
            return Ok(());
        }
        let letters = if self.upper_case {
            "letters"
        } else {
            "lower-case letters"
        };
        Err(Violations::one(
            "",
            format!(
                "must begin with one of the {letters} a to z or a digit, and hold only those, dots, underscores and hyphens"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, as_project: bool, as_flag: bool) {
        assert_eq!(Project::new(text).is_ok(), as_project, "project {text:?}");
        assert_eq!(Flag::new(text).is_ok(), as_flag, "flag {text:?}");
    }

    #[test]
    fn keys_keep_their_syntax() {
        check("shop", true, true);
        check("0.a_b-c", true, true);
        check("newCheckout", false, true);
        check("", false, false);
        check("-shop", false, false);
        check("shöp", false, false);
        check("a b", false, false);
        check("a/b", false, false);
        check(&"a".repeat(63), true, true);
        check(&"a".repeat(64), false, true);
        check(&"a".repeat(129), false, false);
    }
}
