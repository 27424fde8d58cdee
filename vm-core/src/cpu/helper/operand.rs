//! Operands of an instruction, for helpers: registers, memory, the stack.

use iced_x86::{Instruction, OpKind, Register};

use crate::bus::{Bus, Width};
use crate::cpu::Cpu;
use crate::cpu::fault::Fault;
use crate::cpu::state::{SegReg, gpr};

/// The segment register that iced calls `register`; DS for anything else.
pub fn seg_reg(register: Register) -> SegReg {
    match register {
        Register::ES => SegReg::Es,
        Register::CS => SegReg::Cs,
        Register::SS => SegReg::Ss,
        Register::FS => SegReg::Fs,
        Register::GS => SegReg::Gs,
        _ => SegReg::Ds,
    }
}

/// The segment of an instruction's memory operand, overrides included.
pub fn segment_of(insn: &Instruction) -> SegReg {
    seg_reg(insn.memory_segment())
}

/// The size in bits of an instruction's memory addresses: 16 or 32 (64 in time).
pub fn address_bits(insn: &Instruction) -> u32 {
    for register in [insn.memory_base(), insn.memory_index()] {
        if register.is_gpr16() {
            return 16;
        }
        if register.is_gpr32() {
            return 32;
        }
    }
    if insn.memory_displ_size() == 2 { 16 } else { 32 }
}

/// The mask for an offset of so many bits.
pub const fn address_mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// Bytes of a width as a number for [`Cpu::linear`].
const fn bytes(width: Width) -> u32 {
    width as u32
}

impl Cpu {
    /// A register: general (any size), segment (its selector), or zero for anything else.
    pub fn register(&self, register: Register) -> u64 {
        let number = register.number() & 15;
        if register.is_gpr8() {
            return match register {
                Register::AH | Register::CH | Register::DH | Register::BH => self.state.gpr[number - 4] >> 8 & 0xff,
                _ => self.state.gpr[number] & 0xff,
            };
        }
        if register.is_gpr16() {
            self.state.gpr[number] & 0xffff
        } else if register.is_gpr32() {
            self.state.gpr[number] & 0xffff_ffff
        } else if register.is_segment_register() {
            u64::from(self.state.segment(seg_reg(register)).selector)
        } else {
            0
        }
    }

    /// Sets a general register of any size; 32-bit writes clear the upper half.
    pub fn set_register(&mut self, register: Register, value: u64) {
        let number = register.number() & 15;
        if register.is_gpr8() {
            match register {
                Register::AH | Register::CH | Register::DH | Register::BH => {
                    let slot = &mut self.state.gpr[number - 4];
                    *slot = *slot & !0xff00 | (value & 0xff) << 8;
                }
                _ => self.set_gpr(number, value, Width::Byte),
            }
        } else if register.is_gpr16() {
            self.set_gpr(number, value, Width::Word);
        } else if register.is_gpr32() {
            self.set_gpr(number, value, Width::Dword);
        }
    }

    /// The low bits of general register `number`.
    #[inline]
    pub fn gpr(&self, number: usize, width: Width) -> u64 {
        self.state.gpr[number & 15] & width.mask()
    }

    /// Sets the low bits of general register `number`: 8 and 16 bits leave the rest, 32 bits clear the upper half.
    #[inline]
    pub fn set_gpr(&mut self, number: usize, value: u64, width: Width) {
        let slot = &mut self.state.gpr[number & 15];
        *slot = match width {
            Width::Byte | Width::Word => *slot & !width.mask() | value & width.mask(),
            Width::Dword => value & 0xffff_ffff,
            Width::Qword => value,
        };
    }

    /// The offset of an instruction's memory operand, cut to its address size.
    pub fn effective_offset(&self, insn: &Instruction) -> u64 {
        let base = self.register(insn.memory_base());
        let index = self.register(insn.memory_index()).wrapping_mul(u64::from(insn.memory_index_scale()));
        base.wrapping_add(index).wrapping_add(insn.memory_displacement64()) & address_mask(address_bits(insn))
    }

    /// The linear address of an instruction's memory operand.
    ///
    /// # Errors
    /// #SS or #GP.
    pub fn memory_linear(&self, insn: &Instruction, size: u32, write: bool) -> Result<u64, Fault> {
        self.linear(segment_of(insn), self.effective_offset(insn), size, write)
    }

