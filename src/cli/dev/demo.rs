//! The demo project: three environments, a flag of each type, rules, a split, a segment and a prerequisite. Made through the public interface.

use anyhow::Context as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::keepsake::Keepsake;
use crate::cli::create_admin::create_administrator;
use crate::domain::email::Email;
use crate::pb::admin::v1 as admin;
use crate::pb::admin::v1::auth_service_client::AuthServiceClient;
use crate::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use crate::pb::admin::v1::flag_service_client::FlagServiceClient;
use crate::pb::admin::v1::project_service_client::ProjectServiceClient;
use crate::pb::admin::v1::segment_service_client::SegmentServiceClient;
use crate::pb::evaluation::v1 as pb;
use crate::pb::evaluation::v1::serve::Serve;
use crate::pb::evaluation::v1::variant;
use crate::server::Server;

/// The demo's project.
pub const PROJECT: &str = "demo";
/// The environment that the printed commands use.
pub const ENVIRONMENT: &str = "dev";
/// Who sees new things first.
const SEGMENT: &str = "beta-testers";
/// The administrator.
pub const EMAIL: &str = "admin@example.com";

const ENVIRONMENTS: [&str; 3] = [ENVIRONMENT, "staging", "prod"];

/// Makes whatever of the demo is missing, and keeps its keys.
pub async fn prepare(server: &Server, keepsake: &mut Keepsake) -> anyhow::Result<()> {
    let password = keepsake.make_password()?;
    create_administrator(server.store(), &Email::new(EMAIL)?, password.clone().into()).await?;
    let channel = server.channel().await?;
    let token = login(&channel, password).await?;
    let authorised = InterceptedService::new(channel, move |request| authorise(request, &token));
    let mut demo = Demo {
        projects: ProjectServiceClient::new(authorised.clone()),
        environments: EnvironmentServiceClient::new(authorised.clone()),
        flags: FlagServiceClient::new(authorised.clone()),
        segments: SegmentServiceClient::new(authorised),
    };
    demo.make(keepsake).await
}

async fn login(channel: &Channel, password: String) -> anyhow::Result<String> {
    let email = EMAIL.to_owned();
    let login = AuthServiceClient::new(channel.clone())
        .login(admin::LoginRequest {
            email,
            password,
            access_only: true,
        })
        .await;
    let login = login
        .context("the administrator's password was changed; put it into dev.env, or start with another --data-dir")?;
    Ok(login.into_inner().access_token)
}

fn authorise(mut request: Request<()>, token: &str) -> Result<Request<()>, Status> {
    let header = format!("Bearer {token}")
        .parse()
        .map_err(|_| Status::unauthenticated("the token is no header"))?;
    request.metadata_mut().insert("authorization", header);
    Ok(request)
}

struct Demo<S> {
    projects: ProjectServiceClient<S>,
    environments: EnvironmentServiceClient<S>,
    flags: FlagServiceClient<S>,
    segments: SegmentServiceClient<S>,
}

/// Whether the thing was made now; that it exists already is fine.
fn made<T>(response: Result<T, Status>) -> anyhow::Result<Option<T>> {
    match response {
        Ok(response) => Ok(Some(response)),
        Err(status) if status.code() == Code::AlreadyExists => Ok(None),
        Err(status) => Err(status.into()),
    }
}

