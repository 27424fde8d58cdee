//! System instructions (Intel SDM vol. 2) and port I/O.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::far::{iopl, operand_width};
use crate::bus::{Bus, PortRegisters, Width};
use crate::cpu::cpuid::feature;
use crate::cpu::debug::{dr6, dr7};
use crate::cpu::fault::{Fault, Vector};
use crate::cpu::msr::apic_base;
use crate::cpu::segment::{Descriptor, is_null, selector_error, system};
use crate::cpu::smm::rsm;
use crate::cpu::state::{Segment, TableRegister, cr0, cr4, gpr};
use crate::cpu::{Cpu, Flow, Helper, flags};

type Outcome = Result<Flow, Fault>;

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    let helper: Helper = match code {
        Code::Mov_r32_cr => read_control,
        Code::Mov_cr_r32 => write_control,
        Code::Mov_r32_dr => read_debug,
        Code::Mov_dr_r32 => write_debug,
        _ => match code.mnemonic() {
            Mnemonic::Lmsw => lmsw,
            Mnemonic::Smsw => smsw,
            Mnemonic::Clts => clts,
            Mnemonic::Lgdt | Mnemonic::Lidt => load_table,
            Mnemonic::Sgdt | Mnemonic::Sidt => store_table,
            Mnemonic::Lldt => lldt,
            Mnemonic::Ltr => ltr,
            Mnemonic::Sldt | Mnemonic::Str => store_selector,
            Mnemonic::Lar => lar,
            Mnemonic::Lsl => lsl,
            Mnemonic::Verr | Mnemonic::Verw => verify,
            Mnemonic::Arpl => arpl,
            Mnemonic::Invlpg => invlpg,
            Mnemonic::Invd | Mnemonic::Wbinvd => flush_caches,
            Mnemonic::Hlt => hlt,
            Mnemonic::Cpuid => cpuid,
            Mnemonic::Rdtsc => rdtsc,
            Mnemonic::Rdpmc => rdpmc,
            Mnemonic::Rdmsr => rdmsr,
            Mnemonic::Wrmsr => wrmsr,
            Mnemonic::Cmpxchg8b => cmpxchg8b,
            Mnemonic::Xlatb => xlat,
            Mnemonic::In => input,
            Mnemonic::Out => output,
            Mnemonic::Rsm => rsm,
            Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 | Mnemonic::INVALID => undefined,
            _ => return None,
        },
    };
    Some(helper)
}

fn undefined(_: &mut Cpu, _: &mut dyn Bus, _: &Instruction) -> Outcome {
    Err(Fault::ud())
}

impl Cpu {
    /// #GP(0) outside privilege level 0.
    fn require_level_0(&self) -> Result<(), Fault> {
        if self.state.cpl == 0 { Ok(()) } else { Err(Fault::gp(0)) }
    }

    /// #UD in real and virtual-8086 mode.
    fn require_selectors(&self) -> Result<(), Fault> {
        if self.state.paragraphs() { Err(Fault::ud()) } else { Ok(()) }
    }

    /// Whether IN, OUT, INS or OUTS may touch these ports: by privilege, else by the bitmap in the TSS
    /// (Intel SDM vol. 1, 19.5).
    ///
    /// # Errors
    /// #GP(0) where not, or a page fault in the TSS.
    pub fn check_io(&mut self, bus: &mut dyn Bus, port: u16, width: Width) -> Result<(), Fault> {
        if !self.state.protected() || !self.state.v86() && self.state.cpl <= iopl(self) {
            return Ok(());
        }
        let tr = self.state.tr;
        let has_bitmap = tr.rights & 0x8d == 0x89 && tr.limit >= 103;
        if !has_bitmap {
            return Err(Fault::gp(0));
        }
        let at = |offset: u32| tr.base.wrapping_add(u64::from(offset)) & 0xffff_ffff;
        let map = u32::from(self.load_system::<u16>(bus, at(102))?);
        let offset = map + u32::from(port / 8);
        // Two bytes are always read; the last byte of a bitmap is followed by one of ones.
        if offset + 1 > tr.limit {
            return Err(Fault::gp(0));
        }
        let bits = u32::from(self.load_system::<u16>(bus, at(offset))?) >> (port & 7);
        if bits & ((1 << width as u32) - 1) == 0 { Ok(()) } else { Err(Fault::gp(0)) }
    }
}

