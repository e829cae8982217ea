//! What `halyard dev` keeps for the next time: a file of shell variables beside the data, for the owner's eyes only.
//!
//! Keys are shown once and stored hashed, so the demo's have to be kept somewhere for the next start and for the commands that
//! people try.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::auth::jwt::SigningKey;

const FILE: &str = "dev.env";
const SIGNING_KEY: &str = "HALYARD_SIGNING_KEY";
const PASSWORD: &str = "HALYARD_PASSWORD";
const SERVER_KEY: &str = "HALYARD_KEY";
const CLIENT_KEY: &str = "HALYARD_CLIENT_KEY";

/// The file, read.
pub struct Keepsake {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl Keepsake {
    /// Reads the file in a folder; one that is missing holds nothing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let values = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
            let ours = name.starts_with("HALYARD_");
            ours.then(|| (name.to_owned(), value.trim_matches('\'').to_owned()))
        });
        Ok(Self {
            values: values.collect(),
            path,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that tokens are signed with, made if there is none.
    pub fn signing_key(&mut self) -> Result<SigningKey, crate::auth::Error> {
        SigningKey::new(self.random(SIGNING_KEY)?.as_bytes())
    }

    /// The administrator's password, made if there is none.
    pub fn make_password(&mut self) -> Result<String, crate::auth::Error> {
        self.random(PASSWORD)
    }

    /// Keeps the keys of the demo's first environment.
    pub fn set_keys(&mut self, server: String, client: String) {
        self.values.insert(SERVER_KEY.into(), server);
        self.values.insert(CLIENT_KEY.into(), client);
    }

    /// Whether the keys are known.
    pub fn has_keys(&self) -> bool {
        !self.server_key().is_empty() && !self.client_key().is_empty()
    }

    /// The server key of the demo's first environment.
    pub fn server_key(&self) -> &str {
        self.value(SERVER_KEY)
    }

    /// The client key of the demo's first environment.
    pub fn client_key(&self) -> &str {
        self.value(CLIENT_KEY)
    }

    /// The administrator's password.
    pub fn password(&self) -> &str {
        self.value(PASSWORD)
    }

    /// Writes the file, complete or not at all.
    pub fn save(&mut self, endpoint: &str) -> io::Result<()> {
        let fixed = [
            ("HALYARD_ENDPOINT", endpoint),
            ("HALYARD_PROJECT", super::demo::PROJECT),
            ("HALYARD_ENVIRONMENT", super::demo::ENVIRONMENT),
            ("HALYARD_EMAIL", super::demo::EMAIL),
        ];
        for (name, value) in fixed {
            self.values.insert(name.into(), value.into());
        }
        let mut text =
            String::from("# Made by `halyard dev`: what its commands need, and its secrets. Read it with: . dev.env\n");
        for (name, value) in &self.values {
            // Only the server needs what it signs with.
            let export = if name == SIGNING_KEY { "" } else { "export " };
            writeln!(text, "{export}{name}='{value}'").map_err(io::Error::other)?;
        }
        if let Some(folder) = std::env::current_exe()?.parent() {
            writeln!(text, "PATH={}:\"$PATH\"", super::quoted(folder)).map_err(io::Error::other)?;
        }
        let unfinished = self.path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)
    }

    fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// A value of 256 random bits that stays the same from then on.
    fn random(&mut self, name: &str) -> Result<String, crate::auth::Error> {
        if self.value(name).is_empty() {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)?;
            self.values.insert(name.into(), hex::encode(bytes));
        }
        Ok(self.value(name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_the_next_time_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Keepsake::open(folder.path()).unwrap();
        assert!(!first.has_keys());
        let password = first.make_password().unwrap();
        first.signing_key().unwrap();
        first.set_keys("server".into(), "client".into());
        first.save("http://127.0.0.1:1").unwrap();

        let mut second = Keepsake::open(folder.path()).unwrap();
        assert_eq!((second.server_key(), second.client_key()), ("server", "client"));
        assert_eq!(second.make_password().unwrap(), password);
        assert_eq!(second.value(SIGNING_KEY), first.value(SIGNING_KEY));
        assert_eq!(second.value("PATH"), "");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(second.path()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
