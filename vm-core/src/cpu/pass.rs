//! Passes over blocks of micro-ops.

mod flags;
mod fuse;

pub use flags::{dead_flags, live_flags, live_flags_before, tested};
pub use fuse::fuse;
