//! Client certificates: who comes in, whose name is in the audit log, and a sidecar that shows one.

use std::fs;
use std::path::Path;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::audit_service_client::AuditServiceClient;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::verify_chain_response::Verdict;
use rcgen::SanType;
use tonic::Request;
use tonic::transport::Channel;

use super::{HOSTS, Secure, free_address};
use crate::support::cluster::Folder;
use crate::support::eventually;
use crate::support::program::{Program, halyard, run, run_halyard, with_dev_settings};
use crate::support::tls::{Authority, Pair, connect, dev_over_tls, text};

const DEPLOYER: &str = "spiffe://example.org/deployer";

/// A client certificate with a name.
fn named(authority: &Authority, folder: &Path, name: &str) -> Pair {
    let pair = Pair::named(folder, name);
    let uri = SanType::URI(DEPLOYER.try_into().unwrap());
    pair.write(&authority.issue(&["deploy.example.org"], |params| params.subject_alt_names.push(uri)));
    pair
}

/// An access token of the demo's administrator.
async fn token(channel: &Channel, data: &Path) -> String {
    let setting = |name: &str| run(with_dev_settings(data, format!("printf %s \"${name}\""))).done();
    let request = admin::LoginRequest {
        email: setting("HALYARD_EMAIL"),
        password: setting("HALYARD_PASSWORD"),
        access_only: true,
    };
    let login = AuthServiceClient::new(channel.clone()).login(request).await.unwrap();
    login.into_inner().access_token
}

fn authorised<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn a_certificate_may_be_shown_where_it_is_optional_and_a_wrong_one_may_not() {
    let further = [
        "--tls-client-ca-file",
        "{folder}/authority.pem",
        "--tls-client-certificates",
        "optional",
    ];
    let secure = Secure::start(&further).await;
    let trust = secure.trust();
    assert_eq!(secure.health("localhost", &trust).done(), "SERVING\n");
    let good = named(&secure.authority, &secure.folder.path, "good");
    let shown = [&trust[..], &good.shown()].concat();
    assert_eq!(secure.health("localhost", &shown).done(), "SERVING\n");
    let stranger = Authority::new(&secure.folder.path, "stranger");
    let wrong = named(&stranger, &secure.folder.path, "wrong");
    let said = secure
        .health("localhost", &[&trust[..], &wrong.shown()].concat())
        .refused(69);
    assert!(said.contains("does not accept our client certificate"), "{said}");
}

#[tokio::test]
async fn the_verified_name_is_in_the_audit_log_and_nobody_comes_in_without_where_it_is_required() {
    let folder = Folder::new();
    let (data, files) = (folder.path.join("data"), folder.path.join("files"));
    fs::create_dir(&files).unwrap();
    let authority = Authority::new(&files, "authority");
    let own = authority.pair(&files, "server", HOSTS);
    let deployer = named(&authority, &files, "deployer");
    let _server = dev_over_tls(&data, &own, &authority);
    let trusted = format!("--server-ca-file {}", text(&authority.file));
    let toggle = |shown: &str| {
        run(with_dev_settings(
            &data,
            format!("halyard toggle new-checkout off {trusted} {shown}"),
        ))
    };
    let said = toggle("").refused(69);
    assert!(said.contains("lets nobody in without a client certificate"), "{said}");
    let stranger = Authority::new(&files, "stranger");
    let said = toggle(&named(&stranger, &files, "wrong").shown().join(" ")).refused(69);
    assert!(said.contains("does not accept our client certificate"), "{said}");
    toggle(&deployer.shown().join(" ")).done();

    let setting = |name: &str| run(with_dev_settings(&data, format!("printf %s \"${name}\""))).done();
    let endpoint = setting("HALYARD_ENDPOINT");
    let address = endpoint.strip_prefix("https://").unwrap();
    let channel = connect(address, &authority, Some(&deployer)).await.unwrap();
    let token = token(&channel, &data).await;
    let mut audit = AuditServiceClient::new(channel);
    let request = admin::ListEntriesRequest {
        project: "demo".to_owned(),
        page_size: 1,
        ..admin::ListEntriesRequest::default()
    };
    let listed = audit
        .list_entries(authorised(request, &token))
        .await
        .unwrap()
        .into_inner();
    let entry = &listed.entries[0];
    let (peer, fingerprint) = entry.peer.split_once(" sha256:").unwrap();
    let (fingerprint, name) = fingerprint.split_once(' ').unwrap();
    assert_eq!(
        (peer, fingerprint.len(), name),
        ("127.0.0.1", 64, &*format!("URI:{DEPLOYER}")),
        "{entry:?}"
    );
    for chain in ["demo", ""] {
        let request = admin::VerifyChainRequest {
            project: chain.to_owned(),
            ..admin::VerifyChainRequest::default()
        };
        let verified = audit
            .verify_chain(authorised(request, &token))
            .await
            .unwrap()
            .into_inner();
        assert!(matches!(verified.verdict, Some(Verdict::Intact(_))), "{verified:?}");
    }

    let side = free_address();
    let key = setting("HALYARD_KEY");
    let mut command = halyard();
    command.args([
        "sidecar",
        "--drain-window",
        "0s",
        "--upstream",
        &endpoint,
        "--listen",
        &side,
    ]);
    command
        .args(own.served())
        .args(["--server-ca-file", text(&authority.file)])
        .args(deployer.shown())
        .env("HALYARD_KEY", &key);
    let _sidecar = Program::start(command);
    let asked = format!("https://{side}");
    let arguments = [
        "evaluate",
        "new-checkout",
        "--targeting-key",
        "alice",
        "--json",
        "--endpoint",
        &asked,
    ];
    let arguments = [&arguments[..], &["--server-ca-file", text(&authority.file)]].concat();
    let answer = eventually("an answer", async || {
        let answer = run_halyard(&arguments, &[("HALYARD_KEY", &key)]);
        (answer.code == Some(0)).then_some(answer.stdout)
    })
    .await;
    assert!(answer.contains("\"variant\":\"off\""), "{answer}");
}
