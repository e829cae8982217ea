//! A caller's connection, over TCP, in clear or with TLS, or over a unix socket of this machine: it ends if it does not begin in time, or
//! does not read what it asked for.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::listen::Accepted;
use super::opening::Opening;
use crate::rpc::front::Peer;
use crate::rpc::leaving::{Counted, Unread};

/// A connection that writes what it is given in one piece, and ends if it does not begin in time: with a request, or with HTTP/2's
/// greeting. A client that has greeted may have connected before it has anything to ask; from then on it answers pings.
///
/// It says that it cannot write vectored. Otherwise h2 hands over every payload of 256 bytes and more as a slice of its own, and
/// each of many streams' messages becomes a system call, and with TLS a record; copied together they become one.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// By when it must have begun. `None`: it has.
    unasked: Option<Box<Unasked>>,
    unread: Unread,
    /// What its peer does not take at all. `None`: it takes what is written.
    untaken: Option<Counted>,
    /// The end of a period in which what it was sent may stay unread.
    turn: Pin<Box<Sleep>>,
    /// Whether whoever reads is woken then.
    is_waiting: bool,
    /// Counts the connection among those of its worker for as long as it lives.
    open: Open,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// What ends a connection that does not begin.
struct Unasked {
    end: Pin<Box<Sleep>>,
    opening: Opening,
    greeting: Greeting,
}

/// HTTP/2's first words, as far as they have come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Greeting {
    /// How many bytes of it.
    heard: usize,
}

/// One of a worker's open connections.
pub struct Open {
    of_worker: Arc<AtomicUsize>,
    of_all: Opening,
}

impl Open {
    /// Counts one more.
    pub fn new(of_worker: Arc<AtomicUsize>, of_all: Opening) -> Self {
        of_worker.fetch_add(1, Ordering::Relaxed);
        of_all.counters().open.fetch_add(1, Ordering::Relaxed);
        Self { of_worker, of_all }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.of_worker.fetch_sub(1, Ordering::Relaxed);
        self.of_all.counters().open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Takes an accepted connection over to the current runtime, as it is.
    pub fn in_clear(accepted: Accepted, open: Open, opening: Opening, end: Instant) -> io::Result<Self> {
        let stream = match accepted {
            Accepted::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Accepted::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        let address = match &stream {
            Stream::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Stream::Tls(_) | Stream::Unix(_) => None,
        };
        Ok(Self::new(
            stream,
            Peer::new(address, None),
            open,
            Unasked::new(opening, end),
        ))
    }

    /// One whose handshake is done: from which address it comes, and whose certificate was verified.
    pub fn over_tls(
        stream: TlsStream<TcpStream>,
        open: Open,
        (address, certificate): (Option<IpAddr>, Option<String>),
        opening: Opening,
        end: Instant,
    ) -> Self {
        let peer = Peer::new(address, certificate);
        Self::new(Stream::Tls(Box::new(stream)), peer, open, Unasked::new(opening, end))
    }

    fn new(stream: Stream, peer: Peer, open: Open, unasked: Unasked) -> Self {
        Self {
            stream,
            peer,
            unasked: Some(Box::new(unasked)),
            unread: Unread::new(open.of_all.unread().clone()),
            untaken: None,
            turn: Box::pin(sleep(open.of_all.stall())),
            is_waiting: false,
            open,
        }
    }

    /// What was sent on it and is not read.
    pub fn unread(&self) -> Unread {
        self.unread.clone()
    }

    /// Fails once it is too late for a first request, or for what was sent to be read. Whoever reads or writes is woken then.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.is_waiting || self.turn.is_elapsed() {
            self.turn(context)?;
        }
        self.has_begun(context)
    }

