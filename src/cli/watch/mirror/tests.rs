//! What a mirror accepts, and what it finds out.

use super::*;
use crate::domain::change::form_hash;

pub(in crate::cli::watch) fn definition(key: &str) -> Put {
    Put {
        kind: Kind::FlagDefinition.name().to_owned(),
        key: key.to_owned(),
        version: 1,
        form_hash: form_hash(key.as_bytes()).0.to_vec(),
        form: None,
        item: Some(Form::FlagDefinition(FlagDefinition {
            key: key.to_owned(),
            ..FlagDefinition::default()
        })),
    }
}

pub(in crate::cli::watch) fn configuration(key: &str, enabled: bool) -> Put {
    Put {
        kind: Kind::FlagConfiguration.name().to_owned(),
        key: key.to_owned(),
        version: 1,
        form_hash: form_hash(format!("{key} {enabled}").as_bytes()).0.to_vec(),
        form: None,
        item: Some(Form::FlagConfiguration(FlagConfiguration {
            flag: key.to_owned(),
            enabled,
            ..FlagConfiguration::default()
        })),
    }
}

/// The hash of a state, by the sentence in the proto and not by the code under test.
pub(in crate::cli::watch) fn state_hash(puts: &[Put]) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let mut state = vec![0_u8; 32];
    for put in puts {
        let mut hash = Sha256::new();
        for field in [put.kind.as_bytes(), put.key.as_bytes(), &put.form_hash] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        for (byte, other) in state.iter_mut().zip(hash.finalize()) {
            *byte ^= other;
        }
    }
    state
}

fn put(put: Put) -> Item {
    Item {
        change: Some(Change::Put(put)),
    }
}

fn delete(kind: Kind, key: &str) -> Item {
    Item {
        change: Some(Change::Delete(Delete {
            kind: kind.name().to_owned(),
            key: key.to_owned(),
        })),
    }
}

pub(in crate::cli::watch) fn begin(intent: Intent, from_revision: u64, to_revision: u64, items: u32) -> Begin {
    Begin {
        intent: intent.into(),
        generation: 1,
        from_revision,
        to_revision,
        reason: 0,
        item_count: items,
        stream: String::new(),
    }
}

pub(in crate::cli::watch) fn commit(revision: u64, state_hash: Vec<u8>) -> Commit {
    Commit {
        resume_token: revision.to_be_bytes().to_vec(),
        generation: 1,
        revision,
        state_hash,
        committed_at: None,
    }
}

fn step(mirror: &mut Mirror, begin: Begin, items: Vec<Item>, commit: Commit) -> Result<Advance, Broken> {
    mirror.begin(begin)?;
    for item in items {
        mirror.item(item)?;
    }
    mirror.commit(commit)
}

/// Holds flag `a`, off, at revision 5.
fn mirror() -> Mirror {
    let mut mirror = Mirror::default();
    let items = [definition("a"), configuration("a", false)];
    let hash = state_hash(&items);
    let begin = begin(Intent::Snapshot, 0, 5, 2);
    step(
        &mut mirror,
        begin,
        items.into_iter().map(put).collect(),
        commit(5, hash),
    )
    .unwrap();
    mirror
}

fn on() -> (Vec<Item>, Vec<u8>) {
    let hash = state_hash(&[definition("a"), configuration("a", true)]);
    (vec![put(configuration("a", true))], hash)
}

fn broken(begin: Begin, items: Vec<Item>, commit: Commit, expected: &Broken) {
    let mut mirror = mirror();
    let token = mirror.token().to_vec();
    let found = step(&mut mirror, begin, items, commit).unwrap_err();
    assert_eq!(&found, expected);
    assert_eq!((mirror.at, mirror.token()), (Some((1, 5)), token.as_slice()));
}

#[test]
fn a_delta_is_applied_on_top() {
    let mut mirror = mirror();
    let (items, hash) = on();
    let advance = step(&mut mirror, begin(Intent::Delta, 5, 7, 1), items, commit(7, hash)).unwrap();
    let [change] = advance.flags.as_slice() else {
        panic!("{advance:?}");
    };
    assert_eq!(change.key, "a");
    assert_eq!(change.before.as_ref().map(FlagState::enabled), Some(false));
    assert_eq!(change.after.as_ref().map(FlagState::enabled), Some(true));
    assert_eq!(advance.revision, 7);
    assert_eq!(mirror.token(), 7_u64.to_be_bytes());
}

#[test]
fn a_snapshot_replaces_everything_and_tells_what_differs() {
    let mut mirror = mirror();
    let items = [definition("b")];
    let hash = state_hash(&items);
    let begin = begin(Intent::Snapshot, 0, 9, 1);
    let advance = step(
        &mut mirror,
        begin,
        items.into_iter().map(put).collect(),
        commit(9, hash),
    )
    .unwrap();
    let keys: Vec<_> = advance
        .flags
        .iter()
        .map(|change| (change.key.as_str(), change.after.is_some()))
        .collect();
    assert_eq!(keys, [("a", false), ("b", true)]);
}

#[test]
fn a_deleted_flag_is_gone() {
    let mut mirror = mirror();
    let items = vec![
        delete(Kind::FlagDefinition, "a"),
        delete(Kind::FlagConfiguration, "a"),
        delete(Kind::FlagDefinition, "never seen"),
    ];
    let advance = step(
        &mut mirror,
        begin(Intent::Delta, 5, 6, 3),
        items,
        commit(6, vec![0; 32]),
    )
    .unwrap();
    assert_eq!(advance.flags.len(), 1);
    assert!(
        advance
            .flags
            .iter()
            .all(|change| change.key == "a" && change.after.is_none())
    );
}

