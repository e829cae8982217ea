//! The state file: replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::held::Held;
use super::layout::{self, Content, Unusable};

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
        let file = Self {
            path,
            origin,
            noted: None,
        };
        // Better now than when it matters.
        file.temporary()?;
        fs::remove_file(file.temporary_path())?;
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

    /// Replaces the file, so that it is whole at every moment, also of a power cut.
    pub fn save(&mut self, held: &Held, confirmed_at: Option<jiff::Timestamp>) -> io::Result<()> {
        let content = layout::write(&self.origin, held);
        let note = layout::note(&content, confirmed_at);
        let mut file = self.temporary()?;
        file.write_all(&content)?;
        file.write_all(&note)?;
        file.sync_all()?;
        fs::rename(self.temporary_path(), &self.path)?;
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

    fn temporary(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.temporary_path())
    }

    fn temporary_path(&self) -> PathBuf {
        with_suffix(&self.path, ".tmp")
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
            let (_, kept) = StateFile::open(path.clone(), origin()).unwrap();
            let kept = kept.unwrap();
            assert_eq!(kept.held.position, held.position);
            assert_eq!(kept.confirmed_at, Some(at(2)));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
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
}
