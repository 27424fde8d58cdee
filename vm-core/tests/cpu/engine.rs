//! The engines that execute micro-ops.

use vm_core::cpu::Cpu;
use vm_core::cpu::cpuid::CpuModel;

/// One engine.
pub struct Engine {
    /// For messages.
    pub name: &'static str,
    /// A processor just after power-on that runs on it.
    pub make: fn() -> Cpu,
}

/// All of them.
pub const ENGINES: &[Engine] = &[Engine { name: "interpreter", make: || Cpu::new(CpuModel::PentiumM) }];
