//! Flags: what the host's hold, and what is remembered in the state.
//!
//! An op whose flags live stores its operands or its result, in the kinds of [`Lazy`] that cost least. Conditions use the host's own
//! flags where nothing has touched them since; else those are made again from what is remembered.
//!
//! Many flags live only because an op before the next ones may fault. Those are a [`Debt`]: the registers still say what they are (of a shift,
//! what it found says it), and they are written down where it comes to that, out of line.

use std::mem::offset_of;

use super::emitter::{Assembler, Group1, Mem, Reg};
use super::group::changes;
use super::registers::{GPRS, state};
use super::translator::Translator;
use crate::cpu::flags::{AF, ARITHMETIC, CF, Flags, Lazy, OF, PF, SF, ZF};
use crate::cpu::pass;
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Cond, FlagOp, Form, Op, Shift, Size, Uop};

/// What is known about flags at one place of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlagState {
    /// Guest flags that the host's hold.
    pub host: u32,
    /// What the state remembers, where that is known.
    pub known: Option<(Lazy, Size)>,
    /// What it should remember besides.
    pub debt: Option<Debt>,
}

/// Flags of 32-bit ops that only a fault would show, and that are not written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Debt {
    /// Where all come from; `None`: the state remembers them.
    all: Option<Origin>,
    /// A rotate that came after, and changed CF and OF: to the right, and its result.
    rotate: Option<(bool, Reg)>,
}

/// Where flags come from. Registers are of the guest, and hold what the op left or found in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The register had something added to it.
    Sum(Reg, Right),
    /// It had something subtracted.
    Difference(Reg, Right),
    /// Two operands were compared.
    Compared(Reg, Right),
    /// The result of a logical operation.
    Logic(Reg),
    /// A shift by so many bits of what stands in [`B`], which shifts do not use.
    Shifted(Lazy, u32),
}

/// The right operand of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Reg(Reg),
    Imm(u32),
}

/// A bit for a register of the guest, as [`super::group::changes`] has them; 0 for others.
fn bit(reg: Reg) -> u8 {
    GPRS.iter().position(|&of_guest| of_guest == reg).map_or(0, |number| 1 << number)
}

impl Right {
    fn registers(self) -> u8 {
        match self {
            Self::Reg(reg) => bit(reg),
            Self::Imm(_) => 0,
        }
    }

    /// Whether it stays what it is while other registers change.
    fn lasts(self) -> bool {
        matches!(self, Self::Imm(_)) || self.registers() != 0
    }
}

impl Origin {
    fn registers(self) -> u8 {
        match self {
            Self::Sum(reg, right) | Self::Difference(reg, right) | Self::Compared(reg, right) => {
                bit(reg) | right.registers()
            }
            Self::Logic(reg) => bit(reg),
            Self::Shifted(..) => 0,
        }
    }

    /// Whether it can be asked for later on, and more than once.
    fn lasts(self) -> bool {
        match self {
            Self::Sum(reg, right) | Self::Difference(reg, right) => {
                bit(reg) != 0 && right.lasts() && right != Right::Reg(reg)
            }
            Self::Compared(reg, right) => bit(reg) != 0 && right.lasts(),
            Self::Logic(reg) => bit(reg) != 0,
            Self::Shifted(..) => true,
        }
    }
}

impl Debt {
    fn registers(self) -> u8 {
        self.all.map_or(0, Origin::registers) | self.rotate.map_or(0, |(_, reg)| bit(reg))
    }
}

const fn at(offset: usize) -> Mem {
    state(offset_of!(CpuState, flags) + offset)
}

/// EFLAGS but for the arithmetic flags.
pub(super) const VALUE: Mem = at(offset_of!(Flags, value));
/// [`Lazy`] and the sign bit's number, in two bytes, and two that are not used.
pub(super) const KIND: Mem = at(offset_of!(Flags, lazy));
/// The first operand, or bits.
pub(super) const A: Mem = at(offset_of!(Flags, a));
/// The second operand.
pub(super) const B: Mem = at(offset_of!(Flags, b));
/// The result.
pub(super) const RESULT: Mem = at(offset_of!(Flags, result));

