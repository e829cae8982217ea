//! Connections that ask nothing: they are ended, cost little, and keep nobody from being served.

use std::fs;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Secure, Served, handshake};
use crate::support::program::run_halyard;
use crate::support::{eventually, within};

const CONNECTIONS: usize = 1_000;
/// What they may cost all together, beside what the server takes anyway.
const MEMORY_BYTES: u64 = 100_000_000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The beginning of a HEADERS frame of 16 KiB, without the end of the headers.
const HEADERS: &[u8] = &[0, 64, 0, 1, 0, 0, 0, 0, 1, 0, 0];
/// The beginning of a TLS record that holds a ClientHello.
const HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1];

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1_024
}

/// Says something, and waits until the server has ended the connection.
async fn ended(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: &[u8]) {
    // What was said may be answered by the end of the connection.
    let _ = stream.write_all(says).await;
    let _ = stream.flush().await;
    let mut answer = [0; 4096];
    while matches!(stream.read(&mut answer).await, Ok(1..)) {}
}

/// A client that has connected before it has anything to ask.
async fn greeted(address: &str) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn first_request(address: &str) -> SendRequest<Bytes> {
    let mut client = greeted(address).await;
    request(&mut client).await;
    client
}

/// Asks for what is not there, which is a request as well, and is answered.
async fn request(client: &mut SendRequest<Bytes>) {
    let request = Request::post("http://localhost/nothing").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    within("an answer", response).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_ask_are_ended_and_others_are_served() {
    let arguments = [
        "--opening-timeout",
        "2s",
        "--keepalive-interval",
        "2s",
        "--keepalive-timeout",
        "2s",
    ];
    let server = Served::start(&arguments).await;
    let address = &server.address;
    let mut idle = first_request(address).await;
    let mut eager = greeted(address).await;
    let before = resident(server.program.pid());
    let half = [PREFACE, SETTINGS, HEADERS].concat();
    let says: [&[u8]; 6] = [
        b"",
        b"no protocol at all\r\n\r\n",
        &PREFACE[..10],
        &half,
        b"GET / HTTP/1.1\r\nHos",
        HELLO,
    ];
    let mut crowd = JoinSet::new();
    for n in 0..CONNECTIONS {
        let (address, says) = (address.clone(), says[n % says.len()].to_vec());
        crowd.spawn(async move { ended(TcpStream::connect(address).await.unwrap(), &says).await });
    }
    let endpoint = format!("http://{address}");
    assert_eq!(
        run_halyard(&["health", "--endpoint", &endpoint], &[]).done(),
        "SERVING\n"
    );
    let during = resident(server.program.pid());
    within("the end of them all", async {
        while crowd.join_next().await.is_some() {}
    })
    .await;
    assert!(
        during.saturating_sub(before) < MEMORY_BYTES,
        "from {before} to {during} bytes"
    );
    let scrape = server.scrape().await;
    assert!(scrape.count("halyard_connections_unasked_total") > 0);
    // The one that has asked something lives on, and the one that has only greeted; those of the crowd are gone.
    request(&mut idle).await;
    request(&mut eager).await;
    eventually("the end of the last", async || {
        (server.scrape().await.count("halyard_connections_open") == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_half_handshake_and_silence_after_one_are_ended() {
    let secure = Secure::start(&["--opening-timeout", "5s"]).await;
    let before = resident(secure.served.program.pid());
    let mut crowd = JoinSet::new();
    for n in 0..CONNECTIONS {
        let address = secure.served.address.clone();
        let authority = secure.authority.file.clone();
        crowd.spawn(async move {
            match n % 10 {
                n @ (0 | 1) => {
                    // On a machine that is busy it may be too late already.
                    if let Ok(stream) = handshake(&address, &authority, &["h2"]).await {
                        ended(stream, if n == 0 { b"" } else { PREFACE }).await;
                    }
                }
                2 => ended(TcpStream::connect(address).await.unwrap(), b"GET / HTTP/1.1\r\n\r\n").await,
                n if n % 2 == 0 => ended(TcpStream::connect(address).await.unwrap(), b"").await,
                _ => ended(TcpStream::connect(address).await.unwrap(), HELLO).await,
            }
        });
    }
    assert_eq!(secure.health("localhost", &secure.trust()).done(), "SERVING\n");
    let during = resident(secure.served.program.pid());
    within("the end of them all", async {
        while crowd.join_next().await.is_some() {}
    })
    .await;
    assert!(
        during.saturating_sub(before) < MEMORY_BYTES,
        "from {before} to {during} bytes"
    );
    let scrape = secure.scrape().await;
    assert!(scrape.count("halyard_connections_unasked_total") >= 200);
    assert!(scrape.count("halyard_tls_handshakes_failed_total") >= 200);
    eventually("the end of the last", async || {
        (secure.scrape().await.count("halyard_connections_open") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_closed_at_once_and_the_others_live_on() {
    let secure = Secure::start(&["--max-connections", "3", "--opening-timeout", "10m"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(&secure.served.address).await.unwrap());
    }
    eventually("all of them", async || {
        (secure.scrape().await.count("halyard_connections_open") == 3).then_some(())
    })
    .await;
    let further = TcpStream::connect(&secure.served.address).await.unwrap();
    within("its end", ended(further, b"")).await;
    let scrape = secure.scrape().await;
    assert_eq!(scrape.count("halyard_connections_refused_total"), 1);
    assert_eq!(scrape.count("halyard_connections_open"), 3);
    held.pop();
    eventually("a place", async || {
        (secure.health("localhost", &secure.trust()).code == Some(0)).then_some(())
    })
    .await;
}
