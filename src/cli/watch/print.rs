//! What a stream looks like to people, and to programs.

mod segments;

use std::io::{self, Write};

use serde_json::json;

use super::mirror::{Advance, FlagChange, FlagState};
use crate::config::Output;
use crate::pb::evaluation::v1::{FlagConfiguration, FlagDefinition, Heartbeat, Intent, SnapshotReason};

/// Prints a step: a line for every flag and every segment that changed; of a snapshot, a line for each that there is.
pub(super) fn advance(advance: &Advance, output: Output, out: &mut (dyn Write + Send)) -> io::Result<()> {
    match output {
        Output::Text => advance_text(advance, out),
        Output::Json => advance_json(advance, out),
    }
}

/// Prints a heartbeat.
pub(super) fn heartbeat(heartbeat: &Heartbeat, output: Output, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let source = heartbeat.source().as_str_name();
    let source = source.strip_prefix("SOURCE_STATE_").unwrap_or(source);
    let Heartbeat {
        resume_token: _,
        generation,
        head_revision,
        source: _,
        staleness,
    } = heartbeat;
    let staleness_ms = staleness
        .as_ref()
        .map(|duration| duration.seconds * 1_000 + i64::from(duration.nanos) / 1_000_000);
    match output {
        Output::Text => {
            let staleness = staleness_ms.map_or_else(|| "?".to_owned(), |ms| ms.to_string());
            writeln!(
                out,
                "heartbeat  revision {head_revision}  source {source}, {staleness} ms old"
            )
        }
        Output::Json => {
            let object = json!({
                "event": "heartbeat", "generation": generation, "revision": head_revision, "source": source,
                "staleness_ms": staleness_ms,
            });
            writeln!(out, "{object}")
        }
    }
}

fn advance_text(advance: &Advance, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let revision = advance.revision;
    if advance.intent == Intent::Snapshot {
        match advance.reason {
            SnapshotReason::Diverged => writeln!(
                out,
                "the history is another one now: an older copy was restored, or a failover lost changes"
            )?,
            SnapshotReason::DifferentStore => writeln!(out, "another installation or environment answers now")?,
            SnapshotReason::Unspecified
            | SnapshotReason::NoState
            | SnapshotReason::Compacted
            | SnapshotReason::FormatChanged
            | SnapshotReason::CheaperAsSnapshot
            | SnapshotReason::OtherQuestion
            | SnapshotReason::MayHaveChanged => {}
        }
        let exist = advance.flags.iter().filter(|change| change.after.is_some()).count();
        writeln!(out, "snapshot of revision {revision}, flags new or changed: {exist}")?;
    }
    for change in &advance.flags {
        writeln!(out, "{}  revision {revision}", sentence(change))?;
    }
    for change in &advance.segments {
        writeln!(out, "{}  revision {revision}", segments::sentence(change))?;
    }
    Ok(())
}

fn advance_json(advance: &Advance, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let Advance {
        intent,
        reason,
        generation,
        revision,
        state_hash,
        committed_at,
        flags,
        segments,
    } = advance;
    for change in flags {
        let object = json!({
            "event": "flag", "flag": change.key, "before": state(change.before.as_ref()),
            "after": state(change.after.as_ref()), "changed": parts(change), "generation": generation,
            "revision": revision,
        });
        writeln!(out, "{object}")?;
    }
    for change in segments {
        writeln!(out, "{}", segments::object(change, *generation, *revision))?;
    }
    let name = intent.as_str_name();
    let snapshot_reason = (*intent == Intent::Snapshot).then(|| reason.as_str_name());
    let object = json!({
        "event": "commit", "intent": name.strip_prefix("INTENT_").unwrap_or(name),
        "reason": snapshot_reason.map(|name| name.strip_prefix("SNAPSHOT_REASON_").unwrap_or(name)),
        "generation": generation, "revision": revision, "state_hash": hex::encode(state_hash.0),
        "committed_at": committed_at.as_ref().and_then(time),
    });
    writeln!(out, "{object}")
}

fn time(timestamp: &prost_types::Timestamp) -> Option<String> {
    let time = jiff::Timestamp::new(timestamp.seconds, timestamp.nanos).ok()?;
    Some(time.to_string())
}

/// Such as `new-checkout: off → on, rules changed`.
fn sentence(change: &FlagChange) -> String {
    let key = &change.key;
    let on_off = |state: &FlagState| if state.enabled() { "on" } else { "off" };
    let (before, after) = match (&change.before, &change.after) {
        (None, Some(after)) => return format!("{key}: {}", on_off(after)),
        (_, None) => return format!("{key}: gone"),
        (Some(before), Some(after)) => (on_off(before), on_off(after)),
    };
    let switched = if before == after {
        after.to_owned()
    } else {
        format!("{before} → {after}")
    };
    let others: Vec<_> = parts(change).into_iter().filter(|part| *part != "state").collect();
    if others.is_empty() {
        return format!("{key}: {switched}");
    }
    format!("{key}: {switched}, {} changed", others.join(", "))
}

fn state(flag: Option<&FlagState>) -> Option<&'static str> {
    flag.map(|flag| if flag.enabled() { "on" } else { "off" })
}

/// The names of the parts that differ between two states of a flag; none if it is new or gone.
fn parts(change: &FlagChange) -> Vec<&'static str> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return Vec::new();
    };
    let mut differing = configuration_parts(
        &before.configuration.clone().unwrap_or_default(),
        &after.configuration.clone().unwrap_or_default(),
    );
    differing.extend(definition_parts(&before.definition, &after.definition));
    differing
}

