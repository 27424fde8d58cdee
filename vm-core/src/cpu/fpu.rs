//! x87 state and 80-bit arithmetic (Intel SDM vol. 1, chapter 8).
//!
//! [`Fpu`] is the programmer's view: eight registers, control, status and tag words. The numbers are [`F80`];
//! what one operation does to them is in [`arith`], [`convert`] and [`transcendental`], which know no register stack.

pub mod arith;
pub mod convert;
pub mod float;
pub mod picture;
pub mod transcendental;

use serde::{Deserialize, Serialize};

use float::{Context, F80};

/// Bits of the status word, and of the exceptions in the control word.
pub mod bits {
    /// Invalid operation.
    pub const IE: u16 = 1 << 0;
    /// Denormal operand.
    pub const DE: u16 = 1 << 1;
    /// Division by zero.
    pub const ZE: u16 = 1 << 2;
    /// Overflow.
    pub const OE: u16 = 1 << 3;
    /// Underflow.
    pub const UE: u16 = 1 << 4;
    /// Inexact.
    pub const PE: u16 = 1 << 5;
    /// The six exceptions.
    pub const EXCEPTIONS: u16 = 0x3f;
    /// Stack fault.
    pub const SF: u16 = 1 << 6;
    /// Summary of the unmasked exceptions.
    pub const ES: u16 = 1 << 7;
    /// Condition codes.
    pub const C0: u16 = 1 << 8;
    /// Rounded up, or the direction of a stack fault.
    pub const C1: u16 = 1 << 9;
    /// Unordered, or a reduction that is not complete.
    pub const C2: u16 = 1 << 10;
    /// Equal.
    pub const C3: u16 = 1 << 14;
    /// Busy; a copy of [`ES`] since the 387.
    pub const BUSY: u16 = 1 << 15;
}

use bits::{BUSY, C0, C1, C2, C3, DE, ES, EXCEPTIONS, IE, SF, ZE};

/// The x87 unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fpu {
    /// The registers by physical number; `ST(i)` is number `top + i`.
    pub registers: [F80; 8],
    /// One bit for each physical register that holds something.
    pub valid: u8,
    /// The control word.
    pub control: u16,
    /// The status word without TOP.
    pub status: u16,
    /// Physical number of `ST(0)`, 0–7.
    pub top: u8,
    /// Offset of the last instruction that was not a control instruction.
    pub instruction_offset: u64,
    /// Its code segment.
    pub instruction_selector: u16,
    /// Offset of its memory operand, if it had one.
    pub operand_offset: u64,
    /// The operand's segment.
    pub operand_selector: u16,
    /// The low eleven bits of its opcode.
    pub opcode: u16,
    /// The FERR# pin: an unmasked exception met a waiting instruction while CR0.NE was clear. The board turns a rising
    /// level into IRQ 13; a write to port 0xF0 (IGNNE#) clears it.
    pub ferr: bool,
    /// The IGNNE# pin: the guest wrote port 0xF0, so waiting instructions go on until the exception is cleared.
    pub ignne: bool,
}

impl Default for Fpu {
    /// After reset (Intel SDM vol. 3A, table 9-1): as FNINIT leaves it, but for registers of +0 with tags "valid" and a
    /// control word of 0x40.
    fn default() -> Self {
        Self {
            registers: [F80::ZERO; 8],
            valid: 0xff,
            control: 0x40,
            status: 0,
            top: 0,
            instruction_offset: 0,
            instruction_selector: 0,
            operand_offset: 0,
            operand_selector: 0,
            opcode: 0,
            ferr: false,
            ignne: false,
        }
    }
}

impl Fpu {
    /// FNINIT.
    pub fn init(&mut self) {
        self.set_control(0x37f);
        self.status = 0;
        self.top = 0;
        self.valid = 0;
        self.instruction_offset = 0;
        self.instruction_selector = 0;
        self.operand_offset = 0;
        self.operand_selector = 0;
        self.opcode = 0;
        self.lower_ferr();
    }

    /// Replaces the control word; reserved bits keep their fixed values.
    pub fn set_control(&mut self, value: u16) {
        self.control = value & 0x1f3f | 0x40;
        self.update_summary();
    }

    /// The status word with TOP in its place.
    pub fn status_word(&self) -> u16 {
        self.status | (self.top as u16 & 7) << 11
    }

    /// Replaces the status word (FLDENV, FRSTOR); ES and B follow from exceptions and masks.
    pub fn set_status_word(&mut self, value: u16) {
        self.top = (value >> 11 & 7) as u8;
        self.status = value & (EXCEPTIONS | SF | C0 | C1 | C2 | C3);
        self.update_summary();
    }

    /// The tag word: two bits a register: 0 a number, 1 zero, 2 special, 3 empty.
    pub fn tag_word(&self) -> u16 {
        (0..8).fold(0, |word, i| {
            let tag = if self.valid >> i & 1 == 0 { 3 } else { self.registers[i].tag() };
            word | tag << (2 * i)
        })
    }

