//! What lies where in the data folder, and the folder of the socket.
//!
//! ```text
//! <data folder>/      Halyard's; as root 0711, so that PostgreSQL's user may pass through but not write
//!   lock              held by the Halyard that runs, see `lock`
//!   pgdata/           PostgreSQL's own folder, owned by whom it runs as
//!   pgdata.new-*/     one being made, or the rest of an interrupted attempt, see `initialise`
//!   pg_hba.conf       who may connect, written anew at every start (and pg_ident.conf), see `settings`
//!   postgres.log      the server's log
//!   run/              the socket's folder, 0700 ...
//!   socket-folder     ... or where it is instead, when `run/` has too long a path for a socket
//! ```

use std::{
    env, fs,
    io::{ErrorKind, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use super::{
    Error,
    privileges::{Account, give},
};

/// The port only names the socket's file.
pub(super) const PORT: u16 = 5432;

/// The shortest `sun_path` among the systems we run on is macOS's 104 bytes, with the final zero.
const LONGEST_SOCKET_PATH_BYTES: usize = 103;

/// For everything root opens in a folder that might not always have been root's.
pub(super) const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// The files of one data folder.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    pub data_dir: PathBuf,
}

impl Folders {
    /// Makes or opens the data folder, such that `account` may pass through it.
    pub fn open(data_dir: &Path, account: Option<&Account>) -> Result<Self, Error> {
        make_folder(data_dir, account)?;
        let data_dir = fs::canonicalize(data_dir).map_err(Error::file("open", data_dir))?;
        let folders = Self { data_dir };
        if let Some(account) = account {
            folders.let_through(account)?;
        }
        Ok(folders)
    }

    pub fn lock(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    pub fn pgdata(&self) -> PathBuf {
        self.data_dir.join("pgdata")
    }

    pub fn host_based_access(&self) -> PathBuf {
        self.data_dir.join("pg_hba.conf")
    }

    pub fn user_names(&self) -> PathBuf {
        self.data_dir.join("pg_ident.conf")
    }

    pub fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    /// A folder that is ours may be opened up a little; one that holds other things, or one above, may not.
    fn let_through(&self, account: &Account) -> Result<(), Error> {
        let Some(shut) = account.shut_out_of(&self.data_dir)? else {
            return Ok(());
        };
        if shut == self.data_dir && self.is_ours()? {
            let mode = fs::metadata(&shut)
                .map_err(Error::file("look at", &shut))?
                .permissions()
                .mode();
            fs::set_permissions(&shut, fs::Permissions::from_mode(mode | 0o011))
                .map_err(Error::file("change the mode of", &shut))?;
            return Ok(());
        }
        Err(Error::Unreachable {
            folder: shut,
            user: account.name.clone(),
        })
    }

    fn is_ours(&self) -> Result<bool, Error> {
        let mut entries = fs::read_dir(&self.data_dir).map_err(Error::file("read", &self.data_dir))?;
        Ok(self.lock().exists() || entries.next().is_none())
    }
}

fn make_folder(data_dir: &Path, account: Option<&Account>) -> Result<(), Error> {
    if let Some(parent) = data_dir.parent() {
        fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
    }
    let mode = if account.is_some() { 0o711 } else { 0o700 };
    match fs::DirBuilder::new().mode(mode).create(data_dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::file("make", data_dir)(error)),
        _ => Ok(()),
    }
}

/// The 0700 folder of the server's socket. A folder outside the data folder is removed on drop.
#[derive(Debug)]
pub(super) struct SocketFolder {
    pub path: PathBuf,
    outside: bool,
}

impl SocketFolder {
    /// `run/` in the data folder or, where that cannot name a socket, a folder of random name in the user's
    /// runtime folder or `/tmp`. That one is remembered, so that the address stays the same from one start to
    /// the next, and so that what a killed Halyard left behind is used again instead of piling up.
    pub fn open(folders: &Folders, account: Option<&Account>) -> Result<Self, Error> {
        let inside = folders.data_dir.join("run");
        if fits(&inside) {
            make_private(&inside, account)?;
            return Ok(Self {
                path: inside,
                outside: false,
            });
        }
        let note = folders.data_dir.join("socket-folder");
        if let Ok(remembered) = fs::read_to_string(&note) {
            let path = PathBuf::from(remembered.trim_end());
            if is_ours_outside(&path) && make_private(&path, account).is_ok() {
                return Ok(Self { path, outside: true });
            }
        }
        let path = outside_base(account).join(outside_name());
        make_private(&path, account)?;
        replace_file(&note, 0o600, &path.display().to_string())?;
        Ok(Self { path, outside: true })
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if self.outside
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %error, "the socket's folder could not be removed");
        }
    }
}

/// Whether a socket can live there, and be named in a URL and in PostgreSQL's list of folders without quoting.
fn fits(folder: &Path) -> bool {
    let bytes = folder.as_os_str().as_bytes();
    let file_name = format!("/.s.PGSQL.{PORT}");
    bytes.len() + file_name.len() <= LONGEST_SOCKET_PATH_BYTES
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

fn outside_base(account: Option<&Account>) -> PathBuf {
    env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| account.is_none() && folder.is_absolute() && folder.is_dir())
        .filter(|folder| fits(&folder.join(outside_name())))
        .unwrap_or_else(|| "/tmp".into())
}

/// Not to be guessed: in `/tmp` anybody could take a known name before us.
fn outside_name() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("halyard-{}", &random[..16])
}

/// A note from our own folder is trusted only so far as to name a folder of our kind.
fn is_ours_outside(path: &Path) -> bool {
    let named_by_us = path
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"halyard-"));
    path.is_absolute() && named_by_us && fits(path)
}

/// A folder for `account` (or ourselves) alone. One that exists is taken only if it is theirs or ours already.
fn make_private(path: &Path, account: Option<&Account>) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return give(path, account),
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::file("make", path)(error));
        }
        Err(_) => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(Error::file("look at", path))?;
    let ourselves = rustix::process::geteuid().as_raw();
    let owner = account.map_or(ourselves, |account| account.uid);
    if !metadata.is_dir() || ![owner, ourselves].contains(&metadata.uid()) {
        return Err(Error::file("use", path)(ErrorKind::AlreadyExists.into()));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Error::file("change the mode of", path))?;
    if metadata.uid() == owner {
        Ok(())
    } else {
        give(path, account)
    }
}

/// Writes a file anew, never through a link that lies in its place.
pub(super) fn replace_file(path: &Path, mode: u32, content: &str) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::file("replace", path)(error));
        }
        _ => {}
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            // The mode given to `open` is cut by the umask; PostgreSQL's user has to read some of these.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content.as_bytes())
        })
        .map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_and_plain_folders_hold_a_socket() {
        assert!(fits(Path::new("/var/lib/halyard/run")));
        assert!(!fits(Path::new("/home/ada lovelace/run")));
        assert!(!fits(Path::new("/a,b/run")));
        assert!(!fits(&Path::new("/").join("x".repeat(90))));
        assert!(fits(&outside_base(None).join(outside_name())));
    }

    #[test]
    fn a_note_naming_a_foreign_folder_is_ignored() {
        assert!(is_ours_outside(Path::new("/tmp/halyard-0123456789abcdef")));
        assert!(!is_ours_outside(Path::new("/etc")));
        assert!(!is_ours_outside(Path::new("halyard-x")));
    }
}
