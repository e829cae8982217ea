//! Steps against what is held: the right ones lead on, every other one changes nothing.

use bytes::Bytes;

use super::*;
use crate::domain::change::{self, EnvironmentId};
use crate::watch::source::{Identity, StoredChange};

fn form(number: u64, version: u64) -> Bytes {
    format!(
        r#"{{"format":1,"enabled":{},"salt":"{number}"}}"#,
        version.is_multiple_of(2)
    )
    .into()
}

fn put(number: u64, version: u64) -> pb::Item {
    let form = form(number, version);
    pb::Item {
        change: Some(pb::item::Change::Put(pb::Put {
            kind: kind(number).to_owned(),
            key: format!("f{number}"),
            version,
            form_hash: change::form_hash(&form).0.to_vec(),
            form: Some(form.to_vec()),
            item: None,
        })),
    }
}

/// Every third item is of a kind that only newer versions know.
fn kind(number: u64) -> &'static str {
    if number % 3 == 2 {
        "hologram"
    } else {
        "flag_configuration"
    }
}

fn delete(number: u64) -> pb::Item {
    pb::Item {
        change: Some(pb::item::Change::Delete(pb::Delete {
            kind: kind(number).to_owned(),
            key: format!("f{number}"),
        })),
    }
}

fn position(revision: u64) -> Token {
    Token {
        identity: Identity {
            store: uuid::Uuid::from_u128(1),
            generation: 1,
        },
        environment: EnvironmentId(7),
        revision,
        digest: change::form_hash(&revision.to_be_bytes()),
        sealed: false,
    }
}

/// As many items as revisions, each of version 1.
pub fn state(revision: u64) -> Held {
    let items: OrdMap<_, _> = (0..revision).map(|n| item(n, 1)).collect();
    Held {
        position: position(revision),
        committed_at: jiff::Timestamp::UNIX_EPOCH,
        state_hash: Held::hash_of(&items),
        items,
    }
}

fn item(number: u64, version: u64) -> (Name, Entry) {
    let name = Name::new(kind(number), &format!("f{number}"));
    (name, Entry::new(version, form(number, version)))
}

fn begin(intent: pb::Intent, from: u64, to: u64, count: u32) -> pb::Begin {
    pb::Begin {
        intent: intent.into(),
        generation: 1,
        from_revision: from,
        to_revision: to,
        item_count: count,
        ..pb::Begin::default()
    }
}

fn commit(held: &Held) -> pb::Commit {
    pb::Commit {
        resume_token: held.position.write().to_vec(),
        generation: held.position.identity.generation,
        revision: held.position.revision,
        state_hash: held.state_hash.as_bytes().to_vec(),
        committed_at: Some(prost_types::Timestamp::default()),
    }
}

fn step(
    held: Option<&Arc<Held>>,
    begin: pb::Begin,
    items: Vec<pb::Item>,
    commit: pb::Commit,
) -> Result<Outcome, Broken> {
    let mut step = Step::begin(begin, held.map(Arc::as_ref))?;
    for item in items {
        step.item(item)?;
    }
    step.commit(commit, held)
}

fn snapshot(to: u64) -> (pb::Begin, Vec<pb::Item>, pb::Commit) {
    let count = u32::try_from(to).unwrap();
    let items = (0..to).map(|n| put(n, 1)).collect();
    (begin(pb::Intent::Snapshot, 0, to, count), items, commit(&state(to)))
}

#[test]
fn a_snapshot_is_held_with_kinds_that_nobody_knows_yet() {
    let (begin, items, commit) = snapshot(6);
    let outcome = step(None, begin, items, commit).unwrap();
    assert_eq!(outcome.held.items, state(6).items);
    assert_eq!(outcome.held.stored().len(), 4, "but for the two holograms");
    assert!(matches!(outcome.difference, Difference::Everything));
}

