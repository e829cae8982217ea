//! Why a stored flag or segment cannot be compiled.
//!
//! The service does not write such things; a hand at the database does, or a newer version. What is refused here is what
//! `domain::check` refuses when a flag is written, save its limits on sizes: what grew too large has a clear meaning.

use std::sync::Arc;

use crate::domain::form::Unreadable;
use crate::domain::key;
use crate::domain::operand::Unfit;

/// Why a flag or a segment cannot be compiled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Malformed {
    /// A form is not the JSON of its item, or of a format that this version does not read.
    #[error(transparent)]
    Unreadable(Arc<Unreadable>),
    /// The definition is that of another flag than the item's key says.
    #[error("the definition is that of flag {0}")]
    OtherFlag(key::Flag),
    /// The definition has no variants.
    #[error("the flag has no variants")]
    NoVariants,
    /// A variant is defined twice, or has two shares of a split.
    #[error("variant {0} is there twice")]
    VariantTwice(key::Variant),
    /// A variant's value is not of the flag's type.
    #[error("variant {0} has a value of another type than the flag's")]
    VariantType(key::Variant),
    /// Something names a variant that the flag does not have.
    #[error("{0} is not a variant of the flag")]
    UnknownVariant(key::Variant),
    /// Two rules have one key.
    #[error("rule {0} is there twice")]
    RuleTwice(key::Rule),
    /// A rule has no conditions.
    #[error("rule {0} has no conditions")]
    NoConditions(key::Rule),
    /// A prerequisite names no variants.
    #[error("the prerequisite {0} names no variants")]
    Prerequisite(key::Flag),
    /// A condition or a split names no attribute.
    #[error("a condition or split names no attribute")]
    NoAttribute,
    /// A condition has no values, too many, or values of a type that its operator does not compare with.
    #[error("a condition on {0} has values that its operator cannot compare with")]
    Values(String),
    /// A condition has a value that is not of the kind that its operator compares with.
    #[error("a condition on {attribute} has a value that {unfit}")]
    Unfit {
        /// What the condition asks about.
        attribute: String,
        /// What is wrong with the value.
        unfit: Unfit,
    },
    /// A condition on segments names an attribute.
    #[error("a condition on segments names the attribute {0}")]
    Attribute(String),
    /// A condition on segments has no values, or some that are not keys of segments.
    #[error("a condition on segments has values that are not keys of segments")]
    Segments,
    /// The weights of a split sum to zero, or to more than can be bucketed.
    #[error("the weights of a split sum to {0}")]
    Weights(u64),
    /// The chunks of a key list are so many that no key would find its own.
    #[error("the key list has {0} chunks, which is no power of two")]
    Chunks(u32),
    /// A chunk of a key list cannot be read.
    #[error("chunk {chunk} of the key list: {error}")]
    Chunk {
        /// Its number.
        chunk: u32,
        /// Why.
        error: Arc<Unreadable>,
    },
    /// A chunk of a key list is too large to be kept.
    #[error("chunk {0} of the key list is larger than 4 GiB")]
    ChunkSize(u32),
}

impl From<Unreadable> for Malformed {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(Arc::new(unreadable))
    }
}
