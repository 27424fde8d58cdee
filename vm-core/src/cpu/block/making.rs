//! From bytes to blocks: decoding, lifting, and putting the ops into memory.

use std::ptr;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

use super::{Block, CHUNK, Cache, Header, Key, LONGEST, Link, Place, Slot, lines};
use crate::bus::{Bus, CodePolicy};
use crate::cpu::cpuid::CpuModel;
use crate::cpu::fault::Fault;
use crate::cpu::lift::{Ends, Mode, lift, lift_too_long};
use crate::cpu::state::SegReg;
use crate::cpu::uop::{Op, Uop};
use crate::cpu::{Cpu, pass};

/// Instructions in a block, at most.
pub(in crate::cpu) const MAX_INSTRUCTIONS: usize = 48;
/// Slots that a header takes.
const HEADER_SLOTS: usize = size_of::<Header>() / size_of::<Slot>();
/// Bytes of code in a block, at most.
const MAX_BYTES: usize = 400;

/// Whether code can be translated from a page, or why not.
enum Outcome {
    Done(*const Header),
    /// The first instruction crosses the page, or is too long, or beyond the limit of CS.
    Careful,
}

/// What is known of a block whose ops were just lifted.
pub(in crate::cpu) struct LiftedBlock {
    /// Where its instructions begin, in bytes from its start.
    offsets: [u16; MAX_INSTRUCTIONS],
    /// Instructions.
    pub count: usize,
    /// Bytes.
    pub len: usize,
}

impl Cache {
    fn allocate(&mut self, slots: usize) -> *mut Slot {
        if self.used + slots > CHUNK {
            let chunk: Box<[Slot]> = vec![0; CHUNK].into_boxed_slice();
            self.arena[self.part].chunks.push(Box::into_raw(chunk).cast());
            self.used = 0;
        }
        let chunk = self.arena[self.part].chunks.last();
        let at = chunk.map_or(ptr::null_mut(), |&chunk| chunk.cast::<Slot>().wrapping_add(self.used));
        self.used += slots;
        at
    }

    /// Puts a lifted block into memory, whose last bytes are in the page `second`, where there is one. A loose one is found by nobody.
    fn assemble(&mut self, key: Key, offsets: &[u16], len: u32, second: Option<u64>, loose: bool) -> *const Header {
        pass::dead_flags(&mut self.lifted.ops);
        let relative = Mode::from_key(key.mode).is_relative();
        pass::fuse(&self.lifted.ops, relative, &mut self.fused);
        // Some more than needed where a branch is fused: its own links are counted, too.
        let links: usize = self.fused.iter().map(|uop| link_count(uop.op())).sum();
        let opened = (self.native.is_some() || self.regions.is_some()) && !loose && !mode_is_single(key.mode);
        if opened {
            self.fused.insert(0, Uop::new(Op::Enter {}).imm(self.threshold));
        }
        let lifted = HEADER_SLOTS + self.fused.len() + links;
        let kept = if opened && self.native.is_some() { self.lifted.ops.len() } else { 0 };
        let slots = lifted + kept;
        let number = self.free.pop().unwrap_or(self.blocks.len() as u32);
        self.arena[self.part].blocks += 1;
        let Key { physical, mode, eip } = key;
        let count = offsets.len() as u32;
        let known = Header { physical, mode, eip, count, number, loose: u16::from(loose), lifted: lifted as u16 };
        let base = self.allocate(slots);
        let header = base.cast::<Header>();
        let mut places: Vec<Place> = offsets.iter().map(|&offset| Place { slot: u16::MAX, offset }).collect();
        let code = Header::code(header).cast_mut();
        let mut slot = 0;
        let mut index = 0;
        while index < self.fused.len() {
            let uop = self.fused[index];
            let place = &mut places[usize::from(uop.y).min(offsets.len() - 1)];
            place.slot = place.slot.min(slot as u16);
            // SAFETY: `slots` slots are there, as many as the ops and their links.
            unsafe { *code.wrapping_add(slot) = uop };
            slot += 1;
            let op = uop.op();
            let mut targets = [uop.imm, uop.imm2];
            if uop.takes_branch() {
                index += 1;
                let branch = self.fused[index];
                targets = [branch.imm, branch.imm2];
                places[usize::from(branch.y).min(offsets.len() - 1)].slot = slot as u16;
            }
            let offset = offsets[usize::from(uop.y).min(offsets.len() - 1)];
            let from = known.eip.wrapping_add(u32::from(offset));
            for &eip in &targets[..link_count(op)] {
                let mut kind = 0;
                if !known.has_on_page(eip) {
                    kind |= Link::CROSS;
                }
                if known.goes_back(from, eip) {
                    kind |= Link::BACK;
                }
                if loose || mode_is_single(key.mode) {
                    kind |= Link::LOOSE;
                }
                // SAFETY: as above.
                unsafe { code.wrapping_add(slot).cast::<Link>().write(Link { target: ptr::null(), eip, kind }) };
                slot += 1;
            }
            index += 1;
        }
        // Instructions without ops stand where the next one does.
        let mut following = slot as u16;
        for place in places.iter_mut().rev() {
            if place.slot == u16::MAX {
                place.slot = following;
            }
            following = place.slot;
        }
        // SAFETY: the first two slots are the header's, and the last ones are as many as the ops.
        unsafe {
            header.write(known);
            let ops = base.cast::<Uop>().add(lifted);
            ops.copy_from_nonoverlapping(self.lifted.ops.as_ptr(), kept);
        }
        let helpers = self.lifted.helpers.clone();
        let block = Block {
            header,
            part: self.part,
            parts: 1 << self.part,
            alive: true,
            len,
            second,
            places,
            ops: kept as u16,
            helpers,
            incoming: Vec::new(),
            native: None,
            ways: Vec::new(),
            hot: false,
            asked: false,
            region: None,
            regions: Vec::new(),
        };
        match self.blocks.get_mut(number as usize) {
            Some(place) => *place = block,
            None => self.blocks.push(block),
        }
        if !loose {
            self.map.insert(key, number);
            self.quick[Self::quick_index(physical)] = header;
            for page in std::iter::once(physical).chain(second).map(|physical| physical >> 12) {
                let (start, stop) = self.bytes_on(number, page);
                let code = self.pages.entry(page).or_default();
                code.numbers.push(number);
                code.lines |= lines(page, start, stop);
            }
        }
        self.stats.blocks += 1;
        self.stats.instructions += u64::from(known.count);
        header
    }

