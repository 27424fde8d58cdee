//! Instruction to micro-ops: the one place that knows what x86 integer instructions mean.
//!
//! What is too awkward to be a handful of micro-ops becomes one call of a [`Helper`]. A fault must leave the state as
//! it was before the instruction, so ops that may fault come first: a read-modify-write of memory opens with
//! [`Op::LoadForWrite`], after which the store cannot fault.

mod alu;
mod bit;
mod branch;
mod mov;
mod muldiv;
mod shift;
mod stack;
mod string;
mod vector;
mod x87;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::cpuid::CpuModel;
use super::fault::Fault;
use super::helper;
use super::helper::operand::{address_bits, segment_of};
use super::state::{SegReg, Segment};
use super::uop::{AddressSize, Ea, Flag, FlagOp, Guarded, Op, Size, T0, TA, Uop, ZERO};
use super::{Cpu, Flow, Helper};
use crate::bus::Bus;

/// What of the processor's mode is compiled into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    bits: u32,
    /// Limit of CS.
    pub limit: u32,
}

impl Mode {
    const CODE32: u32 = 1 << 6;
    const STACK32: u32 = 1 << 7;
    const USER: u32 = 1 << 8;
    const PROTECTED: u32 = 1 << 9;
    const V86: u32 = 1 << 10;
    const SINGLE: u32 = 1 << 11;
    /// Other memory may be at the same addresses.
    const SMM: u32 = 1 << 12;
    /// Offsets of blocks count from the start of their page.
    const RELATIVE: u32 = 1 << 13;
    /// Flat 32-bit code at level 3.
    const MOVABLE: u32 = 1 << SegReg::Cs as u32 | Self::CODE32 | Self::USER;

    /// Whether code runs at privilege level 3.
    pub fn is_user(self) -> bool {
        self.bits & Self::USER != 0
    }

    /// The mode of a processor now.
    #[inline]
    pub fn of(cpu: &Cpu) -> Self {
        let state = &cpu.state;
        let mut bits = 0;
        for seg in SegReg::ALL {
            bits |= u32::from(is_flat(state.segment(seg), seg)) << seg as u32;
        }
        let set = |yes: bool, bit: u32| if yes { bit } else { 0 };
        let code = state.segment(SegReg::Cs);
        bits |= set(code.big(), Self::CODE32)
            | set(state.segment(SegReg::Ss).big(), Self::STACK32)
            | set(state.cpl == 3, Self::USER)
            | set(state.protected(), Self::PROTECTED)
            | set(state.v86(), Self::V86)
            | set(state.smm, Self::SMM);
        // Programs and their libraries lie anywhere in linear memory; a kernel always lies where it lies.
        let movable = bits & Self::MOVABLE == Self::MOVABLE;
        bits |= set(movable && cpu.code.relative, Self::RELATIVE);
        Self { bits, limit: code.limit }
    }

    /// The bits of an offset in CS that are the origin of the block there: what its own offsets count from. Where code is flat and a
    /// program's that is its page, so that the block serves wherever the page is mapped; elsewhere it is zero.
    #[inline]
    pub(super) fn origin_bits(self) -> u32 {
        if self.is_relative() { 0xffff_f000 } else { 0 }
    }

    /// Whether blocks have origins other than zero.
    #[inline]
    pub(super) fn is_relative(self) -> bool {
        self.bits & Self::RELATIVE != 0
    }

    /// The mode for blocks of one instruction.
    #[must_use]
    pub fn single(self) -> Self {
        Self { bits: self.bits | Self::SINGLE, ..self }
    }

    /// Whether a block of this mode has one instruction.
    pub fn is_single(self) -> bool {
        self.bits & Self::SINGLE != 0
    }

    /// Default operand and address size in bits.
    pub fn bitness(self) -> u32 {
        if self.bits & Self::CODE32 != 0 { 32 } else { 16 }
    }

    /// One number for all of it.
    #[inline]
    pub fn key(self) -> u64 {
        u64::from(self.limit) << 32 | u64::from(self.bits)
    }

    /// The mode of a key.
    pub const fn from_key(key: u64) -> Self {
        Self { bits: key as u32, limit: (key >> 32) as u32 }
    }

