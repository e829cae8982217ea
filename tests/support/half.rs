//! Calls over HTTP/2 that send as much of their message as a test likes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::bytes::Bytes;
use tokio::net::TcpStream;

use super::within;

/// A connection for them.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Begins a call that has a message before it, or what there is of one. `credential`: empty, there is none.
pub async fn begin(
    client: &SendRequest<Bytes>,
    path: &str,
    credential: &str,
    message: &[u8],
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = http::Request::post(format!("http://it{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !credential.is_empty() {
        request = request.header("authorization", format!("Bearer {credential}"));
    }
    let mut client = within("a stream", client.clone().ready()).await.unwrap();
    let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    if !message.is_empty() {
        sending.send_data(Bytes::copy_from_slice(message), false).unwrap();
    }
    (response, sending)
}

/// Sends the rest of a message.
pub fn finish(mut sending: SendStream<Bytes>, rest: &[u8]) {
    sending.send_data(Bytes::copy_from_slice(rest), true).unwrap();
}

/// How a call ended.
pub async fn status(response: ResponseFuture) -> String {
    ending(response).await.remove("grpc-status").unwrap()
}

/// What was said at the end of a call.
pub async fn ending(response: ResponseFuture) -> BTreeMap<String, String> {
    let response = within("an answer", response).await.unwrap();
    let said = |headers: &http::HeaderMap| {
        let pairs = headers.iter();
        let pairs = pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    if response.headers().contains_key("grpc-status") {
        return said(response.headers());
    }
    let mut body: RecvStream = response.into_body();
    while let Some(piece) = within("its rest", body.data()).await {
        piece.unwrap();
    }
    said(&body.trailers().await.unwrap().unwrap())
}
