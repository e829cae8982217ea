//! The state file: replaced as a whole, or not at all.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::held::Held;
use super::layout::{self, Content, Unusable};

const TEMPORARY: &str = ".tmp";

/// Of whom a state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where the upstream is.
    pub endpoint: String,
    /// The id of the key that it was fetched with; not the secret, which may be rotated.
    pub key_id: String,
}

/// The file that a state is kept in.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    origin: Origin,
    /// Held for as long as this process is the one that writes. `None`: another one is.
    lock: Option<File>,
    /// What was written or read last: the file, where its note begins, and what the note is summed with.
    noted: Option<(File, u64, [u8; 32])>,
}

/// A state that was kept.
#[derive(Debug)]
pub struct Kept {
    /// The state.
    pub held: Arc<Held>,
    /// When it was last known to be the newest, by this machine's clock.
    pub confirmed_at: Option<jiff::Timestamp>,
}

impl StateFile {
    /// Opens it, and gives what was kept there for this origin. What cannot be used is reported, and set aside if it is damaged;
    /// only a place where nothing can be kept is an error.
    pub fn open(path: PathBuf, origin: Origin) -> io::Result<(Self, Option<Kept>)> {
        if let Some(folder) = folder(&path) {
            fs::create_dir_all(folder)?;
        }
        let mut file = Self {
            path,
            origin,
            lock: None,
            noted: None,
        };
        // Better now than when it matters.
        let (_, temporary) = file.temporary()?;
        fs::remove_file(temporary)?;
        if file.lock()? {
            file.remove_leftovers();
        } else {
            tracing::warn!(path = %file.path.display(), "another process keeps its state there; reading it, and writing when that one ends");
        }
        let bytes = match fs::read(&file.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((file, None)),
            Err(error) => return Err(error),
        };
        let kept = match layout::read(&bytes.into()) {
            Ok(content) => file.check_origin(content),
            Err(unusable) => {
                file.set_aside(unusable);
                None
            }
        };
        Ok((file, kept))
    }

    /// Replaces the file, so that it is whole at every moment, also of a power cut. Of two processes with the same file the first writes.
    pub fn save(&mut self, held: &Held, confirmed_at: Option<jiff::Timestamp>) -> io::Result<()> {
        let content = layout::write(&self.origin, held);
        let note = layout::note(&content, confirmed_at);
        if !self.lock()? {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process keeps its state there",
            ));
        }
        let (mut file, temporary) = self.temporary()?;
        let written = (|| {
            file.write_all(&content)?;
            file.write_all(&note)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        })();
        if let Err(error) = written {
            // On a full disk it would be in the way of the next.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        if let Some(folder) = folder(&self.path) {
            File::open(folder)?.sync_all()?;
        }
        let sum = content.last_chunk().copied().unwrap_or_default();
        self.noted = Some((file, content.len() as u64, sum));
        Ok(())
    }

    /// Notes in the file that was saved last that its state is still the newest.
    pub fn note(&self, confirmed_at: jiff::Timestamp) -> io::Result<()> {
        match &self.noted {
            Some((file, at, sum)) => file.write_all_at(&layout::note_of(sum, Some(confirmed_at)), *at),
            None => Ok(()),
        }
    }

    fn check_origin(&self, content: Content) -> Option<Kept> {
        let Content {
            origin,
            held,
            confirmed_at,
        } = content;
        if origin != self.origin {
            tracing::warn!(
                path = %self.path.display(),
                endpoint = origin.endpoint,
                key = origin.key_id,
                "the state file is of another upstream or another key; it is not used, and will be replaced"
            );
            return None;
        }
        Some(Kept {
            held: Arc::new(held),
            confirmed_at,
        })
    }

    /// Keeps what cannot be used for whoever wants to look at it, but out of the way.
    fn set_aside(&self, unusable: Unusable) {
        let aside = with_suffix(&self.path, ".damaged");
        let moved = fs::rename(&self.path, &aside);
        tracing::error!(
            error = &unusable as &dyn std::error::Error,
            path = %self.path.display(),
            set_aside = %aside.display(),
            moved = moved.is_ok(),
            "what was kept on disk cannot be used; waiting for the upstream"
        );
    }

    /// A new file beside the real one, and its path. Never one that somebody else has put there.
    fn temporary(&self) -> io::Result<(File, PathBuf)> {
        let path = with_suffix(&self.path, &format!(".{:016x}{TEMPORARY}", fastrand::u64(..)));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Ok((options.open(&path)?, path))
    }

    /// Makes this process the one that writes. Says whether it is.
    fn lock(&mut self) -> io::Result<bool> {
        if self.lock.is_some() {
            return Ok(true);
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(with_suffix(&self.path, ".lock"))?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        Ok(self.lock.is_some())
    }

    /// Removes what processes left behind that died while they wrote. Only for whoever has the lock.
    fn remove_leftovers(&self) {
        let Some(name) = self.path.file_name() else { return };
        let folder = folder(&self.path).unwrap_or(Path::new("."));
        let is_leftover = |other: &OsStr| {
            let middle = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
            let middle = middle.and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(TEMPORARY.as_bytes()));
            middle.is_some_and(|middle| middle.len() == 16 && middle.iter().all(u8::is_ascii_hexdigit))
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for leftover in entries.filter(|entry| is_leftover(&entry.file_name())) {
            let _ = fs::remove_file(leftover.path());
        }
    }
}

