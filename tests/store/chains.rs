//! Whatever is done to the rows of the audit log behind its back is found, at the first place where it was done.

use std::ops::ControlFlow;

use halyard::domain::audit::verify::{Break, Flaw, Verdict};
use halyard::domain::audit::{Entry, Head, Linked, line};
use halyard::store::audit::{INSTANCE, Which};
use halyard::store::{Error, PageRequest};
use uuid::Uuid;

use crate::journal::chain;
use crate::world::*;

/// More than one statement reads.
const LENGTH: u64 = 1_203;

/// A chain of a project that is gone, as long as that.
async fn long(world: &World) -> &'static str {
    const NAME: &str = "4242";
    let insert = "
        insert into audit_entries (
            chain, sequence, id, at, actor, actor_name, credential, action, entity, entity_key, project, environment,
            before, after, request_id, peer, reason, previous_hash, hash)
        values ($1, $2, $3, $4, 'system', '', '', 'flag.update', 'flag', 'f', 'gone', '', null, null, '', '', '', $5, $6)";
    let insert = world.sql.prepare(insert).await.unwrap();
    let mut last = Head::default();
    for sequence in 1..=LENGTH {
        let entry = Entry {
            id: Uuid::from_u128(sequence.into()),
            at: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
            actor: "system".into(),
            actor_name: String::new(),
            credential: String::new(),
            action: "flag.update".into(),
            entity: "flag".into(),
            entity_key: "f".into(),
            project: "gone".into(),
            environment: String::new(),
            before: None,
            after: None,
            request_id: String::new(),
            peer: String::new(),
            reason: String::new(),
        };
        let hash = entry.hash(last.hash, sequence);
        let (place, previous) = (i64::try_from(sequence).unwrap(), last.hash.0.as_slice());
        world
            .sql
            .execute(
                &insert,
                &[&NAME, &place, &entry.id, &entry.at, &previous, &hash.0.as_slice()],
            )
            .await
            .unwrap();
        last = Head { sequence, hash };
    }
    let (place, hash) = (i64::try_from(last.sequence).unwrap(), last.hash.0.as_slice());
    let insert = "insert into audit_heads (chain, sequence, hash) values ($1, $2, $3)";
    world.sql.execute(insert, &[&NAME, &place, &hash]).await.unwrap();
    NAME
}

