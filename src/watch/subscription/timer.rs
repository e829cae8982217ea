//! What wakes a stream when something is due that happens by itself.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer, made when it is first needed. A poll that finds it as the one before left it costs next to nothing: a stream is
/// polled with every change, and its timer is for another time.
#[derive(Default)]
pub(super) struct Timer(Option<Set>);

struct Set {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes.
    waker: Waker,
}

impl Timer {
    /// Whether it has yet to wake somebody, and will by then.
    pub(super) fn wakes_by(&self, due: Instant) -> bool {
        let set = self.0.as_ref();
        set.is_some_and(|Set { sleep, .. }| sleep.deadline() <= due && !sleep.is_elapsed())
    }

    /// Whether it has yet to wake this task.
    pub(super) fn rests(&self, cx: &Context<'_>) -> bool {
        let set = self.0.as_ref();
        set.is_some_and(|Set { sleep, waker }| waker.will_wake(cx.waker()) && !sleep.is_elapsed())
    }

    /// Ready once it is due.
    pub(super) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Set { sleep, waker }) = &mut self.0 else {
            let mut sleep = Box::pin(sleep_until(due));
            let polled = sleep.as_mut().poll(cx);
            let waker = cx.waker().clone();
            self.0 = Some(Set { sleep, waker });
            return polled;
        };
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        } else if waker.will_wake(cx.waker()) && !sleep.is_elapsed() {
            return Poll::Pending;
        }
        waker.clone_from(cx.waker());
        sleep.as_mut().poll(cx)
    }
}
