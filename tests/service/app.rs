//! A running service, and clients that are let in.

use std::time::Duration;

use halyard::auth::jwt::{SigningKey, Tokens};
use halyard::cli::create_admin::create_administrator;
use halyard::domain::access::Environment;
use halyard::domain::email::Email;
use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::audit_service_client::AuditServiceClient;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::experiment_service_client::ExperimentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::segment_service_client::SegmentServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use halyard::rpc::admin::accounts::{self, Rate, Rates};
use halyard::server::{self, Server};
use halyard::store;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::support::eventually::PATIENCE;
use crate::support::{Database, database, eventually, within};

/// The first administrator of every test.
pub const EMAIL: &str = "ada@example.com";
pub const PASSWORD: &str = "correct horse battery staple";
/// How many writes a server can have on their way to PostgreSQL.
pub const WRITERS: usize = 8;
pub const SIGNING_KEY: &[u8] = b"a signing key for tests, 32 bytes or more";

/// A service on a database of its own, with an administrator.
pub struct App {
    pub database: Database,
    pub server: Server,
    pub channel: Channel,
    pub token: String,
}

/// A client that shows a credential.
pub type Client = InterceptedService<Channel, Bearer>;

/// Shows a credential with every call, and a reason if there is one.
#[derive(Clone)]
pub struct Bearer(Option<AsciiMetadataValue>);

impl Bearer {
    pub fn new(credential: &str) -> Self {
        Self(Some(format!("Bearer {credential}").parse().unwrap()))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(credential) = &self.0 {
            request.metadata_mut().insert("authorization", credential.clone());
        }
        Ok(request)
    }
}

impl App {
    pub async fn start() -> Self {
        Self::start_on(database().await).await
    }

    pub async fn start_on(database: Database) -> Self {
        Self::start_with(database, |_| ()).await
    }

    /// A service with other options than tests usually have.
    pub async fn start_with(database: Database, change: impl FnOnce(&mut server::Options)) -> Self {
        let mut options = options(&database);
        change(&mut options);
        let server = Server::start(options).await.unwrap();
        within("the first state", server.ready()).await;
        let channel = connect(&server).await;
        let created =
            create_administrator(server.store(), &Email::new(EMAIL).unwrap(), PASSWORD.to_owned().into()).await;
        created.unwrap();
        let token = within("a login", login(&channel, EMAIL, PASSWORD)).await.unwrap();
        Self {
            database,
            server,
            channel,
            token,
        }
    }

    /// A second replica on the same database, and a channel to it.
    pub async fn replica(&self) -> (Server, Channel) {
        let server = serve(&self.database).await;
        let channel = connect(&server).await;
        (server, channel)
    }

    fn administrator(&self) -> Client {
        InterceptedService::new(self.channel.clone(), Bearer::new(&self.token))
    }

    pub fn auth(&self) -> AuthServiceClient<Client> {
        AuthServiceClient::new(self.administrator())
    }

    pub fn users(&self) -> UserServiceClient<Client> {
        UserServiceClient::new(self.administrator())
    }

    /// An account, and a token of it.
    pub async fn user(&self, email: &str) -> (admin::User, String) {
        let user = self.account(email, admin::InstanceRole::Unspecified).await;
        (user, login(&self.channel, email, PASSWORD).await.unwrap())
    }

    pub async fn account(&self, email: &str, role: admin::InstanceRole) -> admin::User {
        let request = create_user(email, role);
        let created = self.users().create_user(request).await.unwrap().into_inner();
        created.user.unwrap()
    }

    pub fn audit(&self) -> AuditServiceClient<Client> {
        AuditServiceClient::new(self.administrator())
    }

    pub fn projects(&self) -> ProjectServiceClient<Client> {
        ProjectServiceClient::new(self.administrator())
    }

    pub fn environments(&self) -> EnvironmentServiceClient<Client> {
        EnvironmentServiceClient::new(self.administrator())
    }

    pub fn service_tokens(&self) -> ServiceTokenServiceClient<Client> {
        ServiceTokenServiceClient::new(self.administrator())
    }

    pub fn flags(&self) -> FlagServiceClient<Client> {
        FlagServiceClient::new(self.administrator())
    }

    pub fn experiments(&self) -> ExperimentServiceClient<Client> {
        ExperimentServiceClient::new(self.administrator())
    }

    pub fn segments(&self) -> SegmentServiceClient<Client> {
        SegmentServiceClient::new(self.administrator())
    }

    /// A project `shop` with an environment `dev`, and that environment's keys.
    pub async fn shop(&self) -> Keys {
        self.project("shop").await;
        self.environment("shop", "dev").await
    }

    pub async fn project(&self, key: &str) {
        let project = Some(admin::Project {
            key: key.into(),
            ..admin::Project::default()
        });
        let request = admin::CreateProjectRequest {
            project,
            ..admin::CreateProjectRequest::default()
        };
        self.projects().create_project(request).await.unwrap();
    }

    pub async fn environment(&self, project: &str, key: &str) -> Keys {
        let environment = Some(admin::Environment {
            project: project.into(),
            key: key.into(),
            ..admin::Environment::default()
        });
        let request = admin::CreateEnvironmentRequest {
            environment,
            ..admin::CreateEnvironmentRequest::default()
        };
        let response = self
            .environments()
            .create_environment(request)
            .await
            .unwrap()
            .into_inner();
        let secret = |kind: admin::KeyKind| {
            let key = response
                .keys
                .iter()
                .find(|key| key.key.as_ref().unwrap().kind() == kind)
                .unwrap();
            (key.key.as_ref().unwrap().id.clone(), key.secret.clone())
        };
        let ((server_id, server), (_, client)) = (secret(admin::KeyKind::Server), secret(admin::KeyKind::Client));
        Keys {
            server,
            server_id,
            client,
        }
    }

