//! Scrapers that behave, and others.

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{scrape, start};
use crate::support::scrape::ask;
use crate::support::within;

#[tokio::test(flavor = "multi_thread")]
async fn only_metrics_are_there_and_only_to_be_read() {
    let app = start(|_| ()).await;
    let address = app.server.metrics_address().unwrap();
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404"),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", "HTTP/1.1 404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405"),
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
