//! Where replicas can be reached, now.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// Every replica's address, and a connection that all share who do not want their own. A replica that comes back has another.
#[derive(Clone)]
pub struct Doors(Arc<Mutex<Vec<Option<Door>>>>);

#[derive(Clone)]
struct Door {
    address: SocketAddr,
    shared: Channel,
}

impl Doors {
    pub fn new(replicas: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![None; replicas])))
    }

    /// The replica is there.
    pub fn open(&self, replica: usize, address: SocketAddr) {
        let shared = connect(address);
        self.0.lock().unwrap()[replica] = Some(Door { address, shared });
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn address(&self, replica: usize) -> Option<SocketAddr> {
        self.0.lock().unwrap()[replica].as_ref().map(|door| door.address)
    }

    /// The connection that is shared.
    pub fn shared(&self, replica: usize) -> Option<Channel> {
        self.0.lock().unwrap()[replica].as_ref().map(|door| door.shared.clone())
    }

    /// A connection of the caller's own.
    pub fn own(&self, replica: usize) -> Option<Channel> {
        self.address(replica).map(connect)
    }
}

/// Connects at the first call, and again when it must.
pub fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy()
}
