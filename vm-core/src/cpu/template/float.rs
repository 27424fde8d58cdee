//! Templates of floating-point operations on XMM registers: the host's own instructions, under the host's MXCSR, which gathers the
//! guest's exceptions while it is lent (`vector::host`). Where it cannot be, the interpreter executes such ops.

use std::mem::offset_of;

use super::emitter::{Group1, Mem, Reg};
use super::flags::VALUE;
use super::registers::{Place, place, processor};
use super::translator::{Cold, Translator};
use super::vector::{Source, register};
use crate::cpu::Cpu;
use crate::cpu::flags::{ARITHMETIC, CF, Lazy, PF, ZF};
use crate::cpu::uop::{Cond, Op, Size, Uop, VT0};
use crate::cpu::vector::float::{FloatOp, VectorTest};
use crate::cpu::vector::ops::VectorGet;

const LENT: Mem = processor(offset_of!(Cpu, floats_lent));

impl Translator<'_> {
    /// Sees to it that the host's MXCSR stands for the guest's; where it cannot, a copy of the block's rest goes on from the op that is
    /// translated, in which the interpreter executes such ops.
    pub fn need_floats(&mut self) {
        if self.known.floats {
            return;
        }
        let known = self.known;
        self.asm.alu_mem_imm(Size::B, Group1::Cmp, LENT, 0);
        let jump = self.asm.jcc_forward(Cond::E);
        self.host_flags_gone();
        let resume = self.asm.here();
        self.cold.push(Cold::Floats { jump, resume, first: self.index, known });
        self.known.floats = true;
    }

    /// Lends the host's MXCSR again, out of line, after ops that do not change the guest's control of it: it can be. Uses the host's flags.
    pub fn lend_again(&mut self) {
        self.asm.alu_mem_imm(Size::B, Group1::Cmp, LENT, 0);
        let there = self.asm.jcc_forward(Cond::Ne);
        self.asm.call(self.stubs.lend_floats);
        self.asm.bind(there);
    }

    pub fn float(&mut self, uop: &Uop, what: FloatOp) -> bool {
        if self.strange_floats {
            return false;
        }
        if let Some(op) = to_number(what)
            && let Some(Op::VectorGet { get: VectorGet::Low, .. }) = self.following(uop)
            && uop.d >= VT0
        {
            let next = self.ops[self.index + 1];
            if let Place::Reg(to) = place(next.d)
                && next.a == uop.d
            {
                self.need_xmm();
                self.need_floats();
                let from = self.source(uop.b, 1);
                self.asm.sse(op.0, op.1, to as u8, from);
                self.index += 1;
                return true;
            }
        }
        if plain(what).is_none() && what != FloatOp::Cvtsi2ss {
            return false;
        }
        self.need_xmm();
        self.need_floats();
        if what == FloatOp::Cvtsi2ss {
            // Its source is a whole number in a temporary.
            if uop.d >= VT0 || uop.b < VT0 {
                return false;
            }
            self.asm.sse_mem(0xf3, 0x2a, 8 + uop.d, register(uop.b));
            return true;
        }
        let source = Source::Register(self.source(uop.b, 1));
        self.float_from(uop, what, source);
        true
    }

    /// The operation on a source that is already there.
    pub fn float_from(&mut self, uop: &Uop, what: FloatOp, source: Source) {
        let Some((prefix, op, immediate)) = plain(what) else { return };
        self.change(uop.d, |t, to| {
            t.sse_from(prefix, op, to, source);
            if immediate {
                t.asm.trailing(uop.imm as u8 & 7);
            }
        });
    }

    pub fn vector_test(&mut self, uop: &Uop, test: VectorTest) -> bool {
        if comparison(test).is_none() || self.strange_floats {
            return false;
        }
        self.need_xmm();
        self.need_floats();
        let source = Source::Register(self.source(uop.b, 1));
        self.test_from(uop, test, source);
        true
    }

    /// The comparison with a source that is already there.
    pub fn test_from(&mut self, uop: &Uop, test: VectorTest, source: Source) {
        let Some((prefix, op)) = comparison(test) else { return };
        let left = self.source(uop.d, 0);
        let source = match source {
            Source::Register(_) => source,
            Source::Memory(host, width) => {
                self.load_xmm(1, width, host);
                Source::Register(1)
            }
        };
        self.sse_from(prefix, op, left, source);
        self.remember_comparison();
        // Again, for the host's flags.
        self.sse_from(prefix, op, left, source);
        self.comparison_in_host_flags();
    }

    /// Remembers the flags of a comparison that the host's hold; those are gone then. Uses R11 and R14.
    pub fn remember_comparison(&mut self) {
        // PUSHFQ.
        self.asm.plain(0x9c);
        self.asm.pop(Reg::R11);
        self.asm.alu_imm(Size::D, Group1::And, Reg::R11, ZF | PF | CF);
        self.asm.load(Size::D, Reg::R14, VALUE);
        self.asm.alu_imm(Size::D, Group1::And, Reg::R14, !ARITHMETIC);
        self.asm.alu(Size::D, Group1::Or, Reg::R14, Reg::R11);
        self.asm.store(Size::D, VALUE, Reg::R14);
        self.remember_kind(Lazy::Eager, Size::D);
        self.host_flags_gone();
    }

    /// The host's flags are those of a comparison that was remembered.
    pub fn comparison_in_host_flags(&mut self) {
        self.known.flags.host = ARITHMETIC;
    }
}