fn control_number(register: Register) -> usize {
    register.number()
}

fn read_control(cpu: &mut Cpu, _bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let number = control_number(insn.op1_register());
    let known = matches!(number, 0 | 2 | 3) || number == 4 && cpu.model.cr4_mask() != 0;
    if !known {
        return Err(Fault::ud());
    }
    cpu.require_level_0()?;
    let value = cpu.state.cr[number];
    cpu.set_register(insn.op0_register(), value);
    Ok(Flow::Next)
}

fn write_control(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let number = control_number(insn.op0_register());
    let value = cpu.register(insn.op1_register());
    let known = matches!(number, 0 | 2 | 3) || number == 4 && cpu.model.cr4_mask() != 0;
    if !known {
        return Err(Fault::ud());
    }
    cpu.require_level_0()?;
    match number {
        0 => cpu.set_cr0(bus, value)?,
        2 => cpu.state.cr[2] = value,
        3 => cpu.set_cr3(bus, value)?,
        _ => cpu.set_cr4(bus, value)?,
    }
    Ok(Flow::Resync)
}

/// The debug register that a number means: 4 and 5 are 6 and 7, or undefined with CR4.DE. #DB where DR7.GD guards them.
fn debug_number(cpu: &mut Cpu, register: Register) -> Result<usize, Fault> {
    let number = register.number() & 7;
    if matches!(number, 4 | 5) && cpu.state.cr[4] & cr4::DE != 0 {
        return Err(Fault::ud());
    }
    cpu.require_level_0()?;
    if cpu.state.dr[7] & dr7::GD != 0 {
        cpu.state.dr[6] |= u64::from(dr6::BD);
        return Err(Fault::new(Vector::Debug));
    }
    Ok(match number {
        4 => 6,
        5 => 7,
        number => number,
    })
}

fn read_debug(cpu: &mut Cpu, _bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let number = debug_number(cpu, insn.op1_register())?;
    let value = cpu.state.dr[number];
    cpu.set_register(insn.op0_register(), value);
    Ok(Flow::Next)
}

fn write_debug(cpu: &mut Cpu, _bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let value = cpu.register(insn.op1_register());
    let number = debug_number(cpu, insn.op0_register())?;
    cpu.state.dr[number] = match number {
        6 => value & u64::from(dr6::KNOWN) | u64::from(dr6::FIXED),
        7 => value & dr7::KNOWN | dr7::FIXED,
        _ => value,
    };
    if number != 6 {
        cpu.rearm();
    }
    Ok(Flow::Resync)
}

fn lmsw(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_level_0()?;
    let value = cpu.read_operand(bus, insn, 0, Width::Word)?;
    // PE can be set but not cleared.
    let changed = cr0::MP | cr0::EM | cr0::TS | if value & cr0::PE != 0 { cr0::PE } else { 0 };
    cpu.set_cr0(bus, cpu.state.cr[0] & !changed | value & changed)?;
    Ok(Flow::Resync)
}

fn smsw(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let value = cpu.state.cr[0];
    store_word(cpu, bus, insn, value)
}

/// Stores 16 bits to memory, or as many as a register has.
fn store_word(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction, value: u64) -> Outcome {
    let width = if insn.op0_kind() == OpKind::Memory { Width::Word } else { operand_width(insn) };
    cpu.write_operand(bus, insn, 0, width, value)?;
    Ok(Flow::Next)
}

fn clts(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    cpu.require_level_0()?;
    cpu.state.cr[0] &= !cr0::TS;
    Ok(Flow::Resync)
}

