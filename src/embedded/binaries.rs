//! Finding PostgreSQL's programs on this machine: where distributions, vendors and package managers put them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Error,
    privileges::{Account, as_account},
};

/// The oldest major version Halyard works with.
pub(super) const OLDEST_MAJOR: u32 = 14;

/// Versioned folders: what comes before the version, and after it.
const VERSIONED: [(&str, &str); 8] = [
    ("/usr/lib/postgresql/", "bin"),                          // Debian, Ubuntu
    ("/usr/pgsql-", "bin"),                                   // PostgreSQL's own RPMs
    ("/usr/lib/postgresql", "bin"),                           // openSUSE
    ("/usr/libexec/postgresql", ""),                          // Alpine
    ("/opt/homebrew/opt/postgresql@", "bin"),                 // Homebrew on Apple silicon
    ("/usr/local/opt/postgresql@", "bin"),                    // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt/postgresql@", "bin"),    // Homebrew on Linux
    ("/Applications/Postgres.app/Contents/Versions/", "bin"), // Postgres.app
];

/// A folder with `initdb` and `postgres` of one major version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Binaries {
    pub folder: PathBuf,
    pub major: u32,
}

impl Binaries {
    /// The programs to use: those in `named`, else the first found on the machine. When a data folder exists
    /// already (`data_folder`, with the version that made it), they must be of that very major version.
    pub fn find(
        named: Option<&Path>,
        data_folder: Option<(&Path, &str)>,
        account: Option<&Account>,
    ) -> Result<Self, Error> {
        let folders = match named {
            Some(folder) if holds_server(folder) => vec![folder.to_owned()],
            Some(folder) => {
                return Err(Error::BinariesFolder {
                    folder: folder.to_owned(),
                });
            }
            None => candidates(),
        };
        let mut found = Vec::new();
        let mut failure = None;
        for folder in folders {
            match major_version(&folder, account) {
                Ok(major) => found.push(Self { folder, major }),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if found.is_empty() {
            return Err(failure.unwrap_or(Error::NoBinaries));
        }
        choose(found, data_folder)
    }

    /// The server.
    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// The program that makes a data folder.
    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }
}

fn choose(found: Vec<Binaries>, data_folder: Option<(&Path, &str)>) -> Result<Binaries, Error> {
    let newest = found.iter().map(|binaries| binaries.major).max().unwrap_or_default();
    let first = found.first().cloned();
    let mut usable = found.into_iter().filter(|binaries| binaries.major >= OLDEST_MAJOR);
    let chosen = match data_folder {
        Some((_, made_by)) => usable.find(|binaries| binaries.major.to_string() == made_by),
        None => usable.next(),
    };
    match (chosen, first, data_folder) {
        (Some(binaries), _, _) => Ok(binaries),
        (None, _, Some((folder, made_by))) if newest >= OLDEST_MAJOR => Err(Error::OtherMajor {
            folder: folder.to_owned(),
            made_by: made_by.to_owned(),
            available: newest,
        }),
        (None, Some(first), _) => Err(Error::TooOld {
            major: first.major,
            folder: first.folder,
        }),
        (None, None, _) => Err(Error::NoBinaries),
    }
}

/// Every folder that holds a server, the one to prefer first, none twice.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let path = env::var_os("PATH").unwrap_or_default();
    let all = pg_config_bindir()
        .into_iter()
        .chain(VERSIONED.iter().flat_map(|(before, after)| versioned(before, after)))
        .chain(env::split_paths(&path));
    for folder in all.filter(|folder| folder.is_absolute() && holds_server(folder)) {
        let folder = fs::canonicalize(&folder).unwrap_or(folder);
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// `pg_config` also comes with the client library alone, so its answer is only a candidate.
fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !folder.is_empty()).then(|| folder.into())
}

/// The folders `<before><version>/<after>`, the newest version first.
fn versioned(before: &str, after: &str) -> Vec<PathBuf> {
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = leading_number(name.to_str()?.strip_prefix(prefix)?)?;
            Some((version, entry.path().join(after)))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

fn holds_server(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

/// Asked as the user who will run the server, so that programs closed to that user are found out here.
fn major_version(folder: &Path, account: Option<&Account>) -> Result<u32, Error> {
    let program = folder.join("postgres");
    let output = as_account(&mut Command::new(&program), account)
        .arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(Error::run(&program))?;
    parse_version(&String::from_utf8_lossy(&output.stdout)).ok_or(Error::Failed {
        program,
        arguments: "--version",
        status: output.status,
    })
}

/// `postgres (PostgreSQL) 17.2 (Debian 17.2-1)` is 17, and so are `17beta1` and `17devel`.
fn parse_version(line: &str) -> Option<u32> {
    leading_number(line.split_once("(PostgreSQL) ")?.1)
}

fn leading_number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_postgres_writes_them() {
        for (line, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("", None),
            ("postgres (PostgreSQL) x", None),
        ] {
            assert_eq!(parse_version(line), major, "{line}");
        }
    }

    fn found(majors: &[u32]) -> Vec<Binaries> {
        majors
            .iter()
            .map(|&major| Binaries {
                folder: PathBuf::from(format!("/{major}")),
                major,
            })
            .collect()
    }

    #[test]
    fn the_first_usable_version_is_chosen_and_an_existing_folder_chooses_its_own() {
        let folder = Path::new("/data/pgdata");
        assert_eq!(choose(found(&[13, 17, 16]), None).unwrap().major, 17);
        assert_eq!(choose(found(&[17, 16, 15]), Some((folder, "15"))).unwrap().major, 15);
        assert!(matches!(
            choose(found(&[16, 17]), Some((folder, "15"))),
            Err(Error::OtherMajor { made_by, available: 17, .. }) if made_by == "15"
        ));
        assert!(matches!(
            choose(found(&[13, 12]), None),
            Err(Error::TooOld { major: 13, .. })
        ));
        assert!(matches!(choose(Vec::new(), None), Err(Error::NoBinaries)));
    }
}
