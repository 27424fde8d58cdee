//! Which host register holds what, and where in memory the rest is.
//!
//! | host | holds |
//! |---|---|
//! | RAX RCX RDX RBX RSI RDI | the guest's registers of those names, so that multiplications, shifts and AH need no moves |
//! | R8 R9 | ESP, EBP |
//! | R10 | the temporary T0 |
//! | R13 | the temporary TA; addresses; between load and store of one instruction the host address |
//! | R11 R14 | nothing for long |
//! | R12 | the TLB's generation, shifted: what a site's tag begins with |
//! | R15 | instructions that may still be entered |
//! | RBP | the processor's state, 128 bytes in |
//! | RSP | the host's stack, 16-byte aligned between instructions |

use std::mem::offset_of;

use super::emitter::{Assembler, Mem, Reg};
use crate::cpu::Cpu;
use crate::cpu::interp::Exec;
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Size, T0, TA, ZERO};

/// [`Mem::Base`] of RBP reaches 128 bytes back with a short displacement.
const BIAS: i32 = 128;

/// The guest's registers in host registers, by number.
pub(super) const GPRS: [Reg; 8] = [Reg::Rax, Reg::Rcx, Reg::Rdx, Reg::Rbx, Reg::R8, Reg::R9, Reg::Rsi, Reg::Rdi];

/// What is written to the state before Rust code looks at it, and read back after.
const SPILLED: [(u8, Reg); 10] = [
    (0, Reg::Rax),
    (8, Reg::Rcx),
    (16, Reg::Rdx),
    (24, Reg::Rbx),
    (32, Reg::R8),
    (40, Reg::R9),
    (48, Reg::Rsi),
    (56, Reg::Rdi),
    (T0, Reg::R10),
    (TA, Reg::R13),
];

/// The byte at an offset of the state.
pub(super) const fn state(offset: usize) -> Mem {
    Mem::Base(Reg::Rbp, offset as i32 - BIAS)
}

/// The byte at an offset of the processor.
pub(super) const fn processor(offset: usize) -> Mem {
    Mem::Base(Reg::Rbp, offset as i32 - offset_of!(Cpu, state) as i32 - BIAS)
}

/// The byte at an offset of what the engine knows while it runs.
pub(super) const fn exec(offset: usize) -> Mem {
    processor(offset_of!(Cpu, exec) + offset)
}

/// What RBP holds for a processor.
pub(super) fn state_pointer(cpu: *mut Cpu) -> *mut u8 {
    cpu.cast::<u8>().wrapping_add(offset_of!(Cpu, state) + BIAS as usize)
}

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a register; for bytes perhaps in AH and its like.
    Reg(Reg),
    /// In the state.
    Memory(u8),
    /// Nowhere: it is zero.
    Zero,
}

/// Where the operand at an offset of the state is.
pub(super) fn place(offset: u8) -> Place {
    if offset == ZERO {
        return Place::Zero;
    }
    if offset == T0 {
        return Place::Reg(Reg::R10);
    }
    if offset == TA {
        return Place::Reg(Reg::R13);
    }
    let register = GPRS.get(usize::from(offset >> 3));
    match (register, offset & 7) {
        (Some(&register), 0) => Place::Reg(register),
        (Some(Reg::Rax), 1) => Place::Reg(Reg::Ah),
        (Some(Reg::Rcx), 1) => Place::Reg(Reg::Ch),
        (Some(Reg::Rdx), 1) => Place::Reg(Reg::Dh),
        (Some(Reg::Rbx), 1) => Place::Reg(Reg::Bh),
        _ => Place::Memory(offset),
    }
}

/// The register whose byte 1 a high register is.
pub(super) fn whole(high: Reg) -> Reg {
    match high {
        Reg::Ah => Reg::Rax,
        Reg::Ch => Reg::Rcx,
        Reg::Dh => Reg::Rdx,
        Reg::Bh => Reg::Rbx,
        other => other,
    }
}

/// Writes all pinned registers to the state.
pub(super) fn spill(asm: &mut Assembler) {
    for (offset, reg) in SPILLED {
        asm.store(Size::Q, state(usize::from(offset)), reg);
    }
    asm.store(Size::Q, exec(offset_of!(Exec, left)), Reg::R15);
}

/// Reads all pinned registers from the state.
pub(super) fn reload(asm: &mut Assembler) {
    for (offset, reg) in SPILLED {
        asm.load(Size::Q, reg, state(usize::from(offset)));
    }
    asm.load(Size::Q, Reg::R15, exec(offset_of!(Exec, left)));
    asm.load(Size::Q, Reg::R12, exec(offset_of!(Exec, native.generation)));
}

const _: () = assert!(offset_of!(CpuState, gpr) == 0);
