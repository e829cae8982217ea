//! Clients that mean no good, or do not know what they do, against the built server: each limit holds, what it costs the server is
//! bounded, and others are served meanwhile.

mod arriving;
mod connections;
mod log;
mod unread;
mod wire;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStderr, Command};

use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use tonic::transport::Endpoint;

use super::serve::free_address;
use super::storm::{bearer, setting};
use crate::support::cluster::Folder;
use crate::support::program::{Program, halyard};
use crate::support::{Scrape, eventually, within};

const EVALUATE: &str = "/halyard.evaluation.v1.EvaluationService/Evaluate";

fn dev(data: &Path, metrics: &str, options: &[&str]) -> Command {
    let mut command = halyard();
    command
        .args([
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            metrics,
            "--data-dir",
        ])
        .arg(data)
        .args(options);
    command
}

/// A server that is treated badly.
struct Victim {
    program: Program,
    address: SocketAddr,
    metrics: SocketAddr,
    key: String,
    server_key: String,
    _folder: Folder,
}

impl Victim {
    fn start(options: &[&str]) -> Self {
        let (folder, metrics) = (Folder::new(), free_address());
        let program = Program::start(dev(&folder.path.join("data"), &metrics, options));
        Self::ready(program, folder, &metrics)
    }

    /// One whose log nobody reads, unless whoever is given it does.
    fn start_unread(options: &[&str]) -> (Self, ChildStderr) {
        let (folder, metrics) = (Folder::new(), free_address());
        let (program, log) = Program::start_unread(dev(&folder.path.join("data"), &metrics, options));
        (Self::ready(program, folder, &metrics), log)
    }

    fn ready(mut program: Program, folder: Folder, metrics: &str) -> Self {
        let data = folder.path.join("data");
        program.says("Halyard is ready");
        let endpoint = setting(&data, "HALYARD_ENDPOINT");
        Self {
            program,
            address: endpoint.trim_start_matches("http://").parse().unwrap(),
            metrics: metrics.parse().unwrap(),
            key: setting(&data, "HALYARD_CLIENT_KEY"),
            server_key: setting(&data, "HALYARD_KEY"),
            _folder: folder,
        }
    }

    /// Somebody else comes, and is served.
    async fn serves_others(&self) {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = within("a connection", endpoint.connect()).await.unwrap();
        let request = pb::EvaluateRequest {
            flag: "new-checkout".into(),
            ..Default::default()
        };
        let mut client = EvaluationServiceClient::new(channel);
        within("an answer", client.evaluate(bearer(request, &self.key)))
            .await
            .unwrap();
    }

    /// Waits until so much was counted.
    async fn counted(&self, name: &str, least: u64) {
        eventually(name, async || {
            let count = Scrape::of(self.metrics).await.count(name);
            (count >= least).then_some(())
        })
        .await;
    }

    /// The most memory that it had since it was forgotten, in bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        kib * 1024
    }

    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.program.pid()), "5").unwrap();
    }
}
