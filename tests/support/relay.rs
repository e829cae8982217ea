//! A way over TCP that can be cut, held up, and led elsewhere.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To this address.
    To(SocketAddr),
    /// Nowhere: connections are cut, and new ones closed at once.
    Cut,
    /// Nowhere, without a word: nothing more is carried, and nobody is told.
    HeldUp,
}

/// The relay; gone when dropped.
pub struct Relay {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Relay {
    pub async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way::To(address));
        tokio::spawn(accept(listener, ways));
        Self { address: here, way }
    }

    /// Leads elsewhere; what is connected is not carried on.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, way: watch::Receiver<Way>) {
    let mut closing = way.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            closed = closing.wait_for(|_| false) => { assert!(closed.is_err()); return }
        };
        tokio::spawn(carry(client, way.clone()));
    }
}

async fn carry(mut client: TcpStream, mut way: watch::Receiver<Way>) {
    let began = *way.borrow_and_update();
    if let Way::To(address) = began {
        let Ok(mut server) = TcpStream::connect(address).await else {
            return;
        };
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = way.wait_for(|way| *way != began) => {}
        }
        if *way.borrow() == Way::HeldUp {
            // Both ends stay open, and hear nothing.
            let _ = way.wait_for(|way| *way != Way::HeldUp).await;
        }
    } else if began == Way::HeldUp {
        let _ = way.wait_for(|way| *way != Way::HeldUp).await;
    }
}
