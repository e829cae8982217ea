//! How many requests there were, of which method and with which outcome, how long they took, and how many are open.
//!
//! Each worker counts in cells of its own, found by the method's place in the table: no look-up, no allocation, and no cache line
//! that another worker writes. Whoever shows the numbers adds the workers up.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Response;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::rpc::methods::{METHODS, Method};

/// Up to where each bucket of durations reaches; one more takes what is longer.
pub const BOUNDS: [Duration; 16] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Every code, in the order of its number, as the gRPC specification writes it.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// How a code is written.
pub fn name(code: Code) -> &'static str {
    CODES.get(code as usize).copied().unwrap_or("UNKNOWN")
}

/// What all workers count.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<Vec<Arc<Tally>>>);

/// What one worker counts.
#[derive(Debug)]
pub(super) struct Tally {
    /// In the order of the table of methods.
    known: Box<[Cell]>,
    /// Of paths that are no method's.
    unknown: Cell,
}

/// The numbers of one method. On cache lines of its own, since workers allocate theirs side by side.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    codes: [AtomicU64; CODES.len()],
    /// The last is the one without a bound.
    durations: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
}

/// The numbers of one method at all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Answered requests, by the number of their code. A stream is answered when it is opened.
    pub codes: [u64; CODES.len()],
    /// How long unary requests took: how many in each bucket alone, in the order of [`BOUNDS`] and then without a bound.
    pub durations: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
    /// Requests that are not answered yet, and streams that are open.
    pub open: u64,
}

impl Tallies {
    /// Cells for one more worker.
    pub(super) fn of_worker(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally {
            known: METHODS.iter().map(|_| Cell::default()).collect(),
            unknown: Cell::default(),
        });
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::clone(&tally));
        tally
    }

    /// The numbers of each method that was ever called, and last of paths that are no method's.
    pub fn read(&self) -> Vec<(Option<&'static Method>, Counted)> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let methods = METHODS.iter().map(Some).chain([None]);
        let counted = methods.map(|method| {
            let cells: Vec<&Cell> = workers.iter().map(|tally| tally.cell(method)).collect();
            (method, Counted::of(&cells))
        });
        counted.filter(|(_, counted)| counted.was_called()).collect()
    }
}

impl Counted {
    fn of(cells: &[&Cell]) -> Self {
        let sum = |of: &dyn Fn(&Cell) -> Option<&AtomicU64>| -> u64 {
            let numbers = cells.iter().filter_map(|cell| of(cell));
            numbers.map(|number| number.load(Ordering::Relaxed)).sum()
        };
        // Read first: what ends meanwhile must not make it less than nothing.
        let ended = sum(&|cell| Some(&cell.ended));
        let begun = sum(&|cell| Some(&cell.begun));
        Self {
            codes: std::array::from_fn(|n| sum(&|cell| cell.codes.get(n))),
            durations: std::array::from_fn(|n| sum(&|cell| cell.durations.get(n))),
            sum: Duration::from_nanos(sum(&|cell| Some(&cell.sum_ns))),
            open: begun.saturating_sub(ended),
        }
    }

    fn was_called(&self) -> bool {
        self.open > 0 || self.codes.iter().any(|count| *count > 0)
    }
}

impl Tally {
    fn cell(&self, method: Option<&Method>) -> &Cell {
        let known = method.and_then(|method| self.known.get(method.ordinal));
        known.unwrap_or(&self.unknown)
    }

    /// A request came for a path that is no method's; it is answered so.
    pub(super) fn unknown(&self) {
        add(&self.unknown.begun, 1);
        self.unknown.answer(Code::Unimplemented);
        add(&self.unknown.ended, 1);
    }

    /// A request came.
    pub(super) fn begin(self: &Arc<Self>, method: &'static Method, at: Instant) -> Begun<'_> {
        add(&self.cell(Some(method)).begun, 1);
        Begun {
            tally: self,
            method,
            at,
            outcome: None,
        }
    }
}

impl Cell {
    fn answer(&self, code: Code) {
        if let Some(count) = self.codes.get(code as usize) {
            add(count, 1);
        }
    }

    fn took(&self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < duration);
        if let Some(count) = self.durations.get(bucket) {
            add(count, 1);
        }
        add(&self.sum_ns, u64::try_from(duration.as_nanos()).unwrap_or_default());
    }
}

