//! The audit log as its readers have it.

mod deletions;
mod denied;
mod entries;
mod pages;
mod person;
mod readers;
mod tampering;

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::verify_chain_response::Verdict;

use crate::app::App;

pub fn of(project: &str) -> pb::ListEntriesRequest {
    pb::ListEntriesRequest {
        project: project.into(),
        ..Default::default()
    }
}

pub fn verify(project: &str) -> pb::VerifyChainRequest {
    pb::VerifyChainRequest {
        project: project.into(),
        ..Default::default()
    }
}

pub fn get(project: &str, id: &str) -> pb::GetEntryRequest {
    pb::GetEntryRequest {
        project: project.into(),
        id: id.into(),
        ..Default::default()
    }
}

/// Every entry that a request finds, page by page; `between` is done before each page but the first.
pub async fn all(app: &App, request: &pb::ListEntriesRequest, mut between: impl AsyncFnMut()) -> Vec<pb::AuditEntry> {
    let (mut request, mut entries) = (request.clone(), Vec::new());
    loop {
        let page = app.audit().list_entries(request.clone()).await.unwrap().into_inner();
        assert!(request.page_size == 0 || page.entries.len() <= usize::try_from(request.page_size).unwrap());
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            return entries;
        }
        request.page_token = page.next_page_token;
        between().await;
    }
}

pub async fn found(app: &App, request: &pb::ListEntriesRequest) -> Vec<pb::AuditEntry> {
    all(app, request, async || {}).await
}

/// The head of an intact chain.
pub async fn intact(app: &App, request: pb::VerifyChainRequest) -> pb::ChainHead {
    match app.audit().verify_chain(request).await.unwrap().into_inner().verdict {
        Some(Verdict::Intact(head)) => head,
        other => panic!("{other:?}"),
    }
}
