//! Templates of vector ops: through XMM0, which holds nothing for long. MMX registers are the x87's and stay with the interpreter.

use std::mem::offset_of;

use super::emitter::{Mem, Reg};
use super::registers::{Place, place, state};
use super::translator::Translator;
use crate::cpu::state::{CpuState, cr0, cr4};
use crate::cpu::uop::{Cond, Ea, Size, Unit, Uop, VectorWidth};
use crate::cpu::vector::ops::{VectorGet, VectorOp};

/// A vector register or temporary.
fn register(number: u8) -> Mem {
    state(offset_of!(CpuState, vector) + usize::from(number & 31) * 16)
}

/// MOVUPS or MOVDQU, MOVQ, MOVD: prefix and opcode.
const LOAD_X: (u8, u8) = (0, 0x10);
const STORE_X: (u8, u8) = (0, 0x11);
const LOAD_Q: (u8, u8) = (0xf3, 0x7e);
const STORE_Q: (u8, u8) = (0x66, 0xd6);
const LOAD_D: (u8, u8) = (0x66, 0x6e);
const STORE_D: (u8, u8) = (0x66, 0x7e);

impl Translator<'_> {
    pub fn vector_check(&mut self, unit: Unit) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        let control = offset_of!(CpuState, cr);
        self.asm.test_mem_imm(Size::D, state(control), (cr0::EM | cr0::TS) as u32);
        let forbidden = self.asm.jcc_forward(Cond::Ne);
        self.asm.test_mem_imm(Size::D, state(control + 4 * 8), cr4::OSFXSR as u32);
        let absent = self.asm.jcc_forward(Cond::E);
        self.host_flags_gone();
        self.cold_op(forbidden);
        self.cold_op(absent);
        true
    }

    pub fn vector_load(&mut self, uop: &Uop, unit: Unit, width: VectorWidth, ea: Ea) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        let Some(host) = self.vector_access(uop, ea, width.bytes(), false, width == VectorWidth::X) else {
            return false;
        };
        let (prefix, op) = match width {
            VectorWidth::D => LOAD_D,
            VectorWidth::Q => LOAD_Q,
            VectorWidth::X | VectorWidth::U => LOAD_X,
        };
        self.asm.sse_mem(prefix, op, 0, host);
        self.asm.sse_mem(STORE_X.0, STORE_X.1, 0, register(uop.d));
        true
    }

    pub fn vector_store(&mut self, uop: &Uop, unit: Unit, width: VectorWidth, ea: Ea) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        let Some(host) = self.vector_access(uop, ea, width.bytes(), true, width == VectorWidth::X) else {
            return false;
        };
        let (prefix, op) = match width {
            VectorWidth::D => STORE_D,
            VectorWidth::Q => STORE_Q,
            VectorWidth::X | VectorWidth::U => STORE_X,
        };
        self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 0, register(uop.d));
        self.asm.sse_mem(prefix, op, 0, host);
        true
    }

    /// An operation on two XMM registers: the host's own instruction.
    pub fn vector(&mut self, uop: &Uop, unit: Unit, what: VectorOp) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        let (to, from) = (register(uop.d), register(uop.b));
        if let Some((prefix, op, number)) = by_immediate(what) {
            self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 0, to);
            self.asm.sse(prefix, op, number, 0);
            self.asm.trailing(uop.imm as u8);
        } else if let Some((prefix, op, immediate)) = plain(what) {
            self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 0, to);
            // Loaded apart: an immediate would move what the operand's displacement counts from.
            self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 1, from);
            self.asm.sse(prefix, op, 0, 1);
            if immediate {
                self.asm.trailing(uop.imm as u8);
            }
        } else {
            match what {
                VectorOp::Move => self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 0, from),
                VectorOp::Low32 => self.asm.sse_mem(LOAD_D.0, LOAD_D.1, 0, from),
                VectorOp::Low64 => self.asm.sse_mem(LOAD_Q.0, LOAD_Q.1, 0, from),
                VectorOp::Merge32 => return self.copy_part(Size::D, half(uop.d, 0), half(uop.b, 0)),
                VectorOp::Merge64 => return self.copy_part(Size::Q, half(uop.d, 0), half(uop.b, 0)),
                VectorOp::Movhlps => return self.copy_part(Size::Q, half(uop.d, 0), half(uop.b, 8)),
                VectorOp::Movlhps => return self.copy_part(Size::Q, half(uop.d, 8), half(uop.b, 0)),
                _ => return false,
            }
        }
        self.asm.sse_mem(STORE_X.0, STORE_X.1, 0, to);
        true
    }

    fn copy_part(&mut self, size: Size, to: Mem, from: Mem) -> bool {
        self.asm.load(size, Reg::R11, from);
        self.asm.store(size, to, Reg::R11);
        true
    }

    /// A number made of an XMM register.
    pub fn vector_get(&mut self, uop: &Uop, unit: Unit, get: VectorGet) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if unit == Unit::Mmx {
            return false;
        }
        let (prefix, op) = match get {
            VectorGet::Low => {
                self.asm.load(Size::D, to, register(uop.a));
                return true;
            }
            // Of SSE4.1, which not every host has.
            VectorGet::Byte | VectorGet::Dword => return false,
            VectorGet::Word => (0x66, 0xc5),
            VectorGet::ByteSigns => (0x66, 0xd7),
            VectorGet::SingleSigns => (0, 0x50),
            VectorGet::DoubleSigns => (0x66, 0x50),
        };
        self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 0, register(uop.a));
        self.asm.sse(prefix, op, to as u8, 0);
        if get == VectorGet::Word {
            self.asm.trailing(uop.imm as u8);
        }
        true
    }
}

