//! Writes x86-64 instructions, as many forms as the templates use.
//!
//! Instructions go into a buffer of fixed size whose place in the code memory is known, so that references to stubs and
//! data come out right at once. Whoever emits asks [`Assembler::room`] first; a full buffer drops bytes and is found so.

use crate::cpu::uop::{Cond, Size};

/// A host register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reg {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    // Bytes 1 of the first four, which no instruction with a REX prefix can name.
    Ah = 0x14,
    Ch = 0x15,
    Dh = 0x16,
    Bh = 0x17,
}

impl Reg {
    const fn code(self) -> u8 {
        self as u8 & 15
    }

    /// Whether it is byte 1 of another one.
    pub const fn is_high(self) -> bool {
        self as u8 >= 0x10
    }

    /// Whether an instruction that names it as `size` has a REX prefix.
    pub const fn needs_rex(self, size: Size) -> bool {
        !self.is_high() && (self.code() >= 8 || matches!(size, Size::B) && self.code() >= 4)
    }
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mem {
    /// `[base + displacement]`.
    Base(Reg, i32),
    /// `[base + (index << scale) + displacement]`; the index is not RSP.
    Index(Reg, Reg, u8, i32),
    /// `[(index << scale) + displacement]`.
    Scaled(Reg, u8, i32),
    /// At this host address, within 2 GiB of the code.
    Near(u64),
}

/// A reference to what is not known yet: where its 32-bit displacement stands.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Fixup(u32);

/// Two-operand arithmetic by its number in the instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Group1 {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
}

/// Bytes that a buffer holds.
const CAPACITY: usize = 64 << 10;
/// Room for any single template.
pub(super) const SLACK: usize = 1 << 10;

/// Up to eight bytes of an instruction: prefixes, opcode and what says where its operands are never are more. Above them stand zeros, or
/// what is written over.
#[derive(Clone, Copy)]
struct Bytes {
    value: u64,
    bits: u32,
}

impl Bytes {
    const NONE: Self = Self { value: 0, bits: 0 };

    /// One more.
    #[inline]
    fn then(self, byte: u8) -> Self {
        Self { value: self.value | u64::from(byte) << self.bits, bits: self.bits + 8 }
    }
}

/// The writer.
pub(super) struct Assembler {
    bytes: Box<[u8; CAPACITY]>,
    at: usize,
    /// Host address at which byte 0 will be executed.
    origin: u64,
    /// The first byte of what is rare,
    split: usize,
    /// and the host address at which that will be executed.
    rare: u64,
}

