//! A board as one of two processors sees it that run side by side.
//!
//! Engines agree on what each instruction does, and are free in when they look at interrupts. So the first is left free and what it did is
//! written down; the second takes its interrupts at the same moments and at no other.

use std::collections::VecDeque;

use crate::bus::clock::Nanos;
use crate::bus::ram::GuestRam;
use crate::bus::signals::Signals;
use crate::bus::{Bus, Moment, PhysPage, PortRegisters, Width};
use crate::machine::board::Board;

/// Moments at which the first took an interrupt and the second has not yet.
pub(super) type Script = VecDeque<Moment>;

/// Who writes the script, and who goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    First,
    Second,
}

/// The board of one of them.
pub(super) struct Guided<'a> {
    pub board: &'a mut Board,
    pub role: Role,
    pub script: &'a mut Script,
    /// How many random numbers it has had: both get the same ones.
    pub randoms: &'a mut u64,
    /// When the processor last asked.
    pub asked: Moment,
}

impl Bus for Guided<'_> {
    fn page(&self, address: u64) -> PhysPage {
        self.board.page(address)
    }

    fn ram(&self) -> &GuestRam {
        self.board.ram()
    }

    fn read(&mut self, address: u64, width: Width) -> u64 {
        self.board.read(address, width)
    }

    fn write(&mut self, address: u64, width: Width, value: u64) {
        self.board.write(address, width, value);
    }

    fn port_in(&mut self, port: u16, width: Width) -> u32 {
        self.board.port_in(port, width)
    }

    fn port_in_registers(&mut self, port: u16, registers: &mut PortRegisters) -> bool {
        self.board.port_in_registers(port, registers)
    }

    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        self.board.port_out(port, width, value);
    }

    fn interrupt_pending(&mut self) -> bool {
        self.board.interrupt_pending()
    }

    fn interrupt_pending_at(&mut self, moment: Moment) -> bool {
        self.asked = moment;
        (self.role == Role::First || self.script.front() == Some(&moment)) && self.board.interrupt_pending()
    }

    fn acknowledge_interrupt(&mut self) -> u8 {
        match self.role {
            Role::First => self.script.push_back(self.asked),
            Role::Second => {
                self.script.pop_front();
            }
        }
        self.board.acknowledge_interrupt()
    }

    fn set_apic_base(&mut self, value: u64) {
        self.board.set_apic_base(value);
    }

    fn set_smi_active(&mut self, active: bool) {
        self.board.set_smi_active(active);
    }

    fn random(&mut self) -> Option<u64> {
        *self.randoms = self.randoms.wrapping_add(1);
        let mixed = self.randoms.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32)
    }

    fn signals(&self) -> &Signals {
        self.board.signals()
    }

    fn now(&self) -> Nanos {
        self.board.now()
    }
}
