//! The same arms through a sidecar, and on streams of answers.

use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_evaluations_response::Message;

use super::{arms, ask, experiment, rows, run, shop, stored, units, update};
use crate::app::{App, watch};
use crate::sidecar::Side;
use crate::support::{eventually, within};
use crate::words::who;

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_gives_the_servers_arms_and_has_new_ones_stored() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let units = units(20);
    let before = stored(&app.channel, &key, &units, revision).await;
    let moved = halyard::pb::admin::v1::Experiment {
        arms: arms(1, 99),
        ..experiment("x")
    };
    let revision = update(&app, moved, &["arms"]).await.revisions[0].revision;
    let newcomer = ["newcomer".to_owned()];
    let side = Side::follow(&format!("http://{}", app.server.address()), &key).await;
    for unit in units.iter().chain(&newcomer) {
        // Within 50 ms, which a busy machine may not keep.
        eventually("the server's arm", async || {
            let answer = ask(&side.channel, &key, "f", unit, revision).await;
            answer.experiment.unwrap().assignment_stored.then_some(())
        })
        .await;
    }
    assert_eq!(stored(&side.channel, &key, &units, revision).await, before);
    let assigned = stored(&side.channel, &key, &newcomer, revision).await;
    assert_eq!(rows(&app, "x").await["newcomer"], assigned["newcomer"]);
    app.server.stop().await.unwrap();
    assert_eq!(
        stored(&side.channel, &key, &newcomer, 0).await,
        assigned,
        "known without the server"
    );
    let unknown = ask(&side.channel, &key, "f", "nobody yet", 0).await;
    assert!(!unknown.experiment.unwrap().assignment_stored);
    side.stop().await;
}

/// The next batch of a stream.
async fn batch(stream: &mut tonic::Streaming<pb::WatchEvaluationsResponse>) -> Vec<pb::Evaluation> {
    within("a batch", async {
        loop {
            if let Some(Message::Batch(batch)) = stream.message().await.unwrap().unwrap().message {
                return batch.evaluations;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_answers_stores_what_it_sends() {
    let app = App::start().await;
    let key = shop(&app).await;
    let request = pb::WatchEvaluationsRequest {
        context: who("u"),
        ..Default::default()
    };
    let stream = watch(&app.channel, &key).watch_evaluations(request).await;
    let mut stream = stream.unwrap().into_inner();
    assert_eq!(batch(&mut stream).await[0].experiment, None);
    run(&app, experiment("x")).await;
    // That the flag was turned on may come as a batch of its own.
    let answer = loop {
        let answer = batch(&mut stream).await.remove(0);
        if answer.experiment.is_some() {
            break answer;
        }
    };
    let part = answer.experiment.clone().unwrap();
    assert!(part.assignment_stored, "{answer:?}");
    assert_eq!(rows(&app, "x").await["u"], (part.arm.clone(), 1));
    // Weights that would put the unit elsewhere change nothing that it is answered.
    let other = if part.arm == "on" {
        arms(1, 999_999)
    } else {
        arms(999_999, 1)
    };
    let moved = halyard::pb::admin::v1::Experiment {
        arms: other,
        ..experiment("x")
    };
    update(&app, moved, &["arms"]).await;
    let again = batch(&mut stream).await.remove(0);
    assert_eq!(again.experiment, Some(part));
}
