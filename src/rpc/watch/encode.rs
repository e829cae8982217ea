//! The hub's messages as `WatchResponse`s, framed as gRPC sends them. What many streams send is encoded once, into the cell that
//! travels with it.

use bytes::Bytes;

use crate::domain::form::{self, ItemId, Kind, Unreadable};
use crate::domain::{experiment, segment};
use crate::pb::evaluation::v1 as pb;
use crate::pb::evaluation::v1::watch_response::Message as Response;
use crate::rpc::convert::common::{duration, timestamp};
use crate::rpc::convert::experiment as experiments;
use crate::rpc::convert::flag::{write_configuration, write_definition};
use crate::rpc::convert::segment as segments;
use crate::watch::source::Quality;
use crate::watch::{
    Begin, Change, Commit, Deletion, Encoded, Goodbye, GoodbyeReason, Heartbeat, Intent, Item, Message, Part, Reason,
    Step,
};

/// How a stream carries items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// As typed messages.
    Typed,
    /// As their stored forms.
    Forms,
}

/// Appends a message, framed. Answers are given back instead: assignments may have to be found out before they are written.
pub fn write(message: Message, items: Items, out: &mut Vec<u8>) -> Option<Box<Part>> {
    match &message {
        Message::Begin(begin) => match &begin.encoded {
            Some(encoded) => {
                out.extend_from_slice(start_of(begin, &encoded.begin));
                out.extend_from_slice(&begin.stream.digits());
            }
            None => append(Response::Begin(write_begin(begin)), out),
        },
        Message::Item(change) => out.extend_from_slice(framed_change(change, items)),
        Message::Commit(commit) => out.extend_from_slice(framed_commit(commit)),
        Message::Step(step) => append_step(step, items, out),
        Message::Answers(_) => {}
        // These have the same numbers in both responses, and so the same bytes.
        Message::Heartbeat(heartbeat) => append(Response::Heartbeat(write_heartbeat(heartbeat)), out),
        Message::Goodbye(goodbye) => append(Response::Goodbye(write_goodbye(*goodbye)), out),
    }
    match message {
        Message::Answers(part) => Some(part),
        Message::Begin(_)
        | Message::Item(_)
        | Message::Commit(_)
        | Message::Step(_)
        | Message::Heartbeat(_)
        | Message::Goodbye(_) => None,
    }
}

/// Streams that make the same step share all of it but their names.
fn append_step(step: &Step, items: Items, out: &mut Vec<u8>) {
    let Step {
        begin,
        changes,
        commit,
        encoded,
    } = step;
    let cell = match items {
        Items::Typed => &encoded.rest,
        Items::Forms => &encoded.rest_as_forms,
    };
    let rest = cell.get_or_encode(|| {
        let mut rest = Vec::new();
        for change in changes.iter() {
            rest.extend_from_slice(framed_change(change, items));
        }
        rest.extend_from_slice(framed_commit(commit));
        rest.into()
    });
    let (start, name) = (start_of(begin, &encoded.begin), begin.stream.digits());
    out.reserve_exact(start.len() + name.len() + rest.len());
    out.extend_from_slice(start);
    out.extend_from_slice(&name);
    out.extend_from_slice(rest);
}

/// The beginning of a step up to the name of the stream, which comes last and is always of the same length.
fn start_of<'a>(begin: &Begin, cell: &'a Encoded) -> &'a Bytes {
    cell.get_or_encode(|| {
        let mut start = Vec::new();
        append(Response::Begin(write_begin(begin)), &mut start);
        start.truncate(start.len().saturating_sub(begin.stream.digits().len()));
        start.into()
    })
}

fn framed_change(change: &Change, items: Items) -> &Bytes {
    match change {
        Change::Put(item) => match items {
            Items::Typed => item.encoded.get_or_encode(|| framed(Response::Item(write_put(item)))),
            Items::Forms => item
                .encoded_form
                .get_or_encode(|| framed(Response::Item(write_form(item)))),
        },
        Change::Delete(gone) => gone
            .encoded
            .get_or_encode(|| framed(Response::Item(write_delete(gone)))),
    }
}

fn framed_commit(commit: &Commit) -> &Bytes {
    commit
        .encoded
        .get_or_encode(|| framed(Response::Commit(write_commit(commit))))
}

fn framed(message: Response) -> Bytes {
    let mut out = Vec::new();
    append(message, &mut out);
    out.into()
}

