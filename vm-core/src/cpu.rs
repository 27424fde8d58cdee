//! The processor.
//!
//! ```text
//! bytes ─ iced-x86 ─▶ instruction ─ lift ─▶ micro-ops ─ pass ─▶ block ─▶ interp
//! ```
//! x86 semantics are written once, in `lift` and in the `helper`s that it calls for awkward instructions.

#![allow(clippy::inline_always, reason = "the memory path is measured with these, and slow without")]
#![cfg_attr(
    not(all(feature = "jit", target_arch = "x86_64", target_os = "linux")),
    allow(
        dead_code,
        unused_imports,
        reason = "what only native code asks for stands beside what the interpreter shares with it"
    )
)]

pub mod access;
pub mod block;
pub mod bulk;
pub mod cpuid;
#[cfg(all(feature = "jit", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod cranelift;
#[cfg(not(all(feature = "jit", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
#[path = "cpu/cranelift/absent.rs"]
mod cranelift;
mod debug;
pub mod fault;
pub mod flags;
pub mod fpu;
pub mod helper;
pub mod interp;
pub mod interrupt;
pub mod lift;
pub mod msr;
pub mod paging;
pub mod pass;
mod saved;
pub mod segment;
pub mod smm;
pub mod state;
mod task;
#[cfg(all(feature = "jit", target_arch = "x86_64", target_os = "linux"))]
mod template;
#[cfg(not(all(feature = "jit", target_arch = "x86_64", target_os = "linux")))]
#[path = "cpu/template/absent.rs"]
mod template;
#[cfg(test)]
pub(crate) mod testbus;
pub mod tlb;
pub mod uop;
pub mod vector;

pub use cranelift::Compilation;

use cpuid::CpuModel;
use fault::Fault;
use fpu::Fpu;
use state::{CpuState, cr0};
use tlb::Tlb;

use crate::bus::{Bus, Moment};

/// Why [`Cpu::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget of instructions is used up.
    Budget,
    /// [`Signals::raised`](crate::bus::signals::Signals::raised): somebody wants attention (taken by the caller, not here).
    Attention,
    /// HLT with nothing to wake it; an interrupt will.
    Halted,
    /// Shutdown after a triple fault; only a reset helps.
    TripleFault,
}

/// How a helper wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next instruction; RIP is untouched.
    Next,
    /// The helper has set RIP (and perhaps mode or CS): leave the block.
    Jump,
    /// Execute the same instruction again after a look at interrupts (REP after a bounded number of rounds). RIP is untouched.
    Again,
    /// Like `Next`, but what is cached about the mode, mapping or interrupt state may have changed: leave the block.
    Resync,
}

/// An awkward instruction: far transfers, system instructions, strings, BCD, x87.
///
/// On entry `state.rip` is the address (offset in CS) of the instruction itself and flags are whatever
/// [`flags::Flags`] says. On `Err` nothing that the instruction would have changed may have changed, except what the
/// manual says (a page fault in the middle of a REP leaves the counters at the faulting element).
pub type Helper = fn(&mut Cpu, &mut dyn Bus, &iced_x86::Instruction) -> Result<Flow, Fault>;

/// An x86 processor.
pub struct Cpu {
    /// Registers.
    pub state: CpuState,
    /// Translations of linear addresses.
    pub tlb: Tlb,
    /// The x87's registers.
    pub fpu: Fpu,
    /// Computes transcendental functions as on a host that has no x87. For tests.
    pub(crate) soft_x87: bool,
    /// Which processor it is.
    pub model: CpuModel,
    /// Instructions completed since power-on (each round of a REP counts as one; a HLT counts).
    pub retired: u64,
    /// Interrupts and exceptions delivered since power-on, software interrupts too; also those that could not be.
    pub deliveries: u64,
    /// Translated code.
    pub code: block::Cache,
    exec: interp::Exec,
    /// The host's flags gather exceptions that MXCSR does not have yet.
    floats_lent: bool,
    /// What the debug registers wait for.
    armed: debug::Armed,
}

impl Cpu {
    /// A processor just after power-on.
    pub fn new(model: CpuModel) -> Self {
        Self {
            state: CpuState::reset(model.signature()),
            tlb: Tlb::new(),
            fpu: Fpu::default(),
            soft_x87: false,
            model,
            retired: 0,
            deliveries: 0,
            code: block::Cache::default(),
            exec: interp::Exec::default(),
            floats_lent: false,
            armed: debug::Armed::default(),
        }
    }

    /// Writes down what is translated from now on. All that was translated is dropped, so that it is seen again.
    pub fn log_code(&mut self, log: block::log::CodeLog) {
        self.code.log = log;
        self.code.want_flush();
    }

    /// From now on native code is made of what runs often. What is executed does not change by that, only its speed.
    ///
    /// # Errors
    /// In words, where this host cannot do that; then everything is interpreted, as before.
    pub fn use_native_code(&mut self) -> Result<(), String> {
        self.code.native = Some(Box::new(template::Native::new()?));
        self.code.want_flush();
        Ok(())
    }

    /// From now on regions of what runs often are compiled by Cranelift: where [`Cpu::use_native_code`] was called before, loops that
    /// are found running again and again. What is executed does not change by that, only its speed.
    ///
    /// # Errors
    /// In words, where this host cannot do that; then everything is interpreted, as before.
    pub fn use_regions(&mut self, compilation: Compilation) -> Result<(), String> {
        self.code.regions = Some(Box::new(cranelift::Regions::new(compilation)?));
        self.code.relative = false;
        if self.code.native.is_none() {
            self.code.threshold = block::HOT_REGION;
        }
        self.code.want_flush();
        Ok(())
    }

    /// Whether [`Cpu::use_regions`] was called, and could do it.
    pub fn makes_regions(&self) -> bool {
        self.code.regions.is_some()
    }

    /// Whether [`Cpu::use_native_code`] was called, and could do it.
    pub fn makes_native_code(&self) -> bool {
        self.code.native.is_some()
    }

    /// The RESET pin: everything but the count of retired instructions starts anew.
    pub fn reset(&mut self) {
        self.state = CpuState::reset(self.model.signature());
        self.fpu = Fpu::default();
        self.state_changed();
    }

    /// The INIT# pin: registers as after a reset; x87, vector registers, model-specific registers and SMBASE stay (Intel SDM vol. 3A,
    /// table 9-1).
    pub fn init(&mut self) {
        let fresh = CpuState::reset(self.model.signature());
        let old = std::mem::replace(&mut self.state, fresh);
        let kept = cr0::CD | cr0::NW;
        self.state.cr[0] = old.cr[0] & kept | cr0::ET;
        self.state.msr = old.msr;
        self.state.msr.efer = 0;
        self.state.mxcsr = old.mxcsr;
        self.state.vector = old.vector;
        self.state.smbase = old.smbase;
        self.state_changed();
    }

    /// To be called after `state` was replaced from outside (a reset, a restore, a debugger, a test): what is derived
    /// from it and cached elsewhere is made anew.
    pub fn state_changed(&mut self) {
        self.set_cpl(self.state.cpl);
        self.tlb.flush();
        self.code.want_flush();
        self.rearm();
    }

    /// Where it is on its way through the program. Only between calls of [`Cpu::run`], and where that looks at interrupts.
    pub fn moment(&self) -> Moment {
        Moment { retired: self.retired, deliveries: self.deliveries }
    }

    /// The current instruction ends in a shutdown; only a reset helps.
    fn shut_down(&mut self) {
        self.exec.shutdown = true;
    }
}