    /// Has a period end. Polled once in each: between that and its end nothing is asked of the timer.
    fn turn(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.turn.as_mut().poll(context).is_ready() {
            let opening = &self.open.of_all;
            self.turn.as_mut().reset(Instant::now() + opening.stall());
            if self.unread.turn() {
                opening.left_unread();
                tracing::debug!(peer = %self.peer, "a connection was closed: what was answered on it was not read");
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.is_waiting = true;
        Ok(())
    }

    /// Counts what cannot be written among what is unread, until something can be again.
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending if self.untaken.is_none() => self.untaken = Some(self.unread.waits()),
            Poll::Ready(_) if self.untaken.is_some() => self.untaken = None,
            Poll::Pending | Poll::Ready(_) => {}
        }
        written
    }

    fn has_begun(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(unasked) = &mut self.unasked else {
            return Ok(());
        };
        if self.peer.has_asked() {
            self.unasked = None;
            return Ok(());
        }
        if unasked.end.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        unasked.opening.gave_up();
        self.unasked = None;
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Unasked {
    fn new(opening: Opening, end: Instant) -> Self {
        Self {
            end: Box::pin(sleep_until(end)),
            opening,
            greeting: Greeting::default(),
        }
    }
}

impl Greeting {
    /// What every client says first (RFC 9113, section 3.4), before a frame with its settings.
    const WORDS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// The head of that frame, in which its length and its type are.
    const FRAME_HEAD: usize = 9;

    /// Hears what comes next. Whether it is whole now: what is something else never is.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        let mut expected = Self::WORDS.get(self.heard..).unwrap_or_default().iter();
        let (words, rest) = bytes.split_at(bytes.len().min(expected.len()));
        if !words.iter().all(|byte| expected.next() == Some(byte)) {
            // It cannot begin again.
            self.heard = usize::MAX;
            return false;
        }
        self.heard = self.heard.saturating_add(words.len() + rest.len());
        self.heard != usize::MAX && self.heard >= Self::WORDS.len() + Self::FRAME_HEAD
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! either {
    ($connection:expr, $method:ident($($argument:expr),*)) => {
        match &mut $connection.stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        let before = buffer.filled().len();
        let read = either!(self, poll_read(context, buffer));
        if let Some(unasked) = &mut self.unasked
            && unasked.greeting.hear(buffer.filled().get(before..).unwrap_or_default())
        {
            self.unasked = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        let written = either!(self, poll_write(context, bytes));
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        let written = either!(self, poll_write_vectored(context, slices));
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        either!(self, poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::server::opening::Connections;
    use crate::shutdown::Tasks;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_what_is_written_loses_the_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let opening = Opening::new(Connections::default(), Duration::from_secs(30), &Tasks::new()).unwrap();
        let open = Open::new(Arc::default(), opening.clone());
        let end = Instant::now() + Duration::from_hours(1);
        let mut connection = Connection::in_clear(Accepted::Tcp(accepted), open, opening.clone(), end).unwrap();
        let begun = Instant::now();
        let error = loop {
            if let Err(error) = connection.write(&[7; 8_192]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(opening.counters().unread.load(Ordering::Relaxed), 1);
        assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
        // It is counted once.
        let _told = connection.write(&[7]).now_or_never();
        assert_eq!(opening.counters().unread.load(Ordering::Relaxed), 1);
    }

    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    #[test]
    fn a_greeting_is_whole_with_the_head_of_its_settings_however_it_is_cut() {
        let whole = [Greeting::WORDS, SETTINGS].concat();
        for cut in 0..whole.len() {
            let (first, second) = whole.split_at(cut);
            let mut greeting = Greeting::default();
            assert!(!greeting.hear(first), "{cut}");
            assert!(greeting.hear(second), "{cut}");
        }
        assert!(Greeting::default().hear(&[&whole, &b"more"[..]].concat()));
    }

    #[test]
    fn what_is_no_greeting_never_becomes_one() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01",
        ] {
            let mut greeting = Greeting::default();
            assert!(!greeting.hear(other));
            assert!(!greeting.hear(&[Greeting::WORDS, SETTINGS].concat()));
        }
    }
}
