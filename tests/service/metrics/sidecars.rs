//! Sidecars are scraped as servers are.

use std::net::SocketAddr;

use super::{measured, start};
use crate::app::App;
use crate::sidecar::{Side, options};
use crate::support::relay::{Relay, Way};
use crate::support::{Scrape, database, eventually, within};

/// A sidecar with metrics, and where they are.
pub async fn measured_sidecar(upstream: &str, key: &str) -> (Side, SocketAddr) {
    let mut options = options(upstream, key);
    options.metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let side = Side::start(options).await;
    let address = side.sidecar.metrics_address().unwrap();
    (side, address)
}

async fn until(address: SocketAddr, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    eventually(what, async || Some(Scrape::of(address).await).filter(&holds)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_tells_how_it_follows_and_how_old_it_is() {
    let app = App::start_with(database().await, measured).await;
    let keys = app.shop().await;
    app.flag("f").await;
    let relay = Relay::to(app.server.address()).await;
    let (side, address) = measured_sidecar(&relay.url(), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    let live = until(address, "live", |scrape| {
        scrape.count(r#"halyard_source_state{state="live"}"#) == 1
    })
    .await;
    assert_eq!(live.count("halyard_upstream_connects_total"), 1);
    assert_eq!(live.count("halyard_upstream_snapshots_total"), 1);
    assert_eq!(live.count("halyard_ready"), 1);

    app.toggle("f", true).await;
    let toggled = until(address, "the toggle", |scrape| {
        scrape.count("halyard_commit_applied_latency_seconds_count") == 1
    })
    .await;
    assert_eq!(toggled.since(&live, "halyard_upstream_deltas_total"), 1);

    relay.set(Way::Cut);
    let cut = until(address, "staleness", |scrape| {
        scrape.count(r#"halyard_source_state{state="disconnected"}"#) == 1
            && scrape.value("halyard_source_staleness_seconds") > 1.5
    })
    .await;
    assert!(cut.since(&live, "halyard_upstream_disconnects_total") >= 1);
    assert_eq!(cut.count("halyard_ready"), 1);
    relay.set(Way::To(app.server.address()));
    let back = until(address, "live again", |scrape| {
        scrape.count(r#"halyard_source_state{state="live"}"#) == 1
    })
    .await;
    assert_eq!(back.count("halyard_upstream_connects_total"), 2);
    assert_eq!(back.count("halyard_upstream_snapshots_total"), 1, "it resumed");
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_knew_anything_is_infinitely_stale_and_not_ready() {
    let app = start(|_| ()).await;
    let keys = app.shop().await;
    let (side, address) = measured_sidecar("http://127.0.0.1:1", &keys.server).await;
    let scrape = Scrape::of(address).await;
    assert!(scrape.value("halyard_source_staleness_seconds").is_infinite());
    assert_eq!(scrape.count(r#"halyard_source_state{state="disconnected"}"#), 1);
    assert_eq!(scrape.count("halyard_ready"), 0);
    assert_eq!(scrape.count("halyard_environments_held"), 0);
    side.stop().await;
}