#[test]
fn nothing_is_a_step_too() {
    let mut mirror = mirror();
    let hash = state_hash(&[definition("a"), configuration("a", false)]);
    let advance = step(&mut mirror, begin(Intent::None, 5, 5, 0), Vec::new(), commit(5, hash)).unwrap();
    assert!(advance.flags.is_empty());
}

#[test]
fn a_wrong_state_hash_is_found() {
    let (items, hash) = on();
    let wrong = Digest([1; 32]);
    let expected = Broken::StateMismatch {
        revision: 6,
        server: wrong,
        ours: Digest::from_slice(&hash).unwrap(),
    };
    broken(begin(Intent::Delta, 5, 6, 1), items, commit(6, vec![1; 32]), &expected);
    assert!(expected.to_string().contains("STATE MISMATCH"));
}

#[test]
fn a_lost_item_is_found_even_if_the_count_is_right() {
    let hash = state_hash(&[definition("a"), configuration("a", false), definition("b")]);
    let begin = begin(Intent::Delta, 5, 6, 0);
    let mut mirror = mirror();
    let found = step(&mut mirror, begin, Vec::new(), commit(6, hash));
    assert!(matches!(found, Err(Broken::StateMismatch { .. })));
}

#[test]
fn an_incomplete_step_is_found() {
    let (items, hash) = on();
    let expected = Broken::ItemCount {
        announced: 2,
        received: 1,
    };
    broken(begin(Intent::Delta, 5, 6, 2), items, commit(6, hash), &expected);
}

#[test]
fn a_gap_is_found() {
    let (items, hash) = on();
    let expected = Broken::DoesNotFollow { generation: 1, from: 6 };
    broken(begin(Intent::Delta, 6, 7, 1), items, commit(7, hash), &expected);
}

#[test]
fn going_back_is_found() {
    let begin_back = begin(Intent::Snapshot, 0, 4, 0);
    let expected = Broken::WentBack {
        held: (1, 5),
        to: (1, 4),
    };
    broken(begin_back.clone(), Vec::new(), commit(4, vec![0; 32]), &expected);
    for reason in [SnapshotReason::DifferentStore, SnapshotReason::Diverged] {
        let mut mirror = mirror();
        let begin = Begin {
            reason: reason.into(),
            ..begin_back.clone()
        };
        step(&mut mirror, begin, Vec::new(), commit(4, vec![0; 32])).unwrap();
        assert_eq!(mirror.at, Some((1, 4)));
    }
}

#[test]
fn a_commit_is_what_was_announced() {
    let (items, hash) = on();
    let expected = Broken::NotAsAnnounced {
        generation: 1,
        to: 6,
        revision: 7,
    };
    broken(begin(Intent::Delta, 5, 6, 1), items, commit(7, hash), &expected);
}

#[test]
fn messages_come_in_order() {
    let mut mirror = mirror();
    assert_eq!(
        mirror.commit(commit(6, vec![0; 32])).unwrap_err(),
        Broken::OutsideStep("a commit")
    );
    assert_eq!(
        mirror.item(put(definition("b"))).unwrap_err(),
        Broken::OutsideStep("an item")
    );
    mirror.begin(begin(Intent::Delta, 5, 6, 0)).unwrap();
    assert_eq!(
        mirror.begin(begin(Intent::Delta, 5, 6, 0)).unwrap_err(),
        Broken::StepWithinStep
    );
}

#[test]
fn a_connection_lost_within_a_step_leaves_what_was_held() {
    let mut mirror = mirror();
    mirror.begin(begin(Intent::Delta, 5, 6, 1)).unwrap();
    mirror.item(put(configuration("a", true))).unwrap();
    mirror.disconnected();
    assert_eq!(mirror.token(), 5_u64.to_be_bytes());
    let (items, hash) = on();
    step(&mut mirror, begin(Intent::Delta, 5, 6, 1), items, commit(6, hash)).unwrap();
}

#[test]
fn items_of_unknown_kinds_are_held_and_counted() {
    let mut mirror = mirror();
    let unknown = Put {
        kind: "segment".to_owned(),
        item: None,
        ..definition("s")
    };
    let hash = state_hash(&[definition("a"), configuration("a", false), unknown.clone()]);
    let begin = begin(Intent::Delta, 5, 6, 1);
    let advance = step(&mut mirror, begin, vec![put(unknown)], commit(6, hash)).unwrap();
    assert!(advance.flags.is_empty());
}

#[test]
fn a_heartbeat_moves_the_token_between_steps_only() {
    let mut mirror = mirror();
    mirror.heartbeat(b"newer".to_vec());
    assert_eq!(mirror.token(), b"newer");
    mirror.heartbeat(Vec::new());
    assert_eq!(mirror.token(), b"newer");
    mirror.begin(begin(Intent::Delta, 5, 6, 0)).unwrap();
    mirror.heartbeat(b"too early".to_vec());
    assert_eq!(mirror.token(), b"newer");
}

#[test]
fn an_archived_flags_configuration_is_no_flag() {
    let mut mirror = mirror();
    let hash = state_hash(&[configuration("a", false)]);
    let items = vec![delete(Kind::FlagDefinition, "a")];
    step(&mut mirror, begin(Intent::Delta, 5, 6, 1), items, commit(6, hash)).unwrap();
    let hash = state_hash(&[configuration("a", true)]);
    let items = vec![put(configuration("a", true))];
    let advance = step(&mut mirror, begin(Intent::Delta, 6, 7, 1), items, commit(7, hash)).unwrap();
    assert!(advance.flags.is_empty());
}
