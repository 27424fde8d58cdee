//! Templates of moves and arithmetic. Each returns false where it has none for the case: the interpreter then executes the op.

use super::emitter::{Group1, Mem, Reg};
use super::flags::{A, B, Origin, RESULT, Right, VALUE};
use super::registers::{Place, place, state, whole};
use super::translator::Translator;
use crate::cpu::flags::{AF, ARITHMETIC, CF, DF, Lazy, OF, PF, SF, ZF};
use crate::cpu::uop::{
    AddressSize, Alu, Bit, Compare, Cond, Ea, Extend, Flag, FlagOp, Form, MulDiv, RAX, RDX, Scan, Size, Uop,
};

const fn group(alu: Alu) -> Group1 {
    match alu {
        Alu::Add => Group1::Add,
        Alu::Or => Group1::Or,
        Alu::Adc => Group1::Adc,
        Alu::Sbb => Group1::Sbb,
        Alu::And => Group1::And,
        Alu::Sub => Group1::Sub,
        Alu::Xor => Group1::Xor,
    }
}

impl Translator<'_> {
    /// Emits with byte 1 of a register exchanged with its byte 0. Leaves the flags.
    pub fn high_to_low(&mut self, high: Reg, emit: impl FnOnce(&mut Self, Reg)) {
        let low = whole(high);
        self.asm.xchg(Size::B, low, high);
        emit(self, low);
        self.asm.xchg(Size::B, low, high);
    }

    /// `op rm, reg` on bytes, where one may be byte 1 and the other one that needs a prefix which forbids that.
    fn bytes(&mut self, op: u32, reg: Reg, rm: Reg) {
        if rm.is_high() && reg.needs_rex(Size::B) {
            self.high_to_low(rm, |t, low| t.asm.rr(Size::B, op, reg, low));
        } else if reg.is_high() && rm.needs_rex(Size::B) {
            self.high_to_low(reg, |t, low| t.asm.rr(Size::B, op, low, rm));
        } else {
            self.asm.rr(Size::B, op, reg, rm);
        }
    }

    /// `op rm, reg`.
    fn pair(&mut self, size: Size, op: u32, reg: Reg, rm: Reg) {
        if size == Size::B {
            self.bytes(op, reg, rm);
        } else {
            self.asm.rr(size, op, reg, rm);
        }
    }

    /// The register with an operand, byte 1 of a register included; what lies in memory is read into `scratch`. Leaves the flags.
    pub fn read(&mut self, offset: u8, scratch: Reg) -> Reg {
        match place(offset) {
            Place::Reg(reg) => reg,
            Place::Memory(offset) => {
                self.asm.load(Size::Q, scratch, state(usize::from(offset)));
                scratch
            }
            Place::Zero => {
                self.asm.mov_imm(Size::D, scratch, 0);
                scratch
            }
        }
    }

    /// The same with byte 1 of a register copied to `scratch`. Leaves the flags.
    pub fn read_low(&mut self, offset: u8, scratch: Reg) -> Reg {
        let reg = self.read(offset, scratch);
        if !reg.is_high() {
            return reg;
        }
        self.high_to_low(reg, |t, low| t.asm.mov(Size::D, scratch, low));
        scratch
    }

    /// Writes `from` (not byte 1 of a register) to an operand. Leaves the flags.
    pub fn write(&mut self, size: Size, offset: u8, from: Reg) {
        match place(offset) {
            Place::Reg(reg) if size == Size::B => self.bytes(0x88, from, reg),
            Place::Reg(reg) => self.asm.mov(size, reg, from),
            // A temporary: nobody looks at more than was written.
            Place::Memory(offset) => self.asm.store(size, state(usize::from(offset)), from),
            Place::Zero => {}
        }
    }

    pub fn mov(&mut self, uop: &Uop, size: Size) -> bool {
        if let (Place::Reg(to), Place::Reg(from)) = (place(uop.d), place(uop.a)) {
            self.pair(size, 0x88, from, to);
        } else {
            let from = self.read_low(uop.a, Reg::R11);
            self.write(size, uop.d, from);
        }
        true
    }

    pub fn mov_imm(&mut self, uop: &Uop, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        self.asm.mov_imm(size, to, uop.imm);
        true
    }

    pub fn exchange(&mut self, uop: &Uop, size: Size) -> bool {
        let (Place::Reg(one), Place::Reg(other)) = (place(uop.d), place(uop.a)) else { return false };
        if size == Size::B && (one.is_high() && other.needs_rex(size) || other.is_high() && one.needs_rex(size)) {
            return false;
        }
        self.asm.xchg(size, one, other);
        true
    }

    pub fn widen(&mut self, uop: &Uop, extend: Extend, from: Size, to: Size) -> bool {
        let Place::Reg(target) = place(uop.d) else { return false };
        let mut source = self.read(uop.a, Reg::R11);
        if source.is_high() && target.needs_rex(to) {
            source = self.read_low(uop.a, Reg::R11);
        }
        self.asm.widen(extend == Extend::Sign, from, to, target, source);
        true
    }

    pub fn lea(&mut self, uop: &Uop, address: AddressSize, ea: Ea, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if address == AddressSize::A16 {
            self.offset_into(Reg::R11, uop, ea);
            if size == Size::W {
                self.asm.mov(Size::W, to, Reg::R11);
            } else {
                self.asm.widen(false, Size::W, Size::D, to, Reg::R11);
            }
        } else if size == Size::D {
            self.offset_into(to, uop, ea);
        } else {
            self.offset_into(Reg::R11, uop, ea);
            self.asm.mov(size, to, Reg::R11);
        }
        true
    }

    /// `to = a + (b << x) + imm`, 32 bits. Leaves the flags.
    pub fn offset_into(&mut self, to: Reg, uop: &Uop, ea: Ea) {
        let disp = uop.imm as i32;
        let base = match place(uop.a) {
            Place::Zero => None,
            _ => Some(self.read(uop.a, Reg::R11)),
        };
        let index = match (ea, place(uop.b)) {
            (Ea::Base, _) | (_, Place::Zero) => None,
            _ => Some(self.read(uop.b, Reg::R14)),
        };
        match (base, index) {
            (None, None) => self.asm.mov_imm(Size::D, to, uop.imm),
            (Some(base), None) if disp == 0 => {
                if base != to {
                    self.asm.mov(Size::D, to, base);
                }
            }
            (Some(base), None) => self.asm.lea(Size::D, to, Mem::Base(base, disp)),
            (None, Some(index)) => self.asm.lea(Size::D, to, Mem::Scaled(index, uop.x & 3, disp)),
            (Some(base), Some(index)) => self.asm.lea(Size::D, to, Mem::Index(base, index, uop.x & 3, disp)),
        }
    }

    fn right(&mut self, uop: &Uop, form: Form, size: Size, live: bool) -> Right {
        match form {
            Form::Imm => Right::Imm(uop.imm),
            // Flags are stored from byte 0; what lies in byte 1 is copied there once.
            Form::Reg if size == Size::B && live => Right::Reg(self.read_low(uop.b, Reg::R11)),
            Form::Reg => Right::Reg(self.read(uop.b, Reg::R11)),
        }
    }

    fn apply(&mut self, size: Size, what: Group1, to: Reg, right: Right) {
        match right {
            Right::Imm(value) => self.asm.alu_imm(size, what, to, value),
            Right::Reg(from) => self.pair(size, (what as u32) << 3, from, to),
        }
    }

    pub fn arithmetic(&mut self, uop: &Uop, alu: Alu, form: Form, size: Size, live: bool) -> bool {
        // Address arithmetic leaves the host's flags alone.
        if !live && size == Size::D && form == Form::Imm && matches!(alu, Alu::Add | Alu::Sub) {
            let (Place::Reg(to), Place::Reg(from)) = (place(uop.d), place(uop.a)) else { return false };
            let disp = if alu == Alu::Add { uop.imm } else { uop.imm.wrapping_neg() };
            self.asm.lea(Size::D, to, Mem::Base(from, disp as i32));
            return true;
        }
        let carry = matches!(alu, Alu::Adc | Alu::Sbb);
        let right = self.right(uop, form, size, live);
        let to = match (place(uop.d), place(uop.a)) {
            (Place::Reg(to), Place::Reg(_)) if uop.d == uop.a => to,
            // Of XADD: a temporary of its own, computed beside.
            (Place::Memory(_), Place::Reg(from)) if !carry && !from.is_high() => {
                self.asm.mov(Size::D, Reg::R14, from);
                Reg::R14
            }
            (Place::Reg(to), Place::Reg(from)) if size == Size::D && !matches!(right, Right::Reg(reg) if reg == to) => {
                self.asm.mov(Size::D, to, from);
                to
            }
            _ => return false,
        };
        let what = group(alu);
        match alu {
            Alu::And | Alu::Or | Alu::Xor => {
                self.apply(size, what, to, right);
                if live && self.owe(size, Origin::Logic(to)) {
                    return true;
                }
                if live {
                    self.remember_result(size, to);
                    self.remember_kind(Lazy::Logic, size);
                }
            }
            Alu::Add | Alu::Sub => {
                let origin = if alu == Alu::Add { Origin::Sum } else { Origin::Difference };
                if live && self.owe(size, origin(to, right)) {
                    self.apply(size, what, to, right);
                    return true;
                }
                if live {
                    self.remember_operand(A, size, to);
                    self.remember_right(size, right);
                }
                self.apply(size, what, to, right);
                if live {
                    self.remember_kind(if alu == Alu::Add { Lazy::Sum } else { Lazy::Difference }, size);
                }
            }
            Alu::Adc | Alu::Sbb => {
                self.need_host_flags(CF);
                if live {
                    self.remember_operand(A, size, to);
                    self.remember_right(size, right);
                }
                self.apply(size, what, to, right);
                if live {
                    self.remember_result(size, to);
                    self.remember_kind(if alu == Alu::Adc { Lazy::Add } else { Lazy::Sub }, size);
                }
            }
        }
        self.known.flags.host = if live { ARITHMETIC } else { 0 };
        if to == Reg::R14 {
            self.write(size, uop.d, to);
        }
        true
    }

    pub fn compare(&mut self, uop: &Uop, compare: Compare, form: Form, size: Size) -> bool {
        let Place::Reg(left) = place(uop.a) else { return false };
        match compare {
            Compare::Cmp => {
                let right = self.right(uop, form, size, true);
                if self.owe(size, Origin::Compared(left, right)) {
                    return true;
                }
                self.remember_operand(A, size, left);
                self.remember_right(size, right);
                self.apply(size, Group1::Cmp, left, right);
                self.remember_kind(Lazy::Difference, size);
            }
            Compare::Test => {
                let right = self.right(uop, form, size, false);
                match right {
                    // The usual test of a register against itself needs no copy.
                    Right::Reg(reg) if reg == left => {
                        if self.owe(size, Origin::Logic(left)) {
                            return true;
                        }
                        self.remember_result(size, left);
                        self.pair(size, 0x84, reg, left);
                    }
                    _ => {
                        let from = self.read_low(uop.a, Reg::R14);
                        if from != Reg::R14 {
                            self.asm.mov(Size::D, Reg::R14, from);
                        }
                        self.apply(size, Group1::And, Reg::R14, right);
                        self.remember_result(size, Reg::R14);
                    }
                }
                self.remember_kind(Lazy::Logic, size);
            }
        }
        self.known.flags.host = ARITHMETIC;
        true
    }

    /// INC and DEC where CF lives.
    pub fn step(&mut self, uop: &Uop, down: bool, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if uop.d != uop.a {
            return false;
        }
        self.need_carry_in_a();
        let carry = self.known.flags.host & CF;
        self.asm.group4(size, u8::from(down), to);
        self.remember_result(size, to);
        self.remember_kind(if down { Lazy::Dec } else { Lazy::Inc }, size);
        self.known.flags.host = ARITHMETIC & !CF | carry;
        true
    }

    pub fn negate(&mut self, uop: &Uop, size: Size, flags: Flag) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if uop.d != uop.a {
            return false;
        }
        if flags == Flag::Live {
            self.asm.store_imm(Size::D, A, 0);
            self.remember_operand(B, size, to);
        }
        self.asm.group3(size, 3, to);
        self.known.flags.host = 0;
        if flags == Flag::Live {
            self.remember_kind(Lazy::Difference, size);
            self.known.flags.host = ARITHMETIC;
        }
        true
    }

    pub fn invert(&mut self, uop: &Uop, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if uop.d != uop.a {
            return false;
        }
        self.asm.group3(size, 2, to);
        true
    }

    /// Remembers the flags of a product whose low part is in `low`; the host's CF and OF are right.
    fn remember_product(&mut self, size: Size, low: Reg) {
        self.asm.mov_imm(Size::D, Reg::R14, 0);
        self.asm.setcc(Cond::B, Reg::R14);
        self.remember_result(size, low);
        self.asm.imul_imm(Size::D, Reg::R14, Reg::R14, CF | OF);
        self.asm.store(Size::D, A, Reg::R14);
        self.remember_kind(Lazy::Result, size);
        self.known.flags.host = 0;
    }

    pub fn product(&mut self, uop: &Uop, form: Form, size: Size, live: bool) -> bool {
        let (Place::Reg(to), Place::Reg(from)) = (place(uop.d), place(uop.a)) else { return false };
        if size == Size::B {
            return false;
        }
        match form {
            Form::Imm => self.asm.imul_imm(size, to, from, uop.imm),
            Form::Reg => {
                if to != from {
                    return false;
                }
                let other = self.read(uop.b, Reg::R11);
                self.asm.extended(size, 0xaf, to, other);
            }
        }
        self.known.flags.host = 0;
        if live {
            self.remember_product(size, to);
        }
        true
    }

    pub fn muldiv(&mut self, uop: &Uop, kind: MulDiv, size: Size, live: bool) -> bool {
        if size == Size::B {
            return false;
        }
        let mut source = self.read(uop.a, Reg::R11);
        match kind {
            MulDiv::Mul | MulDiv::Imul => {
                self.asm.group3(size, if kind == MulDiv::Mul { 4 } else { 5 }, source);
                self.known.flags.host = 0;
                if live {
                    self.remember_product(size, Reg::Rax);
                }
            }
            MulDiv::Div | MulDiv::Idiv if size != Size::D => return false,
            MulDiv::Div => {
                // The quotient fits where the upper half is less than the divisor, and then that is not zero.
                self.asm.alu(size, Group1::Cmp, Reg::Rdx, source);
                let beyond = self.asm.jcc_forward(Cond::Ae);
                self.asm.group3(size, 6, source);
                self.known.flags.host = 0;
                self.cold_op(beyond);
            }
            MulDiv::Idiv => {
                if source != Reg::R11 {
                    self.asm.mov(Size::D, Reg::R11, source);
                    source = Reg::R11;
                }
                // A dividend of 32 bits by neither 0 nor -1 always works.
                self.asm.mov(Size::D, Reg::R14, Reg::Rax);
                self.asm.shift_imm(Size::D, 7, Reg::R14, 31);
                self.asm.alu(Size::D, Group1::Cmp, Reg::R14, Reg::Rdx);
                let wide = self.asm.jcc_forward(Cond::Ne);
                self.asm.lea(Size::D, Reg::R14, Mem::Base(source, 1));
                self.asm.alu_imm(Size::D, Group1::Cmp, Reg::R14, 1);
                let odd = self.asm.jcc_forward(Cond::Be);
                self.asm.group3(size, 7, source);
                self.known.flags.host = 0;
                self.cold_op(wide);
                self.cold_op(odd);
            }
        }
        true
    }

    pub fn bit(&mut self, uop: &Uop, bit: Bit, form: Form, size: Size, live: u32) -> bool {
        let Place::Reg(from) = place(uop.a) else { return false };
        if size == Size::B || bit != Bit::Bt && uop.d != uop.a {
            return false;
        }
        // Where others than CF live on, they have to be kept.
        let kept = live & !CF != 0;
        if kept {
            self.ask_for_result_form();
        }
        let number = match form {
            Form::Imm => None,
            Form::Reg => Some(self.read(uop.b, Reg::R11)),
        };
        let which = match bit {
            Bit::Bt => 4,
            Bit::Bts => 5,
            Bit::Btr => 6,
            Bit::Btc => 7,
        };
        match number {
            None => self.asm.bit_imm(size, which, from, uop.imm & (size.bits() - 1)),
            Some(number) => self.asm.bit(size, 0x83 | which << 3, from, number),
        }
        if live & CF != 0 {
            if kept {
                // AF stays, and OF: only CF is new.
                self.asm.setcc(Cond::B, Reg::R11);
                self.asm.widen(false, Size::B, Size::D, Reg::R11, Reg::R11);
                self.asm.load(Size::D, Reg::R14, A);
                self.asm.alu_imm(Size::D, Group1::And, Reg::R14, AF | OF);
                self.asm.alu(Size::D, Group1::Or, Reg::R14, Reg::R11);
                self.asm.store(Size::D, A, Reg::R14);
                self.known.flags.host = 0;
                return true;
            }
            self.asm.setcc_mem(Cond::B, A);
            self.asm.store_imm(Size::D, RESULT, 0);
            self.remember_kind(Lazy::Shr, Size::D);
        }
        self.known.flags.host = CF;
        true
    }

    /// The address of the word of a bit string.
    pub fn bit_offset(&mut self, uop: &Uop, size: Size) -> bool {
        if size != Size::D {
            return false;
        }
        let (Place::Reg(to), Place::Reg(from)) = (place(uop.d), place(uop.a)) else { return false };
        let number = self.read(uop.b, Reg::R14);
        if number != Reg::R14 {
            self.asm.mov(Size::D, Reg::R14, number);
        }
        self.asm.shift_imm(Size::D, 7, Reg::R14, 5);
        self.asm.lea(Size::D, to, Mem::Index(from, Reg::R14, 2, 0));
        self.known.flags.host = 0;
        true
    }

    pub fn scan(&mut self, uop: &Uop, scan: Scan, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if size != Size::D {
            return false;
        }
        let from = self.read(uop.a, Reg::R11);
        self.remember_result(size, from);
        self.remember_kind(Lazy::Logic, size);
        self.asm.extended(size, if scan == Scan::Forward { 0xbc } else { 0xbd }, Reg::R14, from);
        self.asm.extended(size, 0x40 | Cond::Ne as u8, to, Reg::R14);
        self.known.flags.host = ZF;
        true
    }

    pub fn swap_bytes(&mut self, uop: &Uop, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if size != Size::D || uop.d != uop.a {
            return false;
        }
        self.asm.bswap(to);
        true
    }

    /// An index of a string, up or down.
    pub fn advance(&mut self, uop: &Uop, size: Size) -> bool {
        let Place::Reg(index) = place(uop.d) else { return false };
        if size != Size::D {
            return false;
        }
        // DF, bit 10, becomes twice the step, or zero.
        self.asm.load(Size::D, Reg::R11, VALUE);
        self.asm.alu_imm(Size::D, Group1::And, Reg::R11, DF);
        self.asm.shift_imm(Size::D, 5, Reg::R11, DF.trailing_zeros() - 1 - uop.imm.trailing_zeros());
        self.asm.lea(Size::D, index, Mem::Base(index, uop.imm as i32));
        self.asm.alu(Size::D, Group1::Sub, index, Reg::R11);
        self.host_flags_gone();
        true
    }

    pub fn set(&mut self, uop: &Uop, cond: Cond) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        self.need_condition(cond);
        self.asm.setcc(cond, to);
        true
    }

    pub fn conditional_move(&mut self, uop: &Uop, cond: Cond, size: Size) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if size == Size::B {
            return false;
        }
        self.need_condition(cond);
        let from = self.read(uop.a, Reg::R11);
        self.asm.extended(size, 0x40 | cond as u8, to, from);
        true
    }

    pub fn compare_exchange(&mut self, uop: &Uop, size: Size) -> bool {
        let (Place::Memory(to), Place::Reg(old)) = (place(uop.d), place(uop.a)) else { return false };
        if size != Size::D {
            return false;
        }
        self.remember_operand(A, size, Reg::Rax);
        self.remember_operand(B, size, old);
        let new = self.read(uop.b, Reg::R11);
        self.asm.mov(size, Reg::R14, new);
        self.asm.alu(size, Group1::Cmp, Reg::Rax, old);
        self.asm.extended(size, 0x40 | Cond::Ne as u8, Reg::R14, old);
        self.asm.extended(size, 0x40 | Cond::Ne as u8, Reg::Rax, old);
        self.asm.store(size, state(usize::from(to)), Reg::R14);
        self.remember_kind(Lazy::Difference, size);
        self.known.flags.host = ARITHMETIC;
        true
    }

    pub fn flag(&mut self, what: FlagOp, live: u32) -> bool {
        match what {
            FlagOp::Cld => self.asm.alu_mem_imm(Size::D, Group1::And, VALUE, !DF),
            FlagOp::Std => self.asm.alu_mem_imm(Size::D, Group1::Or, VALUE, DF),
            FlagOp::Clc | FlagOp::Stc => {
                if live & (SF | ZF | PF | AF | OF) != 0 && !self.need_result_form() {
                    return false;
                }
                let set = what == FlagOp::Stc;
                if self.known.flags.known.is_some_and(|(lazy, _)| lazy == Lazy::Result) {
                    let (change, value) = if set { (Group1::Or, CF) } else { (Group1::And, !CF) };
                    self.asm.alu_mem_imm(Size::D, change, A, value);
                } else {
                    self.asm.store_imm(Size::D, A, u32::from(set));
                    self.asm.store_imm(Size::D, RESULT, 1);
                    self.remember_kind(Lazy::Result, Size::D);
                }
            }
            FlagOp::Cmc | FlagOp::Lahf | FlagOp::Sahf | FlagOp::Salc => return false,
        }
        self.known.flags.host = 0;
        true
    }
}

const _: () = assert!(RAX == 0 && RDX == 16);
