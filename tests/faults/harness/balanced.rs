//! A client that follows the service config: it asks who is healthy, spreads its calls, and repeats what failed as UNAVAILABLE.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::calls;
use super::doors::Doors;

const SERVICE: &str = "halyard.evaluation.v1.EvaluationService";
/// As the service config has it.
const ATTEMPTS: u32 = 4;
const DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// What became of its calls.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    pub answered: usize,
    /// In words.
    pub failed: Vec<String>,
}

impl Calls {
    fn note(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.answered += 1,
            Err(words) => self.failed.push(words),
        }
    }
}

/// The client; stops when dropped.
pub struct Balanced {
    calls: Arc<Mutex<Calls>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

type Healthy = Arc<Mutex<Vec<Option<Channel>>>>;

impl Balanced {
    pub fn start(doors: &Doors, key: String, seed: u64) -> Self {
        let (stop, calls) = (CancellationToken::new(), Arc::<Mutex<Calls>>::default());
        let healthy: Healthy = Arc::new(Mutex::new(vec![None; doors.count()]));
        let mut tasks = JoinSet::new();
        for replica in 0..doors.count() {
            tasks.spawn(follow_health(doors.clone(), replica, Arc::clone(&healthy)));
        }
        let (noted, stopped) = (Arc::clone(&calls), stop.clone());
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            while !stopped.is_cancelled() {
                let outcome = call(&healthy, &key, &mut rng).await;
                noted.lock().unwrap().note(outcome);
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { calls, stop, tasks }
    }

    /// What became of its calls so far.
    pub fn so_far(&self) -> Calls {
        self.calls.lock().unwrap().clone()
    }

    pub async fn stop(mut self) -> Calls {
        self.stop.cancel();
        // The one that calls ends by itself; the others are ended.
        let _ = tokio::time::timeout(DEADLINE, self.tasks.join_next()).await;
        self.so_far()
    }
}

/// Keeps whether a replica says that it serves. A connection that breaks is one that does not.
async fn follow_health(doors: Doors, replica: usize, healthy: Healthy) {
    loop {
        if let Some(channel) = doors.own(replica) {
            let request = HealthCheckRequest {
                service: SERVICE.into(),
            };
            if let Ok(watching) = HealthClient::new(channel.clone()).watch(request).await {
                let mut watching = watching.into_inner();
                while let Ok(Some(HealthCheckResponse { status })) = watching.message().await {
                    let serves = status == i32::from(ServingStatus::Serving);
                    healthy.lock().unwrap()[replica] = serves.then(|| channel.clone());
                }
            }
            healthy.lock().unwrap()[replica] = None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn call(healthy: &Healthy, key: &str, rng: &mut fastrand::Rng) -> Result<(), String> {
    let (began, mut pause) = (Instant::now(), Duration::from_millis(100));
    for attempt in 1..=ATTEMPTS {
        // Without anybody a call waits, as calls of gRPC do while nobody is ready.
        let channel = loop {
            let ready: Vec<_> = healthy.lock().unwrap().iter().flatten().cloned().collect();
            if !ready.is_empty() {
                break ready[rng.usize(..ready.len())].clone();
            }
            if began.elapsed() > DEADLINE {
                return Err("nobody was healthy in time".to_owned());
            }
            tokio::time::sleep(PAUSE).await;
        };
        let answer = tokio::time::timeout(DEADLINE, calls::evaluate_all(channel, key)).await;
        match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) if attempt < ATTEMPTS && is_unavailable(&status) => {}
            Ok(Err(status)) => {
                return Err(format!(
                    "{:?} at attempt {attempt}: {}",
                    status.code(),
                    status.message()
                ));
            }
            Err(_) => return Err("no answer in time".to_owned()),
        }
        tokio::time::sleep(pause.mul_f64(rng.f64())).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Err("no attempt was left".to_owned())
}

/// Other libraries say UNAVAILABLE of a connection that broke; this one has other codes for that, and the reason beside.
fn is_unavailable(status: &tonic::Status) -> bool {
    let broke = std::error::Error::source(status).is_some() || status.message().contains("transport");
    status.code() == Code::Unavailable || broke
}
