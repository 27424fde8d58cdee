//! A whole PC.

pub mod board;
mod decode;
mod frozen;
mod interrupts;
mod media;
pub mod run;
