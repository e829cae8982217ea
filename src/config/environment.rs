//! What the process was started with, besides its arguments.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;

/// What the process was started with, besides its arguments. A value, so that tests need not touch their own process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: HashMap<OsString, OsString>,
    interactive: bool,
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            interactive: std::io::stdin().is_terminal(),
        }
    }

    /// One with these variables, and nobody at a terminal.
    pub fn with<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            interactive: false,
        }
    }

    /// The same, with somebody at a terminal who can be asked.
    #[must_use]
    pub fn interactive(self) -> Self {
        Self {
            interactive: true,
            ..self
        }
    }

    /// Whether somebody at a terminal can be asked.
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// The names of the variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.variables.keys().filter_map(|name| name.to_str());
        names.filter(|name| self.get(name).is_some())
    }

    /// The value of a variable. Empty counts as unset: that is how composed files say "none".
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }
}
