//! Service tokens.

use std::mem::take;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response};

use super::roles::{read_role, write_role};
use super::{Call, answer, recorded};
use crate::auth::service_tokens;
use crate::domain::access::TokenId;
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::service_token_service_server::ServiceTokenService;
use crate::rpc::convert::common::{finish, key, read_timestamp, timestamp};
use crate::rpc::{Answer, Refusal};
use crate::store::makers::Maker;
use crate::store::service_tokens::{NewServiceToken, ServiceToken};
use crate::store::{Store, Written};

/// The service.
pub struct ServiceTokens {
    store: Store,
}

impl ServiceTokens {
    /// Keeps service tokens in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl ServiceTokenService for ServiceTokens {
    async fn create_service_token(
        &self,
        request: Request<pb::CreateServiceTokenRequest>,
    ) -> Answer<pb::CreateServiceTokenResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateServiceTokenRequest {
            project,
            role,
            name,
            expire_time,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        let role = read_role(&mut violations, role);
        check::text(&mut violations, "name", &name, limits::NAME_CHARS);
        let expires_at = expire_time.and_then(|time| read_timestamp(&mut violations, "expire_time", time));
        if expires_at.is_some_and(|time| time <= jiff::Timestamp::now()) {
            violations.add("expire_time", "is in the past");
        }
        let (project, role) = finish(violations, project.zip(role)).map_err(Refusal::Invalid)?;
        let service_tokens::Generated { id, secret, hash } =
            service_tokens::generate().map_err(|error| super::unmade(&error))?;
        let new = NewServiceToken {
            id: TokenId::parse(&id).ok_or(Refusal::Internal)?,
            name,
            role,
            secret_hash: hash,
            expires_at,
        };
        let response = |written: &Written<ServiceToken>, secret: Option<&SecretString>| {
            let secret_omitted = secret.is_none();
            pb::CreateServiceTokenResponse {
                service_token: Some(write(&written.entity)),
                secret: secret
                    .map(|secret| secret.expose_secret().to_owned())
                    .unwrap_or_default(),
                secret_omitted,
            }
        };
        let recorded = recorded(|written| response(written, None));
        let outcome = self.store.create_service_token(&mutation, &project, new, recorded);
        let secret = (!validate_only).then_some(&secret);
        answer(outcome.await.map_err(Refusal::Store)?, |written| {
            response(written, secret)
        })
    }

    async fn list_service_tokens(
        &self,
        request: Request<pb::ListServiceTokensRequest>,
    ) -> Answer<pb::ListServiceTokensResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListServiceTokensRequest {
            project,
            page_size: _,
            page_token: _,
        } = message;
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let found = self.store.list_service_tokens(&project, &paging.request).await;
        let (service_tokens, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write);
        Ok(Response::new(pb::ListServiceTokensResponse {
            service_tokens,
            next_page_token,
        }))
    }

    async fn revoke_service_token(
        &self,
        request: Request<pb::RevokeServiceTokenRequest>,
    ) -> Answer<pb::RevokeServiceTokenResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RevokeServiceTokenRequest {
            project,
            service_token_id,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let replay = call.authorise_or_replay(project.as_ref(), &self.store, &mutation);
        if let Some(replay) = replay.await? {
            return Ok(replay);
        }
        let id = TokenId::parse(&service_token_id);
        if id.is_none() {
            violations.add(
                "service_token_id",
                "is not the id of a service token: 16 hexadecimal digits",
            );
        }
        let (project, id) = finish(violations, project.zip(id)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<ServiceToken>| pb::RevokeServiceTokenResponse {
            service_token: Some(write(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .store
            .revoke_service_token(&mutation, &project, id, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }
}

fn write(token: &ServiceToken) -> pb::ServiceToken {
    let ServiceToken {
        id,
        name,
        role,
        created_at,
        expires_at,
        revoked_at,
        last_used_at,
        created_by,
    } = token;
    pb::ServiceToken {
        id: id.to_string(),
        name: name.clone(),
        role: write_role(*role).into(),
        create_time: Some(timestamp(*created_at)),
        expire_time: expires_at.map(timestamp),
        revoke_time: revoked_at.map(timestamp),
        last_use_time: last_used_at.map(timestamp),
        created_by: created_by.as_ref().map(Maker::to_string).unwrap_or_default(),
        created_by_name: created_by.as_ref().map(|maker| maker.name.clone()).unwrap_or_default(),
    }
}
