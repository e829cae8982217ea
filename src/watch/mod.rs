//! From hints to streams: one immutable state per environment, and the streams that follow it.

pub mod source;
