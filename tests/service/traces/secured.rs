//! Spans that go to a collector over TLS.

use halyard::tls::ClientFiles;

use super::collector::Collector;
use super::{in_trace, question, spans_sent, to, trace_id};
use crate::app::{App, evaluation};
use crate::metrics::measured;
use crate::support::cluster::Folder;
use crate::support::tls::Authority;
use crate::support::{database, eventually};

/// A server that sends its traces there, and trusts this authority.
async fn trusting(collector: &Collector, authority: &Authority) -> App {
    let tls = ClientFiles {
        authorities: Some(authority.file.clone()),
        own: None,
    };
    let endpoint = collector.url();
    App::start_with(database().await, move |options| {
        measured(options);
        options.trace = Some(halyard::trace::Options {
            tls: Some(tls),
            ..to(endpoint, 0.0)
        });
    })
    .await
}

async fn ask(app: &App) {
    let keys = app.shop().await;
    app.flag("f").await;
    let question = in_trace(question("f"), &trace_id(1), "01");
    evaluation(&app.channel, &keys.server).evaluate(question).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_whose_authority_is_named_gets_spans_over_tls() {
    halyard::tls::install_provider();
    let folder = Folder::new();
    let authority = Authority::new(&folder.path, "authority");
    let collector = Collector::start_with(&authority.pair(&folder.path, "collector", &["127.0.0.1"])).await;
    let app = trusting(&collector, &authority).await;
    ask(&app).await;
    let method = "halyard.evaluation.v1.EvaluationService/Evaluate";
    collector.trace(&trace_id(1), method).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_another_authority_gets_nothing() {
    halyard::tls::install_provider();
    let folder = Folder::new();
    let (named, other) = (
        Authority::new(&folder.path, "named"),
        Authority::new(&folder.path, "other"),
    );
    let collector = Collector::start_with(&other.pair(&folder.path, "collector", &["127.0.0.1"])).await;
    let app = trusting(&collector, &named).await;
    ask(&app).await;
    eventually("the count", async || {
        (spans_sent(&app, "failed").await > 0).then_some(())
    })
    .await;
    assert!(collector.spans().is_empty());
}