const _: () = assert!(offset_of!(Flags, lazy) % 4 == 0, "kind and sign bit are written as one");

/// The flags that a result alone decides.
const OF_RESULT: u32 = SF | ZF | PF;

/// What [`KIND`] holds for a kind and a size.
pub(super) fn kind(lazy: Lazy, size: Size) -> u32 {
    lazy as u32 | (size.bits() - 1) << 8
}

impl Translator<'_> {
    /// The host's flags are now of no use.
    pub fn host_flags_gone(&mut self) {
        self.known.flags.host = 0;
    }

    /// Nothing is known about flags.
    pub fn flags_unknown(&mut self) {
        self.known.flags = FlagState::default();
    }

    /// Flags of the op that is translated come from there: owes them, where only a fault would show them. The host's flags are of no use then.
    pub fn owe(&mut self, size: Size, origin: Origin) -> bool {
        if size != Size::D || self.lives[self.index].wanted & ARITHMETIC != 0 || !origin.lasts() {
            return false;
        }
        self.known.flags = FlagState { debt: Some(Debt { all: Some(origin), rotate: None }), ..FlagState::default() };
        true
    }

    /// The same for a rotate of a register by at least one bit.
    pub fn owe_rotate(&mut self, size: Size, right: bool, reg: Reg) -> bool {
        if size != Size::D || self.lives[self.index].wanted & ARITHMETIC != 0 || bit(reg) == 0 {
            return false;
        }
        let all = self.known.flags.debt.and_then(|debt| debt.all);
        self.known.flags = FlagState { debt: Some(Debt { all, rotate: Some((right, reg)) }), ..FlagState::default() };
        true
    }

    /// Before an op: forgets a debt that nobody will ask for any more, and pays one that could not be paid after it.
    pub fn look_at_debt(&mut self, uop: &Uop) {
        let Some(debt) = self.known.flags.debt else { return };
        let before = self.index.checked_sub(1).map_or(ARITHMETIC, |before| self.lives[before].live);
        if before & ARITHMETIC == 0 {
            self.known.flags.debt = None;
            return;
        }
        let stays = match uop.op() {
            Op::Flag { what } => matches!(what, FlagOp::Cld | FlagOp::Std),
            // What changes some flags, or perhaps; rotates may be owed themselves.
            Op::Shift { shift, form, .. } if form == Form::Reg || !matches!(shift, Shift::Rol | Shift::Ror) => false,
            Op::Inc { .. } | Op::Dec { .. } | Op::Bit { .. } | Op::DoubleShift { .. } | Op::VectorTest { .. } => false,
            _ => changes(uop).is_some_and(|registers| registers & debt.registers() == 0),
        };
        if !stays && !pass::replaces_flags(uop) {
            self.pay();
        }
    }

    /// Writes down what is owed. Uses R11, R14 and the host's flags.
    pub fn pay(&mut self) {
        if let Some(debt) = self.known.flags.debt.take() {
            self.write_down(debt);
            self.known.flags.host = 0;
            self.known.flags.known = None;
        }
    }

    /// Writes flags down. Uses R11, R14 and the host's flags.
    pub fn write_down(&mut self, debt: Debt) {
        if let Some(origin) = debt.all {
            let lazy = match origin {
                Origin::Sum(reg, right) | Origin::Difference(reg, right) => {
                    let (lazy, back) = match origin {
                        Origin::Sum(..) => (Lazy::Sum, Group1::Sub),
                        _ => (Lazy::Difference, Group1::Add),
                    };
                    self.asm.mov(Size::D, Reg::R14, reg);
                    match right {
                        Right::Imm(value) => self.asm.alu_imm(Size::D, back, Reg::R14, value),
                        Right::Reg(other) => self.asm.alu(Size::D, back, Reg::R14, other),
                    }
                    self.asm.store(Size::D, A, Reg::R14);
                    self.remember_right(Size::D, right);
                    lazy
                }
                Origin::Compared(reg, right) => {
                    self.asm.store(Size::D, A, reg);
                    self.remember_right(Size::D, right);
                    Lazy::Difference
                }
                Origin::Logic(reg) => {
                    self.asm.store(Size::D, RESULT, reg);
                    Lazy::Logic
                }
                Origin::Shifted(lazy, count) => {
                    let number = match lazy {
                        Lazy::Shl => 4,
                        Lazy::Shr => 5,
                        _ => 7,
                    };
                    self.asm.load(Size::D, Reg::R14, B);
                    if count > 1 {
                        self.asm.shift_imm(Size::D, number, Reg::R14, count - 1);
                    }
                    self.asm.store(Size::D, A, Reg::R14);
                    self.asm.shift_imm(Size::D, number, Reg::R14, 1);
                    self.asm.store(Size::D, RESULT, Reg::R14);
                    lazy
                }
            };
            self.asm.store_imm(Size::D, KIND, kind(lazy, Size::D));
        }
        if let Some((right, reg)) = debt.rotate {
            self.asm.mov(Size::D, Reg::R11, reg);
            self.asm.call(self.stubs.rotated[usize::from(right)]);
        }
    }

    /// Notes in the state how flags are remembered from here on. Leaves the host's flags.
    pub fn remember_kind(&mut self, lazy: Lazy, size: Size) {
        self.known.flags.debt = None;
        if self.known.flags.known != Some((lazy, size)) {
            self.asm.store_imm(Size::D, KIND, kind(lazy, size));
            self.known.flags.known = Some((lazy, size));
        }
    }

    /// Stores an operand that flags are remembered by. Leaves the host's flags.
    pub fn remember_operand(&mut self, to: Mem, size: Size, from: Reg) {
        if from.is_high() {
            self.high_to_low(from, |t, low| t.asm.store(Size::D, to, low));
        } else {
            self.asm.store(if size == Size::Q { Size::Q } else { Size::D }, to, from);
        }
    }

    /// Stores the right operand. Leaves the host's flags.
    pub fn remember_right(&mut self, size: Size, right: Right) {
        match right {
            Right::Imm(value) => self.asm.store_imm(Size::D, B, value),
            Right::Reg(reg) => self.remember_operand(B, size, reg),
        }
    }

    /// Stores a result, widened with zeros. Uses R11; leaves the host's flags.
    pub fn remember_result(&mut self, size: Size, from: Reg) {
        match size {
            Size::D => self.asm.store(Size::D, RESULT, from),
            Size::Q => self.asm.store(Size::Q, RESULT, from),
            Size::B | Size::W if from.is_high() => {
                self.high_to_low(from, |t, low| t.asm.widen(false, Size::B, Size::D, Reg::R11, low));
                self.asm.store(Size::D, RESULT, Reg::R11);
            }
            Size::B | Size::W => {
                self.asm.widen(false, size, Size::D, Reg::R11, from);
                self.asm.store(Size::D, RESULT, Reg::R11);
            }
        }
    }

    /// Makes the host's flags those that `wanted` names. Uses R14.
    pub fn need_host_flags(&mut self, wanted: u32) {
        if self.known.flags.host & wanted == wanted {
            return;
        }
        self.pay();
        let made = match self.known.flags.known {
            Some((Lazy::Sum, size)) => {
                self.asm.load(Size::D, Reg::R14, A);
                self.asm.alu_load(size, Group1::Add, Reg::R14, B);
                ARITHMETIC
            }
            Some((Lazy::Difference, size)) => {
                self.asm.load(Size::D, Reg::R14, A);
                self.asm.alu_load(size, Group1::Cmp, Reg::R14, B);
                ARITHMETIC
            }
            Some((Lazy::Logic, size)) => {
                self.asm.alu_mem_imm(size, Group1::Cmp, RESULT, 0);
                ARITHMETIC
            }
            Some((lazy, _)) if wanted == CF && lazy >= Lazy::Result => {
                self.asm.bit_test_mem(A, 0);
                CF
            }
            Some((lazy, size)) if wanted & !OF_RESULT == 0 && lazy >= Lazy::Shl => {
                self.asm.alu_mem_imm(size, Group1::Cmp, RESULT, 0);
                OF_RESULT
            }
            _ => {
                self.asm.call(self.stubs.load_flags);
                ARITHMETIC
            }
        };
        self.known.flags.host = made;
    }

    /// Makes the host's flags such that `cond` holds there where it does in the guest.
    pub fn need_condition(&mut self, cond: Cond) {
        self.need_host_flags(pass::tested(cond));
    }

    /// Sees to it that CF is bit 0 of [`A`], where INC and DEC leave it. Uses R14.
    pub fn need_carry_in_a(&mut self) {
        self.pay();
        match self.known.flags.known {
            Some((lazy, _)) if lazy >= Lazy::Result => {}
            Some((Lazy::Logic, _)) => self.asm.store_imm(Size::B, A, 0),
            Some(_) => {
                self.need_host_flags(CF);
                self.asm.setcc_mem(Cond::B, A);
            }
            None if self.known.flags.host & CF != 0 => self.asm.setcc_mem(Cond::B, A),
            None => {
                self.asm.alu_mem_imm(Size::B, Group1::Cmp, KIND, Lazy::Result as u32);
                let there = self.asm.jcc_forward(Cond::Ae);
                self.asm.call(self.stubs.load_flags);
                self.asm.setcc_mem(Cond::B, A);
                self.asm.bind(there);
                self.host_flags_gone();
            }
        }
    }

    /// The same as [`Self::need_result_form`]; where only the running guest tells whether that can be done, it is asked, and the
    /// interpreter executes the op if not. Before the op has changed anything.
    pub fn ask_for_result_form(&mut self) {
        if !self.need_result_form() {
            self.asm.call(self.stubs.result_form);
            let none = self.asm.jcc_forward(Cond::B);
            self.host_flags_gone();
            self.known.flags.known = None;
            self.cold_op(none);
        }
    }

    /// Brings what is remembered into the form [`Lazy::Result`], where single flags can be changed. False: that cannot be done here.
    pub fn need_result_form(&mut self) -> bool {
        self.pay();
        match self.known.flags.known {
            Some((Lazy::Result, _)) => true,
            Some((Lazy::Logic, size)) => {
                self.asm.store_imm(Size::D, A, 0);
                self.remember_kind(Lazy::Result, size);
                true
            }
            Some((lazy @ (Lazy::Sum | Lazy::Difference), size @ Size::D)) => {
                operands_to_result(self.asm, if lazy == Lazy::Sum { Group1::Add } else { Group1::Sub });
                self.remember_kind(Lazy::Result, size);
                self.host_flags_gone();
                true
            }
            _ => false,
        }
    }
}

/// Makes result and bits of a 32-bit addition or subtraction, whose operands are remembered, those that [`Lazy::Result`] means. Uses R11
/// and R14, and the host's flags.
pub(super) fn operands_to_result(asm: &mut Assembler, what: Group1) {
    asm.load(Size::D, Reg::R14, A);
    asm.alu_load(Size::D, what, Reg::R14, B);
    asm.store(Size::D, RESULT, Reg::R14);
    asm.setcc(Cond::B, Reg::R11);
    asm.widen(false, Size::B, Size::D, Reg::R11, Reg::R11);
    // The order matters: SETcc has kept OF, MOVZX, too.
    let overflows = asm.jcc_forward(Cond::No);
    asm.lea(Size::D, Reg::R11, Mem::Base(Reg::R11, OF as i32));
    asm.bind(overflows);
    asm.alu_load(Size::D, Group1::Xor, Reg::R14, A);
    asm.alu_load(Size::D, Group1::Xor, Reg::R14, B);
    asm.alu_imm(Size::D, Group1::And, Reg::R14, AF);
    asm.alu(Size::D, Group1::Or, Reg::R14, Reg::R11);
    asm.store(Size::D, A, Reg::R14);
}
