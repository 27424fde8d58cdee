//! Awkward instructions, one family a file.

use iced_x86::Code;

use super::Helper;

pub mod bcd;
pub mod bits;
pub mod far;
pub mod flag;
pub mod operand;
pub mod random;
pub mod string;
pub mod system;
pub mod text;
pub mod vector;
pub mod x87;

/// The helper of an instruction, where it has one.
pub fn find(code: Code) -> Option<Helper> {
    far::find(code)
        .or_else(|| system::find(code))
        .or_else(|| flag::find(code))
        .or_else(|| string::find(code))
        .or_else(|| bcd::find(code))
        .or_else(|| x87::find(code))
        .or_else(|| vector::find(code))
        .or_else(|| random::find(code.mnemonic()))
        .or_else(|| bits::find(code.mnemonic()))
        .or_else(|| text::find(code.mnemonic()))
}
