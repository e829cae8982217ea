//! An entry as one line of JSON: what an export is made of.
//!
//! The entry before and after are JSON texts inside of strings, since the hash is over their bytes. An entry has exactly one line:
//! whatever else says the same, with other spaces or one more field, is not a line of an export.

use serde::{Deserialize, Serialize};

use super::{Entry, Linked};
use crate::domain::change::Digest;

/// A line, field by field.
#[derive(Serialize, Deserialize)]
struct Line<E> {
    chain: String,
    sequence: u64,
    previous_hash: String,
    hash: String,
    #[serde(flatten)]
    entry: E,
}

/// Writes an entry of a chain as a line, without its end.
pub fn write(chain: &str, linked: &Linked) -> Result<String, serde_json::Error> {
    let Linked {
        entry,
        sequence,
        previous,
        hash,
    } = linked;
    serde_json::to_string(&Line {
        chain: chain.to_owned(),
        sequence: *sequence,
        previous_hash: previous.to_string(),
        hash: hash.to_string(),
        entry,
    })
}

/// Reads a line: the name of the chain, and the entry. `None`: this is no line of an export.
pub fn read(text: &str) -> Option<(String, Linked)> {
    let line: Line<Entry> = serde_json::from_str(text).ok()?;
    let linked = Linked {
        previous: Digest::from_hex(&line.previous_hash)?,
        hash: Digest::from_hex(&line.hash)?,
        sequence: line.sequence,
        entry: line.entry,
    };
    let written = write(&line.chain, &linked).ok()?;
    (written == text).then_some((line.chain, linked))
}

#[cfg(test)]
mod tests {
    use super::super::verify::tests::chain;
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for linked in chain(3) {
            let line = write("17", &linked).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(read(&line), Some(("17".to_owned(), linked)));
        }
    }

    #[test]
    fn only_what_was_written_is_a_line() {
        let line = write("17", &chain(1)[0]).unwrap();
        let more = format!("{},\"note\":\"x\"}}", line.strip_suffix('}').unwrap());
        let upper = line.replacen("\"hash\":\"", "\"hash\":\"AB", 1);
        for other in ["", "{}", &line[1..], &line.replacen(':', ": ", 1), &more, &upper] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
