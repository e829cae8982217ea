//! Becoming somebody who may change things: by a token, or by logging in.

use secrecy::{ExposeSecret as _, SecretString};

use super::call::Caller;
use super::{Error, prompt};
use crate::config::{Credential, Password};
use crate::pb::admin::v1::LoginRequest;
use crate::pb::admin::v1::auth_service_client::AuthServiceClient;

/// The caller with an access token: the given one, or one that it logs in for.
pub(super) async fn identify(caller: Caller, credential: Credential) -> Result<Caller, Error> {
    match credential {
        Credential::Token(token) => caller.with_bearer(token.expose(), "--token, HALYARD_TOKEN or HALYARD_TOKEN_FILE"),
        Credential::Login { email, password } => {
            let password = match password {
                Password::Given(password) => SecretString::from(password),
                Password::Prompt => {
                    let prompt = format!("Password of {email}: ");
                    ask(prompt).await.map_err(Error::Prompt)?
                }
            };
            let settings = "--email and HALYARD_PASSWORD, HALYARD_PASSWORD_FILE or --password-file";
            let caller = caller.naming(settings);
            let request = LoginRequest {
                email: email.given().to_owned(),
                password: password.expose_secret().to_owned(),
                access_only: true,
            };
            let mut client = AuthServiceClient::new(caller.channel.clone());
            let answer = caller.answer(client.login(caller.bounded_request(request))).await?;
            caller.with_bearer(&answer.access_token, settings)
        }
    }
}

async fn ask(prompt: String) -> std::io::Result<SecretString> {
    let asked = tokio::task::spawn_blocking(move || prompt::password(&prompt));
    asked.await.map_err(std::io::Error::other)?
}