    /// Whether an access through a segment needs no check and no base.
    fn flat(self, seg: SegReg, write: bool) -> bool {
        self.bits >> seg as u32 & 1 != 0 && !(write && seg == SegReg::Cs)
    }

    /// Whether an offset in CS is a linear address.
    pub(super) fn flat_code(self) -> bool {
        self.flat(SegReg::Cs, false)
    }

    /// Size of the stack pointer.
    fn stack(self) -> Size {
        if self.bits & Self::STACK32 != 0 { Size::D } else { Size::W }
    }

    /// Whether the stack is 32 bits wide and needs no segment check.
    fn flat_stack(self) -> bool {
        self.stack() == Size::D && self.flat(SegReg::Ss, true)
    }
}

/// Whether an access through a segment register that holds this needs no check and no base.
#[inline]
pub(super) fn is_flat(segment: &Segment, seg: SegReg) -> bool {
    /// Rights of a segment that can be written: present, data, grows up, writable (DPL, accessed, AVL, G and B don't care).
    const MASK: u16 = 0b1001_1110;
    const DATA: u16 = 0b1001_0010;
    const CODE_MASK: u16 = 0b1001_1010;
    const READABLE_CODE: u16 = 0b1001_1010;
    let kind =
        if seg == SegReg::Cs { segment.rights & CODE_MASK == READABLE_CODE } else { segment.rights & MASK == DATA };
    segment.base == 0 && segment.limit == u32::MAX && kind
}

/// Whether more instructions may follow in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Execution may go on with the next instruction.
    No,
    /// The ops end with one that leaves the block.
    Yes,
}

/// A memory operand, ready to be folded into an op.
#[derive(Clone, Copy)]
struct Address {
    a: u8,
    b: u8,
    x: u8,
    imm: u32,
    ea: Ea,
}

impl Address {
    /// The linear address in a slot.
    const fn slot(a: u8) -> Self {
        Self { a, b: ZERO, x: 0, imm: 0, ea: Ea::Base }
    }

    /// An op on this address.
    fn op(self, kind: impl FnOnce(Ea) -> Op) -> Uop {
        let Self { a, b, x, imm, ea } = self;
        Uop { a, b, x, imm, ..Uop::new(kind(ea)) }
    }
}

/// Where lifted ops go.
#[derive(Default)]
pub struct Lifted {
    /// The ops.
    pub ops: Vec<Uop>,
    /// What [`Op::Helper`] calls, by number.
    pub helpers: Vec<(Helper, Instruction)>,
    /// Which vector units were found to be there since the last helper, a bit each.
    checked: u8,
}

impl Lifted {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.helpers.clear();
        self.checked = 0;
    }
}

/// Lifts one instruction behind what is already in `into`, as a processor of this model executes it.
pub fn lift(into: &mut Lifted, insn: &Instruction, mode: Mode, model: CpuModel) -> Ends {
    let mut lifter = Lifter { into, insn, mode };
    if model.executes(insn.code()) { lifter.lift() } else { lifter.undefined() }
}

/// Lifts an instruction of more than 15 bytes: #GP(0).
pub fn lift_too_long(into: &mut Lifted, insn: &Instruction, mode: Mode) -> Ends {
    let mut lifter = Lifter { into, insn, mode };
    lifter.call(|_, _, _| Err(Fault::gp(0)));
    lifter.leave()
}

/// `Helper` of an instruction that does not exist.
fn undefined(_: &mut Cpu, _: &mut dyn Bus, _: &Instruction) -> Result<Flow, Fault> {
    Err(Fault::ud())
}

struct Lifter<'a> {
    into: &'a mut Lifted,
    insn: &'a Instruction,
    mode: Mode,
}

/// The slot of a general register.
fn register_slot(register: Register) -> u8 {
    match register {
        Register::None => ZERO,
        Register::AH | Register::CH | Register::DH | Register::BH => super::uop::slot(register.number() - 4) + 1,
        _ => super::uop::slot(register.number() & 15),
    }
}

fn register_size(register: Register) -> Size {
    match register.size() {
        1 => Size::B,
        2 => Size::W,
        8 => Size::Q,
        _ => Size::D,
    }
}

