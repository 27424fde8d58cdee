//! Accesses of a block that share one check: those at constant distances from one register, as locals on a stack or fields of a
//! structure are. They lie in one page nearly always. The first checks the bytes of all; the others take the addend that it has left, and
//! leave the host's flags. Where the bytes are not in one page, a copy of the ops from the first access to the last stands out of line, in which
//! each access has a check of its own.
//!
//! In hot code those are a group, too, whose page is known from the code alone: at constant addresses, as variables are, and in tables,
//! where what was shifted, widened or masked before bounds the index.
//!
//! Between the accesses nothing may make a translation untrue: helpers end a group. An op that the interpreter executes may fill the TLB, but
//! takes nothing from it, and a store that hits the block itself leaves it.

use std::ops::{Range, RangeInclusive};

use super::emitter::Mem;
use super::memory::store_of;
use super::translator::{Finish, Known};
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::{
    Alu, Ea, Extend, Flag, FlagOp, Form, Guarded, MulDiv, Op, RAX, RDX, RSP, Shift, Size, Uop, ZERO, by_code,
};

/// How far accesses of a group may lie apart, in bytes.
const FURTHEST: i32 = 512;
/// In how many known pages accesses may be grouped at a time.
const PAGES: usize = 4;

/// Some accesses, and what is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The register's slot; [`ZERO`] where the page is known.
    pub base: u8,
    /// The first access,
    pub first: usize,
    /// and the last op of the last one.
    last: usize,
    /// The last op of the copy: the group's last access, or that of a group which begins before it, and whose check the copy does not make.
    pub end: usize,
    /// The first byte, as a distance from the register at the first access (the page, where that is known),
    pub low: i32,
    /// and the one behind the last.
    pub high: i32,
    /// The page must be one that can be written.
    pub write: bool,
    count: usize,
    /// Where the addend stands, once there is a check.
    pub addend: Option<Mem>,
    /// What is known at the first access,
    pub start: Known,
    /// and where the last op has been translated.
    pub finish: Option<Finish>,
}

/// The groups of a block.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Those of the ops, by number.
    of: Vec<Option<u16>>,
    pub all: Vec<Group>,
    /// The numbers that they have in the end; one access is no group.
    numbers: Vec<Option<u16>>,
}

/// A group that may go on, and how far its register has moved since its first access.
#[derive(Clone, Copy)]
struct Open {
    number: usize,
    moved: i32,
}

/// What is known of an op by its code alone.
#[derive(Clone, Copy)]
struct Facts {
    access: Option<Access>,
    changes: Option<Changes>,
}

/// An access: its size, how its address is made, whether it writes.
type Access = (Size, Ea, bool);

/// The registers that an op changes.
#[derive(Clone, Copy)]
struct Changes {
    /// These, a bit each,
    always: u8,
    /// and those that its slots name.
    d: bool,
    a: bool,
}

/// Facts by codes: each op of each block is asked for.
static FACTS: [Facts; Op::COUNT] = by_code!(|op| Facts { access: access_of(op), changes: changes_of(op) });

/// What an op does that is an access.
fn access(uop: &Uop) -> Option<Access> {
    FACTS[usize::from(uop.code)].access
}

const fn access_of(op: Op) -> Option<Access> {
    let (size, ea, write) = match op {
        Op::Load { size, ea } | Op::LoadWiden { from: size, ea, .. } => (size, ea, false),
        Op::LoadForWrite { size, ea } | Op::Store { size, ea } | Op::StoreImm { size, ea } => (size, ea, true),
        _ => return None,
    };
    if matches!(size, Size::Q) { None } else { Some((size, ea, write)) }
}

/// Whether a slot is a whole register of the guest.
fn is_general(slot: u8) -> bool {
    slot < 64 && slot.is_multiple_of(8)
}

/// The displacement of an access through a register that is near it.
fn near(uop: &Uop, ea: Ea) -> Option<i32> {
    let disp = uop.imm as i32;
    let plain = ea == Ea::Base || uop.b == ZERO;
    (plain && is_general(uop.a) && (-FURTHEST..FURTHEST).contains(&disp)).then_some(disp)
}

/// Whether two accesses are near the same register: most blocks have none such.
fn uses_one_twice(ops: &[Uop]) -> bool {
    let mut used = 0;
    ops.iter().any(|uop| {
        let near = access(uop).and_then(|(_, ea, _)| near(uop, ea));
        let register = if near.is_some() { 1u8 << (uop.a >> 3) } else { 0 };
        let again = used & register != 0;
        used |= register;
        again
    })
}

