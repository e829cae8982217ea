//! Where traces go.

use super::{KEY, URL, refused, serve};
use crate::config::Traces;
use crate::tls::ClientFiles;

const SERVE: [(&str, &str); 2] = [("DATABASE_URL", URL), ("HALYARD_SIGNING_KEY", KEY)];

fn traces(line: &str, variables: &[(&str, &str)]) -> Option<Traces> {
    let variables: Vec<_> = SERVE.iter().chain(variables).copied().collect();
    serve(line, &variables).service.traces
}

#[test]
fn a_collector_is_found_under_either_name_and_a_few_requests_begin_traces() {
    let expected = Some(Traces {
        endpoint: "http://collector:4317".to_owned(),
        tls: None,
        share: 0.01,
    });
    assert_eq!(traces("serve --otlp-endpoint http://collector:4317", &[]), expected);
    for name in ["HALYARD_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        assert_eq!(traces("serve", &[(name, "http://collector:4317/")]), expected, "{name}");
    }
    assert_eq!(traces("serve", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
    let all = traces(
        "serve --trace-sample-ratio 1",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317")],
    );
    assert_eq!(all.map(|traces| traces.share), Some(1.0));
}

#[test]
fn what_cannot_be_a_collector_or_a_share_is_refused() {
    let line = "serve --otlp-endpoint collector:4317 --trace-sample-ratio 2";
    refused(
        line,
        &SERVE,
        &[
            "--otlp-endpoint is not a collector's address",
            "--trace-sample-ratio is not a number",
        ],
    );
    refused(
        "serve --trace-sample-ratio 0.5",
        &SERVE,
        &["--trace-sample-ratio means nothing without --otlp-endpoint"],
    );
}

#[test]
fn a_collector_over_tls_is_trusted_by_a_file_under_either_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    std::fs::write(&file, authority.pem()).unwrap();
    let file = file.to_str().unwrap();
    let expected = ClientFiles {
        authorities: Some(file.into()),
        own: None,
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317");
    for name in ["HALYARD_OTLP_CA_FILE", "OTEL_EXPORTER_OTLP_CERTIFICATE"] {
        let found = traces("serve", &[endpoint, (name, file)]).unwrap().tls;
        assert_eq!(found.as_ref(), Some(&expected), "{name}");
    }
    let nobody_in_particular = traces("serve", &[endpoint]).unwrap().tls;
    assert_eq!(nobody_in_particular, Some(ClientFiles::default()));
    // It may be there for other programs.
    let plain = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    assert_eq!(
        traces("serve", &[plain, ("OTEL_EXPORTER_OTLP_CERTIFICATE", file)])
            .unwrap()
            .tls,
        None
    );
}

#[test]
fn files_for_a_collector_that_cannot_be_used_are_refused() {
    let secure = "serve --otlp-endpoint https://collector:4317";
    let words = ["--otlp-ca-file names /nowhere/ca.pem: it cannot be read"];
    refused(&format!("{secure} --otlp-ca-file /nowhere/ca.pem"), &SERVE, &words);
    let words = ["--otlp-key-file is missing (or HALYARD_OTLP_KEY_FILE, OTEL_EXPORTER_OTLP_CLIENT_KEY)"];
    refused(&format!("{secure} --otlp-certificate-file own.pem"), &SERVE, &words);
    let words = ["--otlp-ca-file means nothing where the collector is not asked over TLS"];
    refused(
        "serve --otlp-endpoint http://collector:4317 --otlp-ca-file ca.pem",
        &SERVE,
        &words,
    );
}
