//! How interrupts reach the processor: lines to the 8259s and the I/O APIC, messages to the local APIC, and one answer to "is there any?".
//!
//! The processor asks between any two chains of blocks, so the answer is kept, and found anew only where a line moved, a controller was
//! touched or a chip had its turn.

use super::board::Board;
use crate::bus::Width;
use crate::cpu::msr::apic_base;
use crate::dev::Device;
use crate::dev::apic::{LocalApic, LocalApicView};
use crate::dev::ioapic::IoApicView;
use crate::dev::pic::PicView;

/// The local APIC, and what the processor's `IA32_APIC_BASE` says of it.
pub(super) struct ApicSocket {
    /// `None`: the processor model has none.
    pub apic: Option<LocalApic>,
    /// Its page, while it is not disabled.
    pub page: Option<u64>,
}

/// Whether the processor should be interrupted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Intr {
    /// The 8259s have a vector, and it may pass.
    ext_int: bool,
    /// The local APIC has one.
    apic: bool,
    /// Something happened since the two were found.
    pub stale: bool,
}

/// The registers of all interrupt controllers at one moment.
#[derive(Clone, Debug)]
pub struct InterruptControllers {
    /// The 8259s: master, slave.
    pub pics: [PicView; 2],
    /// The I/O APIC.
    pub io_apic: IoApicView,
    /// The local APIC; `None`: the processor has none, or it is disabled in `IA32_APIC_BASE`.
    pub local_apic: Option<LocalApicView>,
}

impl ApicSocket {
    /// The APIC, where it is there and not disabled.
    fn enabled(&mut self) -> Option<&mut LocalApic> {
        self.apic.as_mut().filter(|_| self.page.is_some())
    }
}

impl Board {
    /// What the controllers show now.
    pub fn interrupt_controllers(&mut self) -> InterruptControllers {
        self.sync_interrupts();
        let local_apic = self.socket.enabled().map(|apic| apic.view());
        InterruptControllers { pics: self.pic.view(), io_apic: self.ioapic.view(), local_apic }
    }

    /// The level of the processor's INTR pin.
    pub(super) fn intr(&mut self) -> bool {
        if self.lines.take_moved() || self.intr.stale {
            self.sync_interrupts();
        }
        self.intr.ext_int || self.intr.apic
    }

    /// The vector of what [`Board::intr`] has found; the APIC goes first.
    pub(super) fn acknowledge(&mut self) -> u8 {
        self.intr.stale = true;
        match self.socket.enabled() {
            Some(apic) if apic.intr() => apic.acknowledge(),
            Some(apic) if !apic.passes_ext_int() => apic.acknowledge(),
            _ => self.pic.acknowledge(),
        }
    }

    /// Lets the controllers look at the lines.
    pub(super) fn sync_interrupts(&mut self) {
        self.intr.stale = false;
        self.pic.sync();
        let int = self.pic.intr();
        let Some(apic) = self.socket.enabled() else {
            self.ioapic.sync(|_| false);
            self.lines.set_apic_pending(0);
            (self.intr.ext_int, self.intr.apic) = (int, false);
            return;
        };
        apic.set_lint0(int);
        self.ioapic.sync(|message| apic.receive(message));
        self.ioapic.publish_pending(|vector| apic.is_requested(vector));
        (self.intr.ext_int, self.intr.apic) = (int && apic.passes_ext_int(), apic.intr());
    }

    /// After a controller was written while the processor runs: an interrupt that it lets through is one to stop for.
    fn controller_touched(&mut self) {
        self.sync_interrupts();
        if self.intr.ext_int || self.intr.apic {
            self.signals.raise();
        }
    }

    /// Reads a register of the 8259s (a poll is an acknowledge cycle).
    pub(super) fn read_pic(&mut self, offset: u16) -> u8 {
        self.intr.stale = true;
        self.pic.read(offset)
    }

    /// Writes one. OUT ends the processor's block, so it looks by itself.
    pub(super) fn write_pic(&mut self, offset: u16, value: u8) {
        self.intr.stale = true;
        self.pic.write(offset, value);
    }

    pub(super) fn read_apic(&mut self, offset: u32, width: Width) -> u64 {
        self.sync_interrupts();
        // Its timer may have come to its end.
        self.intr.stale = true;
        self.socket.enabled().map_or(u64::MAX, |apic| apic.read(offset, width)) & width.mask()
    }

    pub(super) fn write_apic(&mut self, offset: u32, width: Width, value: u32) {
        self.sync_interrupts();
        let Some(apic) = self.socket.enabled() else { return };
        if let Some(vector) = apic.write(offset, width, value) {
            self.ioapic.end_of_interrupt(vector);
        }
        self.controller_touched();
    }

    pub(super) fn write_ioapic(&mut self, offset: u32, value: u32) {
        self.sync_interrupts();
        self.ioapic.write(offset, value);
        self.controller_touched();
    }

    /// `IA32_APIC_BASE` was written (or restored): where the APIC is, and whether it is there at all. Disabled, it forgets everything
    /// (Intel SDM vol. 3A, 10.4.3), and its pins are the processor's INTR and NMI.
    pub(super) fn move_apic(&mut self, value: u64) {
        let enabled = value & apic_base::ENABLE != 0;
        let page = (enabled && self.socket.apic.is_some()).then_some(value & apic_base::ADDRESS);
        if page == self.socket.page {
            return;
        }
        self.socket.page = page;
        if page.is_none()
            && let Some(apic) = &mut self.socket.apic
        {
            apic.reset();
        }
        self.intr.stale = true;
        self.signals.map_changed();
    }

    /// INIT#: the local APIC starts anew and keeps its ID.
    pub fn init_apic(&mut self) {
        if let Some(apic) = &mut self.socket.apic {
            apic.init();
        }
        self.intr.stale = true;
    }
}
