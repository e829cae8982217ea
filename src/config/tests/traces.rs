//! Where traces go.

use super::{KEY, URL, refused, serve};
use crate::config::Traces;

const SERVE: [(&str, &str); 2] = [("DATABASE_URL", URL), ("HALYARD_SIGNING_KEY", KEY)];

fn traces(line: &str, variables: &[(&str, &str)]) -> Option<Traces> {
    let variables: Vec<_> = SERVE.iter().chain(variables).copied().collect();
    serve(line, &variables).service.traces
}

#[test]
fn a_collector_is_found_under_either_name_and_a_few_requests_begin_traces() {
    let expected = Some(Traces {
        endpoint: "http://collector:4317".to_owned(),
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