/// COMISS and its like: prefix and opcode.
pub(super) fn comparison(test: VectorTest) -> Option<(u8, u8)> {
    Some(match test {
        VectorTest::Comiss => (0, 0x2f),
        VectorTest::Ucomiss => (0, 0x2e),
        VectorTest::Comisd => (0x66, 0x2f),
        VectorTest::Ucomisd => (0x66, 0x2e),
        VectorTest::Ptest => return None,
    })
}

/// Conversions whose result goes to a general register.
fn to_number(what: FloatOp) -> Option<(u8, u8)> {
    Some(match what {
        FloatOp::Cvtss2si => (0xf3, 0x2d),
        FloatOp::Cvttss2si => (0xf3, 0x2c),
        FloatOp::Cvtsd2si => (0xf2, 0x2d),
        FloatOp::Cvttsd2si => (0xf2, 0x2c),
        _ => return None,
    })
}

/// Operations that are one instruction of every x86-64 processor: prefix, opcode, and whether an immediate follows.
#[rustfmt::skip]
pub(super) fn plain(what: FloatOp) -> Option<(u8, u8, bool)> {
    const PS: u8 = 0;
    const PD: u8 = 0x66;
    const SS: u8 = 0xf3;
    const SD: u8 = 0xf2;
    let (prefix, op) = match what {
        FloatOp::Addps => (PS, 0x58), FloatOp::Addpd => (PD, 0x58), FloatOp::Addss => (SS, 0x58), FloatOp::Addsd => (SD, 0x58),
        FloatOp::Mulps => (PS, 0x59), FloatOp::Mulpd => (PD, 0x59), FloatOp::Mulss => (SS, 0x59), FloatOp::Mulsd => (SD, 0x59),
        FloatOp::Subps => (PS, 0x5c), FloatOp::Subpd => (PD, 0x5c), FloatOp::Subss => (SS, 0x5c), FloatOp::Subsd => (SD, 0x5c),
        FloatOp::Minps => (PS, 0x5d), FloatOp::Minpd => (PD, 0x5d), FloatOp::Minss => (SS, 0x5d), FloatOp::Minsd => (SD, 0x5d),
        FloatOp::Divps => (PS, 0x5e), FloatOp::Divpd => (PD, 0x5e), FloatOp::Divss => (SS, 0x5e), FloatOp::Divsd => (SD, 0x5e),
        FloatOp::Maxps => (PS, 0x5f), FloatOp::Maxpd => (PD, 0x5f), FloatOp::Maxss => (SS, 0x5f), FloatOp::Maxsd => (SD, 0x5f),
        FloatOp::Sqrtps => (PS, 0x51), FloatOp::Sqrtpd => (PD, 0x51), FloatOp::Sqrtss => (SS, 0x51), FloatOp::Sqrtsd => (SD, 0x51),
        FloatOp::Cmpps => return Some((PS, 0xc2, true)), FloatOp::Cmppd => return Some((PD, 0xc2, true)),
        FloatOp::Cmpss => return Some((SS, 0xc2, true)), FloatOp::Cmpsd => return Some((SD, 0xc2, true)),
        FloatOp::Cvtps2pd => (PS, 0x5a), FloatOp::Cvtpd2ps => (PD, 0x5a), FloatOp::Cvtss2sd => (SS, 0x5a), FloatOp::Cvtsd2ss => (SD, 0x5a),
        FloatOp::Cvtdq2ps => (PS, 0x5b), FloatOp::Cvtps2dq => (PD, 0x5b), FloatOp::Cvttps2dq => (SS, 0x5b),
        FloatOp::Cvtpd2dq => (SD, 0xe6), FloatOp::Cvttpd2dq => (PD, 0xe6),
        FloatOp::Cvtpi2ps | FloatOp::Cvtsi2ss
        | FloatOp::Cvtps2pi | FloatOp::Cvttps2pi | FloatOp::Cvtpd2pi | FloatOp::Cvttpd2pi
        | FloatOp::Cvtss2si | FloatOp::Cvttss2si | FloatOp::Cvtsd2si | FloatOp::Cvttsd2si
        | FloatOp::Addsubps | FloatOp::Addsubpd
        | FloatOp::Roundps | FloatOp::Roundpd | FloatOp::Roundss | FloatOp::Roundsd
        | FloatOp::Dpps | FloatOp::Dppd => return None,
    };
    Some((prefix, op, false))
}
