//! The watch service: the hub's messages; what many streams send is encoded once.

mod body;
mod codec;
mod encode;
mod evaluations;
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

pub use body::Streaming;
pub use codec::{AnswersCodec, ItemsCodec};
pub use generated::watch_service_server::{WatchService, WatchServiceServer};
pub use service::Watch;
