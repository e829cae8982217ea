//! Lines in the log that anybody can cause who can make connections: told at once, and again only after a while, so that nobody can
//! fill the log with them.

use std::time::Duration;

use tokio::time::Instant;

/// Between two lines that say the same.
const TOLD: Duration = Duration::from_secs(1);

/// What may be told again only after a while.
#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be told now; then it is taken for told.
    pub fn may_tell(&mut self) -> bool {
        let is_due = self.0.is_none_or(|told| told.elapsed() >= TOLD);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_seldom_is_told_at_once_and_then_again_after_a_while() {
        let mut seldom = Seldom::default();
        let mut told = 0;
        for _ in 0..30 {
            told += usize::from(seldom.may_tell());
            tokio::time::advance(TOLD / 10).await;
        }
        assert_eq!(told, 3);
    }
}
