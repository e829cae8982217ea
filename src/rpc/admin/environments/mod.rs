//! Environments and their keys.

mod messages;

use std::mem::take;

use secrecy::SecretString;
use tonic::{Request, Response};

use self::messages::{
    Described, NewSecrets, created, new_key, read, read_kind, read_overlap, write, write_created, write_key,
    write_propagation,
};
use super::{Call, answer, at, recorded};
use crate::domain::access::KeyKind;
use crate::domain::invalid::Violations;
use crate::domain::propagation::Propagation;
use crate::domain::{check, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::environment_service_server::EnvironmentService;
use crate::rpc::convert::common::{Mask, finish, place, read_timestamp, required};
use crate::rpc::{Answer, Refusal};
use crate::store::environments::{Environment, EnvironmentPatch, NewEnvironment};
use crate::store::keys::Key;
use crate::store::{Store, Written};

/// The service.
pub struct Environments {
    store: Store,
}

impl Environments {
    /// Keeps environments in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl EnvironmentService for Environments {
    async fn create_environment(
        &self,
        request: Request<pb::CreateEnvironmentRequest>,
    ) -> Answer<pb::CreateEnvironmentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateEnvironmentRequest {
            environment,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let read = required(&mut violations, "environment", environment).and_then(|it| read(&mut violations, it));
        call.authorise(read.as_ref().map(|(project, _)| project)).await?;
        let (project, described) = finish(violations, read).map_err(Refusal::Invalid)?;
        let Described {
            key,
            name,
            description,
            protected,
        } = described;
        let (server, server_secret) = new_key(KeyKind::Server, String::new(), None)?;
        let (client, client_secret) = new_key(KeyKind::Client, String::new(), None)?;
        let new = NewEnvironment {
            key,
            name,
            description,
            protected,
            keys: [server, client],
        };
        let secrets = (!validate_only).then_some([server_secret, client_secret]);
        let outcome =
            self.store
                .create_environment(&mutation, &project, new, recorded(|written| created(written, None)));
        answer(outcome.await.map_err(Refusal::Store)?, |written| {
            created(written, secrets.as_ref().map(<[SecretString; 2]>::as_slice))
        })
    }

    async fn get_environment(&self, request: Request<pb::GetEnvironmentRequest>) -> Answer<pb::GetEnvironmentResponse> {
        let (call, pb::GetEnvironmentRequest { project, environment }) = Call::open(request)?;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let environment = self
            .store
            .get_environment(at(&project, &environment))
            .await
            .map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetEnvironmentResponse {
            environment: Some(write(&environment)),
        }))
    }

    async fn get_propagation(&self, request: Request<pb::GetPropagationRequest>) -> Answer<pb::GetPropagationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::GetPropagationRequest {
            project,
            environment,
            revision,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let spread = self.store.get_propagation(at(&project, &environment)).await;
        let told = Propagation::of(revision, spread.map_err(Refusal::Store)?);
        Ok(Response::new(write_propagation(told)))
    }

    async fn list_environments(
        &self,
        request: Request<pb::ListEnvironmentsRequest>,
    ) -> Answer<pb::ListEnvironmentsResponse> {
        let (call, mut message) = Call::open(request)?;
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let pb::ListEnvironmentsRequest {
            project,
            page_size: _,
            page_token: _,
        } = &message;
        let (project, paging) = call.page_in(page, &message, project).await?;
        let found = self
            .store
            .list_environments(&project, &paging.request)
            .await
            .map_err(Refusal::Store)?;
        let (environments, next_page_token) = paging.write(found, write);
        Ok(Response::new(pb::ListEnvironmentsResponse {
            environments,
            next_page_token,
        }))
    }

    async fn update_environment(
        &self,
        request: Request<pb::UpdateEnvironmentRequest>,
    ) -> Answer<pb::UpdateEnvironmentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateEnvironmentRequest {
            environment,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(
            &mut violations,
            update_mask.as_ref(),
            &["name", "description", "protected"],
        );
        let read = required(&mut violations, "environment", environment).and_then(|it| read(&mut violations, it));
        call.authorise(read.as_ref().map(|(project, _)| project)).await?;
        let (project, described) = finish(violations, read).map_err(Refusal::Invalid)?;
        let patch = EnvironmentPatch {
            name: mask.pick("name", described.name),
            description: mask.pick("description", described.description),
            protected: mask.pick("protected", described.protected),
        };
        let response = |written: &Written<Environment>| pb::UpdateEnvironmentResponse {
            environment: Some(write(&written.entity)),
            changed: written.changed,
        };
        let outcome = self.store.update_environment(
            &mutation,
            at(&project, &described.key),
            patch,
            &etag,
            recorded(response),
        );
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }

    async fn delete_environment(
        &self,
        request: Request<pb::DeleteEnvironmentRequest>,
    ) -> Answer<pb::DeleteEnvironmentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteEnvironmentRequest {
            project,
            environment,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let response = |_: &Written<Environment>| pb::DeleteEnvironmentResponse {};
        let outcome = self
            .store
            .delete_environment(&mutation, at(&project, &environment), &etag, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }

    async fn create_key(&self, request: Request<pb::CreateKeyRequest>) -> Answer<pb::CreateKeyResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateKeyRequest {
            project,
            environment,
            kind,
            name,
            expire_time,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        check::text(&mut violations, "name", &name, limits::NAME_CHARS);
        let expires_at = expire_time.and_then(|time| read_timestamp(&mut violations, "expire_time", time));
        if expires_at.is_some_and(|time| time <= jiff::Timestamp::now()) {
            violations.add("expire_time", "is in the past");
        }
        let kind = read_kind(&mut violations, kind);
        let ((project, environment), kind) = finish(violations, place.zip(kind)).map_err(Refusal::Invalid)?;
        let (new, secret) = new_key(kind, name, expires_at)?;
        let secret = if validate_only { None } else { Some(&secret) };
        let response = |written: &Written<Key>, secret: Option<&SecretString>| pb::CreateKeyResponse {
            key: Some(write_created(&written.entity, secret)),
            secret_omitted: secret.is_none(),
        };
        let recorded = recorded(|written| response(written, None));
        let outcome = self
            .store
            .create_key(&mutation, at(&project, &environment), new, recorded)
            .await;
        answer(outcome.map_err(Refusal::Store)?, |written| response(written, secret))
    }

    async fn list_keys(&self, request: Request<pb::ListKeysRequest>) -> Answer<pb::ListKeysResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListKeysRequest {
            project,
            environment,
            page_size: _,
            page_token: _,
        } = message;
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let found = self
            .store
            .list_keys(at(&project, &environment), &paging.request)
            .await
            .map_err(Refusal::Store)?;
        let (keys, next_page_token) = paging.write(found, write_key);
        Ok(Response::new(pb::ListKeysResponse { keys, next_page_token }))
    }

    async fn rotate_key(&self, request: Request<pb::RotateKeyRequest>) -> Answer<pb::RotateKeyResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RotateKeyRequest {
            project,
            environment,
            key_id,
            overlap,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        check_key_id(&mut violations, &key_id);
        let overlap = read_overlap(&mut violations, overlap);
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let secrets = NewSecrets::new(&key_id, overlap)?;
        let response = |written: &Written<Key>, secrets: Option<&NewSecrets>| pb::RotateKeyResponse {
            key: Some(write_created(
                &written.entity,
                secrets.map(|secrets| secrets.of(&written.entity)),
            )),
            secret_omitted: secrets.is_none(),
        };
        let recorded = recorded(|written| response(written, None));
        let at = at(&project, &environment);
        let outcome = self
            .store
            .rotate_key(&mutation, at, &key_id, &secrets.rotation, recorded);
        let shown = (!validate_only).then_some(&secrets);
        answer(outcome.await.map_err(Refusal::Store)?, |written| {
            response(written, shown)
        })
    }

    async fn revoke_key(&self, request: Request<pb::RevokeKeyRequest>) -> Answer<pb::RevokeKeyResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RevokeKeyRequest {
            project,
            environment,
            key_id,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        check_key_id(&mut violations, &key_id);
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Key>| pb::RevokeKeyResponse {
            key: Some(write_key(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .store
            .revoke_key(&mutation, at(&project, &environment), &key_id, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }
}

fn check_key_id(violations: &mut Violations, key_id: &str) {
    check::id(violations, "key_id", key_id, "a key of the environment");
}
