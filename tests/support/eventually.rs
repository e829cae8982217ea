//! Waiting for something without sleeping through it.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// How long anything may take in a test: ten times what it should, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of `future`, or a failure that says what did not come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// Asks again and again until there is an answer, for what cannot be awaited.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, ask).await
}

/// The same, of what is not ours and may take longer.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {patience:?}");
        pause.tick().await;
    }
}
