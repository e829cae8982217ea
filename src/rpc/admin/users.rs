//! Accounts, for administrators.

mod messages;

use std::mem::take;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response};
use uuid::Uuid;

use super::accounts::Accounts;
use super::auth::check_new;
use super::{Call, answer, recorded};
use crate::domain::email::{self, Email};
use crate::domain::invalid::Violations;
use crate::domain::{check, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::user_service_server::UserService;
use crate::rpc::convert::common::{Mask, finish, required};
use crate::rpc::{Answer, Refusal};
use crate::store::users::{NewUser, Selector, User, UserPatch};
use crate::store::{self, Written};
pub(super) use messages::write_user;
use messages::{Described, read_id};

/// The service.
pub struct Users {
    accounts: Arc<Accounts>,
}

impl Users {
    /// Manages these accounts.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }

    /// Hashes a password that is to be set for an account.
    async fn hash(&self, password: SecretString) -> Result<String, Refusal> {
        self.accounts.hashing.hash(password).await
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(&self, request: Request<pb::CreateUserRequest>) -> Answer<pb::CreateUserResponse> {
        let (call, message, password) = Call::open_without(request, |message: &mut pb::CreateUserRequest| {
            SecretString::from(take(&mut message.password))
        })?;
        let pb::CreateUserRequest {
            user,
            password: _,
            validate_only,
            request_id,
        } = message;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let user = required(&mut violations, "user", user).map(|user| Described::read(&mut violations, user));
        let email = user.as_ref().and_then(|user| user.read_email(&mut violations));
        let identities = user.as_ref().and_then(|user| user.read_identities(&mut violations));
        let asks_for_identities = user.as_ref().is_some_and(|user| !user.identities.is_empty());
        let opened_otherwise = password.expose_secret().is_empty() && asks_for_identities;
        if !opened_otherwise {
            check_new(&mut violations, "password", email.as_ref(), &password);
        }
        let role = user.and_then(|user| user.role);
        let ((email, role), identities) =
            finish(violations, email.zip(role).zip(identities)).map_err(Refusal::Invalid)?;
        let new = NewUser {
            id: Uuid::now_v7(),
            email,
            role: role.into_option(),
            password_hash: if opened_otherwise {
                None
            } else {
                Some(self.hash(password).await?)
            },
            identities,
        };
        let response = |written: &Written<User>| pb::CreateUserResponse {
            user: Some(write_user(&written.entity)),
        };
        let outcome = self
            .accounts
            .store
            .create_user(&mutation, &new, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Answer<pb::GetUserResponse> {
        let (call, pb::GetUserRequest { id, email }) = Call::open(request)?;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let which = match (id.is_empty(), email.is_empty()) {
            (false, true) => read_id(&mut violations, "id", &id).map(Selector::Id),
            (true, false) => violations.take("email", Email::new(&email)).map(Selector::Email),
            (true, true) => {
                violations.add("id", "and email are both empty; give one");
                None
            }
            (false, false) => {
                violations.add("id", "and email are both given; leave one out");
                None
            }
        };
        let which = finish(violations, which).map_err(Refusal::Invalid)?;
        let user = self.accounts.store.get_user(&which).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetUserResponse {
            user: Some(write_user(&user)),
        }))
    }

    async fn list_users(&self, request: Request<pb::ListUsersRequest>) -> Answer<pb::ListUsersResponse> {
        let (call, mut message) = Call::open(request)?;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListUsersRequest {
            page_size: _,
            page_token: _,
            filter,
        } = message;
        check::text(&mut violations, "filter", &filter, limits::EMAIL_BYTES);
        violations.or(()).map_err(Refusal::Invalid)?;
        let filter = email::fold(&filter);
        let found = self.accounts.store.list_users(&filter, &paging.request).await;
        let (users, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write_user);
        Ok(Response::new(pb::ListUsersResponse { users, next_page_token }))
    }

    async fn update_user(&self, request: Request<pb::UpdateUserRequest>) -> Answer<pb::UpdateUserResponse> {
        let (call, message, password) = Call::open_without(request, |message: &mut pb::UpdateUserRequest| {
            SecretString::from(take(&mut message.password))
        })?;
        let pb::UpdateUserRequest {
            user,
            password: _,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let fields = ["email", "role", "active", "password", "identities"];
        let mask = Mask::read(&mut violations, update_mask.as_ref(), &fields);
        let user = required(&mut violations, "user", user).map(|user| Described::read(&mut violations, user));
        let id = user
            .as_ref()
            .and_then(|user| read_id(&mut violations, "user.id", &user.id));
        let email = match (&user, id) {
            // Sent back as it was shown, it is not to become the own address of an account that has none.
            (Some(user), Some(id)) if update_mask.is_none() && self.is_shown(id, &user.email).await? => None,
            (Some(user), _) if mask.has("email") => user.read_email(&mut violations),
            (Some(_) | None, _) => None,
        };
        let identities = match &user {
            Some(user) if update_mask.is_some() && mask.has("identities") => user.read_identities(&mut violations),
            Some(_) | None => None,
        };
        let sets_password = mask.has("password") && (update_mask.is_some() || !password.expose_secret().is_empty());
        if sets_password && let Some(id) = id {
            // The policy asks for the address, which may be the one that is there.
            let owner = match &email {
                Some(email) => Some(email.clone()),
                None => self.address(id).await?,
            };
            check_new(&mut violations, "password", owner.as_ref(), &password);
        }
        let (id, user) = finish(violations, id.zip(user)).map_err(Refusal::Invalid)?;
        let password_hash = if sets_password {
            Some(self.hash(password).await?)
        } else {
            None
        };
        let patch = UserPatch {
            email,
            role: user.role.and_then(|role| mask.pick("role", role.into_option())),
            active: mask.pick("active", user.active),
            password_hash,
            identities,
        };
        let response = |written: &Written<User>| pb::UpdateUserResponse {
            user: Some(write_user(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .accounts
            .store
            .update_user(&mutation, id, patch, &etag, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }

    async fn delete_user(&self, request: Request<pb::DeleteUserRequest>) -> Answer<pb::DeleteUserResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteUserRequest {
            id,
            etag,
            validate_only,
            request_id,
        } = message;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let id = read_id(&mut violations, "id", &id);
        let id = finish(violations, id).map_err(Refusal::Invalid)?;
        let response = |_: &Written<User>| pb::DeleteUserResponse {};
        let outcome = self
            .accounts
            .store
            .delete_user(&mutation, id, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }
}

impl Users {
    /// Whether this is what is shown as an account's address.
    async fn is_shown(&self, id: Uuid, email: &str) -> Result<bool, Refusal> {
        match self.accounts.store.get_user(&Selector::Id(id)).await {
            Ok(user) => Ok(user.email == email),
            Err(store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The address of an account. `None`: it cannot be read, having been edited by hand.
    async fn address(&self, id: Uuid) -> Result<Option<Email>, Refusal> {
        let user = self.accounts.store.get_user(&Selector::Id(id)).await?;
        Ok(Email::new(&user.email).ok())
    }
}
