//! The engines that execute micro-ops.

use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::state::{SegReg, Segment, cr0};
use vm_core::cpu::{Compilation, Cpu};

/// One engine.
pub struct Engine {
    /// For messages.
    pub name: &'static str,
    /// A processor just after power-on that runs on it.
    pub make: fn() -> Cpu,
    /// How much more dearly than templates it makes native code: tests by noise are so much shorter.
    pub cost: u64,
}

/// All that this host has.
pub const ENGINES: &[Engine] = &[
    Engine { name: "interpreter", make: || Cpu::new(CpuModel::PentiumM), cost: 1 },
    #[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
    Engine { name: "template translator", make: templates, cost: 1 },
    #[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
    Engine { name: "templates of hot code", make: hot_templates, cost: 1 },
    #[cfg(feature = "jit")]
    Engine { name: "Cranelift", make: regions, cost: 20 },
    #[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
    Engine { name: "templates and Cranelift", make: both, cost: 20 },
];

/// Flat 32-bit code at level 0, from `eip` on.
pub fn set_flat(cpu: &mut Cpu, eip: u32) {
    let flat = |rights| Segment { base: 0, limit: 0xffff_ffff, rights, selector: 8 };
    cpu.state.cr[0] |= cr0::PE;
    cpu.state.seg = [flat(0xc093); 6];
    cpu.state.seg[SegReg::Cs as usize] = flat(0xc09b);
    cpu.state.rip = eip.into();
    cpu.state_changed();
}

/// A processor that makes native code of every block at its first entry.
#[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
fn templates() -> Cpu {
    let mut cpu = Cpu::new(CpuModel::PentiumM);
    cpu.use_native_code().expect("memory for native code");
    cpu.code.set_threshold(0, 0);
    cpu
}

/// The same as if the clock had found them all to be hot.
#[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
fn hot_templates() -> Cpu {
    let mut cpu = templates();
    cpu.code.set_all_hot();
    cpu
}

/// A processor that makes native code of every block at its third entry, or sooner with others, and a region that begins with it.
#[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
fn both() -> Cpu {
    let mut cpu = Cpu::new(CpuModel::PentiumM);
    cpu.use_native_code().expect("memory for native code");
    cpu.use_regions(Compilation::AtOnce).expect("memory for compiled code");
    cpu.code.set_threshold(1, 1);
    cpu
}

/// A processor that compiles a region at the third entry of its first block: compiling costs as much as millions of instructions.
#[cfg(feature = "jit")]
fn regions() -> Cpu {
    let mut cpu = Cpu::new(CpuModel::PentiumM);
    cpu.use_regions(Compilation::AtOnce).expect("memory for compiled code");
    cpu.code.set_threshold(2, 0);
    cpu
}
