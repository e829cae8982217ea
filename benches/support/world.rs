//! The service as it is run in production, on a PostgreSQL of its own: `halyard serve` in processes of their own, an environment
//! with a flag to evaluate, and another to toggle.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use halyard::cli::create_admin::create_administrator;
use halyard::domain::email::Email;
use halyard::embedded::{Cluster, Options};
use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::experiment_service_client::ExperimentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::segment_service_client::SegmentServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::store::feed::Hints;
use halyard::store::{Settings, Store, migrate};
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::flags::rules;
use super::process::{Process, SERVER, SHARED, keep_to};
use super::tests_support::cluster::Folder;
use super::{Result, process};

/// The service's program.
pub const HALYARD: &str = env!("CARGO_BIN_EXE_halyard");
/// The flag that is evaluated: three rules of two conditions, of which the last holds and serves a split.
pub const FLAG: &str = "new-checkout";
/// The flag that is toggled.
pub const TOGGLED: &str = "toggled";
/// The flag with an experiment: two rules as [`FLAG`] has them, and for whom the third holds, the experiment in its place.
pub const TESTED: &str = "tested";
/// The segment whose list is uploaded.
const SEGMENT: &str = "customers";
const EXPERIMENT: &str = "checkout";
const PROJECT: &str = "shop";
const ENVIRONMENT: &str = "dev";
const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery staple";
const PATIENCE: Duration = Duration::from_mins(1);

/// A PostgreSQL, and what servers on it need to know.
pub struct World {
    runtime: Runtime,
    cluster: Option<Cluster>,
    _folder: Folder,
}

/// A running `halyard serve`.
pub struct Replica {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Changes flags.
pub struct Administrator {
    channel: Channel,
    token: AsciiMetadataValue,
}

impl World {
    /// Starts a PostgreSQL that keeps what it is given, on the servers' core, with an administrator.
    pub fn start() -> Result<Self> {
        keep_to(SERVER)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let folder = Folder::new();
        let mut options = Options::new(folder.path.join("data"));
        options.supervisor = Some(PathBuf::from(HALYARD));
        let cluster = runtime.block_on(async {
            let cluster = Cluster::start(options).await?;
            migrate::run(&cluster.config()).await?;
            let store = Store::connect(&Settings::new(cluster.config()), Hints::new()).await?;
            create_administrator(&store, &Email::new(EMAIL)?, PASSWORD.to_owned().into()).await?;
            Ok::<_, anyhow::Error>(cluster)
        })?;
        keep_to(SHARED)?;
        Ok(Self {
            runtime,
            cluster: Some(cluster),
            _folder: folder,
        })
    }

    /// Starts a server with so many workers on these cores. `before` comes before the program: one that observes it.
    pub fn serve(&self, cores: &[usize], workers: usize, before: &[String]) -> Result<Replica> {
        self.start_server(cores, workers, before, &[])
    }

    /// The same, with these variables in its environment.
    pub fn serve_with(&self, cores: &[usize], workers: usize, variables: &[(&str, String)]) -> Result<Replica> {
        self.start_server(cores, workers, &[], variables)
    }

    fn start_server(
        &self,
        cores: &[usize],
        workers: usize,
        before: &[String],
        variables: &[(&str, String)],
    ) -> Result<Replica> {
        let address = free_address()?;
        let mut words = before.iter().map(String::as_str).chain([HALYARD, "serve"]);
        let mut command = Command::new(words.next().ok_or("no program")?);
        command
            .args(words)
            .env("HALYARD_DATABASE_URL", self.cluster.as_ref().ok_or("stopped")?.url())
            .env("HALYARD_SIGNING_KEY", "a signing key for benchmarks, 32 bytes or more")
            .env("HALYARD_LISTEN", address.to_string())
            .env("HALYARD_WORKER_THREADS", workers.to_string())
            .env("HALYARD_DRAIN_WINDOW", "0s")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::null());
        let mut process = Process::start(cores, &mut command)?;
        self.runtime.block_on(ready(address, &mut process))?;
        Ok(Replica { process, address })
    }

    /// How to connect to the database.
    pub fn config(&self) -> Result<tokio_postgres::Config> {
        Ok(self.cluster.as_ref().ok_or("stopped")?.config())
    }

    /// Lets the administrator in.
    pub fn administrator(&self, replica: &Replica) -> Result<Administrator> {
        self.runtime.block_on(Administrator::log_in(replica.address))
    }

    /// Makes [`TESTED`] and the experiment on it.
    pub fn experiment(&self, administrator: &Administrator) -> Result<()> {
        self.runtime.block_on(administrator.experiment())
    }

    /// Makes one more server key of the environment.
    pub fn another_key(&self, administrator: &Administrator) -> Result<String> {
        self.runtime.block_on(administrator.another_key())
    }

    /// Makes flags like [`FLAG`] until there are so many, and returns the revision with which they are there.
    pub fn fill(&self, administrator: &Administrator, flags: usize) -> Result<u64> {
        self.runtime.block_on(administrator.fill(flags))
    }