fn load_table(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_level_0()?;
    let limit_at = cpu.memory_part(insn, 0, 2, false)?;
    let base_at = cpu.memory_part(insn, 2, 4, false)?;
    let limit = cpu.load::<u16>(bus, limit_at)?;
    let base = u64::from(cpu.load::<u32>(bus, base_at)?);
    let base = if operand_width(insn) == Width::Word { base & 0x00ff_ffff } else { base };
    let table = TableRegister { base, limit };
    if insn.mnemonic() == Mnemonic::Lgdt {
        cpu.state.gdtr = table;
    } else {
        cpu.state.idtr = table;
    }
    Ok(Flow::Next)
}

/// All 32 bits of the base are stored, whatever the operand size.
fn store_table(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let table = if insn.mnemonic() == Mnemonic::Sgdt { cpu.state.gdtr } else { cpu.state.idtr };
    let limit_at = cpu.memory_part(insn, 0, 2, true)?;
    let base_at = cpu.memory_part(insn, 2, 4, true)?;
    cpu.prepare_write(bus, base_at, 4)?;
    cpu.store(bus, limit_at, table.limit)?;
    cpu.store(bus, base_at, table.base as u32)?;
    Ok(Flow::Next)
}

/// The descriptor of LLDT or LTR: in the GDT.
fn system_descriptor(cpu: &mut Cpu, bus: &mut dyn Bus, selector: u16) -> Result<Descriptor, Fault> {
    if selector & 4 != 0 {
        return Err(Fault::gp(selector_error(selector)));
    }
    cpu.descriptor_or(bus, selector, Vector::GeneralProtection)
}

fn present(descriptor: &Descriptor, selector: u16) -> Result<(), Fault> {
    if descriptor.is_present() {
        Ok(())
    } else {
        Err(Fault::with_error(Vector::SegmentNotPresent, selector_error(selector)))
    }
}

fn lldt(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    cpu.require_level_0()?;
    let selector = cpu.read_operand(bus, insn, 0, Width::Word)? as u16;
    if is_null(selector) {
        cpu.state.ldtr = Segment::null(selector);
        return Ok(Flow::Next);
    }
    let descriptor = system_descriptor(cpu, bus, selector)?;
    if !descriptor.is_system() || descriptor.kind() != system::LDT {
        return Err(Fault::gp(selector_error(selector)));
    }
    present(&descriptor, selector)?;
    cpu.state.ldtr = descriptor.segment(selector);
    Ok(Flow::Next)
}

fn ltr(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    cpu.require_level_0()?;
    let selector = cpu.read_operand(bus, insn, 0, Width::Word)? as u16;
    if is_null(selector) {
        return Err(Fault::gp(0));
    }
    let mut descriptor = system_descriptor(cpu, bus, selector)?;
    if !descriptor.is_system() || !matches!(descriptor.kind(), system::TSS16 | system::TSS32) {
        return Err(Fault::gp(selector_error(selector)));
    }
    present(&descriptor, selector)?;
    // Busy.
    descriptor.high |= 1 << 9;
    cpu.store_system::<u8>(bus, descriptor.at.wrapping_add(5) & 0xffff_ffff, (descriptor.high >> 8) as u8)?;
    cpu.state.tr = descriptor.segment(selector);
    Ok(Flow::Next)
}

fn store_selector(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    let register = if insn.mnemonic() == Mnemonic::Sldt { &cpu.state.ldtr } else { &cpu.state.tr };
    let value = u64::from(register.selector);
    store_word(cpu, bus, insn, value)
}

/// The descriptor that LAR, LSL, VERR and VERW look at, where there is one and this level may see it.
fn visible(cpu: &mut Cpu, bus: &mut dyn Bus, selector: u16) -> Result<Option<Descriptor>, Fault> {
    if is_null(selector) {
        return Ok(None);
    }
    let level = cpu.state.cpl.max((selector & 3) as u8);
    let descriptor = cpu.descriptor(bus, selector)?;
    Ok(descriptor.filter(|descriptor| descriptor.is_conforming() || level <= descriptor.dpl()))
}

fn set_zero_flag(cpu: &mut Cpu, on: bool) {
    cpu.state.flags.update(flags::ZF, if on { flags::ZF } else { 0 });
}