    /// Replaces the tag word. Only "empty" is kept; the other tags follow from the contents.
    pub fn set_tag_word(&mut self, value: u16) {
        self.valid = (0..8).fold(0, |valid, i| valid | u8::from(value >> (2 * i) & 3 != 3) << i);
    }

    /// FNCLEX.
    pub fn clear_exceptions(&mut self) {
        self.status &= !(EXCEPTIONS | SF | ES | BUSY);
        self.lower_ferr();
    }

    /// Whether an unmasked exception waits to be reported.
    pub fn pending(&self) -> bool {
        self.status & ES != 0
    }

    fn lower_ferr(&mut self) {
        self.ferr = false;
        self.ignne = false;
    }

    /// A write to port 0xF0: FERR# goes down and the exception is ignored until it is cleared.
    pub fn ignore_error(&mut self) {
        if self.pending() {
            self.ignne = true;
        }
        self.ferr = false;
    }

    fn update_summary(&mut self) {
        if self.status & !self.control & EXCEPTIONS == 0 {
            self.status &= !(ES | BUSY);
            self.lower_ferr();
        } else {
            self.status |= ES | BUSY;
        }
    }

    /// Adds exceptions to the status word.
    pub fn raise(&mut self, exceptions: u16) {
        self.status |= exceptions & (EXCEPTIONS | SF);
        self.update_summary();
    }

    /// Whether all of `exceptions` are masked.
    pub fn masked(&self, exceptions: u16) -> bool {
        exceptions & !self.control & EXCEPTIONS == 0
    }

    /// Sets or clears C1.
    pub fn set_c1(&mut self, on: bool) {
        self.status = self.status & !C1 | if on { C1 } else { 0 };
    }

    /// Replaces C3, C2, C1 and C0.
    pub fn set_conditions(&mut self, value: u16) {
        self.status = self.status & !(C0 | C1 | C2 | C3) | value & (C0 | C1 | C2 | C3);
    }

    /// Rounding, precision and masks for one operation.
    pub fn context(&self) -> Context {
        Context::from_control(self.control)
    }

    /// Takes over what an operation raised. `true`: the operation may deliver its result; `false`: an unmasked
    /// invalid, denormal or zero-divide exception has stopped it before it changed anything.
    pub fn commit(&mut self, context: &Context) -> bool {
        self.raise(context.raised);
        self.set_c1(context.rounded_up);
        self.masked(context.raised & (IE | DE | ZE))
    }

    /// Physical number of `ST(i)`.
    pub fn index(&self, i: u8) -> usize {
        (self.top.wrapping_add(i) & 7) as usize
    }

    /// Whether `ST(i)` is empty.
    pub fn is_empty(&self, i: u8) -> bool {
        self.valid >> self.index(i) & 1 == 0
    }

    /// `ST(i)` as it is, empty or not.
    pub fn get(&self, i: u8) -> F80 {
        self.registers[self.index(i)]
    }

    /// Writes `ST(i)` and marks it as used.
    pub fn set(&mut self, i: u8, value: F80) {
        let index = self.index(i);
        self.registers[index] = value;
        self.valid |= 1 << index;
    }

    /// Marks `ST(i)` as empty.
    pub fn free(&mut self, i: u8) {
        self.valid &= !(1 << self.index(i));
    }

    /// Empties `ST(0)` and moves TOP on.
    pub fn pop(&mut self) {
        self.free(0);
        self.top = self.top.wrapping_add(1) & 7;
    }

    /// Makes room and writes the new `ST(0)`.
    pub fn push(&mut self, value: F80) {
        self.top = self.top.wrapping_sub(1) & 7;
        self.set(0, value);
    }

    /// Records a stack underflow. Returns whether it is masked, so that the default NaN stands in.
    pub fn stack_underflow(&mut self) -> bool {
        self.set_c1(false);
        self.raise(IE | SF);
        self.masked(IE)
    }

    /// Records a stack overflow. Returns whether it is masked.
    pub fn stack_overflow(&mut self) -> bool {
        self.set_c1(true);
        self.raise(IE | SF);
        self.masked(IE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_contents() {
        let mut fpu = Fpu::default();
        fpu.init();
        assert_eq!((fpu.tag_word(), fpu.control, fpu.status_word()), (0xffff, 0x37f, 0));
        fpu.push(F80::ONE);
        fpu.push(F80::ZERO);
        fpu.push(F80::INDEFINITE);
        assert_eq!(fpu.status_word(), 5 << 11);
        assert_eq!(fpu.tag_word(), 0b00_01_10_11_11_11_11_11);
        fpu.set_tag_word(0xffff);
        assert_eq!(fpu.valid, 0);
    }

    #[test]
    fn an_unmasked_exception_shows_in_the_summary_until_it_is_cleared() {
        let mut fpu = Fpu::default();
        fpu.init();
        fpu.raise(ZE);
        assert!(!fpu.pending());
        fpu.set_control(0x37f & !ZE);
        assert!(fpu.pending());
        assert_eq!(fpu.status_word(), ZE | ES | BUSY);
        fpu.clear_exceptions();
        assert_eq!(fpu.status_word(), 0);
    }
}