    /// Makes the environment and its flags, and returns the environment's server key.
    pub fn furnish(&self, administrator: &Administrator) -> Result<String> {
        self.runtime.block_on(administrator.furnish())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // The folder goes in any case.
            let _ = self.runtime.block_on(cluster.stop());
        }
    }
}

/// An address that nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn ready(address: SocketAddr, process: &mut Process) -> Result<()> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let mut health = HealthClient::new(channel);
    let started = Instant::now();
    loop {
        let answer = health.check(HealthCheckRequest::default()).await;
        if answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving) {
            return Ok(());
        }
        if process.has_ended()? || started.elapsed() > PATIENCE {
            return Err("the server does not start".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Administrator {
    /// Lets the administrator in at a server.
    pub async fn log_in(server: SocketAddr) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{server}"))?.connect().await?;
        let login = admin::LoginRequest {
            email: EMAIL.into(),
            password: PASSWORD.into(),
            access_only: true,
        };
        let login = AuthServiceClient::new(channel.clone()).login(login).await?;
        let token = format!("Bearer {}", login.into_inner().access_token).parse()?;
        Ok(Self { channel, token })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// The same one at another server, or over another connection.
    pub async fn again(&self, server: SocketAddr) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{server}"))?.connect().await?;
        let token = self.token.clone();
        Ok(Self { channel, token })
    }

    async fn furnish(&self) -> Result<String> {
        self.project(PROJECT).await?;
        let key = self.environment(PROJECT, ENVIRONMENT).await?;
        for key in [FLAG, TOGGLED] {
            self.flag(PROJECT, key).await?;
            self.configure(key, rules()).await?;
        }
        Ok(key)
    }

    async fn fill(&self, flags: usize) -> Result<u64> {
        for n in 2..flags {
            let key = format!("flag-{n}");
            self.flag(PROJECT, &key).await?;
            self.configure(&key, rules()).await?;
        }
        self.toggle(false).await?;
        self.toggle(true).await
    }

    /// Makes a project.
    pub async fn project(&self, key: &str) -> Result<()> {
        let project = admin::CreateProjectRequest {
            project: Some(admin::Project {
                key: key.into(),
                ..admin::Project::default()
            }),
            ..admin::CreateProjectRequest::default()
        };
        let mut projects = ProjectServiceClient::new(self.channel.clone());
        projects.create_project(self.request(project)).await?;
        Ok(())
    }

    /// Makes an environment, and returns its server key.
    pub async fn environment(&self, project: &str, key: &str) -> Result<String> {
        let environment = admin::CreateEnvironmentRequest {
            environment: Some(admin::Environment {
                project: project.into(),
                key: key.into(),
                ..admin::Environment::default()
            }),
            ..admin::CreateEnvironmentRequest::default()
        };
        let mut environments = EnvironmentServiceClient::new(self.channel.clone());
        let created = environments.create_environment(self.request(environment)).await?;
        let mut keys = created.into_inner().keys.into_iter();
        let server = keys.find(|key| key.key.as_ref().is_some_and(|key| key.kind() == admin::KeyKind::Server));
        Ok(server.ok_or("no server key")?.secret)
    }

    async fn another_key(&self) -> Result<String> {
        let key = admin::CreateKeyRequest {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            kind: admin::KeyKind::Server.into(),
            ..admin::CreateKeyRequest::default()
        };
        let mut environments = EnvironmentServiceClient::new(self.channel.clone());
        let created = environments.create_key(self.request(key)).await?.into_inner();
        Ok(created.key.ok_or("no key")?.secret)
    }

    /// Makes a flag.
    pub async fn flag(&self, project: &str, key: &str) -> Result<()> {
        let flag = admin::CreateFlagRequest {
            flag: Some(admin::Flag {
                project: project.into(),
                key: key.into(),
                r#type: pb::ValueType::Bool.into(),
                ..admin::Flag::default()
            }),
            ..admin::CreateFlagRequest::default()
        };
        let mut flags = FlagServiceClient::new(self.channel.clone());
        flags.create_flag(self.request(flag)).await?;
        Ok(())
    }

    /// Gives a flag its rules.
    async fn configure(&self, key: &str, rules: Vec<pb::Rule>) -> Result<()> {
        let configuration = admin::UpdateFlagConfigurationRequest {
            configuration: Some(admin::FlagConfiguration {
                project: PROJECT.into(),
                environment: ENVIRONMENT.into(),
                flag: key.into(),
                enabled: true,
                rules,
                ..admin::FlagConfiguration::default()
            }),
            ..admin::UpdateFlagConfigurationRequest::default()
        };
        let mut flags = FlagServiceClient::new(self.channel.clone());
        flags.update_flag_configuration(self.request(configuration)).await?;
        Ok(())
    }

    /// Turns [`TOGGLED`] on or off, and returns the revision.
    pub async fn toggle(&self, enabled: bool) -> Result<u64> {
        self.toggle_at(PROJECT, ENVIRONMENT, &[TOGGLED.to_owned()], enabled)
            .await
    }

    /// Turns flags of an environment on or off, and returns the revision.
    pub async fn toggle_at(&self, project: &str, environment: &str, flags: &[String], enabled: bool) -> Result<u64> {
        let toggles = flags.iter().map(|flag| admin::Toggle {
            flag: flag.clone(),
            enabled,
        });
        let toggle = admin::ToggleFlagsRequest {
            project: project.into(),
            environment: environment.into(),
            toggles: toggles.collect(),
            ..admin::ToggleFlagsRequest::default()
        };
        let answer = FlagServiceClient::new(self.channel.clone())
            .toggle_flags(self.request(toggle))
            .await?
            .into_inner();
        Ok(answer.revisions.first().ok_or("nothing was changed")?.revision)
    }
}

impl Administrator {
    fn segments(&self) -> SegmentServiceClient<Channel> {
        SegmentServiceClient::new(self.channel.clone())
    }

    /// Makes the segment whose list is uploaded.
    pub async fn segment(&self) -> Result<()> {
        let segment = admin::CreateSegmentRequest {
            segment: Some(admin::Segment {
                project: PROJECT.into(),
                key: SEGMENT.into(),
                ..admin::Segment::default()
            }),
            ..admin::CreateSegmentRequest::default()
        };
        self.segments().create_segment(self.request(segment)).await?;
        Ok(())
    }

    /// Uploads pieces of a list, and returns the upload.
    pub async fn upload(&self, pieces: impl Iterator<Item = &[String]>) -> Result<String> {
        let request = admin::CreateSegmentUploadRequest {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            segment: SEGMENT.into(),
        };
        let response = self.segments().create_segment_upload(self.request(request)).await?;
        let upload = response.into_inner().upload;
        for (piece, keys) in (0..).zip(pieces) {
            let piece = admin::UploadSegmentKeysRequest {
                project: PROJECT.into(),
                upload: upload.clone(),
                piece,
                keys: keys.to_vec(),
            };
            self.segments().upload_segment_keys(self.request(piece)).await?;
        }
        Ok(upload)
    }

    /// Activates an upload, and returns the revision.
    pub async fn activate(&self, upload: String, mode: admin::UploadMode) -> Result<u64> {
        let activation = admin::ActivateSegmentUploadRequest {
            project: PROJECT.into(),
            upload,
            mode: mode.into(),
            ..admin::ActivateSegmentUploadRequest::default()
        };
        let activated = self
            .segments()
            .activate_segment_upload(self.request(activation))
            .await?;
        let revisions = activated.into_inner().revisions;
        Ok(revisions.first().ok_or("nothing was changed")?.revision)
    }
}

impl Administrator {
    async fn experiment(&self) -> Result<()> {
        self.flag(PROJECT, TESTED).await?;
        let mut rules = rules();
        let audience = rules.pop().map(|third| third.conditions).unwrap_or_default();
        self.configure(TESTED, rules).await?;
        let arm = |variant: &str, weight, control| admin::Arm {
            variant: variant.into(),
            weight,
            control,
        };
        let create = admin::CreateExperimentRequest {
            experiment: Some(admin::Experiment {
                project: PROJECT.into(),
                environment: ENVIRONMENT.into(),
                key: EXPERIMENT.into(),
                flag: TESTED.into(),
                arms: vec![arm("on", 25, false), arm("off", 75, true)],
                audience,
                allocation_millionths: 1_000_000,
                ..admin::Experiment::default()
            }),
            ..admin::CreateExperimentRequest::default()
        };
        let mut experiments = ExperimentServiceClient::new(self.channel.clone());
        experiments.create_experiment(self.request(create)).await?;
        let start = admin::StartExperimentRequest {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            experiment: EXPERIMENT.into(),
            ..admin::StartExperimentRequest::default()
        };
        experiments.start_experiment(self.request(start)).await?;
        Ok(())
    }
}

/// A floor of this shape on these cores that answers and streams these messages.
pub fn floor(cores: &[usize], shape: super::floor::Shape, messages: &[String], before: &[String]) -> Result<Replica> {
    bare(cores, ("floor", shape), messages, before)
}

/// A floor of this shape on these cores that answers with these bytes when it is asked for everything.
pub fn constant(cores: &[usize], shape: super::floor::Shape, bytes: &[u8]) -> Result<Replica> {
    bare(cores, ("constant", shape), &[hex::encode(bytes)], &[])
}

fn bare(
    cores: &[usize],
    (kind, shape): (&str, super::floor::Shape),
    messages: &[String],
    before: &[String],
) -> Result<Replica> {
    let program = std::env::current_exe()?.display().to_string();
    let words = [program, kind.to_owned(), shape.argument()];
    let mut words = before.iter().cloned().chain(words).chain(messages.iter().cloned());
    let mut command = Command::new(words.next().ok_or("no program")?);
    let mut process = process::Process::start(cores, command.args(words))?;
    let address = process.line()?.parse()?;
    Ok(Replica { process, address })
}
