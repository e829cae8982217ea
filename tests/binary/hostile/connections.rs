//! What one connection may do.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::wire::{Frames, GOAWAY, RST_STREAM, Wire};
use super::{EVALUATE, Victim};
use crate::support::plain::{http1, http2};
use crate::support::within;

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What the memory of a server may become: many times what it should, and far from what all of that would take unbounded.
const MEMORY_BYTES: u64 = 400_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_so_many_streams_and_no_more() {
    let victim = Victim::start(&["--max-connection-streams", "10"]);
    let bearer = format!("Bearer {}", victim.key);
    let mut wire = Wire::open(victim.address).await;
    let mut frames = Frames::default();
    for n in 0..25 {
        frames.call(2 * n + 1, EVALUATE, &[("authorization", &bearer)]);
    }
    wire.send(frames).await;
    for _ in 0..15 {
        assert_eq!(wire.next(RST_STREAM).await.unwrap().code(), REFUSED_STREAM);
    }
    victim.serves_others().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_their_connection_and_nothing_else() {
    let victim = Victim::start(&[]);
    victim.forget_peak();
    for n in 1..=20 {
        let mut wire = Wire::open(victim.address).await;
        let mut frames = Frames::default();
        for stream in (1..20_000).step_by(2) {
            frames.call(stream, EVALUATE, &[]);
            frames.reset(stream);
        }
        wire.send(frames).await;
        // A peer that still writes may lose what it was told; what was counted tells.
        if let Some(end) = wire.next(GOAWAY).await {
            assert_eq!(end.code(), ENHANCE_YOUR_CALM);
        }
        victim
            .counted(r#"halyard_connections_broken_total{reason="flood"}"#, n)
            .await;
    }
    // Neither is a head without an end taken in.
    for _ in 0..20 {
        let mut wire = Wire::open(victim.address).await;
        let mut frames = Frames::default();
        frames.call(1, EVALUATE, &[("x", &"x".repeat(4_000_000))]);
        wire.send(frames).await;
        while wire.frame().await.is_some() {}
    }
    victim.serves_others().await;
    assert!(victim.peak() < MEMORY_BYTES, "{}", victim.peak());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_so_large_and_no_larger_over_both_versions() {
    let victim = Victim::start(&["--max-header-bytes", "8192", "--keepalive-idle", "1s"]);
    for (length, expected) in [(6_000, 200), (9_000, 431), (12_000, 431)] {
        let value = "x".repeat(length);
        let two = http2(victim.address, "GET", "/readyz", &[("x", &value)], b"").await;
        assert_eq!(two.status, expected, "{length}");
        let one = http1(victim.address, "GET /readyz", &format!("x: {value}\r\n"), b"").await;
        assert_eq!(one.status, expected, "{length}");
    }
    victim
        .counted(r#"halyard_connections_broken_total{reason="too_large"}"#, 2)
        .await;
    // Those that do not end.
    let mut silent = Vec::new();
    for begun in [
        "GET /readyz HTTP/1.1\r\n",
        "GET /readyz HTTP/1.1\r\nhost: it\r\n",
        "GET /rea",
    ] {
        let mut stream = TcpStream::connect(victim.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    for stream in &mut silent {
        let _ = within("its end", stream.read_to_end(&mut Vec::new())).await;
    }
    victim
        .counted(r#"halyard_connections_broken_total{reason="slow"}"#, 3)
        .await;
    // What is no HTTP at all.
    for garbage in [
        "nonsense\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(victim.address).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        let _ = within("its end", stream.read_to_end(&mut Vec::new())).await;
    }
    victim
        .counted(r#"halyard_connections_broken_total{reason="malformed"}"#, 2)
        .await;
    victim.serves_others().await;
}
