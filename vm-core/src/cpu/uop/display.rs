//! Micro-ops as text: `add.d! eax, ecx, 0x5`. A `!` says that the flags live.

use std::fmt;

use super::{AddressSize, Ea, Extend, Flag, Form, Op, Size, T0, Unit, Uop, VT0, ZERO};

/// A slot by name.
struct Slot(u8, Size);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LEGACY: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
        let number = self.0 / 8;
        if self.0 & 7 == 1 && number < 4 {
            return write!(f, "{}", ["ah", "ch", "dh", "bh"][number as usize]);
        }
        if self.0 == ZERO {
            return write!(f, "zero");
        }
        if self.0 >= T0 {
            return write!(f, "t{}", (self.0 - T0) / 8);
        }
        let Some(name) = LEGACY.get(number as usize) else {
            return write!(f, "r{number}");
        };
        match self.1 {
            Size::B if number < 4 => write!(f, "{}l", &name[..1]),
            Size::B => write!(f, "{name}l"),
            Size::W => write!(f, "{name}"),
            Size::D => write!(f, "e{name}"),
            Size::Q => write!(f, "r{name}"),
        }
    }
}

fn suffix(size: Size) -> &'static str {
    ["b", "w", "d", "q"][size as usize]
}

fn mark(flags: Flag) -> &'static str {
    if flags == Flag::Live { "!" } else { "" }
}

fn name(value: impl fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// A vector register by name.
struct VectorRegister(u8, Unit);

impl fmt::Display for VectorRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            _ if self.0 >= VT0 => write!(f, "v{}", self.0 - VT0),
            Unit::Mmx => write!(f, "mm{}", self.0),
            Unit::Sse => write!(f, "xmm{}", self.0),
        }
    }
}

/// A memory operand.
struct Memory<'a>(&'a Uop, Ea, AddressSize);

impl fmt::Display for Memory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = if self.2 == AddressSize::A16 { Size::W } else { Size::D };
        write!(f, "[{}", Slot(self.0.a, size))?;
        if self.1 == Ea::Index {
            write!(f, "+{}*{}", Slot(self.0.b, size), 1u32.wrapping_shl(u32::from(self.0.x)))?;
        }
        if self.0.imm != 0 {
            write!(f, "{:+#x}", Signed(self.0.imm as i32))?;
        }
        write!(f, "]")
    }
}

struct Signed(i32);

impl fmt::LowerHex for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:#x}", if self.0 < 0 { '-' } else { '+' }, self.0.unsigned_abs())
    }
}