impl Assembler {
    /// An empty buffer.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].try_into().unwrap_or_else(|_| unreachable!("CAPACITY bytes")),
            at: 0,
            origin: 0,
            split: CAPACITY,
            rare: 0,
        }
    }

    /// Starts anew for code that will be executed at `origin`.
    pub fn start(&mut self, origin: u64) {
        self.at = 0;
        self.origin = origin;
        self.split = CAPACITY;
    }

    /// What is written from here on is rare, and will be executed at `origin`.
    pub fn start_rare(&mut self, origin: u64) {
        self.split = self.at;
        self.rare = origin;
    }

    /// What was written, up to what is rare.
    pub fn code(&self) -> &[u8] {
        &self.bytes[..self.at.min(self.split)]
    }

    /// What was written since [`Self::start_rare`].
    pub fn rare_code(&self) -> &[u8] {
        &self.bytes[self.at.min(self.split)..self.at]
    }

    /// Host address of a byte.
    fn address(&self, at: usize) -> u64 {
        if at < self.split { self.origin + at as u64 } else { self.rare + (at - self.split) as u64 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether so many bytes are still free.
    pub fn room(&self, bytes: usize) -> bool {
        self.at + bytes <= CAPACITY
    }

    /// Host address of the next instruction.
    pub fn here(&self) -> u64 {
        self.address(self.at)
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.put(Bytes::NONE.then(byte));
    }

    #[inline]
    fn dword(&mut self, value: u32) {
        self.put(Bytes { value: u64::from(value), bits: 32 });
    }

    /// Writes bytes, by one store.
    #[inline]
    fn put(&mut self, Bytes { value, bits }: Bytes) {
        if let Some(place) = self.bytes.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *place = value.to_le_bytes();
            self.at += bits as usize / 8;
        }
    }

    /// An immediate of a size: at most 32 bits, which the processor sign-extends for a quadword.
    #[inline]
    fn immediate(&mut self, size: Size, value: u32) {
        self.put(Bytes { value: u64::from(value), bits: 8 * size.bytes().min(4) });
    }

    /// An instruction that is nothing but its opcode.
    fn opcode(&mut self, size: Size, prefix: u8, rex: u8, force: bool, op: u32) {
        self.put(opcode(size, prefix, rex, force, op));
    }

    /// An instruction on two registers.
    fn registers(&mut self, size: Size, prefix: u8, op: u32, reg: u8, rm: Reg, force: bool) {
        debug_assert!(!(rm.is_high() && (force || reg >= 8)), "no REX with AH");
        let start = opcode(size, prefix, reg >> 3 << 2 | rm.code() >> 3, force, op);
        self.put(start.then(0xc0 | (reg & 7) << 3 | rm.code() & 7));
    }

    /// An instruction on a register and memory; `after` bytes of immediate follow.
    #[allow(clippy::too_many_arguments, reason = "they are the parts of one instruction")]
    fn memory(&mut self, size: Size, prefix: u8, op: u32, reg: u8, mem: Mem, force: bool, after: u64) {
        let field = (reg & 7) << 3;
        let high = reg >> 3 << 2;
        match mem {
            Mem::Base(base, disp) => {
                let start = opcode(size, prefix, high | base.code() >> 3, force, op);
                let mode = displacement_mode(base, disp);
                let rm = base.code() & 7;
                let start = start.then(mode | field | rm);
                self.put(if rm == 4 { start.then(0x24) } else { start });
                self.displacement(mode, disp);
            }
            Mem::Index(base, index, scale, disp) => {
                debug_assert!(index != Reg::Rsp);
                let start = opcode(size, prefix, high | index.code() >> 3 << 1 | base.code() >> 3, force, op);
                let mode = displacement_mode(base, disp);
                let sib = scale << 6 | (index.code() & 7) << 3 | base.code() & 7;
                self.put(start.then(mode | field | 4).then(sib));
                self.displacement(mode, disp);
            }
            Mem::Scaled(index, scale, disp) => {
                let start = opcode(size, prefix, high | index.code() >> 3 << 1, force, op);
                self.put(start.then(field | 4).then(scale << 6 | (index.code() & 7) << 3 | 5));
                self.dword(disp as u32);
            }
            Mem::Near(address) => {
                self.put(opcode(size, prefix, high, force, op).then(field | 5));
                let next = self.here() + 4 + after;
                self.dword(address.wrapping_sub(next) as u32);
            }
        }
    }

    fn displacement(&mut self, mode: u8, disp: i32) {
        let bits = match mode {
            0x40 => 8,
            0x80 => 32,
            _ => return,
        };
        self.put(Bytes { value: u64::from(disp as u32), bits });
    }

    /// An instruction of the kind `op r/m, r` (opcode of the byte form).
    pub fn rr(&mut self, size: Size, op: u32, reg: Reg, rm: Reg) {
        let op = op | u32::from(size != Size::B);
        let force = size == Size::B && (reg.needs_rex(size) || rm.needs_rex(size));
        debug_assert!(!(force && reg.is_high()), "no REX with AH");
        self.registers(size, 0, op, reg.code(), rm, force);
    }

    /// The same with a memory operand: `op m, r` or `op r, m`, as the opcode says.
    pub fn rm(&mut self, size: Size, op: u32, reg: Reg, mem: Mem) {
        let force = size == Size::B && reg.needs_rex(size);
        self.memory(size, 0, op | u32::from(size != Size::B), reg.code(), mem, force, 0);
    }

    /// `to = from`.
    pub fn mov(&mut self, size: Size, to: Reg, from: Reg) {
        self.rr(size, 0x88, from, to);
    }

    /// `to = value`; a doubleword clears the upper half. Leaves the flags.
    pub fn mov_imm(&mut self, size: Size, to: Reg, value: u32) {
        let force = size == Size::B && to.needs_rex(size);
        let op = if size == Size::B { 0xb0 } else { 0xb8 };
        self.opcode(size, 0, to.code() >> 3, force, op | u32::from(to.code() & 7));
        self.immediate(size, value);
    }

    /// `to` = 64 bits.
    pub fn mov_wide(&mut self, to: Reg, value: u64) {
        if let Ok(value) = u32::try_from(value) {
            self.mov_imm(Size::D, to, value);
            return;
        }
        self.opcode(Size::Q, 0, to.code() >> 3, false, 0xb8 | u32::from(to.code() & 7));
        self.dword(value as u32);
        self.dword((value >> 32) as u32);
    }

    /// `to = [mem]`.
    pub fn load(&mut self, size: Size, to: Reg, mem: Mem) {
        self.rm(size, 0x8a, to, mem);
    }

    /// `[mem] = from`.
    pub fn store(&mut self, size: Size, mem: Mem, from: Reg) {
        self.rm(size, 0x88, from, mem);
    }

    /// `[mem] = value`.
    pub fn store_imm(&mut self, size: Size, mem: Mem, value: u32) {
        let bytes = u64::from(size.bytes().min(4));
        self.memory(size, 0, 0xc6 | u32::from(size != Size::B), 0, mem, false, bytes);
        self.immediate(size, value);
    }

    /// `to` = a narrower register, widened. With zeros to a doubleword for [`Size::W`] and [`Size::B`].
    pub fn widen(&mut self, signed: bool, from_size: Size, to_size: Size, to: Reg, from: Reg) {
        let op = widen_op(signed, from_size);
        let force = from_size == Size::B && from.needs_rex(Size::B);
        self.registers(to_size, 0, op, to.code(), from, force);
    }

    /// The same from memory.
    pub fn load_widen(&mut self, signed: bool, from_size: Size, to_size: Size, to: Reg, mem: Mem) {
        self.memory(to_size, 0, widen_op(signed, from_size), to.code(), mem, false, 0);
    }

    /// `to` = an address.
    pub fn lea(&mut self, size: Size, to: Reg, mem: Mem) {
        self.memory(size, 0, 0x8d, to.code(), mem, false, 0);
    }

    /// `to` = the host address of what is not known yet.
    pub fn lea_forward(&mut self, to: Reg) -> Fixup {
        self.open(opcode(Size::Q, 0, to.code() >> 3 << 2, false, 0x8d).then(5 | (to.code() & 7) << 3))
    }

    /// Arithmetic on two registers.
    pub fn alu(&mut self, size: Size, what: Group1, to: Reg, from: Reg) {
        self.rr(size, (what as u32) << 3, from, to);
    }

    /// `to = to op [mem]`.
    pub fn alu_load(&mut self, size: Size, what: Group1, to: Reg, mem: Mem) {
        self.rm(size, (what as u32) << 3 | 2, to, mem);
    }

    /// `to = to op value`.
    pub fn alu_imm(&mut self, size: Size, what: Group1, to: Reg, value: u32) {
        let small = size != Size::B && i8::try_from(signed(size, value)).is_ok();
        let force = size == Size::B && to.needs_rex(size);
        let op = if size == Size::B {
            0x80
        } else if small {
            0x83
        } else {
            0x81
        };
        self.registers(size, 0, op, what as u8, to, force);
        self.immediate(if small { Size::B } else { size }, value);
    }

    /// `[mem] = [mem] op value`, or the comparison.
    pub fn alu_mem_imm(&mut self, size: Size, what: Group1, mem: Mem, value: u32) {
        let small = size != Size::B && i8::try_from(signed(size, value)).is_ok();
        let op = if size == Size::B {
            0x80
        } else if small {
            0x83
        } else {
            0x81
        };
        let bytes = if small { 1 } else { u64::from(size.bytes().min(4)) };
        self.memory(size, 0, op, what as u8, mem, false, bytes);
        self.immediate(if small { Size::B } else { size }, value);
    }

    /// Flags of `one & other`.
    pub fn test(&mut self, size: Size, one: Reg, other: Reg) {
        self.rr(size, 0x84, other, one);
    }

    /// Flags of `one & value`.
    pub fn test_imm(&mut self, size: Size, one: Reg, value: u32) {
        let force = size == Size::B && one.needs_rex(size);
        self.registers(size, 0, 0xf6 | u32::from(size != Size::B), 0, one, force);
        self.immediate(size, value);
    }

    /// Flags of `[mem] & value`.
    pub fn test_mem_imm(&mut self, size: Size, mem: Mem, value: u32) {
        let bytes = u64::from(size.bytes().min(4));
        self.memory(size, 0, 0xf6 | u32::from(size != Size::B), 0, mem, false, bytes);
        self.immediate(size, value);
    }

    /// NOT (2), NEG (3), MUL (4), IMUL (5), DIV (6), IDIV (7).
    pub fn group3(&mut self, size: Size, number: u8, reg: Reg) {
        let force = size == Size::B && reg.needs_rex(size);
        self.registers(size, 0, 0xf6 | u32::from(size != Size::B), number, reg, force);
    }

    /// INC (0), DEC (1).
    pub fn group4(&mut self, size: Size, number: u8, reg: Reg) {
        let force = size == Size::B && reg.needs_rex(size);
        self.registers(size, 0, 0xfe | u32::from(size != Size::B), number, reg, force);
    }

    /// Shifts and rotates by a constant: ROL, ROR, RCL, RCR, SHL, SHR, (6), SAR.
    pub fn shift_imm(&mut self, size: Size, number: u8, reg: Reg, count: u32) {
        let force = size == Size::B && reg.needs_rex(size);
        let wide = u32::from(size != Size::B);
        if count == 1 {
            self.registers(size, 0, 0xd0 | wide, number, reg, force);
        } else {
            self.registers(size, 0, 0xc0 | wide, number, reg, force);
            self.byte(count as u8);
        }
    }

    /// The same by CL.
    pub fn shift_cl(&mut self, size: Size, number: u8, reg: Reg) {
        let force = size == Size::B && reg.needs_rex(size);
        self.registers(size, 0, 0xd2 | u32::from(size != Size::B), number, reg, force);
    }

    /// SHLD or (`right`) SHRD by a constant.
    pub fn double_shift(&mut self, size: Size, right: bool, to: Reg, from: Reg, count: u32) {
        self.registers(size, 0, if right { 0x1ac } else { 0x1a4 }, from.code(), to, false);
        self.byte(count as u8);
    }

    /// The same by CL.
    pub fn double_shift_cl(&mut self, size: Size, right: bool, to: Reg, from: Reg) {
        self.registers(size, 0, if right { 0x1ad } else { 0x1a5 }, from.code(), to, false);
    }

    /// An instruction of the 0F map on registers that takes no bytes: IMUL (af), BSF (bc), BSR (bd), CMOVcc (40 + cc).
    pub fn extended(&mut self, size: Size, op: u8, to: Reg, from: Reg) {
        self.registers(size, 0, 0x100 | u32::from(op), to.code(), from, false);
    }

    /// `to = from * value`.
    pub fn imul_imm(&mut self, size: Size, to: Reg, from: Reg, value: u32) {
        self.registers(size, 0, 0x69, to.code(), from, false);
        self.immediate(size, value);
    }

    /// BT (a3), BTS (ab), BTR (b3), BTC (bb) of `to` by register.
    pub fn bit(&mut self, size: Size, op: u8, to: Reg, number: Reg) {
        self.registers(size, 0, 0x100 | u32::from(op), number.code(), to, false);
    }

    /// BT (4), BTS (5), BTR (6), BTC (7) by a constant.
    pub fn bit_imm(&mut self, size: Size, which: u8, to: Reg, number: u32) {
        self.registers(size, 0, 0x1ba, which, to, false);
        self.byte(number as u8);
    }

    /// CF = a bit of memory.
    pub fn bit_test_mem(&mut self, mem: Mem, number: u8) {
        self.memory(Size::D, 0, 0x1ba, 4, mem, false, 1);
        self.byte(number);
    }

    /// BSWAP of 32 bits.
    pub fn bswap(&mut self, reg: Reg) {
        self.opcode(Size::D, 0, reg.code() >> 3, false, 0x1c8 | u32::from(reg.code() & 7));
    }

    /// `reg` (a byte) = whether the condition holds.
    pub fn setcc(&mut self, cond: Cond, reg: Reg) {
        self.registers(Size::D, 0, 0x190 | cond as u32, 0, reg, reg.needs_rex(Size::B));
    }

    /// `[mem]` (a byte) = whether the condition holds.
    pub fn setcc_mem(&mut self, cond: Cond, mem: Mem) {
        self.memory(Size::D, 0, 0x190 | cond as u32, 0, mem, false, 0);
    }

    /// Exchanges two registers.
    pub fn xchg(&mut self, size: Size, one: Reg, other: Reg) {
        self.rr(size, 0x86, one, other);
    }

    /// An SSE instruction between XMM registers or such and memory. `prefix` is 0, 66, F2 or F3; `op` is in the 0F map.
    pub fn sse_mem(&mut self, prefix: u8, op: u8, xmm: u8, mem: Mem) {
        self.memory(Size::D, prefix, 0x100 | u32::from(op), xmm, mem, false, 0);
    }

    /// The same between XMM registers.
    pub fn sse(&mut self, prefix: u8, op: u8, xmm: u8, other: u8) {
        self.opcode(Size::D, prefix, xmm >> 3 << 2 | other >> 3, false, 0x100 | u32::from(op));
        self.byte(0xc0 | (xmm & 7) << 3 | other & 7);
    }

    /// An x87 instruction on memory: the low three bits of its first byte, and the register field.
    pub fn x87_mem(&mut self, escape: u8, field: u8, mem: Mem) {
        self.memory(Size::D, 0, 0xd8 | u32::from(escape & 7), field, mem, false, 0);
    }

    /// The same on registers: the second byte is given whole.
    pub fn x87(&mut self, escape: u8, second: u8) {
        self.byte(0xd8 | escape & 7);
        self.byte(second);
    }

    /// FXSAVE with 64-bit pointers.
    pub fn fxsave(&mut self, mem: Mem) {
        self.memory(Size::Q, 0, 0x1ae, 0, mem, false, 0);
    }

    /// One byte more, of an instruction that ends in an immediate.
    pub fn trailing(&mut self, byte: u8) {
        self.byte(byte);
    }

    pub fn push(&mut self, reg: Reg) {
        self.opcode(Size::D, 0, reg.code() >> 3, false, 0x50 | u32::from(reg.code() & 7));
    }

    pub fn pop(&mut self, reg: Reg) {
        self.opcode(Size::D, 0, reg.code() >> 3, false, 0x58 | u32::from(reg.code() & 7));
    }

    pub fn ret(&mut self) {
        self.byte(0xc3);
    }

    /// REP MOVS (a4) or STOS (aa), upwards.
    pub fn repeat(&mut self, size: Size, op: u8) {
        if size == Size::W {
            self.byte(0x66);
        }
        self.byte(0xf3);
        self.byte(op | u8::from(size != Size::B));
    }

    /// CLC (f8) or STC (f9), PUSHFQ (9c), POPFQ (9d), SAHF (9e).
    pub fn plain(&mut self, op: u8) {
        self.byte(op);
    }

    /// A call of code within 2 GiB.
    pub fn call(&mut self, target: u64) {
        self.branch(Bytes::NONE.then(0xe8), target);
    }

    /// A call through a register.
    pub fn call_reg(&mut self, reg: Reg) {
        self.registers(Size::D, 0, 0xff, 2, reg, false);
    }

    /// A jump to code within 2 GiB.
    pub fn jmp(&mut self, target: u64) {
        self.branch(Bytes::NONE.then(0xe9), target);
    }

    /// A jump through a register.
    pub fn jmp_reg(&mut self, reg: Reg) {
        self.registers(Size::D, 0, 0xff, 4, reg, false);
    }

    /// A jump through memory.
    pub fn jmp_mem(&mut self, mem: Mem) {
        self.memory(Size::D, 0, 0xff, 4, mem, false, 0);
    }

    /// A conditional jump to code within 2 GiB.
    pub fn jcc(&mut self, cond: Cond, target: u64) {
        self.branch(Bytes::NONE.then(0x0f).then(0x80 | cond as u8), target);
    }

    /// A conditional jump forward.
    pub fn jcc_forward(&mut self, cond: Cond) -> Fixup {
        self.open(Bytes::NONE.then(0x0f).then(0x80 | cond as u8))
    }

    /// A jump forward.
    pub fn jmp_forward(&mut self) -> Fixup {
        self.open(Bytes::NONE.then(0xe9))
    }

    /// Calls what is not known yet.
    pub fn call_forward(&mut self) -> Fixup {
        self.open(Bytes::NONE.then(0xe8))
    }

    /// An instruction that ends in a displacement to code within 2 GiB.
    fn branch(&mut self, start: Bytes, target: u64) {
        let next = self.here() + u64::from(start.bits / 8) + 4;
        let distance = u64::from(target.wrapping_sub(next) as u32);
        self.put(Bytes { value: start.value | distance << start.bits, bits: start.bits + 32 });
    }

    /// An instruction that ends in a displacement to what is not known yet.
    fn open(&mut self, start: Bytes) -> Fixup {
        self.put(Bytes { bits: start.bits + 32, ..start });
        Fixup((self.at - 4) as u32)
    }

    /// Here is where that jump leads.
    pub fn bind(&mut self, fixup: Fixup) {
        self.bind_to(fixup, self.here());
    }

    /// That jump leads to a host address within 2 GiB.
    pub fn bind_to(&mut self, fixup: Fixup, target: u64) {
        let at = fixup.0 as usize;
        let distance = target.wrapping_sub(self.address_of(fixup) + 4) as u32;
        if let Some(place) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = distance.to_le_bytes();
        }
    }

    /// Host address of that jump's displacement.
    pub fn address_of(&self, fixup: Fixup) -> u64 {
        self.address(fixup.0 as usize)
    }
}

