//! How the program reaches PostgreSQL: over TLS or not, with which password, and with which schema.

mod commands;
mod encrypted;
mod modes;
mod schema;
mod silent;
