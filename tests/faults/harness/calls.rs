//! Calls with a credential.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::evidence::Answers;

pub type Client = InterceptedService<Channel, Bearer>;

/// Shows a credential with every call.
#[derive(Clone)]
pub struct Bearer(AsciiMetadataValue);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel that shows a credential: for any generated client.
pub fn with(channel: Channel, credential: &str) -> Client {
    InterceptedService::new(channel, Bearer(format!("Bearer {credential}").parse().unwrap()))
}

/// The only project.
pub const PROJECT: &str = "shop";

/// A request to configure a flag so that it serves `on` to everybody, by a rule of this name.
pub fn configure(environment: &str, flag: &str, rule: &str) -> admin::UpdateFlagConfigurationRequest {
    let condition = pb::Condition {
        attribute: "targeting_key".into(),
        operator: pb::Operator::Exists.into(),
        values: Vec::new(),
        negated: false,
    };
    let serve = pb::Serve {
        serve: Some(pb::serve::Serve::Variant("on".into())),
    };
    let rule = pb::Rule {
        key: rule.into(),
        description: String::new(),
        conditions: vec![condition],
        serve: Some(serve),
    };
    let configuration = admin::FlagConfiguration {
        project: PROJECT.into(),
        environment: environment.into(),
        flag: flag.into(),
        enabled: true,
        rules: vec![rule],
        ..admin::FlagConfiguration::default()
    };
    admin::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        ..admin::UpdateFlagConfigurationRequest::default()
    }
}

/// A request to turn flags on or off in one transaction.
pub fn toggle(environment: &str, flags: &[String], enabled: bool) -> admin::ToggleFlagsRequest {
    let toggle = |flag: &String| admin::Toggle {
        flag: flag.clone(),
        enabled,
    };
    admin::ToggleFlagsRequest {
        project: PROJECT.into(),
        environment: environment.into(),
        toggles: flags.iter().map(toggle).collect(),
        ..admin::ToggleFlagsRequest::default()
    }
}

/// The answers to everything for one context.
pub async fn evaluate_all(channel: Channel, key: &str) -> Result<Answers, Status> {
    let request = pb::EvaluateAllRequest {
        context: Some(pb::Context {
            targeting_key: "ada".into(),
            attributes: None,
        }),
        flags: Vec::new(),
        min_revision: 0,
    };
    let mut client = pb::evaluation_service_client::EvaluationServiceClient::new(with(channel, key));
    let response = client.evaluate_all(request).await?.into_inner();
    let flags = response.evaluations.into_iter();
    Ok(Answers {
        revision: response.revision,
        flags: flags
            .map(|evaluation| (evaluation.flag, evaluation.rule, evaluation.variant))
            .collect(),
    })
}
