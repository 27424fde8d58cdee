//! String instructions, port I/O by strings included (Intel SDM vol. 2, REP).
//!
//! One call does a bounded number of elements and asks to be called again, so that interrupts get in between.
//! Registers always say exactly how far it got, so a fault or an interrupt in the middle needs no more.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::operand::segment_of;
use crate::bus::{Bus, Width};
use crate::cpu::bulk;
use crate::cpu::fault::Fault;
use crate::cpu::flags::{AF, ARITHMETIC, CF, DF, OF, PF, RF, SF, TF, ZF};
use crate::cpu::state::{SegReg, gpr};
use crate::cpu::{Cpu, Flow, Helper};

/// Elements that one call does at most.
const ROUND: u64 = 4096;
/// The same for elements that pass through a port.
const PORT_ROUND: u64 = 512;

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    Some(match code {
        Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 => moves,
        Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX => stores,
        Code::Lodsb_AL_m8 | Code::Lodsw_AX_m16 | Code::Lodsd_EAX_m32 => loads,
        Code::Scasb_AL_m8 | Code::Scasw_AX_m16 | Code::Scasd_EAX_m32 => scans,
        Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 => compares,
        Code::Insb_m8_DX | Code::Insw_m16_DX | Code::Insd_m32_DX => inputs,
        Code::Outsb_DX_m8 | Code::Outsw_DX_m16 | Code::Outsd_DX_m32 => outputs,
        _ => return None,
    })
}

/// What the encoding says.
#[derive(Clone, Copy)]
struct Form {
    width: Width,
    /// The mask of SI, DI and CX: the address size.
    mask: u64,
    source: SegReg,
    /// Any repeat prefix.
    repeats: bool,
    /// REPNE.
    until_equal: bool,
    /// Added to an index for each element, modulo the address size.
    step: u64,
}

impl Form {
    fn of(cpu: &Cpu, insn: &Instruction) -> Self {
        let width = match insn.memory_size().size() {
            1 => Width::Byte,
            2 => Width::Word,
            _ => Width::Dword,
        };
        let short = [insn.op0_kind(), insn.op1_kind()]
            .iter()
            .any(|kind| matches!(kind, OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI));
        let down = cpu.state.flags.has(DF);
        Self {
            width,
            mask: if short { 0xffff } else { 0xffff_ffff },
            source: segment_of(insn),
            repeats: insn.has_rep_prefix() || insn.has_repne_prefix(),
            until_equal: insn.has_repne_prefix(),
            step: if down { width.bytes().wrapping_neg() } else { width.bytes() },
        }
    }

    fn size(&self) -> u32 {
        self.width as u32
    }

    fn offset(&self, cpu: &Cpu, register: usize) -> u64 {
        cpu.state.gpr[register] & self.mask
    }

    /// Sets SI, DI or CX by the address size.
    fn set(&self, cpu: &mut Cpu, register: usize, value: u64) {
        cpu.set_gpr(register, value & self.mask, if self.mask == 0xffff { Width::Word } else { Width::Dword });
    }

    fn advance(&self, cpu: &mut Cpu, register: usize, elements: u64) {
        let value = self.offset(cpu, register).wrapping_add(self.step.wrapping_mul(elements));
        self.set(cpu, register, value);
    }

    fn source(&self, cpu: &Cpu) -> Result<u64, Fault> {
        cpu.linear(self.source, self.offset(cpu, gpr::RSI), self.size(), false)
    }

    fn target(&self, cpu: &Cpu, write: bool) -> Result<u64, Fault> {
        cpu.linear(SegReg::Es, self.offset(cpu, gpr::RDI), self.size(), write)
    }

    /// Elements from `linear` that stay within its page, its segment and the address size, going up; 0 going down.
    fn run_length(&self, cpu: &Cpu, seg: SegReg, register: usize, linear: u64, write: bool, most: u64) -> u64 {
        if cpu.state.flags.has(DF) {
            return 0;
        }
        let size = self.width.bytes();
        let offset = self.offset(cpu, register);
        let elements = most.min((0x1000 - (linear & 0xfff)) / size).min((self.mask - offset + 1) / size);
        if elements > 1 && cpu.linear(seg, offset, (elements * size) as u32, write) == Ok(linear) {
            elements
        } else {
            0
        }
    }
}

/// What an element asks of the loop.
enum Element {
    /// So many elements are done (their indexes are advanced); go on.
    Done(u64),
    /// So many elements are done, and the last one ends the repetition.
    Last(u64),
}

