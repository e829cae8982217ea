//! `halyard toggle`: turns flags of one environment on or off, all or none of them.

use std::io::Write;

use serde_json::json;

use super::Error;
use super::call::Caller;
use super::identify::identify;
use crate::config::{Output, ToggleFlags};
use crate::pb::admin::v1::flag_service_client::FlagServiceClient;
use crate::pb::admin::v1::{Toggle, ToggleFlagsRequest, ToggleFlagsResponse};

pub(super) async fn run(config: ToggleFlags, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let ToggleFlags {
        server,
        credential,
        project,
        environment,
        toggles,
        output,
    } = config;
    let caller = identify(Caller::new(server)?, credential).await?;
    let mut client = FlagServiceClient::new(caller.channel.clone());
    let toggles = toggles.into_iter().map(|toggle| Toggle {
        flag: toggle.flag.into(),
        enabled: toggle.enabled,
    });
    let request = ToggleFlagsRequest {
        project: project.into(),
        environment: environment.into(),
        toggles: toggles.collect(),
        validate_only: false,
        request_id: String::new(),
    };
    let answer = caller
        .answer(client.toggle_flags(caller.bounded_request(request)))
        .await?;
    print(&answer, output, out)
}

fn print(answer: &ToggleFlagsResponse, output: Output, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let ToggleFlagsResponse {
        configurations,
        revisions,
        changed,
    } = answer;
    let revision = revisions.first().map(|revision| revision.revision);
    for configuration in configurations {
        let (flag, environment, enabled) = (&configuration.flag, &configuration.environment, configuration.enabled);
        match output {
            Output::Text => writeln!(out, "{flag}: {} in {environment}", if enabled { "on" } else { "off" })?,
            Output::Json => {
                let object = json!({
                    "flag": flag, "environment": environment, "enabled": enabled, "changed": changed, "revision": revision,
                });
                writeln!(out, "{object}")?;
            }
        }
    }
    if output == Output::Text {
        match revision {
            Some(revision) if *changed => writeln!(out, "revision {revision}")?,
            Some(_) | None => writeln!(out, "nothing changed: it was so already")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::admin::v1::{EnvironmentRevision, FlagConfiguration};

    fn printed(revision: Option<u64>, output: Output) -> String {
        let configuration = |flag: &str, enabled| FlagConfiguration {
            environment: "prod".to_owned(),
            flag: flag.to_owned(),
            enabled,
            ..FlagConfiguration::default()
        };
        let revisions = revision.map(|revision| EnvironmentRevision {
            environment: "prod".to_owned(),
            revision,
        });
        let answer = ToggleFlagsResponse {
            configurations: vec![configuration("a", true), configuration("b", false)],
            revisions: revisions.into_iter().collect(),
            changed: revision.is_some(),
        };
        let mut out = Vec::new();
        print(&answer, output, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_read_the_states_and_the_revision() {
        assert_eq!(
            printed(Some(8), Output::Text),
            "a: on in prod\nb: off in prod\nrevision 8\n"
        );
        assert_eq!(
            printed(None, Output::Text),
            "a: on in prod\nb: off in prod\nnothing changed: it was so already\n"
        );
    }

    #[test]
    fn programs_read_an_object_a_flag() {
        let lines = printed(Some(8), Output::Json);
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        let expected = json!({ "flag": "a", "environment": "prod", "enabled": true, "changed": true, "revision": 8 });
        assert_eq!(first, expected);
        assert_eq!(lines.lines().count(), 2);
    }
}
