//! Loads and stores of `ST(0)` in every format.

use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind};

use super::{commit, integer, push, stack_number};
use crate::bus::{Bus, Width};
use crate::cpu::fault::Fault;
use crate::cpu::fpu::bits::{DE, IE};
use crate::cpu::fpu::convert;
use crate::cpu::fpu::float::{Context, F80, Kind, QUIET, Rounding};
use crate::cpu::{Cpu, Flow};

/// A memory operand as arithmetic takes it, and whether it was denormal in its own format. A signaling NaN stays one.
pub(super) fn operand(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<(F80, bool), Fault> {
    let size = insn.memory_size();
    let width = match size {
        MemorySize::Int16 => Width::Word,
        MemorySize::Float64 | MemorySize::Int64 => Width::Qword,
        _ => Width::Dword,
    };
    let linear = cpu.memory_linear(insn, width as u32, false)?;
    let bits = cpu.load_width(bus, linear, width)?;
    let mut scratch = Context::from_control(0x37f);
    let value = match size {
        MemorySize::Int16 => integer(i64::from(bits as i16)),
        MemorySize::Int32 => integer(i64::from(bits as i32)),
        MemorySize::Int64 => integer(bits as i64),
        MemorySize::Float64 => convert::from_f64(&mut scratch, bits),
        _ => convert::from_f32(&mut scratch, bits as u32),
    };
    let value = if scratch.raised & IE != 0 { F80 { significand: value.significand & !QUIET, ..value } } else { value };
    Ok((value, scratch.raised & DE != 0))
}

/// FLD, FILD, FBLD.
pub(super) fn load(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let mut context = cpu.fpu.context();
    let value = if insn.op0_kind() == OpKind::Memory {
        match insn.memory_size() {
            MemorySize::Float80 | MemorySize::Bcd => {
                let (low, high) = load_ten(cpu, bus, insn)?;
                if insn.mnemonic() == Mnemonic::Fbld {
                    convert::from_bcd(low, high)
                } else {
                    F80 { significand: low, sign_exponent: high }
                }
            }
            _ => {
                let (mut value, denormal) = operand(cpu, bus, insn)?;
                if value.kind() == Kind::Signaling {
                    context.raised |= IE;
                    value.significand |= QUIET;
                } else if denormal {
                    context.raised |= DE;
                }
                value
            }
        }
    } else {
        let from = stack_number(insn.op0_register());
        if cpu.fpu.is_empty(from) {
            if cpu.fpu.stack_underflow() {
                cpu.fpu.push(F80::INDEFINITE);
            }
            return Ok(cpu.x87_leave(insn));
        }
        cpu.fpu.get(from)
    };
    // An unmasked denormal operand is reported, but loaded all the same.
    if cpu.fpu.is_empty(7) {
        cpu.fpu.raise(context.raised);
    }
    if !cpu.fpu.is_empty(7) || !context.unmasked(context.raised & IE) {
        push(&mut cpu.fpu, value);
    } else {
        cpu.fpu.set_c1(false);
    }
    Ok(cpu.x87_leave(insn))
}

fn load_ten(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<(u64, u16), Fault> {
    let linear = cpu.memory_linear(insn, 10, false)?;
    let low = cpu.load::<u64>(bus, linear)?;
    let high = cpu.load::<u16>(bus, linear.wrapping_add(8) & 0xffff_ffff)?;
    Ok((low, high))
}

fn store_ten(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction, low: u64, high: u16) -> Result<(), Fault> {
    let linear = cpu.memory_linear(insn, 10, true)?;
    cpu.prepare_write(bus, linear, 10)?;
    cpu.store(bus, linear, low)?;
    cpu.store(bus, linear.wrapping_add(8) & 0xffff_ffff, high)
}

/// FST, FSTP, FIST, FISTP, FISTTP, FBSTP.
pub(super) fn store(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let pops = matches!(insn.mnemonic(), M::Fstp | M::Fstpnce | M::Fistp | M::Fisttp | M::Fbstp);
    let empty = cpu.fpu.is_empty(0);
    let value = if empty { F80::INDEFINITE } else { cpu.fpu.get(0) };
    if insn.op0_kind() != OpKind::Memory {
        let goes_on = if empty && insn.mnemonic() != M::Fstpnce {
            cpu.fpu.stack_underflow()
        } else {
            cpu.fpu.set_c1(false);
            true
        };
        if goes_on {
            cpu.fpu.set(stack_number(insn.op0_register()), value);
            if pops {
                cpu.fpu.pop();
            }
        }
        return Ok(cpu.x87_leave(insn));
    }
    let mut context = cpu.fpu.context();
    if insn.mnemonic() == M::Fisttp {
        context.rounding = Rounding::Zero;
    }
    if empty {
        context.raised |= IE;
    }
    // An unmasked invalid operation stores nothing and pops nothing; neither does an unmasked overflow or underflow.
    let goes_on = match insn.memory_size() {
        MemorySize::Float80 => {
            let stores = !context.unmasked(context.raised);
            if stores {
                store_ten(cpu, bus, insn, value.significand, value.sign_exponent)?;
            }
            stores
        }
        MemorySize::Bcd => {
            let (low, high) = convert::to_bcd(&mut context, value);
            let stores = !context.unmasked(context.raised & IE);
            if stores {
                store_ten(cpu, bus, insn, low, high)?;
            }
            stores
        }
        size => {
            let (width, bits) = match size {
                MemorySize::Float32 => (Width::Dword, convert::to_f32(&mut context, value).map(u64::from)),
                MemorySize::Float64 => (Width::Qword, convert::to_f64(&mut context, value)),
                MemorySize::Int16 => (Width::Word, Some(convert::to_integer(&mut context, value, 16) as u64)),
                MemorySize::Int32 => (Width::Dword, Some(convert::to_integer(&mut context, value, 32) as u64)),
                _ => (Width::Qword, Some(convert::to_integer(&mut context, value, 64) as u64)),
            };
            let bits = bits.filter(|_| !context.unmasked(context.raised & IE));
            if let Some(bits) = bits {
                let linear = cpu.memory_linear(insn, width as u32, true)?;
                cpu.store_width(bus, linear, width, bits)?;
            }
            bits.is_some()
        }
    };
    if empty {
        cpu.fpu.stack_underflow();
    } else {
        commit(&mut cpu.fpu, &mut context);
    }
    if goes_on && pops {
        cpu.fpu.pop();
    }
    Ok(cpu.x87_leave(insn))
}
