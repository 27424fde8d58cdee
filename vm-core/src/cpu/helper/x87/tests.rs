//! Against the host's own x87, where there is one: FRSTOR, the instruction, FNSAVE on both sides, from random states.

use iced_x86::{Decoder, DecoderOptions};

use super::*;
use crate::bus::Bus;
use crate::cpu::cpuid::CpuModel;
use crate::cpu::state::{Segment, gpr};
use crate::cpu::testbus::TestBus;

/// Where the memory operand of the instructions under test is ([edx]).
const OPERAND: u64 = 0x2000;

/// A machine with flat 32-bit segments.
fn machine() -> (Cpu, TestBus) {
    let mut cpu = Cpu::new(CpuModel::default());
    cpu.state.cr[0] = cr0::PE | cr0::NE | cr0::ET;
    for seg in &mut cpu.state.seg {
        *seg = Segment { base: 0, limit: 0xffff_ffff, rights: 0xc093, selector: 0x10 };
    }
    cpu.state.gpr[gpr::RDX] = OPERAND;
    cpu.state_changed();
    cpu.fpu.init();
    (cpu, TestBus::new(16))
}

fn step(cpu: &mut Cpu, bus: &mut dyn Bus, code: &[u8]) -> Result<Flow, Fault> {
    let insn = Decoder::new(32, code, DecoderOptions::NONE).decode();
    let helper = find(insn.code()).unwrap_or_else(|| panic!("{code:02x?} is {:?}", insn.code()));
    helper(cpu, bus, &insn)
}

#[test]
fn an_unmasked_exception_waits_for_the_next_waiting_instruction() {
    let (mut cpu, mut bus) = machine();
    cpu.fpu.set_control(0x37b);
    step(&mut cpu, &mut bus, &[0xd9, 0xe8]).unwrap();
    step(&mut cpu, &mut bus, &[0xd9, 0xee]).unwrap();
    step(&mut cpu, &mut bus, &[0xde, 0xf9]).unwrap();
    assert_eq!(cpu.fpu.status_word(), 0xb084 & 0xc0ff | 6 << 11, "1 / 0 raises and does not pop");
    assert_eq!(cpu.fpu.opcode, 0x6f9);
    assert_eq!(step(&mut cpu, &mut bus, &[0x9b]), Err(Fault::new(Vector::FloatingPoint)));
    assert_eq!(step(&mut cpu, &mut bus, &[0xd9, 0xe8]), Err(Fault::new(Vector::FloatingPoint)));
    // Without NE: the pin, one wait, and on.
    cpu.state.cr[0] &= !cr0::NE;
    assert_eq!(step(&mut cpu, &mut bus, &[0x9b]), Ok(Flow::Again));
    assert!(cpu.fpu.ferr && bus.signals.raised());
    cpu.fpu.ignore_error();
    assert!(!cpu.fpu.ferr);
    assert_eq!(step(&mut cpu, &mut bus, &[0x9b]), Ok(Flow::Next));
    step(&mut cpu, &mut bus, &[0xdb, 0xe2]).unwrap();
    assert!(!cpu.fpu.ignne && !cpu.fpu.pending());
    cpu.state.cr[0] |= cr0::TS;
    assert_eq!(step(&mut cpu, &mut bus, &[0xdf, 0xe0]), Err(Fault::new(Vector::DeviceNotAvailable)));
    assert_eq!(step(&mut cpu, &mut bus, &[0x9b]), Ok(Flow::Next));
    cpu.state.cr[0] |= cr0::MP;
    assert_eq!(step(&mut cpu, &mut bus, &[0x9b]), Err(Fault::new(Vector::DeviceNotAvailable)));
}