#[tokio::test]
async fn what_was_done_to_a_chain_is_found_where_it_was_done() {
    let world = world().await;
    let long = long(&world).await;
    let verify = async || world.store.verify_chain(long, None).await.unwrap();
    assert!(matches!(verify().await, Verdict::Intact(Head { sequence: LENGTH, .. })));
    let tamper = async |statement: &str, sequence, flaw| {
        let keep = "create table kept as table audit_entries; create table kept_heads as table audit_heads";
        world.sql.batch_execute(keep).await.unwrap();
        world.sql.batch_execute(statement).await.unwrap();
        assert_eq!(verify().await, Verdict::Broken(Break { sequence, flaw }), "{statement}");
        let restore = "
            truncate audit_entries, audit_heads;
            insert into audit_entries table kept; insert into audit_heads table kept_heads;
            drop table kept, kept_heads";
        world.sql.batch_execute(restore).await.unwrap();
    };
    let chain = "chain = '4242'";

    // Changed.
    for column in ["reason", "actor", "before", "peer", "entity_key"] {
        let statement = format!("update audit_entries set {column} = 'x' where {chain} and sequence = 500");
        tamper(&statement, 500, Flaw::Altered).await;
    }
    let statement =
        format!("update audit_entries set at = at + interval '1 microsecond' where {chain} and sequence = 501");
    tamper(&statement, 501, Flaw::Altered).await;
    let statement = format!("update audit_entries set at = 'infinity' where {chain} and sequence = 2");
    tamper(&statement, 2, Flaw::Unreadable).await;
    let statement = format!("update audit_entries set hash = previous_hash where {chain} and sequence = 7");
    tamper(&statement, 7, Flaw::Altered).await;

    // Deleted.
    for sequence in [1, 500, 501, 1_000, 1_001, LENGTH] {
        let statement = format!("delete from audit_entries where {chain} and sequence = {sequence}");
        tamper(&statement, sequence, Flaw::Missing).await;
    }
    tamper(&format!("delete from audit_entries where {chain}"), 1, Flaw::Missing).await;

    // Reordered: contents exchanged, and whole rows exchanged.
    let exchange = format!(
        "update audit_entries a set entity_key = b.sequence::text from audit_entries b
        where a.{chain} and b.{chain} and (a.sequence, b.sequence) in ((9, 10), (10, 9))"
    );
    tamper(&exchange, 9, Flaw::Altered).await;
    let exchange = format!(
        "update audit_entries set sequence = -1 where {chain} and sequence = 9;
        update audit_entries set sequence = 9 where {chain} and sequence = 10;
        update audit_entries set sequence = 10 where {chain} and sequence = -1"
    );
    tamper(&exchange, 9, Flaw::Altered).await;

    // Put in: at the end, before the beginning, and in between with all that follow moved up.
    let put_in = |sequence: &str, at: u64| {
        format!(
            "insert into audit_entries select chain, {sequence}, gen_random_uuid(), at, actor, actor_name, credential, action,
                entity, entity_key, project, environment, before, after, request_id, peer, reason, previous_hash, hash
            from audit_entries where {chain} and sequence = {at}"
        )
    };
    tamper(&put_in("sequence + 1", LENGTH), LENGTH + 1, Flaw::Altered).await;
    tamper(&put_in("0", 1), 1, Flaw::Surplus).await;
    tamper(&put_in("-5", 1), 1, Flaw::Unreadable).await;
    let between = format!(
        "update audit_entries set sequence = -sequence where {chain} and sequence > 20;
        update audit_entries set sequence = 1 - sequence where {chain} and sequence < 0;
        {}",
        put_in("sequence + 1", 20)
    );
    tamper(&between, 21, Flaw::Altered).await;

    // The head.
    let head = |set: &str| format!("update audit_heads set {set} where {chain}");
    tamper(&head("sequence = sequence - 3"), LENGTH - 2, Flaw::Surplus).await;
    tamper(&head("sequence = sequence + 1"), LENGTH + 1, Flaw::Missing).await;
    tamper(&head("hash = decode(repeat('00', 32), 'hex')"), LENGTH + 1, Flaw::Head).await;
    tamper(
        &format!("delete from audit_heads where {chain}"),
        LENGTH + 1,
        Flaw::Head,
    )
    .await;
    let erased = "delete from audit_entries where chain = '4242'; update audit_heads set sequence = 0,
        hash = decode(repeat('00', 32), 'hex') where chain = '4242'";
    tamper(erased, 1, Flaw::Missing).await;
    assert!(matches!(verify().await, Verdict::Intact(_)));
}

#[tokio::test]
async fn a_chain_that_was_cut_off_with_its_head_is_found_against_a_kept_head() {
    let world = world().await;
    let chain = chain(&world).await;
    let Verdict::Intact(kept) = world.store.verify_chain(&chain, None).await.unwrap() else {
        panic!("tampered with");
    };
    world.flag("f").await;
    let against = async |kept| world.store.verify_chain(&chain, Some(kept)).await.unwrap();
    let Verdict::Intact(newer) = against(kept).await else {
        panic!("it only grew");
    };
    assert!(newer.sequence > kept.sequence);

    let cut = format!(
        "delete from audit_entries where chain = '{chain}' and sequence > {0};
        update audit_heads h set sequence = {0}, hash = e.hash from audit_entries e
        where h.chain = '{chain}' and e.chain = h.chain and e.sequence = {0}",
        kept.sequence
    );
    world.sql.batch_execute(&cut).await.unwrap();
    assert_eq!(against(kept).await, Verdict::Intact(kept));
    let (sequence, flaw) = (kept.sequence + 1, Flaw::Missing);
    assert_eq!(against(newer).await, Verdict::Broken(Break { sequence, flaw }));

    // What is written after the cut is another history.
    world.flag("g").await;
    let (sequence, flaw) = (newer.sequence, Flaw::Rewritten);
    assert_eq!(against(newer).await, Verdict::Broken(Break { sequence, flaw }));
}

