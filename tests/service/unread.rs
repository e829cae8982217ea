//! Clients that do not read what they are sent.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::app::{App, Keys, watch};
use crate::listener::{Listener, question};
use crate::refusals::refused;
use crate::support::{database, eventually, within};
use crate::words::who;

/// Larger than all that is in transit between a server and a client that does not read.
const LARGE: usize = 100_000;

/// `shop` with the flags `a` and `b`, whose values are large.
pub async fn large(app: &App) -> Keys {
    let keys = app.shop().await;
    for key in ["a", "b"] {
        let variant = |key: &str| pb::Variant {
            key: key.into(),
            value: Some(pb::variant::Value::StringValue(key.repeat(LARGE))),
            ..Default::default()
        };
        let flag = admin::Flag {
            project: "shop".into(),
            key: key.into(),
            r#type: pb::ValueType::String.into(),
            variants: vec![variant("0"), variant("1")],
            off_variant: "0".into(),
            default_variant: "1".into(),
            client_visible: true,
            ..Default::default()
        };
        app.create_flag(flag).await;
    }
    keys
}

/// A channel on which little is in transit.
pub async fn narrow(app: &App) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", app.server.address())).unwrap();
    endpoint.initial_stream_window_size(65_535).connect().await.unwrap()
}

/// What a stream ends with, passing over what comes before.
async fn end<M>(stream: &mut tonic::Streaming<M>) -> Status {
    loop {
        match within("the end", stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_is_taken_away_and_says_so_to_who_reads_again() {
    let stall = Duration::from_millis(500);
    let app = App::start_with(database().await, |options| options.watch.stall = stall).await;
    let keys = large(&app).await;
    let channel = narrow(&app).await;
    let (mut server, mut client) = (watch(&channel, &keys.server), watch(&channel, &keys.client));
    let mut items = server.watch(pb::WatchRequest::default()).await.unwrap().into_inner();
    let mut answers = client.watch_evaluations(question(None)).await.unwrap().into_inner();
    let mut read = Listener::new(&app.channel, &keys.client, question(None)).await.unwrap();
    read.batch().await.unwrap();
    eventually("the streams to be taken away", async || {
        (app.server.hub().streams() == 1).then_some(())
    })
    .await;
    for status in [end(&mut items).await, end(&mut answers).await] {
        let status = refused(Err::<(), _>(status), Code::ResourceExhausted);
        assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
    }
    let revision = app.toggle("a", true).await;
    assert_eq!(read.until(revision).await.unwrap().len(), 1, "whoever reads goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_too_many_is_refused_until_another_ends() {
    let app = App::start_with(database().await, |options| {
        options.watch.streams = 3;
        options.watch.key_streams = 2;
    })
    .await;
    let keys = app.shop().await;
    let open = async |key: &str| Listener::new(&app.channel, key, question(None)).await;
    let (first, _second) = (open(&keys.client).await.unwrap(), open(&keys.client).await.unwrap());
    let full = async |key: &str| {
        let status = refused(open(key).await.map(drop), Code::ResourceExhausted);
        assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
        status.message().to_owned()
    };
    assert!(full(&keys.client).await.contains("the key"));
    let items = watch(&app.channel, &keys.server)
        .watch(pb::WatchRequest::default())
        .await;
    let items = items.unwrap();
    assert!(full(&keys.server).await.contains("this server"));
    drop(first);
    eventually("a place", async || open(&keys.client).await.ok()).await;
    drop(items);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_the_latest_answers_and_never_a_mixture() {
    let app = App::start().await;
    let keys = large(&app).await;
    let channel = narrow(&app).await;
    let mut slow = Listener::new(&channel, &keys.client, question(who("alice")))
        .await
        .unwrap();
    let mut last = 0;
    for round in 0..21 {
        let toggle = |flag: &str| admin::Toggle {
            flag: flag.into(),
            enabled: round % 2 == 0,
        };
        let request = admin::ToggleFlagsRequest {
            project: "shop".into(),
            environment: "dev".into(),
            toggles: vec![toggle("a"), toggle("b")],
            ..Default::default()
        };
        let toggled = app.flags().toggle_flags(request).await.unwrap().into_inner();
        last = toggled.revisions[0].revision;
    }
    let mut batches = 0;
    while slow.order.1 < last {
        batches += usize::from(slow.next().await.unwrap().is_some());
        assert_eq!(
            slow.variant("a"),
            slow.variant("b"),
            "both are switched in one revision"
        );
    }
    assert!(batches < 10, "{batches} batches for 21 changes");
    slow.check(&app.channel, &keys.client).await;
}
