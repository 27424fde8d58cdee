//! A whole PC.

pub mod board;
mod decode;
mod media;
pub mod run;