impl Lifter<'_> {
    fn emit(&mut self, op: Uop) {
        self.into.ops.push(op);
    }

    /// Calls `helper` for this instruction.
    fn call(&mut self, helper: Helper) {
        self.call_as(Op::Helper {}, helper);
    }

    /// The same where the op says more of it.
    fn call_as(&mut self, op: Op, helper: Helper) {
        let number = self.into.helpers.len() as u32;
        self.into.helpers.push((helper, *self.insn));
        self.into.checked = 0;
        self.emit(Uop::new(op).imm(number));
    }

    /// Ends the block with a look at interrupts and mode.
    fn leave(&mut self) -> Ends {
        self.emit(Uop::new(Op::Leave {}).imm(self.insn.next_ip() as u32));
        Ends::Yes
    }

    /// #UD.
    fn undefined(&mut self) -> Ends {
        self.call(undefined);
        self.leave()
    }

    fn is_memory(&self, operand: u32) -> bool {
        self.insn.op_kind(operand) == OpKind::Memory
    }

    fn is_register(&self, operand: u32) -> bool {
        self.insn.op_kind(operand) == OpKind::Register
    }

    /// The slot of register operand `operand`.
    fn register(&self, operand: u32) -> u8 {
        register_slot(self.insn.op_register(operand))
    }

    fn immediate(&self, operand: u32) -> u32 {
        self.insn.immediate(operand) as u32
    }

    /// Size of a register or memory operand.
    fn size(&self, operand: u32) -> Size {
        if self.is_memory(operand) {
            return match self.insn.memory_size().size() {
                1 => Size::B,
                2 => Size::W,
                8 => Size::Q,
                _ => Size::D,
            };
        }
        register_size(self.insn.op_register(operand))
    }

    fn address_size(&self) -> AddressSize {
        if address_bits(self.insn) == 16 { AddressSize::A16 } else { AddressSize::A32 }
    }

    /// The offset of the memory operand as the operands of an op, not yet cut.
    fn offset(&self) -> Address {
        let (base, index) = (self.insn.memory_base(), self.insn.memory_index());
        let imm = match self.address_size() {
            AddressSize::A16 => self.insn.memory_displacement64() as i16 as u32,
            AddressSize::A32 => self.insn.memory_displacement64() as u32,
        };
        if index == Register::None {
            return Address { imm, ..Address::slot(register_slot(base)) };
        }
        let x = self.insn.memory_index_scale().trailing_zeros() as u8;
        Address { a: register_slot(base), b: register_slot(index), x, imm, ea: Ea::Index }
    }

    /// The memory operand, checked for an access of `bytes`.
    fn address(&mut self, bytes: u32, write: bool) -> Address {
        let offset = self.offset();
        self.locate(offset, bytes, write)
    }

    /// An offset in the instruction's segment, cut and checked.
    fn locate(&mut self, offset: Address, bytes: u32, write: bool) -> Address {
        let address = self.address_size();
        self.locate_in(segment_of(self.insn), address, offset, bytes, write)
    }

    fn locate_in(&mut self, seg: SegReg, address: AddressSize, offset: Address, bytes: u32, write: bool) -> Address {
        match (self.mode.flat(seg, write), address) {
            (true, AddressSize::A32) => return offset,
            (true, AddressSize::A16) => {
                self.emit(offset.op(|ea| Op::Lea { address, ea, size: Size::D }).d(TA));
            }
            (false, _) => {
                let check = Uop::segment_check(seg as u8, bytes, write);
                self.emit(offset.op(|ea| Op::Segment { address, ea }).d(TA).imm2(check));
            }
        }
        Address::slot(TA)
    }

    /// An operand as a slot: its register, or [`T0`] after a load.
    fn read(&mut self, operand: u32, size: Size) -> u8 {
        if !self.is_memory(operand) {
            return self.register(operand);
        }
        let address = self.address(size.bytes(), false);
        self.emit(address.op(|ea| Op::Load { size, ea }).d(T0));
        T0
    }

    /// Changes operand 0: `change` is given the slot to read and the slot to write.
    fn modify(&mut self, size: Size, change: impl FnOnce(&mut Self, u8)) {
        if !self.is_memory(0) {
            let slot = self.register(0);
            change(self, slot);
            return;
        }
        let address = self.address(size.bytes(), true);
        self.emit(address.op(|ea| Op::LoadForWrite { size, ea }).d(T0));
        change(self, T0);
        self.emit(address.op(|ea| Op::Store { size, ea }).d(T0));
    }

    /// Writes a slot into operand 0.
    fn write(&mut self, size: Size, slot: u8) {
        if self.is_memory(0) {
            let address = self.address(size.bytes(), true);
            self.emit(address.op(|ea| Op::Store { size, ea }).d(slot));
        } else {
            let to = self.register(0);
            self.emit(Uop::new(Op::Mov { size }).d(to).a(slot));
        }
    }

    fn flag(&mut self, what: FlagOp) {
        self.emit(Uop::new(Op::Flag { what }));
    }

    fn lift(&mut self) -> Ends {
        if self.insn.is_invalid() {
            return self.undefined();
        }
        if let Some(ends) = self.branch() {
            return ends;
        }
        if self.alu()
            || self.mov()
            || self.stack()
            || self.string()
            || self.shift()
            || self.muldiv()
            || self.bit()
            || self.flags()
        {
            return Ends::No;
        }
        if self.is_hint() || self.vector() {
            return Ends::No;
        }
        let Some(helper) = helper::find(self.insn.code()) else {
            return self.undefined();
        };
        if self.x87(helper) {
            return Ends::No;
        }
        if let Some(op) = self.repeated().or_else(|| self.guarded()) {
            self.call_as(op, helper);
            return Ends::No;
        }
        self.call(helper);
        if self.ends_after_helper() {
            return self.leave();
        }
        Ends::No
    }

    /// The op of an instruction on flags that a system may change, where the stack is flat.
    fn guarded(&self) -> Option<Op> {
        let what = match self.insn.code() {
            Code::Cli => Guarded::Cli,
            Code::Sti => Guarded::Sti,
            Code::Pushfd => Guarded::Pushf,
            Code::Popfd => Guarded::Popf,
            _ => return None,
        };
        let system = self.mode.bits & (Mode::USER | Mode::V86) == 0;
        (system && self.mode.flat_stack()).then_some(Op::Guarded { what })
    }

    fn flags(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Clc => self.flag(FlagOp::Clc),
            Mnemonic::Stc => self.flag(FlagOp::Stc),
            Mnemonic::Cmc => self.flag(FlagOp::Cmc),
            Mnemonic::Cld => self.flag(FlagOp::Cld),
            Mnemonic::Std => self.flag(FlagOp::Std),
            Mnemonic::Lahf => self.flag(FlagOp::Lahf),
            Mnemonic::Sahf => self.flag(FlagOp::Sahf),
            Mnemonic::Salc => self.flag(FlagOp::Salc),
            _ => return false,
        }
        true
    }

    /// Instructions that do nothing: NOP of all lengths, PAUSE, and the hints of 0F 18 to 0F 1F.
    fn is_hint(&self) -> bool {
        matches!(
            self.insn.mnemonic(),
            Mnemonic::Nop
                | Mnemonic::Pause
                | Mnemonic::Fnop
                | Mnemonic::Reservednop
                | Mnemonic::Endbr32
                | Mnemonic::Endbr64
                | Mnemonic::Prefetchnta
                | Mnemonic::Prefetcht0
                | Mnemonic::Prefetcht1
                | Mnemonic::Prefetcht2
                | Mnemonic::Cldemote
                | Mnemonic::Rdsspd
        ) && self.insn.code() != Code::Fnop
    }

    /// Helpers after which nothing may run before the dispatcher has looked around.
    fn ends_after_helper(&self) -> bool {
        use iced_x86::FlowControl;
        let code = self.insn.mnemonic();
        self.insn.flow_control() != FlowControl::Next
            || matches!(
                code,
                Mnemonic::In
                    | Mnemonic::Out
                    | Mnemonic::Insb
                    | Mnemonic::Insw
                    | Mnemonic::Insd
                    | Mnemonic::Outsb
                    | Mnemonic::Outsw
                    | Mnemonic::Outsd
                    | Mnemonic::Hlt
            )
    }

    /// [`Flag::Live`]: the pass that removes dead flags comes later.
    const FLAGS: Flag = Flag::Live;
}

#[cfg(test)]
mod tests;