/// Prefixes and opcode. Opcodes above 0xff are those of the 0F map.
#[inline]
fn opcode(size: Size, prefix: u8, rex: u8, force: bool, op: u32) -> Bytes {
    let mut bytes = Bytes::NONE;
    if size == Size::W {
        bytes = bytes.then(0x66);
    }
    if prefix != 0 {
        bytes = bytes.then(prefix);
    }
    let rex = rex | if size == Size::Q { 8 } else { 0 };
    if rex != 0 || force {
        bytes = bytes.then(0x40 | rex);
    }
    if op > 0xffff {
        bytes = bytes.then(0x0f).then((op >> 8) as u8);
    } else if op > 0xff {
        bytes = bytes.then(0x0f);
    }
    bytes.then(op as u8)
}

/// The mode field for a displacement: none, of a byte, of a doubleword.
#[inline]
fn displacement_mode(base: Reg, disp: i32) -> u8 {
    if disp == 0 && base.code() & 7 != 5 {
        0
    } else if i8::try_from(disp).is_ok() {
        0x40
    } else {
        0x80
    }
}

/// An immediate as the processor sees it.
fn signed(size: Size, value: u32) -> i32 {
    match size {
        Size::B => i32::from(value as i8),
        Size::W => i32::from(value as i16),
        Size::D | Size::Q => value as i32,
    }
}

