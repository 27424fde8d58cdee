//! MMX, SSE and SSE2.

use iced_x86::{Instruction, Mnemonic, Register};

use super::Lifter;
use crate::cpu::uop::{Op, Size, T0, Unit, Uop, VT0, VT1, VT2, VectorWidth};
use crate::cpu::vector::float::{FloatOp, VectorTest};
use crate::cpu::vector::ops::{VectorGet, VectorOp, VectorSet};

/// Bits of [`Lifted::checked`](super::Lifted).
const CHECKED_SSE: u8 = 1;
pub(super) const CHECKED_MMX: u8 = 2;

/// Whether an instruction is one of MMX, and whether it is one of SSE: by the registers that it names, but for conversions
/// from memory to a general register.
fn units(insn: &Instruction) -> (bool, bool) {
    use Mnemonic::{Cvtsd2si, Cvtss2si, Cvttsd2si, Cvttss2si};
    let any = |is: fn(Register) -> bool| (0..insn.op_count()).any(|n| is(insn.op_register(n)));
    let converts = matches!(insn.mnemonic(), Cvtsd2si | Cvtss2si | Cvttsd2si | Cvttss2si);
    (any(Register::is_mm), any(Register::is_xmm) || converts)
}

/// The number of a vector register.
fn number(register: Register) -> u8 {
    register.number() as u8 & 7
}

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn vector(&mut self) -> bool {
        use Mnemonic as M;
        let name = self.insn.mnemonic();
        match name {
            // Memory is always coherent here.
            M::Lfence | M::Mfence | M::Sfence => return true,
            M::Movnti => {
                let address = self.address(4, true);
                let from = self.register(1);
                self.emit(address.op(|ea| Op::Store { size: Size::D, ea }).d(from));
                return true;
            }
            M::Maskmovq | M::Maskmovdqu => return false,
            _ => {}
        }
        let (mmx, sse) = units(self.insn);
        if !mmx && !sse || !lifted(name) {
            return false;
        }
        self.check(mmx, sse);
        let unit = if sse { Unit::Sse } else { Unit::Mmx };
        match name {
            M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq => {
                self.move_vector(Unit::Sse, VectorWidth::X, VectorOp::Move);
            }
            M::Movntdqa => self.move_vector(Unit::Sse, VectorWidth::X, VectorOp::Move),
            M::Movups | M::Movupd | M::Movdqu | M::Lddqu => self.move_vector(Unit::Sse, VectorWidth::U, VectorOp::Move),
            M::Movq if mmx => self.move_vector(Unit::Mmx, VectorWidth::Q, VectorOp::Move),
            M::Movq => self.move_vector(Unit::Sse, VectorWidth::Q, VectorOp::Low64),
            M::Movntq => self.move_vector(Unit::Mmx, VectorWidth::Q, VectorOp::Move),
            M::Movss => self.move_vector(Unit::Sse, VectorWidth::D, VectorOp::Merge32),
            M::Movsd => self.move_vector(Unit::Sse, VectorWidth::Q, VectorOp::Merge64),
            M::Movd => self.move_number(unit),
            M::Movlps | M::Movlpd => self.move_half(VectorOp::Merge64, VectorOp::Move),
            M::Movhps | M::Movhpd => self.move_half(VectorOp::Movlhps, VectorOp::Punpckhqdq),
            M::Movq2dq => self.cross(Unit::Sse),
            M::Movdq2q => self.cross(Unit::Mmx),
            M::Pmovmskb => self.get(unit, VectorGet::ByteSigns, 0),
            M::Movmskps => self.get(unit, VectorGet::SingleSigns, 0),
            M::Movmskpd => self.get(unit, VectorGet::DoubleSigns, 0),
            M::Pextrb => self.extract(unit, VectorGet::Byte, Size::B),
            M::Pextrw => self.extract(unit, VectorGet::Word, Size::W),
            M::Pextrd | M::Extractps => self.extract(unit, VectorGet::Dword, Size::D),
            M::Pinsrb => self.insert(unit, VectorSet::Byte, Size::B),
            M::Pinsrw => self.insert(unit, VectorSet::Word, Size::W),
            M::Pinsrd => self.insert(unit, VectorSet::Dword, Size::D),
            M::Insertps => {
                // Memory is one number; the field that would choose it means nothing.
                let imm = self.immediate(2) & if self.is_memory(1) { 0x3f } else { 0xff };
                let (to, from) = (self.vector_register(0), self.vector_source(1));
                self.combine(Unit::Sse, VectorOp::Insertps, to, from, imm);
            }
            M::Pblendvb | M::Blendvps | M::Blendvpd => self.blend_by_register(),
            M::Haddps => self.horizontal(FloatOp::Addps, VectorOp::Shufps, 0x88, 0xdd),
            M::Hsubps => self.horizontal(FloatOp::Subps, VectorOp::Shufps, 0x88, 0xdd),
            M::Haddpd => self.horizontal(FloatOp::Addpd, VectorOp::Shufpd, 0, 3),
            M::Hsubpd => self.horizontal(FloatOp::Subpd, VectorOp::Shufpd, 0, 3),
            M::Cvtpi2pd => {
                let from = self.vector_source(1);
                let from = if self.is_memory(1) { from } else { self.crossed(from) };
                let to = self.vector_register(0);
                self.combine(Unit::Sse, VectorOp::Cvtdq2pd, to, from, 0);
            }
            M::Cvtsi2sd => {
                self.number_in_temporary();
                self.combine(Unit::Sse, VectorOp::Cvtdq2pd, VT0, VT0, 0);
                let to = self.vector_register(0);
                self.combine(Unit::Sse, VectorOp::Merge64, to, VT0, 0);
            }
            M::Cvtpi2ps => {
                let from = self.vector_source(1);
                let from = if self.is_memory(1) { from } else { self.crossed(from) };
                let to = self.vector_register(0);
                self.float(FloatOp::Cvtpi2ps, to, from, 0);
            }
            M::Cvtsi2ss => {
                self.number_in_temporary();
                let to = self.vector_register(0);
                self.float(FloatOp::Cvtsi2ss, to, VT0, 0);
            }
            _ => {
                if let Some(what) = FloatOp::of(name) {
                    self.calculate(what, unit);
                } else if let Some(test) = VectorTest::of(name) {
                    let (to, from) = (self.vector_register(0), self.vector_source(1));
                    self.emit(Uop::new(Op::VectorTest { test }).d(to).b(from));
                } else {
                    self.combine_operands(unit);
                }
            }
        }
        true
    }

    /// Checks, once in a block, that instructions of these units may run: nothing but a helper changes that.
    fn check(&mut self, mmx: bool, sse: bool) {
        for (unit, wanted, bit) in [(Unit::Sse, sse, CHECKED_SSE), (Unit::Mmx, mmx, CHECKED_MMX)] {
            if wanted && self.into.checked & bit == 0 {
                self.into.checked |= bit;
                self.emit(Uop::new(Op::VectorCheck { unit }));
            }
        }
    }

    fn vector_register(&self, operand: u32) -> u8 {
        number(self.insn.op_register(operand))
    }

    fn combine(&mut self, unit: Unit, what: VectorOp, to: u8, from: u8, imm: u32) {
        self.emit(Uop::new(Op::Vector { unit, what }).d(to).b(from).imm(imm));
    }

    fn float(&mut self, what: FloatOp, to: u8, from: u8, imm: u32) {
        self.emit(Uop::new(Op::Float { what }).d(to).b(from).imm(imm));
    }

    /// A floating-point operation that is all of the instruction, but for where its result goes.
    fn calculate(&mut self, what: FloatOp, unit: Unit) {
        let from = self.vector_source(1);
        let imm = if self.insn.op_count() > 2 { self.immediate(2) } else { 0 };
        let register = self.insn.op0_register();
        if register.is_xmm() {
            self.float(what, number(register), from, imm);
            return;
        }
        if register.is_mm() {
            // Even a conversion that faults has made the x87's registers MMX's: so do processors.
            self.emit(Uop::new(Op::VectorCross { unit: Unit::Mmx }).d(VT1).a(VT1));
        }
        self.float(what, VT0, from, imm);
        if register.is_mm() {
            self.emit(Uop::new(Op::VectorCross { unit: Unit::Mmx }).d(number(register)).a(VT0));
        } else {
            let to = self.register(0);
            self.emit(Uop::new(Op::VectorGet { unit, get: VectorGet::Low }).d(to).a(VT0));
        }
    }

    /// The vector register of an operand, or a temporary after a load of as many bytes as the instruction reads.
    fn vector_source(&mut self, operand: u32) -> u8 {
        if !self.is_memory(operand) {
            return self.vector_register(operand);
        }
        let width = match self.insn.memory_size().size() {
            2 => {
                let from = self.read(operand, Size::W);
                self.emit(Uop::new(Op::VectorSet { unit: Unit::Sse, set: VectorSet::Low }).d(VT0).a(from));
                return VT0;
            }
            4 => VectorWidth::D,
            8 => VectorWidth::Q,
            _ => VectorWidth::X,
        };
        self.load_vector(Unit::Sse, width, VT0);
        VT0
    }

    fn load_vector(&mut self, unit: Unit, width: VectorWidth, to: u8) {
        let address = self.address(width.bytes(), false);
        self.emit(address.op(|ea| Op::VectorLoad { unit, width, ea }).d(to));
    }

    fn store_vector(&mut self, unit: Unit, width: VectorWidth, from: u8) {
        let address = self.address(width.bytes(), true);
        self.emit(address.op(|ea| Op::VectorStore { unit, width, ea }).d(from));
    }

    /// A load, a store, or `between` registers.
    fn move_vector(&mut self, unit: Unit, width: VectorWidth, between: VectorOp) {
        if self.is_memory(0) {
            let from = self.vector_register(1);
            self.store_vector(unit, width, from);
        } else if self.is_memory(1) {
            let to = self.vector_register(0);
            self.load_vector(unit, width, to);
        } else {
            let (to, from) = (self.vector_register(0), self.vector_register(1));
            self.combine(unit, between, to, from, 0);
        }
    }

    /// MOVD.
    fn move_number(&mut self, unit: Unit) {
        let to_vector = self.is_register(0) && !self.insn.op0_register().is_gpr();
        if self.is_memory(0) || self.is_memory(1) {
            self.move_vector(unit, VectorWidth::D, VectorOp::Move);
        } else if to_vector {
            let (to, from) = (self.vector_register(0), self.register(1));
            self.emit(Uop::new(Op::VectorSet { unit, set: VectorSet::Low }).d(to).a(from));
        } else {
            self.get(unit, VectorGet::Low, 0);
        }
    }

    /// A 32-bit operand 1 in the first temporary.
    fn number_in_temporary(&mut self) {
        if self.is_memory(1) {
            self.load_vector(Unit::Sse, VectorWidth::D, VT0);
        } else {
            let from = self.register(1);
            self.emit(Uop::new(Op::VectorSet { unit: Unit::Sse, set: VectorSet::Low }).d(VT0).a(from));
        }
    }

    /// MOVLPS, MOVHPS and their like: 64 bits of memory become a half of the register by `load`, or a half that `store`
    /// brings down goes to memory.
    fn move_half(&mut self, load: VectorOp, store: VectorOp) {
        if self.is_memory(1) {
            self.load_vector(Unit::Sse, VectorWidth::Q, VT0);
            let to = self.vector_register(0);
            self.combine(Unit::Sse, load, to, VT0, 0);
        } else if store == VectorOp::Move {
            let from = self.vector_register(1);
            self.store_vector(Unit::Sse, VectorWidth::Q, from);
        } else {
            let from = self.vector_register(1);
            self.combine(Unit::Sse, VectorOp::Move, VT0, from, 0);
            self.combine(Unit::Sse, store, VT0, VT0, 0);
            self.store_vector(Unit::Sse, VectorWidth::Q, VT0);
        }
    }

    /// MOVDQ2Q, MOVQ2DQ.
    fn cross(&mut self, unit: Unit) {
        let (to, from) = (self.vector_register(0), self.vector_register(1));
        self.emit(Uop::new(Op::VectorCross { unit }).d(to).a(from));
    }

    /// An MMX register's copy in the first temporary.
    fn crossed(&mut self, from: u8) -> u8 {
        self.emit(Uop::new(Op::VectorCross { unit: Unit::Sse }).d(VT0).a(from));
        VT0
    }

    /// A part of operand 1 goes to a general register or to memory.
    fn extract(&mut self, unit: Unit, get: VectorGet, size: Size) {
        let imm = self.immediate(2);
        if !self.is_memory(0) {
            self.get(unit, get, imm);
            return;
        }
        let from = self.vector_register(1);
        self.emit(Uop::new(Op::VectorGet { unit, get }).d(T0).a(from).imm(imm));
        self.write(size, T0);
    }

    /// A general register or memory goes into a part of operand 0.
    fn insert(&mut self, unit: Unit, set: VectorSet, size: Size) {
        let from = self.read(1, size);
        let (to, imm) = (self.vector_register(0), self.immediate(2));
        self.emit(Uop::new(Op::VectorSet { unit, set }).d(to).a(from).imm(imm));
    }

    /// Numbers of operand 1 where XMM0 is negative, else of operand 0.
    fn blend_by_register(&mut self) {
        let (to, from) = (self.vector_register(0), self.vector_source(1));
        let name = self.insn.mnemonic();
        let mut emit = |what, to, from, imm| self.combine(Unit::Sse, what, to, from, imm);
        // All ones where XMM0 is negative, in VT1.
        if name == Mnemonic::Pblendvb {
            emit(VectorOp::Pxor, VT1, VT1, 0);
            emit(VectorOp::Pcmpgtb, VT1, 0, 0);
        } else {
            let order = if name == Mnemonic::Blendvpd { 0b11_11_01_01 } else { 0b11_10_01_00 };
            emit(VectorOp::Pshufd, VT1, 0, order);
            emit(VectorOp::PsradImm, VT1, VT1, 31);
        }
        emit(VectorOp::Move, VT2, from, 0);
        emit(VectorOp::Pand, VT2, VT1, 0);
        emit(VectorOp::Pandn, VT1, to, 0);
        emit(VectorOp::Por, VT1, VT2, 0);
        emit(VectorOp::Move, to, VT1, 0);
    }

    /// The even numbers of both operands and the odd ones, which `shuffle` picks, combined.
    fn horizontal(&mut self, what: FloatOp, shuffle: VectorOp, even: u32, odd: u32) {
        let (to, from) = (self.vector_register(0), self.vector_source(1));
        for (temporary, choice) in [(VT1, even), (VT2, odd)] {
            self.combine(Unit::Sse, VectorOp::Move, temporary, to, 0);
            self.combine(Unit::Sse, shuffle, temporary, from, choice);
        }
        self.float(what, VT1, VT2, 0);
        self.combine(Unit::Sse, VectorOp::Move, to, VT1, 0);
    }

    /// A general register made of operand 1.
    fn get(&mut self, unit: Unit, get: VectorGet, imm: u32) {
        let (to, from) = (self.register(0), self.vector_register(1));
        self.emit(Uop::new(Op::VectorGet { unit, get }).d(to).a(from).imm(imm));
    }

    /// An operation that is all of the instruction.
    fn combine_operands(&mut self, unit: Unit) {
        let name = self.insn.mnemonic();
        let last = self.insn.op_count() - 1;
        let by_immediate = !self.is_memory(last) && !self.is_register(last);
        let imm = if by_immediate { self.immediate(last) } else { 0 };
        let to = self.vector_register(0);
        if last == 1 && by_immediate {
            if let Some(what) = shift_by_immediate(name) {
                self.combine(unit, what, to, to, imm);
            }
            return;
        }
        let Some(what) = operation(name) else { return };
        let from = self.vector_source(1);
        self.combine(unit, what, to, from, imm);
    }
}

