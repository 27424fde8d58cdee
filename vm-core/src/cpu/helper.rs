//! Awkward instructions, one family a file.

pub mod bcd;
pub mod far;
pub mod operand;
pub mod string;
pub mod system;
pub mod x87;
