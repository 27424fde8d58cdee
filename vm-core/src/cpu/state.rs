//! The registers.

use serde::{Deserialize, Serialize};

use super::flags::Flags;
use super::msr::mca::MachineCheck;
use super::msr::mtrr::Mtrrs;
use super::msr::{apic_base, misc_enable};
use super::vector::mxcsr;

/// Bits of CR0.
pub mod cr0 {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// All of them.
    pub const KNOWN: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// Bits of CR4 that this processor has.
pub mod cr4 {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
}

/// Bits of `IA32_EFER`.
pub mod efer {
    /// Entries of PAE tables may close pages to execution.
    pub const NXE: u64 = 1 << 11;
}

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

impl SegReg {
    /// All six.
    pub const ALL: [Self; 6] = [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs];
}

/// A segment register with its hidden part (Intel SDM vol. 3A, 3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Model-specific registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Msrs {
    /// Added to the count that guest time gives.
    pub tsc_offset: u64,
    /// `IA32_SYSENTER_CS`.
    pub sysenter_cs: u32,
    /// `IA32_SYSENTER_ESP`.
    pub sysenter_esp: u32,
    /// `IA32_SYSENTER_EIP`.
    pub sysenter_eip: u32,
    /// `IA32_EFER`.
    pub efer: u64,
    /// `IA32_APIC_BASE`.
    pub apic_base: u64,
    /// `IA32_MISC_ENABLE`, without what is hard-wired.
    pub misc_enable: u64,
    /// Memory types.
    pub mtrr: Mtrrs,
    /// Machine checks.
    pub mca: MachineCheck,
}

impl Default for Msrs {
    fn default() -> Self {
        Self {
            tsc_offset: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            efer: 0,
            apic_base: apic_base::RESET,
            misc_enable: misc_enable::RESET,
            mtrr: Mtrrs::default(),
            mca: MachineCheck::default(),
        }
    }
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
    /// Debug exceptions are held off, too (MOV SS, POP SS).
    pub debug_shadow: bool,
    /// Bits of DR6 for which a debug trap is due as soon as nothing holds it off.
    pub pending_debug: u32,
    /// System management mode.
    pub smm: bool,
    /// SMI# has come and was not yet taken.
    pub smi_pending: bool,
    /// NMI has come and was not yet taken.
    pub nmi_pending: bool,
    /// An NMI is being served: the next waits for IRET.
    pub nmi_blocked: bool,
    /// Where system management mode keeps its state and its handler.
    pub smbase: u32,
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
    /// The four page-directory-pointer registers of PAE paging, as they were when CR3 was loaded.
    pub pdpte: [u64; 4],
    /// Debug registers; 4 and 5 unused.
    pub dr: [u64; 8],
    /// Model-specific registers.
    pub msr: Msrs,
    /// MXCSR.
    pub mxcsr: u32,
    /// XMM registers, and from [`VT0`](super::uop::VT0) up temporaries, dead between instructions.
    pub vector: [u128; 32],
}

impl CpuState {
    /// The state after RESET (Intel SDM vol. 3A, table 9-1); EDX holds the processor's signature.
    pub fn reset(signature: u32) -> Self {
        let mut state = Self {
            gpr: [0; 16],
            zero: 0,
            temp: [0; 7],
            rip: 0xfff0,
            flags: Flags::RESET,
            cpl: 0,
            interrupt_shadow: false,
            debug_shadow: false,
            pending_debug: 0,
            smm: false,
            smi_pending: false,
            nmi_pending: false,
            nmi_blocked: false,
            smbase: super::smm::RESET_BASE,
            halted: false,
            seg: [Segment::real(0); 6],
            ldtr: Segment { base: 0, limit: 0xffff, rights: 0x82, selector: 0 },
            tr: Segment { base: 0, limit: 0xffff, rights: 0x8b, selector: 0 },
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            cr: [cr0::CD | cr0::NW | cr0::ET, 0, 0, 0, 0],
            pdpte: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            msr: Msrs::default(),
            mxcsr: mxcsr::RESET,
            vector: [0; 32],
        };
        state.gpr[gpr::RDX] = u64::from(signature);
        state.seg[SegReg::Cs as usize] = Segment { base: 0xffff_0000, selector: 0xf000, ..Segment::real(0) };
        state
    }

    /// A segment register.
    #[inline(always)]
    pub fn segment(&self, seg: SegReg) -> &Segment {
        &self.seg[seg as usize]
    }

    /// CR0.PE: protected mode, virtual-8086 mode included.
    #[inline]
    pub fn protected(&self) -> bool {
        self.cr[0] & cr0::PE != 0
    }

    /// Virtual-8086 mode.
    #[inline]
    pub fn v86(&self) -> bool {
        self.flags.has(super::flags::VM)
    }

    /// Real or virtual-8086 mode: a selector is a paragraph number.
    #[inline]
    pub fn paragraphs(&self) -> bool {
        !self.protected() || self.v86()
    }

    /// The mask of the stack pointer: SS.B.
    #[inline]
    pub fn stack_mask(&self) -> u64 {
        if self.segment(SegReg::Ss).big() { 0xffff_ffff } else { 0xffff }
    }
}
