//! The edge: the only place that knows proto and status codes.
//!
//! A request passes through [`front`] (which method, who is calling, on which runtime, by when), is converted by [`convert`],
//! answered by a service that [`services`] finds ([`admin`], [`evaluation`], [`watch`]), and refused, if it is, by [`status`].
//!
//! Architecture invariant: nothing here writes SQL or decides what a flag answers.

pub mod admin;
pub mod arriving;
pub mod assignments;
pub mod codec;
pub mod convert;
pub mod evaluation;
pub mod front;
pub mod health;
pub mod leaving;
pub mod methods;
pub mod reflection;
pub mod services;
mod states;
pub mod status;
pub mod track;
mod upstream;
pub mod watch;

pub use status::Refusal;

/// What every service method returns.
pub type Answer<T> = Result<tonic::Response<T>, tonic::Status>;