fn lar(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    let selector = cpu.read_operand(bus, insn, 1, Width::Word)? as u16;
    let descriptor = visible(cpu, bus, selector)?
        .filter(|descriptor| !descriptor.is_system() || matches!(descriptor.kind(), 1..=5 | 9 | 11 | 12));
    set_zero_flag(cpu, descriptor.is_some());
    if let Some(descriptor) = descriptor {
        cpu.set_register(insn.op0_register(), u64::from(descriptor.high & 0x00ff_ff00));
    }
    Ok(Flow::Next)
}

fn lsl(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    let selector = cpu.read_operand(bus, insn, 1, Width::Word)? as u16;
    let descriptor = visible(cpu, bus, selector)?
        .filter(|descriptor| !descriptor.is_system() || matches!(descriptor.kind(), 1..=3 | 9 | 11));
    set_zero_flag(cpu, descriptor.is_some());
    if let Some(descriptor) = descriptor {
        cpu.set_register(insn.op0_register(), u64::from(descriptor.limit()));
    }
    Ok(Flow::Next)
}

fn verify(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    let selector = cpu.read_operand(bus, insn, 0, Width::Word)? as u16;
    let write = insn.mnemonic() == Mnemonic::Verw;
    let fits = |descriptor: Descriptor| if write { descriptor.is_writable_data() } else { descriptor.is_readable() };
    let fits = visible(cpu, bus, selector)?.is_some_and(fits);
    set_zero_flag(cpu, fits);
    Ok(Flow::Next)
}

fn arpl(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_selectors()?;
    let destination = cpu.read_operand(bus, insn, 0, Width::Word)?;
    let source = cpu.register(insn.op1_register());
    let raise = destination & 3 < source & 3;
    if raise {
        cpu.write_operand(bus, insn, 0, Width::Word, destination & !3 | source & 3)?;
    }
    set_zero_flag(cpu, raise);
    Ok(Flow::Next)
}

fn invlpg(cpu: &mut Cpu, _bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.require_level_0()?;
    let base = cpu.state.segment(super::operand::segment_of(insn)).base;
    let linear = base.wrapping_add(cpu.effective_offset(insn)) & 0xffff_ffff;
    cpu.tlb.flush_page(linear);
    Ok(Flow::Resync)
}

/// INVD, WBINVD: there are no caches that a guest could see.
fn flush_caches(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    cpu.require_level_0()?;
    Ok(Flow::Next)
}

fn hlt(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    cpu.require_level_0()?;
    cpu.state.halted = true;
    Ok(Flow::Resync)
}

#[allow(clippy::unnecessary_wraps, reason = "it is a `Helper`")]
fn cpuid(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    let (leaf, subleaf) = (cpu.state.gpr[gpr::RAX] as u32, cpu.state.gpr[gpr::RCX] as u32);
    let [a, b, c, mut d] = cpu.model.cpuid(leaf, subleaf);
    if leaf == 1 && cpu.state.msr.apic_base & apic_base::ENABLE == 0 {
        d &= !feature::APIC;
    }
    cpu.state.gpr[gpr::RAX] = u64::from(a);
    cpu.state.gpr[gpr::RBX] = u64::from(b);
    cpu.state.gpr[gpr::RCX] = u64::from(c);
    cpu.state.gpr[gpr::RDX] = u64::from(d);
    Ok(Flow::Next)
}

fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.state.gpr[gpr::RAX] = value & 0xffff_ffff;
    cpu.state.gpr[gpr::RDX] = value >> 32;
}

fn rdtsc(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    if !cpu.model.has(feature::TSC) {
        return Err(Fault::ud());
    }
    if cpu.state.cr[4] & cr4::TSD != 0 {
        cpu.require_level_0()?;
    }
    let count = cpu.tsc(bus);
    set_edx_eax(cpu, count);
    Ok(Flow::Next)
}

/// There are no performance counters.
fn rdpmc(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    if cpu.model.has(feature::CMOV) { Err(Fault::gp(0)) } else { Err(Fault::ud()) }
}

fn rdmsr(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    if !cpu.model.has(feature::MSR) {
        return Err(Fault::ud());
    }
    cpu.require_level_0()?;
    let value = cpu.read_msr(bus, cpu.state.gpr[gpr::RCX] as u32)?;
    set_edx_eax(cpu, value);
    Ok(Flow::Next)
}

