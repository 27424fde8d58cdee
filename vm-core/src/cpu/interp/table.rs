//! The table of handlers, by op code.

use super::{Handler, alu, control, memory, shift, vector};
use crate::cpu::uop::{
    AddressSize, Alu, Bit, Compare, Cond, Count, DoubleShift, Ea, Extend, Flag, FlagOp, Form, MulDiv, Op, Scan, Shift,
    Size, Unit, Uop, VectorWidth, by_code,
};
use crate::cpu::vector::float::{self, FloatOp, VectorTest, each_float_op};
use crate::cpu::vector::ops::{VectorGet, VectorOp, VectorSet, each_vector_op, kind};

/// The handler of the op at `op`.
///
/// # Safety
/// `op` leads to a micro-op.
#[inline(always)]
pub(super) unsafe fn handler(op: *const Uop) -> Handler {
    // SAFETY: codes come from `Op::code`, which is below `Op::COUNT`.
    unsafe { *HANDLERS.get_unchecked(usize::from((*op).code)) }
}

static HANDLERS: [Handler; Op::COUNT] = by_code!(|op| resolve(op));

/// An expression for each size: 64 bits are not there yet.
macro_rules! sized {
    ($size:expr, $T:ident => $handler:expr) => {
        match $size {
            Size::B => {
                type $T = u8;
                $handler
            }
            Size::W => {
                type $T = u16;
                $handler
            }
            Size::D => {
                type $T = u32;
                $handler
            }
            Size::Q => control::unknown,
        }
    };
}

/// An expression for both values of a condition.
macro_rules! either {
    ($is:expr, $B:ident => $handler:expr) => {
        if $is {
            const $B: bool = true;
            $handler
        } else {
            const $B: bool = false;
            $handler
        }
    };
}

/// An expression for each value of one of our enums.
macro_rules! each {
    ($value:expr, $kind:ident [$($variant:ident)*], $C:ident => $handler:expr) => {
        match $value {
            $($kind::$variant => {
                const $C: u8 = $kind::$variant as u8;
                $handler
            })*
        }
    };
}

macro_rules! each_cond {
    ($value:expr, $C:ident => $handler:expr) => {
        each!($value, Cond [O No B Ae E Ne Be A S Ns P Np L Ge Le G], $C => $handler)
    };
}

macro_rules! each_alu {
    ($value:expr, $C:ident => $handler:expr) => {
        each!($value, Alu [Add Or Adc Sbb And Sub Xor], $C => $handler)
    };
}

/// The handler of a vector operation.
macro_rules! vector_handlers {
    (($what:expr, $MMX:ident) $($name:ident)*) => {
        match $what {
            $(VectorOp::$name => vector::compute::<kind::$name, $MMX>,)*
        }
    };
}

/// The handler of a floating-point operation.
macro_rules! float_handlers {
    (($what:expr) $($name:ident)*) => {
        match $what {
            $(FloatOp::$name => vector::float::<float::kind::$name>,)*
        }
    };
}

const fn is_mmx(unit: Unit) -> bool {
    matches!(unit, Unit::Mmx)
}

const fn is_index(ea: Ea) -> bool {
    matches!(ea, Ea::Index)
}

const fn is_imm(form: Form) -> bool {
    matches!(form, Form::Imm)
}

const fn is_live(flags: Flag) -> bool {
    matches!(flags, Flag::Live)
}

const fn is_sign(extend: Extend) -> bool {
    matches!(extend, Extend::Sign)
}

const fn is_test(compare: Compare) -> bool {
    matches!(compare, Compare::Test)
}

