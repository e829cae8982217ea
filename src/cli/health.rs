//! `halyard health`: how a server is, by gRPC's own health protocol. Exits 0 only if it is serving.

use std::io::Write;

use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Error;
use super::call::Caller;
use crate::config::{Health, Output};

pub(super) async fn run(config: Health, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let Health {
        server,
        service,
        output,
    } = config;
    let caller = Caller::new(server)?;
    let mut client = HealthClient::new(caller.channel.clone());
    let request = HealthCheckRequest {
        service: service.clone(),
    };
    let answer = caller.answer(client.check(caller.bounded_request(request))).await?;
    let status = answer.status();
    match output {
        Output::Text => writeln!(out, "{}", status.as_str_name())?,
        Output::Json => writeln!(out, "{}", json!({ "service": service, "status": status.as_str_name() }))?,
    }
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown => Err(Error::NotServing),
    }
}
