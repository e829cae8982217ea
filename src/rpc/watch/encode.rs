//! The hub's messages as `WatchResponse`s. What many streams send is encoded once, into the cell that travels with it.

use bytes::Bytes;
use prost::Message as _;

use super::Frame;
use crate::domain::form::{self, ItemId, Kind, Unreadable};
use crate::domain::{experiment, segment};
use crate::pb::evaluation::v1 as pb;
use crate::pb::evaluation::v1::watch_response::Message as Response;
use crate::rpc::convert::common::{duration, timestamp};
use crate::rpc::convert::experiment as experiments;
use crate::rpc::convert::flag::{write_configuration, write_definition};
use crate::rpc::convert::segment as segments;
use crate::watch::source::Quality;
use crate::watch::{Begin, Change, Commit, Deletion, Goodbye, GoodbyeReason, Heartbeat, Intent, Item, Message, Reason};

/// How a stream carries items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// As typed messages.
    Typed,
    /// As their stored forms.
    Forms,
}

/// The message holds answers: assignments may have to be found out before they are written.
#[derive(Debug)]
pub struct Unsettled;

/// A message as a frame.
pub fn frame(message: &Message, items: Items) -> Result<Frame, Unsettled> {
    Ok(Frame::Whole(match message {
        Message::Begin(begin) => return Ok(frame_of_begin(begin)),
        Message::Item(Change::Put(item)) => match items {
            Items::Typed => item.encoded.get_or_encode(|| encode(Response::Item(write_put(item)))),
            Items::Forms => item
                .encoded_form
                .get_or_encode(|| encode(Response::Item(write_form(item)))),
        },
        Message::Item(Change::Delete(gone)) => gone
            .encoded
            .get_or_encode(|| encode(Response::Item(write_delete(gone)))),
        Message::Commit(commit) => commit
            .encoded
            .get_or_encode(|| encode(Response::Commit(write_commit(commit)))),
        Message::Answers(_) => return Err(Unsettled),
        // These have the same numbers in both responses, and so the same bytes.
        Message::Heartbeat(heartbeat) => encode(Response::Heartbeat(write_heartbeat(heartbeat))),
        Message::Goodbye(goodbye) => encode(Response::Goodbye(write_goodbye(*goodbye))),
    }))
}

/// Streams that make the same step share all but their names, which come last and are of one length.
fn frame_of_begin(begin: &Begin) -> Frame {
    let encoded = || encode(Response::Begin(write_begin(begin)));
    let Some(cell) = &begin.encoded else {
        return Frame::Whole(encoded());
    };
    let start = cell.get_or_encode(|| {
        let mut start = encoded();
        start.truncate(start.len().saturating_sub(begin.stream.digits().len()));
        start
    });
    Frame::Named(start, begin.stream)
}

fn encode(message: Response) -> Bytes {
    let message = Some(message);
    pb::WatchResponse { message }.encode_to_vec().into()
}

/// Answers as a frame.
pub(super) fn answers(batch: pb::Batch) -> Frame {
    let message = Some(pb::watch_evaluations_response::Message::Batch(batch));
    Frame::Whole(pb::WatchEvaluationsResponse { message }.encode_to_vec().into())
}

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

    use super::*;
    use crate::watch::{Encoded, StreamId};

    fn begin(stream: u64, encoded: Option<&Arc<Encoded>>) -> Message {
        Message::Begin(Begin {
            intent: Intent::Delta,
            generation: 3,
            from_revision: 700,
            to_revision: 701,
            item_count: 2,
            stream: StreamId(stream),
            encoded: encoded.cloned(),
        })
    }

    /// The bytes that a stream is sent.
    fn bytes(frame: Frame) -> Vec<u8> {
        match frame {
            Frame::Whole(bytes) => bytes.to_vec(),
            Frame::Named(start, stream) => [&start[..], &stream.digits()].concat(),
        }
    }

    #[test]
    fn a_beginning_that_is_shared_is_the_one_that_each_stream_would_have() {
        let shared = Arc::default();
        for stream in [0x1234_5678_9abc_def0, 7, u64::MAX, 0] {
            let alone = bytes(frame(&begin(stream, None), Items::Typed).unwrap());
            let together = bytes(frame(&begin(stream, Some(&shared)), Items::Typed).unwrap());
            assert_eq!(together, alone);
            let Some(Response::Begin(read)) = pb::WatchResponse::decode(&*together).unwrap().message else {
                panic!("not a Begin");
            };
            assert_eq!((read.to_revision, read.stream), (701, StreamId(stream).to_string()));
        }
    }
}
