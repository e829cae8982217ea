//! What `halyard audit` accepts.

use super::*;

fn audit(line: &str) -> Audit {
    let Command::Audit(audit) = read(line, &[("DATABASE_URL", URL)]).unwrap().command else {
        panic!("not audit: {line}");
    };
    audit
}

fn head() -> String {
    format!("42:{}", "ab".repeat(32))
}

#[test]
fn every_chain_is_verified_unless_one_is_named() {
    let chains = |line: &str| match audit(line) {
        Audit::Verify { database: _, chains } => chains,
        other @ (Audit::VerifyFile { .. } | Audit::Export { .. }) => panic!("{other:?}"),
    };
    let one = |chain, kept| Chains::One { chain, kept };
    assert_eq!(chains("audit verify"), Chains::All);
    assert_eq!(chains("audit verify --instance"), one(Chain::Instance, None));
    assert_eq!(
        chains("audit verify --chain 17"),
        one(Chain::Named("17".to_owned()), None)
    );
    assert_eq!(
        chains(&format!("audit verify --project shop --head {}", head())),
        one(Chain::Project("shop".parse().unwrap()), Some(head().parse().unwrap()))
    );
}

#[test]
fn a_file_needs_no_database() {
    let file = read("audit verify --file a.jsonl", &[]).unwrap().command;
    assert!(matches!(file, Command::Audit(Audit::VerifyFile { kept: None, .. })));
    refused("audit verify", &[], &["--database-url"]);
    refused("audit export --instance", &[], &["--database-url"]);
}

#[test]
fn an_export_is_of_one_chain() {
    let export = audit("audit export --project shop");
    assert!(matches!(
        export,
        Audit::Export {
            chain: Chain::Project(_),
            ..
        }
    ));
    let url = [("DATABASE_URL", URL)];
    refused("audit export", &url, &["--project is missing; or give --instance"]);
    refused(
        "audit export --project shop --instance",
        &url,
        &["--project and --instance and --chain each name a chain"],
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let url = [("DATABASE_URL", URL)];
    let of_all = format!("audit verify --head {}", head());
    refused(&of_all, &url, &["--head is the head of one chain"]);
    refused(
        "audit verify --instance --head 42",
        &url,
        &["--head is not a place in a chain and a hash"],
    );
    refused("audit verify --project Shop", &url, &["--project must begin with"]);
    refused(
        "audit verify --file a.jsonl --instance",
        &[],
        &["--file is an export of one chain; leave out which"],
    );
}