    /// A flag of type bool with the variants `on` and `off`.
    pub async fn flag(&self, key: &str) -> Vec<admin::EnvironmentRevision> {
        self.create_flag(bool_flag(key)).await
    }

    /// Creates a flag, and returns once this server's memory knows it.
    pub async fn create_flag(&self, flag: admin::Flag) -> Vec<admin::EnvironmentRevision> {
        let project = flag.project.clone();
        let request = admin::CreateFlagRequest {
            flag: Some(flag),
            ..admin::CreateFlagRequest::default()
        };
        let revisions = self.flags().create_flag(request).await.unwrap().into_inner().revisions;
        for revision in &revisions {
            within("the flag", self.applied(&project, revision)).await;
        }
        revisions
    }

    async fn applied(&self, project: &str, revision: &admin::EnvironmentRevision) {
        let hub = self.server.hub();
        let id = eventually("the environment", async || {
            let directory = hub.directory();
            let named = |it: &Environment| it.project.as_str() == project && it.key.as_str() == revision.environment;
            directory
                .environments
                .iter()
                .find(|(_, it)| named(it))
                .map(|(id, _)| *id)
        })
        .await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let environment = hub.await_environment(id, deadline).await.unwrap();
        environment.wait_for(revision.revision, deadline).await.unwrap();
    }

    /// Turns a flag of `shop` on or off in `dev`, and returns the revision once this server's memory has it; 0 if nothing changed.
    pub async fn toggle(&self, flag: &str, enabled: bool) -> u64 {
        let response = self
            .flags()
            .toggle_flags(toggle(flag, enabled))
            .await
            .unwrap()
            .into_inner();
        let Some(revision) = response.revisions.first() else {
            return 0;
        };
        within("the toggle", self.applied("shop", revision)).await;
        revision.revision
    }
}

/// The keys that an environment was created with.
pub struct Keys {
    pub server: String,
    pub server_id: String,
    pub client: String,
}

pub fn toggle(flag: &str, enabled: bool) -> admin::ToggleFlagsRequest {
    admin::ToggleFlagsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        toggles: vec![admin::Toggle {
            flag: flag.into(),
            enabled,
        }],
        ..admin::ToggleFlagsRequest::default()
    }
}

pub fn bool_flag(key: &str) -> admin::Flag {
    admin::Flag {
        project: "shop".into(),
        key: key.into(),
        r#type: pb::ValueType::Bool.into(),
        client_visible: true,
        ..admin::Flag::default()
    }
}

pub fn evaluation(channel: &Channel, key: &str) -> EvaluationServiceClient<Client> {
    EvaluationServiceClient::new(InterceptedService::new(channel.clone(), Bearer::new(key)))
}

pub fn watch(channel: &Channel, key: &str) -> WatchServiceClient<Client> {
    WatchServiceClient::new(InterceptedService::new(channel.clone(), Bearer::new(key)))
}

/// What a question about a flag without a context is answered.
pub async fn evaluate(channel: &Channel, key: &str, flag: &str, min_revision: u64) -> Result<pb::Evaluation, Status> {
    let request = pb::EvaluateRequest {
        flag: flag.into(),
        context: None,
        min_revision,
        explain: false,
    };
    let response = evaluation(channel, key).evaluate(request).await?;
    Ok(response.into_inner().evaluation.unwrap())
}

pub fn create_user(email: &str, role: admin::InstanceRole) -> admin::CreateUserRequest {
    admin::CreateUserRequest {
        user: Some(admin::User {
            email: email.into(),
            role: role.into(),
            ..admin::User::default()
        }),
        password: PASSWORD.into(),
        ..admin::CreateUserRequest::default()
    }
}

pub async fn login(channel: &Channel, email: &str, password: &str) -> Result<String, Status> {
    Ok(log_in(channel, email, password).await?.access_token)
}

/// A login with all that it gives.
pub async fn log_in(channel: &Channel, email: &str, password: &str) -> Result<admin::LoginResponse, Status> {
    let request = admin::LoginRequest {
        email: email.into(),
        password: password.into(),
        access_only: false,
    };
    let response = AuthServiceClient::new(channel.clone()).login(request).await?;
    Ok(response.into_inner())
}

pub async fn serve(database: &Database) -> Server {
    let server = Server::start(options(database)).await.unwrap();
    within("the first state", server.ready()).await;
    server
}

/// As a test wants it: quick to stop, everything else as in production.
pub fn options(database: &Database) -> server::Options {
    server::Options {
        connections: server::Connections::default(),
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: None,
        store: store::Settings {
            pool_size: WRITERS,
            // A machine that tests run on may be busy.
            assignments: store::assignments::Options {
                patience: Duration::from_secs(5),
                ..store::assignments::Options::default()
            },
            ..store::Settings::new(database.config.clone())
        },
        feed: store::feed::Options::default(),
        compaction: server::Compaction::default(),
        events: server::Events::default(),
        watch: halyard::watch::Options {
            drain_window: Duration::from_millis(200),
            ..halyard::watch::Options::default()
        },
        tokens: Tokens::new(&SigningKey::new(SIGNING_KEY).unwrap(), &[]),
        denials_every: server::DENIALS_EVERY,
        accounts: accounts::Options {
            rates: Rates {
                account: Rate::new(10_000, Duration::from_millis(1)),
                address: Rate::new(10_000, Duration::from_millis(1)),
            },
            ..accounts::Options::default()
        },
        openid: None,
        keepalive: halyard::server::Keepalive::default(),
        workers: 2,
        drain_window: Duration::from_millis(200),
        grace: Duration::from_secs(5),
    }
}

pub async fn connect(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    endpoint.connect().await.unwrap()
}