/// A request that is being answered. Dropped before that: its caller went away.
pub(super) struct Begun<'a> {
    tally: &'a Arc<Tally>,
    method: &'static Method,
    at: Instant,
    outcome: Option<(Code, Duration)>,
}

impl Begun<'_> {
    /// It is answered; what is a stream stays open until its body is dropped.
    pub(super) fn answered(mut self, code: Code, took: Duration, response: Response<Body>) -> Response<Body> {
        self.outcome = Some((code, took));
        if !self.method.streams || code != Code::Ok {
            return response;
        }
        add(&self.tally.cell(Some(self.method)).begun, 1);
        let open = Open {
            tally: Arc::clone(self.tally),
            method: self.method,
        };
        response.map(|body| Body::new(Streamed { body, _open: open }))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let cell = self.tally.cell(Some(self.method));
        let (code, took) = self.outcome.unwrap_or_else(|| (Code::Cancelled, self.at.elapsed()));
        cell.answer(code);
        if !self.method.streams {
            cell.took(took);
        }
        add(&cell.ended, 1);
    }
}

/// Counts a stream as open for as long as it lives.
struct Open {
    tally: Arc<Tally>,
    method: &'static Method,
}

impl Drop for Open {
    fn drop(&mut self) {
        add(&self.tally.cell(Some(self.method)).ended, 1);
    }
}

/// A stream's body, which is open until it is dropped.
struct Streamed {
    body: Body,
    _open: Open,
}

impl http_body::Body for Streamed {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> &'static Method {
        METHODS.iter().find(|method| method.path.ends_with(name)).unwrap()
    }

    fn one(tallies: &Tallies) -> Counted {
        let [(_, counted)] = &tallies.read()[..] else {
            panic!("not one: {:?}", tallies.read());
        };
        counted.clone()
    }

    #[test]
    fn codes_are_named_in_their_order() {
        for (n, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(n).unwrap());
            assert_eq!(code as usize, n);
            assert_eq!(super::name(code), *name);
            let plain = format!("{code:?}").to_uppercase();
            assert_eq!(name.replace('_', ""), plain);
        }
    }

    #[test]
    fn workers_add_up_and_what_was_never_called_is_not_told() {
        let tallies = Tallies::default();
        let workers = [tallies.of_worker(), tallies.of_worker()];
        assert!(tallies.read().is_empty());
        for (worker, code) in workers.iter().zip([Code::Ok, Code::NotFound]) {
            let begun = worker.begin(method("/Evaluate"), Instant::now());
            drop(begun.answered(code, Duration::from_millis(1), Response::new(Body::empty())));
        }
        let counted = one(&tallies);
        assert_eq!((counted.codes[0], counted.codes[5]), (1, 1));
        assert_eq!(counted.durations.iter().sum::<u64>(), 2);
        assert_eq!(counted.open, 0);
    }

    #[test]
    fn who_goes_away_is_counted_as_cancelled() {
        let tallies = Tallies::default();
        let worker = tallies.of_worker();
        let begun = worker.begin(method("/Evaluate"), Instant::now());
        assert_eq!(one(&tallies).open, 1);
        drop(begun);
        assert_eq!((one(&tallies).open, one(&tallies).codes[1]), (0, 1));
    }

    #[test]
    fn a_stream_is_open_until_its_body_is_dropped_and_takes_no_time() {
        let tallies = Tallies::default();
        let worker = tallies.of_worker();
        let begun = worker.begin(method("/Watch"), Instant::now());
        let endless = futures_util::stream::pending::<Result<Frame<bytes::Bytes>, Status>>();
        let body = Body::new(http_body_util::StreamBody::new(endless));
        let response = begun.answered(Code::Ok, Duration::from_millis(1), Response::new(body));
        assert_eq!((one(&tallies).open, one(&tallies).codes[0]), (1, 1));
        drop(response);
        let counted = one(&tallies);
        assert_eq!(counted.open, 0);
        assert_eq!(counted.durations.iter().sum::<u64>(), 0);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (n, bound) in BOUNDS.into_iter().enumerate() {
            let cell = Cell::default();
            cell.took(bound);
            cell.took(bound + Duration::from_nanos(1));
            assert_eq!(cell.durations[n].load(Ordering::Relaxed), 1, "{bound:?}");
            assert_eq!(cell.durations[n + 1].load(Ordering::Relaxed), 1, "{bound:?}");
        }
    }
}
