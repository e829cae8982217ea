//! Whom PostgreSQL runs as. It refuses root, so a Halyard started by root hands it to an unprivileged account;
//! started by anybody else, it runs as that user.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{MetadataExt, lchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Error;

/// The accounts that a server started by root may run as, the better one first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An unprivileged account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// The account PostgreSQL must run as: `None` when it may run as the user we are.
    pub fn for_server() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        for name in CANDIDATES {
            if let (Some(uid), Some(gid)) = (id(&["-u", name])?, id(&["-g", name])?)
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
                && uid != 0
            {
                return Ok(Some(Self {
                    name: name.to_owned(),
                    uid,
                    gid,
                }));
            }
        }
        Err(Error::NoAccount)
    }

    /// The outermost folder on the way to `folder` that this account may not enter.
    ///
    /// It is tried for real, since mode bits alone do not know access control lists.
    pub fn shut_out_of(&self, folder: &Path) -> Result<Option<PathBuf>, Error> {
        if self.may_enter(folder)? {
            return Ok(None);
        }
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        for step in way {
            if !self.may_enter(step)? {
                return Ok(Some(step.to_owned()));
            }
        }
        Ok(None)
    }

    fn may_enter(&self, folder: &Path) -> Result<bool, Error> {
        // The change of directory happens after the change of user.
        let mut command = Command::new("/bin/sh");
        as_account(&mut command, Some(self))
            .args(["-c", ":"])
            .current_dir(folder);
        match command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
        {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(source) => Err(Error::Run {
                program: "/bin/sh".into(),
                source,
            }),
        }
    }
}

/// Makes `command` run as `account`, if any. The standard library drops the supplementary groups too whenever
/// root changes the user of a child.
pub(super) fn as_account<'a>(command: &'a mut Command, account: Option<&Account>) -> &'a mut Command {
    if let Some(account) = account {
        command.gid(account.gid).uid(account.uid);
    }
    command
}

/// The name of the user we are, as PostgreSQL will see it at the other end of the socket.
pub(super) fn own_name() -> Result<String, Error> {
    id(&["-un"])?.ok_or_else(|| Error::NoUserName {
        uid: rustix::process::geteuid().as_raw(),
    })
}

/// Gives one file or folder to `account`, if any.
pub(super) fn give(path: &Path, account: Option<&Account>) -> Result<(), Error> {
    match account {
        Some(account) => {
            lchown(path, Some(account.uid), Some(account.gid)).map_err(Error::file("change the owner of", path))
        }
        None => Ok(()),
    }
}

/// Sees to it that `folder` and what is in it belong to whom PostgreSQL runs as: PostgreSQL insists on it.
pub(super) fn own_tree(folder: &Path, account: Option<&Account>) -> Result<(), Error> {
    let owner = fs::symlink_metadata(folder)
        .map_err(Error::file("look at", folder))?
        .uid();
    match account {
        None if owner == rustix::process::geteuid().as_raw() => Ok(()),
        None => Err(Error::Owner {
            folder: folder.to_owned(),
            owner,
        }),
        Some(account) if owner == account.uid => Ok(()),
        Some(account) => give_tree(folder, account).map_err(Error::file("change the owner of", folder)),
    }
}

/// Inside out, so that an interrupted change of owner is seen at the top and begun again.
fn give_tree(path: &Path, account: &Account) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_tree(&entry?.path(), account)?;
        }
    }
    lchown(path, Some(account.uid), Some(account.gid))
}

/// What the system's `id` says, which knows every source of accounts; `None` when there is no such account.
fn id(arguments: &[&str]) -> Result<Option<String>, Error> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(Error::run("id"))?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && !answer.is_empty()).then_some(answer))
}
