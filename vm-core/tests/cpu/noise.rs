//! Random bytes as code: no panic, no hang, no growth without bound, whatever the mode.

use std::time::{Duration, Instant};

use vm_core::bus::Bus;
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::flags::{AC, TF};
use vm_core::cpu::state::{SegReg, Segment, cr0, cr4, efer, gpr};
use vm_core::cpu::{Cpu, Exit};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;

/// xorshift64*.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}

/// Bytes of RAM of a machine full of noise.
pub const MEMORY: u64 = 0x40_0000;

/// What such a machine begins in.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Real,
    Protected,
    Paged,
    User,
    Virtual8086,
    /// PAE with some pages closed to execution.
    Extended,
    /// The same at level 3.
    ExtendedUser,
}

/// All of them.
pub const MODES: [Mode; 7] =
    [Mode::Real, Mode::Protected, Mode::Paged, Mode::User, Mode::Virtual8086, Mode::Extended, Mode::ExtendedUser];

/// What can come on top of any mode: breakpoints, alignment checks, single steps, virtual interrupts, an SMI.
fn decorate(cpu: &mut Cpu, bus: &mut FlatBus, noise: &[u8], random: &mut Random) {
    if random.below(4) == 0 {
        for n in 0..4 {
            cpu.state.dr[n] = 0x1_0000 | random.next() & 0x3fff;
        }
        cpu.state.dr[7] = random.next() & 0xffff_23ff | 0x400;
        cpu.state.cr[4] |= random.next() & cr4::DE;
    }
    if random.below(4) == 0 {
        cpu.state.cr[0] |= cr0::AM;
        cpu.state.flags.set(cpu.state.flags.get() | AC);
    }
    if random.below(8) == 0 {
        cpu.state.flags.set(cpu.state.flags.get() | TF);
    }
    cpu.state.cr[4] |= random.next() & (cr4::VME | cr4::PVI);
    if random.below(4) == 0 {
        // The handler is noise with some ways back.
        bus.ram().write(0x3_8000, noise);
        for _ in 0..200 {
            bus.ram().write(0x3_8000 + random.below(0x2000), &[0x0f, 0xaa]);
        }
        cpu.state.smi_pending = true;
    }
}

