//! Templates of x87 instructions: the host's own, on the host's x87, which is the guest's meanwhile.
//!
//! The first such op of a block lends it (FRSTOR); before any Rust code runs that may look, it is given back (FXSAVE, in the stubs,
//! and [`settle`]). It is lent only while all exceptions are masked, so that nothing is ever pending and each instruction leaves
//! on the host what it leaves on the guest: registers, tags, TOP, condition codes and exceptions. The pointers to instruction and
//! operand are the guest's own, and are written beside each instruction.

use std::mem::offset_of;

use super::emitter::{Group1, Mem, Reg};
use super::memory::Linear;
use super::registers::{exec, processor, state};
use super::translator::{Aside, Cold, Translator};
use crate::cpu::Cpu;
use crate::cpu::fpu::Fpu;
use crate::cpu::fpu::bits::EXCEPTIONS;
use crate::cpu::interp::Exec;
use crate::cpu::state::{CpuState, SegReg, Segment, cr0};
use crate::cpu::uop::{Cond, Ea, Size, Uop, X87, X87Access};

/// Prepares the picture that the stub loads; false: the host's x87 cannot stand for the guest's now.
pub(super) unsafe extern "sysv64" fn lend(cpu: *mut Cpu) -> bool {
    // SAFETY: native code passes the processor that runs it.
    let cpu = unsafe { &mut *cpu };
    let there = cpu.state.cr[0] & (cr0::EM | cr0::TS) == 0;
    if !there || !cpu.fpu.masked(EXCEPTIONS) || cpu.fpu.pending() || cpu.fpu.ferr || cpu.fpu.ignne {
        return false;
    }
    cpu.exec.native.picture.draw(&cpu.fpu);
    cpu.exec.native.x87 = 1;
    true
}

/// Takes over what the stubs have saved of the host's x87, where it was lent.
#[inline]
pub(super) fn settle(cpu: &mut Cpu) {
    if cpu.exec.native.x87 != 0 {
        cpu.exec.native.x87 = 0;
        cpu.exec.native.picture.read(&mut cpu.fpu);
    }
}

const fn fpu(offset: usize) -> Mem {
    processor(offset_of!(Cpu, fpu) + offset)
}

const LENT: Mem = exec(offset_of!(Exec, native.x87));
const CONTROL: Mem = fpu(offset_of!(Fpu, control));

fn selector(segment: usize) -> Mem {
    state(offset_of!(CpuState, seg) + segment * size_of::<Segment>() + offset_of!(Segment, selector))
}

/// FUCOMI and FCOMI of the same register without a pop: their first byte is 3, with a pop 7.
const WITHOUT_POP: u8 = 3;