    fn lift_one(&mut self, insn: &Instruction, mode: Mode, model: CpuModel, number: usize, too_long: bool) -> Ends {
        let from = self.lifted.ops.len();
        let ends = if too_long {
            lift_too_long(&mut self.lifted, insn, mode)
        } else {
            lift(&mut self.lifted, insn, mode, model)
        };
        for uop in &mut self.lifted.ops[from..] {
            uop.y = number as u16;
        }
        ends
    }

    /// Lifts an instruction that is a block of its own, and what leads on from it.
    fn lift_alone(&mut self, insn: &Instruction, mode: Mode, model: CpuModel, too_long: bool) {
        if self.lift_one(insn, mode, model, 0, too_long) == Ends::No {
            self.lifted.ops.push(Uop::new(Op::Jump {}).imm(insn.next_ip() as u32));
        }
    }
}

fn mode_is_single(key: u64) -> bool {
    Mode::from_key(key).is_single()
}

/// Whether what could not be decoded is an instruction of more than 15 bytes: one whose first 15 are all prefixes and
/// operands still wanting more. Without its first prefix it wants more than the 14 that are left.
fn is_too_long(mode: Mode, bytes: &[u8]) -> bool {
    let Some(rest) = bytes.get(1..LONGEST) else { return false };
    let mut decoder = Decoder::new(mode.bitness(), rest, DecoderOptions::NONE);
    let _ = decoder.decode();
    decoder.last_error() == DecoderError::NoMoreBytes
}

/// Links behind an op.
fn link_count(op: Op) -> usize {
    match op {
        Op::Jump {} | Op::CallFlat {} => 1,
        Op::JumpIf { .. }
        | Op::JumpCount { .. }
        | Op::CompareJump { .. }
        | Op::DecJump { .. }
        | Op::AluJump { .. }
        | Op::CompareLoadJump { .. }
        | Op::CompareMemJump { .. } => 2,
        _ => 0,
    }
}