#[test]
fn the_environment_has_four_layouts() {
    for (real, prefix, size) in [(true, 0x90, 28), (true, 0x66, 14), (false, 0x90, 28), (false, 0x66, 14)] {
        let (mut cpu, mut bus) = machine();
        if real {
            cpu.state.cr[0] &= !cr0::PE;
        }
        cpu.state.rip = 0x1_2345;
        step(&mut cpu, &mut bus, &[0xd9, 0xe8]).unwrap();
        step(&mut cpu, &mut bus, &[0xd8, 0x02]).unwrap();
        let before = cpu.fpu.clone();
        let save: Vec<u8> = [prefix, 0xd9, 0x32].into_iter().filter(|byte| *byte != 0x90).collect();
        step(&mut cpu, &mut bus, &save).unwrap();
        let image: [u8; 28] = bus.get(OPERAND);
        assert!(image[..size].iter().any(|byte| *byte != 0) && image[size..].iter().all(|byte| *byte == 0));
        cpu.fpu.init();
        let restore: Vec<u8> = [prefix, 0xd9, 0x22].into_iter().filter(|byte| *byte != 0x90).collect();
        step(&mut cpu, &mut bus, &restore).unwrap();
        assert_eq!((cpu.fpu.control, cpu.fpu.status_word(), cpu.fpu.tag_word()), (0x37f, before.status_word(), 0x3fff));
        if real {
            assert_eq!(cpu.fpu.instruction_offset, 0x1_2345 + 0x100, "a linear address");
        } else if size == 28 {
            assert_eq!((cpu.fpu.instruction_offset, cpu.fpu.operand_offset), (0x1_2345, OPERAND));
        }
    }
}

#[cfg(all(target_arch = "x86_64", unix))]
mod host {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use memmap2::{Mmap, MmapMut};

    use super::*;
    use crate::cpu::flags::{AF, OF, SF};
    use crate::cpu::fpu::bits::{C1, PE, UE};