impl<S> Demo<S>
where
    S: tonic::client::GrpcService<tonic::body::Body> + Clone,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    async fn make(&mut self, keepsake: &mut Keepsake) -> anyhow::Result<()> {
        let project = Some(admin::Project {
            key: PROJECT.into(),
            name: "Demo".into(),
            description: "Made by `halyard dev`, for trying things out.".into(),
            ..admin::Project::default()
        });
        made(
            self.projects
                .create_project(admin::CreateProjectRequest {
                    project,
                    ..Default::default()
                })
                .await,
        )?;
        for environment in ENVIRONMENTS {
            self.environment(environment, keepsake).await?;
        }
        if !keepsake.has_keys() {
            let (server, client) = (
                self.key(admin::KeyKind::Server).await?,
                self.key(admin::KeyKind::Client).await?,
            );
            keepsake.set_keys(server, client);
        }
        self.segment().await?;
        for (flag, configuration) in flags() {
            self.flag(flag, configuration).await?;
        }
        Ok(())
    }

    async fn environment(&mut self, key: &str, keepsake: &mut Keepsake) -> anyhow::Result<()> {
        let environment = Some(admin::Environment {
            project: PROJECT.into(),
            key: key.into(),
            protected: key == "prod",
            ..admin::Environment::default()
        });
        let request = admin::CreateEnvironmentRequest {
            environment,
            ..Default::default()
        };
        let Some(response) = made(self.environments.create_environment(request).await)? else {
            return Ok(());
        };
        let response = response.into_inner();
        let secret = |kind: admin::KeyKind| {
            let of_kind = |key: &&admin::CreatedKey| key.key.as_ref().is_some_and(|key| key.kind() == kind);
            response.keys.iter().find(of_kind).map(|key| key.secret.clone())
        };
        if key == ENVIRONMENT
            && let (Some(server), Some(client)) = (secret(admin::KeyKind::Server), secret(admin::KeyKind::Client))
        {
            keepsake.set_keys(server, client);
        }
        Ok(())
    }

    async fn key(&mut self, kind: admin::KeyKind) -> anyhow::Result<String> {
        let request = admin::CreateKeyRequest {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            kind: kind.into(),
            name: "made by halyard dev".into(),
            ..Default::default()
        };
        let response = self.environments.create_key(request).await?.into_inner();
        Ok(response.key.context("a response without a key")?.secret)
    }

    /// The segment that a rule asks, with its configuration in the first environment.
    async fn segment(&mut self) -> anyhow::Result<()> {
        let segment = Some(admin::Segment {
            project: PROJECT.into(),
            key: SEGMENT.into(),
            name: "Beta testers".into(),
            description: "Those who asked to see new things first.".into(),
            ..admin::Segment::default()
        });
        let request = admin::CreateSegmentRequest {
            segment,
            ..Default::default()
        };
        made(self.segments.create_segment(request).await)?;
        let request = admin::GetSegmentConfigurationRequest {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            segment: SEGMENT.into(),
        };
        let found = self.segments.get_segment_configuration(request).await?.into_inner();
        if found.configuration.is_some_and(|found| found.update_time.is_some()) {
            return Ok(());
        }
        let configuration = Some(admin::SegmentConfiguration {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            segment: SEGMENT.into(),
            included: vec!["ada".into(), "grace".into()],
            conditions: vec![condition("beta", pb::Operator::Equals, vec![Kind::BoolValue(true)])],
            ..admin::SegmentConfiguration::default()
        });
        let request = admin::UpdateSegmentConfigurationRequest {
            configuration,
            ..Default::default()
        };
        self.segments.update_segment_configuration(request).await?;
        Ok(())
    }

    async fn flag(&mut self, flag: admin::Flag, configuration: admin::FlagConfiguration) -> anyhow::Result<()> {
        let request = admin::CreateFlagRequest {
            flag: Some(flag),
            ..Default::default()
        };
        made(self.flags.create_flag(request).await)?;
        let request = admin::GetFlagConfigurationRequest {
            project: PROJECT.into(),
            environment: ENVIRONMENT.into(),
            flag: configuration.flag.clone(),
        };
        let found = self.flags.get_flag_configuration(request).await?.into_inner();
        if found.configuration.is_some_and(|found| found.update_time.is_some()) {
            return Ok(());
        }
        let request = admin::UpdateFlagConfigurationRequest {
            configuration: Some(configuration),
            ..Default::default()
        };
        self.flags.update_flag_configuration(request).await?;
        Ok(())
    }
}

