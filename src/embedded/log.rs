//! The server's log: PostgreSQL's standard error, appended to one file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A log of this size is put aside at the next start; the one put aside before goes.
const ROTATE_AT_BYTES: u64 = 16 << 20;

/// How much of the end of a log an error shows.
const TAIL_BYTES: u64 = 2048;

/// A log file, and where in it the current start began.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub path: PathBuf,
    began_at: u64,
}

impl Log {
    /// Opens the log of a new start.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > ROTATE_AT_BYTES) {
            fs::rename(&path, path.with_added_extension("old"))?;
        }
        let log = Self { path, began_at: 0 };
        let began_at = log.append()?.metadata()?.len();
        Ok(Self { began_at, ..log })
    }

    /// The file, for a program to write to.
    pub fn append(&self) -> io::Result<File> {
        let mut open = OpenOptions::new();
        open.append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(super::folders::NO_FOLLOW);
        open.open(&self.path)
    }

    /// The last lines since the start, for an error's message.
    pub fn tail(&self) -> String {
        read_tail(&self.path, self.began_at).unwrap_or_default()
    }
}

fn read_tail(path: &Path, began_at: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES).max(began_at);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A cut in the middle of a line costs that line.
    let whole = if from > began_at {
        text.split_once('\n').map_or("", |(_, rest)| rest)
    } else {
        &text
    };
    Ok(whole.trim_end().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_holds_whole_lines_of_this_start_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let log = Log::open(path).unwrap();
        assert_eq!(log.tail(), "");
        writeln!(log.append().unwrap(), "after").unwrap();
        assert_eq!(log.tail(), "after");
        for line in 0..1000 {
            writeln!(log.append().unwrap(), "line {line}").unwrap();
        }
        assert!(log.tail().starts_with("line "));
        assert!(log.tail().ends_with("line 999"));
    }
}
