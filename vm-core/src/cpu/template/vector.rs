//! Templates of vector ops. While native code runs the host's XMM8 to XMM15 are the guest's XMM0 to XMM7, once an op has needed
//! them; XMM0 and XMM1 hold nothing for long, and temporaries are in the state. MMX registers are the x87's and stay with the interpreter.

use std::mem::offset_of;

use super::emitter::{Fixup, Group1, Mem, Reg};
use super::registers::{Place, exec, place, state};
use super::translator::{Aside, Cold, Translator};
use crate::cpu::interp::Exec;
use crate::cpu::state::{CpuState, cr0, cr4};
use crate::cpu::uop::{Cond, Ea, Op, Size, Unit, Uop, VT0, VectorWidth};
use crate::cpu::vector::ops::{VectorGet, VectorOp, VectorSet};

/// A vector register or temporary in the state.
pub(super) const fn register(number: u8) -> Mem {
    state(offset_of!(CpuState, vector) + (number & 31) as usize * 16)
}

/// MOVUPS or MOVDQU, MOVQ, MOVD: prefix and opcode.
pub(super) const LOAD_X: (u8, u8) = (0, 0x10);
pub(super) const STORE_X: (u8, u8) = (0, 0x11);
const LOAD_Q: (u8, u8) = (0xf3, 0x7e);
const STORE_Q: (u8, u8) = (0x66, 0xd6);
const LOAD_D: (u8, u8) = (0x66, 0x6e);
const STORE_D: (u8, u8) = (0x66, 0x7e);
/// MOVAPS between registers.
const MOVE: (u8, u8) = (0, 0x28);

/// The second operand of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A host register.
    Register(u8),
    /// Memory that was checked, and how much of it.
    Memory(Mem, VectorWidth),
}