/// A half of a vector register, by its offset.
fn half(number: u8, offset: usize) -> Mem {
    state(offset_of!(CpuState, vector) + usize::from(number & 31) * 16 + offset)
}

/// Shifts by the immediate: prefix, opcode and what stands in the place of a register.
fn by_immediate(what: VectorOp) -> Option<(u8, u8, u8)> {
    Some(match what {
        VectorOp::PsrlwImm => (0x66, 0x71, 2),
        VectorOp::PsrawImm => (0x66, 0x71, 4),
        VectorOp::PsllwImm => (0x66, 0x71, 6),
        VectorOp::PsrldImm => (0x66, 0x72, 2),
        VectorOp::PsradImm => (0x66, 0x72, 4),
        VectorOp::PslldImm => (0x66, 0x72, 6),
        VectorOp::PsrlqImm => (0x66, 0x73, 2),
        VectorOp::PsllqImm => (0x66, 0x73, 6),
        VectorOp::Psrldq => (0x66, 0x73, 3),
        VectorOp::Pslldq => (0x66, 0x73, 7),
        _ => return None,
    })
}

/// Operations that are one instruction of every x86-64 processor: prefix, opcode, and whether an immediate follows.
#[rustfmt::skip]
fn plain(what: VectorOp) -> Option<(u8, u8, bool)> {
    let op = match what {
        VectorOp::Paddb => 0xfc, VectorOp::Paddw => 0xfd, VectorOp::Paddd => 0xfe, VectorOp::Paddq => 0xd4,
        VectorOp::Psubb => 0xf8, VectorOp::Psubw => 0xf9, VectorOp::Psubd => 0xfa, VectorOp::Psubq => 0xfb,
        VectorOp::Paddsb => 0xec, VectorOp::Paddsw => 0xed, VectorOp::Paddusb => 0xdc, VectorOp::Paddusw => 0xdd,
        VectorOp::Psubsb => 0xe8, VectorOp::Psubsw => 0xe9, VectorOp::Psubusb => 0xd8, VectorOp::Psubusw => 0xd9,
        VectorOp::Pmullw => 0xd5, VectorOp::Pmulhw => 0xe5, VectorOp::Pmulhuw => 0xe4, VectorOp::Pmuludq => 0xf4,
        VectorOp::Pmaddwd => 0xf5, VectorOp::Psadbw => 0xf6, VectorOp::Pavgb => 0xe0, VectorOp::Pavgw => 0xe3,
        VectorOp::Pmaxub => 0xde, VectorOp::Pminub => 0xda, VectorOp::Pmaxsw => 0xee, VectorOp::Pminsw => 0xea,
        VectorOp::Pcmpeqb => 0x74, VectorOp::Pcmpeqw => 0x75, VectorOp::Pcmpeqd => 0x76,
        VectorOp::Pcmpgtb => 0x64, VectorOp::Pcmpgtw => 0x65, VectorOp::Pcmpgtd => 0x66,
        VectorOp::Pand => 0xdb, VectorOp::Pandn => 0xdf, VectorOp::Por => 0xeb, VectorOp::Pxor => 0xef,
        VectorOp::Psllw => 0xf1, VectorOp::Pslld => 0xf2, VectorOp::Psllq => 0xf3,
        VectorOp::Psrlw => 0xd1, VectorOp::Psrld => 0xd2, VectorOp::Psrlq => 0xd3,
        VectorOp::Psraw => 0xe1, VectorOp::Psrad => 0xe2,
        VectorOp::Packsswb => 0x63, VectorOp::Packssdw => 0x6b, VectorOp::Packuswb => 0x67,
        VectorOp::Punpcklbw => 0x60, VectorOp::Punpcklwd => 0x61, VectorOp::Punpckldq => 0x62, VectorOp::Punpcklqdq => 0x6c,
        VectorOp::Punpckhbw => 0x68, VectorOp::Punpckhwd => 0x69, VectorOp::Punpckhdq => 0x6a, VectorOp::Punpckhqdq => 0x6d,
        VectorOp::Pshufd => return Some((0x66, 0x70, true)),
        VectorOp::Pshuflw => return Some((0xf2, 0x70, true)),
        VectorOp::Pshufhw => return Some((0xf3, 0x70, true)),
        VectorOp::Shufps => return Some((0, 0xc6, true)),
        VectorOp::Shufpd => return Some((0x66, 0xc6, true)),
        _ => return None,
    };
    Some((0x66, op, false))
}
