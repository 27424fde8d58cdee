//! The engines that execute micro-ops.

use vm_core::cpu::{Compilation, Cpu};
use vm_core::cpu::cpuid::CpuModel;

/// One engine.
pub struct Engine {
    /// For messages.
    pub name: &'static str,
    /// A processor just after power-on that runs on it.
    pub make: fn() -> Cpu,
}

/// All that this host has.
pub const ENGINES: &[Engine] = &[
    Engine { name: "interpreter", make: || Cpu::new(CpuModel::PentiumM) },
    #[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
    Engine { name: "template translator", make: templates },
    #[cfg(feature = "jit")]
    Engine { name: "Cranelift", make: regions },
];

/// A processor that makes native code of every block at its first entry.
#[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
fn templates() -> Cpu {
    let mut cpu = Cpu::new(CpuModel::PentiumM);
    cpu.use_native_code().expect("memory for native code");
    cpu.code.set_threshold(0);
    cpu
}

/// A processor that compiles a region at the first entry of its first block.
#[cfg(feature = "jit")]
fn regions() -> Cpu {
    let mut cpu = Cpu::new(CpuModel::PentiumM);
    cpu.use_regions(Compilation::AtOnce).expect("memory for compiled code");
    cpu.code.set_threshold(0);
    cpu
}
