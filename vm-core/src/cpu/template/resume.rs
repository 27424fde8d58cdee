//! From one piece of native code to the next after an op that ended a block, without leaving native code: what a turn of the
//! dispatcher comes to where nothing unusual is the matter. Where something is, the dispatcher looks at it.

use crate::bus::Bus;
use crate::cpu::block::Header;
use crate::cpu::fault::Fault;
use crate::cpu::interp::Leave;
use crate::cpu::lift::Mode;
use crate::cpu::state::SegReg;
use crate::cpu::{Cpu, flags};

impl Cpu {
    /// The block at RIP and the host address of its native code. `None`: the dispatcher's turn, with everything as it expects it.
    pub(super) fn resume(&mut self, bus: &mut dyn Bus) -> Option<(*const Header, u64)> {
        match self.exec.leave {
            Leave::Goto => {}
            Leave::Fault(fault) => self.deliver_here(bus, fault),
            Leave::Link | Leave::Hot => return None,
        }
        if self.exec.left <= 0 || self.exec.shutdown || self.wants_dispatcher(bus) {
            return None;
        }
        // It holds for one instruction. Only instruction breakpoints look at it, and there are none.
        if self.state.flags.has(flags::RF) {
            self.state.flags.update(flags::RF, 0);
        }
        let mode = Mode::of(self);
        let rip = self.state.rip;
        if rip > u64::from(mode.limit) {
            return None;
        }
        let linear = self.state.segment(SegReg::Cs).base.wrapping_add(rip) & 0xffff_ffff;
        // The dispatcher finds the same fault again, and raises it.
        let page = self.fetch_page(bus, linear).ok()?;
        let eip = rip as u32;
        let header = self.code.at(page | linear & 0xfff, eip & !mode.origin_bits(), mode.key())?;
        let entry = self.code.native_entry(header)?;
        self.exec.enter_mode(mode);
        self.exec.enter_page(eip);
        self.exec.died = false;
        self.exec.leave = Leave::Goto;
        self.choose_jumps(mode);
        self.code.stats.resumed += 1;
        Some((header, entry))
    }

    /// Whether there is something that only the dispatcher does between two blocks.
    fn wants_dispatcher(&mut self, bus: &mut dyn Bus) -> bool {
        let signals = bus.signals();
        let state = &self.state;
        signals.raised()
            || state.halted
            || state.interrupt_shadow
            || state.debug_shadow
            || state.pending_debug != 0
            || state.nmi_pending
            || state.smi_pending
            || state.flags.has(flags::TF)
            || signals.nmi()
            || signals.smi()
            || self.armed.any()
            || self.alignment_checked() != self.tlb.checks_alignment()
            || self.sync_map(bus)
            || self.code_is_old(bus)
            || self.state.flags.has(flags::IF) && bus.interrupt_pending()
    }

    /// Delivers a fault, as the dispatcher does.
    fn deliver_here(&mut self, bus: &mut dyn Bus, fault: Fault) {
        self.exec.leave = Leave::Goto;
        // It uses up one of what is left, if there is one: `turn` counts as executed what has gone, but for these.
        if self.exec.left > 0 {
            self.exec.left -= 1;
            self.exec.delivered += 1;
        }
        self.exec.shutdown |= self.raise_fault(bus, fault).is_err();
    }
}
