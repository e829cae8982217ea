//! `halyard audit`: what an operator does about the audit log, with nothing but the database or a file.

use std::fs;
use std::path::Path;

use halyard::store::audit::Which;
use halyard::store::feed::Hints;
use halyard::store::{Actor, Caller, Mutation, Settings, Store, projects::NewProject, projects::ProjectPatch};
use serde_json::Value;

use crate::support::cluster::{Database, Folder, database};
use crate::support::program::{Ended, run_halyard};

/// What the command line says, of this database.
fn audit(database: &Database, arguments: &[&str]) -> Ended {
    let arguments: Vec<_> = ["audit"].iter().chain(arguments).copied().collect();
    run_halyard(&arguments, &[("DATABASE_URL", &database.url)])
}

/// A database with a project `shop` that was renamed twice, and `gone`, which was deleted; and the name of shop's chain.
async fn world() -> (Database, String) {
    let database = database().await;
    let store = Store::connect(&Settings::new(database.config.clone()), Hints::new())
        .await
        .unwrap();
    let by = Mutation {
        caller: Caller {
            actor: Actor::CommandLine,
            name: String::new(),
            credential: String::new(),
            peer: String::new(),
            reason: "a \"test\"\nof lines".into(),
        },
        method: "test/Method",
        request: None,
        validate_only: false,
    };
    let respond = |_: &_| Vec::new();
    let (shop, gone) = ("shop".parse().unwrap(), "gone".parse().unwrap());
    for key in [&shop, &gone] {
        let new = NewProject {
            key: Clone::clone(key),
            name: key.to_string(),
            description: String::new(),
        };
        store.create_project(&by, new, respond).await.unwrap();
    }
    for name in ["The shop", "The \u{1f6d2} shop"] {
        let patch = ProjectPatch {
            name: Some(name.into()),
            description: None,
        };
        store.update_project(&by, &shop, patch, "", respond).await.unwrap();
    }
    store.delete_project(&by, &gone, "", respond).await.unwrap();
    let chain = store.audit_chain(Which::Living(&shop)).await.unwrap();
    (database, chain)
}

/// The head that a line about an intact chain tells.
fn head(line: &str) -> String {
    let (_, head) = line.trim_end().rsplit_once("head ").unwrap_or_else(|| panic!("{line}"));
    head.to_owned()
}

#[tokio::test]
async fn every_chain_is_verified_and_each_is_told() {
    let (database, chain) = world().await;
    let said = audit(&database, &["verify"]).done();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for words in [
        format!("chain {chain}, of project shop: intact, 3 entries, head 3:"),
        "of project gone, which is deleted: intact, 2 entries".into(),
        "chain instance, of the installation: intact, 0 entries".into(),
    ] {
        assert!(
            lines.iter().any(|line| line.contains(&words)),
            "{words:?} is not in: {said}"
        );
    }

    let sql = database.client().await;
    let tamper = "update audit_entries set after = 'x' where project = 'gone' and sequence = 2";
    sql.execute(tamper, &[]).await.unwrap();
    let broken = audit(&database, &["verify"]);
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert!(
        broken
            .stdout
            .contains("gone, which is deleted: broken, entry 2 was altered"),
        "{broken:?}"
    );
    assert!(broken.stdout.contains("shop: intact"), "{broken:?}");
    audit(&database, &["verify", "--project", "shop"]).done();
    audit(&database, &["verify", "--instance"]).done();
    assert_eq!(audit(&database, &["verify", "--project", "gone"]).code, Some(1));
}

#[tokio::test]
async fn a_chain_that_was_cut_off_with_its_head_is_found_by_a_kept_head() {
    let (database, chain) = world().await;
    let kept = head(&audit(&database, &["verify", "--project", "shop"]).done());
    let cut = format!(
        "delete from audit_entries where chain = '{chain}' and sequence = 3;
        update audit_heads set sequence = 2, hash = (select hash from audit_entries where chain = '{chain}' and sequence = 2)
        where chain = '{chain}'"
    );
    database.client().await.batch_execute(&cut).await.unwrap();
    audit(&database, &["verify", "--chain", &chain]).done();
    let found = audit(&database, &["verify", "--chain", &chain, "--head", &kept]);
    assert_eq!(found.code, Some(1));
    assert_eq!(found.stdout, format!("chain {chain}: broken, entry 3 is missing\n"));
}

#[tokio::test]
async fn an_export_verifies_without_a_database_and_a_changed_line_does_not() {
    let (database, chain) = world().await;
    let exported = audit(&database, &["export", "--project", "shop"]);
    assert!(
        exported
            .stderr
            .contains(&format!("Exported chain {chain}. Its head is 3:")),
        "{exported:?}"
    );
    let exported = exported.done();
    let lines: Vec<_> = exported.lines().collect();
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(
        (&first["action"], &first["sequence"]),
        (&"project.create".into(), &1.into())
    );

    let folder = Folder::new();
    let file = folder.path.join("shop.jsonl");
    let verify = |content: &str, more: &[&str]| {
        fs::write(&file, content).unwrap();
        let arguments = [&["audit", "verify", "--file", file.to_str().unwrap()], more].concat();
        run_halyard(&arguments, &[])
    };
    let kept = head(&verify(&exported, &[]).done());
    assert!(
        verify(&exported, &["--head", &kept])
            .done()
            .contains("intact, 3 entries")
    );
    let broken = |content: &str, more: &[&str], words: &str| {
        let ended = verify(content, more);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stdout.contains(words), "{words:?} is not in: {ended:?}");
    };
    broken(&exported.replace("The shop", "My shop"), &[], "entry 2 was altered");
    broken(
        &exported.replacen("command-line", "system", 1),
        &[],
        "entry 1 was altered",
    );
    broken(&exported.replacen("{\"", "{ \"", 1), &[], "entry 1 cannot be read");
    broken(&exported.replacen('\n', "\n\n", 1), &[], "entry 2 cannot be read");
    broken(
        &format!("{}\n{}\n{}\n", lines[0], lines[2], lines[1]),
        &[],
        "entry 2 is missing",
    );
    broken(&format!("{}\n{}\n", lines[0], lines[2]), &[], "entry 2 is missing");
    broken(&format!("{}\n{}\n", lines[1], lines[2]), &[], "entry 1 is missing");
    broken(&format!("{exported}{}\n", lines[2]), &[], "entry 4 is one too many");
    broken("", &[], "entry 1 is missing");
    let shorter = format!("{}\n{}\n", lines[0], lines[1]);
    verify(&shorter, &[]).done();
    broken(&shorter, &["--head", &kept], "entry 3 is missing");
}

#[tokio::test]
async fn what_there_is_not_is_said() {
    let (database, _) = world().await;
    let said = audit(&database, &["export", "--project", "nothing"]).refused(1);
    assert!(said.contains("there is no project nothing"), "{said}");
    let said = audit(&database, &["verify", "--chain", "nothing"]).refused(1);
    assert!(said.contains("there is no audit_chain nothing"), "{said}");
    let missing = Path::new("/nonexistent/shop.jsonl").to_str().unwrap();
    let said = run_halyard(&["audit", "verify", "--file", missing], &[]).refused(1);
    assert!(said.contains(missing), "{said}");
}
