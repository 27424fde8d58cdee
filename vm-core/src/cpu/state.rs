//! The registers.

use super::flags::Flags;

/// Segment register numbers, in the order of the instruction encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the register that it is named for")]
pub enum SegReg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
}

/// A segment register with its hidden part (Intel SDM vol. 3A, 3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Base address.
    pub base: u64,
    /// Offset of the last byte, granularity applied. For expand-down segments: the last byte that is *not* inside.
    pub limit: u32,
    /// Bits 8–23 of the descriptor's upper half, shifted down by 8: type 0–3, S 4, DPL 5–6, P 7, AVL 12, L 13, D/B 14, G 15.
    /// Zero for a null selector: nothing may be accessed through it.
    pub rights: u16,
    /// The visible part.
    pub selector: u16,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableRegister {
    /// Linear address.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u16,
}

/// General register numbers, in the order of the instruction encoding.
pub mod gpr {
    #![allow(missing_docs, reason = "each is the register that it is named for")]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
}

/// All that an instruction can see and that is not memory. Micro-ops address it by byte offset.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct CpuState {
    /// General registers, 64 bits wide from the first day.
    pub gpr: [u64; 16],
    /// Always zero: the base or index of an address that has none.
    pub zero: u64,
    /// Micro-op temporaries, dead between instructions.
    pub temp: [u64; 7],
    /// Offset in CS of the current instruction.
    pub rip: u64,
    /// EFLAGS.
    pub flags: Flags,
    /// Current privilege level (3 in virtual-8086 mode, 0 in real mode).
    pub cpl: u8,
    /// Interrupts are held off until after the next instruction (STI, MOV SS, POP SS).
    pub interrupt_shadow: bool,
    /// HLT waits for an interrupt.
    pub halted: bool,
    /// ES, CS, SS, DS, FS, GS.
    pub seg: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table.
    pub idtr: TableRegister,
    /// Control registers; 1 and above 4 unused.
    pub cr: [u64; 5],
    /// Debug registers.
    pub dr: [u64; 8],
}
