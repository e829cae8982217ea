//! The commands that ask a server something.

use serde_json::json;

use super::*;

fn client(line: &str, variables: &[(&str, &str)]) -> Client {
    let Command::Client(client) = read(line, variables).unwrap().command else {
        panic!("not a client: {line}");
    };
    client
}

#[test]
fn attributes_are_json_or_else_text() {
    let line = "evaluate new-checkout --targeting-key ada --min-revision 7 \
                --context {\"targeting_key\":\"eve\",\"country\":\"DE\",\"age\":1} \
                --attribute age=42 --attribute version=1.2.3 --attribute zip=\"01234\" --attribute leading=01234 \
                --attribute beta=true --attribute tags=[\"a\",\"b\"] --attribute nothing= --attribute sum=1=1";
    let Client::Evaluate(evaluate) = client(line, &[("HALYARD_KEY", "key")]) else {
        panic!("not evaluate");
    };
    assert_eq!(evaluate.subject, Subject::Flag(key("new-checkout")));
    assert_eq!((evaluate.targeting_key.as_str(), evaluate.min_revision), ("ada", 7));
    let expected = json!({
        "country": "DE", "age": 42, "version": "1.2.3", "zip": "01234", "leading": "01234",
        "beta": true, "tags": ["a", "b"], "nothing": "", "sum": "1=1",
    });
    assert_eq!(serde_json::Value::Object(evaluate.attributes), expected);
}

#[test]
fn one_flag_at_a_time_is_explained() {
    let variables = [("HALYARD_KEY", "key")];
    let Client::Evaluate(evaluate) = client("evaluate new-checkout --explain", &variables) else {
        panic!("not evaluate");
    };
    assert_eq!(evaluate.subject, Subject::Explained(key("new-checkout")));
    assert!(read("evaluate --all --explain", &variables).is_err());
}

#[test]
fn the_context_may_hold_the_targeting_key() {
    let variables = [("HALYARD_KEY", "key")];
    let Client::Evaluate(evaluate) = client("evaluate --all --context {\"targeting_key\":\"eve\"}", &variables) else {
        panic!("not evaluate");
    };
    assert_eq!(evaluate.subject, Subject::All);
    assert_eq!((evaluate.targeting_key.as_str(), evaluate.attributes.len()), ("eve", 0));
}

#[test]
fn a_wrong_question_is_refused_whole() {
    refused(
        "evaluate Not/A/Flag --attribute =1 --attribute nameless --context [] --min-revision x --endpoint ftp://h",
        &[],
        &[
            "<flag> must begin with",
            "--attribute is not a name and a value, as in country=DE: \"=1\"",
            "--attribute is not a name and a value, as in country=DE: \"nameless\"",
            "--context is not a JSON object",
            "--min-revision is not a revision",
            "--endpoint is not an address",
            "--key is missing (or HALYARD_KEY, HALYARD_KEY_FILE)",
        ],
    );
    let key = [("HALYARD_KEY", "key")];
    refused("evaluate", &key, &["<flag> is missing"]);
    refused("evaluate a --all", &key, &["<flag> and --all are both given"]);
    refused(
        "evaluate a --context {\"targeting_key\":1}",
        &key,
        &["--context has a targeting_key"],
    );
}

#[test]
fn a_mistyped_key_does_not_break_the_metadata() {
    for key in ["a b", "ä", "a\u{7}b"] {
        let text = said("watch", &[("HALYARD_KEY", key)]);
        assert!(
            text.contains("--key holds characters that no key or token has"),
            "{text}"
        );
    }
}

#[test]
fn toggles_come_in_pairs() {
    let variables = [
        ("HALYARD_PROJECT", "shop"),
        ("HALYARD_ENVIRONMENT", "prod"),
        ("HALYARD_TOKEN", "token"),
    ];
    let Client::Toggle(toggle) = client("toggle a on b off --json", &variables) else {
        panic!("not toggle");
    };
    let expected = [("a", true), ("b", false)].map(|(flag, enabled)| Toggle {
        flag: key(flag),
        enabled,
    });
    assert_eq!(toggle.toggles, expected);
    assert_eq!(toggle.output, Output::Json);
    assert!(matches!(toggle.credential, Credential::Token(token) if token.expose() == "token"));
    for line in ["toggle", "toggle a", "toggle a on b"] {
        refused(line, &variables, &["<flag> <on|off> must be pairs"]);
    }
    refused("toggle a on a off", &variables, &["<flag> is given twice: a"]);
    refused(
        "toggle a/ up b down",
        &variables,
        &[
            "<flag> must begin",
            "<on|off> is neither on nor off: \"up\"",
            "neither on nor off: \"down\"",
        ],
    );
}

#[test]
fn toggling_needs_one_credential() {
    let line = "toggle a on --project shop --environment prod";
    refused(line, &[], &["--token and --email are both missing"]);
    let email = ("HALYARD_EMAIL", "ada@example.com");
    refused(
        line,
        &[("HALYARD_TOKEN", "token"), email],
        &["--token and --email are both given"],
    );
    refused(
        line,
        &[email],
        &["--password-file is missing (or HALYARD_PASSWORD, HALYARD_PASSWORD_FILE)"],
    );
    let Client::Toggle(toggle) = client(line, &[email, ("HALYARD_PASSWORD", "hunter2")]) else {
        panic!("not toggle");
    };
    assert!(matches!(
        toggle.credential,
        Credential::Login { email, password: Password::Given(_) } if email.given() == "ada@example.com"
    ));
}

fn key(text: &str) -> crate::domain::key::Flag {
    crate::domain::key::Flag::new(text).unwrap()
}
