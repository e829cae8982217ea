//! Connections from within the process: they need neither an address nor a certificate.

use std::io;
use std::task::{Context, Poll};

use futures_util::future::{Ready, ready};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tower_service::Service;

use super::listen::Accepted;
use super::opening::Opening;
use super::workers::{Seat, place};

/// Connects to the workers, wherever it is asked to.
#[derive(Clone)]
pub struct Within {
    seats: Vec<Seat>,
    opening: Opening,
}

impl Within {
    /// To those who sit there.
    pub(super) fn new(seats: Vec<Seat>, opening: Opening) -> Self {
        Self { seats, opening }
    }

    fn connect(&self) -> io::Result<TokioIo<UnixStream>> {
        let (ours, theirs) = UnixStream::pair()?;
        place(&self.seats, Accepted::Unix(theirs.into_std()?), &self.opening).map_err(io::Error::other)?;
        Ok(TokioIo::new(ours))
    }
}

impl Service<Uri> for Within {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.connect())
    }
}
