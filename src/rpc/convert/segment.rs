//! Segments' configurations, in and out.

use super::flag::{list, read_conditions, write_condition};
use crate::domain::segment::{Configuration, KeyList};
use crate::domain::{draft, limits};
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

/// Reads who is to belong to a segment.
pub fn read_configuration(
    included: Vec<String>,
    excluded: Vec<String>,
    segments: Vec<String>,
    conditions: Vec<pb::Condition>,
) -> draft::Segment {
    draft::Segment {
        included: list(included, limits::SEGMENT_NAMED_KEYS, |key| key),
        excluded: list(excluded, limits::SEGMENT_NAMED_KEYS, |key| key),
        segments: list(segments, limits::SEGMENT_PARTS, |segment| segment),
        conditions: read_conditions(conditions),
    }
}
