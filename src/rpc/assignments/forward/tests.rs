//! Asking a server that is not there, that answers otherwise than expected, or that is asked for much.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response};
use uuid::Uuid;

use super::*;
use crate::domain::experiment::{Running, WHOLE, item};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::rule::Weighted;
use crate::evaluate::{Freshness, Snapshot};
use crate::pb::evaluation::v1::evaluation_service_server::{EvaluationService, EvaluationServiceServer};

const REVISION: u64 = 17;

/// What it needs that knows the experiment `x` with this allocation.
fn need(unit: &str, allocation: u32) -> Need {
    let arm = |variant: &str| Weighted {
        variant: variant.parse().unwrap(),
        weight: 1,
    };
    let running = Running {
        flag: "f".parse().unwrap(),
        salt: Uuid::nil(),
        iteration: 1,
        arms: vec![arm("on"), arm("off")],
        audience: Vec::new(),
        allocation,
        largest_allocation: WHOLE,
        attribute: None,
        sticky: true,
        layer: None,
        before_rule: None,
    };
    let mut snapshot = Snapshot::default();
    let mut put = |kind, key: &str, form: &[u8]| snapshot.put(&ItemId { kind, key: key.into() }, form);
    let definition = br#"{"format":1,"key":"f","type":"bool","variants":[{"key":"on","value":{"bool":true}},
        {"key":"off","value":{"bool":false}}],"off_variant":"off","client_visible":true}"#;
    put(Kind::FlagDefinition, "f", definition);
    put(Kind::FlagConfiguration, "f", br#"{"format":1,"enabled":true}"#);
    put(Kind::Experiment, &item("f", "x"), &form::write_experiment(&running));
    let flag = snapshot.get("f").unwrap();
    let unknown = |_: &_, _: &_| Assigned::Unknown;
    let asked = flag.evaluate_knowing(&context(unit), &snapshot, Freshness::ANY, &unknown);
    *asked.unwrap_err()
}

fn context(unit: &str) -> Context {
    Context::new(unit.to_owned(), std::iter::empty().collect())
}

fn on() -> Assigned {
    Assigned::Arm {
        arm: "on".parse().unwrap(),
        iteration: 1,
    }
}

/// A server that answers everyone with a stored `on`, once it is let.
struct Upstream {
    answers: watch::Receiver<bool>,
    open: watch::Sender<usize>,
    most: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl EvaluationService for Upstream {
    async fn get_assignment(
        &self,
        request: Request<pb::GetAssignmentRequest>,
    ) -> Result<Response<pb::GetAssignmentResponse>, Status> {
        assert_eq!(request.get_ref().min_revision, REVISION);
        self.open.send_modify(|open| {
            *open += 1;
            self.most.fetch_max(*open, Ordering::Relaxed);
        });
        let mut answers = self.answers.clone();
        let _ = answers.wait_for(|answers| *answers).await;
        self.open.send_modify(|open| *open -= 1);
        let participation = pb::Participation {
            experiment: "x".into(),
            iteration: 1,
            arm: "on".into(),
            assignment_stored: true,
            sticky: true,
        };
        Ok(Response::new(pb::GetAssignmentResponse {
            participation: Some(participation),
            outcome: pb::ExperimentOutcome::Served.into(),
            revision: REVISION,
            flag: "f".into(),
        }))
    }

    async fn evaluate(&self, _: Request<pb::EvaluateRequest>) -> Result<Response<pb::EvaluateResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn evaluate_all(
        &self,
        _: Request<pb::EvaluateAllRequest>,
    ) -> Result<Response<pb::EvaluateAllResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn track(&self, _: Request<pb::TrackRequest>) -> Result<Response<pb::TrackResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }
}

/// Lets the server answer, says how many calls are open, and how many were at most.
struct Hand {
    answers: watch::Sender<bool>,
    open: watch::Receiver<usize>,
    most: Arc<AtomicUsize>,
}

async fn serve() -> (Forwarding, Hand) {
    let (answers, let_answer) = watch::channel(false);
    let (open, opened) = watch::channel(0);
    let most = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream {
        answers: let_answer,
        open,
        most: Arc::clone(&most),
    };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Server::builder().add_service(EvaluationServiceServer::new(upstream));
    tokio::spawn(routes.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
    let forwarding = Forwarding::new(channel, &"key".to_owned().into()).unwrap();
    let hand = Hand {
        answers,
        open: opened,
        most,
    };
    (forwarding, hand)
}

#[test]
fn nothing_is_stored_only_of_whom_both_see_outside_of_the_allocation() {
    use pb::ExperimentOutcome::{NoUnit, OutsideAllocation, OutsideAudience, OutsideLayer, Served};
    let said = |need: &Need, outcome: pb::ExperimentOutcome| {
        let answer = pb::GetAssignmentResponse {
            outcome: outcome.into(),
            ..Default::default()
        };
        assigned(need, answer)
    };
    let (inside, outside) = (need("u", WHOLE), need("u", 1));
    assert!(inside.arm.is_some() && outside.arm.is_none());
    assert_eq!(said(&outside, OutsideAllocation), Assigned::Nothing);
    assert_eq!(said(&inside, OutsideAllocation), Assigned::Unreachable);
    for outcome in [NoUnit, OutsideAudience, OutsideLayer, Served] {
        assert_eq!(said(&outside, outcome), Assigned::Unreachable, "{outcome:?}");
    }
}

/// Time stands still here unless everybody waits.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_server_that_is_known_not_to_answer() {
    let (forwarding, hand) = serve().await;
    let ask = async |unit: &str, patience| {
        let began = Instant::now();
        let needs = [need(unit, WHOLE)];
        let answer = forwarding
            .settle(&context(unit), REVISION, &needs, began + patience, &MetadataMap::new())
            .await;
        (answer, began.elapsed())
    };
    let (answer, took) = ask("first", PATIENCE).await;
    assert_eq!(answer, [Assigned::Unreachable]);
    assert!(took >= PATIENCE, "{took:?}");
    for _ in 0..10 {
        let (answer, took) = ask("second", Duration::from_mins(1)).await;
        assert_eq!(
            (answer.as_slice(), took),
            ([Assigned::Unreachable].as_slice(), Duration::ZERO)
        );
    }
    tokio::time::resume();
    hand.answers.send_replace(true);
    let back = async {
        while ask("second", Duration::from_secs(10)).await.0 != [on()] {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), back)
        .await
        .expect("the server is asked again");
    let (answer, _) = ask("first", Duration::from_secs(10)).await;
    assert_eq!(answer, [on()]);
}

#[tokio::test]
async fn one_question_asks_for_a_bounded_number_at_a_time() {
    let (forwarding, mut hand) = serve().await;
    let needs: Vec<_> = (0..3 * CALLS).map(|n| need(&format!("u{n}"), WHOLE)).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let context = context("u");
    let nobody = MetadataMap::new();
    let settled = forwarding.settle(&context, REVISION, &needs, deadline, &nobody);
    let let_in = async {
        hand.open.wait_for(|open| *open >= CALLS).await.unwrap();
        hand.answers.send_replace(true);
    };
    let (settled, ()) = tokio::join!(settled, let_in);
    assert!(settled.iter().all(|it| *it == on()), "{settled:?}");
    assert_eq!(hand.most.load(Ordering::Relaxed), CALLS);
}
