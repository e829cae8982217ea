//! Nobody reads the log, or strangers would fill it.

use std::io::{BufRead as _, BufReader, Read};

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use rustix::process::Signal;
use serde_json::Value;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::Victim;
use crate::support::plain::http1;
use crate::support::{Scrape, within};

const DROPPED: &str = "halyard_log_lines_dropped_total";
const LIST_FLAGS: &str = "/halyard.admin.v1.FlagService/ListFlags";
const LIST_PROJECTS: &str = "/halyard.admin.v1.ProjectService/ListProjects";
const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";
/// Each call is a line, and the lines are far more than a pipe holds.
const LOUD: [&str; 4] = [
    "--log-format",
    "json",
    "--log",
    "warn,halyard=info,halyard::rpc::front=debug",
];

impl Victim {
    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        within("a connection", endpoint.connect()).await.unwrap()
    }

    /// Calls that are refused, for want of a credential.
    async fn strangers_call(&self, channel: &Channel, count: usize) {
        let calls = (0..count).map(|_| async {
            let mut flags = FlagServiceClient::new(channel.clone());
            let refused = flags.list_flags(admin::ListFlagsRequest::default()).await;
            assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
        });
        within("answers", futures_util::future::join_all(calls)).await;
    }

    async fn dropped(&self) -> u64 {
        Scrape::of(self.metrics).await.count(DROPPED)
    }

    /// Calls come until so many lines more were dropped.
    async fn is_flooded(&self, channel: &Channel) {
        let before = self.dropped().await;
        while self.dropped().await < before + 1_000 {
            self.strangers_call(channel, 500).await;
        }
    }
}

/// Reads lines until there is such a one.
async fn read_until<R: Read + Send + 'static>(
    mut log: BufReader<R>,
    wanted: impl Fn(&Value) -> bool + Send + 'static,
) -> (BufReader<R>, Value) {
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log has ended");
            // Whatever was dropped, lines are whole.
            let read: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if wanted(&read) {
                return (log, read);
            }
        }
    });
    within("a line of the log", reading).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nothing() {
    let (mut victim, log) = Victim::start_unread(&LOUD);
    let channel = victim.channel().await;
    victim.is_flooded(&channel).await;
    victim.serves_others().await;
    assert_eq!(http1(victim.address, "GET /healthz", "", b"").await.status, 200);

    // Somebody reads again: what was kept, then how much is missing, then what comes.
    let log = BufReader::new(log);
    let (log, told) = read_until(log, |line| line["dropped"].is_u64()).await;
    assert!(told["dropped"].as_u64().unwrap() >= 1_000, "{told}");
    assert_eq!(told["level"], "WARN", "{told}");
    let mut projects = ProjectServiceClient::new(channel.clone());
    let refused = within(
        "an answer",
        projects.list_projects(admin::ListProjectsRequest::default()),
    )
    .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let (_log, line) = read_until(log, |line| line["method"] == LIST_PROJECTS).await;
    assert_eq!(
        (&line["code"], &line["level"]),
        (&"UNAUTHENTICATED".into(), &"DEBUG".into())
    );

    // And not any more: it ends all the same.
    victim.is_flooded(&channel).await;
    victim.program.signal(Signal::TERM);
    let (status, _) = victim.program.ends();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_log_and_failed_logins_are_in_it() {
    let mut victim = Victim::start(&["--log-format", "json", "--log", "warn,halyard=info"]);
    let channel = victim.channel().await;
    victim.strangers_call(&channel, 100).await;
    let request = admin::LoginRequest {
        email: "nobody@example.com".into(),
        password: "a guess of somebody's".into(),
        access_only: true,
    };
    let refused = AuthServiceClient::new(channel).login(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let counted =
        r#"halyard_requests_total{service="halyard.admin.v1.FlagService",method="ListFlags",code="UNAUTHENTICATED"}"#;
    assert_eq!(Scrape::of(victim.metrics).await.count(counted), 100);

    victim.program.signal(Signal::TERM);
    let (status, log) = victim.program.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains(LIST_FLAGS), "{log}");
    let failed = log
        .lines()
        .find(|line| line.contains(LOGIN) && line.contains("UNAUTHENTICATED"));
    assert!(failed.is_some_and(|line| line.contains(r#""level":"INFO""#)), "{log}");
}
