//! Somebody who uses secrets, and writes down what was said.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::scanner::Secrets;

/// Metadata of one's own.
#[derive(Clone)]
pub struct Shows(&'static str, AsciiMetadataValue);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(self.0, self.1.clone());
        Ok(request)
    }
}

pub type Client = InterceptedService<Channel, Shows>;

/// Somebody who uses secrets, and writes down what was said.
pub struct User {
    pub channel: Channel,
    pub secrets: Secrets,
    /// Every error, with its details and trailers, and every answer that should not tell.
    pub heard: String,
    pub passwords: usize,
}

impl User {
    pub fn showing(&self, metadata: &'static str, value: &str) -> Client {
        InterceptedService::new(self.channel.clone(), Shows(metadata, value.parse().unwrap()))
    }

    pub fn bearer(&self, credential: &str) -> Client {
        self.showing("authorization", &format!("Bearer {credential}"))
    }

    pub fn anyone(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// Nobody else's password, and one that no answer may hold.
    pub fn password(&mut self, name: &str) -> String {
        self.passwords += 1;
        let password = format!("pass phrase {} of {}", self.passwords, Uuid::new_v4().simple());
        self.secrets.add(name, &password);
        password
    }

    /// An answer that tells a secret to whom it belongs.
    pub fn told<T>(answer: Result<Response<T>, Status>) -> T {
        answer.unwrap().into_inner()
    }

    /// An answer that should tell none.
    pub fn hear<T: std::fmt::Debug>(&mut self, answer: Result<Response<T>, Status>) -> Option<T> {
        match answer {
            Ok(response) => {
                self.heard.extend([format!("{response:?}\n")]);
                Some(response.into_inner())
            }
            Err(status) => {
                let details = String::from_utf8_lossy(status.details());
                let said = format!("{status:?} {} {details} {:?}\n", status.message(), status.metadata());
                self.heard.push_str(&said);
                None
            }
        }
    }

    pub fn done<T: std::fmt::Debug>(&mut self, answer: Result<Response<T>, Status>) -> T {
        self.hear(answer).expect("it should have been done")
    }

    pub fn fails<T: std::fmt::Debug>(&mut self, answer: Result<Response<T>, Status>) {
        assert!(self.hear(answer).is_none(), "it should have failed");
    }

    pub async fn log_in(&mut self, email: &str, password: &str) -> pb::LoginResponse {
        let login = Self::told(self.anyone().login(login(email, password)).await);
        self.secrets.add_jwt("an access token", &login.access_token);
        self.secrets.add_token("a refresh token", &login.refresh_token);
        login
    }
}

pub fn login(email: &str, password: &str) -> pb::LoginRequest {
    pb::LoginRequest {
        email: email.into(),
        password: password.into(),
        access_only: false,
    }
}

pub fn sign_up(email: &str, password: &str) -> pb::SignUpRequest {
    pb::SignUpRequest {
        email: email.into(),
        password: password.into(),
        password_confirmation: password.into(),
    }
}

pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}
