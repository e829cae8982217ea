//! What is left when somebody dies: the owner, the server, or `initdb`.

use std::fs;

use halyard::embedded::{Cluster, Options};
use rustix::process::Signal;

use crate::support::{
    Other, ask, connect, eventually, eventually_async, execute, kill, open_folder, processes_below, volatile,
};

#[tokio::test]
async fn a_killed_owner_takes_the_server_along() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let mut other = Other::play("hold", &data_dir.to_string_lossy());
    let url = other.says();
    let client = connect(&url).await.unwrap();
    client
        .batch_execute("create table kept (word text); insert into kept values ('yes')")
        .await
        .unwrap();
    assert!(!processes_below(&data_dir).is_empty());
    other.signal(Signal::KILL);
    other.ends();
    eventually("no server process is left", || processes_below(&data_dir).is_empty());

    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    assert_eq!(ask(&cluster, "select word from kept").await, "yes");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_owner_need_not_wait_for_the_killed_ones_server() {
    let folder = open_folder();
    let mut other = Other::play("hold", &folder.path().join("data").to_string_lossy());
    other.says();
    other.signal(Signal::KILL);
    other.ends();
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn an_owner_that_is_told_to_end_stops_the_server_in_order() {
    for part in ["hold", "leave"] {
        let folder = open_folder();
        let data_dir = folder.path().join("data");
        let mut other = Other::play(part, &data_dir.to_string_lossy());
        other.says();
        other.signal(Signal::TERM);
        assert!(other.ends().success());
        eventually("no server process is left", || processes_below(&data_dir).is_empty());
        if part == "hold" {
            assert!(!data_dir.join("pgdata/postmaster.pid").exists());
        }
    }
}

#[tokio::test]
async fn an_interrupted_initdb_is_begun_again() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let unfinished = || {
        fs::read_dir(&data_dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("pgdata.new-"))
    };
    let other = Other::play("hold", &data_dir.to_string_lossy());
    eventually("initdb is at work", || {
        unfinished().is_some_and(|path| path.join("PG_VERSION").exists())
    });
    other.signal(Signal::KILL);
    other.ends();
    assert!(!data_dir.join("pgdata").exists());
    assert!(unfinished().is_some());

    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    assert_eq!(unfinished(), None);
    assert_eq!(ask(&cluster, "select 'fine'").await, "fine");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_comes_back_at_the_same_address() {
    let folder = open_folder();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    let url = cluster.url();
    execute(
        &cluster,
        "create table kept (word text); insert into kept values ('yes')",
    )
    .await;
    let client = connect(&url).await.unwrap();
    kill(cluster.pid().unwrap(), Signal::KILL);
    let status = cluster.exited().await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(cluster.pid(), None);
    // Its other processes notice a moment later that it has died.
    eventually_async("the connection ends", async || {
        client.simple_query("select 1").await.is_err()
    })
    .await;

    cluster.restart().await.unwrap();
    assert_eq!(cluster.url(), url);
    assert_eq!(ask(&cluster, "select word from kept").await, "yes");
    let before = cluster.pid();
    cluster.restart().await.unwrap();
    assert_ne!(cluster.pid(), before);

    kill(cluster.pid().unwrap(), Signal::KILL);
    cluster.exited().await.unwrap();
    drop(cluster);
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_server_to_be_kept_up_comes_back_by_itself() {
    let folder = open_folder();
    let cluster = Cluster::start(Options {
        restart_on_crash: true,
        ..volatile(&folder)
    })
    .await
    .unwrap();
    for _ in 0..2 {
        let killed = cluster.pid().unwrap();
        kill(killed, Signal::KILL);
        eventually_async("it answers again", || async {
            cluster.pid() != Some(killed) && connect(&cluster.url()).await.is_ok()
        })
        .await;
    }
    cluster.stop().await.unwrap();
    assert!(processes_below(folder.path()).is_empty());
}

#[tokio::test]
async fn a_server_without_an_owner_is_stopped() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
    // An owner that lost its lock is none, as far as the next one can see.
    let mut other = Other::play("hold", &data_dir.to_string_lossy());
    other.says();
    fs::remove_file(data_dir.join("lock")).unwrap();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    assert_eq!(ask(&cluster, "select 'fine'").await, "fine");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn lock_files_that_name_a_stranger_are_seen_through() {
    let folder = open_folder();
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
    let stranger = Other::play("hold", &folder.path().join("stranger").to_string_lossy());
    let claim = format!("{}\n", stranger.pid());
    fs::write(folder.path().join("data/pgdata/postmaster.pid"), &claim).unwrap();
    fs::write(folder.path().join("data/run/.s.PGSQL.5432.lock"), &claim).unwrap();
    Cluster::start(volatile(&folder)).await.unwrap().stop().await.unwrap();
}
