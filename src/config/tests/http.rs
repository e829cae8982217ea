//! What may be served beside gRPC.

use super::*;

const VARIABLES: [(&str, &str); 1] = [("HALYARD_SIGNING_KEY", KEY)];

fn origins(text: &str) -> Origins {
    Origins::Listed(text.split(',').map(str::to_owned).collect())
}

#[test]
fn nothing_is_served_to_pages_unless_it_is_asked_for() {
    let Http {
        cors_admin,
        cors_evaluation,
        metrics,
        limits,
    } = serve(SERVE, &VARIABLES).service.http;
    assert_eq!(
        (cors_admin, cors_evaluation, metrics),
        (Origins::None, Origins::None, false)
    );
    assert_eq!(limits.request_timeout, Duration::from_secs(30));
    assert_eq!(limits.request_bytes.get(), crate::domain::limits::REQUEST_BYTES);
    let counts = (limits.connection_streams.get(), limits.header_bytes.get());
    assert_eq!(counts, (2_000, 32_768));
}

#[test]
fn each_has_a_variable() {
    let variables = [
        VARIABLES[0],
        ("HALYARD_CORS_ADMIN_ORIGINS", "https://a.example,http://localhost:5173"),
        ("HALYARD_CORS_EVALUATION_ORIGINS", "*"),
        ("HALYARD_METRICS_ON_LISTEN", "true"),
        ("HALYARD_MAX_CONNECTION_STREAMS", "7"),
        ("HALYARD_MAX_REQUEST_BYTES", "65536"),
        ("HALYARD_MAX_HEADER_BYTES", "8192"),
        ("HALYARD_REQUEST_TIMEOUT", "5s"),
    ];
    let http = serve(SERVE, &variables).service.http;
    assert_eq!(http.cors_admin, origins("https://a.example,http://localhost:5173"));
    assert_eq!((http.cors_evaluation, http.metrics), (Origins::Any, true));
    assert_eq!(http.limits.connection_streams.get(), 7);
    assert_eq!(http.limits.request_bytes.get(), 65_536);
    assert_eq!(http.limits.header_bytes.get(), 8_192);
    assert_eq!(http.limits.request_timeout, Duration::from_secs(5));
}

#[test]
fn administration_is_not_for_all_pages_and_origins_are_said_as_browsers_say_them() {
    let with = |options: &str| format!("{SERVE} {options}");
    refused(
        &with(
            "--cors-admin-origins * --cors-evaluation-origins https://a.example/ --max-header-bytes 1 --request-timeout 0s",
        ),
        &VARIABLES,
        &[
            "--cors-admin-origins does not take *: any page",
            "--cors-evaluation-origins holds \"https://a.example/\", which goes on behind the host; write https://a.example",
            "--max-header-bytes is not a whole number of bytes between 8192 and 1048576",
            "--request-timeout must lie between",
        ],
    );
    refused(
        &with("--cors-admin-origins https://A.example"),
        &VARIABLES,
        &["write https://a.example"],
    );
}

#[test]
fn a_sidecar_has_no_pages_for_administration() {
    let refusal = read("sidecar --cors-admin-origins https://a.example", &[]).unwrap_err();
    assert!(refusal.to_string().contains("--cors-admin-origins"), "{refusal}");
}