fn wrmsr(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    if !cpu.model.has(feature::MSR) {
        return Err(Fault::ud());
    }
    cpu.require_level_0()?;
    let low = cpu.gpr(gpr::RAX, Width::Dword);
    let value = cpu.gpr(gpr::RDX, Width::Dword) << 32 | low;
    cpu.write_msr(bus, cpu.state.gpr[gpr::RCX] as u32, value)?;
    Ok(Flow::Next)
}

fn cmpxchg8b(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    if !cpu.model.has(feature::CX8) || insn.op0_kind() != OpKind::Memory {
        return Err(Fault::ud());
    }
    let linear = cpu.memory_linear(insn, 8, true)?;
    let old = cpu.load_for_write::<u64>(bus, linear)?;
    let expected = cpu.gpr(gpr::RDX, Width::Dword) << 32 | cpu.gpr(gpr::RAX, Width::Dword);
    let equal = old == expected;
    // Silicon writes in both cases.
    let new = if equal { cpu.gpr(gpr::RCX, Width::Dword) << 32 | cpu.gpr(gpr::RBX, Width::Dword) } else { old };
    cpu.store(bus, linear, new)?;
    if !equal {
        set_edx_eax(cpu, old);
    }
    set_zero_flag(cpu, equal);
    Ok(Flow::Next)
}

fn xlat(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let linear = cpu.memory_linear(insn, 1, false)?;
    let value = cpu.load::<u8>(bus, linear)?;
    cpu.set_gpr(gpr::RAX, u64::from(value), Width::Byte);
    Ok(Flow::Next)
}

/// The port of IN or OUT: operand `n`, an immediate or DX.
fn port(cpu: &Cpu, insn: &Instruction, n: u32) -> u16 {
    if insn.op_kind(n) == OpKind::Register { cpu.state.gpr[gpr::RDX] as u16 } else { u16::from(insn.immediate8()) }
}

/// The width of the accumulator in IN or OUT.
fn accumulator(register: Register) -> Width {
    match register {
        Register::AL => Width::Byte,
        Register::AX => Width::Word,
        _ => Width::Dword,
    }
}

fn input(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = accumulator(insn.op0_register());
    let port = port(cpu, insn, 1);
    cpu.check_io(bus, port, width)?;
    if width != Width::Dword || !exchange(cpu, bus, port) {
        let value = bus.port_in(port, width);
        cpu.set_gpr(gpr::RAX, u64::from(value), width);
    }
    cpu.note_port(port, width);
    Ok(Flow::Resync)
}

/// IN EAX with a chip that reads and writes the registers; false where there is no such chip at `port`.
fn exchange(cpu: &mut Cpu, bus: &mut dyn Bus, port: u16) -> bool {
    let [eax, ebx, ecx, edx, esi, edi] =
        [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI].map(|number| cpu.state.gpr[number] as u32);
    let mut registers = PortRegisters { eax, ebx, ecx, edx, esi, edi };
    if !bus.port_in_registers(port, &mut registers) {
        return false;
    }
    let PortRegisters { eax, ebx, ecx, edx, esi, edi } = registers;
    for (number, value) in
        [(gpr::RAX, eax), (gpr::RBX, ebx), (gpr::RCX, ecx), (gpr::RDX, edx), (gpr::RSI, esi), (gpr::RDI, edi)]
    {
        cpu.state.gpr[number] = u64::from(value);
    }
    true
}

