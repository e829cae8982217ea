//! Connections over HTTP/1.1: how long they are kept that ask nothing, and that take nothing of what they are answered.

use std::time::Duration;

use halyard::server::Keepalive;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{EVALUATE, WEB};
use crate::app::App;
use crate::metrics::{measured, scrape};
use crate::support::plain::{Frames, http1};
use crate::support::{database, eventually, within};

const OPEN: &str = "halyard_connections_open";
const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: it\r\n\r\n";

/// Asks, and reads the answer.
async fn probe(stream: &mut TcpStream) {
    stream.write_all(PROBE).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", async {
        while !answer.ends_with(b"alive\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it ended");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_the_answers_is_let_go() {
    let app = App::start_with(database().await, |options| {
        measured(options);
        options.keepalive = Keepalive {
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(500),
            ..Keepalive::default()
        };
    })
    .await;
    let before = scrape(&app).await.count(OPEN);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(app.server.address()).await.unwrap();
    let (_unread, mut writing) = stream.into_split();
    let asking = tokio::spawn(async move {
        let many = PROBE.repeat(1_000);
        while writing.write_all(&many).await.is_ok() {}
    });
    within("the end of the connection", asking).await.unwrap();
    eventually("that it is counted no more", async || {
        (scrape(&app).await.count(OPEN) <= before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_longer_than_a_message_may_take() {
    let app = App::start_with(database().await, |options| {
        options.http.limits.request_timeout = Duration::from_millis(200);
    })
    .await;
    let keys = app.shop().await;
    let mut kept = TcpStream::connect(app.server.address()).await.unwrap();
    probe(&mut kept).await;
    // Begun later, this is late when a message's time is over.
    let headers = format!("{WEB}authorization: Bearer {}\r\ncontent-length: 100\r\n", keys.server);
    let late = http1(app.server.address(), &format!("POST {EVALUATE}"), &headers, b"").await;
    assert_eq!(Frames::read(&late.body).status(), "4", "{late:?}");
    probe(&mut kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_nothing_more_ends() {
    // A balancer that keeps its connections for a minute finds none that is just being closed.
    assert!(Keepalive::default().idle > Duration::from_mins(1));
    let app = App::start_with(database().await, |options| {
        measured(options);
        options.keepalive.idle = Duration::from_millis(200);
    })
    .await;
    let mut kept = TcpStream::connect(app.server.address()).await.unwrap();
    probe(&mut kept).await;
    let rest = within("its end", kept.read_to_end(&mut Vec::new())).await;
    assert_eq!(rest.unwrap(), 0);
    eventually("the count", async || {
        let slow = scrape(&app)
            .await
            .count(r#"halyard_connections_broken_total{reason="slow"}"#);
        (slow == 1).then_some(())
    })
    .await;
}