impl Translator<'_> {
    pub fn vector_check(&mut self, unit: Unit) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        // They are there since a check found nothing to say against it, and what it looked at only Rust code changes.
        let check = self.aside(self.index);
        self.fetch_xmm(Some(check));
        true
    }

    /// Looks whether the processor's control registers forbid vector instructions; the jumps are taken where they do.
    pub fn vectors_forbidden(&mut self) -> [Fixup; 2] {
        let control = offset_of!(CpuState, cr);
        self.asm.test_mem_imm(Size::D, state(control), (cr0::EM | cr0::TS) as u32);
        let forbidden = self.asm.jcc_forward(Cond::Ne);
        self.asm.test_mem_imm(Size::D, state(control + 4 * 8), cr4::OSFXSR as u32);
        [forbidden, self.asm.jcc_forward(Cond::E)]
    }

    /// Sees to it that the host's registers hold the guest's.
    pub fn need_xmm(&mut self) {
        self.fetch_xmm(None);
    }

    fn fetch_xmm(&mut self, check: Option<Aside>) {
        if self.known.xmm {
            return;
        }
        self.asm.alu_mem_imm(Size::B, Group1::Cmp, exec(offset_of!(Exec, native.xmm)), 0);
        let jump = self.asm.jcc_forward(Cond::E);
        self.host_flags_gone();
        let resume = self.asm.here();
        self.cold.push(Cold::Xmm { jump, resume, check });
        self.known.xmm = true;
    }

    /// The host register with a vector register or temporary in it; `scratch` for the latter.
    pub fn source(&mut self, number: u8, scratch: u8) -> u8 {
        if number < VT0 {
            return 8 + (number & 7);
        }
        self.asm.sse_mem(LOAD_X.0, LOAD_X.1, scratch, register(number));
        scratch
    }

    /// Changes a vector register or temporary. What is emitted may use XMM1, and XMM0 is its register where it is told so.
    pub fn change(&mut self, number: u8, emit: impl FnOnce(&mut Self, u8)) {
        if number < VT0 {
            emit(self, 8 + (number & 7));
            return;
        }
        self.asm.sse_mem(LOAD_X.0, LOAD_X.1, 0, register(number));
        emit(self, 0);
        self.asm.sse_mem(STORE_X.0, STORE_X.1, 0, register(number));
    }

    /// An instruction on a register and a source.
    pub fn sse_from(&mut self, prefix: u8, op: u8, to: u8, source: Source) {
        match source {
            Source::Register(from) => self.asm.sse(prefix, op, to, from),
            Source::Memory(host, _) => self.asm.sse_mem(prefix, op, to, host),
        }
    }

    /// A host register = memory that was checked.
    pub fn load_xmm(&mut self, to: u8, width: VectorWidth, host: Mem) {
        let (prefix, op) = match width {
            VectorWidth::D => LOAD_D,
            VectorWidth::Q => LOAD_Q,
            VectorWidth::X | VectorWidth::U => LOAD_X,
        };
        self.asm.sse_mem(prefix, op, to, host);
    }

    /// The next op, where it is of the same instruction and that ends with it.
    pub fn following(&self, uop: &Uop) -> Option<Op> {
        let next = self.ops.get(self.index + 1).filter(|next| next.y == uop.y)?;
        let ends = self.ops.get(self.index + 2).is_none_or(|other| other.y != uop.y);
        ends.then(|| next.op())
    }

    pub fn vector_load(&mut self, uop: &Uop, unit: Unit, width: VectorWidth, ea: Ea) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        self.need_xmm();
        if uop.d >= VT0 && self.load_and_operate(uop, width, ea) {
            return true;
        }
        let Some(host) = self.vector_access(uop, ea, width.bytes(), false, width == VectorWidth::X, self.index) else {
            return false;
        };
        if uop.d < VT0 {
            self.load_xmm(8 + uop.d, width, host);
        } else {
            self.load_xmm(0, width, host);
            self.asm.sse_mem(STORE_X.0, STORE_X.1, 0, register(uop.d));
        }
        true
    }

    /// A load into a temporary that only the next op looks at: one instruction with a memory operand.
    fn load_and_operate(&mut self, uop: &Uop, width: VectorWidth, ea: Ea) -> bool {
        let Some(op) = self.following(uop) else { return false };
        let last = self.index + 1;
        let next = self.ops[last];
        if next.b != uop.d || next.d >= VT0 {
            return false;
        }
        let flags = match op {
            Op::Vector { unit: Unit::Sse, what } if operation(what).is_some() => false,
            Op::Float { what } if !self.strange_floats && super::float::plain(what).is_some() => {
                self.need_floats();
                false
            }
            Op::VectorTest { test } if !self.strange_floats && super::float::comparison(test).is_some() => {
                self.need_floats();
                true
            }
            _ => return false,
        };
        let Some(host) = self.vector_access(uop, ea, width.bytes(), false, width == VectorWidth::X, last) else {
            return false;
        };
        if flags && let Some(Cold::Miss { aside, .. } | Cold::Op { aside, .. }) = self.cold.last_mut() {
            aside.flags = true;
        }
        self.index = last;
        let source = Source::Memory(host, width);
        match op {
            Op::Vector { what, .. } => {
                if let Some((prefix, op, immediate)) = operation(what) {
                    // The upper half of what is loaded is zeros, of which some operations make use.
                    let source = if width == VectorWidth::X {
                        source
                    } else {
                        self.load_xmm(1, width, host);
                        Source::Register(1)
                    };
                    self.sse_from(prefix, op, 8 + next.d, source);
                    if immediate {
                        self.asm.trailing(next.imm as u8);
                    }
                }
            }
            Op::Float { what } => self.float_from(&next, what, source),
            Op::VectorTest { test } => self.test_from(&next, test, source),
            _ => {}
        }
        true
    }

    pub fn vector_store(&mut self, uop: &Uop, unit: Unit, width: VectorWidth, ea: Ea) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        self.need_xmm();
        let aligned = width == VectorWidth::X;
        let Some(host) = self.vector_access(uop, ea, width.bytes(), true, aligned, self.index) else { return false };
        let (prefix, op) = match width {
            VectorWidth::D => STORE_D,
            VectorWidth::Q => STORE_Q,
            VectorWidth::X | VectorWidth::U => STORE_X,
        };
        let from = self.source(uop.d, 0);
        self.asm.sse_mem(prefix, op, from, host);
        true
    }

    /// An operation on two XMM registers: the host's own instruction.
    pub fn vector(&mut self, uop: &Uop, unit: Unit, what: VectorOp) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        if let Some((prefix, op, number)) = by_immediate(what) {
            self.need_xmm();
            self.change(uop.d, |t, to| {
                t.asm.sse(prefix, op, number, to);
                t.asm.trailing(uop.imm as u8);
            });
            return true;
        }
        let merged = match what {
            VectorOp::Move => Some((MOVE.0, MOVE.1, false)),
            VectorOp::Low64 => Some((LOAD_Q.0, LOAD_Q.1, false)),
            VectorOp::Merge32 => Some((0xf3, 0x10, false)),
            VectorOp::Merge64 => Some((0xf2, 0x10, false)),
            VectorOp::Movhlps => Some((0, 0x12, false)),
            VectorOp::Movlhps => Some((0, 0x16, false)),
            _ => operation(what),
        };
        let Some((prefix, op, immediate)) = merged else { return false };
        self.need_xmm();
        let from = self.source(uop.b, 1);
        self.change(uop.d, |t, to| {
            t.asm.sse(prefix, op, to, from);
            if immediate {
                t.asm.trailing(uop.imm as u8);
            }
        });
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
                self.need_xmm();
                let from = self.source(uop.a, 0);
                self.asm.sse(STORE_D.0, STORE_D.1, from, to as u8);
                return true;
            }
            // Of SSE4.1, which not every host has.
            VectorGet::Byte | VectorGet::Dword => return false,
            VectorGet::Word => (0x66, 0xc5),
            VectorGet::ByteSigns => (0x66, 0xd7),
            VectorGet::SingleSigns => (0, 0x50),
            VectorGet::DoubleSigns => (0x66, 0x50),
        };
        self.need_xmm();
        let from = self.source(uop.a, 0);
        self.asm.sse(prefix, op, to as u8, from);
        if get == VectorGet::Word {
            self.asm.trailing(uop.imm as u8);
        }
        true
    }

    /// A number that goes into an XMM register.
    pub fn vector_set(&mut self, uop: &Uop, unit: Unit, set: VectorSet) -> bool {
        if unit == Unit::Mmx {
            return false;
        }
        let (prefix, op, immediate) = match set {
            VectorSet::Low => (LOAD_D.0, LOAD_D.1, false),
            VectorSet::Word => (0x66, 0xc4, true),
            // Of SSE4.1.
            VectorSet::Byte | VectorSet::Dword => return false,
        };
        self.need_xmm();
        let from = self.read(uop.a, Reg::R11);
        if from.is_high() {
            return false;
        }
        self.change(uop.d, |t, to| {
            t.asm.sse(prefix, op, to, from as u8);
            if immediate {
                t.asm.trailing(uop.imm as u8);
            }
        });
        true
    }
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
fn operation(what: VectorOp) -> Option<(u8, u8, bool)> {
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
        VectorOp::Cvtdq2pd => return Some((0xf3, 0xe6, false)),
        _ => return None,
    };
    Some((0x66, op, false))
}
