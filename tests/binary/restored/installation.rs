//! A PostgreSQL, a replica on it, and everybody who looks: what an operator has when something must be restored.

use std::process::Command;
use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::evaluation::v1 as pb;
use rustix::process::Signal;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::serve::free_address;
use crate::support::cluster::Folder;
use crate::support::program::{Ended, Program, halyard, run_halyard};
use crate::support::server::Server;
use crate::support::{Scrape, eventually_within};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery staple";
const SIGNING_KEY: &str = "a signing key for tests, 32 bytes or more";

/// How long a program may take to start that shares its machine with much else.
const STARTING: Duration = Duration::from_mins(2);

/// An environment `prod` of a project `shop` with a flag `f`, in a database `flags`.
pub struct Installation {
    pub postgres: Server,
    pub folder: Folder,
    /// The environment's server key.
    pub key: String,
}

/// A server, or a sidecar of it.
pub struct Replica {
    program: Program,
    pub address: String,
    metrics: String,
}

impl Installation {
    /// With the flag off. Made through a server that is gone again.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let mut postgres = Server::below(&folder.path, &["fsync=off"]);
        postgres.initialise();
        postgres.start().await;
        let mut made = Self {
            postgres,
            folder,
            key: String::new(),
        };
        made.tool("createdb", &["flags"]);
        let variables = [
            ("DATABASE_URL", &*made.url("flags")),
            ("HALYARD_ADMIN_PASSWORD", PASSWORD),
        ];
        run_halyard(&["create-admin", "--email", EMAIL], &variables).done();
        let first = made.serve("flags", &free_address()).await;
        made.key = populate(first.channel().await).await;
        first.stop();
        made
    }

    /// Runs one of PostgreSQL's programs to its end, which must be a good one.
    pub fn tool(&self, program: &str, arguments: &[&str]) {
        let mut command = self.postgres.command(program);
        command.env("PGHOST", &self.folder.path).env("PGUSER", "postgres");
        self.postgres.finish(command.args(arguments));
    }

    pub fn url(&self, database: &str) -> String {
        let host = self.folder.path.display();
        format!("host={host} user=postgres dbname={database}")
    }

    /// A replica that is ready.
    pub async fn serve(&self, database: &str, address: &str) -> Replica {
        let signing = [("HALYARD_SIGNING_KEY", SIGNING_KEY)];
        self.serve_with(database, address, &signing).await
    }

    /// The same, with these settings.
    pub async fn serve_with(&self, database: &str, address: &str, settings: &[(&str, &str)]) -> Replica {
        let mut command = halyard();
        command.arg("serve").env("DATABASE_URL", self.url(database));
        command.envs(settings.iter().copied());
        Replica::start(command, address).await
    }

    /// A sidecar of a replica, ready.
    pub async fn sidecar(&self, of: &Replica) -> Replica {
        let mut command = halyard();
        command.args(["sidecar", "--upstream", &format!("http://{}", of.address)]);
        command.env("HALYARD_KEY", &self.key);
        Replica::start(command, &free_address()).await
    }

    /// Somebody who watches, and has everything that there is now.
    pub fn watch(&self, of: &Replica) -> Watching {
        let mut command = halyard();
        command.args(["watch", "--json"]).env("HALYARD_KEY", &self.key);
        command.env("HALYARD_ENDPOINT", format!("http://{}", of.address));
        let mut watching = Watching(Program::start(command));
        watching.next_step();
        watching
    }

    /// What is answered, of a revision or a later one.
    pub fn evaluate(&self, at: &Replica, min_revision: u64) -> Ended {
        let (endpoint, least) = (format!("http://{}", at.address), min_revision.to_string());
        let arguments = ["evaluate", "f", "--json", "--targeting-key", "alice", "--timeout", "2s"];
        let arguments = [&arguments[..], &["--min-revision", &least]].concat();
        run_halyard(
            &arguments,
            &[("HALYARD_KEY", &self.key), ("HALYARD_ENDPOINT", &endpoint)],
        )
    }

    /// The revision and the variant that are answered now.
    pub fn answer(&self, at: &Replica) -> (u64, String) {
        let answer: Value = serde_json::from_str(&self.evaluate(at, 0).done()).unwrap();
        let variant = answer["variant"].as_str().unwrap();
        (answer["revision"].as_u64().unwrap(), variant.to_owned())
    }
}