/// Runs `element` once, or as often as CX says. It gets the number of elements that it may do at most.
fn repeat(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    form: Form,
    round: u64,
    mut element: impl FnMut(&mut Cpu, &mut dyn Bus, u64) -> Result<Element, Fault>,
) -> Result<Flow, Fault> {
    if !form.repeats {
        element(cpu, bus, 1)?;
        return Ok(Flow::Next);
    }
    let mut count = form.offset(cpu, gpr::RCX);
    let mut left = if cpu.state.flags.has(TF) { 1 } else { round };
    let mut first = true;
    while count > 0 {
        let (done, last) = match element(cpu, bus, count.min(left))? {
            Element::Done(done) => (done, false),
            Element::Last(done) => (done, true),
        };
        count -= done;
        form.set(cpu, gpr::RCX, count);
        // The engine counts one for the call. Each further element is one more, also of those that were moved in one piece: what
        // lies in plain memory and in the TLB must not be seen in the count.
        cpu.count_rounds(done - u64::from(first));
        first = false;
        if last {
            return Ok(Flow::Next);
        }
        left -= done;
        if count > 0 && (left == 0 || cpu.state.pending_debug != 0 || bus.signals().raised()) {
            // What interrupts a repetition pushes RF set (Intel SDM vol. 3B, 17.3.1.1): its breakpoint has been reported.
            cpu.state.flags.update(RF, RF);
            return Ok(Flow::Again);
        }
    }
    Ok(Flow::Next)
}

fn moves(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    repeat(cpu, bus, form, ROUND, |cpu, bus, most| {
        let from = form.source(cpu)?;
        let to = form.target(cpu, true)?;
        if most > 1 {
            let elements = form.run_length(cpu, form.source, gpr::RSI, from, false, most);
            let elements = form.run_length(cpu, SegReg::Es, gpr::RDI, to, true, elements);
            let bytes = (elements * form.width.bytes()) as u32;
            if let (Some(source), Some(target)) = (cpu.plain_run(from, bytes, false), cpu.plain_run(to, bytes, true)) {
                bulk::copy(cpu, source, target, form.width);
                form.advance(cpu, gpr::RSI, elements);
                form.advance(cpu, gpr::RDI, elements);
                return Ok(Element::Done(elements));
            }
        }
        let value = cpu.load_width(bus, from, form.width)?;
        cpu.store_width(bus, to, form.width, value)?;
        form.advance(cpu, gpr::RSI, 1);
        form.advance(cpu, gpr::RDI, 1);
        Ok(Element::Done(1))
    })
}

fn stores(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    repeat(cpu, bus, form, ROUND, |cpu, bus, most| {
        let to = form.target(cpu, true)?;
        let value = cpu.gpr(gpr::RAX, form.width);
        if most > 1 {
            let elements = form.run_length(cpu, SegReg::Es, gpr::RDI, to, true, most);
            if let Some(target) = cpu.plain_run(to, (elements * form.width.bytes()) as u32, true) {
                bulk::fill(cpu, target, form.width, value);
                form.advance(cpu, gpr::RDI, elements);
                return Ok(Element::Done(elements));
            }
        }
        cpu.store_width(bus, to, form.width, value)?;
        form.advance(cpu, gpr::RDI, 1);
        Ok(Element::Done(1))
    })
}

fn loads(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    repeat(cpu, bus, form, ROUND, |cpu, bus, _| {
        let from = form.source(cpu)?;
        let value = cpu.load_width(bus, from, form.width)?;
        cpu.set_gpr(gpr::RAX, value, form.width);
        form.advance(cpu, gpr::RSI, 1);
        Ok(Element::Done(1))
    })
}

fn scans(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    let wanted = cpu.gpr(gpr::RAX, form.width);
    repeat(cpu, bus, form, ROUND, |cpu, bus, most| {
        let at = form.target(cpu, false)?;
        if most > 1 {
            let elements = form.run_length(cpu, SegReg::Es, gpr::RDI, at, false, most);
            if let Some(run) = cpu.plain_run(at, (elements * form.width.bytes()) as u32, false) {
                let found = bulk::scan(run, form.width, wanted, form.until_equal);
                let done = found.map_or(elements, |index| index as u64 + 1);
                if let Some(value) = bulk::element(run, form.width, done as usize - 1) {
                    form.advance(cpu, gpr::RDI, done);
                    return Ok(compared(cpu, &form, wanted, value, done));
                }
            }
        }
        let value = cpu.load_width(bus, at, form.width)?;
        form.advance(cpu, gpr::RDI, 1);
        Ok(compared(cpu, &form, wanted, value, 1))
    })
}

