//! What callers say of segments, and what they are told.

use uuid::Uuid;

use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::domain::segment::Metadata;
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::name_or;
use crate::rpc::convert::common::{Mask, finish, key, timestamp};
use crate::rpc::convert::flag::{read_conditions, write_condition};
use crate::store::segments::configurations::{SegmentConfiguration, SegmentConfigurationPatch};
use crate::store::segments::{ListPlace, NewSegment, Segment, SegmentPatch, UploadMode};

/// Reads what a caller may say of a segment; its project is read before, since that decides whether the rest is looked at.
fn read(segment: pb::Segment) -> Result<NewSegment, Violations> {
    let pb::Segment {
        project: _,
        key: segment_key,
        name,
        description,
        create_time: _,
        update_time: _,
        etag: _,
    } = segment;
    let mut violations = Violations::new();
    let key: Option<key::Segment> = key(&mut violations, "key", &segment_key);
    let name = name_or(name, key.as_ref());
    let metadata = Metadata { name, description };
    finish(violations, key.map(|key| NewSegment { key, metadata }))
}

pub(super) fn read_new(segment: pb::Segment) -> Result<NewSegment, Violations> {
    read(segment)
}

pub(super) fn read_patch(segment: pb::Segment, mask: &Mask<'_>) -> Result<(key::Segment, SegmentPatch), Violations> {
    let NewSegment { key, metadata } = read(segment)?;
    let Metadata { name, description } = metadata;
    let patch = SegmentPatch {
        name: mask.pick("name", name),
        description: mask.pick("description", description),
    };
    Ok((key, patch))
}

/// Reads which configuration to change and how; what becomes of it is checked where it is known what it stands on.
pub(super) fn read_configuration(
    configuration: pb::SegmentConfiguration,
    mask: &Mask<'_>,
    strict: bool,
) -> Result<(key::Environment, key::Segment, SegmentConfigurationPatch), Violations> {
    let pb::SegmentConfiguration {
        project: _,
        environment,
        segment,
        included,
        excluded,
        segments,
        conditions,
        listed_keys: _,
        update_time: _,
        etag: _,
    } = configuration;
    let mut violations = Violations::new();
    let environment = key(&mut violations, "environment", &environment);
    let segment = key(&mut violations, "segment", &segment);
    let patch = SegmentConfigurationPatch {
        included: mask.pick("included", included),
        excluded: mask.pick("excluded", excluded),
        segments: mask.pick("segments", segments),
        conditions: mask.pick("conditions", read_conditions(conditions)),
        strict,
    };
    let place = environment.zip(segment);
    finish(
        violations,
        place.map(|(environment, segment)| (environment, segment, patch)),
    )
}

/// Reads what names an upload.
pub(super) fn read_upload(violations: &mut Violations, upload: &str) -> Option<Uuid> {
    let read = Uuid::parse_str(upload).ok();
    if read.is_none() {
        violations.add("upload", "is not a UUID");
    }
    read
}

pub(super) fn read_mode(violations: &mut Violations, mode: i32) -> Option<UploadMode> {
    match pb::UploadMode::try_from(mode) {
        Ok(pb::UploadMode::Replace) => Some(UploadMode::Replace),
        Ok(pb::UploadMode::Add) => Some(UploadMode::Add),
        Ok(pb::UploadMode::Remove) => Some(UploadMode::Remove),
        Ok(pb::UploadMode::Unspecified) | Err(_) => {
            violations.add("mode", "is not said: replace, add or remove");
            None
        }
    }
}

/// A place in a list, as a token has it: `<chunk>/<chunks>`.
pub(super) fn write_place(place: ListPlace) -> String {
    let ListPlace { chunk, chunks } = place;
    format!("{chunk}/{chunks}")
}

/// Reads such a place. `None`: it is none.
pub(super) fn read_place(place: &str) -> Option<ListPlace> {
    let (chunk, chunks) = place.split_once('/')?;
    Some(ListPlace {
        chunk: chunk.parse().ok()?,
        chunks: chunks.parse().ok()?,
    })
}

pub(super) fn write(segment: &Segment) -> pb::Segment {
    let Segment {
        project,
        key,
        metadata,
        created_at,
        updated_at,
        etag,
    } = segment;
    let Metadata { name, description } = metadata;
    pb::Segment {
        project: project.to_string(),
        key: key.to_string(),
        name: name.clone(),
        description: description.clone(),
        create_time: Some(timestamp(*created_at)),
        update_time: Some(timestamp(*updated_at)),
        etag: etag.clone(),
    }
}

pub(super) fn write_configuration(configuration: &SegmentConfiguration) -> pb::SegmentConfiguration {
    let SegmentConfiguration {
        project,
        environment,
        segment,
        configuration,
        updated_at,
        etag,
    } = configuration;
    pb::SegmentConfiguration {
        project: project.to_string(),
        environment: environment.to_string(),
        segment: segment.to_string(),
        included: configuration.included.clone(),
        excluded: configuration.excluded.clone(),
        segments: configuration.segments.iter().map(ToString::to_string).collect(),
        conditions: configuration.conditions.iter().map(write_condition).collect(),
        listed_keys: configuration.key_list.map_or(0, |list| list.keys),
        update_time: updated_at.map(timestamp),
        etag: etag.clone(),
    }
}
