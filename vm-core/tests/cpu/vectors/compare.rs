//! The guest's side, and the comparison.

use vm_core::bus::Bus;
use vm_core::cpu::Cpu;
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::flags::ARITHMETIC;
use vm_core::cpu::state::{SegReg, Segment, TableRegister, cr0, cr4, gpr};

use super::host::{Frame, Host, MIDDLE, ONE, WINDOW};
use super::rows::{Row, chunk, run_of, scramble};
use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::noise::Random;

/// Where the code is.
pub const GUEST_CODE: u64 = 0x1000;
pub const GUEST_WINDOW: u64 = 0x2000;
pub const GUEST_GDT: u64 = 0x3000;
pub const GUEST_IDT: u64 = 0x3800;
pub const GUEST_HLT: u64 = 0x3f00;
pub const GUEST_STACK: u64 = 0x5000;
/// The vector of a SIMD floating-point exception.
pub const XM: u64 = 19;

/// A guest that takes exceptions to a HLT.
pub fn guest(make: fn() -> Cpu, bus: &mut FlatBus, window: u64) -> Cpu {
    let mut cpu = make();
    cpu.model = CpuModel::Max;
    cpu.state.cr[0] |= cr0::PE | cr0::NE;
    cpu.state.cr[4] |= cr4::OSFXSR | cr4::OSXMMEXCPT;
    for seg in SegReg::ALL {
        let (base, rights) = match seg {
            SegReg::Cs => (0, 0xc09b),
            SegReg::Ss => (0, 0xc093),
            _ => (GUEST_WINDOW.wrapping_sub(window) & 0xffff_ffff, 0xc093),
        };
        cpu.state.seg[seg as usize] = Segment { base, limit: u32::MAX, rights, selector: 8 };
    }
    cpu.state.gdtr = TableRegister { base: GUEST_GDT, limit: 0xff };
    cpu.state.idtr = TableRegister { base: GUEST_IDT, limit: 0x7ff };
    bus.ram().write(GUEST_GDT + 8, &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    for vector in 0..32 {
        let at = GUEST_HLT + vector;
        bus.ram().write(GUEST_IDT + 8 * vector, &(0x8e00_u64 << 32 | 8 << 16 | at).to_le_bytes());
        bus.ram().write(at, &[0xf4]);
    }
    cpu.state_changed();
    cpu
}

/// Puts the image of FXSAVE into the guest's registers.
fn load_image(cpu: &mut Cpu, image: &[u8; 512]) {
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
    cpu.fpu.init();
    cpu.fpu.set_control(word(0) as u16);
    cpu.fpu.set_status_word((word(0) >> 16) as u16);
    cpu.fpu.valid = image[4];
    cpu.state.mxcsr = word(24) as u32;
    for n in 0..8 {
        let index = cpu.fpu.index(n as u8);
        cpu.fpu.registers[index].significand = word(32 + 16 * n);
        cpu.fpu.registers[index].sign_exponent = word(40 + 16 * n) as u16;
        cpu.state.vector[n] = u128::from(word(160 + 16 * n)) | u128::from(word(168 + 16 * n)) << 64;
    }
}

/// Control, status and tag words, MXCSR, the stack and the XMM registers of an image, as text.
pub fn describe(image: &[u8; 512]) -> Vec<String> {
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
    let mut lines = vec![
        format!("fcw {:04x} fsw {:04x} tags {:02x}", word(0) as u16, (word(0) >> 16) as u16, image[4]),
        format!("mxcsr {:08x}", word(24) as u32),
    ];
    for n in 0..8 {
        lines.push(format!("st{n} {:04x} {:016x}", word(40 + 16 * n) as u16, word(32 + 16 * n)));
    }
    for n in 0..8 {
        lines.push(format!("xmm{n} {:016x} {:016x}", word(168 + 16 * n), word(160 + 16 * n)));
    }
    lines
}

/// The image of the guest's registers, and zeros in what is not compared.
fn image_of_guest(cpu: &Cpu) -> [u8; 512] {
    let mut image = [0; 512];
    image[..2].copy_from_slice(&cpu.fpu.control.to_le_bytes());
    image[2..4].copy_from_slice(&cpu.fpu.status_word().to_le_bytes());
    image[4] = cpu.fpu.valid;
    image[24..28].copy_from_slice(&cpu.state.mxcsr.to_le_bytes());
    for n in 0..8 {
        let value = cpu.fpu.get(n as u8);
        image[32 + 16 * n..40 + 16 * n].copy_from_slice(&value.significand.to_le_bytes());
        image[40 + 16 * n..42 + 16 * n].copy_from_slice(&value.sign_exponent.to_le_bytes());
        image[160 + 16 * n..176 + 16 * n].copy_from_slice(&cpu.state.vector[n].to_le_bytes());
    }
    image
}

/// What of the host's image is compared.
fn image_of_host(after: &[u8; 512]) -> [u8; 512] {
    let mut image = [0; 512];
    for range in [0..5, 24..28, 32..288] {
        image[range.clone()].copy_from_slice(&after[range]);
    }
    for n in 0..8 {
        image[42 + 16 * n..48 + 16 * n].fill(0);
    }
    image
}

/// What a run has left behind.
#[derive(PartialEq)]
struct Outcome {
    image: [u8; 512],
    rip: u64,
    /// The offset of the instruction that raised an exception.
    raised: Option<usize>,
    general: [u64; 7],
    flags: u32,
    memory: [u8; WINDOW],
}

impl Outcome {
    fn lines(&self) -> Vec<String> {
        let mut lines = describe(&self.image);
        lines.push(format!("rip {:x}, raised by {:x?}", self.rip, self.raised));
        lines.extend((0..).zip(self.general).map(|(n, value)| format!("general {n} {value:x}")));
        lines.push(format!("flags {:x}", self.flags));
        lines.extend(self.memory.chunks(16).map(|bytes| format!("memory {bytes:02x?}")));
        lines
    }
}

/// Compares runs of these instructions with the host; `control` draws an MXCSR.
pub fn compare(seed: u64, rows: &[Row], control: fn(&mut Random) -> u32) {
    const ORDER: [usize; 7] = [gpr::RAX, gpr::RCX, gpr::RDX, gpr::RBX, gpr::RBP, gpr::RSI, gpr::RDI];
    const SLOTS: [usize; 7] = [0, 1, 2, 3, 5, 6, 7];
    let cases: u64 = std::env::var("HAKO_HOST_CASES").map_or(30_000, |text| text.parse().expect("a number"));
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut host = Host::new();
    let window = host.window_address();
    for engine in ENGINES {
        let mut random = Random(seed);
        let mut bus = FlatBus::new(0x1_0000);
        let mut cpu = guest(engine.make, &mut bus, window);
        let mut frame = Frame::default();
        let (mut raised_here, mut failures) = (0_u64, Vec::new());
        for number in 0..cases / engine.cost {
            let most = if number % 2 == 0 { 1 } else { 10 };
            let bytes = run_of(&mut random, rows, most);
            bus.ram().write(GUEST_CODE, &[bytes.as_slice(), &[0xf4]].concat());
            for _ in 0..8 {
                let mxcsr = control(&mut random);
                scramble(&mut random, &mut frame, mxcsr);
                frame.general[3] = window + MIDDLE;
                frame.general[7] = window + MIDDLE + random.below(64);
                for bytes in host.window().chunks_mut(8) {
                    bytes.copy_from_slice(&chunk(&mut random).to_le_bytes());
                }
                bus.ram().write(GUEST_WINDOW, host.window());
                // Here.
                load_image(&mut cpu, &frame.before);
                for (slot, register) in SLOTS.into_iter().zip(ORDER) {
                    cpu.state.gpr[register] = frame.general[slot];
                }
                cpu.state.gpr[gpr::RSP] = GUEST_STACK;
                cpu.state.flags.set(frame.general[8] as u32);
                cpu.state.rip = GUEST_CODE;
                cpu.state.halted = false;
                bus.signals().take_raised();
                let start = frame.general;
                cpu.run(&mut bus, 200);
                // There.
                let raised = host.run(&bytes, &mut frame);
                let end = if raised.is_some() { GUEST_HLT + XM + 1 } else { GUEST_CODE + bytes.len() as u64 + 1 };
                let mut memory = [0; WINDOW];
                memory.copy_from_slice(host.window());
                let there = Outcome {
                    image: image_of_host(&frame.after),
                    rip: end,
                    raised,
                    general: SLOTS.map(|slot| frame.general[slot]),
                    flags: frame.general[8] as u32 & ARITHMETIC,
                    memory,
                };
                let mut pushed = [0; 12];
                bus.ram().read(GUEST_STACK - 12, &mut pushed);
                let word = |n: usize| u32::from_le_bytes(pushed[4 * n..4 * n + 4].try_into().expect("4 bytes"));
                let faulted = cpu.state.rip > GUEST_HLT;
                raised_here += u64::from(faulted);
                bus.ram().read(GUEST_WINDOW, &mut memory);
                let here = Outcome {
                    image: image_of_guest(&cpu),
                    rip: cpu.state.rip,
                    raised: faulted.then(|| word(0).wrapping_sub(GUEST_CODE as u32) as usize),
                    general: ORDER.map(|register| cpu.state.gpr[register]),
                    flags: if faulted { word(2) } else { cpu.state.flags.get() } & ARITHMETIC,
                    memory,
                };
                if here != there && failures.len() < 12 {
                    let differ: Vec<_> = here
                        .lines()
                        .iter()
                        .zip(&there.lines())
                        .filter(|(here, there)| here != there)
                        .map(|(here, there)| format!("  here {here}, there {there}"))
                        .collect();
                    let before = describe(&frame.before).join("\n");
                    failures.push(format!("{bytes:02x?} from {start:x?}\n{before}\n{}", differ.join("\n")));
                    break;
                }
            }
        }
        eprintln!("{}: {} runs compared, {raised_here} exceptions", engine.name, cases / engine.cost);
        assert!(failures.is_empty(), "{}: {} runs differ\n{}", engine.name, failures.len(), failures.join("\n"));
    }
}
