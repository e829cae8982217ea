//! What `--print-config` prints.

use super::*;

fn printed(line: &str, variables: &[(&str, &str)]) -> String {
    let Command::Print(text) = read(line, variables).unwrap().command else {
        panic!("nothing to print: {line}");
    };
    text
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name} =");
    let found = text.lines().find(|line| line.starts_with(&prefix));
    found.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

#[test]
fn every_setting_is_printed_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let key = file(&folder, "key", KEY.as_bytes());
    let variables = [
        ("DATABASE_URL", "postgres://halyard:hunter2@db/halyard?sslmode=require"),
        ("HALYARD_SIGNING_KEY_FILE", &*key),
        ("HALYARD_HEARTBEAT", "1500ms"),
        ("HALYARD_SIGN_UP", "yes"),
        ("HALYARD_OIDC_ISSUER", "https://login.example.com"),
        ("HALYARD_OIDC_AUDIENCE", "halyard # 1"),
    ];
    let text = printed("serve --print-config --listen [::]:7 --worker-threads 3", &variables);
    for (name, expected) in [
        (
            "database-url",
            "\"PostgreSQL at db:5432, database halyard, user halyard, sslmode=require\"  # variable DATABASE_URL"
                .to_owned(),
        ),
        ("database-password", " # not set".to_owned()),
        ("embedded", "false  # default".to_owned()),
        ("listen", "[::]:7  # argument".to_owned()),
        ("worker-threads", "3  # argument".to_owned()),
        ("heartbeat", "1500ms  # variable HALYARD_HEARTBEAT".to_owned()),
        ("sign-up", "true  # variable HALYARD_SIGN_UP".to_owned()),
        (
            "oidc-audience",
            "\"halyard # 1\"  # variable HALYARD_OIDC_AUDIENCE".to_owned(),
        ),
        ("signing-key", format!("***  # file {key}, by HALYARD_SIGNING_KEY_FILE")),
        ("poll-interval", "1s  # default".to_owned()),
        ("migrate", "at-start  # default".to_owned()),
        ("log-format", "auto  # default".to_owned()),
        ("history-retention", " # not set".to_owned()),
    ] {
        assert_eq!(line(&text, name), format!("{name} = {expected}"));
    }
    assert!(!text.contains("hunter2") && !text.contains(KEY), "{text}");
    let (_, serve) = subcommand::Subcommand::all()
        .find(|(name, _)| *name == "serve")
        .unwrap();
    // All but the option itself, each once.
    assert_eq!(text.lines().count(), serve.settings().count() - 1);
    assert_eq!(
        text,
        printed("serve --print-config --listen [::]:7 --worker-threads 3", &variables)
    );
}

#[test]
fn what_depends_on_the_machine_is_printed_as_it_is() {
    let text = printed(&format!("{SERVE} --print-config"), &[("HALYARD_SIGNING_KEY", KEY)]);
    let threads = std::thread::available_parallelism().unwrap();
    assert_eq!(
        line(&text, "worker-threads"),
        format!("worker-threads = {threads}  # default")
    );
}

#[test]
fn sidecars_and_developers_have_it_too() {
    let key = crate::auth::keys::generate(crate::domain::access::KeyKind::Server).unwrap();
    let secret = secrecy::ExposeSecret::expose_secret(&key.secret);
    let text = printed(
        "sidecar --print-config --upstream http://flags",
        &[("HALYARD_KEY", secret)],
    );
    assert_eq!(line(&text, "upstream"), "upstream = http://flags  # argument");
    assert_eq!(line(&text, "key"), "key = ***  # variable HALYARD_KEY");
    assert!(!text.contains(secret), "{text}");
    let wrong =
        ["--upstream names a user, who would not be asked for; leave out what is before the @: \"http://***@flags\""];
    refused(
        "sidecar --upstream http://ada:hunter2@flags",
        &[("HALYARD_KEY", secret)],
        &wrong,
    );
    let text = printed("dev --print-config", &[]);
    assert_eq!(line(&text, "listen"), "listen = 127.0.0.1:50051  # default");
}

#[test]
fn what_is_wrong_is_said_instead() {
    refused(
        &format!("{SERVE} --print-config --listen here --heartbeat 4"),
        &[("HALYARD_SIGNING_KEY", "short")],
        &["--listen is not", "--heartbeat is not", "--signing-key is too short"],
    );
}