/// How great the registers can be.
#[derive(Clone, Copy, Debug)]
struct Bounds([u32; 8]);

impl Bounds {
    const NONE: Self = Self([u32::MAX; 8]);

    fn of(self, slot: u8) -> u32 {
        match slot {
            ZERO => 0,
            slot if is_general(slot) => self.0[usize::from(slot >> 3)],
            _ => u32::MAX,
        }
    }

    /// Takes an op into account, which changes these registers.
    fn after(&mut self, uop: &Uop, changes: Option<u8>) {
        let bound = match uop.op() {
            Op::MovImm { size: Size::D } => uop.imm,
            Op::Mov { size: Size::D } => self.of(uop.a),
            Op::Alu { alu: Alu::And, form: Form::Imm, size: Size::D, .. } => uop.imm.min(self.of(uop.a)),
            Op::Shift { shift: Shift::Shr, form: Form::Imm, size: Size::D, .. } => self.of(uop.a) >> (uop.imm & 31),
            Op::Widen { extend: Extend::Zero, from, to: Size::D }
            | Op::LoadWiden { extend: Extend::Zero, from, to: Size::D, .. } => u32::MAX >> (32 - from.bits()),
            _ => u32::MAX,
        };
        for (number, bound) in self.0.iter_mut().enumerate() {
            if changes.is_none_or(|registers| registers >> number & 1 != 0) {
                *bound = u32::MAX;
            }
        }
        if bound != u32::MAX && is_general(uop.d) {
            self.0[usize::from(uop.d >> 3)] = bound;
        }
    }

    /// The page of an access, where it can be only one.
    fn page(self, uop: &Uop, size: Size, ea: Ea) -> Option<u32> {
        let index = if ea == Ea::Index { u64::from(self.of(uop.b)) << (uop.x & 3) } else { 0 };
        let last = u64::from(uop.imm) + u64::from(self.of(uop.a)) + index + u64::from(size.bytes()) - 1;
        let page = uop.imm & !(PAGE - 1);
        (last & !u64::from(PAGE - 1) == u64::from(page)).then_some(page)
    }
}

/// By how much an op moves a register, where that is all it does.
fn moves(uop: &Uop) -> Option<i32> {
    let Op::Alu { alu, form: Form::Imm, size: Size::D, flags: Flag::Dead } = uop.op() else { return None };
    let by = match alu {
        Alu::Add => uop.imm as i32,
        Alu::Sub => (uop.imm as i32).checked_neg()?,
        _ => return None,
    };
    (uop.d == uop.a && (-FURTHEST..FURTHEST).contains(&by)).then_some(by)
}

/// Whether groups may go on behind an op, and the registers that it changes, a bit each.
pub(super) fn changes(uop: &Uop) -> Option<u8> {
    let bit = |names: bool, slot: u8| if names && slot < 64 { 1 << (slot >> 3) } else { 0 };
    let Changes { always, d, a } = FACTS[usize::from(uop.code)].changes?;
    Some(always | bit(d, uop.d) | bit(a, uop.a))
}

const fn changes_of(op: Op) -> Option<Changes> {
    const fn only(slot: u8) -> u8 {
        1 << (slot >> 3)
    }
    let none = Changes { always: 0, d: false, a: false };
    let d = Changes { d: true, ..none };
    Some(match op {
        Op::Mov { .. }
        | Op::MovImm { .. }
        | Op::Here {}
        | Op::Widen { .. }
        | Op::Lea { .. }
        | Op::Alu { .. }
        | Op::Inc { .. }
        | Op::Dec { .. }
        | Op::Neg { .. }
        | Op::Not { .. }
        | Op::Shift { .. }
        | Op::DoubleShift { .. }
        | Op::Imul { .. }
        | Op::Bit { .. }
        | Op::BitOffset { .. }
        | Op::Scan { .. }
        | Op::Bswap { .. }
        | Op::Setcc { .. }
        | Op::Cmov { .. }
        | Op::Load { .. }
        | Op::LoadWiden { .. }
        | Op::LoadForWrite { .. }
        | Op::Segment { .. }
        | Op::Selector {}
        | Op::Advance { .. }
        | Op::VectorGet { .. } => d,
        Op::Xchg { .. } => Changes { a: true, ..d },
        Op::CmpXchg { .. } => Changes { always: only(RAX), ..d },
        Op::MulDiv { kind: MulDiv::Mul | MulDiv::Imul | MulDiv::Div | MulDiv::Idiv, .. } => {
            Changes { always: only(RAX) | only(RDX), ..none }
        }
        Op::Flag { what: FlagOp::Lahf | FlagOp::Salc } => Changes { always: only(RAX), ..none },
        Op::Guarded { what: Guarded::Pushf | Guarded::Popf } => Changes { always: only(RSP), ..none },
        Op::Guarded { what: Guarded::Cli | Guarded::Sti } => none,
        Op::Compare { .. }
        | Op::Flag { .. }
        | Op::Store { .. }
        | Op::StoreImm { .. }
        | Op::CheckTarget {}
        | Op::VectorCheck { .. }
        | Op::VectorLoad { .. }
        | Op::VectorStore { .. }
        | Op::Vector { .. }
        | Op::VectorSet { .. }
        | Op::VectorCross { .. }
        | Op::Float { .. }
        | Op::VectorTest { .. } => none,
        _ => return None,
    })
}

