//! What was tampered with is found.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ChainFlaw::{Altered, Missing, Surplus};
use halyard::pb::admin::v1::verify_chain_response::Verdict;

use super::{found, intact, of, verify};
use crate::app::App;

/// The first broken place of a chain.
async fn broken(app: &App, request: pb::VerifyChainRequest) -> (u64, pb::ChainFlaw) {
    match app.audit().verify_chain(request).await.unwrap().into_inner().verdict {
        Some(Verdict::Broken(broken)) => {
            assert!(broken.description.contains(&broken.sequence.to_string()));
            (broken.sequence, broken.flaw())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_tampered_with_is_found() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    for enabled in [true, false, true] {
        app.toggle("f", enabled).await;
    }
    let chain = found(&app, &of("shop")).await[0].chain.clone();
    let sql = app.database.client().await;
    let last = intact(&app, verify("shop")).await;
    let check = async |statement: &str, kept: bool, expected: (u64, pb::ChainFlaw)| {
        let keep = "create table kept as table audit_entries; create table kept_heads as table audit_heads";
        sql.batch_execute(keep).await.unwrap();
        sql.batch_execute(&statement.replace("MINE", &format!("chain = '{chain}'")))
            .await
            .unwrap();
        let request = pb::VerifyChainRequest {
            kept: kept.then(|| last.clone()),
            ..verify("shop")
        };
        assert_eq!(broken(&app, request).await, expected, "{statement}");
        let restore = "
            truncate audit_entries, audit_heads;
            insert into audit_entries table kept; insert into audit_heads table kept_heads;
            drop table kept, kept_heads";
        sql.batch_execute(restore).await.unwrap();
    };
    let changed =
        "update audit_entries set after = replace(after, 'true', 'false') where MINE and action like '%toggle'";
    check(changed, false, (last.sequence - 2, Altered)).await;
    let deleted = "delete from audit_entries where MINE and sequence = 2";
    check(deleted, false, (2, Missing)).await;
    let reordered = "
        update audit_entries set sequence = 0 where MINE and sequence = 2;
        update audit_entries set sequence = 2 where MINE and sequence = 3;
        update audit_entries set sequence = 3 where MINE and sequence = 0";
    check(reordered, false, (2, Altered)).await;
    let inserted = "
        insert into audit_entries select chain, sequence + 1, gen_random_uuid(), at, actor, actor_name, credential, action,
            entity, entity_key, project, environment, before, after, request_id, peer, reason, hash, hash
        from audit_entries where MINE order by sequence desc limit 1";
    check(inserted, false, (last.sequence + 1, Altered)).await;
    let ahead = "update audit_heads set sequence = sequence - 1 where MINE";
    check(ahead, false, (last.sequence, Surplus)).await;
    let truncated = "delete from audit_entries where MINE and sequence > 3";
    check(truncated, false, (4, Missing)).await;
    let with_its_head = format!(
        "{truncated};
        update audit_heads h set sequence = 3, hash = e.hash from audit_entries e
        where h.MINE and e.chain = h.chain and e.sequence = 3"
    );
    check(&with_its_head, true, (4, Missing)).await;

    let request = pb::VerifyChainRequest {
        kept: Some(last.clone()),
        ..verify("shop")
    };
    assert_eq!(intact(&app, request).await, last);
}
