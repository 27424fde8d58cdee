//! Control instructions, and the environment in its four layouts (SDM vol. 1, 8.1.10).

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use crate::bus::{Bus, Width};
use crate::cpu::fault::Fault;
use crate::cpu::fpu::Fpu;
use crate::cpu::fpu::float::F80;
use crate::cpu::{Cpu, Flow};

/// Instructions that do not wait and touch control, status or nothing.
pub(super) fn control(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    cpu.x87_available()?;
    match insn.mnemonic() {
        Mnemonic::Fninit => cpu.fpu.init(),
        Mnemonic::Fnclex => cpu.fpu.clear_exceptions(),
        Mnemonic::Fnstsw => store_word(cpu, bus, insn, cpu.fpu.status_word())?,
        Mnemonic::Fnstcw => store_word(cpu, bus, insn, cpu.fpu.control)?,
        // FNENI, FNDISI and FNSETPM were meaningful to an 8087 or 287 only.
        _ => {}
    }
    Ok(Flow::Next)
}

fn store_word(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction, value: u16) -> Result<(), Fault> {
    cpu.write_operand(bus, insn, 0, Width::Word, u64::from(value))
}

/// FLDCW.
pub(super) fn load_control(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    debug_assert!(insn.op0_kind() == OpKind::Memory);
    let value = cpu.read_operand(bus, insn, 0, Width::Word)?;
    cpu.fpu.set_control(value as u16);
    Ok(Flow::Next)
}

/// Which layout, and whether the eight registers follow.
struct Layout {
    wide: bool,
    real: bool,
    registers: bool,
}

impl Layout {
    fn of(cpu: &Cpu, insn: &Instruction) -> Self {
        let code = insn.code();
        Self {
            wide: matches!(
                code,
                Code::Fnstenv_m28byte | Code::Fldenv_m28byte | Code::Fnsave_m108byte | Code::Frstor_m108byte
            ),
            real: cpu.state.paragraphs(),
            registers: matches!(insn.mnemonic(), Mnemonic::Fnsave | Mnemonic::Frstor),
        }
    }

    /// Bytes of the seven words or double words.
    fn environment(&self) -> u32 {
        if self.wide { 28 } else { 14 }
    }

    fn total(&self) -> u32 {
        self.environment() + if self.registers { 80 } else { 0 }
    }

    /// The seven fields of the environment.
    fn write(&self, fpu: &Fpu) -> [u32; 7] {
        // Unused upper halves read as ones.
        let word = |value: u16| u32::from(value) | 0xffff_0000;
        let head = [word(fpu.control), word(fpu.status_word()), word(fpu.tag_word())];
        let opcode = u32::from(fpu.opcode & 0x7ff);
        let tail = if self.real {
            let linear = |selector: u16, offset: u64| (u32::from(selector) << 4).wrapping_add(offset as u32);
            let instruction = linear(fpu.instruction_selector, fpu.instruction_offset);
            let operand = linear(fpu.operand_selector, fpu.operand_offset);
            let upper = |address: u32| if self.wide { address >> 16 << 12 } else { address >> 4 & 0xf000 };
            [word(instruction as u16), upper(instruction) | opcode, word(operand as u16), upper(operand)]
        } else {
            let selector = u32::from(fpu.instruction_selector);
            [
                fpu.instruction_offset as u32,
                if self.wide { selector | opcode << 16 } else { selector },
                fpu.operand_offset as u32,
                word(fpu.operand_selector),
            ]
        };
        [head[0], head[1], head[2], tail[0], tail[1], tail[2], tail[3]]
    }

    fn read(&self, fpu: &mut Fpu, fields: [u32; 7]) {
        fpu.control = fields[0] as u16 & 0x1f3f | 0x40;
        fpu.set_status_word(fields[1] as u16);
        fpu.set_tag_word(fields[2] as u16);
        let opcode = |field: u32| field as u16 & 0x7ff;
        if self.real {
            let upper =
                |field: u32| u64::from(if self.wide { field >> 12 << 16 } else { field >> 12 << 16 & 0xf_0000 });
            fpu.instruction_offset = u64::from(fields[3] & 0xffff) | upper(fields[4]);
            fpu.instruction_selector = 0;
            fpu.opcode = opcode(fields[4]);
            fpu.operand_offset = u64::from(fields[5] & 0xffff) | upper(fields[6]);
            fpu.operand_selector = 0;
        } else {
            fpu.instruction_offset = u64::from(fields[3]);
            fpu.instruction_selector = fields[4] as u16;
            if self.wide {
                fpu.opcode = opcode(fields[4] >> 16);
            }
            fpu.operand_offset = u64::from(fields[5]);
            fpu.operand_selector = fields[6] as u16;
        }
    }
}

/// FNSTENV and FNSAVE.
pub(super) fn save(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    cpu.x87_available()?;
    let layout = Layout::of(cpu, insn);
    let start = cpu.memory_linear(insn, layout.total(), true)?;
    cpu.prepare_write(bus, start, u64::from(layout.total()))?;
    let at = |offset: u32| start.wrapping_add(u64::from(offset)) & 0xffff_ffff;
    for (n, field) in (0..).zip(layout.write(&cpu.fpu)) {
        if layout.wide {
            cpu.store(bus, at(4 * n), field)?;
        } else {
            cpu.store(bus, at(2 * n), field as u16)?;
        }
    }
    if layout.registers {
        for n in 0..8_u8 {
            let value = cpu.fpu.get(n);
            let offset = layout.environment() + 10 * u32::from(n);
            cpu.store(bus, at(offset), value.significand)?;
            cpu.store(bus, at(offset + 8), value.sign_exponent)?;
        }
        cpu.fpu.init();
    } else {
        let masked = cpu.fpu.control | 0x3f;
        cpu.fpu.set_control(masked);
    }
    Ok(Flow::Next)
}

/// FLDENV and FRSTOR.
pub(super) fn restore(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let layout = Layout::of(cpu, insn);
    let start = cpu.memory_linear(insn, layout.total(), false)?;
    cpu.prepare_read(bus, start, u64::from(layout.total()))?;
    let at = |offset: u32| start.wrapping_add(u64::from(offset)) & 0xffff_ffff;
    let mut fields = [0; 7];
    for (n, field) in (0..).zip(&mut fields) {
        *field =
            if layout.wide { cpu.load::<u32>(bus, at(4 * n))? } else { u32::from(cpu.load::<u16>(bus, at(2 * n))?) };
    }
    let mut registers = [F80::ZERO; 8];
    if layout.registers {
        for (n, register) in (0..).zip(&mut registers) {
            let offset = layout.environment() + 10 * n;
            register.significand = cpu.load::<u64>(bus, at(offset))?;
            register.sign_exponent = cpu.load::<u16>(bus, at(offset + 8))?;
        }
    }
    layout.read(&mut cpu.fpu, fields);
    if layout.registers {
        for (n, register) in (0..).zip(registers) {
            let index = cpu.fpu.index(n);
            cpu.fpu.registers[index] = register;
        }
    }
    Ok(Flow::Next)
}
