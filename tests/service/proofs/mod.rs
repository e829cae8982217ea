//! That accounts, roles, keys and tokens hold: looked at from outside, through gRPC alone, by those who would get around them.

mod accepting;
mod addresses;
mod hostile;
mod makers;
mod owners;
mod protected;
mod races;
mod revocations;
mod tokens;
