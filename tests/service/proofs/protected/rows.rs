//! The table: what a developer may where something is protected, mutation by mutation, and a request of each that alters something.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use prost::Message as _;
use prost_types::FieldMask;

use crate::app::bool_flag;
use crate::words::only;

/// What a developer may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Developers {
    /// It alters no answer.
    Always,
    /// In an environment that is not protected.
    InOthers,
    /// In a project that has no protected environment: it concerns all of them.
    InOtherProjects,
    /// Whatever is protected.
    Never,
}

/// What a row is tried on: its own in each place, since the rows change it.
pub struct Thing {
    pub project: &'static str,
    pub environment: &'static str,
    /// A flag that is on, and was off before.
    pub flag: String,
    /// When it was off.
    pub off_at: u64,
    /// A segment that a rule of that flag asks.
    pub segment: String,
    /// An upload of that segment's keys, of one piece.
    pub upload: String,
    pub key: String,
}

/// What a thing is like before it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Plain,
    /// The flag is archived.
    Archived,
    /// Nothing asks the segment.
    Unasked,
}

use Developers::{Always, InOtherProjects, InOthers, Never};
use State::{Archived, Plain, Unasked};

pub struct Row {
    pub method: &'static str,
    pub what: &'static str,
    pub developers: Developers,
    pub state: State,
    pub request: fn(&Thing) -> Vec<u8>,
}

pub const fn row(
    method: &'static str,
    what: &'static str,
    developers: Developers,
    state: State,
    request: fn(&Thing) -> Vec<u8>,
) -> Row {
    Row {
        method,
        what,
        developers,
        state,
        request,
    }
}

