//! Messages that were encoded beforehand, and the codec that sends them as they are.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};

use crate::pb::evaluation::v1 as pb;
use crate::rpc::codec::Reader;
use crate::watch::StreamId;

/// An encoded `WatchResponse` or `WatchEvaluationsResponse`.
#[derive(Debug, Clone)]
pub enum Frame {
    /// All of it.
    Whole(Bytes),
    /// All that comes before the name of the stream, with which it ends.
    Named(Bytes, StreamId),
}

/// Of Watch.
pub type ItemsCodec = Codec<pb::WatchRequest>;
/// Of `WatchEvaluations`.
pub type AnswersCodec = Codec<pb::WatchEvaluationsRequest>;

/// Reads requests, sends [`Frame`]s.
#[derive(Debug)]
pub struct Codec<R>(PhantomData<R>);

impl<R> Default for Codec<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: prost::Message + Default + Send + 'static> tonic::codec::Codec for Codec<R> {
    type Encode = Frame;
    type Decode = R;
    type Encoder = Writer;
    type Decoder = Reader<R>;

    fn encoder(&mut self) -> Writer {
        Writer
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader::new()
    }
}

/// Sends frames.
#[derive(Debug)]
pub struct Writer;

impl Encoder for Writer {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match frame {
            Frame::Whole(bytes) => {
                buffer.reserve(bytes.len());
                buffer.put_slice(&bytes);
            }
            Frame::Named(start, stream) => {
                let name = stream.digits();
                buffer.reserve(start.len() + name.len());
                buffer.put_slice(&start);
                buffer.put_slice(&name);
            }
        }
        Ok(())
    }

    /// A stream is idle nearly always: the usual 8 KiB for each would be most of its memory.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(512, 4096)
    }
}
