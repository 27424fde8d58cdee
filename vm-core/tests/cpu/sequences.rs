//! Random runs of integer instructions, here and on the host's own processor: what single instructions cannot show,
//! such as flags that wrongly count as dead, fused neighbours and chained blocks.
#![cfg(all(target_arch = "x86_64", unix))]

use vm_core::bus::Bus;
use vm_core::cpu::flags::{AF, ARITHMETIC};
use vm_core::cpu::state::{SegReg, Segment, gpr};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::host_compare::{Host, Registers, value};
use crate::noise::Random;

const GUEST_CODE: u64 = 0x1000;

/// A register by its number that is not ESP, which is the host's stack.
fn register(random: &mut Random) -> u8 {
    [0, 1, 2, 3, 5, 6, 7][random.below(7) as usize]
}

/// A run of instructions on registers, all of whose flags are defined; false in the second place: but for AF.
fn run_of(random: &mut Random) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut half_known = true;
    for _ in 0..2 + random.below(10) {
        let both = |random: &mut Random| 0xc0 | register(random) << 3 | register(random);
        let word = random.below(4) == 0;
        let one = |op: u8, random: &mut Random| 0xc0 | op << 3 | register(random);
        let prefix: &[u8] = if word { &[0x66] } else { &[] };
        match random.below(16) {
            0..4 => {
                let op = random.below(8) as u8;
                bytes.extend(prefix);
                match random.below(3) {
                    0 => bytes.extend([op << 3 | 1, both(random)]),
                    1 => bytes.extend([op << 3 | 3, both(random)]),
                    _ => bytes.extend([0x83, one(op, random), random.next() as u8]),
                }
                half_known = !matches!(op, 1 | 4 | 6);
            }
            4 => {
                bytes.extend(prefix);
                bytes.extend([0xff, one(random.below(2) as u8, random)]);
                half_known = true;
            }
            5 => {
                bytes.extend(prefix);
                let negate = random.below(2) == 0;
                bytes.extend([0xf7, one(if negate { 3 } else { 2 }, random)]);
                half_known |= negate;
            }
            // Rotates by one: through the carry or not.
            6..8 => {
                bytes.extend(prefix);
                bytes.extend([0xd1, one(random.below(4) as u8, random)]);
            }
            8 => bytes.extend([0x0f, 0x40 | random.below(16) as u8, both(random)]),
            9 => bytes.extend([0x0f, 0x90 | random.below(16) as u8, 0xc0 | random.below(4) as u8]),
            10 => bytes.push([0xf5, 0xf8, 0xf9][random.below(3) as usize]),
            11 if half_known => bytes.push(0x9f),
            12 => {
                bytes.push(0x9e);
                half_known = true;
            }
            13 => {
                bytes.extend(prefix);
                bytes.extend([[0x89, 0x8b, 0x87][random.below(3) as usize], both(random)]);
            }
            // Branches to the next instruction: LOOP, LOOPE, LOOPNE, JECXZ, Jcc.
            14 => bytes.extend([0xe0 + random.below(4) as u8, 0]),
            _ => bytes.extend([0x70 | random.below(16) as u8, 0]),
        }
    }
    (bytes, half_known)
}

#[test]
fn runs_of_instructions_do_what_the_host_does() {
    const ORDER: [usize; 7] = [gpr::RAX, gpr::RCX, gpr::RDX, gpr::RBX, gpr::RBP, gpr::RSI, gpr::RDI];
    const SLOTS: [usize; 7] = [0, 1, 2, 3, 5, 6, 7];
    let cases: u64 = std::env::var("HAKO_HOST_CASES").map_or(30_000, |text| text.parse().unwrap());
    let mut host = Host::new();
    for engine in ENGINES {
        let mut random = Random(0xfedc_ba98_7654_3210);
        let mut bus = FlatBus::new(0x1_0000);
        let mut cpu = (engine.make)();
        cpu.state.cr[0] |= 1;
        for seg in SegReg::ALL {
            let rights = if seg == SegReg::Cs { 0xc09b } else { 0xc093 };
            cpu.state.seg[seg as usize] = Segment { base: 0, limit: u32::MAX, rights, selector: 8 };
        }
        cpu.state_changed();
        let mut failures = Vec::new();
        for _ in 0..cases / engine.cost {
            let (bytes, half_known) = run_of(&mut random);
            let end = GUEST_CODE + bytes.len() as u64 + 1;
            bus.ram().write(GUEST_CODE, &[bytes.as_slice(), &[0xf4]].concat());
            for _ in 0..8 {
                let mut registers: Registers = [0; 9];
                for slot in SLOTS {
                    registers[slot] = value(&mut random);
                }
                registers[8] = random.next() & u64::from(ARITHMETIC) | 2;
                for (slot, register) in SLOTS.into_iter().zip(ORDER) {
                    cpu.state.gpr[register] = registers[slot];
                }
                cpu.state.flags.set(registers[8] as u32);
                cpu.state.rip = GUEST_CODE;
                bus.signals().take_raised();
                cpu.state.halted = false;
                // Whole blocks run, up to the HLT.
                cpu.run(&mut bus, 100);
                let start = registers;
                host.run(&bytes, &mut registers);
                let mask = if half_known { ARITHMETIC } else { ARITHMETIC & !AF };
                let mut ours: Registers = [0; 9];
                for (slot, register) in SLOTS.into_iter().zip(ORDER) {
                    ours[slot] = cpu.state.gpr[register] & 0xffff_ffff;
                    // The host counts LOOP in all of RCX.
                    registers[slot] &= 0xffff_ffff;
                }
                ours[8] = u64::from(cpu.state.flags.get() & mask);
                registers[8] &= u64::from(mask);
                if (ours != registers || cpu.state.rip != end) && failures.len() < 10 {
                    let rip = cpu.state.rip;
                    failures.push(format!(
                        "{bytes:02x?} from {start:x?}\n ours {ours:x?} (rip {rip:x})\n host {registers:x?}"
                    ));
                    break;
                }
            }
        }
        assert!(failures.is_empty(), "{}: {} runs differ\n{}", engine.name, failures.len(), failures.join("\n"));
    }
}
