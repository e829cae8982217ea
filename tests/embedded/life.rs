//! What a server is, from the first start to the last stop.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use halyard::embedded::{Cluster, Durability, Error, Options};

use crate::support::{
    NOBODY, Other, ask, connect, eventually, eventually_async, execute, folder_of, is_root, open_folder,
    processes_below, volatile,
};

#[tokio::test]
async fn data_and_address_survive_a_stop() {
    let folder = open_folder();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    execute(
        &cluster,
        "create table kept (word text); insert into kept values ('yes')",
    )
    .await;
    let url = cluster.url();
    cluster.stop().await.unwrap();
    cluster.stop().await.unwrap();
    assert!(processes_below(folder.path()).is_empty());
    assert!(connect(&url).await.is_err());

    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    assert_eq!(cluster.url(), url);
    assert_eq!(ask(&cluster, "select word from kept").await, "yes");
    assert_eq!(
        ask(&cluster, "select current_user || '@' || current_database()").await,
        "halyard@halyard"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_durable_server_syncs_and_speaks_utf8_over_a_socket_only() {
    let folder = open_folder();
    let options = Options {
        durability: Durability::Durable,
        max_connections: 17,
        settings: vec![("work_mem".into(), "5MB".into())],
        ..volatile(&folder)
    };
    let cluster = Cluster::start(options).await.unwrap();
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("listen_addresses", ""),
        ("max_connections", "17"),
        ("work_mem", "5MB"),
    ] {
        let shown = if setting == "lc_collate" {
            ask(
                &cluster,
                "select datcollate::text from pg_database where datname = 'halyard'",
            )
            .await
        } else {
            ask(&cluster, &format!("select current_setting('{setting}')")).await
        };
        assert_eq!(shown, value, "{setting}");
    }
    let config = cluster.config();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    drop(client);
    connection.await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn psql_understands_the_url() {
    let folder = open_folder();
    let cluster = Cluster::start(volatile(&folder)).await.unwrap();
    let output = tokio::process::Command::new("psql")
        .args(["-X", "-A", "-t", "-c", "select current_user", &cluster.url()])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "halyard");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_ordinary_user_has_a_server_too() {
    let folder = folder_of(NOBODY);
    let mut other = Other::play_as(NOBODY, "use", &folder.path().join("data").to_string_lossy());
    assert_eq!(other.says(), "yes");
    let uid = if is_root() {
        NOBODY
    } else {
        rustix::process::geteuid().as_raw()
    };
    assert_eq!(other.says(), uid.to_string());
    assert!(other.ends().success());
}

#[tokio::test]
async fn a_dropped_cluster_stops_and_lets_go_of_its_folder() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    drop(Cluster::start(volatile(&folder)).await.unwrap());
    eventually("no server process is left", || processes_below(&data_dir).is_empty());
    eventually_async("the folder is free again", || async {
        match Cluster::start(volatile(&folder)).await {
            Ok(cluster) => cluster.stop().await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_stopped_cluster_stays_stopped() {
    let folder = open_folder();
    let cluster = Cluster::start(Options {
        restart_on_crash: true,
        ..volatile(&folder)
    })
    .await
    .unwrap();
    cluster.stop().await.unwrap();
    assert!(cluster.exited().await.is_some_and(|status| status.success()));
    assert!(matches!(cluster.restart().await, Err(Error::Stopped)));
}

#[tokio::test]
async fn a_private_empty_folder_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data_dir: folder.path().to_owned(),
        ..volatile(&folder)
    };
    Cluster::start(options).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket_folder_that_goes_away() {
    let folder = open_folder();
    let long = folder
        .path()
        .join("x".repeat(60))
        .join("an, odd 'name'")
        .join("y".repeat(60));
    let options = Options {
        data_dir: long,
        ..volatile(&folder)
    };
    let cluster = Cluster::start(options.clone()).await.unwrap();
    let url = cluster.url();
    let socket_folder = fs::read_to_string(cluster.data_dir().join("socket-folder")).unwrap();
    assert_eq!(
        fs::metadata(&socket_folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(ask(&cluster, "select 'fine'").await, "fine");
    cluster.stop().await.unwrap();
    assert!(!Path::new(&socket_folder).exists());

    let cluster = Cluster::start(options).await.unwrap();
    assert_eq!(cluster.url(), url);
    cluster.stop().await.unwrap();
}
