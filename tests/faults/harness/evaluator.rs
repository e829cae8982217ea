//! Evaluations without pause, through one replica.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::calls;
use super::doors::Doors;
use crate::evidence::Answer;

const PAUSE: Duration = Duration::from_millis(20);
/// Far more than a reading of memory takes, on a machine that does other things too: that there is an answer is promised, not when.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever asks one replica about one environment.
pub struct Evaluator {
    pub replica: usize,
    pub environment: String,
    pub key: String,
    pub doors: Doors,
    pub answers: Arc<Mutex<Vec<Answer>>>,
}

impl Evaluator {
    pub fn spawn(self, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                if let Some(channel) = self.doors.shared(self.replica) {
                    let asked = Instant::now();
                    let answer = tokio::time::timeout(PATIENCE, calls::evaluate_all(channel, &self.key)).await;
                    let result = match answer {
                        Ok(Ok(answers)) => Ok(answers),
                        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
                        Err(_) => Err(format!("nothing within {PATIENCE:?}")),
                    };
                    self.answers.lock().unwrap().push(Answer {
                        environment: self.environment.clone(),
                        replica: self.replica,
                        asked,
                        answered: Instant::now(),
                        result,
                    });
                }
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        })
    }
}
