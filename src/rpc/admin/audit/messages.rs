//! The audit log's messages.

use crate::domain::audit::verify::{Break, Flaw, Verdict};
use crate::domain::audit::{Entry, Head, Linked};
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::verify_chain_response::Verdict as PbVerdict;
use crate::rpc::convert::common::timestamp;
use crate::store::audit::Chain;

/// Reads a head that was kept.
pub(super) fn read_head(violations: &mut Violations, field: &str, head: pb::ChainHead) -> Option<Head> {
    let pb::ChainHead { sequence, hash } = head;
    let hash = Digest::from_hex(&hash);
    if hash.is_none() {
        violations.add(format!("{field}.hash"), "is not a hash of 64 hexadecimal digits");
    }
    Some(Head { sequence, hash: hash? })
}

pub(super) fn write_head(head: Head) -> pb::ChainHead {
    let Head { sequence, hash } = head;
    pb::ChainHead {
        sequence,
        hash: hash.to_string(),
    }
}

pub(super) fn write(chain: &str, linked: &Linked) -> pb::AuditEntry {
    let Linked {
        entry,
        sequence,
        previous,
        hash,
    } = linked;
    let Entry {
        id,
        at,
        actor,
        actor_name,
        credential,
        action,
        entity,
        entity_key,
        project,
        environment,
        before,
        after,
        request_id,
        peer,
        reason,
    } = entry.clone();
    pb::AuditEntry {
        id: id.to_string(),
        chain: chain.to_owned(),
        sequence: *sequence,
        time: Some(timestamp(at)),
        actor,
        actor_name,
        credential,
        action,
        entity,
        entity_key,
        project,
        environment,
        before,
        after,
        request_id,
        peer,
        reason,
        previous_hash: previous.to_string(),
        hash: hash.to_string(),
    }
}

pub(super) fn write_verdict(verdict: Verdict) -> PbVerdict {
    match verdict {
        Verdict::Intact(head) => PbVerdict::Intact(write_head(head)),
        Verdict::Broken(broken) => {
            let Break { sequence, flaw } = broken;
            PbVerdict::Broken(pb::ChainBreak {
                sequence,
                flaw: write_flaw(flaw).into(),
                description: broken.to_string(),
            })
        }
    }
}

fn write_flaw(flaw: Flaw) -> pb::ChainFlaw {
    match flaw {
        Flaw::Missing => pb::ChainFlaw::Missing,
        Flaw::Unreadable => pb::ChainFlaw::Unreadable,
        Flaw::Altered => pb::ChainFlaw::Altered,
        Flaw::Detached => pb::ChainFlaw::Detached,
        Flaw::Surplus => pb::ChainFlaw::Surplus,
        Flaw::Head => pb::ChainFlaw::Head,
        Flaw::Rewritten => pb::ChainFlaw::Rewritten,
    }
}

pub(super) fn write_chain(chain: &Chain) -> pb::Chain {
    let Chain {
        name,
        project,
        deleted,
        head,
    } = chain;
    pb::Chain {
        name: name.clone(),
        project: project.clone(),
        deleted: *deleted,
        head: head.map(write_head),
    }
}
