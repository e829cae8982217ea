//! Many clients at once without state, against a large environment: what the server takes for them is bounded.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::serve::free_address;
use crate::support::cluster::Folder;
use crate::support::program::{Program, halyard, run, with_dev_settings};
use crate::support::{Scrape, eventually};

/// What may be on its way: two of the environment's snapshots.
const LIMIT: usize = 4_000_000;
const FLAGS: usize = 10;
/// A flag's two variants together stay below what an item may take.
const VARIANT_BYTES: usize = 90_000;
const CLIENTS: usize = 150;
const CONNECTIONS: usize = 2;
/// How much the way to the clients carries in a millisecond, all of them together.
const PACE_BYTES: usize = 32 * 1024;
/// How long anybody may wait for a turn among all of them.
const PATIENCE: Duration = Duration::from_mins(2);
/// Measured: 6.5 MB, and 146 MB without a limit, when each stream fills its buffers in the server.
const MEMORY_BYTES: u64 = 40_000_000;

pub fn setting(data: &Path, name: &str) -> String {
    run(with_dev_settings(data, format!("printf %s \"${name}\""))).done()
}

fn start(data: &Path, metrics: &str) -> Program {
    let mut command: Command = halyard();
    command
        .args([
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            metrics,
            "--data-dir",
        ])
        .arg(data)
        .args(["--max-snapshot-bytes", &LIMIT.to_string()]);
    let mut program = Program::start(command);
    program.says("Halyard is ready");
    program
}

pub fn bearer<T>(message: T, credential: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {credential}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

/// Flags of large values in the environment of the demo project's key.
async fn enlarge(channel: &Channel, data: &Path) {
    let request = admin::LoginRequest {
        email: setting(data, "HALYARD_EMAIL"),
        password: setting(data, "HALYARD_PASSWORD"),
        access_only: false,
    };
    let login = AuthServiceClient::new(channel.clone()).login(request).await.unwrap();
    let token = login.into_inner().access_token;
    for n in 0..FLAGS {
        let variant = |key: &str| pb::Variant {
            key: key.into(),
            value: Some(pb::variant::Value::StringValue(key.repeat(VARIANT_BYTES))),
            ..Default::default()
        };
        let flag = Some(admin::Flag {
            project: "demo".into(),
            key: format!("large-{n}"),
            r#type: pb::ValueType::String.into(),
            variants: vec![variant("a"), variant("b")],
            off_variant: "a".into(),
            default_variant: "b".into(),
            ..Default::default()
        });
        let request = admin::CreateFlagRequest {
            flag,
            ..Default::default()
        };
        let mut flags = FlagServiceClient::new(channel.clone());
        flags.create_flag(bearer(request, &token)).await.unwrap();
    }
}

/// A channel that takes as much as a server is willing to send.
async fn wide(endpoint: &str) -> Channel {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).unwrap();
    let wide = endpoint
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(1 << 30);
    wide.connect().await.unwrap()
}

async fn open(channel: Channel, key: String) -> Streaming<pb::WatchResponse> {
    let request = bearer(pb::WatchRequest::default(), &key);
    let opened = WatchServiceClient::new(channel).watch(request).await;
    opened.unwrap().into_inner()
}

/// Reads a snapshot to its end, and returns what it held and whether it was whole.
async fn read(mut stream: Streaming<pb::WatchResponse>) -> (usize, bool) {
    let (mut announced, mut items, mut bytes) = (0, 0, 0);
    loop {
        let message = tokio::time::timeout(PATIENCE, stream.message())
            .await
            .expect("a message");
        let message = message.unwrap().unwrap();
        match message.message.unwrap() {
            Message::Begin(begin) => announced = begin.item_count,
            Message::Item(item) => {
                items += 1;
                bytes += prost::Message::encoded_len(&item);
            }
            Message::Commit(_) => return (bytes, items == announced),
            other @ (Message::Heartbeat(_) | Message::Goodbye(_)) => panic!("within a step: {other:?}"),
        }
    }
}

/// A way to a server that carries so much and no more. Returns where it begins.
async fn slow_way(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let pace = Arc::new(Mutex::new(tokio::time::interval(Duration::from_millis(1))));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server.trim_start_matches("http://")).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let pace = Arc::clone(&pace);
            tokio::spawn(async move {
                let mut bytes = vec![0; PACE_BYTES];
                while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                    pace.lock().await.tick().await;
                    if to_client.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    here
}

/// A line of `/proc/…/status`, in bytes.
fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_without_state_is_served_with_little_memory() {
    let folder = Folder::new();
    let data = folder.path.join("data");
    let metrics = free_address();
    let server = start(&data, &metrics);
    let metrics: SocketAddr = metrics.parse().unwrap();
    let (endpoint, key) = (setting(&data, "HALYARD_ENDPOINT"), setting(&data, "HALYARD_KEY"));
    enlarge(&wide(&endpoint).await, &data).await;
    // The first of all has the items encoded, which is not what is measured.
    let (bytes, whole) = eventually("the large flags", async || {
        let (bytes, whole) = read(open(wide(&endpoint).await, key.clone()).await).await;
        (bytes >= FLAGS * 2 * VARIANT_BYTES).then_some((bytes, whole))
    })
    .await;
    assert!(whole && bytes < LIMIT, "{bytes}");

    let pid = server.pid();
    let before = status(pid, "VmRSS:");
    // From here on the highest is noted anew.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let slow = slow_way(endpoint).await;
    let mut reading = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = wide(&slow).await;
        for _ in 0..CLIENTS / CONNECTIONS {
            let opening = open(channel.clone(), key.clone());
            reading.push(tokio::spawn(async move { read(opening.await).await }));
        }
    }
    eventually("a storm", async || {
        let scrape = Scrape::of(metrics).await;
        let in_flight = scrape.value("halyard_snapshot_in_flight_bytes");
        assert!(in_flight <= scrape.value("halyard_snapshot_limit_bytes"));
        (scrape.count("halyard_snapshots_waiting") > CLIENTS as u64 / 2).then_some(())
    })
    .await;
    for reading in reading {
        assert_eq!(reading.await.unwrap(), (bytes, true));
    }
    let grown = status(pid, "VmHWM:").saturating_sub(before);
    assert!(
        grown < MEMORY_BYTES,
        "{CLIENTS} snapshots of {bytes} bytes took {grown} bytes more than {before}"
    );
    let after = Scrape::of(metrics).await;
    assert_eq!(after.count("halyard_snapshots_waiting"), 0);
}