impl Cpu {
    /// The block at `rip` in this mode.
    ///
    /// # Errors
    /// The fault of fetching its first instruction.
    pub(in crate::cpu) fn block(&mut self, bus: &mut dyn Bus, mode: Mode) -> Result<*const Header, Fault> {
        let rip = self.state.rip;
        if rip > u64::from(mode.limit) {
            return Err(Fault::gp(0));
        }
        let linear = self.state.segment(SegReg::Cs).base.wrapping_add(rip) & 0xffff_ffff;
        let page = self.fetch_page(bus, linear)?;
        self.exec.origin = rip as u32 & mode.origin_bits();
        let eip = rip as u32 & !mode.origin_bits();
        let physical = page | linear & 0xfff;
        let key = Key { physical, mode: mode.key(), eip };
        if let Some(header) = self.code.quick(physical, eip, key.mode) {
            return Ok(header);
        }
        if let Some(header) = self.code.find(key) {
            return Ok(header);
        }
        if bus.page(page).code != CodePolicy::Volatile
            && let Outcome::Done(header) = self.translate_block(bus, key, mode)
        {
            self.watch_code(bus, page);
            return Ok(header);
        }
        self.translate_careful(bus, linear, key, mode)
    }

    /// Has stores to a page of RAM looked at: there is code of it now.
    fn watch_code(&mut self, bus: &mut dyn Bus, page: u64) {
        if !bus.ram().has_code(page >> 12) && bus.page(page).code == CodePolicy::Ram {
            self.protect_code(bus, page);
        }
    }

    fn translate_block(&mut self, bus: &mut dyn Bus, key: Key, mode: Mode) -> Outcome {
        let Some(LiftedBlock { offsets, count, len }) = self.lift_block(bus, key, mode) else {
            return Outcome::Careful;
        };
        Outcome::Done(self.code.assemble(key, &offsets[..count], len as u32, None, false))
    }

    /// A block that nobody has entered yet, on a page that holds code already.
    #[allow(dead_code, reason = "not every build compiles regions")]
    pub(in crate::cpu) fn translate_in_page(&mut self, bus: &mut dyn Bus, key: Key) -> Option<*const Header> {
        match self.translate_block(bus, key, Mode::from_key(key.mode)) {
            Outcome::Done(header) => Some(header),
            Outcome::Careful => None,
        }
    }

    /// The same of the one instruction at a page's end that goes on in the page `second`. `None`: it does not, or not within CS.
    fn lift_spanning(&mut self, bus: &mut dyn Bus, key: Key, mode: Mode, second: u64) -> Option<LiftedBlock> {
        let mut bytes = [0; LONGEST];
        let in_first = 0x1000 - (key.physical as usize & 0xfff);
        let in_limit = self.bytes_in_limit(key, mode);
        let bytes = &mut bytes[..LONGEST.min(in_limit)];
        let (low, high) = bytes.split_at_mut(in_first);
        self.read_physical_bytes(bus, key.physical, low);
        self.read_physical_bytes(bus, second, high);
        let mut decoder = Decoder::with_ip(mode.bitness(), bytes, u64::from(key.eip), DecoderOptions::NONE);
        let insn = decoder.decode();
        if insn.is_invalid() || decoder.position() <= in_first {
            return None;
        }
        self.code.lifted.clear();
        let page = second >> 12;
        let next = key.eip.wrapping_add(in_first as u32);
        self.code.lifted.ops.push(Uop::new(Op::Spans {}).imm(u32::try_from(page).ok()?).imm2(next));
        self.code.lift_alone(&insn, mode, self.model, false);
        Some(LiftedBlock { offsets: [0; MAX_INSTRUCTIONS], count: 1, len: decoder.position() })
    }