fn output(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = accumulator(insn.op1_register());
    let port = port(cpu, insn, 0);
    cpu.check_io(bus, port, width)?;
    bus.port_out(port, width, cpu.gpr(gpr::RAX, width) as u32);
    cpu.note_port(port, width);
    Ok(Flow::Resync)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::testbus::{level, protected, step};

    #[test]
    fn ports_at_ring_3_ask_the_bitmap() {
        let (mut cpu, mut bus) = protected(16);
        bus.ins.extend([0x1234_5678, 0x9a]);
        cpu.state.gpr[gpr::RDX] = 0x3f8;
        step(&mut cpu, &mut bus, &[0xed]).unwrap();
        assert_eq!(cpu.state.gpr[gpr::RAX], 0x1234_5678);
        level(&mut cpu, 3);
        assert_eq!(step(&mut cpu, &mut bus, &[0xec]), Err(Fault::gp(0)), "the TSS ends before the bitmap");
        cpu.state.tr.limit = 0x68 + 0x80;
        step(&mut cpu, &mut bus, &[0xec]).unwrap();
        assert_eq!(cpu.state.gpr[gpr::RAX], 0x1234_569a);
        bus.put(0x3068 + 0x7f, &[0x04]);
        step(&mut cpu, &mut bus, &[0xee]).unwrap();
        assert_eq!(step(&mut cpu, &mut bus, &[0xef]), Err(Fault::gp(0)), "port 3fa is closed");
        assert_eq!(bus.outs, [(0x3f8, Width::Byte, 0x9a)]);
        cpu.state.flags.update(flags::IOPL, flags::IOPL);
        step(&mut cpu, &mut bus, &[0xef]).unwrap();
    }

    #[test]
    fn control_registers_refuse_nonsense() {
        let (mut cpu, mut bus) = protected(16);
        cpu.state.gpr[gpr::RAX] = cr0::PG;
        assert_eq!(step(&mut cpu, &mut bus, &[0x0f, 0x22, 0xc0]), Err(Fault::gp(0)));
        cpu.state.gpr[gpr::RAX] = 1 << 11;
        assert_eq!(step(&mut cpu, &mut bus, &[0x0f, 0x22, 0xe0]), Err(Fault::gp(0)));
        // LMSW cannot leave protected mode.
        cpu.state.gpr[gpr::RAX] = cr0::TS;
        step(&mut cpu, &mut bus, &[0x0f, 0x01, 0xf0]).unwrap();
        assert!(cpu.state.protected() && cpu.state.cr[0] & cr0::TS != 0);
        step(&mut cpu, &mut bus, &[0x0f, 0x06]).unwrap();
        assert_eq!(cpu.state.cr[0] & cr0::TS, 0);
        level(&mut cpu, 3);
        for code in [&[0x0f, 0x22, 0xd8][..], &[0x0f, 0x06], &[0xf4], &[0x0f, 0x32], &[0x0f, 0x01, 0x38]] {
            assert_eq!(step(&mut cpu, &mut bus, code), Err(Fault::gp(0)), "{code:02x?}");
        }
    }

    #[test]
    fn lar_lsl_and_verify_answer_in_the_zero_flag() {
        let (mut cpu, mut bus) = protected(16);
        cpu.state.gpr[gpr::RCX] = 0x18;
        step(&mut cpu, &mut bus, &[0x0f, 0x02, 0xc1]).unwrap();
        assert_eq!(cpu.state.gpr[gpr::RAX], 0x00cf_fb00);
        step(&mut cpu, &mut bus, &[0x0f, 0x03, 0xc1]).unwrap();
        assert_eq!(cpu.state.gpr[gpr::RAX], 0xffff_ffff);
        assert!(cpu.state.flags.has(flags::ZF));
        step(&mut cpu, &mut bus, &[0x0f, 0x00, 0xe9]).unwrap();
        assert!(!cpu.state.flags.has(flags::ZF), "code is not writable");
        step(&mut cpu, &mut bus, &[0x0f, 0x00, 0xe1]).unwrap();
        assert!(cpu.state.flags.has(flags::ZF), "but readable");
        level(&mut cpu, 3);
        cpu.state.gpr[gpr::RCX] = 0x08;
        step(&mut cpu, &mut bus, &[0x0f, 0x03, 0xc1]).unwrap();
        assert!(!cpu.state.flags.has(flags::ZF), "not visible from ring 3");
        assert_eq!(cpu.state.gpr[gpr::RAX], 0xffff_ffff);
    }

    #[test]
    fn tables_tasks_and_exchange() {
        let (mut cpu, mut bus) = protected(16);
        // SGDT [6000], then LIDT from it with 16-bit operands: 24 bits of base.
        cpu.state.gdtr.base = 0xff00_1000;
        step(&mut cpu, &mut bus, &[0x0f, 0x01, 0x05, 0, 0x60, 0, 0]).unwrap();
        assert_eq!(bus.get::<6>(0x6000), [0xff, 0, 0, 0x10, 0, 0xff]);
        step(&mut cpu, &mut bus, &[0x66, 0x0f, 0x01, 0x1d, 0, 0x60, 0, 0]).unwrap();
        assert_eq!(cpu.state.idtr, TableRegister { base: 0x1000, limit: 0xff });
        cpu.state.gdtr.base = 0x1000;
        // LTR: the TSS of the fixture is busy; once free it becomes so.
        cpu.state.gpr[gpr::RAX] = 0x28;
        assert_eq!(step(&mut cpu, &mut bus, &[0x0f, 0x00, 0xd8]), Err(Fault::gp(0x28)));
        bus.put(0x102d, &[0x89]);
        step(&mut cpu, &mut bus, &[0x0f, 0x00, 0xd8]).unwrap();
        assert_eq!((bus.get::<1>(0x102d), cpu.state.tr.rights), ([0x8b], 0x8b));
        // CMPXCHG8B [6010]: unequal loads EDX:EAX, equal stores ECX:EBX.
        bus.put(0x6010, &0x1111_2222_3333_4444_u64.to_le_bytes());
        let exchange = [0x0f, 0xc7, 0x0d, 0x10, 0x60, 0, 0];
        step(&mut cpu, &mut bus, &exchange).unwrap();
        assert!(!cpu.state.flags.has(flags::ZF));
        assert_eq!((cpu.state.gpr[gpr::RDX], cpu.state.gpr[gpr::RAX]), (0x1111_2222, 0x3333_4444));
        cpu.state.gpr[gpr::RCX] = 0x55;
        cpu.state.gpr[gpr::RBX] = 0x66;
        step(&mut cpu, &mut bus, &exchange).unwrap();
        assert!(cpu.state.flags.has(flags::ZF));
        assert_eq!((bus.get32(0x6010), bus.get32(0x6014)), (0x66, 0x55));
    }

    #[test]
    fn the_tsc_is_guest_time_and_can_be_set() {
        let (mut cpu, mut bus) = protected(16);
        bus.now = 5_000_000_007;
        step(&mut cpu, &mut bus, &[0x0f, 0x31]).unwrap();
        assert_eq!((cpu.state.gpr[gpr::RDX], cpu.state.gpr[gpr::RAX]), (1, 705_032_711));
        cpu.state.gpr[gpr::RCX] = 0x10;
        cpu.state.gpr[gpr::RAX] = 100;
        step(&mut cpu, &mut bus, &[0x0f, 0x30]).unwrap();
        bus.now += 11;
        assert_eq!(cpu.tsc(&bus), 111);
        cpu.state.gpr[gpr::RCX] = 0x1b;
        step(&mut cpu, &mut bus, &[0x0f, 0x32]).unwrap();
        assert_eq!((cpu.state.gpr[gpr::RDX], cpu.state.gpr[gpr::RAX]), (0, 0xfee0_0900));
        cpu.model = CpuModel::Pentium;
        assert_eq!(step(&mut cpu, &mut bus, &[0x0f, 0x32]), Err(Fault::gp(0)), "no local APIC");
    }

    #[test]
    fn an_in_can_change_the_registers() {
        let (mut cpu, mut bus) = protected(16);
        cpu.state.gpr[gpr::RDX] = 0x5658;
        bus.exchange = Some(0x5658);
        step(&mut cpu, &mut bus, &[0xed]).unwrap();
        assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RBX], cpu.state.gpr[gpr::RDI]), (1, 2, 6));
        assert!(bus.asked.is_empty());
        // 16 bits wide it is a port like any other.
        step(&mut cpu, &mut bus, &[0x66, 0xed]).unwrap();
        assert_eq!(bus.asked, [(4, Width::Word)], "the port was in DX");
    }
}
