//! The declaration of one setting, and the arguments and variables that come from it.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::values;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// The option without its dashes.
    pub name: &'static str,
    /// What stands for the value in the help.
    value: &'static str,
    help: &'static str,
    /// What is read if nothing is given.
    pub default: Option<&'static str>,
    kind: Kind,
    variable: Variable,
    is_fine: bool,
}

/// What the settings are under that nearly nobody needs.
const FINE_TUNING: &str = "Fine tuning";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    /// May be given many times on the command line.
    Values,
    Switch,
    /// May come from a file.
    Secret,
    /// May come from a file or a variable, never from an argument: other users of the machine see those.
    Hidden,
}

#[derive(Debug, Clone, Copy)]
enum Variable {
    /// After the option.
    Own,
    /// This one instead.
    Other(&'static str),
    /// Its own, or else this one.
    Also(&'static str),
    /// None: it belongs to one call, not to a place where calls are made.
    None,
}

impl Setting {
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            value,
            help,
            default: None,
            kind: Kind::Value,
            variable: Variable::Own,
            is_fine: false,
        }
    }

    pub const fn values(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Values,
            variable: Variable::None,
            ..Self::value(name, value, help)
        }
    }

    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Switch,
            ..Self::value(name, "true|false", help)
        }
    }

    pub const fn secret(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Secret,
            ..Self::value(name, value, help)
        }
    }

    pub const fn hidden(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Hidden,
            ..Self::value(name, "", help)
        }
    }

    pub const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    pub const fn variable(self, name: &'static str) -> Self {
        Self {
            variable: Variable::Other(name),
            ..self
        }
    }

    pub const fn also_variable(self, name: &'static str) -> Self {
        Self {
            variable: Variable::Also(name),
            ..self
        }
    }

    pub const fn argument_only(self) -> Self {
        Self {
            variable: Variable::None,
            ..self
        }
    }

    /// Nearly nobody needs it: the short help leaves it out, and the long one has it under a heading of its own.
    pub const fn fine(self) -> Self {
        Self { is_fine: true, ..self }
    }

    /// What it says of itself.
    #[cfg(test)]
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// How it is written on the command line, in every way that there is.
    #[cfg(test)]
    pub fn ways(&self) -> Vec<String> {
        let plain = match self.kind {
            Kind::Hidden => None,
            Kind::Switch => Some(format!("--{}", self.name)),
            Kind::Value | Kind::Values | Kind::Secret => Some(format!("--{} {}", self.name, self.value)),
        };
        let file = self.has_file().then(|| format!("--{} PATH", self.file_option()));
        plain.into_iter().chain(file).collect()
    }

    /// What it is when nothing is given.
    pub fn usual(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Switch => Some("false"),
            Kind::Value | Kind::Values | Kind::Secret | Kind::Hidden => self.default,
        }
    }

    /// A value as it is usually written.
    pub fn normal(&self, value: String) -> String {
        match (self.kind, values::switch(&value)) {
            (Kind::Switch, Ok(on)) => on.to_string(),
            _ => value,
        }
    }

    /// The variables that it is read from, the first that is set.
    pub fn variables(&self) -> Vec<String> {
        let own = || format!("HALYARD_{}", self.name.to_uppercase().replace('-', "_"));
        match self.variable {
            Variable::Own => vec![own()],
            Variable::Other(name) => vec![name.to_owned()],
            Variable::Also(name) => vec![own(), name.to_owned()],
            Variable::None => Vec::new(),
        }
    }

    /// Whether it may come from a file that is named.
    pub fn has_file(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Hidden)
    }

    /// The option that names the file.
    pub fn file_option(&self) -> String {
        format!("{}-file", self.name)
    }

    /// How it is called when it is missing: by what can be written on the command line.
    pub fn argument(&self) -> String {
        if self.kind == Kind::Hidden {
            return format!("--{}", self.file_option());
        }
        format!("--{}", self.name)
    }

    /// The arguments of the command line.
    pub fn arguments(&self) -> Vec<Arg> {
        let plain = (self.kind != Kind::Hidden).then(|| self.plain_argument());
        let file = self.has_file().then(|| {
            let help = match self.kind {
                Kind::Hidden => format!(
                    "A file that holds {}{}",
                    self.help,
                    self.environment_help(&["", "_FILE"])
                ),
                Kind::Value | Kind::Values | Kind::Switch | Kind::Secret => {
                    format!("The same, read from a file{}", self.environment_help(&["_FILE"]))
                }
            };
            option(self.file_option()).value_name("PATH").help(help)
        });
        plain.into_iter().chain(file).collect()
    }

    fn plain_argument(&self) -> Arg {
        let default = self.default.map(|default| format!(" [default: {default}]"));
        let help = format!(
            "{}{}{}",
            self.help,
            default.unwrap_or_default(),
            self.environment_help(&[""])
        );
        let mut argument = option(self.name.to_owned()).value_name(self.value).help(help);
        if self.is_fine {
            argument = argument.help_heading(FINE_TUNING).hide_short_help(true);
        }
        match self.kind {
            Kind::Switch => argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Kind::Values => argument.action(ArgAction::Append).value_parser(ValueParser::string()),
            Kind::Value | Kind::Secret | Kind::Hidden => argument,
        }
    }

    fn environment_help(&self, suffixes: &[&str]) -> String {
        let variables = self.variables();
        let with_suffixes = |name: &String| {
            suffixes
                .iter()
                .map(move |suffix| format!("{name}{suffix}"))
                .collect::<Vec<_>>()
        };
        let names: Vec<_> = variables.iter().flat_map(with_suffixes).collect();
        if names.is_empty() {
            return String::new();
        }
        format!(" [env: {}]", names.join(", "))
    }
}

/// An option whose value is taken as it is, to be read later.
fn option(name: String) -> Arg {
    Arg::new(name.clone()).long(name).value_parser(ValueParser::os_string())
}
