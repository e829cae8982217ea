//! What configurations are accepted, and everything that is said about the others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::auth::openid::{ClaimPath, RoleMap};
use crate::domain::limits;

mod audit;
mod bench;
mod client;
mod tuning;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const URL: &str = "postgres://halyard:hunter2@db/halyard";
const SERVE: &str = "serve --database-url postgres://halyard:hunter2@db/halyard";

fn read(line: &str, variables: &[(&str, &str)]) -> Result<Configuration, Refusal> {
    let arguments = std::iter::once("halyard").chain(line.split_whitespace());
    parse(arguments, &Environment::with(variables.iter().copied()))
}

fn serve(line: &str, variables: &[(&str, &str)]) -> Serve {
    let Command::Serve(serve) = read(line, variables).unwrap().command else {
        panic!("not serve: {line}");
    };
    *serve
}

/// Everything that is said about a configuration.
fn said(line: &str, variables: &[(&str, &str)]) -> String {
    let refusal = read(line, variables).expect_err(line);
    assert_eq!(refusal.code(), USAGE, "{refusal}");
    refusal.to_string()
}

/// The configuration is refused with exactly as many problems as there are expected texts, each of which is said.
fn refused(line: &str, variables: &[(&str, &str)], expected: &[&str]) {
    let text = said(line, variables);
    for part in expected {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert_eq!(text.lines().count(), expected.len() + 1, "{text}");
}

fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn serving_needs_a_database_and_a_signing_key_and_no_more() {
    let serve = serve("serve", &[("DATABASE_URL", URL), ("HALYARD_SIGNING_KEY", KEY)]);
    assert!(matches!(&serve.database, Database::Url(url) if url.expose() == URL));
    let Service {
        previous_signing_keys,
        sign_up,
        openid,
        listen,
        metrics_listen,
        connections,
        worker_threads: _,
        database_pool_size,
        history,
        events,
        streams,
        tuning: _,
        shutdown,
    } = serve.service;
    assert!(previous_signing_keys.is_empty() && !sign_up && openid.is_none());
    assert_eq!(listen.to_string(), "0.0.0.0:50051");
    assert_eq!(metrics_listen, None);
    assert_eq!(
        (connections.most.get(), connections.opening),
        (20_000, Duration::from_secs(10))
    );
    assert_eq!(connections.tls, None);
    assert_eq!(database_pool_size.get(), 8);
    assert_eq!((history.horizon_revisions.get(), history.retention), (10_000, None));
    assert_eq!(history.horizon_age, Duration::from_hours(24));
    assert_eq!(history.interval, Duration::from_mins(10));
    assert_eq!((events.window_days, events.retention_days), (3, 400));
    assert_eq!(streams.heartbeat, Duration::from_secs(10));
    assert_eq!(streams.rotation, Duration::from_mins(30));
    assert_eq!(streams.snapshot_bytes.get(), 128 * 1024 * 1024);
    let most = (streams.most.get(), streams.most_of_key.get());
    assert_eq!(most, (limits::STREAMS, limits::KEY_STREAMS));
    assert_eq!(shutdown.grace, Duration::from_secs(30));
    assert_eq!(shutdown.drain_window, Duration::from_secs(10));
}

#[test]
fn every_option_has_a_variable() {
    let variables = [
        ("HALYARD_EMBEDDED", "true"),
        ("HALYARD_DATA_DIR", "/data"),
        ("HALYARD_POSTGRES_BIN_DIR", "/pg"),
        ("HALYARD_SIGNING_KEY", KEY),
        ("HALYARD_PREVIOUS_SIGNING_KEY", KEY),
        ("HALYARD_SIGN_UP", "true"),
        ("HALYARD_OIDC_ISSUER", "https://login.example.com/main"),
        ("HALYARD_OIDC_AUDIENCE", "halyard"),
        ("HALYARD_OIDC_ROLES_CLAIM", "realm_access.roles"),
        ("HALYARD_OIDC_ROLES", "ops=administrator"),
        ("HALYARD_EVENT_WINDOW_DAYS", "7"),
        ("HALYARD_EVENT_RETENTION_DAYS", "30"),
        ("HALYARD_HISTORY_RETENTION", "2160h"),
        ("HALYARD_HORIZON_REVISIONS", "1"),
        ("HALYARD_HORIZON_AGE", "0s"),
        ("HALYARD_COMPACTION_INTERVAL", "1s"),
        ("HALYARD_LISTEN", "[::1]:1"),
        ("HALYARD_METRICS_LISTEN", "[::1]:2"),
        ("HALYARD_WORKER_THREADS", "3"),
        ("HALYARD_DATABASE_POOL_SIZE", "4"),
        ("HALYARD_SHUTDOWN_GRACE", "6s"),
        ("HALYARD_DRAIN_WINDOW", "5s"),
        ("HALYARD_HEARTBEAT", "2s"),
        ("HALYARD_STREAM_ROTATION", "7m"),
        ("HALYARD_MAX_SNAPSHOT_BYTES", "65536"),
        ("HALYARD_MAX_STREAMS", "9"),
        ("HALYARD_MAX_KEY_STREAMS", "8"),
        ("HALYARD_LOG", "debug"),
        ("HALYARD_LOG_FORMAT", "json"),
    ];
    let serve = serve("serve", &variables);
    let expected = Embedded {
        data_dir: Some("/data".into()),
        postgres_bin_dir: Some("/pg".into()),
    };
    assert!(matches!(serve.database, Database::Embedded(embedded) if embedded == expected));
    assert_eq!(serve.service.previous_signing_keys.len(), 1);
    assert!(serve.service.sign_up);
    let openid = serve.service.openid.unwrap();
    assert_eq!(openid.issuer.as_str(), "https://login.example.com/main");
    assert_eq!(openid.audience, "halyard");
    assert_eq!(openid.roles_claim, ClaimPath::new("realm_access.roles").unwrap());
    assert_eq!(openid.roles, RoleMap::parse("ops=administrator").unwrap());
    assert_eq!(serve.service.listen.to_string(), "[::1]:1");
    assert_eq!(serve.service.metrics_listen.unwrap().to_string(), "[::1]:2");
    assert_eq!(serve.service.worker_threads.get(), 3);
    assert_eq!(serve.service.database_pool_size.get(), 4);
    let history = serve.service.history;
    assert_eq!(
        (history.horizon_revisions.get(), history.horizon_age),
        (1, Duration::ZERO)
    );
    assert_eq!(history.retention, Some(Duration::from_hours(2160)));
    let events = serve.service.events;
    assert_eq!((events.window_days, events.retention_days), (7, 30));
    assert_eq!(history.interval, Duration::from_secs(1));
    assert_eq!(serve.service.shutdown.grace, Duration::from_secs(6));
    assert_eq!(serve.service.shutdown.drain_window, Duration::from_secs(5));
    assert_eq!(serve.service.streams.heartbeat, Duration::from_secs(2));
    assert_eq!(serve.service.streams.rotation, Duration::from_mins(7));
    assert_eq!(serve.service.streams.snapshot_bytes.get(), 65_536);
    assert_eq!(serve.service.streams.most.get(), 9);
    assert_eq!(serve.service.streams.most_of_key.get(), 8);
    let log = read("serve", &variables).unwrap().log;
    assert_eq!((log.filter.as_str(), log.format), ("debug", LogFormat::Json));
}

#[test]
fn an_issuer_takes_an_audience_and_the_rest_takes_an_issuer() {
    let variables = [("HALYARD_SIGNING_KEY", KEY)];
    let with = |options: &str| format!("{SERVE} {options}");
    let openid = serve(&with("--oidc-issuer https://a --oidc-audience b"), &variables)
        .service
        .openid;
    let openid = openid.unwrap();
    assert_eq!(openid.roles_claim, ClaimPath::new("groups").unwrap());
    assert_eq!(openid.roles, RoleMap::default());
    let issuer = with("--oidc-issuer https://a");
    refused(
        &issuer,
        &variables,
        &["--oidc-audience is missing beside --oidc-issuer"],
    );
    for lonely in [
        "--oidc-audience b",
        "--oidc-roles a=administrator",
        "--oidc-roles-claim c",
    ] {
        refused(&with(lonely), &variables, &["--oidc-issuer is missing"]);
    }
}

#[test]
fn everything_that_is_wrong_about_an_issuer_is_said_at_once() {
    let wrong = format!("{SERVE} --oidc-issuer http://a --oidc-audience= --oidc-roles a=b --oidc-roles-claim a..b");
    let expected = [
        "--oidc-issuer is not https",
        "--oidc-audience is empty",
        "--oidc-roles holds",
        "--oidc-roles-claim is not",
    ];
    refused(&wrong, &[("HALYARD_SIGNING_KEY", KEY)], &expected);
}

#[test]
fn metrics_have_a_port_of_their_own() {
    let variables = [("HALYARD_SIGNING_KEY", KEY)];
    let with = |listen: &str, metrics: &str| format!("{SERVE} --listen {listen} --metrics-listen {metrics}");
    for (listen, metrics) in [
        ("0.0.0.0:7", "127.0.0.1:8"),
        ("127.0.0.1:7", "127.0.0.2:7"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ] {
        let service = serve(&with(listen, metrics), &variables).service;
        assert_eq!(service.metrics_listen.unwrap().to_string(), metrics);
    }
    for (listen, metrics) in [
        ("0.0.0.0:7", "127.0.0.1:7"),
        ("127.0.0.1:7", "127.0.0.1:7"),
        ("127.0.0.1:7", "[::]:7"),
    ] {
        refused(&with(listen, metrics), &variables, &["--metrics-listen takes the port"]);
    }
    let both = ["--listen is not", "--metrics-listen is not"];
    refused(&with("here", "there"), &variables, &both);
}

#[test]
fn arguments_beat_variables() {
    let variables = [("HALYARD_SIGNING_KEY", KEY), ("HALYARD_LISTEN", "nonsense")];
    let serve = serve(&format!("{SERVE} --listen 127.0.0.1:7"), &variables);
    assert_eq!(serve.service.listen.to_string(), "127.0.0.1:7");
}

#[test]
fn our_own_database_variable_beats_the_common_one() {
    let variables = [
        ("HALYARD_SIGNING_KEY", KEY),
        ("DATABASE_URL", "nonsense"),
        ("HALYARD_DATABASE_URL", URL),
    ];
    assert!(matches!(serve("serve", &variables).database, Database::Url(url) if url.expose() == URL));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let serve = serve(
        SERVE,
        &[
            ("HALYARD_SIGNING_KEY", KEY),
            ("HALYARD_EMBEDDED", ""),
            ("HALYARD_LISTEN", ""),
        ],
    );
    assert_eq!(serve.service.listen.port(), 50051);
    refused(SERVE, &[("HALYARD_SIGNING_KEY", "")], &["--signing-key is missing"]);
}

#[test]
fn everything_wrong_is_said_at_once() {
    refused(
        "serve --listen here --worker-threads 0 --shutdown-grace 5 --log-format xml --log a=b=c",
        &[
            ("HALYARD_SIGNING_KEY", "short"),
            ("HALYARD_HEARTBEAT", "100ms"),
            ("HALYARD_STREAM_ROTATION", "never"),
            ("HALYARD_DATABASE_POOL_SIZE", "many"),
        ],
        &[
            "--listen is not an IP address and a port, such as 0.0.0.0:50051 or [::]:50051: \"here\"",
            "--worker-threads is not a whole number between 1 and 1024: \"0\"",
            "--shutdown-grace is not a duration, such as 30s or 1m30s: \"5\"",
            "--log-format is none of auto, text and json: \"xml\"",
            "--log is not a filter",
            "--signing-key is too short",
            "--heartbeat must lie between --heartbeat-least and --heartbeat-most",
            "HALYARD_STREAM_ROTATION is not a duration",
            "HALYARD_DATABASE_POOL_SIZE is not a whole number between 1 and 1000: \"many\"",
            "--database-url and --embedded are both missing",
        ],
    );
}

#[test]
fn exactly_one_database_is_chosen() {
    let key = ("HALYARD_SIGNING_KEY", KEY);
    refused("serve", &[key], &["--database-url and --embedded are both missing"]);
    for (line, variable) in [
        ("serve --embedded", ("DATABASE_URL", URL)),
        (SERVE, ("HALYARD_EMBEDDED", "yes")),
    ] {
        refused(
            line,
            &[key, variable],
            &["--embedded and a database URL are both given"],
        );
    }
    let off = serve(SERVE, &[key, ("HALYARD_EMBEDDED", "false")]);
    assert!(matches!(off.database, Database::Url(_)));
    let overridden = serve(&format!("{SERVE} --embedded=false"), &[key, ("HALYARD_EMBEDDED", "1")]);
    assert!(matches!(overridden.database, Database::Url(_)));
    refused("migrate", &[], &["are both missing"]);
}

#[test]
fn settings_of_the_private_database_need_it() {
    refused(
        &format!("{SERVE} --data-dir /data --postgres-bin-dir /pg"),
        &[("HALYARD_SIGNING_KEY", KEY)],
        &["--data-dir means nothing", "--postgres-bin-dir means nothing"],
    );
}

#[test]
fn a_short_signing_key_is_refused_without_being_shown() {
    let text = said(SERVE, &[("HALYARD_SIGNING_KEY", &KEY[1..])]);
    assert!(text.contains("has 31 bytes; at least 32 are required"), "{text}");
    assert!(!text.contains(&KEY[1..]), "{text}");
}

#[test]
fn keys_that_signed_before_are_read_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let keys = file(&folder, "keys", format!("{KEY}\r\n\n{KEY}x\n").as_bytes());
    let line = format!("{SERVE} --previous-signing-key-file {keys}");
    let serve = serve(&line, &[("HALYARD_SIGNING_KEY", KEY)]);
    assert_eq!(serve.service.previous_signing_keys.len(), 2);
    let short = ("HALYARD_PREVIOUS_SIGNING_KEY", "too short a key");
    let text = said(SERVE, &[("HALYARD_SIGNING_KEY", KEY), short]);
    assert!(
        text.contains("--previous-signing-key holds a line that is too short"),
        "{text}"
    );
    assert!(!text.contains("too short a key"), "{text}");
}

#[test]
fn a_wrong_database_url_is_refused_without_being_shown() {
    let text = said(
        "serve --database-url mysql://root:hunter2@db",
        &[("HALYARD_SIGNING_KEY", KEY)],
    );
    assert!(text.contains("does not begin with postgres://"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn secrets_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let key = file(&folder, "key", format!("{KEY}\n").as_bytes());
    let url = file(&folder, "url", format!("{URL}\r\n").as_bytes());
    let by_variable = serve(
        "serve",
        &[("HALYARD_DATABASE_URL_FILE", &url), ("HALYARD_SIGNING_KEY_FILE", &key)],
    );
    assert!(matches!(by_variable.database, Database::Url(read) if read.expose() == URL));
    let by_argument = serve(
        &format!("serve --database-url-file {url} --signing-key-file {key}"),
        &[],
    );
    assert!(matches!(by_argument.database, Database::Url(read) if read.expose() == URL));
    serve(
        "serve",
        &[("DATABASE_URL_FILE", &url), ("HALYARD_SIGNING_KEY_FILE", &key)],
    );
}

#[test]
fn files_that_hold_no_secret_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = file(&folder, "empty", b"\n");
    let binary = file(&folder, "binary", &[0xff; 40]);
    let large = file(&folder, "large", &vec![b'a'; 64 * 1024 + 1]);
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    for (path, description) in [
        (empty, "is empty"),
        (binary, "is not UTF-8 text"),
        (large, "has more than 65536 bytes"),
        (missing, "cannot be read (entity not found)"),
    ] {
        let expected = format!("HALYARD_SIGNING_KEY_FILE {description}");
        let text = said(SERVE, &[("HALYARD_SIGNING_KEY_FILE", &path)]);
        assert!(text.contains(&expected) && text.contains(&path), "{text}");
    }
}

#[test]
fn a_secret_and_its_file_are_one_too_many() {
    let expected = ["HALYARD_SIGNING_KEY and HALYARD_SIGNING_KEY_FILE are both given"];
    refused(
        SERVE,
        &[("HALYARD_SIGNING_KEY", KEY), ("HALYARD_SIGNING_KEY_FILE", "/key")],
        &expected,
    );
    let line = format!("{SERVE} --signing-key {KEY} --signing-key-file /key");
    refused(&line, &[], &["--signing-key and --signing-key-file are both given"]);
}

#[test]
fn a_switch_is_true_or_false() {
    refused(
        SERVE,
        &[("HALYARD_SIGNING_KEY", KEY), ("HALYARD_EMBEDDED", "perhaps")],
        &["HALYARD_EMBEDDED is neither true nor false: \"perhaps\""],
    );
}

#[test]
fn draining_is_part_of_the_grace() {
    let line = format!("{SERVE} --shutdown-grace 5s --drain-window 6s");
    refused(
        &line,
        &[("HALYARD_SIGNING_KEY", KEY)],
        &["--drain-window must not be longer than --shutdown-grace"],
    );
}

#[test]
fn wrong_arguments_exit_like_wrong_values() {
    for line in [
        "",
        "sail",
        "serve --speed 3",
        "serve extra",
        "dev --database-url x",
        "serve --listen",
    ] {
        assert_eq!(read(line, &[]).unwrap_err().code(), USAGE, "{line}");
    }
}

#[test]
fn help_is_no_failure_and_names_the_variables() {
    for line in ["--help", "--version", "help serve"] {
        assert_eq!(read(line, &[]).unwrap_err().code(), 0, "{line}");
    }
    let help = read("serve --help", &[]).unwrap_err().to_string();
    let one_line = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "[env: HALYARD_DATABASE_URL, DATABASE_URL]",
        "[env: HALYARD_SIGNING_KEY_FILE]",
        "[default: 0.0.0.0:50051]",
    ] {
        assert!(one_line.contains(part), "{part} is not in: {help}");
    }
}

#[test]
fn the_declared_options_do_not_collide() {
    subcommand::command_line().debug_assert();
}

#[test]
fn developing_needs_nothing() {
    let Command::Dev(dev) = read("dev", &[("DATABASE_URL", URL)]).unwrap().command else {
        panic!("not dev");
    };
    assert_eq!(dev.service.listen.to_string(), "127.0.0.1:50051");
    assert!(dev.signing_key.is_none() && dev.embedded.data_dir.is_none());
}

#[test]
fn an_administrators_password_is_never_an_argument() {
    let line = "create-admin --embedded --email ada@example.com";
    assert_eq!(
        read(&format!("{line} --password hunter2"), &[]).unwrap_err().code(),
        USAGE
    );
    let read_password = |line: &str, environment: Environment| {
        let arguments = std::iter::once("halyard").chain(line.split_whitespace());
        let Command::CreateAdmin(create) = parse(arguments, &environment).unwrap().command else {
            panic!("not create-admin: {line}");
        };
        create.password
    };
    let given = read_password(line, Environment::with([("HALYARD_ADMIN_PASSWORD", "hunter2")]));
    assert!(matches!(given, Password::Given(secret) if secret.expose() == "hunter2"));
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "password", b"hunter3\n");
    let from_file = read_password(&format!("{line} --password-file {path}"), Environment::default());
    assert!(matches!(from_file, Password::Given(secret) if secret.expose() == "hunter3"));
    let asked = read_password(line, Environment::default().interactive());
    assert!(matches!(asked, Password::Prompt));
    refused(
        line,
        &[],
        &["--password-file is missing (or HALYARD_ADMIN_PASSWORD, HALYARD_ADMIN_PASSWORD_FILE)"],
    );
}