fn folder(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::upstream::step::tests::state;

    fn origin() -> Origin {
        Origin {
            endpoint: "http://127.0.0.1:1/".to_owned(),
            key_id: "a5".to_owned(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn at(millisecond: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(millisecond).unwrap()
    }

    #[test]
    fn a_state_is_kept_and_noted_to_be_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/state");
        let (mut file, kept) = StateFile::open(path.clone(), origin()).unwrap();
        assert!(kept.is_none());
        for revisions in [2, 4] {
            let held = state(revisions);
            file.save(&held, Some(at(1))).unwrap();
            file.note(at(2)).unwrap();
            let (_second, kept) = StateFile::open(path.clone(), origin()).unwrap();
            let kept = kept.unwrap();
            assert_eq!(kept.held.position, held.position);
            assert_eq!(kept.confirmed_at, Some(at(2)));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(path.parent().unwrap()), ["state", "state.lock"]);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "HALYARD STATE\nof damage").unwrap();
        let (_, kept) = StateFile::open(path.clone(), origin()).unwrap();
        assert!(kept.is_none() && !path.exists());
        assert!(
            fs::read_to_string(folder.path().join("state.damaged"))
                .unwrap()
                .ends_with("damage")
        );
    }

    #[test]
    fn the_state_of_another_upstream_or_key_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut file, _) = StateFile::open(path.clone(), origin()).unwrap();
        file.save(&state(1), None).unwrap();
        for other in [
            Origin {
                endpoint: "http://127.0.0.1:2/".to_owned(),
                ..origin()
            },
            Origin {
                key_id: "b6".to_owned(),
                ..origin()
            },
        ] {
            assert!(StateFile::open(path.clone(), other).unwrap().1.is_none());
        }
        assert!(StateFile::open(path, origin()).unwrap().1.is_some());
    }

    #[test]
    fn a_place_where_nothing_can_be_kept_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(StateFile::open(folder.path().join("file/state"), origin()).is_err());
    }

    #[test]
    fn of_two_with_one_file_the_first_writes_and_then_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut first, _) = StateFile::open(path.clone(), origin()).unwrap();
        let (mut second, _) = StateFile::open(path.clone(), origin()).unwrap();
        first.save(&state(1), None).unwrap();
        let refused = second.save(&state(2), None).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        second.save(&state(3), None).unwrap();
        let (_, kept) = StateFile::open(path, origin()).unwrap();
        assert_eq!(kept.unwrap().held.position, state(3).position);
    }

    #[test]
    fn what_a_death_in_the_middle_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for name in [
            "state.0123456789abcdef.tmp",
            "state.tmp",
            "other.0123456789abcdef.tmp",
            "state.mine.tmp",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let (_file, _) = StateFile::open(path, origin()).unwrap();
        assert_eq!(
            names(folder.path()),
            [
                "other.0123456789abcdef.tmp",
                "state.lock",
                "state.mine.tmp",
                "state.tmp"
            ]
        );
    }
}
