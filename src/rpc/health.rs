//! gRPC health, overall and per service.
//!
//! Serving asks for a first complete state and for not draining, never for PostgreSQL: with the database away a replica goes on
//! evaluating. Only the administrative services say NOT_SERVING then.
//!
//! [`LIVENESS`] is another question: whether the process should be killed. One that drains should not.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status as Refused};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::watch::source::Quality;
use crate::watch::{Hub, Status};

const ADMINISTRATION: &[&str] = &[
    "halyard.admin.v1.AuthService",
    "halyard.admin.v1.ServiceTokenService",
    "halyard.admin.v1.UserService",
    "halyard.admin.v1.ProjectService",
    "halyard.admin.v1.EnvironmentService",
    "halyard.admin.v1.FlagService",
    "halyard.admin.v1.SegmentService",
    "halyard.admin.v1.ExperimentService",
    "halyard.admin.v1.AuditService",
];
const EVALUATION: &[&str] = &[
    "",
    "halyard.evaluation.v1.EvaluationService",
    "halyard.evaluation.v1.WatchService",
];

/// The name under which it is asked whether the process lives: its runtimes answer. It goes on to do so while it drains.
pub const LIVENESS: &str = "liveness";

/// How often to look; a change shows within this time.
const INTERVAL: Duration = Duration::from_millis(200);

/// Which services there are to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// All of them.
    All,
    /// Those of applications.
    Evaluation,
}

/// When what is said.
#[derive(Debug, Clone)]
pub struct Ends {
    /// From then on NOT_SERVING.
    pub draining: CancellationToken,
    /// Nothing more is said, and whoever watches is let go: a watch that went on would hold its connection until the grace is over.
    pub leaving: CancellationToken,
    /// Nobody asks any more.
    pub stop: CancellationToken,
}

/// Says whether the process lives.
pub type Lives = Arc<dyn Fn() -> bool + Send + Sync>;

/// The service, and what is told to it.
pub fn service(lives: Lives) -> (Reporter, HealthServer<Probed>) {
    let statuses = HealthReporter::new();
    let probed = Probed {
        reported: HealthService::from_health_reporter(statuses.clone()),
        lives: lives.clone(),
    };
    (Reporter { statuses, lives }, HealthServer::new(probed))
}

/// Where is said how the services are.
pub struct Reporter {
    statuses: HealthReporter,
    lives: Lives,
}

/// What is reported, but for [`LIVENESS`]: that is looked for when it is asked, since whoever reports may be what hangs.
pub struct Probed {
    reported: HealthService,
    lives: Lives,
}

#[tonic::async_trait]
impl Health for Probed {
    type WatchStream = <HealthService as Health>::WatchStream;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Refused> {
        if request.get_ref().service != LIVENESS {
            return self.reported.check(request).await;
        }
        let status = tonic_health::pb::health_check_response::ServingStatus::from(status((self.lives)()));
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Refused> {
        self.reported.watch(request).await
    }
}

/// Keeps what is reported up to date until `stop`.
pub async fn report(reporter: Reporter, hub: Arc<Hub>, services: Services, ends: Ends) {
    let Ends {
        draining,
        leaving,
        stop,
    } = ends;
    let Reporter {
        statuses: mut reporter,
        lives,
    } = reporter;
    let administration = match services {
        Services::All => ADMINISTRATION,
        Services::Evaluation => &[],
    };
    let (mut shown, mut lived) = (None, None);
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        let now = Serving::of(&hub.status(), hub.is_ready(), draining.is_cancelled());
        if shown != Some(now) {
            set(&reporter, EVALUATION, now.evaluation).await;
            set(&reporter, administration, now.administration).await;
            shown = Some(now);
        }
        let alive = lives();
        if lived != Some(alive) {
            set(&reporter, &[LIVENESS], alive).await;
            lived = Some(alive);
        }
        tokio::select! {
            biased;
            () = leaving.cancelled() => break,
            () = stop.cancelled() => break,
            () = draining.cancelled(), if !draining.is_cancelled() => {}
            () = hub.ready(), if shown.is_some_and(|shown| !shown.evaluation) && !draining.is_cancelled() => {}
            _ = ticks.tick() => {}
        }
    }
    for services in [EVALUATION, administration] {
        set(&reporter, services, false).await;
        for service in services {
            reporter.clear_service_status(service).await;
        }
    }
    // Whoever watches it is let go; whoever asks is answered on.
    reporter.clear_service_status(LIVENESS).await;
    stop.cancelled().await;
}

async fn set(reporter: &HealthReporter, services: &[&str], serving: bool) {
    for service in services {
        reporter.set_service_status(*service, status(serving)).await;
    }
}

fn status(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

/// What is served at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Serving {
    evaluation: bool,
    administration: bool,
}

impl Serving {
    fn of(status: &Status, ready: bool, draining: bool) -> Self {
        let evaluation = ready && !draining;
        let database = match status.quality {
            Quality::Live | Quality::Polling => true,
            Quality::Disconnected => false,
        };
        Self {
            evaluation,
            administration: evaluation && database,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_service_is_reported() {
        let files = prost_types::FileDescriptorSet::decode(crate::pb::DESCRIPTORS)
            .unwrap()
            .file;
        for file in files {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                assert!(
                    ADMINISTRATION.contains(&name.as_str()) || EVALUATION.contains(&name.as_str()),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_replica_without_its_database_is_ready_but_does_not_administrate() {
        let status = Status {
            quality: Quality::Disconnected,
            staleness: None,
        };
        let serving = Serving::of(&status, true, false);
        assert_eq!(
            serving,
            Serving {
                evaluation: true,
                administration: false
            }
        );
        assert!(!Serving::of(&status, true, true).evaluation);
        assert!(!Serving::of(&status, false, false).evaluation);
    }
}