/// A machine in some mode with noise for code, tables that mostly make sense, and registers that point anywhere.
pub fn prepare(cpu: &mut Cpu, bus: &mut FlatBus, mode: Mode, random: &mut Random) {
    let put = |bus: &mut FlatBus, at: u64, value: u32| bus.ram().write(at, &value.to_le_bytes());
    let mut noise = vec![0; 0x4000];
    for chunk in noise.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        // Half of it near real code: common opcodes with prefixes.
        if random.below(2) == 0 {
            chunk[0] = [0x66, 0xf3, 0x0f, 0x8b, 0xff, 0xf7, 0xd3, 0x67, 0xcf, 0x8e][random.below(10) as usize];
        }
    }
    // Some of it is vector instructions, of all maps.
    for chunk in noise.chunks_mut(16) {
        if random.below(4) == 0 {
            let prefix = [0x3e, 0x66, 0xf2, 0xf3][random.below(4) as usize];
            let map = [random.next() as u8, 0x38, 0x3a][random.below(3) as usize];
            chunk[..3].copy_from_slice(&[prefix, 0x0f, map]);
        }
    }
    bus.ram().write(0x1_0000, &noise);
    decorate(cpu, bus, &noise, random);
    // Real-mode vectors and an IDT lead back into the noise.
    for vector in 0..256_u64 {
        put(bus, vector * 4, 0x1000_0000 | random.next() as u32 & 0x3fff);
        let target = 0x1_0000 | random.next() as u32 & 0x3fff;
        let kind = [0x8e00, 0xef00, 0xee00, 0x8600][random.below(4) as usize];
        put(bus, 0x2000 + vector * 8, 0x0008_0000 | target & 0xffff);
        put(bus, 0x2004 + vector * 8, target & 0xffff_0000 | kind);
    }
    // A GDT of flat segments, a TSS, and noise.
    let descriptors: [u64; 6] = [
        0,
        0x00cf_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x0000_8900_3000_2068,
    ];
    for n in 0..32 {
        let value = descriptors.get(n).copied().unwrap_or_else(|| random.next());
        bus.ram().write(0x1000 + 8 * n as u64, &value.to_le_bytes());
    }
    put(bus, 0x3004, 0x9000);
    put(bus, 0x3008, 0x10);
    // Identity page tables for 4 MiB, some entries noisy.
    put(bus, 0x4000, 0x5007);
    for n in 0..1024 {
        let entry = (n << 12) as u32 | if random.below(64) == 0 { random.next() as u32 & 0x1ff } else { 7 };
        put(bus, 0x5000 + 4 * n, entry);
    }
    for register in &mut cpu.state.gpr {
        *register = random.next() & [0xffff, 0x1_ffff, 0x3f_ffff, 0xffff_ffff][random.below(4) as usize];
    }
    cpu.state.gpr[gpr::RSP] = 0x8000;
    cpu.state.flags.set(cpu.state.flags.get() | random.next() as u32 & 0x0ed5);
    cpu.model = CpuModel::Max;
    if random.below(8) != 0 {
        cpu.state.cr[4] |= cr4::OSFXSR | random.next() & cr4::OSXMMEXCPT;
    }
    cpu.state.mxcsr =
        random.next() as u32 & [0, 0x1f80, 0xffff][random.below(3) as usize] | random.next() as u32 & 0x1f80;
    for register in &mut cpu.state.vector[..8] {
        *register = u128::from(random.next()) | u128::from(random.next()) << 64;
    }
    cpu.fpu.init();
    if random.below(2) == 0 {
        cpu.fpu.set_control(random.next() as u16);
    }
    cpu.state.rip = random.next() & 0x3fff;
    cpu.state.idtr.limit = 0x3ff;
    for seg in SegReg::ALL {
        cpu.state.seg[seg as usize] = Segment::real(0x1000);
    }
    if matches!(mode, Mode::Real) {
        cpu.state_changed();
        return;
    }
    cpu.state.rip += 0x1_0000;
    cpu.state.cr[0] |= 1;
    cpu.state.gdtr.base = 0x1000;
    cpu.state.gdtr.limit = 255;
    cpu.state.idtr.base = 0x2000;
    cpu.state.idtr.limit = 0x7ff;
    cpu.state.tr = Segment { base: 0x3000, limit: 0x2068, rights: 0x8b, selector: 0x28 };
    let extended = matches!(mode, Mode::Extended | Mode::ExtendedUser);
    if extended {
        let put = |at: u64, value: u64| bus.ram().write(at, &value.to_le_bytes());
        put(0x6000, 0x7001);
        put(0x7000, 0x2_0007);
        put(0x7008, 0x2_1007);
        put(0x7010, [0x87, 0x80_0000_0000_0087, 0x2087, 1 << 63 | 0x87][random.below(4) as usize]);
        for n in 0..1024_u64 {
            let odd = match random.below(64) {
                0 => random.next(),
                1 => 1 << 63,
                _ => 0,
            };
            put(0x2_0000 + 8 * n, n << 12 | 7 ^ odd);
        }
        cpu.state.pdpte[0] = 0x7001;
        cpu.state.cr[3] = 0x6000;
        cpu.state.cr[4] |= cr4::PAE | random.next() & cr4::PGE;
        cpu.state.cr[0] |= cr0::PG;
        cpu.state.msr.efer = random.next() & efer::NXE;
    } else if !matches!(mode, Mode::Protected) {
        cpu.state.cr[3] = 0x4000;
        cpu.state.cr[0] |= cr0::PG;
    }
    let user = matches!(mode, Mode::User | Mode::ExtendedUser);
    let data = Segment {
        base: 0,
        limit: u32::MAX,
        rights: if user { 0xc0f3 } else { 0xc093 },
        selector: if user { 0x23 } else { 0x10 },
    };
    cpu.state.seg = [data; 6];
    cpu.state.seg[SegReg::Cs as usize] =
        Segment { rights: data.rights | 8, selector: if user { 0x1b } else { 8 }, ..data };
    cpu.state.cpl = if user { 3 } else { 0 };
    if matches!(mode, Mode::Virtual8086) {
        cpu.state.flags.set(cpu.state.flags.get() | 1 << 17);
        cpu.state.seg = [Segment::v86(0x1000); 6];
        cpu.state.rip -= 0x1_0000;
        cpu.state.cpl = 3;
    }
    cpu.state_changed();
}

#[test]
fn random_bytes_never_hurt() {
    let steps: u64 = std::env::var("HAKO_NOISE_STEPS").map_or(3_000_000, |text| text.parse().unwrap());
    let seed = std::env::var("HAKO_NOISE_SEED").map_or(0x9e37_79b9_7f4a_7c15, |text| text.parse().unwrap());
    for engine in ENGINES {
        let mut random = Random(seed);
        let mut bus = FlatBus::new(MEMORY);
        bus.quiet = true;
        let (mut done, mut machines, mut managed, mut floats) = (0_u64, 0_u64, 0_u64, 0_u64);
        // Where less is enough, it is still to have seen both.
        while done < steps / engine.cost || (managed == 0 || floats == 0) && done < steps {
            let mode = MODES[machines as usize % MODES.len()];
            let mut cpu = (engine.make)();
            bus.forget_code();
            prepare(&mut cpu, &mut bus, mode, &mut random);
            machines += 1;
            let mxcsr = cpu.state.mxcsr;
            for _ in 0..8 {
                let before = cpu.retired;
                let started = Instant::now();
                let exit = cpu.run(&mut bus, 1000);
                bus.signals().take_raised();
                managed += u64::from(cpu.state.smm);
                floats += u64::from(cpu.state.mxcsr != mxcsr);
                assert_eq!(cpu.state.mxcsr & !0xffff, 0, "reserved bits stay clear");
                // A slice of a thousand instructions comes back, whatever they are.
                assert!(started.elapsed() < Duration::from_secs(5), "{mode:?}, machine {machines} of seed {seed:#x}");
                done += cpu.retired.wrapping_sub(before).max(1);
                if matches!(exit, Exit::Halted | Exit::TripleFault) {
                    break;
                }
            }
        }
        assert_ne!(managed, 0, "some of it runs in system management mode");
        assert_ne!(floats, 0, "some of it computes");
        eprintln!("{}: {done} instructions of noise in {machines} machines", engine.name);
    }
}
