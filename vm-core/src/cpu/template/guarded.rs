//! Templates of what a system does with its flags: CLI, STI, PUSHFD, POPFD. Intel SDM vol. 2.
//!
//! At level 0 alone, and where nothing but flags changes: what single-steps, checks alignment or lets a waiting interrupt in is the
//! interpreter's.

use std::mem::offset_of;

use super::emitter::{Assembler, Fixup, Group1, Mem, Reg};
use super::flags::{KIND, VALUE, kind};
use super::memory::Linear;
use super::registers::state;
use super::translator::Translator;
use super::{run, stubs};
use crate::cpu::flags::{AC, ARITHMETIC, DF, ID, IF, IOPL, Lazy, NT, RF, TF, VM};
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Cond, Guarded, Size, Uop};

/// The top of the stack.
const TOP: Linear = Linear { reg: Reg::R8, disp: 0 };
/// What a push writes.
const BELOW: Linear = Linear { reg: Reg::R8, disp: -4 };

/// The jump is for other levels than 0.
fn check_level(asm: &mut Assembler) -> Fixup {
    asm.alu_mem_imm(Size::B, Group1::Cmp, state(offset_of!(CpuState, cpl)), 0);
    asm.jcc_forward(Cond::Ne)
}

/// The jump is for where an interrupt waits. Uses R14.
fn check_pending(asm: &mut Assembler) -> Fixup {
    stubs::call_aside(asm, run::interrupt_pending as *const () as u64);
    asm.test(Size::D, Reg::R14, Reg::R14);
    asm.jcc_forward(Cond::Ne)
}

/// Returns with "equal"; where the jumps come from, with "not equal".
fn outcome(asm: &mut Assembler, jumps: &[Fixup]) {
    asm.alu(Size::D, Group1::Cmp, Reg::R14, Reg::R14);
    asm.ret();
    for &jump in jumps {
        asm.bind(jump);
    }
    asm.ret();
}

/// Sets IF where no interrupt waits. Uses R14.
pub(super) fn sti(asm: &mut Assembler) {
    let level = check_level(asm);
    asm.test_mem_imm(Size::D, VALUE, IF);
    let set = asm.jcc_forward(Cond::Ne);
    let pending = check_pending(asm);
    asm.alu_mem_imm(Size::D, Group1::Or, VALUE, IF);
    asm.bind(set);
    outcome(asm, &[level, pending]);
}

/// Takes over the flags in R10. Uses R11 and R14.
pub(super) fn popf(asm: &mut Assembler) {
    let level = check_level(asm);
    asm.load(Size::D, Reg::R11, VALUE);
    asm.alu(Size::D, Group1::Xor, Reg::R11, Reg::R10);
    asm.test_imm(Size::D, Reg::R11, TF | IOPL | AC);
    let more = asm.jcc_forward(Cond::Ne);
    asm.test_imm(Size::D, Reg::R11, IF);
    let stays = asm.jcc_forward(Cond::E);
    asm.test_imm(Size::D, Reg::R10, IF);
    let cleared = asm.jcc_forward(Cond::E);
    let pending = check_pending(asm);
    asm.bind(cleared);
    asm.bind(stays);
    asm.alu_imm(Size::D, Group1::And, Reg::R11, ARITHMETIC | DF | NT | ID | IF);
    // XOR m, r.
    asm.rm(Size::D, (Group1::Xor as u32) << 3, Reg::R11, VALUE);
    asm.store_imm(Size::D, KIND, kind(Lazy::Eager, Size::D));
    outcome(asm, &[level, more, pending]);
}

impl Translator<'_> {
    pub fn guarded(&mut self, uop: &Uop, what: Guarded) -> bool {
        match what {
            Guarded::Cli => {
                let level = check_level(self.asm);
                self.host_flags_gone();
                self.cold_op(level);
                self.asm.alu_mem_imm(Size::D, Group1::And, VALUE, !IF);
            }
            // What follows an STI comes before any interrupt: it must stand in the same block.
            Guarded::Sti if self.is_last(uop) => return false,
            Guarded::Sti => {
                self.asm.call(self.stubs.sti);
                self.may_be_more();
            }
            Guarded::Pushf => {
                self.need_host_flags(ARITHMETIC);
                self.asm.plain(0x9c);
                self.asm.pop(Reg::R10);
                self.asm.alu_imm(Size::D, Group1::And, Reg::R10, ARITHMETIC);
                self.asm.load(Size::D, Reg::R11, VALUE);
                self.asm.alu_imm(Size::D, Group1::And, Reg::R11, !(VM | RF | ARITHMETIC));
                self.asm.alu(Size::D, Group1::Or, Reg::R10, Reg::R11);
                let Some(host) = self.check(BELOW, 4, true) else { return false };
                self.asm.store(Size::D, host, Reg::R10);
                self.asm.lea(Size::D, Reg::R8, Mem::Base(Reg::R8, -4));
            }
            Guarded::Popf => {
                self.pay();
                let Some(host) = self.check(TOP, 4, false) else { return false };
                self.asm.load(Size::D, Reg::R10, host);
                self.asm.call(self.stubs.popf);
                self.may_be_more();
                self.asm.lea(Size::D, Reg::R8, Mem::Base(Reg::R8, 4));
                self.flags_unknown();
            }
        }
        true
    }

    /// The interpreter executes the op where a stub said "not equal".
    fn may_be_more(&mut self) {
        let more = self.asm.jcc_forward(Cond::Ne);
        self.host_flags_gone();
        self.cold_op(more);
    }
}
