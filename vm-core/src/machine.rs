//! A whole PC.

pub mod board;
mod decode;
mod interrupts;
mod media;
pub mod run;
