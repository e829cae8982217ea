//! Where passwords are hashed: off the asynchronous threads, so few at a time that evaluations keep their cores, and on threads to
//! which the system prefers all others: see "Guessing passwords" in `docs/performance.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Semaphore, oneshot};

use crate::auth::{self, password};
use crate::rpc::Refusal;

/// Cores for each password that is hashed at the same time.
const CORES_A_HASH: usize = 4;
/// Passwords that wait to be hashed; at tens of milliseconds each, more would wait for seconds.
const WAITING: usize = 100;
/// When to try again if more wait.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Hashes passwords.
pub struct Hashing {
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    admitted: Arc<Semaphore>,
    count: AtomicU64,
}

impl Default for Hashing {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let running = cores.div_ceil(CORES_A_HASH);
        Self {
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(running + WAITING)),
            count: AtomicU64::new(0),
        }
    }
}

impl Hashing {
    /// Whether a password is the one that was hashed. Without a hash it is not, after as much work.
    pub async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<bool, Refusal> {
        self.run(move || password::verify(&password, stored.as_deref())).await
    }

    /// Hashes a password.
    pub async fn hash(&self, password: SecretString) -> Result<String, Refusal> {
        let hash: Result<String, auth::Error> = self.run(move || password::hash(&password)).await?;
        hash.map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a password could not be hashed"
            );
            Refusal::Internal
        })
    }

    /// How many hashes were computed: the same for every login that is looked at, whoever it is.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let admitted = self.admitted.clone().try_acquire_owned();
        let admitted = admitted.map_err(|_| Refusal::Throttled {
            retry_after: RETRY_AFTER,
        })?;
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(|_| Refusal::Internal)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        // Whoever gives up waiting does not stop the thread: the permits go with it.
        let (send, receive) = oneshot::channel();
        let work = move || {
            let permits = (admitted, running);
            yield_to_others();
            let done = work();
            drop(permits);
            // Nobody waits any more: then nobody is told.
            let _ = send.send(done);
        };
        let thread = std::thread::Builder::new().name("hashing".to_owned()).spawn(work);
        thread.map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no thread to hash a password on"
            );
            Refusal::Internal
        })?;
        receive.await.map_err(|_| Refusal::Internal)
    }
}

/// Makes this thread give way to others: it gets a tenth of a core that others want too.
#[cfg(target_os = "linux")]
fn yield_to_others() {
    const NICENESS: i32 = 10;
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread that hashes competes with all others");
    }
}

/// Elsewhere threads have no niceness of their own.
#[cfg(not(target_os = "linux"))]
fn yield_to_others() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_so_many_wait() {
        let hashing = Hashing::default();
        let all = hashing.admitted.available_permits();
        let held = hashing
            .admitted
            .clone()
            .try_acquire_many_owned(u32::try_from(all).unwrap());
        assert!(matches!(hashing.run(|| ()).await, Err(Refusal::Throttled { .. })));
        drop(held);
        assert!(hashing.run(|| ()).await.is_ok());
        assert_eq!(hashing.count(), 1);
        assert_eq!(hashing.admitted.available_permits(), all);
    }
}
