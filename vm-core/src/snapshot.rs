//! Saved states.

pub mod section;