impl Translator<'_> {
    /// Sees to it that the host's x87 is the guest's; where it cannot be, the interpreter executes the op. `flags`: the template
    /// leaves flags in the host's.
    fn need_x87(&mut self, flags: bool) {
        self.asm.alu_mem_imm(Size::B, Group1::Cmp, LENT, 0);
        let jump = self.asm.jcc_forward(Cond::E);
        self.host_flags_gone();
        let resume = self.asm.here();
        let aside = Aside { flags, ..self.aside(self.index) };
        self.cold.push(Cold::X87 { jump, resume, aside });
    }

    /// Notes the instruction, and its operand, as the x87 does. Leaves the host's flags. Uses R11 and R14.
    fn note_x87(&mut self, uop: &Uop, operand: Option<(Linear, usize)>) {
        let eip = self.eip_of(uop);
        let place = fpu(offset_of!(Fpu, instruction_offset));
        if !self.relative && i32::try_from(eip).is_ok() {
            self.asm.store_imm(Size::Q, place, eip);
        } else {
            self.absolute(Reg::R11, eip);
            self.asm.store(Size::Q, place, Reg::R11);
        }
        self.note_selector(SegReg::Cs as usize, offset_of!(Fpu, instruction_selector));
        if let Some((Linear { reg, disp }, segment)) = operand {
            self.asm.lea(Size::D, Reg::R11, Mem::Base(reg, disp));
            self.asm.store(Size::Q, fpu(offset_of!(Fpu, operand_offset)), Reg::R11);
            self.note_selector(segment, offset_of!(Fpu, operand_selector));
        }
    }

    fn note_selector(&mut self, segment: usize, offset: usize) {
        self.asm.load_widen(false, Size::W, Size::D, Reg::R11, selector(segment));
        self.asm.store(Size::W, fpu(offset), Reg::R11);
    }

    pub fn x87(&mut self, uop: &Uop, kind: X87) -> bool {
        let (escape, second) = ((uop.imm2 >> 8 & 7) as u8, uop.imm2 as u8);
        self.need_x87(kind == X87::Compares);
        match kind {
            X87::Plain => self.asm.x87(escape, second),
            X87::Tests => {
                // FCMOVB, FCMOVE, FCMOVBE, FCMOVU, and the same negated with another first byte.
                let cond = match second >> 3 & 3 {
                    0 => Cond::B,
                    1 => Cond::E,
                    2 => Cond::Be,
                    _ => Cond::P,
                };
                self.need_condition(cond);
                self.asm.x87(escape, second);
                // Where the interpreter has done it, the host's flags are others.
                self.host_flags_gone();
            }
            X87::Compares => {
                // C1 is cleared, which not every processor does here: these two leave all else as it is.
                self.asm.x87(1, 0xf6);
                self.asm.x87(1, 0xf7);
                // Once without a pop for the flags that are remembered, and again for those of the host.
                self.asm.x87(WITHOUT_POP, second);
                self.remember_comparison();
                self.asm.x87(escape, second);
                self.comparison_in_host_flags();
            }
            X87::Status => {
                self.asm.x87(escape, second);
                return true;
            }
        }
        self.note_x87(uop, None);
        true
    }

    pub fn x87_memory(&mut self, uop: &Uop, access: X87Access, ea: Ea) -> bool {
        let (escape, field, segment) =
            ((uop.imm2 >> 8 & 7) as u8, (uop.imm2 >> 3 & 7) as u8, (uop.imm2 & 7).min(5) as usize);
        self.need_x87(false);
        let write = matches!(access, X87Access::Write | X87Access::WriteWord);
        // Ten bytes are checked as sixteen: near the end of a page the interpreter does it.
        let bytes = u32::from(uop.d).next_power_of_two().min(16);
        let Some((host, linear)) = self.checked(uop, ea, bytes, write) else { return false };
        match access {
            X87Access::Read | X87Access::Write => {
                self.asm.x87_mem(escape, field, host);
                self.note_x87(uop, Some((linear, segment)));
            }
            // FNSTSW, and FNSTCW as the guest has set it.
            X87Access::WriteWord if escape == 5 => self.asm.x87_mem(escape, field, host),
            X87Access::WriteWord => {
                self.asm.load(Size::W, Reg::R14, CONTROL);
                self.asm.store(Size::W, host, Reg::R14);
            }
            X87Access::Control => {
                self.asm.load_widen(false, Size::W, Size::D, Reg::R14, host);
                self.asm.mov(Size::D, Reg::R11, Reg::R14);
                self.asm.alu_imm(Size::D, Group1::And, Reg::R11, u32::from(EXCEPTIONS));
                self.asm.alu_imm(Size::D, Group1::Cmp, Reg::R11, u32::from(EXCEPTIONS));
                let unmasked = self.asm.jcc_forward(Cond::Ne);
                self.cold_op(unmasked);
                self.asm.alu_imm(Size::D, Group1::And, Reg::R14, 0x1f3f);
                self.asm.alu_imm(Size::D, Group1::Or, Reg::R14, 0x40);
                self.asm.store(Size::W, CONTROL, Reg::R14);
                self.asm.x87_mem(escape, field, CONTROL);
            }
        }
        true
    }
}
