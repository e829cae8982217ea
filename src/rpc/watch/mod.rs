//! The watch service: the hub's messages; items are encoded once and sent to many.

mod encode;
mod evaluations;
mod frame;
mod service;

/// The server's side of the service, generated with our codec.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated {
    include!(concat!(
        env!("OUT_DIR"),
        "/shared/halyard.evaluation.v1.WatchService.rs"
    ));
}

pub use frame::{AnswersCodec, Frame, ItemsCodec};
pub use generated::watch_service_server::{WatchService, WatchServiceServer};
pub use service::Watch;
