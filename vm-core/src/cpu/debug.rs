//! Debug registers: what breakpoints wait for, and how #DB comes (Intel SDM vol. 3B, chapter 17).
//!
//! Where no breakpoint is armed nothing here costs anything. An armed one takes the page that it lies on out of the TLB,
//! so that accesses there come the slow way, which compares them. Code on such a page is executed one instruction at a
//! time; with a data breakpoint armed all code is, for the trap comes right after the instruction that hit.

use super::Cpu;
use super::fault::Vector;
use super::interrupt::{Event, TripleFault};
use super::state::{SegReg, cr4};
use crate::bus::Width;

/// Bits of DR6.
pub mod dr6 {
    /// A MOV to or from a debug register while DR7.GD was set.
    pub const BD: u32 = 1 << 13;
    /// Single step.
    pub const BS: u32 = 1 << 14;
    /// A task switch to a TSS whose T bit is set.
    pub const BT: u32 = 1 << 15;
    /// Bits that read as one.
    pub const FIXED: u32 = 0xffff_0ff0;
    /// Bits that can be written.
    pub const KNOWN: u32 = 0xf | BD | BS | BT;
}

/// Bits of DR7.
pub mod dr7 {
    /// Local enables: a task switch clears them.
    pub const LOCAL: u64 = 0x155;
    /// Guard the debug registers.
    pub const GD: u64 = 1 << 13;
    /// Bits that read as one.
    pub const FIXED: u64 = 0x400;
    /// Bits that can be written.
    pub const KNOWN: u64 = 0xffff_23ff;
}

/// What a breakpoint waits for: R/W in DR7.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;

/// Which of the four breakpoints are armed, by what they wait for. Derived from DR7 and CR4.DE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Armed {
    /// Execution.
    pub code: u32,
    /// Reads or writes of memory.
    pub data: u32,
    /// Reads of memory; a part of `data`.
    reads: u32,
    /// Port accesses.
    ports: u32,
}

impl Armed {
    /// Whether there is a breakpoint of any kind.
    pub fn any(&self) -> bool {
        self.code | self.data | self.ports != 0
    }

    fn of(dr7: u64, ports: bool) -> Self {
        let mut armed = Self::default();
        for n in 0..4 {
            let (local, global) = (1 << (2 * n), 2 << (2 * n));
            if dr7 & (local | global) == 0 {
                continue;
            }
            match dr7 >> (16 + 4 * n) & 3 {
                EXECUTE => armed.code |= 1 << n,
                PORT => armed.ports |= u32::from(ports) << n,
                WRITE => armed.data |= 1 << n,
                _ => {
                    armed.data |= 1 << n;
                    armed.reads |= 1 << n;
                }
            }
        }
        armed
    }
}

impl Cpu {
    /// To be called whenever DR0–DR3, DR7 or CR4.DE may have changed.
    pub(super) fn rearm(&mut self) {
        let before = self.armed;
        self.armed = Armed::of(self.state.dr[7], self.state.cr[4] & cr4::DE != 0);
        if (before.code | before.data | self.armed.code | self.armed.data) != 0 {
            self.tlb.flush();
        }
    }

