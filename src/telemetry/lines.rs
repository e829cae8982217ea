//! Lines on their way to standard error: queued by whoever logs, written by a thread of its own.
//!
//! Standard error is often a pipe, and whoever should read it may stop. Then a write waits for ever, and a server whose workers wait
//! with it serves nobody. So nobody waits here: what finds no room is dropped and counted, and the log says so when it goes on. The
//! bound is of bytes, since what a line may hold is not; and nothing on the way out, not even the end of the process, waits for a
//! reader for longer than it was told to.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What may wait to be written; as much again is being written.
const ROOM_BYTES: usize = 1 << 20;
/// What is kept to be filled again: a burst's memory is given back.
const KEPT_BYTES: usize = 64 << 10;

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Lines {
    queue: Mutex<Queue>,
    /// There is something to write.
    filled: Condvar,
    /// Something was written.
    settled: Condvar,
    /// Lines that found no room.
    crowded_out: AtomicU64,
    /// Lines that could not be written.
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines, one after the other.
    bytes: Vec<u8>,
    /// How many lines were ever taken in.
    taken: u64,
    /// How many of them were written, or could not be.
    settled: u64,
}

impl Lines {
    /// Starts the thread that writes.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self::default());
        let writing = Arc::clone(&lines);
        let thread = thread::Builder::new().name("halyard-log".to_owned());
        thread.spawn(move || writing.write_to(to))?;
        Ok(lines)
    }

    /// Lines that nobody will read, since the beginning.
    pub fn dropped(&self) -> u64 {
        self.crowded_out.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

    /// Takes a line in, if there is room for it.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes.len() + line.len() > ROOM_BYTES {
            self.crowded_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.append(&mut queue, line);
    }

    /// Takes in what must be said, whether or not there is room: the last words of a process.
    pub fn push_last(&self, words: &[u8]) {
        self.append(&mut self.queue(), words);
    }

    fn append(&self, queue: &mut Queue, line: &[u8]) {
        if queue.bytes.is_empty() {
            self.filled.notify_one();
        }
        queue.bytes.extend_from_slice(line);
        queue.taken += 1;
    }

    /// Waits until everything is written that was taken in before, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let queue = self.queue();
        let taken = queue.taken;
        // Whether it was written or is still on its way: nothing more can be done for it.
        let _ = self
            .settled
            .wait_timeout_while(queue, patience, |queue| queue.settled < taken);
    }

    fn write_to(&self, mut to: impl Write) {
        let mut batch = Vec::new();
        let mut told = 0;
        loop {
            let taken = self.next(&mut batch);
            let dropped = self.crowded_out.load(Ordering::Relaxed);
            if dropped > told {
                told = dropped;
                // The queue has just been emptied: this comes first in it, where the gap is.
                tracing::warn!(
                    dropped,
                    "lines of the log were dropped: they came faster than standard error was read"
                );
            }
            // One at a time: a short write to a pipe is not mixed with what other processes write to it.
            for line in batch.split_inclusive(|byte| *byte == b'\n') {
                if to.write_all(line).is_err() {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            if batch.capacity() > KEPT_BYTES {
                batch = Vec::new();
            }
            self.queue().settled = taken;
            self.settled.notify_all();
        }
    }

    /// Waits for something to write, and gives how many lines were taken in with it.
    fn next(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        let queue = self.queue();
        let waited = self.filled.wait_while(queue, |queue| queue.bytes.is_empty());
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.bytes, batch);
        queue.taken
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing is left half done under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each write is one line, as the subscriber makes it.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// A reader who reads a line only when it is let; what was read comes back.
    struct Slow {
        let_go: Receiver<()>,
        read: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.let_go.recv();
            let _ = self.read.send(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Arc<Lines>, Sender<()>, Receiver<String>) {
        let ((go, let_go), (read, lines)) = (channel(), channel());
        (Lines::start(Slow { let_go, read }).unwrap(), go, lines)
    }

    #[test]
    fn nobody_waits_for_who_does_not_read_and_what_is_kept_is_bounded() {
        let (lines, go, read) = slow();
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        // The first may be on its way already, and then as many again have room.
        let room = ROOM_BYTES / line.len();
        for _ in 0..3 * room {
            lines.push(&line);
        }
        let dropped = usize::try_from(lines.dropped()).unwrap();
        assert!((room..=2 * room).contains(&dropped), "{dropped}");
        assert!(lines.queue().bytes.len() <= ROOM_BYTES);
        // It is not waited for for longer than was said.
        lines.flush(Duration::from_millis(1));
        assert!(lines.queue().settled < lines.queue().taken);
        // And what was kept is whole, once somebody reads.
        drop(go);
        lines.flush(PATIENCE);
        assert_eq!(read.try_iter().count(), 3 * room - dropped);
    }

    #[test]
    fn lines_keep_their_order() {
        let (lines, go, read) = slow();
        for n in 0..1000 {
            lines.push(format!("{n}\n").as_bytes());
            go.send(()).unwrap();
        }
        lines.flush(PATIENCE);
        let expected: Vec<_> = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(read.try_iter().collect::<Vec<_>>(), expected);
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn last_words_find_room() {
        let (lines, go, read) = slow();
        while lines.dropped() == 0 {
            lines.push(&[b'x'; 4096]);
        }
        lines.push_last(b"\nthe end\n");
        drop(go);
        lines.flush(PATIENCE);
        assert_eq!(read.try_iter().last().unwrap(), "the end\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start(Closed).unwrap();
        lines.push(b"one\n");
        lines.push(b"two\n");
        lines.flush(PATIENCE);
        assert_eq!(lines.dropped(), 2);
    }
}
