//! How messages are read and written: prost's way, but a message that cannot be read is the caller's mistake and not ours.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use super::Refusal;

/// The codec of every service. `T` is sent and `U` received.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct Reader<U>(PhantomData<U>);

impl<U> Reader<U> {
    /// A reader.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<U> Default for Reader<U> {
    fn default() -> Self {
        Self::new()
    }
}

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = U::decode(&mut *source).map_err(|_| {
            source.advance(source.remaining());
            Refusal::Unreadable
        })?;
        Ok(Some(message))
    }
}
