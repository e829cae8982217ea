//! Starts that are refused, and whether the message helps.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use halyard::embedded::{Cluster, Error, Options};
use rustix::process::Signal;

use crate::support::{Other, is_root, open_folder, volatile};

#[tokio::test]
async fn a_second_instance_is_refused_and_told_of_the_first() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let mut other = Other::play("hold", &data_dir.to_string_lossy());
    other.says();
    let refused = Cluster::start(volatile(&folder)).await.unwrap_err();
    assert!(
        matches!(&refused, Error::InUse { holder: Some(pid), .. } if *pid == other.pid()),
        "{refused}"
    );
    assert!(
        refused.to_string().contains(&format!("process {}", other.pid())),
        "{refused}"
    );
    other.signal(Signal::TERM);
    assert!(other.ends().success());
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn the_folder_of_another_major_version_is_refused() {
    let folder = open_folder();
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
    fs::write(folder.path().join("data/pgdata/PG_VERSION"), "9.6\n").unwrap();
    let refused = Cluster::start(volatile(&folder)).await.unwrap_err();
    assert!(
        matches!(&refused, Error::OtherMajor { made_by, .. } if made_by == "9.6"),
        "{refused}"
    );

    fs::remove_file(folder.path().join("data/pgdata/PG_VERSION")).unwrap();
    let refused = Cluster::start(volatile(&folder)).await.unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn missing_programs_are_named() {
    let folder = open_folder();
    let options = Options {
        binaries: Some("/nonexistent".into()),
        ..volatile(&folder)
    };
    let refused = Cluster::start(options).await.unwrap_err();
    assert!(matches!(refused, Error::BinariesFolder { .. }), "{refused}");

    // It exits happily without having done anything.
    let options = Options {
        supervisor: Some("/bin/true".into()),
        ..volatile(&folder)
    };
    let refused = Cluster::start(options).await.unwrap_err();
    assert!(matches!(refused, Error::Supervisor { .. }), "{refused}");

    let options = Options {
        supervisor: Some("/nonexistent".into()),
        ..volatile(&folder)
    };
    let refused = Cluster::start(options).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Launch { program, .. } if program == Path::new("/nonexistent")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_server_that_will_not_start_shows_its_last_words() {
    let folder = open_folder();
    let options = Options {
        settings: vec![("no_such_setting".into(), "1".into())],
        ..volatile(&folder)
    };
    let refused = Cluster::start(options).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Exited { tail, .. } if tail.contains("no_such_setting")),
        "{refused}"
    );
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_shut_folder_above_the_data_is_named() {
    if !is_root() {
        return;
    }
    let folder = open_folder();
    let shut = folder.path().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
    let options = Options {
        data_dir: shut.join("below/data"),
        ..volatile(&folder)
    };
    let refused = Cluster::start(options.clone()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unreachable { folder, .. } if *folder == shut),
        "{refused}"
    );
    fs::set_permissions(&shut, Permissions::from_mode(0o711)).unwrap();
    Cluster::start(options).await.unwrap().stop().await.unwrap();
}
