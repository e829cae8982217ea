//! The codec of streams: reads requests, and sends messages that were encoded beforehand.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};

use crate::pb::evaluation::v1 as pb;
use crate::rpc::codec::Reader;

/// Of Watch.
pub type ItemsCodec = Codec<pb::WatchRequest>;
/// Of `WatchEvaluations`.
pub type AnswersCodec = Codec<pb::WatchEvaluationsRequest>;

/// Reads requests, sends encoded messages.
#[derive(Debug)]
pub struct Codec<R>(PhantomData<R>);

impl<R> Default for Codec<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: prost::Message + Default + Send + 'static> tonic::codec::Codec for Codec<R> {
    type Encode = Bytes;
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

/// Sends encoded messages.
#[derive(Debug)]
pub struct Writer;

impl Encoder for Writer {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.len());
        buffer.put_slice(&message);
        Ok(())
    }

    /// A stream is idle nearly always: the usual 8 KiB for each would be most of its memory.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(512, 4096)
    }
}
