//! What many messages share: keys, times, pages, masks.

use crate::domain::invalid::Violations;
use crate::domain::{key, limits};

/// Reads a key, or notes what is wrong with it.
pub fn key<K>(violations: &mut Violations, field: &str, text: &str) -> Option<K>
where
    K: std::str::FromStr<Err = Violations>,
{
    violations.take(field, text.parse())
}

/// Reads a key that may be empty.
pub fn optional_key<K>(violations: &mut Violations, field: &str, text: &str) -> Option<K>
where
    K: std::str::FromStr<Err = Violations>,
{
    if text.is_empty() {
        None
    } else {
        key(violations, field, text)
    }
}

/// A project and an environment, as most requests name them.
pub fn place(
    violations: &mut Violations,
    project: &str,
    environment: &str,
) -> Option<(key::Project, key::Environment)> {
    let project = key(violations, "project", project);
    let environment = key(violations, "environment", environment);
    project.zip(environment)
}

/// The value that a conversion produced, or its violations. Both `None` and no violations cannot happen: whoever returns `None`
/// has noted why.
pub fn finish<T>(violations: Violations, value: Option<T>) -> Result<T, Violations> {
    match value {
        Some(value) => violations.or(value),
        None if violations.is_empty() => Err(Violations::one("", "is incomplete")),
        None => Err(violations),
    }
}

/// A required submessage, or a violation.
pub fn required<T>(violations: &mut Violations, field: &str, message: Option<T>) -> Option<T> {
    if message.is_none() {
        violations.add(field, "is absent");
    }
    message
}

/// Times to their message.
pub fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    let nanos = time.subsec_nanosecond();
    let (seconds, nanos) = if nanos < 0 {
        (time.as_second() - 1, nanos + 1_000_000_000)
    } else {
        (time.as_second(), nanos)
    };
    prost_types::Timestamp { seconds, nanos }
}

/// The first second of the year 1, where the times of protobuf begin.
const YEAR_ONE: i64 = -62_135_596_800;

/// Reads a time.
pub fn read_timestamp(
    violations: &mut Violations,
    field: &str,
    time: prost_types::Timestamp,
) -> Option<jiff::Timestamp> {
    let prost_types::Timestamp { seconds, nanos } = time;
    let read = jiff::Timestamp::new(seconds, nanos)
        .ok()
        .filter(|_| nanos >= 0 && seconds >= YEAR_ONE);
    if read.is_none() {
        violations.add(field, "is not a time between the years 1 and 9999");
    }
    read
}

/// A duration to its message.
pub fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// How large the pages of a list are.
#[derive(Debug, Clone, Copy)]
pub struct PageSizes {
    /// When the caller does not say.
    pub default: usize,
    /// At most.
    pub most: usize,
}

impl PageSizes {
    /// Of lists of entities.
    pub const ENTITIES: Self = Self {
        default: limits::DEFAULT_PAGE_SIZE,
        most: limits::PAGE_SIZE,
    };
    /// Of lists of revisions, which show whole definitions and configurations.
    pub const REVISIONS: Self = Self {
        default: limits::DEFAULT_REVISIONS_PAGE_SIZE,
        most: limits::REVISIONS_PAGE_SIZE,
    };
}

/// Reads a page size.
pub fn page_size(violations: &mut Violations, sizes: PageSizes, page_size: i32) -> usize {
    let PageSizes { default, most } = sizes;
    match usize::try_from(page_size) {
        Ok(0) => default,
        Ok(size) => size.min(most),
        Err(_) => {
            violations.add("page_size", format!("is negative; zero means {default}"));
            default
        }
    }
}

/// Which of an entity's fields an update writes.
pub struct Mask<'a> {
    paths: Option<Vec<&'a str>>,
}

impl<'a> Mask<'a> {
    /// Reads a mask; `fields` are those that may be written, and all of them are if there is no mask.
    pub fn read(violations: &mut Violations, mask: Option<&'a prost_types::FieldMask>, fields: &[&str]) -> Self {
        let Some(prost_types::FieldMask { paths }) = mask else {
            return Self { paths: None };
        };
        if paths.is_empty() {
            violations.add("update_mask", "names no field; leave it out to write them all");
        }
        for path in paths {
            if !fields.contains(&path.as_str()) {
                violations.add(
                    "update_mask",
                    format!("names {path}; what can be written is {}", fields.join(", ")),
                );
            }
        }
        Self {
            paths: Some(paths.iter().map(String::as_str).collect()),
        }
    }

    /// Whether a field is to be written.
    pub fn has(&self, field: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.contains(&field))
    }

    /// `value` if its field is to be written.
    pub fn pick<T>(&self, field: &str, value: T) -> Option<T> {
        self.has(field).then_some(value)
    }
}
