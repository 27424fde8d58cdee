//! A whole PC.

pub mod board;
mod decode;
mod frozen;
mod media;
pub mod run;
