//! Calls of any method with any bytes.

use prost::bytes::{Buf as _, BufMut as _};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::support::within;

/// The answer of a method, or the first one of a stream. Empty: there is none.
pub async fn call(
    channel: &Channel,
    path: &str,
    credential: Option<&str>,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(message);
    if let Some(credential) = credential {
        let header = format!("Bearer {credential}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    send(channel, path, request).await
}

/// The same of a request with metadata of its own.
pub async fn send(channel: &Channel, path: &str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    within("the channel", client.ready()).await.unwrap();
    let mut answer = client
        .server_streaming(request, path.parse().unwrap(), Raw)
        .await?
        .into_inner();
    let first = within("an answer", answer.message()).await?;
    Ok(first.unwrap_or_default())
}

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, bytes: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; bytes.remaining()];
        bytes.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