const fn resolve(op: Op) -> Handler {
    match op {
        Op::Mov { size } => sized!(size, T => alu::mov::<T>),
        Op::MovImm { size } => sized!(size, T => alu::mov_imm::<T>),
        Op::Xchg { size } => sized!(size, T => alu::xchg::<T>),
        Op::Widen { extend, from, to } => either!(is_sign(extend), SIGN => match (from, to) {
            (Size::B, Size::W) => alu::widen::<SIGN, u8, u16>,
            (Size::B, Size::D) => alu::widen::<SIGN, u8, u32>,
            (Size::W, Size::D) => alu::widen::<SIGN, u16, u32>,
            _ => control::unknown,
        }),
        Op::Lea { address, ea, size } => either!(matches!(address, AddressSize::A16), A16 => {
            either!(is_index(ea), X => sized!(size, T => alu::lea::<A16, X, T>))
        }),
        Op::Alu { alu, form, size, flags } => each_alu!(alu, ALU => either!(is_imm(form), IMM => {
            either!(is_live(flags), LIVE => sized!(size, T => alu::alu::<ALU, T, IMM, LIVE>))
        })),
        Op::Compare { compare, form, size } => either!(is_test(compare), TEST => {
            either!(is_imm(form), IMM => sized!(size, T => alu::compare::<T, TEST, IMM>))
        }),
        Op::Inc { size } => sized!(size, T => alu::inc::<T, false>),
        Op::Dec { size } => sized!(size, T => alu::inc::<T, true>),
        Op::Neg { size, flags } => either!(is_live(flags), LIVE => sized!(size, T => alu::neg::<T, LIVE>)),
        Op::Not { size } => sized!(size, T => alu::not::<T>),
        Op::Shift { shift, form, size, flags } => each!(shift, Shift [Rol Ror Rcl Rcr Shl Shr Sar], SHIFT => {
            either!(is_imm(form), IMM => either!(is_live(flags), LIVE => {
                sized!(size, T => shift::shift::<SHIFT, T, IMM, LIVE>)
            }))
        }),
        Op::DoubleShift { shift, form, size } => either!(matches!(shift, DoubleShift::Shld), LEFT => {
            either!(is_imm(form), IMM => sized!(size, T => shift::double_shift::<T, LEFT, IMM>))
        }),
        Op::MulDiv { kind, size } => match kind {
            MulDiv::Mul => sized!(size, T => alu::multiply::<T, false>),
            MulDiv::Imul => sized!(size, T => alu::multiply::<T, true>),
            MulDiv::Div => sized!(size, T => alu::divide::<T, { MulDiv::Div as u8 }>),
            MulDiv::Idiv => sized!(size, T => alu::divide::<T, { MulDiv::Idiv as u8 }>),
        },
        Op::Imul { form, size } => either!(is_imm(form), IMM => sized!(size, T => alu::imul::<T, IMM>)),
        Op::Bit { bit, form, size } => each!(bit, Bit [Bt Bts Btr Btc], BIT => {
            either!(is_imm(form), IMM => sized!(size, T => alu::bit::<BIT, T, IMM>))
        }),
        Op::BitOffset { size } => sized!(size, T => alu::bit_offset::<T>),
        Op::Scan { scan, size } => {
            either!(matches!(scan, Scan::Reverse), REVERSE => sized!(size, T => alu::scan::<T, REVERSE>))
        }
        Op::Bswap { size } => sized!(size, T => alu::bswap::<T>),
        Op::Advance { size } => sized!(size, T => alu::advance::<T>),
        Op::Setcc { cond } => each_cond!(cond, COND => alu::setcc::<COND>),
        Op::Cmov { cond, size } => each_cond!(cond, COND => sized!(size, T => alu::cmov::<T, COND>)),
        Op::CmpXchg { size } => sized!(size, T => alu::cmpxchg::<T>),
        Op::Flag { what } => {
            each!(what, FlagOp [Clc Stc Cmc Cld Std Lahf Sahf Salc], WHAT => alu::flag::<WHAT>)
        }
        Op::Load { size, ea } => either!(is_index(ea), X => sized!(size, T => memory::load::<T, X>)),
        Op::LoadWiden { extend, from, to, ea } => {
            either!(is_index(ea), X => either!(is_sign(extend), SIGN => match (from, to) {
                (Size::B, Size::W) => memory::load_widen::<u8, u16, X, SIGN>,
                (Size::B, Size::D) => memory::load_widen::<u8, u32, X, SIGN>,
                (Size::W, Size::D) => memory::load_widen::<u16, u32, X, SIGN>,
                _ => control::unknown,
            }))
        }
        Op::LoadForWrite { size, ea } => {
            either!(is_index(ea), X => sized!(size, T => memory::load_for_write::<T, X>))
        }
        Op::Store { size, ea } => either!(is_index(ea), X => sized!(size, T => memory::store::<T, X>)),
        Op::StoreImm { size, ea } => either!(is_index(ea), X => sized!(size, T => memory::store_imm::<T, X>)),
        Op::Segment { address, ea } => either!(matches!(address, AddressSize::A16), A16 => {
            either!(is_index(ea), X => memory::segment::<A16, X>)
        }),
        Op::Selector {} => memory::selector,
        Op::Push { size } => sized!(size, T => memory::push::<T, false>),
        Op::PushImm { size } => sized!(size, T => memory::push::<T, true>),
        Op::Pop { size } => sized!(size, T => memory::pop::<T>),
        Op::CheckTarget {} => control::check_target,
        Op::VectorCheck { unit } => either!(is_mmx(unit), MMX => vector::check::<MMX>),
        Op::VectorLoad { unit, width, ea } => either!(is_mmx(unit), MMX => either!(is_index(ea), X => match width {
            VectorWidth::D => vector::load_part::<u32, MMX, X>,
            VectorWidth::Q => vector::load_part::<u64, MMX, X>,
            VectorWidth::X => vector::load::<X, true>,
            VectorWidth::U => vector::load::<X, false>,
        })),
        Op::VectorStore { unit, width, ea } => either!(is_mmx(unit), MMX => either!(is_index(ea), X => match width {
            VectorWidth::D => vector::store_part::<u32, MMX, X>,
            VectorWidth::Q => vector::store_part::<u64, MMX, X>,
            VectorWidth::X => vector::store::<X, true>,
            VectorWidth::U => vector::store::<X, false>,
        })),
        Op::Vector { unit, what } => {
            either!(is_mmx(unit), MMX => each_vector_op!(vector_handlers(what, MMX)))
        }
        Op::Float { what } => each_float_op!(float_handlers(what)),
        Op::VectorTest { test } => {
            each!(test, VectorTest [Comiss Ucomiss Comisd Ucomisd Ptest], TEST => vector::test::<TEST>)
        }
        Op::VectorGet { unit, get } => either!(is_mmx(unit), MMX => {
            each!(get, VectorGet [Low Word Byte Dword ByteSigns SingleSigns DoubleSigns], GET => vector::get_number::<GET, MMX>)
        }),
        Op::VectorSet { unit, set } => either!(is_mmx(unit), MMX => {
            each!(set, VectorSet [Low Word Byte Dword], SET => vector::set_number::<SET, MMX>)
        }),
        Op::VectorCross { unit } => either!(is_mmx(unit), MMX => vector::cross::<MMX>),
        Op::X87 { .. } | Op::X87Memory { .. } => control::x87,
        Op::Helper {} | Op::Repeat { .. } | Op::Guarded { .. } => control::helper,
        Op::Jump {} => control::jump,
        Op::JumpIf { cond } => each_cond!(cond, COND => control::jump_if::<COND>),
        Op::JumpCount { count, size } => each!(count, Count [Zero NonZero NonZeroAndE NonZeroAndNe], COUNT => {
            sized!(size, T => control::jump_count::<T, COUNT>)
        }),
        Op::JumpTo {} => control::jump_to,
        Op::Leave {} => control::leave,
        Op::Spans {} => control::spans,
        Op::Here {} => control::here,
        Op::AluLoad { alu, size, ea, flags } => each_alu!(alu, ALU => either!(is_index(ea), X => {
            either!(is_live(flags), LIVE => sized!(size, T => memory::alu_load::<T, X, ALU, LIVE>))
        })),
        Op::AluStore { alu, form, size, ea } => each_alu!(alu, ALU => either!(is_index(ea), X => {
            either!(is_imm(form), IMM => sized!(size, T => memory::alu_store::<T, X, ALU, IMM>))
        })),
        Op::CompareLoad { compare, size, ea } => either!(is_index(ea), X => {
            either!(is_test(compare), TEST => sized!(size, T => memory::compare_load::<T, X, TEST>))
        }),
        Op::CompareMem { compare, form, size, ea } => either!(is_index(ea), X => either!(is_test(compare), TEST => {
            either!(is_imm(form), IMM => sized!(size, T => memory::compare_mem::<T, X, TEST, IMM>))
        })),
        Op::IncStore { size, ea } => either!(is_index(ea), X => sized!(size, T => memory::inc_store::<T, X>)),
        Op::CompareJump { compare, form, size, cond } => either!(is_test(compare), TEST => {
            either!(is_imm(form), IMM => each_cond!(cond, COND => {
                sized!(size, T => control::compare_jump::<T, TEST, IMM, COND>)
            }))
        }),
        Op::DecJump { size, cond } => each_cond!(cond, COND => sized!(size, T => control::dec_jump::<T, COND>)),
        Op::AluJump { alu, form, size, cond } => each_alu!(alu, ALU => either!(is_imm(form), IMM => {
            each_cond!(cond, COND => sized!(size, T => control::alu_jump::<T, ALU, IMM, COND>))
        })),
        Op::CompareLoadJump { compare, size, ea, cond } => either!(is_index(ea), X => {
            either!(is_test(compare), TEST => each_cond!(cond, COND => {
                sized!(size, T => memory::compare_load_jump::<T, X, TEST, COND>)
            }))
        }),
        Op::CompareMemJump { compare, form, size, ea, cond } => either!(is_index(ea), X => {
            either!(is_test(compare), TEST => either!(is_imm(form), IMM => each_cond!(cond, COND => {
                sized!(size, T => memory::compare_mem_jump::<T, X, TEST, IMM, COND>)
            })))
        }),
        Op::PushFlat {} => memory::push_flat::<u32, false>,
        Op::PushImmFlat {} => memory::push_flat::<u32, true>,
        Op::PopFlat {} => memory::pop_flat::<u32, false>,
        Op::CallFlat {} => control::call_flat,
        Op::CallToFlat {} => control::call_to_flat,
        Op::RetFlat {} => control::ret_flat,
        Op::Stale {} => control::stale,
        Op::Enter {} => control::enter,
        Op::Native {} => control::native,
        Op::Region {} => control::region,
        Op::Return {} => control::return_,
    }
}
