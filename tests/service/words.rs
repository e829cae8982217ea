//! Short words for what many tests say of flags.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::segment_service_client::SegmentServiceClient;
use halyard::pb::evaluation::v1 as evaluation;
use prost_types::value::Kind;
use tonic::service::interceptor::InterceptedService;

use crate::app::{App, Bearer, Client};

pub fn only(variant: &str) -> evaluation::Serve {
    evaluation::Serve {
        serve: Some(evaluation::serve::Serve::Variant(variant.into())),
    }
}

/// A rule that serves `on` to members of a segment.
pub fn for_segment(segment: &str) -> evaluation::Rule {
    let value = Kind::StringValue(segment.into());
    evaluation::Rule {
        key: "members".into(),
        conditions: vec![evaluation::Condition {
            operator: evaluation::Operator::InSegment.into(),
            values: vec![prost_types::Value { kind: Some(value) }],
            ..Default::default()
        }],
        serve: Some(only("on")),
        ..Default::default()
    }
}

pub fn needing(flag: &str, variant: &str) -> evaluation::Prerequisite {
    evaluation::Prerequisite {
        flag: flag.into(),
        variants: vec![variant.into()],
    }
}

/// A configuration of a flag of `shop` in `dev`, which is on.
pub fn configuration(flag: &str) -> pb::FlagConfiguration {
    pb::FlagConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        flag: flag.into(),
        enabled: true,
        ..Default::default()
    }
}

pub fn configure(configuration: pb::FlagConfiguration) -> pb::UpdateFlagConfigurationRequest {
    pb::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        ..Default::default()
    }
}

/// Writes a configuration, and returns the revision.
pub async fn configured(app: &App, configuration: pb::FlagConfiguration) -> u64 {
    let response = app.flags().update_flag_configuration(configure(configuration)).await;
    response.unwrap().into_inner().revisions[0].revision
}

pub fn who(targeting_key: &str) -> Option<evaluation::Context> {
    Some(evaluation::Context {
        targeting_key: targeting_key.into(),
        attributes: None,
    })
}

fn segments(app: &App) -> SegmentServiceClient<Client> {
    SegmentServiceClient::new(InterceptedService::new(app.channel.clone(), Bearer::new(&app.token)))
}

/// Creates a segment of `shop`.
pub async fn segment(app: &App, key: &str) {
    let segment = pb::Segment {
        project: "shop".into(),
        key: key.into(),
        ..Default::default()
    };
    let request = pb::CreateSegmentRequest {
        segment: Some(segment),
        ..Default::default()
    };
    segments(app).create_segment(request).await.unwrap();
}

/// Makes these the members of a segment in `dev`, and returns the revision.
pub async fn including(app: &App, segment: &str, members: &[&str]) -> u64 {
    let configuration = pb::SegmentConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        segment: segment.into(),
        included: members.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let request = pb::UpdateSegmentConfigurationRequest {
        configuration: Some(configuration),
        ..Default::default()
    };
    let response = segments(app).update_segment_configuration(request).await;
    response.unwrap().into_inner().revisions[0].revision
}

/// Makes these the listed members of a segment in `dev`, and returns the revision.
pub async fn listing(app: &App, segment: &str, members: &[&str]) -> u64 {
    let mut client = segments(app);
    let request = pb::CreateSegmentUploadRequest {
        project: "shop".into(),
        environment: "dev".into(),
        segment: segment.into(),
    };
    let upload = client.create_segment_upload(request).await.unwrap().into_inner().upload;
    let piece = pb::UploadSegmentKeysRequest {
        project: "shop".into(),
        upload: upload.clone(),
        keys: members.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    client.upload_segment_keys(piece).await.unwrap();
    let activate = pb::ActivateSegmentUploadRequest {
        project: "shop".into(),
        upload,
        pieces: 1,
        mode: pb::UploadMode::Replace.into(),
        ..Default::default()
    };
    let response = client.activate_segment_upload(activate).await.unwrap().into_inner();
    response.revisions[0].revision
}
