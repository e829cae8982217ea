//! Reading the audit log, and proving it.

mod messages;

use std::mem::take;

use tokio::sync::Semaphore;
use tonic::{Request, Response};
use uuid::Uuid;

use self::messages::{read_head, write, write_chain, write_verdict};
use super::Call;
use crate::domain::audit::Head;
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::audit_service_server::AuditService;
use crate::rpc::convert::common::{finish, optional_key, read_timestamp};
use crate::rpc::{Answer, Refusal};
use crate::store::Store;
use crate::store::audit::{Filter, Which};

/// Chains that are verified at the same time, others wait: each keeps a core busy, and mutations want the connections.
const VERIFICATIONS: usize = 2;

/// The service.
pub struct Audit {
    store: Store,
    verifications: Semaphore,
}

impl Audit {
    /// Reads the audit log of this store.
    pub fn new(store: Store) -> Self {
        let verifications = Semaphore::new(VERIFICATIONS);
        Self { store, verifications }
    }

    /// The name of the chain that a request is about, once everything else about the request is settled.
    async fn chain(&self, call: &Call, asked: &Asked) -> Result<String, Refusal> {
        let which = match asked {
            Asked::Instance => Which::Instance,
            Asked::Project(project) if call.caller.is_administrator() => Which::Ever(project),
            Asked::Project(project) => Which::Living(project),
            Asked::Named(chain) => Which::Named(chain),
        };
        self.store.audit_chain(which).await.map_err(Refusal::Store)
    }
}

/// The chain that a request asks for.
enum Asked {
    Instance,
    Project(key::Project),
    Named(String),
}

impl Asked {
    /// Reads which chain is asked for, and refuses whoever may not read it.
    async fn read(
        call: &Call,
        violations: &mut Violations,
        project: &str,
        chain: String,
    ) -> Result<Option<Self>, Refusal> {
        check::text(violations, "chain", &chain, limits::NAME_CHARS);
        if !project.is_empty() && !chain.is_empty() {
            violations.add("chain", "and project are both given; leave one out");
        }
        if project.is_empty() || !chain.is_empty() {
            // Outside of a project only administrators have the permission.
            call.caller.authorise(None).await?;
        }
        let key: Option<key::Project> = optional_key(violations, "project", project);
        call.authorise(key.as_ref()).await?;
        Ok(match key {
            Some(project) => Some(Self::Project(project)),
            None if !chain.is_empty() => Some(Self::Named(chain)),
            None => project.is_empty().then_some(Self::Instance),
        })
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_entries(&self, request: Request<pb::ListEntriesRequest>) -> Answer<pb::ListEntriesResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListEntriesRequest {
            project,
            chain,
            entity,
            entity_key,
            action,
            actor,
            environment,
            start_time,
            end_time,
            page_size: _,
            page_token: _,
        } = message;
        let asked = Asked::read(&call, &mut violations, &project, chain).await?;
        let mut time =
            |field: &str, time: Option<_>| time.and_then(|time| read_timestamp(&mut violations, field, time));
        let filter = Filter {
            from: time("start_time", start_time),
            to: time("end_time", end_time),
            entity,
            entity_key,
            action,
            actor,
            environment,
        };
        check_filter(&mut violations, &filter);
        let asked = finish(violations, asked).map_err(Refusal::Invalid)?;
        let chain = self.chain(&call, &asked).await?;
        let found = self.store.list_entries(&chain, &filter, &paging.request).await;
        let (entries, next_page_token) = paging.write(found.map_err(Refusal::Store)?, |entry| write(&chain, entry));
        Ok(Response::new(pb::ListEntriesResponse {
            entries,
            next_page_token,
        }))
    }

    async fn get_entry(&self, request: Request<pb::GetEntryRequest>) -> Answer<pb::GetEntryResponse> {
        let (call, pb::GetEntryRequest { project, chain, id }) = Call::open(request)?;
        let mut violations = Violations::new();
        let asked = Asked::read(&call, &mut violations, &project, chain).await?;
        let id = Uuid::parse_str(&id).ok();
        if id.is_none() {
            violations.add("id", "is not a UUID");
        }
        let (asked, id) = finish(violations, asked.zip(id)).map_err(Refusal::Invalid)?;
        let chain = self.chain(&call, &asked).await?;
        let entry = self.store.get_entry(&chain, id).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetEntryResponse {
            entry: Some(write(&chain, &entry)),
        }))
    }

    async fn verify_chain(&self, request: Request<pb::VerifyChainRequest>) -> Answer<pb::VerifyChainResponse> {
        let (call, pb::VerifyChainRequest { project, chain, kept }) = Call::open(request)?;
        let mut violations = Violations::new();
        let asked = Asked::read(&call, &mut violations, &project, chain).await?;
        let kept: Option<Head> = kept.and_then(|head| read_head(&mut violations, "kept", head));
        let asked = finish(violations, asked).map_err(Refusal::Invalid)?;
        let chain = self.chain(&call, &asked).await?;
        let turn = self.verifications.acquire().await;
        let _turn = turn.map_err(|_| Refusal::Internal)?;
        let verdict = self.store.verify_chain(&chain, kept).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::VerifyChainResponse {
            chain,
            verdict: Some(write_verdict(verdict)),
        }))
    }

    async fn list_chains(&self, request: Request<pb::ListChainsRequest>) -> Answer<pb::ListChainsResponse> {
        let (call, mut message) = Call::open(request)?;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListChainsRequest {
            page_size: _,
            page_token: _,
        } = message;
        violations.or(()).map_err(Refusal::Invalid)?;
        let found = self.store.list_chains(&paging.request).await;
        let (chains, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write_chain);
        Ok(Response::new(pb::ListChainsResponse {
            chains,
            next_page_token,
        }))
    }
}

fn check_filter(violations: &mut Violations, filter: &Filter) {
    let Filter {
        entity,
        entity_key,
        action,
        actor,
        environment,
        from: _,
        to: _,
    } = filter;
    for (field, text) in [
        ("entity", entity),
        ("entity_key", entity_key),
        ("action", action),
        ("actor", actor),
        ("environment", environment),
    ] {
        check::text(violations, field, text, limits::NAME_CHARS);
    }
}