fn compares(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    repeat(cpu, bus, form, ROUND, |cpu, bus, most| {
        let from = form.source(cpu)?;
        let at = form.target(cpu, false)?;
        if most > 1 {
            let elements = form.run_length(cpu, form.source, gpr::RSI, from, false, most);
            let elements = form.run_length(cpu, SegReg::Es, gpr::RDI, at, false, elements);
            let bytes = (elements * form.width.bytes()) as u32;
            if let (Some(one), Some(other)) = (cpu.plain_run(from, bytes, false), cpu.plain_run(at, bytes, false)) {
                let found = bulk::compare(one, other, form.width, form.until_equal);
                let done = found.map_or(elements, |index| index as u64 + 1);
                let last = done as usize - 1;
                if let (Some(left), Some(right)) =
                    (bulk::element(one, form.width, last), bulk::element(other, form.width, last))
                {
                    form.advance(cpu, gpr::RSI, done);
                    form.advance(cpu, gpr::RDI, done);
                    return Ok(compared(cpu, &form, left, right, done));
                }
            }
        }
        let left = cpu.load_width(bus, from, form.width)?;
        let right = cpu.load_width(bus, at, form.width)?;
        form.advance(cpu, gpr::RSI, 1);
        form.advance(cpu, gpr::RDI, 1);
        Ok(compared(cpu, &form, left, right, 1))
    })
}

/// Sets the flags of `left - right`, the last of `done` elements, and says whether the repetition ends.
fn compared(cpu: &mut Cpu, form: &Form, left: u64, right: u64, done: u64) -> Element {
    let result = left.wrapping_sub(right) & form.width.mask();
    let sign = 1 << (8 * form.size() - 1);
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let flags = flag(left < right, CF)
        | flag((result as u8).count_ones() & 1 == 0, PF)
        | flag((left ^ right ^ result) & 0x10 != 0, AF)
        | flag(result == 0, ZF)
        | flag(result & sign != 0, SF)
        | flag((left ^ right) & (left ^ result) & sign != 0, OF);
    cpu.state.flags.update(ARITHMETIC, flags);
    if (result == 0) == form.until_equal { Element::Last(done) } else { Element::Done(done) }
}

fn inputs(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    debug_assert!(matches!(insn.mnemonic(), Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd));
    repeat(cpu, bus, form, PORT_ROUND, |cpu, bus, _| {
        let port = cpu.gpr(gpr::RDX, Width::Word) as u16;
        cpu.check_io(bus, port, form.width)?;
        let to = form.target(cpu, true)?;
        // What the write raises comes before the port is read: the chip must not lose a byte.
        cpu.prepare_write(bus, to, form.width.bytes())?;
        let value = bus.port_in(port, form.width);
        cpu.note_port(port, form.width);
        cpu.store_width(bus, to, form.width, u64::from(value))?;
        form.advance(cpu, gpr::RDI, 1);
        Ok(Element::Done(1))
    })
    .map(leave)
}

fn outputs(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let form = Form::of(cpu, insn);
    repeat(cpu, bus, form, PORT_ROUND, |cpu, bus, _| {
        let port = cpu.gpr(gpr::RDX, Width::Word) as u16;
        cpu.check_io(bus, port, form.width)?;
        let from = form.source(cpu)?;
        let value = cpu.load_width(bus, from, form.width)?;
        bus.port_out(port, form.width, value as u32);
        cpu.note_port(port, form.width);
        form.advance(cpu, gpr::RSI, 1);
        Ok(Element::Done(1))
    })
    .map(leave)
}

