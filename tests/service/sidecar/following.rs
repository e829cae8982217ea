//! A sidecar beside its server: the same answers, the same stream, at once.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::watch::Quality;
use tonic::Code;
use tonic::transport::Channel;

use super::stock::stocked;
use super::{Side, context, everything, options, until_quality};
use crate::app::{App, Bearer, evaluate, evaluation, toggle};
use crate::follower::{Follower, Held};
use crate::refusals::refused;
use crate::support::relay::{Relay, Way};
use crate::support::within;

/// Whatever is asked, both answer the same.
async fn assert_equal(one: &Channel, other: &Channel, keys: &[&str], revision: u64) {
    for key in keys {
        for n in 0..20 {
            let who = "x".repeat(n + 1);
            let (here, there) = (
                everything(one, key, &who, revision).await,
                everything(other, key, &who, revision).await,
            );
            assert_eq!(here, there);
            assert!(here.evaluations.len() >= 3, "{here:?}");
        }
    }
    let explained = |channel: &Channel| {
        let mut client = evaluation(channel, keys[0]);
        async move {
            let request = pb::EvaluateRequest {
                flag: "targeted".into(),
                context: Some(context("xx")),
                min_revision: revision,
                explain: true,
            };
            client.evaluate(request).await.unwrap().into_inner()
        }
    };
    assert_eq!(explained(one).await, explained(other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_answers_and_streams_what_its_server_does() {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let side = Side::follow(&format!("http://{}", app.server.address()), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    assert_equal(&app.channel, &side.channel, &[&keys.server], revision).await;
    let mut here = Follower::new(&app.channel, &keys.server).await.unwrap();
    let mut there = Follower::new(&side.channel, &keys.server).await.unwrap();
    for n in 0..6 {
        let last = app.toggle("plain", n % 2 == 0).await;
        here.until(last).await.unwrap();
        there.until(last).await.unwrap();
        assert_eq!(there.enabled("plain"), n % 2 == 0);
    }
    assert_eq!(here.held.items, there.held.items);
    assert_eq!(here.held.token, there.held.token, "a token is good at either");
    assert_equal(&app.channel, &side.channel, &[&keys.server], here.held.revision).await;
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_moves_between_server_and_sidecar_with_its_token() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let side = Side::follow(&format!("http://{}", app.server.address()), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    let mut follower = Follower::new(&side.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    for n in 0..6 {
        let revision = app.toggle("plain", n % 2 == 0).await;
        let channel = if n % 2 == 0 { &app.channel } else { &side.channel };
        // So that the sidecar is not asked before it knows: that is another test.
        evaluate(channel, &keys.server, "plain", revision).await.unwrap();
        follower = Follower::resume(channel, &keys.server, follower.held).await.unwrap();
        let step = follower.step().await.unwrap();
        assert_eq!((step.begin.intent(), step.items), (pb::Intent::Delta, 1), "{step:?}");
        assert_eq!(follower.held.revision, revision);
    }
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_ahead_of_the_sidecar_is_never_told_that_it_is_up_to_date() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let relay = Relay::to(app.server.address()).await;
    let side = Side::follow(&relay.url(), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    relay.set(Way::Cut);
    until_quality(&side, Quality::Disconnected).await;
    let revision = app.toggle("plain", true).await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.until(revision).await.unwrap();
    let mut behind = Follower::resume(&side.channel, &keys.server, follower.held.clone())
        .await
        .unwrap();
    let end = behind.step().await.unwrap_err();
    assert_eq!(end.unwrap().code(), Code::Unavailable);
    relay.set(Way::To(app.server.address()));
    evaluate_reached(&side, &keys.server, revision).await;
    let mut caught_up = Follower::resume(&side.channel, &keys.server, follower.held)
        .await
        .unwrap();
    assert_eq!(caught_up.step().await.unwrap().begin.intent(), pb::Intent::None);
    side.stop().await;
}

/// Returns once the sidecar has this revision.
pub async fn evaluate_reached(side: &Side, key: &str, revision: u64) {
    crate::support::eventually("the revision", async || {
        evaluate(&side.channel, key, "plain", revision).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_state_is_ever_torn() {
    let app = App::start().await;
    let keys = app.shop().await;
    for flag in ["a", "b", "c"] {
        app.flag(flag).await;
    }
    let relay = Relay::to(app.server.address()).await;
    let side = Side::follow(&relay.url(), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let asking = tokio::spawn({
        let (channel, key, stop) = (side.channel.clone(), keys.server.clone(), stop.clone());
        async move {
            let (mut revisions, mut last) = (0, 0);
            while !stop.is_cancelled() {
                let answers = everything(&channel, &key, "x", 0).await;
                let variants: Vec<_> = answers.evaluations.iter().map(|answer| &answer.variant).collect();
                assert!(variants.iter().all(|variant| *variant == variants[0]), "{answers:?}");
                assert!(answers.revision >= last);
                revisions += usize::from(answers.revision > last);
                last = answers.revision;
            }
            revisions
        }
    });
    let mut last = 0;
    for n in 0..150 {
        let mut request = toggle("a", n % 2 == 0);
        for flag in ["b", "c"] {
            request.toggles.extend(toggle(flag, n % 2 == 0).toggles);
        }
        last = app.flags().toggle_flags(request).await.unwrap().into_inner().revisions[0].revision;
        if n % 50 == 20 {
            relay.set(Way::Cut);
            relay.set(Way::To(app.server.address()));
        }
    }
    let last_answers = crate::support::eventually("the last revision", async || {
        let answers = everything(&side.channel, &keys.server, "x", 0).await;
        (answers.revision == last).then_some(answers)
    })
    .await;
    assert_eq!(last_answers.evaluations[0].variant, "off");
    stop.cancel();
    assert!(asking.await.unwrap() > 3);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_chain() {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let near = Side::follow(&format!("http://{}", app.server.address()), &keys.server).await;
    let far = Side::follow(&near.url(), &keys.server).await;
    within("a state", far.sidecar.ready()).await;
    assert_equal(&app.channel, &far.channel, &[&keys.server], revision).await;
    let mut follower = Follower::new(&far.channel, &keys.server).await.unwrap();
    let revision = app.toggle("plain", true).await;
    follower.until(revision).await.unwrap();
    let mut at_server = Follower::resume(&app.channel, &keys.server, follower.held.clone())
        .await
        .unwrap();
    assert_eq!(at_server.step().await.unwrap().begin.intent(), pb::Intent::None);
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_administrates_nothing_and_says_what_it_serves() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let side = Side::follow(&format!("http://{}", app.server.address()), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    let bearer = tonic::service::interceptor::InterceptedService::new(side.channel.clone(), Bearer::new(&app.token));
    let mut flags = admin::flag_service_client::FlagServiceClient::new(bearer);
    refused(flags.toggle_flags(toggle("plain", true)).await, Code::Unimplemented);
    let mut health = tonic_health::pb::health_client::HealthClient::new(side.channel.clone());
    let mut ask = async |service: &str| {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.to_owned(),
        };
        health.check(request).await.map(|answer| answer.into_inner().status)
    };
    for service in [
        "",
        "halyard.evaluation.v1.EvaluationService",
        "halyard.evaluation.v1.WatchService",
    ] {
        assert_eq!(ask(service).await.unwrap(), 1, "{service}");
    }
    assert_eq!(
        ask("halyard.admin.v1.FlagService").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        services(&side.channel)
            .await
            .iter()
            .filter(|name| name.contains("admin"))
            .count(),
        0
    );
    side.stop().await;
}

/// What reflection lists.
async fn services(channel: &Channel) -> Vec<String> {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = tokio_stream::iter([request]);
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("no list")
    };
    assert!(list.service.len() >= 3);
    list.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_goodbye_when_the_sidecar_stops() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let side = Side::start(options(&format!("http://{}", app.server.address()), &keys.server)).await;
    within("a state", side.sidecar.ready()).await;
    let mut follower = Follower::resume(&side.channel, &keys.server, Held::default())
        .await
        .unwrap();
    follower.step().await.unwrap();
    let stopping = tokio::spawn(side.sidecar.stop());
    assert!(follower.step().await.unwrap_err().is_none());
    within("its end", stopping).await.unwrap().unwrap();
}
