//! What the proto files generate. Only `rpc`, `upstream` and the command line may use it.

#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// `halyard.admin.v1`
pub mod admin {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("halyard.admin.v1");
    }
}

/// `halyard.evaluation.v1`
pub mod evaluation {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("halyard.evaluation.v1");
    }
}

/// Every file's description, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("halyard");
