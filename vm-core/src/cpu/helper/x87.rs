//! x87 instructions.

use iced_x86::Code;

use crate::cpu::Helper;

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    let _ = code;
    None
}
