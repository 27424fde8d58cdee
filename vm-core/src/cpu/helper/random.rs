//! RDRAND and RDSEED: the randomness is the host's, by way of [`Bus::random`], and no part of the machine's state.

use iced_x86::{Instruction, Mnemonic};

use crate::bus::Bus;
use crate::cpu::fault::Fault;
use crate::cpu::flags::{ARITHMETIC, CF};
use crate::cpu::{Cpu, Flow, Helper};

/// The helper of an instruction of this family.
pub fn find(mnemonic: Mnemonic) -> Option<Helper> {
    matches!(mnemonic, Mnemonic::Rdrand | Mnemonic::Rdseed).then_some(random as Helper)
}

/// CF says whether there was something; without it the register becomes zero.
fn random(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let number = bus.random();
    cpu.set_register(insn.op0_register(), number.unwrap_or(0));
    cpu.state.flags.update(ARITHMETIC, if number.is_some() { CF } else { 0 });
    Ok(Flow::Next)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::flags::ZF;
    use crate::cpu::state::gpr;
    use crate::cpu::testbus::TestBus;

    #[test]
    fn a_register_of_any_size_gets_what_the_host_gives() {
        let mut bus = TestBus::new(1);
        let mut cpu = Cpu::new(CpuModel::Max);
        for (code, given, expected, flag) in [
            (&[0x0f, 0xc7, 0xf1][..], Some(0x1122_3344_5566_7788), 0x5566_7788_u64, CF),
            (&[0x66, 0x0f, 0xc7, 0xf1][..], Some(0x1122_3344_5566_7788), 0xffff_7788, CF),
            (&[0x0f, 0xc7, 0xf9][..], Some(1), 1, CF),
            (&[0x0f, 0xc7, 0xf1][..], None, 0, 0),
        ] {
            bus.random = given;
            cpu.state.gpr[gpr::RCX] = 0xffff_ffff;
            cpu.state.flags.update(ARITHMETIC, ZF);
            let insn = Decoder::new(32, code, DecoderOptions::NONE).decode();
            let helper = find(insn.mnemonic()).expect("RDRAND or RDSEED");
            assert_eq!(helper(&mut cpu, &mut bus, &insn), Ok(Flow::Next));
            assert_eq!((cpu.state.gpr[gpr::RCX], cpu.state.flags.get() & ARITHMETIC), (expected, flag), "{code:x?}");
        }
    }
}