/// The operation of a shift whose count is an immediate.
fn shift_by_immediate(name: Mnemonic) -> Option<VectorOp> {
    Some(match name {
        Mnemonic::Psllw => VectorOp::PsllwImm,
        Mnemonic::Pslld => VectorOp::PslldImm,
        Mnemonic::Psllq => VectorOp::PsllqImm,
        Mnemonic::Psrlw => VectorOp::PsrlwImm,
        Mnemonic::Psrld => VectorOp::PsrldImm,
        Mnemonic::Psrlq => VectorOp::PsrlqImm,
        Mnemonic::Psraw => VectorOp::PsrawImm,
        Mnemonic::Psrad => VectorOp::PsradImm,
        name => return VectorOp::of(name),
    })
}

/// The operation that is all of an instruction, by whichever of its names.
fn operation(name: Mnemonic) -> Option<VectorOp> {
    Some(match name {
        Mnemonic::Andps | Mnemonic::Andpd => VectorOp::Pand,
        Mnemonic::Andnps | Mnemonic::Andnpd => VectorOp::Pandn,
        Mnemonic::Orps | Mnemonic::Orpd => VectorOp::Por,
        Mnemonic::Xorps | Mnemonic::Xorpd => VectorOp::Pxor,
        Mnemonic::Unpcklps => VectorOp::Punpckldq,
        Mnemonic::Unpckhps => VectorOp::Punpckhdq,
        Mnemonic::Unpcklpd => VectorOp::Punpcklqdq,
        Mnemonic::Unpckhpd => VectorOp::Punpckhqdq,
        Mnemonic::Pshufw => VectorOp::Pshuflw,
        name => return VectorOp::of(name),
    })
}