    /// First address and length of breakpoint `n`; its low bits do not count.
    fn breakpoint(&self, n: usize) -> (u64, u64) {
        let len = match self.state.dr[7] >> (18 + 4 * n) & 3 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        };
        (self.state.dr[n] & 0xffff_ffff & !(len - 1), len)
    }

    /// Those of `which` that `len` bytes at `at` touch.
    fn touched(&self, which: u32, at: u64, len: u64) -> u32 {
        (0..4).filter(|&n| which >> n & 1 != 0).fold(0, |hits, n| {
            let (start, size) = self.breakpoint(n);
            hits | u32::from(start < at + len && at < start + size) << n
        })
    }

    /// Whether a data breakpoint lies on the page of `linear`.
    pub(super) fn has_data_breakpoint(&self, linear: u32) -> bool {
        self.armed.data != 0 && self.touched(self.armed.data, u64::from(linear & !0xfff), 0x1000) != 0
    }

    /// Whether an instruction breakpoint lies on the page of `linear`.
    pub(super) fn has_code_breakpoint(&self, linear: u64) -> bool {
        self.armed.code != 0 && self.touched(self.armed.code, linear & 0xffff_f000, 0x1000) != 0
    }

    /// Compares an access to memory with the breakpoints; a hit is reported after the instruction.
    #[inline]
    pub(super) fn note_access(&mut self, linear: u32, size: u32, write: bool) {
        if self.armed.data != 0 {
            let which = if write { self.armed.data } else { self.armed.reads };
            self.state.pending_debug |= self.touched(which, u64::from(linear), u64::from(size));
        }
    }

    /// Compares a port access with the breakpoints; a hit is reported after the instruction.
    #[inline]
    pub fn note_port(&mut self, port: u16, width: Width) {
        if self.armed.ports != 0 {
            self.state.pending_debug |= self.touched(self.armed.ports, u64::from(port), width.bytes());
        }
    }

    /// Whether blocks from here on must have one instruction.
    pub(super) fn single_for_debug(&self) -> bool {
        self.armed.data != 0
            || self.has_code_breakpoint(self.state.segment(SegReg::Cs).base.wrapping_add(self.state.rip))
    }

    /// The fault of an instruction breakpoint at the next instruction; true where there is one. RF is pushed as it is
    /// (17.3.1.1), which is clear.
    ///
    /// # Errors
    /// Where the processor shuts down.
    pub(super) fn take_code_breakpoint(&mut self, bus: &mut dyn crate::bus::Bus) -> Result<bool, TripleFault> {
        let linear = self.state.segment(SegReg::Cs).base.wrapping_add(self.state.rip) & 0xffff_ffff;
        let hits = self.touched(self.armed.code, linear, 1);
        if hits == 0 {
            return Ok(false);
        }
        self.state.dr[6] |= u64::from(hits);
        self.interrupt(bus, Event::trap(self, Vector::Debug))?;
        Ok(true)
    }

    /// The trap for what the last instruction did: single step, data and port breakpoints, the T bit of a new task. Held off
    /// behind MOV SS and POP SS. True where it was delivered.
    ///
    /// # Errors
    /// Where the processor shuts down.
    pub(super) fn take_debug_trap(&mut self, bus: &mut dyn crate::bus::Bus) -> Result<bool, TripleFault> {
        if self.state.pending_debug == 0 || self.state.debug_shadow {
            return Ok(false);
        }
        self.state.dr[6] |= u64::from(self.state.pending_debug);
        self.state.pending_debug = 0;
        self.interrupt(bus, Event::trap(self, Vector::Debug))?;
        // What the delivery itself touches is not reported again.
        self.state.pending_debug &= dr6::BT;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testbus::protected;

    #[test]
    fn a_breakpoint_covers_its_length_from_an_aligned_address() {
        let (mut cpu, _) = protected(16);
        cpu.state.dr[..4].copy_from_slice(&[0x1003, 0x2001, 0x3000, 0x4000]);
        // 0: write, 4 bytes; 1: read or write, 2 bytes; 2: execution; 3: port, 1 byte.
        cpu.state.dr[7] = 0xaa | 0xd << 16 | 0x7 << 20 | 0x2 << 28;
        cpu.rearm();
        assert_eq!(cpu.armed, Armed { code: 4, data: 3, reads: 2, ports: 0 });
        for (linear, size, write, hits) in [
            (0x0fff, 1, true, 0),
            (0x0fff, 2, true, 1),
            (0x1003, 1, true, 1),
            (0x1004, 4, true, 0),
            (0x1000, 4, false, 0),
            (0x2000, 1, false, 2),
            (0x1fff, 1, true, 0),
            (0x3000, 4, true, 0),
        ] {
            cpu.state.pending_debug = 0;
            cpu.note_access(linear, size, write);
            assert_eq!(cpu.state.pending_debug, hits, "{size} at {linear:#x}");
        }
        assert!(cpu.has_data_breakpoint(0x1ffc) && !cpu.has_data_breakpoint(0x3000));
        assert!(cpu.has_code_breakpoint(0x3abc) && !cpu.has_code_breakpoint(0x4000));
        cpu.note_port(0x4000, Width::Byte);
        assert_eq!(cpu.state.pending_debug, 0, "without CR4.DE there are no port breakpoints");
        cpu.state.cr[4] |= cr4::DE;
        cpu.rearm();
        cpu.note_port(0x3ffe, Width::Dword);
        assert_eq!(cpu.state.pending_debug, 8);
    }
}
