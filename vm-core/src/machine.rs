//! A whole PC.

pub mod board;
pub mod run;
