//! Whom the server runs as, and who may enter.

use halyard::embedded::Cluster;

use crate::support::{NOBODY, Other, is_root, open_folder, owner, process_status, volatile};

#[tokio::test]
async fn root_hands_the_server_to_an_unprivileged_user() {
    if !is_root() {
        return;
    }
    let folder = open_folder();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    let pid = cluster.pid().unwrap();
    let uids = process_status(pid, "Uid");
    assert!(uids.iter().all(|uid| *uid != "0" && *uid == uids[0]), "{uids:?}");
    let gids = process_status(pid, "Gid");
    assert!(gids.iter().all(|gid| *gid != "0" && *gid == gids[0]), "{gids:?}");
    assert!(process_status(pid, "Groups").is_empty());
    assert_eq!(process_status(pid, "CapEff"), ["0000000000000000"]);
    assert_eq!(owner(&cluster.data_dir().join("pgdata")).to_string(), uids[0]);
    assert_eq!(owner(&cluster.data_dir().join("lock")), 0);
    assert_eq!(owner(&cluster.data_dir().join("pg_hba.conf")), 0);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_else_may_enter() {
    let folder = open_folder();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    assert_eq!(Other::play("connect", &cluster.url()).says(), "connected");
    if is_root() {
        assert_eq!(
            Other::play_as(NOBODY, "connect", &cluster.url()).says(),
            "no connection"
        );
        // Even whom the folder lets in is asked for who they are.
        let server = owner(&cluster.data_dir().join("pgdata"));
        assert_eq!(Other::play_as(server, "connect", &cluster.url()).says(), "28000");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_restored_by_another_user_is_taken_over_by_root() {
    if !is_root() {
        return;
    }
    let folder = open_folder();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    let pgdata = cluster.data_dir().join("pgdata");
    cluster.stop().await.unwrap();
    let restored = std::process::Command::new("chown")
        .arg("-R")
        .arg("0:0")
        .arg(&pgdata)
        .status()
        .unwrap();
    assert!(restored.success());
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
    assert_ne!(owner(&pgdata.join("base")), 0);
}