#[test]
fn an_administrator_needs_an_address() {
    let password = ("HALYARD_ADMIN_PASSWORD", "hunter2");
    refused(
        "create-admin --embedded",
        &[password],
        &["--email is missing (or HALYARD_ADMIN_EMAIL)"],
    );
    refused(
        "create-admin --embedded",
        &[password, ("HALYARD_ADMIN_EMAIL", "ada")],
        &["HALYARD_ADMIN_EMAIL must hold exactly one @"],
    );
}

#[test]
fn the_configuration_is_printed_without_its_secrets() {
    let variables = [
        ("DATABASE_URL", URL),
        ("HALYARD_SIGNING_KEY", KEY),
        ("HALYARD_KEY", "hunter2"),
        ("HALYARD_TOKEN", "hunter2"),
        ("HALYARD_ADMIN_PASSWORD", "hunter2"),
    ];
    for line in [
        "serve",
        "watch",
        "toggle a on --project shop --environment prod",
        "create-admin --email ada@example.com",
    ] {
        let printed = format!("{:?}", read(line, &variables).unwrap());
        assert!(!printed.contains("hunter2") && !printed.contains(KEY), "{printed}");
    }
}

#[test]
fn paths_are_taken_as_they_are() {
    let serve = serve(
        "serve --embedded --data-dir relative/path",
        &[("HALYARD_SIGNING_KEY", KEY)],
    );
    assert!(matches!(
        serve.database,
        Database::Embedded(Embedded { data_dir: Some(path), .. }) if path == Path::new("relative/path")
    ));
}
