//! What is wrong with an input: every violation at once, each with the path of its field.

use std::fmt;

use super::limits;

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `flag.variants[2].key`.
    pub field: String,
    /// What is wrong and what to do, a sentence.
    pub description: String,
}

/// Everything wrong with an input, as far as anyone is told: one more than [`limits::VIOLATIONS`], which says that there are
/// more, and no further, so that a request full of mistakes costs no memory. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// One thing wrong.
    pub fn one(field: impl Into<String>, description: impl Into<String>) -> Self {
        let mut violations = Self::new();
        violations.add(field, description);
        violations
    }

    /// Notes that something is wrong with a field.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.0.len() > limits::VIOLATIONS {
            return;
        }
        self.0.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Adds the violations of a part whose fields lie below `prefix`; empty: beside ours.
    pub fn nest(&mut self, prefix: &str, part: Violations) {
        for violation in part.0 {
            let field = match violation.field.as_str() {
                "" => prefix.to_owned(),
                field if prefix.is_empty() || field.starts_with('[') => format!("{prefix}{field}"),
                field => format!("{prefix}.{field}"),
            };
            self.add(field, violation.description);
        }
    }

    /// The same, with every field below `prefix`.
    #[must_use]
    pub fn below(self, prefix: &str) -> Self {
        let mut violations = Self::new();
        violations.nest(prefix, self);
        violations
    }

    /// The value of a part, or `None` with its violations noted below `prefix`.
    pub fn take<T>(&mut self, prefix: &str, part: Result<T, Violations>) -> Option<T> {
        part.map_err(|violations| self.nest(prefix, violations)).ok()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    /// `value` if nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Violations> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, violation) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            let colon = if violation.field.is_empty() { "" } else { ": " };
            write!(f, "{separator}{}{colon}{}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_paths_read_like_the_request() {
        let mut rule = Violations::one("conditions[0].attribute", "is empty");
        rule.add("", "is strange");
        let mut all = Violations::new();
        all.nest("configuration.rules[3]", rule);
        all.nest("", Violations::one("etag", "is stale"));
        let fields: Vec<_> = all.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "configuration.rules[3].conditions[0].attribute",
                "configuration.rules[3]",
                "etag"
            ]
        );
    }

    #[test]
    fn no_more_are_kept_than_are_told() {
        let mut part = Violations::new();
        (0..100).for_each(|n| part.add(format!("[{n}]"), "is wrong"));
        assert_eq!(part.iter().count(), limits::VIOLATIONS + 1);
        let mut all = Violations::one("name", "is empty");
        all.nest("values", part);
        assert_eq!(all.iter().count(), limits::VIOLATIONS + 1);
        assert_eq!(all.iter().next().map(|v| v.field.as_str()), Some("name"));
    }

    #[test]
    fn what_has_no_name_is_told_without_one() {
        let mut violations = Violations::one("", "must be longer");
        violations.add("email", "is empty");
        assert_eq!(violations.to_string(), "must be longer; email: is empty");
    }
}
