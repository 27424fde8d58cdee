//! A whole PC.

pub mod board;
mod decode;
mod frozen;
pub mod interrupts;
mod media;
pub mod run;
