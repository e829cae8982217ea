//! Making PostgreSQL's data folder, once.
//!
//! It is made under another name and renamed when whole, so that a folder of the right name is a whole one,
//! whenever and however the making was interrupted.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    Durability, Error, Options,
    binaries::Binaries,
    folders::Folders,
    log::Log,
    privileges::{Account, give},
    settings::ROLE,
    supervise::{self, Farewell},
};

/// What the name of a folder in the making begins with.
const UNFINISHED: &str = "pgdata.new-";

/// How long the programs of an interrupted attempt may take to notice.
const LEFTOVERS_LIMIT: Duration = Duration::from_secs(10);

/// The major version that made the data folder; `None` when there is none yet.
pub(super) fn made_by(pgdata: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(pgdata.join("PG_VERSION")) {
        Ok(version) => Ok(Some(version.trim().to_owned())),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("read", pgdata)(error)),
        Err(_) if pgdata.exists() => Err(Error::Damaged {
            folder: pgdata.to_owned(),
        }),
        Err(_) => Ok(None),
    }
}

/// Makes the data folder.
pub(super) fn initialise(
    options: &Options,
    folders: &Folders,
    binaries: &Binaries,
    account: Option<&Account>,
    log: &Log,
) -> Result<(), Error> {
    remove_unfinished(&folders.data_dir)?;
    // A new name each time, so that nothing an interrupted attempt left running finds the new folder.
    let name = format!("{UNFINISHED}{}", uuid::Uuid::new_v4().simple());
    let unfinished = folders.data_dir.join(name);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(Error::file("make", &unfinished))?;
    give(&unfinished, account)?;
    run_initdb(options, &unfinished, binaries, account, log)?;
    let pgdata = folders.pgdata();
    fs::rename(&unfinished, &pgdata).map_err(Error::file("make", &pgdata))?;
    sync(&folders.data_dir).map_err(Error::file("write", &folders.data_dir))
}

fn run_initdb(
    options: &Options,
    folder: &Path,
    binaries: &Binaries,
    account: Option<&Account>,
    log: &Log,
) -> Result<(), Error> {
    let program = binaries.initdb();
    let output = || log.append().map_err(Error::file("write", &log.path));
    let mut command = supervise::command(options.supervisor.as_deref(), account, Farewell::Kill, &program);
    command
        .arg("-D")
        .arg(folder)
        .args(["--username", ROLE, "--encoding=UTF8", "--locale=C"]);
    // These rules are never used, see `settings`; but nothing is left open should anybody start it by hand.
    command.args(["--auth-local=peer", "--auth-host=reject"]);
    command.args(["--data-checksums", "--no-instructions"]);
    match options.durability {
        Durability::Durable => {}
        Durability::Volatile => {
            command.arg("--no-sync");
        }
    }
    command.stdout(output()?).stderr(output()?);
    let supervisor = || supervise::supervisor_path(options.supervisor.as_deref());
    match command.status() {
        Ok(status) if !status.success() => {
            let (log, tail) = (log.path.clone(), log.tail());
            Err(Error::Initdb { status, log, tail })
        }
        Ok(_) if folder.join("PG_VERSION").exists() => Ok(()),
        // A test binary, say, which takes the hidden arguments for the names of tests.
        Ok(_) => Err(Error::Supervisor { program: supervisor() }),
        Err(source) => Err(Error::Launch {
            program: supervisor(),
            source: source.into(),
        }),
    }
}

/// Removes what interrupted attempts left.
fn remove_unfinished(data_dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(data_dir).map_err(Error::file("read", data_dir))?.flatten() {
        if entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes()) {
            tracing::warn!(folder = %entry.path().display(), "removing a database whose making was interrupted");
            remove(&entry.path()).map_err(Error::file("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Programs of an attempt that was killed a moment ago may still be writing there.
fn remove(folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + LEFTOVERS_LIMIT;
    loop {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes a rename last.
fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
