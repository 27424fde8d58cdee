//! A whole PC.

pub mod board;
mod decode;
mod interrupts;
pub mod run;
