//! A whole PC.

pub mod board;
mod decode;
pub mod run;
