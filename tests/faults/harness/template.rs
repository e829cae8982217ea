//! What every world begins with: made once per test program, copied for each world.

use std::sync::LazyLock;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use halyard::pb::evaluation::v1::ValueType;
use rustix::process::Signal;
use tonic::transport::Channel;

use super::calls::{PROJECT, with};
use super::doors::{Doors, connect};
use super::postgres::{Postgres, signal};
use super::replica::Replica;
use crate::support::program::{halyard, run};
use crate::support::{eventually, within};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery staple";
/// Flags that one writer each configures.
pub const FLAGS: usize = 8;
/// Flags that are toggled together.
pub const GROUP: [&str; 3] = ["group-a", "group-b", "group-c"];
/// Environments that there are; a world uses the first so many.
pub const ENVIRONMENTS: usize = 4;

/// The flag that a writer has for itself.
pub fn flag(writer: usize) -> String {
    format!("flag-{writer}")
}

/// What there is in the database.
#[derive(Debug, Clone)]
pub struct Furniture {
    /// Of a service token that may write.
    pub token: String,
    pub environments: Vec<Environment>,
}

#[derive(Debug, Clone)]
pub struct Environment {
    pub key: String,
    pub server_key: String,
    pub client_key: String,
}

/// A cluster that is down, and what is in it.
pub struct Template {
    pub postgres: Postgres,
    pub furniture: Furniture,
}

/// On a thread of its own, since each test has its own runtime.
pub static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let making = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(make())
    };
    std::thread::spawn(making).join().expect("no template")
});

async fn make() -> Template {
    let mut postgres = Postgres::initialise();
    postgres.start().await;
    halyard::store::migrate::run(&postgres.config()).await.unwrap();
    let folder = postgres.socket();
    let folder = folder.parent().unwrap();
    let url = format!("postgres://postgres@/postgres?host={}", folder.display());
    let mut command = halyard();
    command.args(["create-admin", "--email", EMAIL]);
    command.envs([("HALYARD_ADMIN_PASSWORD", PASSWORD), ("DATABASE_URL", &url)]);
    run(command).done();

    let doors = Doors::new(1);
    let mut replica = Replica::new(0, url, &[], folder, doors);
    replica.launch();
    let address = eventually("the first replica", async || replica.listens()).await;
    let furniture = within("the furniture", furnish(connect(address))).await;
    signal(replica.process(), Signal::TERM);
    drop(replica);
    postgres.shut_down();
    Template { postgres, furniture }
}

async fn furnish(channel: Channel) -> Furniture {
    let login = admin::LoginRequest {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        access_only: false,
    };
    let token = eventually("a login", async || {
        let login = AuthServiceClient::new(channel.clone()).login(login.clone()).await;
        login.ok().map(|login| login.into_inner().access_token)
    })
    .await;
    let client = || with(channel.clone(), &token);
    let project = admin::Project {
        key: PROJECT.into(),
        ..admin::Project::default()
    };
    let request = admin::CreateProjectRequest {
        project: Some(project),
        ..admin::CreateProjectRequest::default()
    };
    ProjectServiceClient::new(client())
        .create_project(request)
        .await
        .unwrap();
    let mut environments = Vec::new();
    for number in 0..ENVIRONMENTS {
        environments.push(environment(EnvironmentServiceClient::new(client()), number).await);
    }
    let keys = (0..FLAGS).map(flag).chain(GROUP.map(str::to_owned));
    for key in keys {
        let flag = admin::Flag {
            project: PROJECT.into(),
            key,
            r#type: ValueType::Bool.into(),
            client_visible: true,
            ..admin::Flag::default()
        };
        let request = admin::CreateFlagRequest {
            flag: Some(flag),
            ..admin::CreateFlagRequest::default()
        };
        FlagServiceClient::new(client()).create_flag(request).await.unwrap();
    }
    let request = admin::CreateServiceTokenRequest {
        project: PROJECT.into(),
        role: admin::ProjectRole::Admin.into(),
        name: "writers".into(),
        ..admin::CreateServiceTokenRequest::default()
    };
    let created = ServiceTokenServiceClient::new(client())
        .create_service_token(request)
        .await;
    Furniture {
        token: created.unwrap().into_inner().secret,
        environments,
    }
}

async fn environment(mut environments: EnvironmentServiceClient<super::calls::Client>, number: usize) -> Environment {
    let key = format!("stage-{number}");
    let environment = admin::Environment {
        project: PROJECT.into(),
        key: key.clone(),
        ..admin::Environment::default()
    };
    let request = admin::CreateEnvironmentRequest {
        environment: Some(environment),
        ..admin::CreateEnvironmentRequest::default()
    };
    let response = environments.create_environment(request).await.unwrap().into_inner();
    let secret = |kind: admin::KeyKind| {
        let mut keys = response.keys.iter();
        let key = keys.find(|key| key.key.as_ref().unwrap().kind() == kind);
        key.unwrap().secret.clone()
    };
    Environment {
        server_key: secret(admin::KeyKind::Server),
        client_key: secret(admin::KeyKind::Client),
        key,
    }
}
