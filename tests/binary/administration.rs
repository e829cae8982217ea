//! `halyard migrate` and `halyard create-admin`, and that who was created may log in.

use std::fs;

use halyard::pb::admin::v1::LoginRequest;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use rustix::process::Signal;
use tonic::Code;

use crate::serve::free_address;
use crate::support::cluster::{Folder, blank_database};
use crate::support::eventually;
use crate::support::program::{Ended, Program, halyard, processes_below, run_halyard};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery staple";

/// `create-admin` on this database.
fn create(url: &str, password: (&str, &str)) -> Ended {
    run_halyard(&["create-admin", "--email", EMAIL], &[("DATABASE_URL", url), password])
}

/// What a login is answered, once the server answers at all.
async fn login(address: &str, password: &str) -> Result<(), Code> {
    let mut client = eventually("the server", async || {
        AuthServiceClient::connect(format!("http://{address}")).await.ok()
    })
    .await;
    let (email, password) = (EMAIL.into(), password.into());
    let request = LoginRequest {
        email,
        password,
        access_only: false,
    };
    let answer = client.login(request).await;
    answer.map(drop).map_err(|status| status.code())
}

#[tokio::test]
async fn migrating_twice_is_migrating_once() {
    let database = blank_database().await;
    let migrate = || run_halyard(&["migrate"], &[("DATABASE_URL", &database.url)]);
    let first = migrate();
    assert!(first.stderr.contains("Applied"), "{first:?}");
    first.done();
    let second = migrate();
    assert_eq!(second.stderr, "The schema is up to date.\n");
    second.done();
}

#[tokio::test]
async fn the_administrator_is_created_once_and_may_log_in() {
    let database = blank_database().await;
    let first = create(&database.url, ("HALYARD_ADMIN_PASSWORD", PASSWORD));
    assert_eq!(first.stderr, format!("{EMAIL} is administrator now.\n"));
    first.done();

    let folder = Folder::new();
    let file = folder.path.join("password");
    fs::write(&file, "another password, from a file\n").unwrap();
    let again = create(&database.url, ("HALYARD_ADMIN_PASSWORD_FILE", file.to_str().unwrap()));
    assert!(again.stderr.contains("nothing was changed"), "{again:?}");
    again.done();

    let address = free_address();
    let mut command = halyard();
    command
        .args(["serve", "--listen", &address])
        .env("DATABASE_URL", &database.url);
    command.env("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");
    let _server = Program::start(command);
    assert_eq!(login(&address, PASSWORD).await, Ok(()));
    assert_eq!(
        login(&address, "another password, from a file").await,
        Err(Code::Unauthenticated)
    );
}

#[tokio::test]
async fn a_password_that_is_too_short_is_refused() {
    let database = blank_database().await;
    let said = create(&database.url, ("HALYARD_ADMIN_PASSWORD", "short")).refused(1);
    assert_eq!(said, "halyard: the password must have at least 12 characters\n");
}

#[tokio::test]
async fn a_private_postgresql_serves_who_was_created_in_it() {
    let folder = Folder::new();
    let data = folder.path.join("data");
    let file = folder.path.join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let (data_dir, file) = (data.to_str().unwrap(), file.to_str().unwrap());
    let arguments = [
        "create-admin",
        "--embedded",
        "--data-dir",
        data_dir,
        "--email",
        EMAIL,
        "--password-file",
        file,
    ];
    run_halyard(&arguments, &[]).done();
    assert_eq!(processes_below(&data), [0; 0]);

    let address = free_address();
    let mut command = halyard();
    command.args([
        "serve",
        "--embedded",
        "--data-dir",
        data_dir,
        "--drain-window",
        "0s",
        "--listen",
        &address,
    ]);
    command.env("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");
    let mut server = Program::start(command);
    assert_eq!(login(&address, PASSWORD).await, Ok(()));
    let said = run_halyard(&arguments, &[]).refused(1);
    assert!(said.contains("in use by another Halyard"), "{said}");
    server.signal(Signal::TERM);
    let (status, log) = server.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(processes_below(&data), [0; 0]);
}
