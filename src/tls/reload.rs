//! A server's certificates, looked at again while it runs: whatever renews them writes the files, and new connections have them.
//!
//! The contents are compared, not times or names: Kubernetes swaps a link above the files, and tools write in place, rename or copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::time::MissedTickBehavior;

use super::error::Refused;
use super::expiry::{Ending, Reminder};
use super::server::{Files, Usable};

/// Between two looks.
const LOOKS: Duration = Duration::from_secs(2);

/// A server's certificates as they are now.
pub struct Certificates {
    files: Files,
    current: ArcSwap<Usable>,
    /// Times that other files were taken into use.
    reloads: AtomicU64,
    /// The files cannot be used as they are; what was read before goes on.
    failing: AtomicBool,
}

/// What earlier looks found.
struct Seen {
    /// The contents that were looked at last, whatever became of them.
    last: [u8; 32],
    /// The contents that were told to be unusable, or are in use.
    settled: [u8; 32],
    /// What was said of when the certificate in use ends.
    reminder: Reminder,
}

/// What a look found.
enum Look {
    Same,
    Usable([u8; 32], Usable),
    Refused([u8; 32], Refused),
}

impl Certificates {
    /// Reads the files, which must be good, and gives what [`Certificates::follow`] is to be told.
    pub fn load(files: Files) -> Result<(Arc<Self>, impl Future<Output = ()> + use<>), Refused> {
        let found = files.find();
        let (digest, usable) = (found.digest(), found.load()?);
        drop(found);
        let certificates = Arc::new(Self {
            files,
            current: ArcSwap::from_pointee(usable),
            reloads: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        let mut seen = Seen {
            last: digest,
            settled: digest,
            reminder: Reminder::default(),
        };
        certificates.remind(&mut seen.reminder);
        Ok((certificates.clone(), certificates.follow(seen)))
    }

    /// What a connection is served with that begins now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// When the first of the certificates expires, in seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.current.load().expires
    }

    /// How often other files were taken into use.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Whether the files, as they are, cannot be used.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Looks at the files for ever; dropped, it stops.
    async fn follow(self: Arc<Self>, mut seen: Seen) {
        let mut looks = tokio::time::interval(LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let (this, last) = (self.clone(), seen.settled);
            // Files may lie on what is slow.
            if let Ok(look) = tokio::task::spawn_blocking(move || this.look(last)).await {
                self.settle(look, &mut seen);
            }
            self.remind(&mut seen.reminder);
        }
    }

    fn look(&self, settled: [u8; 32]) -> Look {
        let found = self.files.find();
        let digest = found.digest();
        if digest == settled {
            return Look::Same;
        }
        match found.load() {
            Ok(usable) => Look::Usable(digest, usable),
            Err(refused) => Look::Refused(digest, refused),
        }
    }

    fn settle(&self, look: Look, seen: &mut Seen) {
        match look {
            Look::Same => {}
            Look::Usable(digest, usable) => {
                self.current.store(Arc::new(usable));
                self.reloads.fetch_add(1, Ordering::Relaxed);
                self.failing.store(false, Ordering::Relaxed);
                *seen = Seen {
                    last: digest,
                    settled: digest,
                    reminder: Reminder::default(),
                };
                tracing::info!(
                    expires = self.expires_at().map(tracing::field::display),
                    "new connections are served with the certificate that the files hold now"
                );
            }
            // Whoever writes them may be in the middle of it: only what is still there at the next look is told.
            Look::Refused(digest, _) if digest != seen.last => seen.last = digest,
            Look::Refused(digest, refused) => {
                seen.settled = digest;
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error = &refused as &dyn std::error::Error,
                        "the files of TLS have changed and cannot be used; what they held before stays in use"
                    );
                }
            }
        }
    }

    fn remind(&self, reminder: &mut Reminder) {
        let Some(ending) = reminder.due(self.expires(), jiff::Timestamp::now().as_second()) else {
            return;
        };
        let path = self.files.certificate.display();
        let expires = self.expires_at().map(tracing::field::display);
        match ending {
            Ending::Soon => {
                tracing::warn!(%path, expires, "the certificate expires soon: renew it, or callers will refuse it from then on");
            }
            Ending::Past => {
                tracing::warn!(%path, expires, "the certificate has expired: callers will refuse it until it is renewed");
            }
        }
    }

    fn expires_at(&self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_second(self.expires()).ok()
    }
}