    /// xorshift64*.
    pub(super) struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, end: u64) -> u64 {
            (self.next() >> 16) % end
        }

        fn pick<T: Copy>(&mut self, from: &[T]) -> T {
            from[self.below(from.len() as u64) as usize]
        }

        fn significand(&mut self) -> u64 {
            let value = match self.below(8) {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << self.below(64),
                3 => u64::MAX << self.below(64),
                4 => self.next() & (u64::MAX << self.below(64)),
                5 => (self.next() & (u64::MAX << 40)) | (1 << 39) | self.below(2),
                6 => (self.next() & (u64::MAX << 11)) | (1 << 10) | self.below(2),
                _ => self.next(),
            };
            value | 1 << 63
        }

        fn number(&mut self) -> F80 {
            let sign = (self.next() as u16) & 0x8000;
            let any = self.significand();
            let near = |middle: i32, random: &mut Self| (middle + random.below(12) as i32 - 6).clamp(0, 0x7ffe) as u16;
            let (exponent, significand) = match self.below(24) {
                0 => (0, 0),
                1 => (0x7fff, 1 << 63),
                2 => (0x7fff, any | 1 << 62),
                3 => (0x7fff, any & !(1 << 62) | 1),
                4 => (0, any >> self.below(64)),
                5 => (0, any),
                6 => (self.next() as u16 & 0x7fff, any & !(1 << 63)),
                7 => (0x7ffe, any),
                8 => (1, any),
                9 => (near(16383 + 127, self), any),
                10 => (near(16383 - 126, self), any),
                11 => (near(16383 - 149, self), any),
                12 => (near(16383 + 1023, self), any),
                13 => (near(16383 - 1022, self), any),
                14 => (near(16383 - 1074, self), any),
                15 => (near(16383 + 63, self), any),
                16 => (near(16383 + 31, self), any),
                17 => (near(16383 + 15, self), any),
                18 => (near(16383 + 59, self), any),
                19 => (self.next() as u16 & 0x7fff, any),
                20 => (0x3fff, 1 << 63),
                _ => (near(16383, self), any),
            };
            F80 { significand, sign_exponent: sign | exponent }
        }
    }

    /// FRSTOR [rdi]; flags from rcx; the instruction; flags to rax; FNSAVE [rsi].
    struct Host {
        code: Mmap,
        starts: Vec<usize>,
    }

    impl Host {
        fn new(instructions: &[Vec<u8>]) -> Self {
            let mut code = MmapMut::map_anon(32 * instructions.len()).unwrap();
            let mut starts = Vec::new();
            for (n, instruction) in instructions.iter().enumerate() {
                let body = [&[0xdd, 0x27, 0x51, 0x9d][..], instruction, &[0x9c, 0x58, 0xdd, 0x36, 0xc3]].concat();
                code[32 * n..][..body.len()].copy_from_slice(&body);
                starts.push(32 * n);
            }
            Self { code: code.make_exec().unwrap(), starts }
        }

        fn run(&self, n: usize, image: &[u8; 108], memory: &mut [u8; 16], flags: u64) -> ([u8; 108], u64) {
            type Code = unsafe extern "sysv64" fn(*const u8, *mut u8, *mut u8, u64) -> u64;
            let mut out = [0; 108];
            // SAFETY: the bytes at this start are a whole function of this type, written above.
            let function: Code = unsafe { std::mem::transmute(self.code.as_ptr().add(self.starts[n])) };
            // SAFETY: it reads `image`, writes `out` and `memory`, leaves the x87 initialised, and clobbers nothing else.
            let flags = unsafe { function(image.as_ptr(), out.as_mut_ptr(), memory.as_mut_ptr(), flags) };
            (out, flags)
        }
    }

    fn image_of(fpu: &Fpu) -> [u8; 108] {
        let mut image = [0; 108];
        image[0..2].copy_from_slice(&fpu.control.to_le_bytes());
        image[4..6].copy_from_slice(&fpu.status_word().to_le_bytes());
        image[8..10].copy_from_slice(&fpu.tag_word().to_le_bytes());
        for n in 0..8 {
            let value = fpu.get(n as u8);
            image[28 + 10 * n..][..8].copy_from_slice(&value.significand.to_le_bytes());
            image[36 + 10 * n..][..2].copy_from_slice(&value.sign_exponent.to_le_bytes());
        }
        image
    }

    fn instructions() -> (Vec<Vec<u8>>, Vec<bool>) {
        let mut list = Vec::new();
        let mut inexact = Vec::new();
        let mut add = |bytes: &[u8], transcendental: bool| {
            list.push(bytes.to_vec());
            inexact.push(transcendental);
        };
        let row = |low: u8, high: u8| low..=high;
        for second in row(0xc0, 0xff) {
            add(&[0xd8, second], false);
        }
        for second in row(0xc0, 0xd0).chain([0xe0, 0xe1, 0xe4, 0xe5]).chain(row(0xe8, 0xee)) {
            add(&[0xd9, second], false);
        }
        for second in [0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff] {
            add(&[0xd9, second], true);
        }
        for second in [0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xfa, 0xfc, 0xfd] {
            add(&[0xd9, second], false);
        }
        for second in row(0xc0, 0xdf).chain([0xe9]) {
            add(&[0xda, second], false);
        }
        for second in row(0xc0, 0xdf).chain([0xe2, 0xe3]).chain(row(0xe8, 0xf7)) {
            add(&[0xdb, second], false);
        }
        for second in row(0xc0, 0xcf).chain(row(0xe0, 0xff)) {
            add(&[0xdc, second], false);
        }
        for second in row(0xc0, 0xc7).chain(row(0xd0, 0xef)) {
            add(&[0xdd, second], false);
        }
        for second in row(0xc0, 0xcf).chain([0xd9]).chain(row(0xe0, 0xff)) {
            add(&[0xde, second], false);
        }
        for second in row(0xc0, 0xc7).chain(row(0xe8, 0xf7)) {
            add(&[0xdf, second], false);
        }
        for (first, regs) in [
            (0xd8, "01234567"),
            (0xd9, "02357"),
            (0xda, "01234567"),
            (0xdb, "012357"),
            (0xdc, "01234567"),
            (0xdd, "01237"),
            (0xde, "01234567"),
            (0xdf, "01234567"),
        ] {
            for reg in regs.bytes() {
                add(&[first, (reg - b'0') << 3 | 2], false);
            }
        }
        (list, inexact)
    }

    fn memory_operand(random: &mut Random) -> [u8; 16] {
        let value = random.number();
        let mut context = Context::from_control(0x37f);
        let mut memory = [0; 16];
        match random.below(8) {
            0 => {
                let bits = convert::to_f32(&mut context, value).unwrap();
                memory[..4].copy_from_slice(&bits.to_le_bytes());
                if value.kind() == crate::cpu::fpu::float::Kind::Signaling {
                    memory[2] &= !0x40;
                    memory[0] |= 1;
                }
            }
            1 => {
                let bits = convert::to_f64(&mut context, value).unwrap();
                memory[..8].copy_from_slice(&bits.to_le_bytes());
                if value.kind() == crate::cpu::fpu::float::Kind::Signaling {
                    memory[6] &= !8;
                    memory[0] |= 1;
                }
            }
            2 => {
                memory[..8].copy_from_slice(&value.significand.to_le_bytes());
                memory[8..10].copy_from_slice(&value.sign_exponent.to_le_bytes());
            }
            3 => {
                for byte in &mut memory[..9] {
                    *byte = (random.below(10) << 4 | random.below(10)) as u8;
                }
                memory[9] = random.next() as u8 & 0x80;
            }
            4 => {
                let denormal = random.next() as u32 & 0x807f_ffff;
                memory[..4].copy_from_slice(&denormal.to_le_bytes());
            }
            5 => {
                let denormal = random.next() & 0x800f_ffff_ffff_ffff;
                memory[..8].copy_from_slice(&denormal.to_le_bytes());
            }
            _ => memory[..8].copy_from_slice(&random.next().to_le_bytes()),
        }
        memory
    }

    #[test]
    fn every_instruction_agrees_with_the_host() {
        const ARITHMETIC_FLAGS: u64 = (CF | PF | ZF | SF | OF | AF) as u64;
        let rounds: u64 = std::env::var("HAKO_X87_ROUNDS").map_or(600, |text| text.parse().unwrap());
        let (list, inexact) = instructions();
        let host = Host::new(&list);
        let mut random = Random(0x1234_5678_9abc_def1);
        let mut failures: BTreeMap<Vec<u8>, (u64, String)> = BTreeMap::new();
        let (mut cpu, mut bus) = machine();
        cpu.soft_x87 = true;
        for round in 0..rounds {
            for (n, code) in list.iter().enumerate() {
                let mut fpu = Fpu::default();
                fpu.init();
                let masks = if round % 4 == 3 { random.next() as u16 & 0x3f } else { 0x3f };
                fpu.control = random.pick(&[0, 2, 3, 3]) << 8 | (random.below(4) as u16) << 10 | 0x40 | masks;
                fpu.top = random.below(8) as u8;
                let full = random.below(4) != 0;
                for i in 0..8 {
                    fpu.registers[i] = random.number();
                    // Mostly there is room for a push.
                    let room = random.below(8) != 0 && i == fpu.index(7);
                    if !room && (full || random.below(4) != 0) {
                        fpu.valid |= 1 << i;
                    }
                }
                if random.below(3) == 0 {
                    // Close numbers, for cancellation and ties.
                    let (at, from) = (fpu.index(0), fpu.index(1));
                    fpu.registers[at] = fpu.registers[from];
                    fpu.registers[at].significand ^= random.below(4);
                    fpu.registers[at].sign_exponent ^= random.pick(&[0, 0x8000]);
                }
                fpu.set_status_word(fpu.status_word() | random.next() as u16 & (masks | 0x4700));
                let start = fpu.clone();
                let mut memory = memory_operand(&mut random);
                let before = memory;
                let flags = random.next() & ARITHMETIC_FLAGS;
                let (image, host_flags) = host.run(n, &image_of(&fpu), &mut memory, flags);
                // The same here.
                cpu.fpu = fpu;
                cpu.state.flags.set(flags as u32);
                bus.put(OPERAND, &before);
                step(&mut cpu, &mut bus, code).unwrap();
                let mut ours = image_of(&cpu.fpu);
                let our_memory: [u8; 16] = bus.get(OPERAND);
                let mut theirs = image;
                // Pointers are compared elsewhere.
                theirs[12..28].fill(0);
                let (ours, theirs) = (&mut ours, &mut theirs);
                if matches!(code[..], [0xdb | 0xdf, 0xe8..=0xf7]) {
                    // The FCOMI family: Intel's clear C1 and keep EFLAGS at an unmasked invalid operation; AMD's do neither.
                    if theirs[4] & 1 & !theirs[0] != 0 {
                        cpu.state.flags.set(host_flags as u32);
                    }
                    ours[5] &= !2;
                    theirs[5] &= !2;
                }
                for at in [2, 3, 6, 7, 10, 11] {
                    theirs[at] = 0;
                }
                let same = if inexact[n] {
                    close(ours, theirs)
                } else {
                    ours == theirs
                        && our_memory == memory
                        && u64::from(cpu.state.flags.get()) & ARITHMETIC_FLAGS == host_flags & ARITHMETIC_FLAGS
                };
                if !same {
                    let entry = failures.entry(code.clone()).or_default();
                    entry.0 += 1;
                    if entry.0 <= 2 {
                        let text = &mut entry.1;
                        let _ = writeln!(text, "  start {}", show(&image_of(&start)));
                        let _ = writeln!(text, "  memory {before:02x?}");
                        let _ = writeln!(text, "  ours  {} {our_memory:02x?} {:x}", show(ours), cpu.state.flags.get());
                        let _ = writeln!(text, "  host  {} {memory:02x?} {host_flags:x}", show(theirs));
                    }
                }
            }
        }
        let mut report = String::new();
        for (code, (count, text)) in &failures {
            let insn = Decoder::new(32, code, DecoderOptions::NONE).decode();
            let _ = writeln!(report, "{code:02x?} {:?}: {count} of {rounds}\n{text}", insn.code());
        }
        assert!(failures.is_empty(), "{} instructions differ\n{report}", failures.len());
    }

    /// Transcendental results: one unit in the last place, and whatever of C1 and inexactness follows from that.
    fn close(ours: &[u8; 108], theirs: &[u8; 108]) -> bool {
        let word = |image: &[u8; 108], at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let ignored = C1 | PE | UE | 0x8080;
        if word(ours, 0) != word(theirs, 0) || (word(ours, 4) ^ word(theirs, 4)) & !ignored != 0 {
            return false;
        }
        (0..8).all(|n| {
            let register = |image: &[u8; 108]| {
                let bytes: [u8; 8] = image[28 + 10 * n..][..8].try_into().unwrap();
                i128::from(word(image, 36 + 10 * n)) << 64 | i128::from(u64::from_le_bytes(bytes))
            };
            // The integer bit makes neighbours across a power of two far apart as plain numbers.
            let distance = (register(ours) - register(theirs)).abs();
            distance <= 2 || (distance - (1 << 64)).abs() <= 2 || ((1 << 64) - (1_i128 << 63) - distance).abs() <= 2
        })
    }

    fn show(image: &[u8; 108]) -> String {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let mut text = format!("cw {:04x} sw {:04x} tw {:04x}", word(0), word(4), word(8));
        for n in 0..8 {
            let bytes: [u8; 8] = image[28 + 10 * n..][..8].try_into().unwrap();
            let _ = write!(text, " {:04x}:{:016x}", word(36 + 10 * n), u64::from_le_bytes(bytes));
        }
        text
    }
}
