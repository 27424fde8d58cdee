//! Passes over blocks of micro-ops.

mod flags;
mod fuse;

pub use flags::dead_flags;
pub use fuse::fuse;
