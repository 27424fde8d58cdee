//! From templates to a region that Cranelift has compiled, and back.
//!
//! A block with a region keeps its templates, but what leads to it leads to a few instructions that say which region it is. They end
//! in code that all have in common: registers go to the state, which a region reads and writes.

use super::Native;
use super::emitter::{Assembler, Reg};
use super::registers::{reload, spill};
use super::stubs::{Stubs, call, store_vectors};
use super::x87;
use crate::cpu::uop::{Cond, Size};
use crate::cpu::{Cpu, cranelift};

/// Emits what all blocks with a region have in common: runs the one whose number is in R11. The result is its host address.
pub(super) fn emit(asm: &mut Assembler, stubs: &Stubs) -> u64 {
    let here = asm.here();
    spill(asm);
    store_vectors(asm);
    asm.mov(Size::D, Reg::Rsi, Reg::R11);
    call(asm, run as *const () as u64);
    asm.mov(Size::Q, Reg::R11, Reg::Rax);
    reload(asm);
    asm.test(Size::Q, Reg::R11, Reg::R11);
    asm.jcc(Cond::E, stubs.leave);
    asm.jmp_reg(Reg::R11);
    here
}

/// Runs a region. The result is where templates go on, or 0: out, and the state says where.
unsafe extern "sysv64" fn run(cpu: *mut Cpu, number: u32) -> u64 {
    // SAFETY: templates pass the processor that runs them, and have lent it the bus.
    let cpu = unsafe { &mut *cpu };
    x87::settle(cpu);
    // SAFETY: as above.
    if !unsafe { cranelift::run(cpu, number) } {
        return 0;
    }
    let next = cpu.after_region();
    cpu.code.stats.leaves.jump += u64::from(next == 0);
    next
}

impl Native {
    /// Code that leads to a region. `None`: there is no more room.
    pub fn lead_to(&mut self, region: u32) -> Option<u64> {
        self.asm.start(self.memory.code() + self.used as u64);
        let entry = self.asm.here();
        self.asm.mov_imm(Size::D, Reg::R11, region);
        self.asm.jmp(self.region);
        self.keep()?;
        Some(entry)
    }
}
