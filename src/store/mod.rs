//! PostgreSQL: all of the SQL.

pub mod feed;