    /// Linear address of a part of the memory operand, `offset` bytes behind its start.
    ///
    /// # Errors
    /// #SS or #GP.
    pub fn memory_part(&self, insn: &Instruction, offset: u64, size: u32, write: bool) -> Result<u64, Fault> {
        let start = self.effective_offset(insn).wrapping_add(offset) & address_mask(address_bits(insn));
        self.linear(segment_of(insn), start, size, write)
    }

    /// Reads a value of `width` at a linear address.
    ///
    /// # Errors
    /// A page fault.
    pub fn load_width(&mut self, bus: &mut dyn Bus, linear: u64, width: Width) -> Result<u64, Fault> {
        match width {
            Width::Byte => self.load::<u8>(bus, linear).map(u64::from),
            Width::Word => self.load::<u16>(bus, linear).map(u64::from),
            Width::Dword => self.load::<u32>(bus, linear).map(u64::from),
            Width::Qword => self.load::<u64>(bus, linear),
        }
    }

    /// Writes a value of `width` at a linear address.
    ///
    /// # Errors
    /// A page fault; then no byte has been written.
    pub fn store_width(&mut self, bus: &mut dyn Bus, linear: u64, width: Width, value: u64) -> Result<(), Fault> {
        match width {
            Width::Byte => self.store(bus, linear, value as u8),
            Width::Word => self.store(bus, linear, value as u16),
            Width::Dword => self.store(bus, linear, value as u32),
            Width::Qword => self.store(bus, linear, value),
        }
    }

    /// Reads operand `n`: register, immediate (as iced extends it) or memory of `width`.
    ///
    /// # Errors
    /// #SS, #GP or a page fault.
    pub fn read_operand(&mut self, bus: &mut dyn Bus, insn: &Instruction, n: u32, width: Width) -> Result<u64, Fault> {
        match insn.op_kind(n) {
            OpKind::Register => Ok(self.register(insn.op_register(n)) & width.mask()),
            OpKind::Memory => {
                let linear = self.memory_linear(insn, bytes(width), false)?;
                self.load_width(bus, linear, width)
            }
            _ => Ok(insn.immediate(n) & width.mask()),
        }
    }

    /// Writes operand `n`: a register (by its own size) or memory of `width`.
    ///
    /// # Errors
    /// #SS, #GP or a page fault; then nothing has changed.
    pub fn write_operand(
        &mut self,
        bus: &mut dyn Bus,
        insn: &Instruction,
        n: u32,
        width: Width,
        value: u64,
    ) -> Result<(), Fault> {
        match insn.op_kind(n) {
            OpKind::Register => self.set_register(insn.op_register(n), value & width.mask()),
            OpKind::Memory => {
                let linear = self.memory_linear(insn, bytes(width), true)?;
                self.store_width(bus, linear, width, value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The stack pointer, cut to the stack's size.
    #[inline]
    pub fn stack_pointer(&self) -> u64 {
        self.state.gpr[gpr::RSP] & self.state.stack_mask()
    }

    /// Sets the stack pointer: all of ESP, or SP alone on a 16-bit stack.
    #[inline]
    pub fn set_stack_pointer(&mut self, value: u64) {
        let mask = self.state.stack_mask();
        let slot = &mut self.state.gpr[gpr::RSP];
        *slot = *slot & !mask & 0xffff_ffff | value & mask;
    }

    /// Pushes a value.
    ///
    /// # Errors
    /// #SS or a page fault; then nothing has changed.
    pub fn push(&mut self, bus: &mut dyn Bus, width: Width, value: u64) -> Result<(), Fault> {
        let top = self.stack_pointer().wrapping_sub(width.bytes()) & self.state.stack_mask();
        let linear = self.linear(SegReg::Ss, top, bytes(width), true)?;
        self.store_width(bus, linear, width, value)?;
        self.set_stack_pointer(top);
        Ok(())
    }

    /// Pops a value.
    ///
    /// # Errors
    /// #SS or a page fault; then nothing has changed.
    pub fn pop(&mut self, bus: &mut dyn Bus, width: Width) -> Result<u64, Fault> {
        let value = self.peek_stack(bus, width, 0)?;
        let top = self.stack_pointer();
        self.set_stack_pointer(top.wrapping_add(width.bytes()));
        Ok(value)
    }

    /// Reads `depth` bytes above the top of the stack.
    ///
    /// # Errors
    /// #SS or a page fault.
    pub fn peek_stack(&mut self, bus: &mut dyn Bus, width: Width, depth: u64) -> Result<u64, Fault> {
        let top = self.stack_pointer().wrapping_add(depth) & self.state.stack_mask();
        let linear = self.linear(SegReg::Ss, top, bytes(width), false)?;
        self.load_width(bus, linear, width)
    }
}