fn append(message: Response, out: &mut Vec<u8>) {
    let message = Some(message);
    append_framed(&pb::WatchResponse { message }, out);
}

/// Appends answers, framed.
pub(super) fn append_answers(batch: pb::Batch, out: &mut Vec<u8>) {
    let message = Some(pb::watch_evaluations_response::Message::Batch(batch));
    append_framed(&pb::WatchEvaluationsResponse { message }, out);
}

/// As gRPC frames a message: that it is not compressed, its length, itself.
fn append_framed(message: &impl prost::Message, out: &mut Vec<u8>) {
    let length = message.encoded_len();
    out.reserve_exact(FRAME_BYTES + length);
    out.push(0);
    // Every message is far smaller: what it is made of was limited when it was written.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(out);
}

/// What comes before each message.
const FRAME_BYTES: usize = 5;

fn write_begin(begin: &Begin) -> pb::Begin {
    let Begin {
        intent,
        generation,
        from_revision,
        to_revision,
        item_count,
        stream,
        encoded: _,
    } = begin;
    let (intent, reason) = write_intent(*intent);
    pb::Begin {
        intent: intent.into(),
        generation: *generation,
        from_revision: *from_revision,
        to_revision: *to_revision,
        reason: reason.into(),
        item_count: *item_count,
        stream: stream.to_string(),
    }
}

pub(super) fn write_intent(intent: Intent) -> (pb::Intent, pb::SnapshotReason) {
    let none = pb::SnapshotReason::Unspecified;
    match intent {
        Intent::Snapshot(reason) => (pb::Intent::Snapshot, write_reason(reason)),
        Intent::Delta => (pb::Intent::Delta, none),
        Intent::None => (pb::Intent::None, none),
    }
}

fn write_reason(reason: Reason) -> pb::SnapshotReason {
    match reason {
        Reason::NoState => pb::SnapshotReason::NoState,
        Reason::Compacted => pb::SnapshotReason::Compacted,
        Reason::Diverged => pb::SnapshotReason::Diverged,
        Reason::DifferentStore => pb::SnapshotReason::DifferentStore,
        Reason::FormatChanged => pb::SnapshotReason::FormatChanged,
        Reason::CheaperAsSnapshot => pb::SnapshotReason::CheaperAsSnapshot,
        Reason::OtherQuestion => pb::SnapshotReason::OtherQuestion,
        Reason::MayHaveChanged => pb::SnapshotReason::MayHaveChanged,
    }
}

/// An item as its message. A form that cannot be read travels without its content: the client still counts it in its state hash,
/// and treats the flag as malformed.
fn write_put(item: &Item) -> pb::Item {
    let content = match item.id.kind {
        Kind::Experiment => form::read_experiment(&item.form).map(|running| {
            // An item of another name is no experiment of any flag.
            let (_, key) = experiment::parse_item(&item.id.key).unwrap_or_default();
            pb::put::Item::Experiment(experiments::write_running(key, &running))
        }),
        Kind::FlagDefinition => form::read_definition(&item.form)
            .map(|definition| pb::put::Item::FlagDefinition(write_definition(&definition))),
        Kind::FlagConfiguration => form::read_configuration(&item.form)
            .map(|configuration| pb::put::Item::FlagConfiguration(write_configuration(&item.id.key, &configuration))),
        Kind::SegmentConfiguration => form::read_segment(&item.form).map(|configuration| {
            pb::put::Item::SegmentConfiguration(segments::write_configuration(&item.id.key, &configuration))
        }),
        Kind::SegmentKeys => write_keys(item),
    };
    if let Err(error) = &content {
        tracing::error!(item = %item.id, %error, "a stored form cannot be streamed");
    }
    put(item, content.ok(), None)
}

/// An item as its stored form, which is not looked at.
fn write_form(item: &Item) -> pb::Item {
    put(item, None, Some(item.form.to_vec()))
}

fn put(item: &Item, content: Option<pb::put::Item>, form: Option<Vec<u8>>) -> pb::Item {
    pb::Item {
        change: Some(pb::item::Change::Put(pb::Put {
            kind: item.id.kind.name().to_owned(),
            key: item.id.key.to_string(),
            version: item.version,
            form_hash: item.form_hash.0.to_vec(),
            form,
            item: content,
        })),
    }
}

fn write_keys(item: &Item) -> Result<pb::put::Item, Unreadable> {
    let keys = form::read_keys(&item.form)?;
    // An item of another name is no chunk of any segment; its client sees a chunk of nothing.
    let (segment, chunk) = segment::parse_chunk_item(&item.id.key).unwrap_or_default();
    Ok(pb::put::Item::SegmentKeys(pb::SegmentKeys {
        segment: segment.to_owned(),
        chunk,
        keys,
    }))
}