#[tokio::test]
async fn a_chain_is_handed_out_whole_and_in_order() {
    let world = world().await;
    let long = long(&world).await;
    let mut lines = Vec::new();
    let read = world.store.read_chain(long, |linked: Linked| {
        lines.push(line::write(long, &linked).unwrap());
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(read.await.unwrap(), ControlFlow::Continue(()));
    let read: Vec<_> = lines.iter().map(|text| line::read(text).unwrap().1.sequence).collect();
    assert_eq!(read, (1..=LENGTH).collect::<Vec<_>>());
    let broken_off = world
        .store
        .read_chain(long, |linked| ControlFlow::Break(linked.sequence));
    assert_eq!(broken_off.await.unwrap(), ControlFlow::Break(1));
    let update = "update audit_entries set at = 'infinity' where chain = '4242' and sequence = 600";
    world.sql.execute(update, &[]).await.unwrap();
    let read = world.store.read_chain(long, |_| ControlFlow::<()>::Continue(()));
    assert!(matches!(read.await, Err(Error::Corrupt { column: "at", .. })));
}

#[tokio::test]
async fn the_chain_of_a_key_is_the_living_projects_or_else_the_last() {
    let world = world().await;
    let (shop_key, first) = (project("shop"), chain(&world).await);
    let delete = async || {
        let by = world.by_owner();
        done(world.store.delete_project(&by, &shop_key, "", respond).await);
    };
    let ever = async || world.store.audit_chain(Which::Ever(&shop_key)).await.unwrap();
    let living = async || world.store.audit_chain(Which::Living(&shop_key)).await;

    assert_eq!((ever().await, living().await.unwrap()), (first.clone(), first.clone()));
    delete().await;
    assert_eq!(ever().await, first);
    assert!(matches!(living().await, Err(Error::NotFound { .. })));
    world.project("shop").await;
    let second = chain(&world).await;
    assert_ne!(first, second);
    assert_eq!(
        (ever().await, living().await.unwrap()),
        (second.clone(), second.clone())
    );
    delete().await;
    assert_eq!(ever().await, second);

    let missing = world.store.audit_chain(Which::Ever(&project("never"))).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    assert_eq!(world.store.audit_chain(Which::Named(&first)).await.unwrap(), first);
    let missing = world.store.audit_chain(Which::Named("nothing")).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn every_chain_is_listed_whatever_was_taken_away_of_it() {
    let world = world().await;
    let shop_chain = chain(&world).await;
    for key in ["a", "b", "c"] {
        world.project(key).await;
    }
    let (by, a) = (world.by_owner(), project("a"));
    done(world.store.delete_project(&by, &a, "", respond).await);
    let meddle = "
        delete from audit_heads where chain = (select id::text from projects where key = 'b');
        delete from audit_entries where chain in (select id::text from projects where key in ('b', 'c'))";
    world.sql.batch_execute(meddle).await.unwrap();

    let (mut listed, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.store.list_chains(&PageRequest { size: 2, after }).await.unwrap();
        listed.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
    let mut found: Vec<_> = listed
        .iter()
        .map(|chain| (chain.project.as_str(), chain.deleted, chain.head.is_some()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("", false, true),
        ("a", true, true),
        ("b", false, false),
        ("c", false, true),
        ("shop", false, true),
    ];
    assert_eq!(found, expected);
    assert!(
        listed
            .iter()
            .any(|chain| chain.name == INSTANCE && chain.head == Some(Head::default()))
    );
    assert!(listed.iter().any(|chain| chain.name == shop_chain));
    for chain in listed
        .iter()
        .filter(|chain| ["b", "c"].contains(&chain.project.as_str()))
    {
        let verdict = world.store.verify_chain(&chain.name, None).await.unwrap();
        assert!(
            matches!(verdict, Verdict::Broken(Break { sequence: 1, .. })),
            "{chain:?}: {verdict:?}"
        );
    }
}
