//! Whoever watches over a replica by its metrics, and writes down how old it says that it is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::evidence::Aged;
use crate::support::Scrape;

const PAUSE: Duration = Duration::from_millis(300);
/// One that does not answer by then is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a replica serves its metrics now. `None`: it is not there.
pub type Endpoint = Arc<Mutex<Option<SocketAddr>>>;

/// The watch over one replica; over when dropped.
pub struct Ages {
    said: Arc<Mutex<Vec<Aged>>>,
    _task: AbortOnDropHandle<()>,
}

impl Ages {
    pub fn watch(replica: usize, endpoint: Endpoint) -> Self {
        let said = Arc::<Mutex<Vec<Aged>>>::default();
        let writing = Arc::clone(&said);
        let task = tokio::spawn(async move {
            loop {
                let (asked, address) = (Instant::now(), *endpoint.lock().unwrap());
                if let Some(address) = address
                    && let Ok(Some(scrape)) = timeout(PATIENCE, Scrape::attempt(address)).await
                    && *endpoint.lock().unwrap() == Some(address)
                {
                    // Infinity: it never was certain, which nobody can hold against it.
                    let staleness = Duration::try_from_secs_f64(scrape.value("halyard_source_staleness_seconds"));
                    let aged = staleness.map(|staleness| Aged {
                        replica,
                        asked,
                        staleness,
                    });
                    writing.lock().unwrap().extend(aged);
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self {
            said,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What it was told so far.
    pub fn so_far(&self) -> Vec<Aged> {
        self.said.lock().unwrap().clone()
    }
}
