//! HTTP/2 frames as they stand on the wire: no library keeps what is sent here within the rules.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::within;

pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The largest frame that is taken without being asked.
const FRAME_BYTES: usize = 16_384;
/// What a peer takes off the network before it reads.
const FEW_BYTES: u32 = 4_096;

/// A frame of the server's.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset, or of the end of a connection.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Frames that are going to be sent.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.0.extend(&length[1..]);
        self.0.extend([kind, flags]);
        self.0.extend(stream.to_be_bytes());
        self.0.extend(payload);
    }

    /// The head of a call, in as many frames as it takes; the request does not end with it.
    pub fn call(&mut self, stream: u32, path: &str, headers: &[(&str, &str)]) {
        // POST, http, and names of the static table: :path, :authority, content-type.
        let mut block = vec![0x83, 0x86];
        for (name, value) in [(4, path), (1, "it"), (31, "application/grpc")] {
            if name < 15 {
                block.push(name);
            } else {
                block.extend([0x0f, name - 15]);
            }
            text(&mut block, value);
        }
        for (name, value) in headers {
            block.push(0);
            text(&mut block, name);
            text(&mut block, value);
        }
        let mut pieces = block.chunks(FRAME_BYTES).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            self.push(kind, flags, stream, piece);
            kind = CONTINUATION;
        }
    }

    /// The whole message of a call, which ends the request.
    pub fn message(&mut self, stream: u32, message: &[u8]) {
        self.push(DATA, END_STREAM, stream, message);
    }

    /// A message of a call that has more.
    pub fn piece(&mut self, stream: u32, message: &[u8]) {
        self.push(DATA, 0, stream, message);
    }

    /// Allows so much more, to a stream or to all of the connection's together.
    pub fn window(&mut self, stream: u32, more: u32) {
        self.push(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    pub fn reset(&mut self, stream: u32) {
        self.push(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
}

/// A setting: how much a stream may be sent before it is read.
fn window(size: u32) -> Vec<u8> {
    [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &size.to_be_bytes()].concat()
}

/// A text as it is, its length before it.
fn text(block: &mut Vec<u8>, text: &str) {
    if let Ok(length @ 0..127) = u8::try_from(text.len()) {
        block.push(length);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend(text.as_bytes());
}

/// A connection.
pub struct Wire(TcpStream);

impl Wire {
    pub async fn open(address: SocketAddr) -> Self {
        Self::greet(TcpStream::connect(address).await.unwrap(), &[]).await
    }

    /// One whose streams may be sent all that there is, of which little is in transit.
    pub async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(FEW_BYTES).unwrap();
        let stream = socket.connect(address).await.unwrap();
        Self::greet(stream, &window((1 << 31) - 1)).await
    }

    /// One whose streams may be sent nothing.
    pub async fn shut(address: SocketAddr) -> Self {
        Self::greet(TcpStream::connect(address).await.unwrap(), &window(0)).await
    }

    async fn greet(mut stream: TcpStream, settings: &[u8]) -> Self {
        let mut frames = Frames(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
        frames.push(SETTINGS, 0, 0, settings);
        stream.write_all(&frames.0).await.unwrap();
        Self(stream)
    }

    /// Sends; the server may have gone meanwhile.
    pub async fn send(&mut self, frames: Frames) {
        let _gone = within("room for frames", self.0.write_all(&frames.0)).await;
    }

    /// The next frame. `None`: the connection has ended.
    pub async fn frame(&mut self) -> Option<Frame> {
        let reading = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some(Frame { kind, payload })
        };
        within("a frame", reading).await
    }

    /// The next frame of a kind.
    pub async fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}
