//! A whole PC.

pub mod board;
mod decode;
mod fdc_absent;
pub mod run;