impl fmt::Display for Uop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { d, a, b, imm, imm2, .. } = *self;
        let memory = |ea| Memory(self, ea, AddressSize::A32);
        let right = |form: Form, size: Size| match form {
            Form::Reg => Slot(b, size).to_string(),
            Form::Imm => format!("{imm:#x}"),
        };
        let extended = |extend| if extend == Extend::Zero { "zx" } else { "sx" };
        match self.op() {
            Op::Mov { size } => write!(f, "mov.{} {}, {}", suffix(size), Slot(d, size), Slot(a, size)),
            Op::MovImm { size } => write!(f, "mov.{} {}, {imm:#x}", suffix(size), Slot(d, size)),
            Op::Xchg { size } => write!(f, "xchg.{} {}, {}", suffix(size), Slot(d, size), Slot(a, size)),
            Op::Widen { extend, from, to } => {
                write!(f, "{}.{}{} {}, {}", extended(extend), suffix(from), suffix(to), Slot(d, to), Slot(a, from))
            }
            Op::Lea { address, ea, size } => {
                write!(f, "lea.{} {}, {}", suffix(size), Slot(d, size), Memory(self, ea, address))
            }
            Op::Alu { alu, form, size, flags } => {
                let (name, suffix, mark) = (name(alu), suffix(size), mark(flags));
                write!(f, "{name}.{suffix}{mark} {}, {}, {}", Slot(d, size), Slot(a, size), right(form, size))
            }
            Op::Compare { compare, form, size } => {
                write!(f, "{}.{}! {}, {}", name(compare), suffix(size), Slot(a, size), right(form, size))
            }
            Op::Inc { size } => write!(f, "inc.{}! {}, {}", suffix(size), Slot(d, size), Slot(a, size)),
            Op::Dec { size } => write!(f, "dec.{}! {}, {}", suffix(size), Slot(d, size), Slot(a, size)),
            Op::Neg { size, flags } => {
                write!(f, "neg.{}{} {}, {}", suffix(size), mark(flags), Slot(d, size), Slot(a, size))
            }
            Op::Not { size } => write!(f, "not.{} {}, {}", suffix(size), Slot(d, size), Slot(a, size)),
            Op::Shift { shift, form, size, flags } => {
                let (name, suffix, mark) = (name(shift), suffix(size), mark(flags));
                write!(f, "{name}.{suffix}{mark} {}, {}, {}", Slot(d, size), Slot(a, size), right(form, Size::B))
            }
            Op::DoubleShift { shift, form, size } => {
                let (name, suffix) = (name(shift), suffix(size));
                write!(f, "{name}.{suffix}! {}, {}, {}", Slot(d, size), Slot(a, size), right(form, Size::B))
            }
            Op::MulDiv { kind, size } => write!(f, "{}.{}! {}", name(kind), suffix(size), Slot(a, size)),
            Op::Imul { form, size } => {
                write!(f, "imul.{}! {}, {}, {}", suffix(size), Slot(d, size), Slot(a, size), right(form, size))
            }
            Op::Bit { bit, form, size } => {
                let (name, suffix) = (name(bit), suffix(size));
                write!(f, "{name}.{suffix}! {}, {}, {}", Slot(d, size), Slot(a, size), right(form, size))
            }
            Op::BitOffset { size } => {
                write!(f, "bitoffset.{} {}, {}, {}", suffix(size), Slot(d, size), Slot(a, Size::D), Slot(b, size))
            }
            Op::Scan { scan, size } => {
                write!(f, "scan{}.{}! {}, {}", name(scan), suffix(size), Slot(d, size), Slot(a, size))
            }
            Op::Bswap { size } => write!(f, "bswap.{} {}, {}", suffix(size), Slot(d, size), Slot(a, size)),
            Op::Advance { size } => write!(f, "advance.{} {}, {imm:#x}", suffix(size), Slot(d, size)),
            Op::Setcc { cond } => write!(f, "set{} {}", name(cond), Slot(d, Size::B)),
            Op::Cmov { cond, size } => {
                write!(f, "cmov{}.{} {}, {}", name(cond), suffix(size), Slot(d, size), Slot(a, size))
            }
            Op::CmpXchg { size } => {
                write!(f, "cmpxchg.{}! {}, {}, {}", suffix(size), Slot(d, size), Slot(a, size), Slot(b, size))
            }
            Op::Flag { what } => write!(f, "{}", name(what)),
            Op::Load { size, ea } => write!(f, "load.{} {}, {}", suffix(size), Slot(d, size), memory(ea)),
            Op::LoadWiden { extend, from, to, ea } => {
                write!(f, "load{}.{}{} {}, {}", extended(extend), suffix(from), suffix(to), Slot(d, to), memory(ea))
            }
            Op::LoadForWrite { size, ea } => write!(f, "loadw.{} {}, {}", suffix(size), Slot(d, size), memory(ea)),
            Op::Store { size, ea } => write!(f, "store.{} {}, {}", suffix(size), memory(ea), Slot(d, size)),
            Op::StoreImm { size, ea } => write!(f, "store.{} {}, {imm2:#x}", suffix(size), memory(ea)),
            Op::Segment { address, ea } => {
                let segment = ["es", "cs", "ss", "ds", "fs", "gs", "?", "?"][imm2 as usize & 7];
                let access = if imm2 & 0x80 == 0 { "read" } else { "write" };
                let (to, memory) = (Slot(d, Size::D), Memory(self, ea, address));
                write!(f, "segment {to}, {segment}:{memory}, {access} {}", imm2 >> 8)
            }
            Op::Selector {} => {
                let segment = ["es", "cs", "ss", "ds", "fs", "gs", "?", "?"][imm as usize & 7];
                write!(f, "selector {}, {segment}", Slot(d, Size::D))
            }
            Op::Push { size } => write!(f, "push.{} {}", suffix(size), Slot(d, size)),
            Op::PushImm { size } => write!(f, "push.{} {imm:#x}", suffix(size)),
            Op::Pop { size } => write!(f, "pop.{} {}", suffix(size), Slot(d, size)),
            Op::CheckTarget {} => write!(f, "checktarget {}, {imm:#x}", Slot(a, Size::D)),
            Op::VectorCheck { unit } => write!(f, "check {}", name(unit)),
            Op::VectorLoad { unit, width, ea } => {
                write!(f, "load.{} {}, {}", name(width), VectorRegister(d, unit), memory(ea))
            }
            Op::VectorStore { unit, width, ea } => {
                write!(f, "store.{} {}, {}", name(width), memory(ea), VectorRegister(d, unit))
            }
            Op::Vector { unit, what } => {
                let (to, from) = (VectorRegister(d, unit), VectorRegister(b, unit));
                write!(f, "{} {to}, {from}", name(what))?;
                if imm == 0 { Ok(()) } else { write!(f, ", {imm:#x}") }
            }
            Op::Float { what } => {
                let (to, from) = (VectorRegister(d, Unit::Sse), VectorRegister(b, Unit::Sse));
                write!(f, "{} {to}, {from}", name(what))?;
                if imm == 0 { Ok(()) } else { write!(f, ", {imm:#x}") }
            }
            Op::VectorTest { test } => {
                write!(f, "{}! {}, {}", name(test), VectorRegister(d, Unit::Sse), VectorRegister(b, Unit::Sse))
            }
            Op::VectorGet { unit, get } => {
                write!(f, "get{} {}, {}", name(get), Slot(d, Size::D), VectorRegister(a, unit))?;
                if imm == 0 { Ok(()) } else { write!(f, ", {imm:#x}") }
            }
            Op::VectorSet { unit, set } => {
                write!(f, "set{} {}, {}", name(set), VectorRegister(d, unit), Slot(a, Size::D))?;
                if imm == 0 { Ok(()) } else { write!(f, ", {imm:#x}") }
            }
            Op::VectorCross { unit } => {
                let other = if unit == Unit::Mmx { Unit::Sse } else { Unit::Mmx };
                write!(f, "cross {}, {}", VectorRegister(d, unit), VectorRegister(a, other))
            }
            Op::X87 { kind } => write!(f, "x87 {} {:#x}", name(kind), imm2 & 0x7ff),
            Op::X87Memory { access, ea } => {
                write!(f, "x87 {} {:#x}, {}, {d} bytes", name(access), imm2 & 0x7ff, memory(ea))
            }
            Op::Helper {} => write!(f, "helper #{imm}"),
            Op::Repeat { string, size } => write!(f, "rep {}.{} #{imm}", name(string), suffix(size)),
            Op::Guarded { what } => write!(f, "{} #{imm}", name(what)),
            Op::Jump {} => match self.returns_to() {
                Some(next) => write!(f, "call {imm:#x}, {next:#x}"),
                None => write!(f, "jump {imm:#x}"),
            },
            Op::JumpIf { cond } => write!(f, "j{} {imm:#x}, {imm2:#x}", name(cond)),
            Op::JumpCount { count, size } => {
                write!(f, "jcount.{} {} {}, {imm:#x}, {imm2:#x}", suffix(size), name(count), Slot(a, size))
            }
            Op::JumpTo {} if self.is_return() => write!(f, "ret {}", Slot(a, Size::D)),
            Op::JumpTo {} => match self.returns_to() {
                Some(next) => write!(f, "call {}, {next:#x}", Slot(a, Size::D)),
                None => write!(f, "jump {}", Slot(a, Size::D)),
            },
            Op::Leave {} => write!(f, "leave {imm:#x}"),
            Op::Here {} => write!(f, "here {}, {imm:#x}", Slot(d, Size::D)),
            Op::Spans {} => write!(f, "spans {imm:#x} {:#x}", self.imm2),
            Op::AluLoad { alu, size, ea, flags } => {
                write!(f, "{}.{}{} {}, {}", name(alu), suffix(size), mark(flags), Slot(d, size), memory(ea))
            }
            Op::AluStore { alu, form, size, ea } => {
                write!(f, "{}.{}! {}, ", name(alu), suffix(size), memory(ea))?;
                match form {
                    Form::Reg => write!(f, "{}", Slot(d, size)),
                    Form::Imm => write!(f, "{imm2:#x}"),
                }
            }
            Op::CompareLoad { compare, size, ea } => {
                write!(f, "{}.{}! {}, {}", name(compare), suffix(size), Slot(d, size), memory(ea))
            }
            Op::CompareMem { compare, form, size, ea } => {
                write!(f, "{}.{}! {}, ", name(compare), suffix(size), memory(ea))?;
                match form {
                    Form::Reg => write!(f, "{}", Slot(d, size)),
                    Form::Imm => write!(f, "{imm2:#x}"),
                }
            }
            Op::IncStore { size, ea } => {
                let name = if self.x & 0x80 == 0 { "inc" } else { "dec" };
                let plain = Self { x: self.x & 0x7f, ..*self };
                write!(f, "{name}.{}! {}", suffix(size), Memory(&plain, ea, AddressSize::A32))
            }
            Op::CompareJump { compare, form, size, cond } => {
                let (compare, suffix, cond) = (name(compare), suffix(size), name(cond));
                write!(f, "{compare}.{suffix}+j{cond} {}, {}", Slot(a, size), right(form, size))
            }
            Op::DecJump { size, cond } => {
                write!(f, "dec.{}+j{} {}, {}", suffix(size), name(cond), Slot(d, size), Slot(a, size))
            }
            Op::AluJump { alu, form, size, cond } => {
                let (name, suffix, cond) = (name(alu), suffix(size), name(cond));
                write!(f, "{name}.{suffix}+j{cond} {}, {}, {}", Slot(d, size), Slot(a, size), right(form, size))
            }
            Op::CompareLoadJump { compare, size, ea, cond } => {
                let (compare, suffix, cond) = (name(compare), suffix(size), name(cond));
                write!(f, "{compare}.{suffix}+j{cond} {}, {}", Slot(d, size), memory(ea))
            }
            Op::CompareMemJump { compare, form, size, ea, cond } => {
                let right = match form {
                    Form::Reg => Slot(d, size).to_string(),
                    Form::Imm => format!("{imm2:#x}"),
                };
                write!(f, "{}.{}+j{} {}, {right}", name(compare), suffix(size), name(cond), memory(ea))
            }
            Op::PushFlat {} => write!(f, "pushflat {}", Slot(d, Size::D)),
            Op::PushImmFlat {} => write!(f, "pushflat {imm:#x}"),
            Op::PopFlat {} => write!(f, "popflat {}", Slot(d, Size::D)),
            Op::CallFlat {} => write!(f, "callflat {imm:#x}, {imm2:#x}"),
            Op::CallToFlat {} => write!(f, "callflat {}, {imm2:#x}", Slot(a, Size::D)),
            Op::RetFlat {} => write!(f, "retflat {imm:#x}"),
            Op::Stale {} => write!(f, "stale"),
            Op::Enter {} => write!(f, "enter after {}", self.imm),
            Op::Native {} => write!(f, "native"),
            Op::Region {} => write!(f, "region"),
            Op::Return {} => write!(f, "return"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Alu, RAX, RCX};
    use super::*;

    #[test]
    fn reads_like_assembly() {
        let op = Op::Alu { alu: Alu::Add, form: Form::Imm, size: Size::D, flags: Flag::Live };
        assert_eq!(Uop::new(op).d(RAX).a(RCX).imm(5).to_string(), "add.d! eax, ecx, 0x5");
        let mut load = Uop::new(Op::Load { size: Size::B, ea: Ea::Index }).d(RAX + 1).a(ZERO).b(RCX).imm(-4i32 as u32);
        load.x = 2;
        assert_eq!(load.to_string(), "load.b ah, [zero+ecx*4-0x4]");
    }
}