impl Groups {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.of.clear();
        self.all.clear();
    }

    /// Finds those of a block; where it is hot, in known pages as well.
    pub fn find(&mut self, ops: &[Uop], hot: bool) {
        self.clear();
        if !hot && !uses_one_twice(ops) {
            return;
        }
        self.of.resize(ops.len(), None);
        let mut open: [Option<Open>; 8] = [None; 8];
        let mut pages: [Option<usize>; PAGES] = [None; PAGES];
        let mut any = false;
        let mut bounds = Bounds::NONE;
        // Stores that belong to a load, and have no check of their own.
        let mut paired = None;
        for (index, uop) in ops.iter().enumerate() {
            if let Some((size, ea, write)) = access(uop).filter(|_| paired != Some(index)) {
                // What changes memory in place is translated in one piece, up to its store.
                if let Op::LoadForWrite { size, ea } = uop.op() {
                    paired = store_of(ops, index, size, ea);
                }
                let last = paired.unwrap_or(index).max(index);
                if let Some(page) = hot.then(|| bounds.page(uop, size, ea)).flatten() {
                    self.add_in_page(&mut pages, index..=last, page, write);
                } else if let Some(disp) = near(uop, ea) {
                    let open = &mut open[usize::from(uop.a >> 3)];
                    self.add(open, index..=last, (uop.a, disp, size.bytes(), write));
                    any = true;
                }
            }
            // Nothing of what an op does matters to a group that is not open.
            if !any && !hot {
                continue;
            }
            let changes = changes(uop);
            if hot {
                bounds.after(uop, changes);
            }
            if let Some(by) = moves(uop) {
                if let Some(group) = &mut open[usize::from(uop.d >> 3 & 7)] {
                    group.moved = group.moved.saturating_add(by);
                }
                continue;
            }
            let Some(registers) = changes else {
                (open, pages, any) = ([None; 8], [None; PAGES], false);
                continue;
            };
            for (number, group) in open.iter_mut().enumerate() {
                if registers >> number & 1 != 0 {
                    *group = None;
                }
            }
        }
        self.drop_single();
        // They stand in the order of their first accesses.
        for number in 0..self.all.len() {
            let mut end = self.all[number].last;
            for later in &self.all[number + 1..] {
                if later.first <= end {
                    end = end.max(later.last);
                }
            }
            self.all[number].end = end;
        }
    }

    /// Drops those of one access.
    fn drop_single(&mut self) {
        self.numbers.clear();
        let mut left = 0;
        for group in &self.all {
            let stays = group.count > 1;
            self.numbers.push(stays.then_some(left));
            left += u16::from(stays);
        }
        for number in &mut self.of {
            *number = number.and_then(|number| self.numbers[usize::from(number)]);
        }
        self.all.retain(|group| group.count > 1);
    }

    /// Adds an access, made by these ops, to the group that is open for it, or opens one.
    fn add(
        &mut self,
        open: &mut Option<Open>,
        ops: RangeInclusive<usize>,
        (base, disp, bytes, write): (u8, i32, u32, bool),
    ) {
        let (index, last) = (*ops.start(), *ops.end());
        if let Some(Open { number, moved }) = *open {
            let group = &mut self.all[number];
            // The register itself is one of the places: so its sum with a displacement does not wrap where the first did not.
            let start = moved.saturating_add(disp);
            let low = group.low.min(moved).min(start);
            let high = group.high.max(moved.saturating_add(1)).max(start.saturating_add(bytes as i32));
            if high.saturating_sub(low) <= FURTHEST {
                (group.low, group.high, group.last) = (low, high, last);
                // A block's ops are all executed: where one writes, the page is written.
                group.write |= write;
                group.count += 1;
                self.of[index] = Some(number as u16);
                return;
            }
        }
        let (low, high) = (disp.min(0), (disp + bytes as i32).max(1));
        *open = Some(Open { number: self.open(ops, base, low..high, write), moved: 0 });
    }

    /// The same in a page that is known.
    fn add_in_page(&mut self, pages: &mut [Option<usize>], ops: RangeInclusive<usize>, page: u32, write: bool) {
        let (index, last) = (*ops.start(), *ops.end());
        for number in pages.iter().flatten() {
            let group = &mut self.all[*number];
            if group.low == page as i32 {
                group.last = last;
                group.write |= write;
                group.count += 1;
                self.of[index] = Some(*number as u16);
                return;
            }
        }
        pages.rotate_right(1);
        pages[0] = Some(self.open(ops, ZERO, page as i32..page as i32 + 1, write));
    }

    /// Opens a group.
    fn open(&mut self, ops: RangeInclusive<usize>, base: u8, bytes: Range<i32>, write: bool) -> usize {
        let (first, last) = (*ops.start(), *ops.end());
        let number = self.all.len();
        let Range { start: low, end: high } = bytes;
        self.all.push(Group {
            base,
            first,
            last,
            end: last,
            low,
            high,
            write,
            count: 1,
            addend: None,
            start: Known::default(),
            finish: None,
        });
        self.of[first] = Some(number as u16);
        number
    }

    /// The group of an access.
    pub fn of(&self, index: usize) -> Option<usize> {
        self.of.get(index).copied().flatten().map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::uop::{Bit, RBP, RBX, RCX, RSP, T0};

    fn load(base: u8, disp: i32) -> Uop {
        Uop::new(Op::Load { size: Size::D, ea: Ea::Base }).d(RCX).a(base).imm(disp as u32)
    }

    fn store(base: u8, disp: i32) -> Uop {
        Uop::new(Op::Store { size: Size::D, ea: Ea::Base }).d(RCX).a(base).imm(disp as u32)
    }

    fn add(slot: u8, by: i32) -> Uop {
        let op = Op::Alu { alu: Alu::Add, form: Form::Imm, size: Size::D, flags: Flag::Dead };
        Uop::new(op).d(slot).a(slot).imm(by as u32)
    }

    fn groups(ops: &[Uop]) -> Vec<(usize, usize, i32, i32, bool)> {
        let mut groups = Groups::default();
        groups.find(ops, true);
        let real = |group: &&Group| group.count > 1;
        groups.all.iter().filter(real).map(|g| (g.first, g.last, g.low, g.high, g.write)).collect()
    }

    #[test]
    fn accesses_near_a_register_that_moves_by_constants_are_one_group() {
        let push = [store(RSP, -4), add(RSP, -4)];
        assert_eq!(groups(&[push, push, push].concat()), [(0, 4, -12, 1, true)]);
        assert_eq!(groups(&[load(RBX, 8), load(RBX, 0x100)]), [(0, 1, 0, 0x104, false)]);
        assert_eq!(groups(&[load(RSP, 8), store(RSP, 12)]), [(0, 1, 0, 16, true)]);
    }

    #[test]
    fn a_group_with_a_store_asks_for_a_page_that_can_be_written() {
        let ops = [load(RBX, 0), store(RBX, 4), load(RBX, 8), store(RBX, 12)];
        assert_eq!(groups(&ops), [(0, 3, 0, 16, true)]);
    }

    #[test]
    fn the_copy_of_a_group_goes_to_the_end_of_those_that_begin_in_it() {
        let mut groups = Groups::default();
        let ops = [load(RBX, 0), load(RSP, 0), load(RBX, 4), load(RBP, 0), load(RSP, 4), load(RBP, 4), load(RBP, 8)];
        groups.find(&ops, true);
        let ends: Vec<_> = groups.all.iter().map(|group| (group.first, group.last, group.end)).collect();
        assert_eq!(ends, [(0, 2, 6), (1, 4, 6), (3, 6, 6)]);
        groups.find(&[load(RBX, 0), load(RSP, 0), load(RBX, 4), load(RBX, 8)], true);
        assert_eq!(groups.all[0].end, 3, "one access is no group");
    }

    #[test]
    fn a_group_does_not_end_inside_an_instruction_that_changes_memory_in_place() {
        let change = |op: Op| Uop { y: 1, ..Uop::new(op).d(T0).a(RBX) };
        let set = Op::Bit { bit: Bit::Bts, form: Form::Imm, size: Size::D };
        let ops = [
            load(RBX, 4),
            change(Op::LoadForWrite { size: Size::D, ea: Ea::Base }),
            Uop { a: T0, ..change(set) },
            change(Op::Store { size: Size::D, ea: Ea::Base }),
        ];
        assert_eq!(groups(&ops), [(0, 3, 0, 8, true)]);
    }

    #[test]
    fn a_register_that_is_loaded_a_helper_and_a_long_way_end_a_group() {
        let other = Uop::new(Op::MovImm { size: Size::D }).d(RBX);
        assert_eq!(groups(&[load(RBX, 0), other, load(RBX, 4)]), []);
        assert_eq!(groups(&[load(RBX, 0), Uop::new(Op::Helper {}), load(RBX, 4)]), []);
        assert_eq!(groups(&[load(RBX, 0), add(RBX, 400), load(RBX, 200)]), []);
        assert_eq!(groups(&[load(RCX, 0), load(RCX, 4)]), [], "the first changes it");
    }

    fn table(index: u8, scale: u8, at: u32) -> Uop {
        Uop { x: scale, ..Uop::new(Op::Load { size: Size::D, ea: Ea::Index }).d(RCX).a(ZERO).b(index).imm(at) }
    }

    /// First and last op, and the page of each group with a known one.
    fn known_pages(ops: &[Uop], hot: bool) -> Vec<(usize, usize, u32)> {
        let mut groups = Groups::default();
        groups.find(ops, hot);
        let real = |group: &&Group| group.count > 1 && group.base == ZERO;
        groups.all.iter().filter(real).map(|g| (g.first, g.last, g.low as u32)).collect()
    }

    #[test]
    fn accesses_in_a_known_page_are_one_group_in_hot_code() {
        let variable = Uop::new(Op::Store { size: Size::D, ea: Ea::Base }).d(RCX).a(ZERO).imm(0xc000_1ffc);
        let other = Uop { imm: 0xc000_1000, ..variable };
        assert_eq!(known_pages(&[variable, load(RBX, 0), other], true), [(0, 2, 0xc000_1000)]);
        assert_eq!(known_pages(&[variable, load(RBX, 0), other], false), []);
        assert_eq!(known_pages(&[variable, Uop::new(Op::Helper {}), other], true), []);
        let next_page = Uop { imm: 0xc000_1ffd, ..variable };
        assert_eq!(known_pages(&[variable, next_page, next_page], true), [], "it goes into the next page");
    }

    #[test]
    fn what_bounds_an_index_bounds_the_page() {
        let byte = Uop::new(Op::Widen { extend: Extend::Zero, from: Size::B, to: Size::D }).d(RBX).a(RCX);
        let signed = Uop::new(Op::Widen { extend: Extend::Sign, from: Size::B, to: Size::D }).d(RBX).a(RCX);
        let shift = |by: u32| {
            let op = Op::Shift { shift: Shift::Shr, form: Form::Imm, size: Size::D, flags: Flag::Live };
            Uop::new(op).d(RBX).a(RBX).imm(by)
        };
        let mask = |with: u32| {
            let op = Op::Alu { alu: Alu::And, form: Form::Imm, size: Size::D, flags: Flag::Live };
            Uop::new(op).d(RBX).a(RBX).imm(with)
        };
        let found = |bound: Uop, at: u32| known_pages(&[bound, table(RBX, 2, at), table(RBX, 2, at)], true).len();
        for bound in [byte, shift(24), mask(0xff)] {
            assert_eq!(found(bound, 0x1_2c00), 1, "{bound:?}: the last element ends the page");
            assert_eq!(found(bound, 0x1_2c01), 0, "{bound:?}: the last element may go into the next page");
        }
        for bound in [signed, shift(8), mask(0x8000_00ff), add(RBX, 1), load(RBX, 0)] {
            assert_eq!(found(bound, 0x1_2000), 0, "{bound:?}");
        }
        let moved =
            [byte, Uop::new(Op::Mov { size: Size::D }).d(RBP).a(RBX), table(RBP, 0, 0x1000), table(RBP, 0, 0x1100)];
        assert_eq!(known_pages(&moved, true).len(), 1, "a copy has the bound, too");
        let changed = [byte, table(RBX, 0, 0x1000), add(RBX, 1), table(RBX, 0, 0x1000)];
        assert_eq!(known_pages(&changed, true).len(), 0, "what is added is not followed");
    }
}