    /// Lifts the instructions of a block into `code.lifted`. `None`: the first is one that must be looked at each time.
    pub(in crate::cpu) fn lift_block(&mut self, bus: &mut dyn Bus, key: Key, mode: Mode) -> Option<LiftedBlock> {
        let mut bytes = [0; MAX_BYTES];
        let in_page = 0x1000 - (key.physical as usize & 0xfff);
        let available = in_page.min(self.bytes_in_limit(key, mode)).min(MAX_BYTES);
        let bytes = &mut bytes[..available];
        self.read_physical_bytes(bus, key.physical, bytes);

        self.code.lifted.clear();
        let mut decoder = Decoder::with_ip(mode.bitness(), bytes, u64::from(key.eip), DecoderOptions::NONE);
        let mut insn = Instruction::default();
        let mut offsets = [0u16; MAX_INSTRUCTIONS];
        let mut count = 0;
        let most = if mode.is_single() { 1 } else { MAX_INSTRUCTIONS };
        let mut len = 0;
        loop {
            let mut ends = Ends::No;
            let full = count == most || len == bytes.len();
            if !full {
                decoder.decode_out(&mut insn);
                if decoder.last_error() == DecoderError::NoMoreBytes {
                    if count == 0 {
                        return None;
                    }
                } else {
                    let too_long = insn.is_invalid() && is_too_long(mode, &bytes[len..]);
                    ends = self.code.lift_one(&insn, mode, self.model, count, too_long);
                    offsets[count] = len as u16;
                    count += 1;
                    len = decoder.position();
                    if ends == Ends::No {
                        continue;
                    }
                }
            }
            if ends == Ends::No {
                let next = key.eip.wrapping_add(len as u32);
                let last = count.saturating_sub(1) as u16;
                self.code.lifted.ops.push(Uop { y: last, ..Uop::new(Op::Jump {}).imm(next) });
            }
            let Cache { log, lifted, .. } = &self.code;
            let eip = self.exec.absolute(key.eip);
            if log.wants(eip) {
                log.lifted(mode.bitness(), eip, &bytes[..len], &lifted.ops);
            }
            return Some(LiftedBlock { offsets, count, len });
        }
    }

    /// Translates the one instruction at a page's end that goes on in the next, where both pages hold code as any other.
    fn translate_spanning(&mut self, bus: &mut dyn Bus, linear: u64, key: Key, mode: Mode) -> Option<*const Header> {
        let first = key.physical & !0xfff;
        let in_first = 0x1000 - (key.physical & 0xfff) as usize;
        let in_limit = self.bytes_in_limit(key, mode);
        if mode.is_single() || in_first >= LONGEST.min(in_limit) || bus.page(first).code == CodePolicy::Volatile {
            return None;
        }
        let cr2 = self.state.cr[2];
        let Ok(second) = self.fetch_page(bus, ((linear | 0xfff) + 1) & 0xffff_ffff) else {
            // Nothing has faulted yet: the instruction may end before that page.
            self.state.cr[2] = cr2;
            return None;
        };
        if first == second || bus.page(second).code == CodePolicy::Volatile {
            return None;
        }
        let LiftedBlock { offsets, count, len } = self.lift_spanning(bus, key, mode, second)?;
        let header = self.code.assemble(key, &offsets[..count], len as u32, Some(second), false);
        self.watch_code(bus, first);
        self.watch_code(bus, second);
        Some(header)
    }

    /// Translates one instruction that lies across pages or limits or in a device. Its bytes are compared each time.
    fn translate_careful(
        &mut self,
        bus: &mut dyn Bus,
        linear: u64,
        key: Key,
        mode: Mode,
    ) -> Result<*const Header, Fault> {
        let mut bytes = [0; LONGEST];
        let in_limit = self.bytes_in_limit(key, mode);
        let wanted = in_limit.min(LONGEST);
        if let Some(header) = self.translate_spanning(bus, linear, key, mode) {
            return Ok(header);
        }
        if let Some(&(header, known)) = self.code.careful.get(&key) {
            // SAFETY: the map leads to live blocks.
            let len = self.code.blocks[unsafe { (*header).number } as usize].len as usize;
            let fetched = self.fetch(bus, linear, &mut bytes[..len])?;
            if fetched == len && bytes[..len] == known[..len] {
                return Ok(header);
            }
        }
        let fetched = self.fetch(bus, linear, &mut bytes[..wanted])?;
        let mut decoder = Decoder::with_ip(mode.bitness(), &bytes[..fetched], u64::from(key.eip), DecoderOptions::NONE);
        let insn = decoder.decode();
        if decoder.last_error() == DecoderError::NoMoreBytes {
            if fetched < wanted {
                // The next page is missing: this is its fault.
                let next = (linear + fetched as u64) & 0xffff_ffff;
                self.fetch_page(bus, next)?;
            }
            return Err(Fault::gp(0));
        }
        self.code.lifted.clear();
        let too_long = insn.is_invalid() && is_too_long(mode, &bytes[..fetched]);
        self.code.lift_alone(&insn, mode, self.model, too_long);
        let header = self.code.assemble(key, &[0], insn.len() as u32, None, true);
        self.code.careful.insert(key, (header, bytes));
        Ok(header)
    }

    /// Bytes from where a block begins, on the page that runs, to the limit of CS.
    fn bytes_in_limit(&self, key: Key, mode: Mode) -> usize {
        ((mode.limit - self.exec.absolute(key.eip)) as usize).saturating_add(1)
    }
}
