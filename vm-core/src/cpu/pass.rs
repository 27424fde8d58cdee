//! Passes over blocks of micro-ops.

mod flags;
mod fuse;

pub use flags::{FlagLives, dead_flags, flag_lives, live_flags_before, replaces_flags, tested};
pub use fuse::fuse;