fn configuration_parts(before: &FlagConfiguration, after: &FlagConfiguration) -> Vec<&'static str> {
    let FlagConfiguration {
        flag: _,
        enabled,
        rules,
        default_serve,
        salt,
        prerequisites,
    } = before;
    named([
        ("state", *enabled != after.enabled),
        ("rules", *rules != after.rules),
        ("default", *default_serve != after.default_serve),
        ("salt", *salt != after.salt),
        ("prerequisites", *prerequisites != after.prerequisites),
    ])
}

fn definition_parts(before: &FlagDefinition, after: &FlagDefinition) -> Vec<&'static str> {
    let FlagDefinition {
        key: _,
        r#type,
        variants,
        off_variant,
        default_variant,
        client_visible,
    } = before;
    named([
        ("type", *r#type != after.r#type),
        ("variants", *variants != after.variants),
        ("off variant", *off_variant != after.off_variant),
        ("default variant", *default_variant != after.default_variant),
        ("client visibility", *client_visible != after.client_visible),
    ])
}

fn named<const N: usize>(parts: [(&'static str, bool); N]) -> Vec<&'static str> {
    let differing = parts.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::Digest;
    use crate::pb::evaluation::v1::{Rule, SnapshotReason, SourceState};

    fn flag(enabled: bool, rules: usize, client_visible: bool) -> FlagState {
        FlagState {
            definition: FlagDefinition {
                key: "x".to_owned(),
                client_visible,
                ..FlagDefinition::default()
            },
            configuration: Some(FlagConfiguration {
                enabled,
                rules: vec![Rule::default(); rules],
                ..FlagConfiguration::default()
            }),
        }
    }

    fn change(before: Option<FlagState>, after: Option<FlagState>) -> FlagChange {
        FlagChange {
            key: "x".to_owned(),
            before,
            after,
        }
    }

    fn advanced(intent: Intent, flags: Vec<FlagChange>) -> Advance {
        Advance {
            intent,
            reason: SnapshotReason::NoState,
            generation: 1,
            revision: 7,
            state_hash: Digest([0xab; 32]),
            committed_at: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            flags,
            segments: Vec::new(),
        }
    }

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn check(before: Option<FlagState>, after: Option<FlagState>, expected: &str) {
        assert_eq!(sentence(&change(before, after)), expected);
    }

    #[test]
    fn changes_read_like_sentences() {
        check(Some(flag(true, 0, false)), Some(flag(false, 0, false)), "x: on → off");
        check(
            Some(flag(false, 0, false)),
            Some(flag(true, 2, false)),
            "x: off → on, rules changed",
        );
        check(
            Some(flag(true, 1, false)),
            Some(flag(true, 2, true)),
            "x: on, rules, client visibility changed",
        );
        check(None, Some(flag(true, 0, false)), "x: on");
        check(Some(flag(true, 0, false)), None, "x: gone");
    }

    #[test]
    fn a_flag_without_a_configuration_is_off() {
        let bare = FlagState {
            configuration: None,
            ..flag(false, 0, false)
        };
        check(None, Some(bare.clone()), "x: off");
        check(Some(bare), Some(flag(true, 0, false)), "x: off → on");
    }

    #[test]
    fn people_see_what_changed_and_the_revision() {
        let changes = || vec![change(Some(flag(true, 0, false)), Some(flag(false, 0, false)))];
        let delta = advanced(Intent::Delta, changes());
        assert_eq!(
            printed(|out| advance(&delta, Output::Text, out)),
            "x: on → off  revision 7\n"
        );
        let snapshot = advanced(Intent::Snapshot, changes());
        assert_eq!(
            printed(|out| advance(&snapshot, Output::Text, out)),
            "snapshot of revision 7, flags new or changed: 1\nx: on → off  revision 7\n"
        );
        let restored = Advance {
            reason: SnapshotReason::Diverged,
            ..snapshot
        };
        let printed = printed(|out| advance(&restored, Output::Text, out));
        assert!(printed.starts_with("the history is another one now"), "{printed}");
    }

    #[test]
    fn programs_see_an_object_a_flag_and_one_a_step() {
        let snapshot = advanced(Intent::Snapshot, vec![change(None, Some(flag(true, 0, false)))]);
        let printed = printed(|out| advance(&snapshot, Output::Json, out));
        let lines: Vec<serde_json::Value> = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let expected = [
            json!({
                "event": "flag", "flag": "x", "before": null, "after": "on", "changed": [], "generation": 1,
                "revision": 7,
            }),
            json!({
                "event": "commit", "intent": "SNAPSHOT", "reason": "NO_STATE", "generation": 1, "revision": 7,
                "state_hash": "ab".repeat(32), "committed_at": "2023-11-14T22:13:20Z",
            }),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn heartbeats_say_how_stale_the_server_is() {
        let beat = Heartbeat {
            head_revision: 7,
            generation: 1,
            source: SourceState::Polling.into(),
            staleness: Some(prost_types::Duration {
                seconds: 1,
                nanos: 5_000_000,
            }),
            ..Heartbeat::default()
        };
        assert_eq!(
            printed(|out| heartbeat(&beat, Output::Text, out)),
            "heartbeat  revision 7  source POLLING, 1005 ms old\n"
        );
        let object: serde_json::Value =
            serde_json::from_str(&printed(|out| heartbeat(&beat, Output::Json, out))).unwrap();
        assert_eq!(object["staleness_ms"], 1005);
    }
}
