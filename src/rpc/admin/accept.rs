//! Accepting an invitation: as who has an account, and as who gets one by it.

use std::net::IpAddr;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::Request;
use uuid::Uuid;

use super::auth::{check_new, write_membership};
use super::users::write_user;
use super::{Auth, answer};
use crate::auth::invitations::{self, Presented};
use crate::domain::email::Email;
use crate::domain::invalid::Violations;
use crate::domain::{check, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::convert::common::finish;
use crate::rpc::front::{self, Caller, Peer, REASON};
use crate::rpc::{Answer, Refusal};
use crate::store::invitations::{Invitee, Joined, Newcomer, Shown};
use crate::store::{self, Actor, Mutation, Written};

/// What is told of callers who show no credential.
const METHOD: &str = "/halyard.admin.v1.AuthService/AcceptInvitation";

/// Who accepts, and how they came.
struct Visitor {
    /// `None`: nobody we know yet.
    caller: Option<Caller>,
    peer: Peer,
    reason: String,
}

/// The account that a newcomer asks for.
struct Wanted {
    email: Email,
    password: SecretString,
}

impl Auth {
    pub(super) async fn accept(
        &self,
        request: Request<pb::AcceptInvitationRequest>,
    ) -> Answer<pb::AcceptInvitationResponse> {
        let visitor = Visitor::of(&request);
        let pb::AcceptInvitationRequest { token, email, password } = request.into_inner();
        let (token, password) = (SecretString::from(token), SecretString::from(password));
        let mut violations = Violations::new();
        check::text(&mut violations, REASON, &visitor.reason, limits::REASON_CHARS);
        if token.expose_secret().is_empty() {
            violations.add("token", "is empty; show what the link carries");
        }
        let wanted = if visitor.caller.is_some() {
            refuse_account(&mut violations, &email, &password);
            Some(None)
        } else {
            read_account(&mut violations, &email, password).map(Some)
        };
        let wanted = finish(violations, wanted).map_err(Refusal::Invalid)?;
        // Of what is no invitation whatever is stored, no more is told than of one that is not.
        let Presented { id, hash } = invitations::parse(token.expose_secret()).ok_or(Refusal::Denied)?;
        let shown = Shown { id, secret_hash: hash };
        let invitee = match wanted {
            Some(wanted) => Invitee::Newcomer(self.admit(shown, wanted, visitor.peer.address()).await?),
            None => Invitee::Account(visitor.person()?),
        };
        let mutation = visitor.mutation(&invitee);
        let joined = self
            .accounts
            .store
            .accept_invitation(&mutation, shown, &invitee, |_| Vec::new());
        answer(joined.await.map_err(Refusal::Store)?, response)
    }

    /// An account to be, once it is clear that there is an invitation: nobody else makes us hash. Nor does who has one make us hash
    /// as often as they like, or try which addresses are taken: an invitation outlives every try that fails.
    async fn admit(&self, shown: Shown<'_>, wanted: Wanted, peer: Option<IpAddr>) -> Result<Newcomer, Refusal> {
        let turn = self.accounts.turn_of_a_stranger().await?;
        self.accounts.store.check_invitation(shown).await?;
        drop(turn);
        self.accounts.admit(&wanted.email, peer)?;
        Ok(Newcomer {
            id: Uuid::now_v7(),
            email: wanted.email,
            password_hash: self.accounts.hashing.hash(wanted.password).await?,
        })
    }
}

impl Visitor {
    fn of<M>(request: &Request<M>) -> Self {
        Self {
            caller: request.extensions().get::<Caller>().cloned(),
            peer: Peer::of(request.extensions()),
            reason: front::reason(request.metadata().as_ref()).to_owned(),
        }
    }

    fn person(&self) -> Result<Uuid, Refusal> {
        self.caller.as_ref().ok_or(Refusal::Unauthenticated)?.person()
    }

    /// Whoever opens an account acts as that account.
    fn mutation(self, invitee: &Invitee) -> Mutation {
        let (actor, address) = match invitee {
            Invitee::Account(user) => (*user, None),
            Invitee::Newcomer(newcomer) => (newcomer.id, Some(newcomer.email.given())),
        };
        let known = self.caller.as_ref();
        let name = address
            .or_else(|| known.map(Caller::name))
            .unwrap_or_default()
            .to_owned();
        let credential = known.map(|caller| caller.credential.clone()).unwrap_or_default();
        Mutation {
            caller: store::Caller {
                actor: Actor::User(actor),
                name,
                credential,
                peer: self.peer.to_string(),
                reason: self.reason,
            },
            method: METHOD,
            request: None,
            validate_only: false,
        }
    }
}

/// Reads the account that a newcomer asks for.
fn read_account(violations: &mut Violations, email: &str, password: SecretString) -> Option<Wanted> {
    let email = violations.take("email", Email::new(email));
    check_new(violations, "password", email.as_ref(), &password);
    email.map(|email| Wanted { email, password })
}

/// Whoever is logged in has an account.
fn refuse_account(violations: &mut Violations, email: &str, password: &SecretString) {
    if !email.is_empty() {
        violations.add(
            "email",
            "belongs to a new account, but the caller has one; leave it out",
        );
    }
    if !password.expose_secret().is_empty() {
        violations.add(
            "password",
            "belongs to a new account, but the caller has one; leave it out",
        );
    }
}

fn response(written: &Written<Joined>) -> pb::AcceptInvitationResponse {
    let Joined { project, user, role } = &written.entity;
    pb::AcceptInvitationResponse {
        user: Some(write_user(user)),
        membership: Some(write_membership(project, *role)),
    }
}
