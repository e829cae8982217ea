//! Scrapers and probes that behave, and others.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{scrape, start};
use crate::follower::Follower;
use crate::support::plain::http1;
use crate::support::scrape::ask;
use crate::support::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn only_metrics_and_probes_are_there_and_only_to_be_read() {
    let app = start(|_| ()).await;
    let address = app.server.metrics_address().unwrap();
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404"),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", "HTTP/1.1 404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405"),
        ("GET /healthz/ HTTP/1.1\r\n\r\n", "HTTP/1.1 404"),
        ("POST /readyz HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
    ] {
        let answer = ask(address, request).await;
        assert!(answer.starts_with(expected), "{request:?}: {answer}");
    }
    let head = ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    // What its own port serves is not on the port of everything else.
    let request = "GET /metrics HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n";
    let elsewhere = ask(app.server.address(), request).await;
    assert!(!elsewhere.contains("halyard_"), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_told_here_what_they_are_told_on_the_port_of_everything_else() {
    let window = Duration::from_secs(30);
    let app = start(|options| {
        options.drain_window = window;
        options.watch.drain_window = window;
    })
    .await;
    let keys = app.shop().await;
    let (address, elsewhere) = (app.server.metrics_address().unwrap(), app.server.address());
    for (path, said) in [("/healthz", "alive\n"), ("/readyz?verbose", "ready\n")] {
        for address in [address, elsewhere] {
            let answer = http1(address, &format!("GET {path}"), "", b"").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, said));
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            assert_eq!(answer.header("cache-control"), "no-store");
            let answer = http1(address, &format!("HEAD {path}"), "", b"").await;
            assert_eq!((answer.status, answer.body.len()), (200, 0));
        }
    }
    // They keep it from ending before it is asked.
    let mut followers = Vec::new();
    for _ in 0..20 {
        let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
        follower.step().await.unwrap();
        followers.push(follower);
    }
    let stopping = tokio::spawn(app.server.stop());
    let draining = eventually("a drain", async || {
        let answer = http1(address, "GET /readyz", "", b"").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(
        (draining.status, draining.text().as_str()),
        (503, "draining: this server is shutting down\n")
    );
    assert_eq!(http1(address, "GET /healthz", "", b"").await.status, 200);
    drop(followers);
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded() {
    let app = start(|_| ()).await;
    let address = app.server.metrics_address().unwrap();
    for request in [
        format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(100)),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be closed before everything is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    scrape(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapers_that_say_nothing_keep_nobody_from_scraping() {
    let app = start(|_| ()).await;
    let address = app.server.metrics_address().unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTT").await.unwrap();
        silent.push(stream);
    }
    for _ in 0..10 {
        scrape(&app).await;
    }
    // Each of them is given up, whether somebody else came or not.
    for stream in &mut silent {
        let mut rest = Vec::new();
        let _ = within("the end of a connection", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
}
