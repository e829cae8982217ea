//! Where replicas can be reached, now.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// Every replica's address, and a connection that all share who do not want their own. A replica that comes back has another.
#[derive(Clone)]
pub struct Doors {
    doors: Arc<Mutex<Vec<Option<Door>>>>,
    /// How many bytes may be on their way on each stream of a connection of a caller's own. `None`: as usual.
    window: Option<u32>,
}

#[derive(Clone)]
struct Door {
    address: SocketAddr,
    shared: Channel,
}

impl Doors {
    pub fn new(replicas: usize) -> Self {
        Self {
            doors: Arc::new(Mutex::new(vec![None; replicas])),
            window: None,
        }
    }

    /// The same for callers on whose streams no more than so many bytes are ever on their way.
    pub fn narrow(replicas: usize, window: u32) -> Self {
        Self {
            window: Some(window),
            ..Self::new(replicas)
        }
    }

    /// The replica is there.
    pub fn open(&self, replica: usize, address: SocketAddr) {
        let shared = connect(address);
        self.doors.lock().unwrap()[replica] = Some(Door { address, shared });
    }

    /// Nobody is there: who comes by its address may meet a replica of another world that was given its port.
    pub fn close(&self, replica: usize) {
        self.doors.lock().unwrap()[replica] = None;
    }

    pub fn count(&self) -> usize {
        self.doors.lock().unwrap().len()
    }

    pub fn address(&self, replica: usize) -> Option<SocketAddr> {
        self.doors.lock().unwrap()[replica].as_ref().map(|door| door.address)
    }

    /// The connection that is shared.
    pub fn shared(&self, replica: usize) -> Option<Channel> {
        self.doors.lock().unwrap()[replica]
            .as_ref()
            .map(|door| door.shared.clone())
    }

    /// A connection of the caller's own.
    pub fn own(&self, replica: usize) -> Option<Channel> {
        let address = self.address(replica)?;
        Some(
            self.window
                .map_or_else(|| connect(address), |window| connect_narrow(address, window)),
        )
    }
}

/// Connects at the first call, and again when it must.
pub fn connect(address: SocketAddr) -> Channel {
    endpoint(address).connect_lazy()
}

/// The same, with so many bytes on their way on each stream at most.
pub fn connect_narrow(address: SocketAddr, window: u32) -> Channel {
    endpoint(address).initial_stream_window_size(window).connect_lazy()
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_timeout(Duration::from_secs(2))
}