impl Replica {
    /// Turns the flag on or off, and returns the new revision.
    pub fn toggle(&self, to: &str) -> u64 {
        let arguments = [
            "toggle",
            "f",
            to,
            "--project",
            "shop",
            "--environment",
            "prod",
            "--json",
        ];
        let endpoint = format!("http://{}", self.address);
        let variables = [
            ("HALYARD_ENDPOINT", &*endpoint),
            ("HALYARD_EMAIL", EMAIL),
            ("HALYARD_PASSWORD", PASSWORD),
        ];
        let said: Value = serde_json::from_str(&run_halyard(&arguments, &variables).done()).unwrap();
        said["revision"].as_u64().unwrap_or_else(|| panic!("{said}"))
    }

    async fn start(mut command: Command, address: &str) -> Self {
        let metrics = free_address();
        command.args([
            "--drain-window",
            "0s",
            "--listen",
            address,
            "--metrics-listen",
            &metrics,
        ]);
        let program = Program::start(command);
        let replica = Self {
            program,
            address: address.to_owned(),
            metrics,
        };
        eventually_within(STARTING, "readiness", async || {
            tokio::net::TcpStream::connect(&replica.metrics).await.ok()?;
            (replica.count("halyard_ready").await == 1).then_some(())
        })
        .await;
        replica
    }

    /// What the administrator is given at a login.
    pub async fn log_in(&self) -> String {
        log_in(&self.channel().await).await
    }

    /// Whether an access token is taken.
    pub async fn knows(&self, token: &str) -> bool {
        let asked = bearer(admin::WhoAmIRequest {}, token);
        let answer = AuthServiceClient::new(self.channel().await).who_am_i(asked).await;
        match answer.map_err(|status| status.code()) {
            Ok(_) => true,
            Err(Code::Unauthenticated) => false,
            Err(code) => panic!("{code:?}"),
        }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// One of its numbers.
    pub async fn count(&self, name: &str) -> u64 {
        Scrape::of(self.metrics.parse().unwrap()).await.count(name)
    }

    pub fn stop(mut self) {
        self.program.signal(Signal::TERM);
        let (status, log) = self.program.ends();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

/// `halyard watch --json`, which verifies what it is sent, and comes again by itself with what it holds.
pub struct Watching(Program);

impl Watching {
    /// The next step that is complete.
    pub fn next_step(&mut self) -> Value {
        serde_json::from_str(&self.0.says(r#""event":"commit""#)).unwrap()
    }

    /// The step that ends at this revision, if nothing else but changes comes before it.
    pub fn reaches(&mut self, revision: u64) {
        loop {
            let step = self.next_step();
            assert_ne!(step["intent"], "SNAPSHOT", "{step}");
            if step["revision"] == revision {
                return;
            }
        }
    }
}

async fn log_in(channel: &Channel) -> String {
    let login = admin::LoginRequest {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        access_only: true,
    };
    let login = AuthServiceClient::new(channel.clone()).login(login).await.unwrap();
    login.into_inner().access_token
}

/// Makes the project, and returns the server key of its environment.
async fn populate(channel: Channel) -> String {
    let token = log_in(&channel).await;
    let project = Some(admin::Project {
        key: "shop".into(),
        ..Default::default()
    });
    let request = admin::CreateProjectRequest {
        project,
        ..Default::default()
    };
    let mut projects = ProjectServiceClient::new(channel.clone());
    projects.create_project(bearer(request, &token)).await.unwrap();
    let environment = Some(admin::Environment {
        project: "shop".into(),
        key: "prod".into(),
        ..Default::default()
    });
    let request = admin::CreateEnvironmentRequest {
        environment,
        ..Default::default()
    };
    let mut environments = EnvironmentServiceClient::new(channel.clone());
    let made = environments.create_environment(bearer(request, &token)).await.unwrap();
    let is_server = |key: &&admin::CreatedKey| key.key.as_ref().unwrap().kind() == admin::KeyKind::Server;
    let key = made.get_ref().keys.iter().find(is_server).unwrap().secret.clone();
    let variant = |key: &str, value| pb::Variant {
        key: key.into(),
        value: Some(pb::variant::Value::BoolValue(value)),
        ..Default::default()
    };
    let flag = Some(admin::Flag {
        project: "shop".into(),
        key: "f".into(),
        r#type: pb::ValueType::Bool.into(),
        variants: vec![variant("on", true), variant("off", false)],
        off_variant: "off".into(),
        default_variant: "on".into(),
        ..Default::default()
    });
    let request = admin::CreateFlagRequest {
        flag,
        ..Default::default()
    };
    FlagServiceClient::new(channel)
        .create_flag(bearer(request, &token))
        .await
        .unwrap();
    key
}

fn bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}
