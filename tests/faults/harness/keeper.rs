//! A client that keeps what it held at every revision, with the token of it, and comes back with any of them.

use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};

use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::transport::Channel;

use super::probe::{Reader, Step};
use super::template::Environment;
use crate::evidence::Recording;

/// What a client held at a revision, and how it came to it.
pub struct Kept {
    pub revision: u64,
    reader: Reader,
}

/// A client that goes on keeping; gone when dropped.
pub struct Keeper {
    kept: Arc<Mutex<Vec<Kept>>>,
    task: AbortOnDropHandle<()>,
}

impl Keeper {
    /// Follows a replica that lives.
    pub fn follow(channel: Channel, environment: &Environment) -> Self {
        let kept = Arc::<Mutex<Vec<Kept>>>::default();
        let mut reader = Reader::new(environment, "a client with an old token");
        let keeping = Arc::clone(&kept);
        let task = tokio::spawn(async move {
            reader.open(channel).await.expect("a stream");
            loop {
                let step = reader.step().await.expect("a step");
                keeping.lock().unwrap().push(Kept {
                    revision: step.commit.revision,
                    reader: reader.gone(),
                });
            }
        });
        Self {
            kept,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// What it kept so far of these revisions, oldest first.
    pub fn so_far(&self, revisions: impl RangeBounds<u64>) -> Vec<Kept> {
        assert!(!self.task.is_finished(), "the keeper died");
        let kept = self.kept.lock().unwrap();
        let of_these = kept.iter().filter(|kept| revisions.contains(&kept.revision));
        let again = |kept: &Kept| Kept {
            revision: kept.revision,
            reader: kept.reader.gone(),
        };
        of_these.map(again).collect()
    }
}

impl Kept {
    /// Comes back with it, and returns the first step, and what such a client has seen since it first came.
    pub async fn returns(&self, channel: Channel) -> Result<(Step, Recording), Status> {
        let mut reader = self.reader.gone();
        let step = reader.returns(channel).await?;
        Ok((step, reader.recording()))
    }
}
