//! Plain HTTP as probes, browsers and others speak it, over HTTP/1.1 and HTTP/2, and the frames of gRPC-Web in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// What was answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header. Empty: there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// One request of a connection of its own. `headers`: further lines, each with its end.
pub async fn http1(address: SocketAddr, request: &str, headers: &str, body: &[u8]) -> Answer {
    let length = match body {
        [] => String::new(),
        body => format!("content-length: {}\r\n", body.len()),
    };
    let head = format!("{request} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n{headers}{length}\r\n");
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    read(&within("an answer", asking).await)
}

/// Reads a whole answer over HTTP/1.1.
fn read(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<_, _> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        })
        .collect();
    let rest = &answer[end + 4..];
    let chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
    Answer {
        status,
        body: if chunked { unchunked(rest) } else { rest.to_vec() },
        headers,
    }
}

/// What the chunks hold that there are.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(end + 2..end + 2 + length) else {
            break;
        };
        body.extend(chunk);
        rest = rest.get(end + 2 + length + 2..).unwrap_or_default();
    }
    body
}

/// One request of a connection of its own.
pub async fn http2(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = http::Request::builder().method(method).uri(format!("http://it{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let asking = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (response, mut sending) = client.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            // What needs no body may have been answered, and the stream closed, by now.
            let _closed = sending.send_data(Bytes::copy_from_slice(body), true);
        }
        let (head, mut receiving) = response.await.unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(piece) = receiving.data().await {
            let piece = piece.unwrap();
            receiving.flow_control().release_capacity(piece.len()).unwrap();
            body.extend(piece);
        }
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Answer {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body,
        }
    };
    within("an answer", asking).await
}

/// A message as it is framed.
pub fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes
}

/// What a body of gRPC-Web holds: messages, and what follows the last. `None`: that is not there yet.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    pub messages: Vec<Vec<u8>>,
    pub trailers: Option<BTreeMap<String, String>>,
}

impl Frames {
    pub fn read(mut body: &[u8]) -> Self {
        let mut frames = Self::default();
        while let [flag, a, b, c, d, rest @ ..] = body {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some((content, behind)) = rest.split_at_checked(length) else {
                break;
            };
            if flag & 0x80 == 0 {
                frames.messages.push(content.to_vec());
            } else {
                let text = std::str::from_utf8(content).unwrap();
                let lines = text.split("\r\n").filter(|line| !line.is_empty());
                let pairs = lines.map(|line| line.split_once(':').unwrap());
                frames.trailers = Some(
                    pairs
                        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                        .collect(),
                );
            }
            body = behind;
        }
        frames
    }

    /// How the call ended.
    pub fn status(&self) -> &str {
        self.trailer("grpc-status")
    }

    pub fn trailer(&self, name: &str) -> &str {
        let trailers = self.trailers.as_ref().expect("trailers");
        trailers.get(name).map_or("", String::as_str)
    }
}

/// What there is by now of an answer over HTTP/1.1 that goes on.
#[derive(Debug, Default)]
pub struct Reading {
    received: Vec<u8>,
}

impl Reading {
    /// Reads until the frames that have come are enough.
    pub async fn until(&mut self, stream: &mut TcpStream, what: &str, enough: impl Fn(&Frames) -> bool) -> Frames {
        let reading = async {
            loop {
                let has_head = self.received.windows(4).any(|four| four == b"\r\n\r\n");
                if has_head {
                    let frames = Frames::read(&read(&self.received).body);
                    if enough(&frames) {
                        return frames;
                    }
                }
                let count = stream.read_buf(&mut self.received).await.unwrap();
                assert_ne!(count, 0, "it ended: {}", String::from_utf8_lossy(&self.received));
            }
        };
        within(what, reading).await
    }
}
