//! One Halyard per data folder.
//!
//! The lock is the kernel's, on an open file: it goes with the process that holds it, however that ends, so there
//! is no stale lock to clean up. The file stays; its content only tells the next one whom to blame.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::Error;

/// The right to use a data folder, until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock `file` of `data_dir`, or says who has it.
    pub fn take(data_dir: &Path, file: &Path) -> Result<Self, Error> {
        let mut open = OpenOptions::new();
        open.read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(super::folders::NO_FOLLOW);
        let mut lock = open.open(file).map_err(Error::file("open", file))?;
        match lock.try_lock() {
            Ok(()) => {
                write_holder(&mut lock).map_err(Error::file("write", file))?;
                Ok(Self { _file: lock })
            }
            Err(TryLockError::WouldBlock) => Err(Error::InUse {
                folder: data_dir.to_owned(),
                holder: read_holder(&mut lock),
            }),
            Err(TryLockError::Error(source)) => Err(Error::file("lock", file)(source)),
        }
    }
}

fn write_holder(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn read_holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        let first = Lock::take(folder.path(), &file).unwrap();
        let refused = Lock::take(folder.path(), &file).unwrap_err();
        assert!(matches!(refused, Error::InUse { holder: Some(pid), .. } if pid == std::process::id()));
        drop(first);
        Lock::take(folder.path(), &file).unwrap();
    }
}
