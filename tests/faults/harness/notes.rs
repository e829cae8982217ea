//! What a world notes of itself: when what was away, and what replicas and PostgreSQL have logged.

use std::path::{Path, PathBuf};

use super::spans::Spans;
use super::world::World;
use crate::evidence::{Cut, Loses, Notices, Span};

impl World {
    /// When PostgreSQL was away by what the fault did to it.
    pub(super) fn outages(&self) -> Vec<Span> {
        self.postgres.outages.all()
    }

    /// Notes that a replica is cut off from now on, until what is returned is closed. Silent wires and outages of PostgreSQL are noted
    /// by themselves.
    pub fn cut_off(&mut self, replica: usize, loses: Loses, notices: Notices) -> Spans {
        let spans = Spans::default();
        spans.open();
        self.cuts.push((replica, loses, notices, spans.clone()));
        spans
    }

    /// When which replica was cut off.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let silences = self.wires.iter().enumerate();
        let silences =
            silences.map(|(number, wire)| (number, Loses::Everything, Notices::ByProbe, wire.silences.clone()));
        let outages = (0..self.replicas.len()).map(|number| {
            (
                number,
                Loses::Everything,
                Notices::ByProbe,
                self.postgres.outages.clone(),
            )
        });
        let all = self.cuts.iter().cloned().chain(silences).chain(outages);
        let cut = |(replica, loses, notices, spans): (usize, Loses, Notices, Spans)| {
            let cut = move |span: Span| Cut {
                replica,
                span,
                loses,
                notices,
            };
            spans.all().into_iter().map(cut)
        };
        all.flat_map(cut).collect()
    }
}

/// Where the logs of what failed are left.
pub fn logs_of(fault: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(fault.replace("::", "-"))
}

impl World {
    /// Copies what replicas and PostgreSQL have logged, for whoever looks for the reason of a failure.
    pub(super) fn leave_logs(&self) {
        let folder = logs_of(self.fault);
        let _before = std::fs::remove_dir_all(&folder);
        let made = std::fs::create_dir_all(&folder);
        let entries = std::fs::read_dir(&self.folder.path).into_iter().flatten().flatten();
        let logs = entries.map(|entry| entry.path()).chain([self.postgres.log()]);
        for log in logs {
            if let Some(name) = log.file_name().filter(|_| made.is_ok()) {
                let _copied = std::fs::copy(&log, folder.join(name));
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave_logs();
        }
    }
}
