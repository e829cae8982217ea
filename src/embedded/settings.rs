//! How the server is configured: a small footprint, no network, and one user.
//!
//! Settings go on the command line and the access rules into files beside PostgreSQL's folder, so that every
//! start decides them anew and nothing in PostgreSQL's folder is ever edited.
//!
//! **Who may enter.** The kernel tells the server who is at the other end of the socket (`peer`), and a map of one
//! line admits the user Halyard runs as, root or not. So there is no password: none to keep, leak or print with the
//! URL. Nobody else gets that far, since the socket's folder is 0700; and neither lock depends on the other.
//! (The account PostgreSQL itself runs as, and root, own the data and need no login to read it.)

use std::{ffi::OsString, path::Path};

use super::{
    Durability, Error, Options,
    folders::{Folders, PORT, replace_file},
};

/// The role Halyard is in its own server.
pub(super) const ROLE: &str = "halyard";

/// The database Halyard uses.
pub(super) const DATABASE: &str = "halyard";

/// For every durability; what the options say comes later and wins.
const COMMON: [(&str, &str); 11] = [
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_checkpoints", "off"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
    ("jit", "off"),
    ("min_wal_size", "32MB"),
    ("max_parallel_workers_per_gather", "0"),
];

const DURABLE: [(&str, &str); 4] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
];

/// Commits still wait for their write, only not for the disk: a killed server loses none, a power cut might.
const VOLATILE: [(&str, &str); 5] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("shared_buffers", "64MB"),
];

/// The server's whole command line.
pub(super) fn arguments(options: &Options, folders: &Folders, socket_folder: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), folders.pgdata().into()];
    let mut set = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        arguments.extend(["-c".into(), setting]);
    };
    let by_durability: &[(&str, &str)] = match options.durability {
        Durability::Durable => &DURABLE,
        Durability::Volatile => &VOLATILE,
    };
    for (name, value) in COMMON.iter().chain(by_durability) {
        set(name, value);
    }
    set("port", &PORT.to_string());
    set("max_connections", &options.max_connections.to_string());
    for (name, value) in &options.settings {
        set(name, value);
    }
    // Last, since nothing works without them.
    set("unix_socket_directories", &socket_folder);
    set("hba_file", &folders.host_based_access());
    set("ident_file", &folders.user_names());
    arguments
}

/// Writes who may enter: the system user `owner`, over the socket, as [`ROLE`].
pub(super) fn write_access_rules(folders: &Folders, owner: &str) -> Result<(), Error> {
    let owner = owner.replace('"', "\"\"");
    replace_file(
        &folders.host_based_access(),
        0o644,
        "# Written by Halyard at every start.\n\
         local all         all peer map=halyard\n\
         local replication all peer map=halyard\n",
    )?;
    replace_file(
        &folders.user_names(),
        0o644,
        &format!("# Written by Halyard at every start.\nhalyard \"{owner}\" {ROLE}\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_line(options: &Options) -> Vec<String> {
        let folders = Folders {
            data_dir: "/data".into(),
        };
        arguments(options, &folders, Path::new("/data/run"))
            .into_iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn only_a_volatile_server_skips_fsync() {
        let durable = Options::new("/data");
        assert!(command_line(&durable).contains(&"fsync=on".to_owned()));
        let volatile = Options {
            durability: Durability::Volatile,
            ..durable
        };
        assert!(command_line(&volatile).contains(&"fsync=off".to_owned()));
    }

    #[test]
    fn settings_of_the_caller_come_after_ours() {
        let settings = vec![("shared_buffers".to_owned(), "1GB".to_owned())];
        let line = command_line(&Options {
            settings,
            ..Options::new("/data")
        });
        let last = line.iter().rfind(|argument| argument.starts_with("shared_buffers="));
        assert_eq!(last.map(String::as_str), Some("shared_buffers=1GB"));
    }
}
