//! Variables that look like settings and are none: a limit whose name was misspelt is not there, and somebody believes in it.
//!
//! They are told and not refused. Names that begin like ours belong to others too: Kubernetes puts some of every Service into every
//! pod beside it, and whoever deploys may have their own.

use std::collections::BTreeSet;

use super::environment::Environment;
use super::setting::Setting;
use super::subcommand::Subcommand;

const PREFIX: &str = "HALYARD_";
/// What is read beside this program: the image that `compose.yaml` runs.
const READ_ELSEWHERE: [&str; 1] = ["HALYARD_IMAGE"];

/// A variable that begins as ours do, and that no command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// The setting's variable that is probably meant.
    pub nearest: Option<String>,
}

/// Those of an environment, by name.
pub(super) fn of(environment: &Environment) -> Vec<Unknown> {
    let known: BTreeSet<String> = Subcommand::all()
        .flat_map(|(_, subcommand)| subcommand.settings())
        .flat_map(variables)
        .collect();
    let given: BTreeSet<&str> = environment.names().filter(|name| name.starts_with(PREFIX)).collect();
    let unknown = given
        .into_iter()
        .filter(|name| !known.contains(*name) && !READ_ELSEWHERE.contains(name) && !is_of_a_service(name, environment));
    unknown
        .map(|name| Unknown {
            name: name.to_owned(),
            nearest: nearest(name, &known),
        })
        .collect()
}

fn variables(setting: &Setting) -> Vec<String> {
    let mut variables = setting.variables();
    if setting.has_file() {
        let files: Vec<_> = variables.iter().map(|name| format!("{name}_FILE")).collect();
        variables.extend(files);
    }
    variables
}

/// The known one that is written most alike, if it is alike at all.
fn nearest(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let far = 1 + (name.len() - PREFIX.len()) / 5;
    let ours = known.iter().filter(|known| known.starts_with(PREFIX));
    let distances = ours.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (_, nearest) = distances.filter(|(distance, _)| *distance <= far).min()?;
    Some(nearest.clone())
}

/// Whether Kubernetes has put it here. Of a Service named `halyard` there are `HALYARD_SERVICE_HOST`, `HALYARD_SERVICE_PORT…`,
/// `HALYARD_PORT` and `HALYARD_PORT_50051_TCP…`; of one named `halyard-metrics` the same behind `HALYARD_METRICS`.
fn is_of_a_service(name: &str, environment: &Environment) -> bool {
    let of = |service: &str| service == "HALYARD" || environment.get(&format!("{service}_SERVICE_HOST")).is_some();
    let ends = |marker| name.match_indices(marker).map(|(at, _)| name.split_at(at));
    ends("_SERVICE_").any(|(service, _)| of(service))
        || ends("_PORT").any(|(service, rest)| {
            let rest = rest.trim_start_matches("_PORT");
            let is_port = rest.is_empty()
                || rest
                    .strip_prefix('_')
                    .is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
            is_port && of(service)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'a>(variables: impl IntoIterator<Item = &'a str>) -> Vec<(String, Option<String>)> {
        let environment = Environment::with(variables.into_iter().map(|name| (name, "5")));
        let unknown = of(&environment).into_iter();
        unknown.map(|Unknown { name, nearest }| (name, nearest)).collect()
    }

    #[test]
    fn what_is_misspelt_is_told_with_what_is_meant() {
        for (name, nearest) in [
            ("HALYARD_MAX_CONECTIONS", Some("HALYARD_MAX_CONNECTIONS")),
            ("HALYARD_MAX_CONNECTIONS_FILE", Some("HALYARD_MAX_CONNECTIONS")),
            ("HALYARD_SINGING_KEY_FILE", Some("HALYARD_SIGNING_KEY_FILE")),
            ("HALYARD_KEYS", Some("HALYARD_KEY")),
            ("HALYARD_ENDPIONT", Some("HALYARD_ENDPOINT")),
            ("HALYARD_COLOUR_OF_THE_DOOR", None),
            ("HALYARD_", None),
        ] {
            let nearest = nearest.map(str::to_owned);
            assert_eq!(told([name]), [(name.to_owned(), nearest)], "{name}");
        }
    }

    #[test]
    fn every_setting_of_every_command_is_known() {
        let known = [
            "HALYARD_MAX_CONNECTIONS",
            "HALYARD_SIGNING_KEY_FILE",
            "HALYARD_DATABASE_URL_FILE",
            "HALYARD_UPSTREAM",
            "HALYARD_CLIENT_KEY",
            "HALYARD_ADMIN_EMAIL",
            "HALYARD_COMPARE_KEY",
            "HALYARD_ENVIRONMENT",
        ];
        assert_eq!(told(known), []);
        // Those of others do not begin so, and an empty one is as good as none.
        assert_eq!(told(["HALYARDMAX", "halyard_max_conections", "PATH"]), []);
        assert_eq!(of(&Environment::with([("HALYARD_MAX_CONECTIONS", "")])), []);
    }

    #[test]
    fn what_kubernetes_says_of_services_is_nobodys_mistake() {
        let of = |service: &str| {
            [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_GRPC",
                "PORT",
                "PORT_50051_TCP",
                "PORT_50051_TCP_PROTO",
                "PORT_50051_TCP_PORT",
                "PORT_50051_TCP_ADDR",
            ]
            .map(|behind| format!("{service}_{behind}"))
        };
        let all = [of("HALYARD"), of("HALYARD_METRICS")].concat();
        assert_eq!(told(all.iter().map(String::as_str)), []);
        // Without such a Service it is.
        assert_eq!(
            told(["HALYARD_METRICS_PORT"]),
            [("HALYARD_METRICS_PORT".to_owned(), None)]
        );
        assert_eq!(told(["HALYARD_PORTS"]).len(), 1);
    }
}