/// A flag of each type, with its configuration in the first environment: after those that it depends on.
fn flags() -> [(admin::Flag, admin::FlagConfiguration); 5] {
    use pb::Operator::{EndsWith, InSegment, NumberGreaterOrEqual, OneOf};
    let split = |weights: &[(&str, u32)]| pb::Serve {
        serve: Some(Serve::Split(pb::Split {
            variants: weights
                .iter()
                .map(|&(variant, weight)| pb::WeightedVariant {
                    variant: variant.into(),
                    weight,
                })
                .collect(),
            attribute: String::new(),
        })),
    };
    let text = |text: &str| Kind::StringValue(text.into());
    let theme = |colour: &str| {
        let fields = [(
            "background".to_owned(),
            Value {
                kind: Some(text(colour)),
            },
        )]
        .into();
        variant::Value::ObjectValue(Struct { fields })
    };
    [
        flag(
            "new-checkout",
            "The new checkout: for our own people at once, for a quarter of everybody else.",
            pb::ValueType::Bool,
            vec![
                ("on", variant::Value::BoolValue(true)),
                ("off", variant::Value::BoolValue(false)),
            ],
            vec![rule("staff", "email", EndsWith, vec![text("@example.com")], only("on"))],
            split(&[("on", 25), ("off", 75)]),
        ),
        flag(
            "greeting",
            "What the shop says at its door.",
            pb::ValueType::String,
            vec![
                ("plain", variant::Value::StringValue("Welcome".into())),
                ("warm", variant::Value::StringValue("How good to see you!".into())),
            ],
            vec![rule(
                "regulars",
                "plan",
                OneOf,
                vec![text("gold"), text("platinum")],
                only("warm"),
            )],
            only("plain"),
        ),
        flag(
            "page-size",
            "How many products a page shows.",
            pb::ValueType::Integer,
            vec![
                ("small", variant::Value::IntegerValue(20)),
                ("large", variant::Value::IntegerValue(100)),
            ],
            vec![rule(
                "wide",
                "screen.width",
                NumberGreaterOrEqual,
                vec![Kind::NumberValue(1600.0)],
                only("large"),
            )],
            only("small"),
        ),
        depending(flag(
            "discount",
            "The share that is taken off a price, in the new checkout only.",
            pb::ValueType::Double,
            vec![
                ("none", variant::Value::DoubleValue(0.0)),
                ("tenth", variant::Value::DoubleValue(0.1)),
            ],
            vec![rule(
                "large-carts",
                "cart.total",
                NumberGreaterOrEqual,
                vec![Kind::NumberValue(200.0)],
                only("tenth"),
            )],
            only("none"),
        )),
        flag(
            "theme",
            "What the shop looks like.",
            pb::ValueType::Object,
            vec![("light", theme("#ffffff")), ("dark", theme("#101418"))],
            vec![rule("beta", "", InSegment, vec![text(SEGMENT)], only("dark"))],
            split(&[("light", 50), ("dark", 50)]),
        ),
    ]
}

fn flag(
    key: &str,
    description: &str,
    value_type: pb::ValueType,
    variants: Vec<(&str, variant::Value)>,
    rules: Vec<pb::Rule>,
    default_serve: pb::Serve,
) -> (admin::Flag, admin::FlagConfiguration) {
    let off_variant = if value_type == pb::ValueType::Bool {
        "off"
    } else {
        variants.first().map_or("", |(key, _)| key)
    };
    let flag = admin::Flag {
        project: PROJECT.into(),
        key: key.into(),
        description: description.into(),
        r#type: value_type.into(),
        off_variant: off_variant.into(),
        default_variant: variants.first().map(|(key, _)| (*key).to_owned()).unwrap_or_default(),
        variants: variants
            .into_iter()
            .map(|(key, value)| pb::Variant {
                key: key.into(),
                value: Some(value),
                description: String::new(),
            })
            .collect(),
        client_visible: true,
        ..admin::Flag::default()
    };
    let configuration = admin::FlagConfiguration {
        project: PROJECT.into(),
        environment: ENVIRONMENT.into(),
        flag: key.into(),
        enabled: true,
        rules,
        default_serve: Some(default_serve),
        ..admin::FlagConfiguration::default()
    };
    (flag, configuration)
}

/// The same, but only where the new checkout is.
fn depending(
    (flag, mut configuration): (admin::Flag, admin::FlagConfiguration),
) -> (admin::Flag, admin::FlagConfiguration) {
    configuration.prerequisites.push(pb::Prerequisite {
        flag: "new-checkout".into(),
        variants: vec!["on".into()],
    });
    (flag, configuration)
}

fn rule(key: &str, attribute: &str, operator: pb::Operator, values: Vec<Kind>, serve: pb::Serve) -> pb::Rule {
    pb::Rule {
        key: key.into(),
        description: String::new(),
        conditions: vec![condition(attribute, operator, values)],
        serve: Some(serve),
    }
}

fn condition(attribute: &str, operator: pb::Operator, values: Vec<Kind>) -> pb::Condition {
    let values = values.into_iter().map(|kind| Value { kind: Some(kind) });
    pb::Condition {
        attribute: attribute.into(),
        operator: operator.into(),
        values: values.collect(),
        negated: false,
    }
}

fn only(variant: &str) -> pb::Serve {
    pb::Serve {
        serve: Some(Serve::Variant(variant.into())),
    }
}