/// A port access may have changed interrupts or the map: the block ends.
fn leave(flow: Flow) -> Flow {
    if flow == Flow::Next { Flow::Resync } else { flow }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::state::Segment;
    use crate::cpu::testbus::TestBus;

    /// Runs one instruction of 16-bit code until it is complete; returns how often it was called.
    fn run(cpu: &mut Cpu, bus: &mut TestBus, code: &[u8]) -> Result<u32, Fault> {
        let insn = Decoder::new(16, code, DecoderOptions::NONE).decode();
        let helper = find(insn.code()).expect("a string instruction");
        for calls in 1..10_000 {
            match helper(cpu, bus, &insn)? {
                Flow::Next | Flow::Resync => return Ok(calls),
                Flow::Again => {}
                Flow::Jump => panic!("a string instruction never jumps"),
            }
        }
        panic!("too many rounds")
    }

    fn machine() -> (Cpu, TestBus) {
        let mut cpu = Cpu::new(CpuModel::default());
        cpu.state.seg = [Segment::real(0x1000); 6];
        cpu.state_changed();
        (cpu, TestBus::new(64))
    }

    #[test]
    fn an_overlapping_move_upwards_repeats_its_beginning() {
        for warm in [false, true] {
            let (mut cpu, mut bus) = machine();
            bus.put(0x1_0ffe, &[1, 2, 3, 4, 5, 6]);
            if warm {
                for page in [0x1_0000_u64, 0x1_1000] {
                    cpu.store(&mut bus, page, 0_u8).unwrap();
                }
            }
            (cpu.state.gpr[gpr::RSI], cpu.state.gpr[gpr::RDI], cpu.state.gpr[gpr::RCX]) = (0xffe, 0xfff, 6);
            run(&mut cpu, &mut bus, &[0xf3, 0xa4]).unwrap();
            assert_eq!(bus.get::<8>(0x1_0ffe), [1, 1, 1, 1, 1, 1, 1, 0]);
            assert_eq!(
                (cpu.state.gpr[gpr::RSI], cpu.state.gpr[gpr::RDI], cpu.state.gpr[gpr::RCX]),
                (0x1004, 0x1005, 0)
            );
        }
    }

    #[test]
    fn a_large_fill_comes_back_for_interrupts_and_stops_at_the_limit() {
        let (mut cpu, mut bus) = machine();
        cpu.state.gpr[gpr::RAX] = 0x1234;
        cpu.state.gpr[gpr::RDI] = 0x8000;
        cpu.state.gpr[gpr::RCX] = 0xffff_0000 | 0x3000;
        assert_eq!(run(&mut cpu, &mut bus, &[0xf3, 0xab]), Ok(3));
        assert_eq!(bus.get::<4>(0x1_8000), [0x34, 0x12, 0x34, 0x12]);
        assert_eq!(cpu.state.gpr[gpr::RDI], 0xe000);
        assert_eq!(cpu.state.gpr[gpr::RCX], 0xffff_0000);
        cpu.state.seg[SegReg::Es as usize].limit = 0xefff;
        cpu.state.gpr[gpr::RCX] = 0x1000;
        assert_eq!(run(&mut cpu, &mut bus, &[0xf3, 0xab]), Err(Fault::gp(0)));
        assert_eq!((cpu.state.gpr[gpr::RDI], cpu.state.gpr[gpr::RCX]), (0xf000, 0x800));
    }

    #[test]
    fn a_page_with_code_is_never_filled_behind_the_cache_and_ports_are_asked_in_order() {
        let (mut cpu, mut bus) = machine();
        cpu.state.gpr[gpr::RCX] = 3;
        cpu.state.gpr[gpr::RDX] = 0x1f0;
        bus.ins = [1, 2, 3].into();
        run(&mut cpu, &mut bus, &[0xf3, 0x6d]).unwrap();
        assert_eq!(bus.get::<6>(0x1_0000), [1, 0, 2, 0, 3, 0]);
        (cpu.state.gpr[gpr::RSI], cpu.state.gpr[gpr::RCX]) = (4, 3);
        cpu.state.flags.update(DF, DF);
        run(&mut cpu, &mut bus, &[0xf3, 0x6f]).unwrap();
        assert_eq!(bus.outs.iter().map(|out| out.2).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(cpu.state.gpr[gpr::RSI], 0xfffe);
    }

    #[test]
    fn comparing_stops_where_it_should() {
        let (mut cpu, mut bus) = machine();
        bus.put(0x1_0000, b"abcdXf");
        bus.put(0x1_0100, b"abcdef");
        (cpu.state.gpr[gpr::RDI], cpu.state.gpr[gpr::RCX]) = (0x100, 6);
        run(&mut cpu, &mut bus, &[0xf3, 0xa6]).unwrap();
        assert_eq!((cpu.state.gpr[gpr::RSI], cpu.state.gpr[gpr::RDI], cpu.state.gpr[gpr::RCX]), (5, 0x105, 1));
        assert!(cpu.state.flags.has(CF) && !cpu.state.flags.has(ZF));
        (cpu.state.gpr[gpr::RDI], cpu.state.gpr[gpr::RCX], cpu.state.gpr[gpr::RAX]) = (0x100, 0xffff, u64::from(b'e'));
        run(&mut cpu, &mut bus, &[0xf2, 0xae]).unwrap();
        assert_eq!(cpu.state.gpr[gpr::RDI], 0x105);
        assert!(cpu.state.flags.has(ZF));
    }
}
