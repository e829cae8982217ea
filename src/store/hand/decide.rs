//! What becomes of an item whose row may have been edited: decided from its row and the change log alone.

use bytes::Bytes;

use super::found::{Found, Logged, same};

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is what the log says.
    Nothing,
    /// It means what the log says, but is spelled otherwise or has another version: the row is set back.
    Restore(Logged),
    /// It has this form now.
    Put(Bytes),
    /// Its row is gone.
    Delete,
}

impl Decision {
    /// Whether it is in the next revision.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete => true,
            Self::Nothing | Self::Restore(_) => false,
        }
    }
}

/// The form counts before the columns: it is the truth. An empty form asks for what the columns say; and a form that is as the
/// log has it was not what was edited, so then the columns count.
pub(super) fn decide(found: &Found) -> Decision {
    let Found { row, logged, .. } = found;
    let (row, logged) = match (row, logged) {
        (None, None) => return Decision::Nothing,
        (None, Some(_)) => return Decision::Delete,
        (Some(row), logged) => (row, logged.as_ref()),
    };
    let means = |a: &[u8], b: &[u8]| a == b || same(found.id.kind, a, b);
    let is_logged = |form: &[u8]| logged.is_some_and(|logged| means(form, &logged.form));
    if !row.form.is_empty() && !is_logged(&row.form) {
        return Decision::Put(row.form.clone());
    }
    match (&row.told, logged) {
        (Some(told), _) if !is_logged(told) => Decision::Put(told.clone()),
        // Nothing can be read where the form should be, nor beside it.
        (None, _) if row.form.is_empty() => Decision::Put(row.form.clone()),
        (_, Some(logged)) if (&row.form, row.version) != (&logged.form, logged.version) => {
            Decision::Restore(logged.clone())
        }
        (Some(_) | None, _) => Decision::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::super::found::Kept;
    use super::*;
    use crate::domain::form::{ItemId, Kind};

    const ON: &str = r#"{"format":1,"enabled":true}"#;
    const OFF: &str = r#"{"format":1,"enabled":false}"#;
    const SPACED: &str = r#"{ "format": 1, "enabled": true }"#;
    const DAMAGED: &str = "{";

    fn bytes(form: &str) -> Bytes {
        Bytes::copy_from_slice(form.as_bytes())
    }

    fn found(row: Option<(&str, u64, Option<&str>)>, logged: Option<(&str, u64)>) -> Found {
        Found {
            id: ItemId {
                kind: Kind::FlagConfiguration,
                key: "f".into(),
            },
            entity: Some(1),
            row: row.map(|(form, version, told)| Kept {
                form: bytes(form),
                version,
                told: told.map(bytes),
            }),
            logged: logged.map(|(form, version)| Logged {
                form: bytes(form),
                version,
            }),
            logged_version: logged.map_or(0, |(_, version)| version),
        }
    }

    fn check(row: Option<(&str, u64, Option<&str>)>, logged: Option<(&str, u64)>, expected: &Decision) {
        assert_eq!(decide(&found(row, logged)), *expected, "{row:?} {logged:?}");
    }

    fn put(form: &str) -> Decision {
        Decision::Put(bytes(form))
    }

    fn restored(form: &str, version: u64) -> Decision {
        Decision::Restore(Logged {
            form: bytes(form),
            version,
        })
    }

    #[test]
    fn what_is_as_the_log_says_is_left_alone() {
        check(None, None, &Decision::Nothing);
        check(Some((ON, 3, Some(ON))), Some((ON, 3)), &Decision::Nothing);
        check(Some((DAMAGED, 3, None)), Some((DAMAGED, 3)), &Decision::Nothing);
    }

    #[test]
    fn an_edited_form_counts_whatever_the_columns_say() {
        check(Some((OFF, 3, Some(ON))), Some((ON, 3)), &put(OFF));
        check(Some((OFF, 3, Some(SPACED))), Some((ON, 3)), &put(OFF));
        check(Some((DAMAGED, 3, Some(ON))), Some((ON, 3)), &put(DAMAGED));
        check(Some((ON, 1, None)), None, &put(ON));
    }

    #[test]
    fn edited_columns_count_beside_a_form_that_was_not() {
        check(Some((ON, 3, Some(OFF))), Some((ON, 3)), &put(OFF));
        check(Some((SPACED, 3, Some(OFF))), Some((ON, 3)), &put(OFF));
        check(Some((DAMAGED, 3, Some(OFF))), Some((DAMAGED, 3)), &put(OFF));
    }

    #[test]
    fn columns_that_cannot_be_read_are_passed_over() {
        check(Some((ON, 3, None)), Some((ON, 3)), &Decision::Nothing);
    }

    #[test]
    fn an_empty_form_asks_for_the_columns() {
        check(Some(("", 1, Some(OFF))), None, &put(OFF));
        check(Some(("", 3, Some(OFF))), Some((ON, 3)), &put(OFF));
        check(Some(("", 3, Some(ON))), Some((ON, 3)), &restored(ON, 3));
        check(Some(("", 3, None)), Some((ON, 3)), &put(""));
    }

    #[test]
    fn another_spelling_or_version_is_set_back() {
        check(Some((SPACED, 3, Some(ON))), Some((ON, 3)), &restored(ON, 3));
        check(Some((ON, 9, Some(ON))), Some((ON, 3)), &restored(ON, 3));
    }

    #[test]
    fn a_row_that_is_gone_is_a_deletion() {
        check(None, Some((ON, 3)), &Decision::Delete);
    }
}
