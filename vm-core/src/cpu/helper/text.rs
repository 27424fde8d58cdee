//! PCMPESTRI and its like (Intel SDM vol. 2, 4.1): texts of bytes or words compared in XMM registers.

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::bus::Bus;
use crate::cpu::fault::Fault;
use crate::cpu::flags::{ARITHMETIC, CF, OF, SF, ZF};
use crate::cpu::state::gpr;
use crate::cpu::{Cpu, Flow, Helper};

/// The helper of an instruction of this family.
pub fn find(mnemonic: Mnemonic) -> Option<Helper> {
    matches!(mnemonic, Mnemonic::Pcmpestri | Mnemonic::Pcmpestrm | Mnemonic::Pcmpistri | Mnemonic::Pcmpistrm)
        .then_some(compare as Helper)
}

/// The immediate byte.
#[derive(Clone, Copy)]
struct Control(u8);

impl Control {
    const fn words(self) -> bool {
        self.0 & 1 != 0
    }

    /// Characters in a register.
    const fn count(self) -> usize {
        if self.words() { 8 } else { 16 }
    }

    /// Character `n` of a register, with a sign where they have one.
    const fn character(self, register: u128, n: usize) -> i32 {
        match self.0 & 3 {
            0 => (register >> (8 * n)) as u8 as i32,
            1 => (register >> (16 * n)) as u16 as i32,
            2 => (register >> (8 * n)) as i8 as i32,
            _ => (register >> (16 * n)) as i16 as i32,
        }
    }

    /// Where a text ends that says so itself.
    fn length(self, register: u128) -> usize {
        (0..self.count()).find(|&n| self.character(register, n) == 0).unwrap_or(self.count())
    }

    /// A bit for each character of the second text: what the aggregation makes of the comparisons.
    fn aggregate(self, (a, a_len): (u128, usize), (b, b_len): (u128, usize)) -> u32 {
        let count = self.count();
        let (first, second) = (|n| self.character(a, n), |n| self.character(b, n));
        let bits = |holds: &dyn Fn(usize) -> bool| (0..count).fold(0, |bits, n| bits | u32::from(holds(n)) << n);
        match self.0 >> 2 & 3 {
            // Equal any.
            0 => bits(&|n| n < b_len && (0..a_len).any(|k| first(k) == second(n))),
            // Ranges.
            1 => bits(&|n| n < b_len && (0..a_len / 2).any(|k| (first(2 * k)..=first(2 * k + 1)).contains(&second(n)))),
            // Equal each: beyond both ends is equal, too.
            2 => bits(&|n| match (n < a_len, n < b_len) {
                (true, true) => first(n) == second(n),
                (in_first, in_second) => in_first == in_second,
            }),
            // Equal ordered: the first text begins there.
            _ => bits(&|n| (0..a_len.min(count - n)).all(|k| n + k < b_len && first(k) == second(n + k))),
        }
    }

    /// The polarity.
    const fn negate(self, bits: u32, b_len: usize) -> u32 {
        let all = (1 << self.count()) - 1;
        match self.0 >> 4 & 3 {
            1 => bits ^ all,
            3 => bits ^ ((1 << b_len) - 1),
            _ => bits,
        }
    }

    /// The place of a bit: the lowest or the highest one.
    fn index(self, bits: u32) -> u32 {
        match bits {
            0 => self.count() as u32,
            _ if self.0 & 0x40 == 0 => bits.trailing_zeros(),
            _ => bits.ilog2(),
        }
    }

    /// The bits as they are, or all bits of each character.
    fn mask(self, bits: u32) -> u128 {
        if self.0 & 0x40 == 0 {
            return u128::from(bits);
        }
        let (width, ones) = if self.words() { (16, 0xffff) } else { (8, 0xff) };
        (0..self.count()).filter(|n| bits >> n & 1 != 0).fold(0, |mask, n| mask | ones << (width * n))
    }
}

fn compare(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    cpu.sse_available()?;
    let register = |cpu: &Cpu, n: u32| cpu.state.vector[insn.op_register(n).number() & 7];
    let a = register(cpu, 0);
    // At any address, unlike most.
    let b = if insn.op1_kind() == OpKind::Memory {
        let linear = cpu.memory_linear(insn, 16, false)?;
        cpu.load_128(bus, linear)?
    } else {
        register(cpu, 1)
    };
    let control = Control(insn.immediate8());
    let name = insn.mnemonic();
    let explicit = matches!(name, Mnemonic::Pcmpestri | Mnemonic::Pcmpestrm);
    let (a_len, b_len) = if explicit {
        let length = |number: usize| (cpu.state.gpr[number] as i32).unsigned_abs().min(control.count() as u32) as usize;
        (length(gpr::RAX), length(gpr::RDX))
    } else {
        (control.length(a), control.length(b))
    };
    let bits = control.negate(control.aggregate((a, a_len), (b, b_len)), b_len);
    if matches!(name, Mnemonic::Pcmpestri | Mnemonic::Pcmpistri) {
        cpu.state.gpr[gpr::RCX] = u64::from(control.index(bits));
    } else {
        cpu.state.vector[0] = control.mask(bits);
    }
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    let flags = flag(bits != 0, CF)
        | flag(b_len < control.count(), ZF)
        | flag(a_len < control.count(), SF)
        | flag(bits & 1 != 0, OF);
    cpu.state.flags.update(ARITHMETIC, flags);
    Ok(Flow::Next)
}
