//! Every method that writes, and a request that makes it write.

use std::pin::Pin;

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::ValueType;
use halyard::rpc::admin::accounts::SignUp;
use halyard::server::Server;
use tonic::Status;
use uuid::Uuid;

use super::people::People;
use crate::app::{App, Keys, connect, options, toggle};
use crate::support::within;
use crate::{experiments, words};

/// What the rows are about: a project `shop` with the environments `dev` and `spare` and the flags `f`, `old`, `gone`,
/// `archived` and `turned`, the segments `s` and `gone`, and a project `other`.
pub struct World {
    pub app: App,
    dev: Keys,
    /// The revision that turned the flag `turned` on; it is off again.
    turned_on: u64,
    /// An upload for the segment `s`.
    upload: String,
    pub people: People,
}

pub type Call<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + 'a>>;

/// A method, and a request to it that is carried out once those of the rows before it were.
pub struct Row {
    pub method: &'static str,
    pub call: fn(&World) -> Call<'_>,
}

macro_rules! row {
    ($method:literal, |$world:ident| $call:expr) => {
        Row {
            method: $method,
            call: |$world| Box::pin(async move { $call.map(drop) }),
        }
    };
}
pub(super) use row;

/// Every mutation of a project and what is in it.
pub const ROWS: &[Row] = &[
    row!("ProjectService/CreateProject", |world| {
        world
            .app
            .projects()
            .create_project(pb::CreateProjectRequest {
                project: Some(project("new")),
                request_id: request_id(1),
                ..Default::default()
            })
            .await
    }),
    row!("ProjectService/UpdateProject", |world| {
        world
            .app
            .projects()
            .update_project(pb::UpdateProjectRequest {
                project: Some(pb::Project {
                    name: "The shop".into(),
                    ..project("shop")
                }),
                request_id: request_id(2),
                ..Default::default()
            })
            .await
    }),
    row!("ProjectService/DeleteProject", |world| {
        world
            .app
            .projects()
            .delete_project(pb::DeleteProjectRequest {
                project: "other".into(),
                confirm: "other".into(),
                request_id: request_id(3),
                ..Default::default()
            })
            .await
    }),
    row!("EnvironmentService/CreateEnvironment", |world| {
        let request = pb::CreateEnvironmentRequest {
            environment: Some(environment("stage")),
            request_id: request_id(4),
            ..Default::default()
        };
        world.app.environments().create_environment(request).await
    }),
    row!("EnvironmentService/UpdateEnvironment", |world| {
        let request = pb::UpdateEnvironmentRequest {
            environment: Some(pb::Environment {
                protected: true,
                ..environment("dev")
            }),
            request_id: request_id(5),
            ..Default::default()
        };
        world.app.environments().update_environment(request).await
    }),
    row!("EnvironmentService/DeleteEnvironment", |world| {
        let request = pb::DeleteEnvironmentRequest {
            project: "shop".into(),
            environment: "spare".into(),
            request_id: request_id(6),
            ..Default::default()
        };
        world.app.environments().delete_environment(request).await
    }),
    row!("EnvironmentService/CreateKey", |world| {
        world
            .app
            .environments()
            .create_key(pb::CreateKeyRequest {
                project: "shop".into(),
                environment: "dev".into(),
                kind: pb::KeyKind::Client.into(),
                request_id: request_id(7),
                ..Default::default()
            })
            .await
    }),
    row!("EnvironmentService/RotateKey", |world| {
        let request = pb::RotateKeyRequest {
            project: "shop".into(),
            environment: "dev".into(),
            key_id: world.dev.server_id.clone(),
            request_id: request_id(22),
            ..Default::default()
        };
        world.app.environments().rotate_key(request).await
    }),
    row!("EnvironmentService/RevokeKey", |world| {
        world
            .app
            .environments()
            .revoke_key(pb::RevokeKeyRequest {
                project: "shop".into(),
                environment: "dev".into(),
                key_id: world.dev.server_id.clone(),
                request_id: request_id(8),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/CreateFlag", |world| {
        world
            .app
            .flags()
            .create_flag(pb::CreateFlagRequest {
                flag: Some(flag("new")),
                request_id: request_id(9),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/UpdateFlag", |world| {
        world
            .app
            .flags()
            .update_flag(pb::UpdateFlagRequest {
                flag: Some(pb::Flag {
                    client_visible: true,
                    ..flag("f")
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["client_visible".into()],
                }),
                request_id: request_id(10),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/UpdateFlagConfiguration", |world| {
        let request = pb::UpdateFlagConfigurationRequest {
            configuration: Some(pb::FlagConfiguration {
                project: "shop".into(),
                environment: "dev".into(),
                flag: "f".into(),
                salt: "s".into(),
                ..Default::default()
            }),
            request_id: request_id(11),
            ..Default::default()
        };
        world.app.flags().update_flag_configuration(request).await
    }),
    row!("FlagService/ToggleFlags", |world| {
        world
            .app
            .flags()
            .toggle_flags(pb::ToggleFlagsRequest {
                request_id: request_id(12),
                ..toggle("f", true)
            })
            .await
    }),
    row!("FlagService/ArchiveFlag", |world| {
        world
            .app
            .flags()
            .archive_flag(pb::ArchiveFlagRequest {
                project: "shop".into(),
                flag: "old".into(),
                request_id: request_id(13),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/RestoreFlag", |world| {
        let request = pb::RestoreFlagRequest {
            project: "shop".into(),
            flag: "archived".into(),
            request_id: request_id(15),
            ..Default::default()
        };
        world.app.flags().restore_flag(request).await
    }),
    row!("FlagService/DeleteFlag", |world| {
        world
            .app
            .flags()
            .delete_flag(pb::DeleteFlagRequest {
                project: "shop".into(),
                flag: "gone".into(),
                request_id: request_id(14),
                ..Default::default()
            })
            .await
    }),
    row!("FlagService/RollbackFlagConfiguration", |world| {
        let request = pb::RollbackFlagConfigurationRequest {
            project: "shop".into(),
            environment: "dev".into(),
            flag: "turned".into(),
            revision: world.turned_on,
            request_id: request_id(16),
            ..Default::default()
        };
        world.app.flags().rollback_flag_configuration(request).await
    }),
    row!("SegmentService/CreateSegment", |world| {
        let request = pb::CreateSegmentRequest {
            segment: Some(segment("new")),
            request_id: request_id(17),
            ..Default::default()
        };
        world.app.segments().create_segment(request).await
    }),
    row!("SegmentService/UpdateSegment", |world| {
        let request = pb::UpdateSegmentRequest {
            segment: Some(pb::Segment {
                name: "Some".into(),
                ..segment("s")
            }),
            request_id: request_id(18),
            ..Default::default()
        };
        world.app.segments().update_segment(request).await
    }),
    row!("SegmentService/DeleteSegment", |world| {
        let request = pb::DeleteSegmentRequest {
            project: "shop".into(),
            segment: "gone".into(),
            request_id: request_id(19),
            ..Default::default()
        };
        world.app.segments().delete_segment(request).await
    }),
    row!("SegmentService/UpdateSegmentConfiguration", |world| {
        let request = pb::UpdateSegmentConfigurationRequest {
            configuration: Some(pb::SegmentConfiguration {
                project: "shop".into(),
                environment: "dev".into(),
                segment: "s".into(),
                included: vec!["bob".into()],
                ..Default::default()
            }),
            request_id: request_id(20),
            ..Default::default()
        };
        world.app.segments().update_segment_configuration(request).await
    }),
    row!("SegmentService/ActivateSegmentUpload", |world| {
        let request = pb::ActivateSegmentUploadRequest {
            project: "shop".into(),
            upload: world.upload.clone(),
            mode: pb::UploadMode::Replace.into(),
            pieces: 1,
            request_id: request_id(21),
            ..Default::default()
        };
        world.app.segments().activate_segment_upload(request).await
    }),
];

/// Every mutation of experiments and layers.
pub const EXPERIMENTS: &[Row] = &[
    row!("ExperimentService/CreateLayer", |world| {
        let request = pb::CreateLayerRequest {
            layer: Some(layer("new")),
            request_id: request_id(60),
            ..Default::default()
        };
        world.app.experiments().create_layer(request).await
    }),
    row!("ExperimentService/DeleteLayer", |world| {
        let request = pb::DeleteLayerRequest {
            project: "shop".into(),
            environment: "dev".into(),
            layer: "gone".into(),
            request_id: request_id(61),
            ..Default::default()
        };
        world.app.experiments().delete_layer(request).await
    }),
    row!("ExperimentService/CreateExperiment", |world| {
        let request = pb::CreateExperimentRequest {
            experiment: Some(experiment("new")),
            request_id: request_id(62),
            ..Default::default()
        };
        world.app.experiments().create_experiment(request).await
    }),
    row!("ExperimentService/UpdateExperiment", |world| {
        let request = pb::UpdateExperimentRequest {
            experiment: Some(pb::Experiment {
                name: "Another name".into(),
                ..experiment("draft")
            }),
            request_id: request_id(63),
            ..Default::default()
        };
        world.app.experiments().update_experiment(request).await
    }),
    row!("ExperimentService/StartExperiment", |world| {
        let request = pb::StartExperimentRequest {
            request_id: request_id(64),
            ..experiments::start("draft")
        };
        world.app.experiments().start_experiment(request).await
    }),
    row!("ExperimentService/PauseExperiment", |world| {
        let request = pb::PauseExperimentRequest {
            project: "shop".into(),
            environment: "dev".into(),
            experiment: "running".into(),
            request_id: request_id(65),
            ..Default::default()
        };
        world.app.experiments().pause_experiment(request).await
    }),
    row!("ExperimentService/ResumeExperiment", |world| {
        let request = pb::ResumeExperimentRequest {
            project: "shop".into(),
            environment: "dev".into(),
            experiment: "paused".into(),
            request_id: request_id(66),
            ..Default::default()
        };
        world.app.experiments().resume_experiment(request).await
    }),
    row!("ExperimentService/StopExperiment", |world| {
        let request = pb::StopExperimentRequest {
            winner: "on".into(),
            make_default: true,
            request_id: request_id(67),
            ..experiments::stop("over")
        };
        world.app.experiments().stop_experiment(request).await
    }),
    row!("ExperimentService/DeleteUnitAssignments", |world| {
        let request = pb::DeleteUnitAssignmentsRequest {
            project: "shop".into(),
            environment: "dev".into(),
            unit: "u".into(),
            request_id: request_id(68),
            ..Default::default()
        };
        world.app.experiments().delete_unit_assignments(request).await
    }),
];

/// Methods that change nothing that anybody sees, and leave no entry.
pub const UNAUDITED: &[Row] = &[
    // What is uploaded is put aside: no answer depends on it until it is activated, which has its entry.
    row!("SegmentService/CreateSegmentUpload", |world| {
        let request = pb::CreateSegmentUploadRequest {
            project: "shop".into(),
            environment: "dev".into(),
            segment: "s".into(),
        };
        world.app.segments().create_segment_upload(request).await
    }),
    row!("SegmentService/UploadSegmentKeys", |world| {
        let request = pb::UploadSegmentKeysRequest {
            project: "shop".into(),
            upload: world.upload.clone(),
            piece: 0,
            keys: vec!["ada".into(), "eve".into()],
        };
        world.app.segments().upload_segment_keys(request).await
    }),
];

fn project(key: &str) -> pb::Project {
    pb::Project {
        key: key.into(),
        ..Default::default()
    }
}

fn environment(key: &str) -> pb::Environment {
    pb::Environment {
        project: "shop".into(),
        key: key.into(),
        ..Default::default()
    }
}

fn segment(key: &str) -> pb::Segment {
    pb::Segment {
        project: "shop".into(),
        key: key.into(),
        ..Default::default()
    }
}

fn layer(key: &str) -> pb::Layer {
    pb::Layer {
        project: "shop".into(),
        environment: "dev".into(),
        key: key.into(),
        ..Default::default()
    }
}

fn experiment(key: &str) -> pb::Experiment {
    pb::Experiment {
        flag: "tried".into(),
        ..experiments::experiment(key)
    }
}

/// Experiments in every state, a layer, and a unit that is assigned.
async fn experimenting(app: &App) {
    let request = pb::CreateLayerRequest {
        layer: Some(layer("gone")),
        ..Default::default()
    };
    app.experiments().create_layer(request).await.unwrap();
    let draft = experiments::create(experiment("draft"));
    app.experiments().create_experiment(draft).await.unwrap();
    for key in ["running", "paused", "over"] {
        experiments::run(app, experiment(key)).await;
    }
    let pause = pb::PauseExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "paused".into(),
        ..Default::default()
    };
    app.experiments().pause_experiment(pause).await.unwrap();
    let assigned = "
        insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        select id, 'u', 'on', 1, now() from experiments where key = 'running'";
    app.database.client().await.batch_execute(assigned).await.unwrap();
}

fn flag(key: &str) -> pb::Flag {
    pb::Flag {
        project: "shop".into(),
        key: key.into(),
        r#type: ValueType::Bool.into(),
        ..Default::default()
    }
}

/// The same for every call of a row: what was refused is not remembered.
pub(super) fn request_id(row: u128) -> String {
    Uuid::from_u128(row).to_string()
}

impl World {
    /// Served by a server that has written nothing yet.
    pub async fn new() -> Self {
        let app = App::start().await;
        let dev = app.shop().await;
        app.environment("shop", "spare").await;
        app.project("other").await;
        for key in ["f", "old", "gone", "archived", "turned", "tried"] {
            app.create_flag(flag(key)).await;
        }
        let archive = pb::ArchiveFlagRequest {
            project: "shop".into(),
            flag: "archived".into(),
            ..Default::default()
        };
        app.flags().archive_flag(archive).await.unwrap();
        let turned_on = app.toggle("turned", true).await;
        app.toggle("turned", false).await;
        words::segment(&app, "s").await;
        words::segment(&app, "gone").await;
        let upload = pb::CreateSegmentUploadRequest {
            project: "shop".into(),
            environment: "dev".into(),
            segment: "s".into(),
        };
        let upload = app
            .segments()
            .create_segment_upload(upload)
            .await
            .unwrap()
            .into_inner()
            .upload;
        experimenting(&app).await;
        let people = People::new(&app).await;
        let App {
            database,
            server,
            channel: _,
            token,
        } = app;
        server.stop().await.unwrap();
        let mut options = options(&database);
        options.accounts.sign_up = SignUp::On;
        let server = Server::start(options).await.unwrap();
        within("the first state", server.ready()).await;
        let channel = connect(&server).await;
        let app = App {
            database,
            server,
            channel,
            token,
        };
        Self {
            app,
            dev,
            turned_on,
            upload,
            people,
        }
    }
}
