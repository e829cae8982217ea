//! Which processes there are.

use std::fs;
use std::path::Path;

/// The processes that live in a folder or below, as those of PostgreSQL do in its data folder.
pub fn processes_below(data_dir: &Path) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            fs::read_link(entry.path().join("cwd"))
                .ok()?
                .starts_with(data_dir)
                .then_some(pid)
        })
        .collect()
}