/// The table.
pub const ROWS: &[Row] = &[
    // Off everywhere, it is known now.
    row("FlagService/CreateFlag", "", InOtherProjects, Plain, |it| {
        let flag = flag(it, |flag| flag.key = format!("new-{}", it.flag));
        pb::CreateFlagRequest {
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/UpdateFlag", "name", Always, Plain, |it| {
        update(it, &["name"], |flag| flag.name = "Other".into())
    }),
    row("FlagService/UpdateFlag", "words", Always, Plain, |it| {
        let fields = ["description", "tags", "owner", "lifecycle", "expected_removal_time"];
        update(it, &fields, |flag| {
            flag.description = "other".into();
            flag.tags = vec!["other".into()];
            flag.owner = "others".into();
            flag.lifecycle = pb::Lifecycle::Temporary.into();
            flag.expected_removal_time = Some(prost_types::Timestamp {
                seconds: 4_000_000_000,
                nanos: 0,
            });
        })
    }),
    row("FlagService/UpdateFlag", "variants", InOtherProjects, Plain, |it| {
        update(it, &["variants"], |flag| {
            flag.variants = ["on", "off", "more"].map(|key| variant(key, key != "off")).into();
        })
    }),
    row("FlagService/UpdateFlag", "off variant", InOtherProjects, Plain, |it| {
        update(it, &["off_variant"], |flag| flag.off_variant = "on".into())
    }),
    row(
        "FlagService/UpdateFlag",
        "default variant",
        InOtherProjects,
        Plain,
        |it| update(it, &["default_variant"], |flag| flag.default_variant = "off".into()),
    ),
    row(
        "FlagService/UpdateFlag",
        "client visibility",
        InOtherProjects,
        Plain,
        |it| update(it, &["client_visible"], |flag| flag.client_visible = false),
    ),
    row(
        "FlagService/UpdateFlag",
        "client visibility among words",
        InOtherProjects,
        Plain,
        |it| {
            update(it, &["name", "client_visible"], |flag| {
                flag.name = "Other".into();
                flag.client_visible = false;
            })
        },
    ),
    row("FlagService/ArchiveFlag", "", InOtherProjects, Plain, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::ArchiveFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/RestoreFlag", "", InOtherProjects, Archived, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::RestoreFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/DeleteFlag", "", Never, Plain, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::DeleteFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/DeleteFlag", "an archived one", Never, Archived, |it| {
        let (project, flag) = (it.project.into(), it.flag.clone());
        pb::DeleteFlagRequest {
            project,
            flag,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/UpdateFlagConfiguration", "off", InOthers, Plain, |it| {
        configure(it, &["enabled"], |configuration| configuration.enabled = false)
    }),
    row("FlagService/UpdateFlagConfiguration", "rules", InOthers, Plain, |it| {
        configure(it, &["rules"], |configuration| configuration.rules = Vec::new())
    }),
    row(
        "FlagService/UpdateFlagConfiguration",
        "default",
        InOthers,
        Plain,
        |it| {
            configure(it, &["default_serve"], |configuration| {
                configuration.default_serve = Some(only("off"));
            })
        },
    ),
    row("FlagService/UpdateFlagConfiguration", "salt", InOthers, Plain, |it| {
        configure(it, &["salt"], |configuration| configuration.salt = "other".into())
    }),
    row("FlagService/ToggleFlags", "", InOthers, Plain, |it| {
        let toggle = pb::Toggle {
            flag: it.flag.clone(),
            enabled: false,
        };
        let (project, environment) = (it.project.into(), it.environment.into());
        pb::ToggleFlagsRequest {
            project,
            environment,
            toggles: vec![toggle],
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("FlagService/RollbackFlagConfiguration", "", InOthers, Plain, |it| {
        let (project, environment, flag) = (it.project.into(), it.environment.into(), it.flag.clone());
        pb::RollbackFlagConfigurationRequest {
            project,
            environment,
            flag,
            revision: it.off_at,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    // A segment that nothing asks answers nothing.
    row("SegmentService/CreateSegment", "", Always, Plain, |it| {
        let segment = Some(pb::Segment {
            project: it.project.into(),
            key: format!("new-{}", it.segment),
            ..Default::default()
        });
        pb::CreateSegmentRequest {
            segment,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/UpdateSegment", "words", Always, Plain, |it| {
        let segment = pb::Segment {
            project: it.project.into(),
            key: it.segment.clone(),
            name: "Other".into(),
            description: "other".into(),
            ..Default::default()
        };
        pb::UpdateSegmentRequest {
            segment: Some(segment),
            update_mask: mask(&["name", "description"]),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/DeleteSegment", "", Never, Unasked, |it| {
        let (project, segment) = (it.project.into(), it.segment.clone());
        pb::DeleteSegmentRequest {
            project,
            segment,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/UpdateSegmentConfiguration", "", InOthers, Plain, |it| {
        let configuration = pb::SegmentConfiguration {
            project: it.project.into(),
            environment: it.environment.into(),
            segment: it.segment.clone(),
            included: vec!["eve".into()],
            ..Default::default()
        };
        pb::UpdateSegmentConfigurationRequest {
            configuration: Some(configuration),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("SegmentService/CreateSegmentUpload", "", InOthers, Plain, |it| {
        let (project, environment, segment) = (it.project.into(), it.environment.into(), it.segment.clone());
        pb::CreateSegmentUploadRequest {
            project,
            environment,
            segment,
        }
        .encode_to_vec()
    }),
    row("SegmentService/UploadSegmentKeys", "", InOthers, Plain, |it| {
        let (project, upload, keys) = (it.project.into(), it.upload.clone(), vec!["eve".into()]);
        pb::UploadSegmentKeysRequest {
            project,
            upload,
            piece: 1,
            keys,
        }
        .encode_to_vec()
    }),
    row("SegmentService/ActivateSegmentUpload", "", InOthers, Plain, |it| {
        let (project, upload, mode) = (it.project.into(), it.upload.clone(), pb::UploadMode::Replace.into());
        pb::ActivateSegmentUploadRequest {
            project,
            upload,
            mode,
            pieces: 1,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/CreateKey", "", Never, Plain, |it| {
        let (project, environment, kind) = (it.project.into(), it.environment.into(), pb::KeyKind::Client.into());
        pb::CreateKeyRequest {
            project,
            environment,
            kind,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/RotateKey", "", Never, Plain, |it| {
        let (project, environment, key_id) = (it.project.into(), it.environment.into(), it.key.clone());
        pb::RotateKeyRequest {
            project,
            environment,
            key_id,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/RevokeKey", "", Never, Plain, |it| {
        let (project, environment, key_id) = (it.project.into(), it.environment.into(), it.key.clone());
        pb::RevokeKeyRequest {
            project,
            environment,
            key_id,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("EnvironmentService/CreateEnvironment", "", Never, Plain, |it| {
        let environment = pb::Environment {
            project: it.project.into(),
            key: format!("new-{}", it.flag),
            ..Default::default()
        };
        pb::CreateEnvironmentRequest {
            environment: Some(environment),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    row("ProjectService/UpdateProject", "", Never, Plain, |it| {
        let project = pb::Project {
            key: it.project.into(),
            name: it.flag.clone(),
            ..Default::default()
        };
        pb::UpdateProjectRequest {
            project: Some(project),
            update_mask: mask(&["name"]),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    // The last two, since nothing is protected any more after them.
    row(
        "EnvironmentService/UpdateEnvironment",
        "protection",
        Never,
        Plain,
        |it| {
            let environment = pb::Environment {
                project: it.project.into(),
                key: it.environment.into(),
                protected: it.environment != "prod",
                ..Default::default()
            };
            pb::UpdateEnvironmentRequest {
                environment: Some(environment),
                update_mask: mask(&["protected"]),
                ..Default::default()
            }
            .encode_to_vec()
        },
    ),
    row("EnvironmentService/DeleteEnvironment", "", Never, Plain, |it| {
        let (project, environment) = (it.project.into(), it.environment.into());
        pb::DeleteEnvironmentRequest {
            project,
            environment,
            ..Default::default()
        }
        .encode_to_vec()
    }),
];

pub fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(ToString::to_string).collect();
    Some(FieldMask { paths })
}

pub fn variant(key: &str, value: bool) -> evaluation::Variant {
    evaluation::Variant {
        key: key.into(),
        value: Some(evaluation::variant::Value::BoolValue(value)),
        ..Default::default()
    }
}

pub fn flag(it: &Thing, change: impl FnOnce(&mut pb::Flag)) -> Option<pb::Flag> {
    let mut flag = pb::Flag {
        project: it.project.into(),
        ..bool_flag(&it.flag)
    };
    change(&mut flag);
    Some(flag)
}

pub fn update(it: &Thing, fields: &[&str], change: impl FnOnce(&mut pb::Flag)) -> Vec<u8> {
    let request = pb::UpdateFlagRequest {
        flag: flag(it, change),
        update_mask: mask(fields),
        ..Default::default()
    };
    request.encode_to_vec()
}

pub fn configure(it: &Thing, fields: &[&str], change: impl FnOnce(&mut pb::FlagConfiguration)) -> Vec<u8> {
    let mut configuration = pb::FlagConfiguration {
        project: it.project.into(),
        environment: it.environment.into(),
        flag: it.flag.clone(),
        ..Default::default()
    };
    change(&mut configuration);
    let request = pb::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        update_mask: mask(fields),
        ..Default::default()
    };
    request.encode_to_vec()
}
