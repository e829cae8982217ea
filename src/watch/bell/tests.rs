//! Who is woken, when, and on which thread.

use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use tokio::runtime::Builder;

use super::*;

/// Counts its wakes.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Waiter {
    seat: Seat,
    counting: Arc<Counting>,
}

impl Waiter {
    fn new(bell: &Arc<Bell>) -> Self {
        Self {
            seat: bell.seat(),
            counting: Arc::default(),
        }
    }

    fn wait(&self, looked: u64) -> Wait {
        let waker = Waker::from(Arc::clone(&self.counting));
        self.seat.wait(looked, &Context::from_waker(&waker))
    }

    fn wakes(&self) -> usize {
        self.counting.0.load(Ordering::Relaxed)
    }
}

/// Lets the relay do all that it has to.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

#[tokio::test]
async fn everybody_who_waits_is_woken_once_however_many_they_are() {
    let bell = Bell::new();
    let waiters: Vec<_> = (0..3 * BATCH + 7).map(|_| Waiter::new(&bell)).collect();
    assert!(waiters.iter().all(|waiter| waiter.wait(bell.rung()) == Wait::Begun));
    settle().await;
    assert!(waiters.iter().all(|waiter| waiter.wakes() == 0));
    bell.ring();
    settle().await;
    assert!(waiters.iter().all(|waiter| waiter.wakes() == 1));
    bell.ring();
    settle().await;
    // Nobody has come to wait again.
    assert!(waiters.iter().all(|waiter| waiter.wakes() == 1));
}

#[tokio::test]
async fn who_looked_before_it_rang_does_not_begin_to_wait() {
    let bell = Bell::new();
    let waiter = Waiter::new(&bell);
    let looked = bell.rung();
    bell.ring();
    assert_eq!(waiter.wait(looked), Wait::Rung);
    assert_eq!(waiter.wait(bell.rung()), Wait::Begun);
}

#[tokio::test]
async fn who_has_looked_since_is_left_alone() {
    let bell = Bell::new();
    let (early, late) = (Waiter::new(&bell), Waiter::new(&bell));
    early.wait(bell.rung());
    bell.ring();
    // The relay has not had its turn yet.
    late.wait(bell.rung());
    settle().await;
    assert_eq!((early.wakes(), late.wakes()), (1, 0));
}

#[tokio::test]
async fn a_seat_that_was_left_is_taken_again_and_keeps_nothing() {
    let bell = Bell::new();
    let first = Waiter::new(&bell);
    first.wait(bell.rung());
    let (number, counting) = (first.seat.number, Arc::clone(&first.counting));
    let _second = Waiter::new(&bell);
    drop(first);
    assert_eq!(Arc::strong_count(&counting), 1);
    assert_eq!(bell.seat().number, number);
}

#[tokio::test]
async fn the_task_ends_with_the_last_stream() {
    let bell = Bell::new();
    let waiter = Waiter::new(&bell);
    waiter.wait(bell.rung());
    settle().await;
    let listening = bell.told.receiver_count();
    assert_eq!(listening, 1);
    drop(waiter);
    settle().await;
    assert_eq!(bell.told.receiver_count(), 0);
    let again = Waiter::new(&bell);
    again.wait(bell.rung());
    bell.ring();
    settle().await;
    assert_eq!(again.wakes(), 1);
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let bell = Bell::new();
    let runtime = || Builder::new_current_thread().build().unwrap();
    let first = runtime();
    let waiter = first.block_on(async { Waiter::new(&bell) });
    assert_eq!(waiter.wait(bell.rung()), Wait::Begun);
    drop(first);
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(waiter.wait(bell.rung()), Wait::Closed);
    runtime().block_on(async {
        let waiter = Waiter::new(&bell);
        assert_eq!(waiter.wait(bell.rung()), Wait::Begun);
        bell.ring();
        settle().await;
        assert_eq!(waiter.wakes(), 1);
    });
}

#[test]
fn streams_of_two_runtimes_are_woken_on_their_own_threads() {
    /// Which threads woke it.
    #[derive(Default)]
    struct Threads(Mutex<Vec<std::thread::ThreadId>>);
    impl Wake for Threads {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().push(std::thread::current().id());
        }
    }
    let bell = Bell::new();
    let (ready, rung) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                Builder::new_current_thread().build().unwrap().block_on(async {
                    let (seat, threads) = (bell.seat(), Arc::new(Threads::default()));
                    let waker = Waker::from(Arc::clone(&threads));
                    assert_eq!(seat.wait(bell.rung(), &Context::from_waker(&waker)), Wait::Begun);
                    ready.wait();
                    rung.wait();
                    settle().await;
                    assert_eq!(*threads.0.lock().unwrap(), [std::thread::current().id()]);
                });
            });
        }
        ready.wait();
        bell.ring();
        rung.wait();
    });
}
