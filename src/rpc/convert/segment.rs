//! Segments' configurations as messages.

use super::flag::write_condition;
use crate::domain::segment::{Configuration, KeyList};
use crate::pb::evaluation::v1 as pb;

/// A configuration as its message.
pub fn write_configuration(segment: &str, configuration: &Configuration) -> pb::SegmentConfiguration {
    let Configuration {
        included,
        excluded,
        segments,
        conditions,
        key_list,
    } = configuration;
    pb::SegmentConfiguration {
        segment: segment.to_owned(),
        included: included.clone(),
        excluded: excluded.clone(),
        segments: segments.iter().map(ToString::to_string).collect(),
        conditions: conditions.iter().map(write_condition).collect(),
        key_list: key_list.map(|KeyList { chunks, keys }| pb::KeyList { chunks, keys }),
    }
}
