//! The numbers of the process: lines of its log that were dropped, and what the kernel tells, under the names that exporters of all
//! languages use. Where there is no `/proc`, the kernel tells nothing.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::families::{Families, Family, Kind, count};
use crate::telemetry;

/// This process, asked for its numbers.
#[derive(Debug)]
pub(super) struct Numbers;

/// What the kernel knows of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Process {
    resident_bytes: f64,
    cpu_seconds: f64,
    started_at: f64,
    open_fds: f64,
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        families.counter(
            count(
                "log_lines_dropped",
                "Lines of the log that were dropped, since standard error was not read fast enough or not at all",
            ),
            telemetry::dropped_lines(),
        )?;
        let Some(process) = Process::this() else {
            return Ok(());
        };
        let Process {
            resident_bytes,
            cpu_seconds,
            started_at,
            open_fds,
        } = process;
        let all = [
            (
                "process_resident_memory",
                "Memory that the process has",
                Some(&Unit::Bytes),
                Kind::Gauge,
                resident_bytes,
            ),
            (
                "process_cpu",
                "Time on processors",
                Some(&Unit::Seconds),
                Kind::Counter,
                cpu_seconds,
            ),
            ("process_open_fds", "Open file descriptors", None, Kind::Gauge, open_fds),
            (
                "process_start_time",
                "When it started, since the beginning of 1970",
                Some(&Unit::Seconds),
                Kind::Gauge,
                started_at,
            ),
        ];
        for (name, help, unit, kind, value) in all {
            families.of_process(Family { name, help, unit }, kind, value)?;
        }
        Ok(())
    }
}

impl Process {
    #[expect(clippy::cast_precision_loss, reason = "pages and ticks are few")]
    fn this() -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let statistics = fs::read_to_string("/proc/self/stat").ok()?;
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted: f64 = booted
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .parse()
            .ok()?;
        let [user, system, started, pages] = fields(&statistics)?;
        Some(Self {
            resident_bytes: pages * rustix::param::page_size() as f64,
            cpu_seconds: (user + system) / ticks,
            started_at: booted + started / ticks,
            open_fds: open_files()? as f64,
        })
    }
}

/// Ticks as a user, ticks in the kernel, the tick at which it started, and resident pages: fields 14, 15, 22 and 24. The second is
/// the program's name in parentheses, which may hold anything.
fn fields(statistics: &str) -> Option<[f64; 4]> {
    let (_, behind) = statistics.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let number = |n: usize| fields.get(n - 3)?.parse().ok();
    Some([number(14)?, number(15)?, number(22)?, number(24)?])
}

/// Newer kernels say how many there are; others have to be asked for each.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some(fs::read_dir(FOLDER).ok()?.count() as u64),
        known => Some(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_in_it_moves_no_field() {
        let behind = "S 1 1 1 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 3 0 1000 9999 77 18446744073709551615";
        for name in ["halyard", "a) b (c", ""] {
            let line = format!("42 ({name}) {behind}");
            assert_eq!(fields(&line), Some([250.0, 50.0, 1000.0, 77.0]), "{name}");
        }
        assert_eq!(fields("42 (halyard) S 1"), None);
    }

    #[test]
    fn this_process_lives() {
        let process = Process::this().unwrap();
        assert!(process.resident_bytes > 1e6, "{process:?}");
        assert!(process.open_fds >= 3.0 && process.started_at > 1.5e9, "{process:?}");
    }
}