fn write_delete(gone: &Deletion) -> pb::Item {
    let ItemId { kind, key } = &gone.id;
    pb::Item {
        change: Some(pb::item::Change::Delete(pb::Delete {
            kind: kind.name().to_owned(),
            key: key.to_string(),
        })),
    }
}

fn write_commit(commit: &Commit) -> pb::Commit {
    pb::Commit {
        resume_token: commit.resume_token.to_vec(),
        generation: commit.position.identity.generation,
        revision: commit.position.revision,
        state_hash: commit.state_hash.as_bytes().to_vec(),
        committed_at: Some(timestamp(commit.committed_at)),
    }
}

fn write_heartbeat(heartbeat: &Heartbeat) -> pb::Heartbeat {
    let Heartbeat {
        resume_token,
        generation,
        head_revision,
        quality,
        staleness,
    } = heartbeat;
    let source = match quality {
        Quality::Live => pb::SourceState::Live,
        Quality::Polling => pb::SourceState::Polling,
        Quality::Disconnected => pb::SourceState::Disconnected,
    };
    pb::Heartbeat {
        resume_token: resume_token.to_vec(),
        generation: *generation,
        head_revision: *head_revision,
        source: source.into(),
        staleness: Some(duration(*staleness)),
    }
}

fn write_goodbye(goodbye: Goodbye) -> pb::Goodbye {
    let Goodbye {
        reason,
        reconnect_after,
    } = goodbye;
    let reason = match reason {
        GoodbyeReason::Draining => pb::GoodbyeReason::Draining,
        GoodbyeReason::Rotated => pb::GoodbyeReason::Rotated,
    };
    pb::Goodbye {
        reason: reason.into(),
        reconnect_after: Some(duration(reconnect_after)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message as _;

    use super::*;
    use crate::watch::testing;
    use crate::watch::{EncodedStep, StreamId};

    fn begin(stream: u64, encoded: Option<&Arc<EncodedStep>>) -> Begin {
        Begin {
            intent: Intent::Delta,
            generation: 3,
            from_revision: 700,
            to_revision: 701,
            item_count: 2,
            stream: StreamId(stream),
            encoded: encoded.cloned(),
        }
    }

    /// The bytes that a stream is sent.
    fn bytes(messages: &[Message], items: Items) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            assert!(write(message.clone(), items, &mut out).is_none());
        }
        out
    }

    #[test]
    fn a_message_is_framed_by_its_length() {
        let framed = bytes(&[Message::Begin(begin(7, None))], Items::Typed);
        let (head, message) = framed.split_at(FRAME_BYTES);
        assert_eq!(head[0], 0);
        assert_eq!(
            u32::from_be_bytes(head[1..].try_into().unwrap()) as usize,
            message.len()
        );
        let Some(Response::Begin(read)) = pb::WatchResponse::decode(message).unwrap().message else {
            panic!("not a Begin");
        };
        assert_eq!((read.to_revision, read.stream), (701, StreamId(7).to_string()));
    }

    #[test]
    fn a_beginning_that_is_shared_is_the_one_that_each_stream_would_have() {
        let shared = Arc::default();
        for stream in [0x1234_5678_9abc_def0, 7, u64::MAX, 0] {
            let alone = bytes(&[Message::Begin(begin(stream, None))], Items::Typed);
            let together = bytes(&[Message::Begin(begin(stream, Some(&shared)))], Items::Typed);
            assert_eq!(together, alone);
        }
    }

    #[test]
    fn a_step_at_once_is_its_messages_one_after_the_other() {
        let (changes, commit) = testing::a_step();
        let encoded = Arc::default();
        for items in [Items::Typed, Items::Forms] {
            for stream in [1, 2] {
                let mut messages = vec![Message::Begin(begin(stream, None))];
                messages.extend(changes.iter().cloned().map(Message::Item));
                messages.push(Message::Commit(Arc::clone(&commit)));
                let whole = Step {
                    begin: begin(stream, None),
                    changes: Arc::clone(&changes),
                    commit: Arc::clone(&commit),
                    encoded: Arc::clone(&encoded),
                };
                assert_eq!(
                    bytes(&[Message::Step(whole)], items),
                    bytes(&messages, items),
                    "{items:?}"
                );
            }
        }
    }
}