/// MOVZX or MOVSX from a byte or a word.
fn widen_op(signed: bool, from: Size) -> u32 {
    0x1b6 | u32::from(signed) << 3 | u32::from(from != Size::B)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    use super::*;

    fn text(emit: impl FnOnce(&mut Assembler)) -> String {
        let mut asm = Assembler::new();
        asm.start(0x1000);
        emit(&mut asm);
        let mut decoder = Decoder::with_ip(64, asm.code(), 0x1000, DecoderOptions::NONE);
        let mut formatter = IntelFormatter::new();
        let mut lines = Vec::new();
        while decoder.can_decode() {
            let mut line = String::new();
            formatter.format(&decoder.decode(), &mut line);
            lines.push(line);
        }
        lines.join("; ")
    }

    #[test]
    fn registers_of_all_sizes() {
        use Reg::{Ah, Bh, R8, R10, Rax, Rdi, Rsi};
        assert_eq!(text(|a| a.mov(Size::B, Ah, Reg::Rbx)), "mov ah,bl");
        assert_eq!(text(|a| a.mov(Size::B, Rsi, Rax)), "mov sil,al");
        assert_eq!(text(|a| a.mov(Size::W, R10, Rdi)), "mov r10w,di");
        assert_eq!(text(|a| a.mov(Size::D, R8, Rdi)), "mov r8d,edi");
        assert_eq!(text(|a| a.mov(Size::Q, Rdi, R8)), "mov rdi,r8");
        assert_eq!(text(|a| a.xchg(Size::B, Rax, Ah)), "xchg ah,al");
        assert_eq!(text(|a| a.alu(Size::B, Group1::Adc, Bh, Rax)), "adc bh,al");
        assert_eq!(text(|a| a.alu_imm(Size::W, Group1::Sub, R10, 0xffff)), "sub r10w,0FFFFh");
        assert_eq!(text(|a| a.alu_imm(Size::D, Group1::Cmp, R10, 0x1234)), "cmp r10d,1234h");
        assert_eq!(text(|a| a.widen(true, Size::B, Size::W, Rax, R10)), "movsx ax,r10b");
        assert_eq!(text(|a| a.widen(false, Size::B, Size::D, Rsi, Ah)), "movzx esi,ah");
        assert_eq!(text(|a| a.setcc(Cond::L, R10)), "setl r10b");
        assert_eq!(text(|a| a.setcc(Cond::L, Ah)), "setl ah");
        assert_eq!(text(|a| a.mov_wide(R10, 0x1_2345_6789)), "mov r10,123456789h");
        assert_eq!(text(|a| a.bswap(R8)), "bswap r8d");
        assert_eq!(text(|a| a.double_shift(Size::D, true, Rax, R8, 5)), "shrd eax,r8d,5");
        assert_eq!(text(|a| a.bit_imm(Size::D, 5, R10, 9)), "bts r10d,9");
        assert_eq!(text(|a| a.imul_imm(Size::D, R10, Rax, 0x801)), "imul r10d,eax,801h");
    }

    #[test]
    fn memory_operands_of_all_kinds() {
        use Reg::{R12, R13, Rax, Rbp, Rsp};
        assert_eq!(text(|a| a.load(Size::D, Rax, Mem::Base(Rbp, 0))), "mov eax,[rbp]");
        assert_eq!(text(|a| a.load(Size::D, Rax, Mem::Base(R13, 0))), "mov eax,[r13]");
        assert_eq!(text(|a| a.load(Size::Q, R12, Mem::Base(R12, -8))), "mov r12,[r12-8]");
        assert_eq!(text(|a| a.store(Size::B, Mem::Base(Rsp, 300), R12)), "mov [rsp+12Ch],r12b");
        assert_eq!(text(|a| a.lea(Size::D, Rax, Mem::Index(R13, R12, 2, 8))), "lea eax,[r13+r12*4+8]");
        assert_eq!(text(|a| a.lea(Size::D, Rax, Mem::Scaled(Rax, 3, -4))), "lea eax,[rax*8-4]");
        assert_eq!(text(|a| a.store_imm(Size::W, Mem::Near(0x2000), 0x1234)), "mov word ptr [2000h],1234h");
        assert_eq!(text(|a| a.alu_mem_imm(Size::D, Group1::Cmp, Mem::Near(0x1000), 1)), "cmp dword ptr [1000h],1");
        assert_eq!(text(|a| a.sse_mem(0xf3, 0x6f, 9, Mem::Index(Rax, R12, 0, 0))), "movdqu xmm9,[rax+r12]");
        assert_eq!(text(|a| a.jmp_mem(Mem::Base(R12, 8))), "jmp qword ptr [r12+8]");
    }

    #[test]
    fn a_forward_jump_leads_to_where_it_was_bound() {
        let code = text(|a| {
            let skip = a.jcc_forward(Cond::E);
            a.ret();
            a.bind(skip);
            a.jmp(0x1000);
        });
        // Six bytes and one: the jump has a displacement of 32 bits.
        assert_eq!(code, "je 0000000000001007h; ret; jmp 0000000000001000h");
    }

    #[test]
    fn what_is_rare_stands_elsewhere() {
        let mut asm = Assembler::new();
        asm.start(0x1000);
        let away = asm.jcc_forward(Cond::E);
        let back = asm.here();
        asm.ret();
        asm.start_rare(0x9000);
        asm.bind(away);
        asm.jmp(back);
        assert_eq!(asm.code(), [0x0f, 0x84, 0xfa, 0x7f, 0, 0, 0xc3]);
        assert_eq!(asm.rare_code(), [0xe9, 0x01, 0x80, 0xff, 0xff]);
    }
}
