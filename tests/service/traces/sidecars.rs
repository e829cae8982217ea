//! Traces that go through a sidecar to its server.

use halyard::pb::evaluation::v1 as pb;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::collector::{Collector, attributes};
use super::{CALLER, in_trace, names, question, to, trace_id, traced};
use crate::app::{App, evaluation};
use crate::experiments;
use crate::sidecar::{Side, options};
use crate::support::within;

const TRACK: &str = "halyard.evaluation.v1.EvaluationService/Track";
const ASSIGNMENT: &str = "halyard.evaluation.v1.EvaluationService/GetAssignment";

/// A sidecar that follows, and sends traces there or nowhere.
async fn beside(app: &App, key: &str, collector: Option<&Collector>) -> Side {
    let mut options = options(&format!("http://{}", app.server.address()), key);
    options.trace = collector.map(|collector| to(collector.url(), 0.0));
    let side = Side::start(options).await;
    within("a state", side.sidecar.ready()).await;
    side
}

async fn track(side: &Side, key: &str, traceparent: (&str, &str)) {
    let request = in_trace(pb::TrackRequest::default(), traceparent.0, traceparent.1);
    evaluation(&side.channel, key).track(request).await.unwrap();
}

fn only<'a>(spans: &'a [Span], name: &str, kind: &str) -> &'a Span {
    let of_kind = |span: &&Span| span.name == name && span.kind().as_str_name().ends_with(kind);
    let found: Vec<_> = spans.iter().filter(of_kind).collect();
    assert_eq!(found.len(), 1, "{kind} of {name} in {:?}", names(spans));
    found[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_records_nothing_hands_its_callers_trace_on_as_it_came() {
    let collector = Collector::start().await;
    let app = traced(collector.url(), 0.0).await;
    let key = app.shop().await.server;
    let side = beside(&app, &key, None).await;
    // What its caller does not sample the server does not either.
    track(&side, &key, (&trace_id(1), "00")).await;
    track(&side, &key, (&trace_id(2), "01")).await;
    let spans = collector.trace(&trace_id(2), TRACK).await;
    let asked = only(&spans, TRACK, "SERVER");
    assert_eq!(hex::encode(&asked.parent_span_id), CALLER);
    // They go in order.
    let others = collector.spans().into_iter().filter(|span| span.name == TRACK);
    assert_eq!(others.count(), 1);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_records_is_between_its_caller_and_its_server() {
    let (near, far) = (Collector::start().await, Collector::start().await);
    let app = traced(far.url(), 0.0).await;
    let key = app.shop().await.server;
    let side = beside(&app, &key, Some(&near)).await;
    track(&side, &key, (&trace_id(3), "01")).await;
    let here = near.trace(&trace_id(3), TRACK).await;
    let (answered, asked) = (only(&here, TRACK, "SERVER"), only(&here, TRACK, "CLIENT"));
    assert_eq!(hex::encode(&answered.parent_span_id), CALLER);
    assert_eq!(asked.parent_span_id, answered.span_id);
    assert_eq!(attributes(asked)["rpc.grpc.status_code"], "0");
    let there = far.trace(&trace_id(3), TRACK).await;
    assert_eq!(only(&there, TRACK, "SERVER").parent_span_id, asked.span_id);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_for_an_arm_is_a_part_of_the_evaluation_that_needs_it() {
    let (near, far) = (Collector::start().await, Collector::start().await);
    let app = traced(far.url(), 0.0).await;
    let key = experiments::shop(&app).await;
    let revision = experiments::run(&app, experiments::experiment("x")).await;
    let side = beside(&app, &key, Some(&near)).await;
    let asked = pb::EvaluateRequest {
        min_revision: revision,
        ..question("f")
    };
    let request = in_trace(asked, &trace_id(4), "01");
    evaluation(&side.channel, &key).evaluate(request).await.unwrap();
    let here = near
        .trace(&trace_id(4), "halyard.evaluation.v1.EvaluationService/Evaluate")
        .await;
    let asked = only(&here, ASSIGNMENT, "CLIENT");
    let there = far.trace(&trace_id(4), ASSIGNMENT).await;
    assert_eq!(only(&there, ASSIGNMENT, "SERVER").parent_span_id, asked.span_id);
    side.stop().await;
}
