//! Why a stored flag cannot be compiled.
//!
//! The service does not write such flags; a hand at the database does, or a newer version. What is refused here is what
//! `domain::check` refuses when a flag is written, save its limits on sizes: a flag that grew too large has a clear meaning.

use std::sync::Arc;

use crate::domain::form::Unreadable;
use crate::domain::key;

/// Why a flag cannot be compiled.
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
    /// A condition or a split names no attribute.
    #[error("a condition or split names no attribute")]
    NoAttribute,
    /// A condition has no values, too many, or values of a type that its operator does not compare with.
    #[error("a condition on {0} has values that its operator cannot compare with")]
    Values(String),
    /// The weights of a split sum to zero, or to more than can be bucketed.
    #[error("the weights of a split sum to {0}")]
    Weights(u64),
}

impl From<Unreadable> for Malformed {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(Arc::new(unreadable))
    }
}