/// Whether an instruction on vector registers becomes ops here.
fn lifted(name: Mnemonic) -> bool {
    use Mnemonic as M;
    operation(name).is_some()
        || FloatOp::of(name).is_some()
        || VectorTest::of(name).is_some()
        || matches!(
            name,
            M::Movaps
                | M::Movapd
                | M::Movdqa
                | M::Movntps
                | M::Movntpd
                | M::Movntdq
                | M::Movups
                | M::Movupd
                | M::Movdqu
                | M::Movq
                | M::Movntq
                | M::Movss
                | M::Movsd
                | M::Movd
                | M::Movlps
                | M::Movlpd
                | M::Movhps
                | M::Movhpd
                | M::Movq2dq
                | M::Movdq2q
                | M::Pmovmskb
                | M::Movmskps
                | M::Movmskpd
                | M::Pextrw
                | M::Pinsrw
                | M::Lddqu
                | M::Movntdqa
                | M::Haddps
                | M::Haddpd
                | M::Hsubps
                | M::Hsubpd
                | M::Pblendvb
                | M::Blendvps
                | M::Blendvpd
                | M::Pextrb
                | M::Pextrd
                | M::Extractps
                | M::Pinsrb
                | M::Pinsrd
                | M::Cvtpi2pd
                | M::Cvtpi2ps
                | M::Cvtsi2sd
                | M::Cvtsi2ss
        )
}
