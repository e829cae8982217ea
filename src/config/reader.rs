//! Reads settings from arguments, variables and files, and notes every problem.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::ArgMatches;

use super::environment::Environment;
use super::print::redacted;
use super::secret::Secret;
use super::setting::Setting;
use super::values;
use crate::domain::invalid::Violations;

/// The most bytes of a file that holds a secret.
const SECRET_FILE_BYTES: usize = 64 * 1024;

/// The place of what is on the command line.
const ARGUMENT: &str = "argument";

/// Something is wrong, and it has been noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted;

/// Reads settings, and notes what is wrong with them.
pub(super) struct Reader<'a> {
    matches: &'a ArgMatches,
    environment: &'a Environment,
    problems: Violations,
    known: BTreeMap<&'static str, String>,
}

/// Where a setting was given.
pub(super) struct Origin {
    /// What was given, or the path of the file that holds it.
    pub value: String,
    /// What to call the place.
    pub place: String,
}

impl Origin {
    /// Whether it was given on the command line, for this command alone.
    pub fn is_argument(&self) -> bool {
        self.place == ARGUMENT
    }
}

/// A value as it was given, and the name under which it was.
struct Given {
    name: String,
    value: OsString,
    is_file: bool,
}

impl<'a> Reader<'a> {
    pub fn new(matches: &'a ArgMatches, environment: &'a Environment) -> Self {
        Self {
            matches,
            environment,
            problems: Violations::new(),
            known: BTreeMap::new(),
        }
    }

    /// Everything that was wrong.
    pub fn finish(self) -> Violations {
        self.problems
    }

    /// Notes that something is wrong with a setting.
    pub fn refuse(&mut self, name: impl Into<String>, description: impl Into<String>) -> Noted {
        self.problems.add(name, description);
        Noted
    }

    /// Keeps what a setting comes to, where what was given does not say it, or says too much.
    pub fn note(&mut self, setting: Setting, value: &impl ToString) {
        self.known.insert(setting.name, value.to_string());
    }

    /// What was kept of that.
    pub fn comes_to(&self, setting: Setting) -> Option<&str> {
        self.known.get(setting.name).map(String::as_str)
    }

    /// Where a setting was given. `None`: nowhere.
    pub fn origin(&mut self, setting: Setting) -> Option<Origin> {
        let Given { name, value, is_file } = self.given(setting).ok()??;
        let value = value.to_string_lossy().into_owned();
        let place = match (is_file, name.starts_with("--")) {
            (true, _) => format!("file {value}, by {name}"),
            (false, true) => ARGUMENT.to_owned(),
            (false, false) => format!("variable {name}"),
        };
        Some(Origin { value, place })
    }

    /// Whether somebody at a terminal can be asked.
    pub fn is_interactive(&self) -> bool {
        self.environment.is_interactive()
    }

    /// The values of positional arguments or of an option that may be given many times.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.matches.get_many(name).unwrap_or_default().cloned().collect()
    }

    /// A setting that may be left out. What `read` says is wrong must go on after the setting's name.
    pub fn optional<T>(
        &mut self,
        setting: Setting,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Noted> {
        let Some(given) = self.given(setting)? else {
            return Ok(None);
        };
        let Some(text) = given.value.to_str() else {
            return Err(self.refuse(given.name, "is not UTF-8 text"));
        };
        match read(text) {
            Ok(value) => Ok(Some(value)),
            Err(description) => Err(self.refuse(given.name, format!("{description}: {:?}", redacted(text)))),
        }
    }

    /// A setting that must be given or has a default.
    pub fn required<T>(&mut self, setting: Setting, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Noted> {
        match self.optional(setting, &read)? {
            Some(value) => Ok(value),
            None => match setting.default.map(read) {
                Some(Ok(value)) => Ok(value),
                Some(Err(description)) => Err(self.refuse(setting.argument(), format!("by default {description}"))),
                None => Err(self.missing(setting)),
            },
        }
    }

    /// Notes that a setting is missing.
    pub fn missing(&mut self, setting: Setting) -> Noted {
        let mut names: Vec<_> = setting.variables();
        if setting.has_file() {
            names.extend(setting.variables().first().map(|name| format!("{name}_FILE")));
        }
        let or = if names.is_empty() {
            String::new()
        } else {
            format!(" (or {})", names.join(", "))
        };
        self.refuse(setting.argument(), format!("is missing{or}"))
    }

    /// Whether something is switched on.
    pub fn switch(&mut self, setting: Setting) -> Result<bool, Noted> {
        let given = self.optional(setting, values::switch)?;
        Ok(given.unwrap_or(false))
    }

    /// A secret. It is never repeated in a problem, and white space at a file's end is not part of it.
    pub fn secret(&mut self, setting: Setting) -> Result<Option<Secret>, Noted> {
        let Some(given) = self.given(setting)? else {
            return Ok(None);
        };
        if given.is_file {
            let secret = read_secret(Path::new(&given.value));
            return match secret {
                Ok(secret) => Ok(Some(secret)),
                Err(description) => {
                    let path = given.value.to_string_lossy();
                    Err(self.refuse(given.name, format!("{description}: {path:?}")))
                }
            };
        }
        match given.value.into_string() {
            Ok(text) if text.is_empty() => Err(self.refuse(given.name, "is empty")),
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(self.refuse(given.name, "is not UTF-8 text")),
        }
    }

    fn given(&mut self, setting: Setting) -> Result<Option<Given>, Noted> {
        let argument = self.either(
            self.argument(setting.name, false),
            setting
                .has_file()
                .then(|| self.argument(&setting.file_option(), true))
                .flatten(),
        )?;
        if argument.is_some() {
            return Ok(argument);
        }
        for name in setting.variables() {
            let file = setting
                .has_file()
                .then(|| self.variable(format!("{name}_FILE"), true))
                .flatten();
            let variable = self.either(self.variable(name, false), file)?;
            if variable.is_some() {
                return Ok(variable);
            }
        }
        Ok(None)
    }

    fn either(&mut self, plain: Option<Given>, file: Option<Given>) -> Result<Option<Given>, Noted> {
        match (plain, file) {
            (Some(plain), Some(file)) => {
                Err(self.refuse(plain.name, format!("and {} are both given; leave one out", file.name)))
            }
            (plain, file) => Ok(plain.or(file)),
        }
    }

    fn argument(&self, option: &str, is_file: bool) -> Option<Given> {
        // Not every command has every argument, and hidden settings have none of their own name.
        let value = self.matches.try_get_one::<OsString>(option).ok()??;
        Some(Given {
            name: format!("--{option}"),
            value: value.clone(),
            is_file,
        })
    }

    fn variable(&self, name: String, is_file: bool) -> Option<Given> {
        let value = self.environment.get(&name)?.to_owned();
        Some(Given { name, value, is_file })
    }
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read ({})", error.kind()))?;
    if bytes.len() > SECRET_FILE_BYTES {
        return Err(format!("has more than {SECRET_FILE_BYTES} bytes"));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| "is not UTF-8 text; encode it, in base64 for example".to_owned())?;
    let secret = text.trim_end();
    if secret.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(secret.to_owned().into())
}