#[test]
fn a_delta_changes_what_it_names_and_says_where_it_began() {
    let held = Arc::new(state(4));
    let mut expected = state(4);
    expected.position = position(9);
    let (changed, (gone, _)) = (item(0, 2), item(1, 1));
    expected.items.insert(changed.0, changed.1);
    expected.items.remove(&gone);
    expected.state_hash = Held::hash_of(&expected.items);
    // The last came and went between the two steps.
    let items = vec![put(0, 2), delete(1), delete(77)];
    let outcome = step(Some(&held), begin(pb::Intent::Delta, 4, 9, 3), items, commit(&expected));
    let outcome = outcome.unwrap();
    assert_eq!(outcome.held.items, expected.items);
    let Difference::Some(delta) = outcome.difference else {
        panic!("no delta");
    };
    assert_eq!(
        (delta.previous_revision, delta.previous_digest),
        (4, held.position.digest)
    );
    assert_eq!(delta.head, expected.head());
    assert!(matches!(
        &*delta.changes,
        [StoredChange::Put(_), StoredChange::Delete { version: 1, .. }]
    ));
}

#[test]
fn being_up_to_date_changes_nothing() {
    let held = Arc::new(state(4));
    let outcome = step(
        Some(&held),
        begin(pb::Intent::None, 4, 4, 0),
        Vec::new(),
        commit(&state(4)),
    );
    assert!(matches!(outcome.unwrap().difference, Difference::None));
}

/// What is wrong with a step from revision 2 to 3 that is otherwise right.
fn check(alter: impl FnOnce(&mut pb::Begin, &mut Vec<pb::Item>, &mut pb::Commit), expected: &Broken) {
    let held = Arc::new(state(2));
    let (mut begin, mut items, mut commit) = (begin(pb::Intent::Delta, 2, 3, 1), vec![put(2, 1)], commit(&state(3)));
    alter(&mut begin, &mut items, &mut commit);
    assert_eq!(&step(Some(&held), begin, items, commit).unwrap_err(), expected);
}

#[test]
fn whatever_is_wrong_with_a_step_is_noticed() {
    check(|_, items, _| items[0] = put(2, 2), &Broken::StateMismatch(3));
    check(|_, _, commit| commit.state_hash[0] ^= 1, &Broken::StateMismatch(3));
    check(
        |_, items, _| items.clear(),
        &Broken::ItemCount {
            announced: 1,
            received: 0,
        },
    );
    check(|begin, _, _| begin.from_revision = 1, &Broken::DoesNotFollow(1));
    check(|begin, _, _| begin.generation = 2, &Broken::DoesNotFollow(2));
    check(|begin, _, _| begin.intent = 0, &Broken::Lacks("the intent of a step"));
    check(
        |begin, _, _| begin.to_revision = 4,
        &Broken::NotAsAnnounced {
            announced: 4,
            committed: 3,
        },
    );
    check(
        |_, _, commit| commit.resume_token.clear(),
        &Broken::Lacks("a token that this version can read"),
    );
    check(
        |_, _, commit| commit.resume_token = position(4).write().to_vec(),
        &Broken::Lacks("a token of its own revision"),
    );
    check(
        |_, items, _| items[0].change = None,
        &Broken::Lacks("the change of an item"),
    );
}

#[test]
fn a_form_that_is_not_its_hashs_is_refused() {
    let mut wrong = put(2, 1);
    if let Some(pb::item::Change::Put(put)) = &mut wrong.change {
        put.form = Some(b"{}".to_vec());
    }
    check(
        |_, items, _| items[0] = wrong,
        &Broken::FormHash("hologram f2".to_owned()),
    );
}

#[test]
fn a_snapshot_leads_back_only_if_it_says_why() {
    let held = Arc::new(state(5));
    let back = |reason: pb::SnapshotReason| {
        let (mut begin, items, commit) = snapshot(3);
        begin.reason = reason.into();
        step(Some(&held), begin, items, commit).map(|outcome| outcome.held.position.revision)
    };
    assert_eq!(back(pb::SnapshotReason::NoState), Err(Broken::WentBack(3)));
    assert_eq!(back(pb::SnapshotReason::Compacted), Err(Broken::WentBack(3)));
    assert_eq!(back(pb::SnapshotReason::Diverged), Ok(3));
    assert_eq!(back(pb::SnapshotReason::DifferentStore), Ok(3));
}
