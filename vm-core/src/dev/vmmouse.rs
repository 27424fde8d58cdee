//! VMware's port and the absolute pointer behind it.
//!
//! VMware's "backdoor" as open-vm-tools and Linux (`arch/x86/include/asm/vmware.h`, `drivers/input/mouse/vmmouse.c`) use it. A guest reads
//! port 0x5658 with IN EAX, DX and [`MAGIC`] in EAX; command and parameter are in CX and EBX, the answer comes in the registers.
//!
//! | command | what |
//! |---|---|
//! | 10 | the version of the port |
//! | 39 | takes up to six words of the pointer's queue |
//! | 40 | status (upper half) and how many words wait (lower half) |
//! | 41 | identifies the pointer, switches it off, asks for absolute or relative positions |
//! | 45 | the rates of the time-stamp counter and of the local APIC's timer |
//!
//! A report is four words: buttons, x, y, wheel. The port has no interrupt: for each report the board lets the PS/2 mouse send one
//! that says nothing, and the guest's driver then looks here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bus::PortRegisters;
use crate::dev::Device;
use crate::input::{AbsolutePointerEvent, PointerEvent};
use crate::snapshot::section::{LoadError, Section};

/// The port.
pub const PORT: u16 = 0x5658;
/// What EAX holds: `VMXh`.
pub const MAGIC: u32 = 0x564d_5868;

/// The version of the port, and the kind of product behind it (2: server).
const VERSION: u32 = 6;
const PRODUCT: u32 = 2;
/// What a command that is not there gives.
const UNKNOWN: u32 = u32::MAX;

/// Commands, in CX.
const GET_VERSION: u32 = 10;
const POINTER_DATA: u32 = 39;
const POINTER_STATUS: u32 = 40;
const POINTER_COMMAND: u32 = 41;
const GET_HERTZ: u32 = 45;

/// Parameters of [`POINTER_COMMAND`]: "REAE", off, "RABS", "RREL".
const READ_ID: u32 = 0x4541_4552;
const DISABLE: u32 = 0x0000_00f5;
const REQUEST_ABSOLUTE: u32 = 0x5342_4152;
const REQUEST_RELATIVE: u32 = 0x4c45_5252;

/// The pointer's identification: "JUB4".
const POINTER_ID: u32 = 0x3442_554a;

/// The status while it is off or after a driver's mistake.
const ERROR: u32 = 0xffff;

/// Bits of a report's first word.
const LEFT: u32 = 0x20;
const RIGHT: u32 = 0x10;
const MIDDLE: u32 = 0x08;
const RELATIVE: u32 = 0x1_0000;

/// Words of a report.
const REPORT: usize = 4;
/// Words that wait, at most; further motion joins the last report.
const MAX_WORDS: usize = 1024;
/// Words that one command can take.
const MAX_TAKEN: usize = 6;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VmMouseState {
    status: u16,
    absolute: bool,
    queue: VecDeque<u32>,
    /// The last word of the queue ends a report.
    whole: bool,
}

impl VmMouseState {
    fn after_reset() -> Self {
        Self { status: ERROR as u16, absolute: false, queue: VecDeque::new(), whole: false }
    }
}

/// The rates that a guest can ask for.
#[derive(Clone, Copy, Debug)]
struct VmMouseWires {
    tsc_hertz: u64,
    apic_hertz: u32,
}

/// The port with its pointer.
#[derive(Debug)]
pub struct VmMouse {
    state: VmMouseState,
    wires: VmMouseWires,
}

impl VmMouse {
    /// A port that tells guests these rates of the time-stamp counter and of the local APIC's timer.
    pub fn new(tsc_hertz: u64, apic_hertz: u32) -> Self {
        Self { state: VmMouseState::after_reset(), wires: VmMouseWires { tsc_hertz, apic_hertz } }
    }

    /// Whether the guest takes absolute positions.
    pub fn is_absolute(&self) -> bool {
        self.state.absolute
    }

    /// The pointer is somewhere. False: the guest does not take positions from here.
    pub fn place(&mut self, event: AbsolutePointerEvent) -> bool {
        self.state.absolute && {
            self.report([buttons(event.buttons), event.x.into(), event.y.into(), event.wheel as u32]);
            true
        }
    }

    /// The pointer moved by so much. False: the guest does not take motion from here.
    pub fn motion(&mut self, event: PointerEvent) -> bool {
        self.state.absolute && {
            let up = event.dy.saturating_neg();
            self.report([buttons(event.buttons) | RELATIVE, event.dx as u32, up as u32, event.wheel as u32]);
            true
        }
    }

    /// Puts a report into the queue. Where the last one says the same of the buttons, it is joined with that; a click is not lost
    /// before the queue is full.
    fn report(&mut self, report: [u32; REPORT]) {
        let queue = &mut self.state.queue;
        let full = queue.len() + REPORT > MAX_WORDS;
        let len = queue.len();
        if self.state.whole && len >= REPORT && (full || queue[len - REPORT] == report[0]) {
            let relative = report[0] & queue[len - REPORT] & RELATIVE != 0;
            let join = |old: u32, new: u32| (old as i32).saturating_add(new as i32) as u32;
            let before: [u32; REPORT] = std::array::from_fn(|n| queue[len - REPORT + n]);
            queue.truncate(len - REPORT);
            let [x, y] = if relative { [1, 2].map(|n| join(before[n], report[n])) } else { [report[1], report[2]] };
            queue.extend([report[0], x, y, join(before[3], report[3])]);
        } else if !full {
            queue.extend(report);
            self.state.whole = true;
        }
    }

    /// IN EAX, DX at [`PORT`]. False: the magic number is not there, and it is a port where nothing is.
    pub fn call(&mut self, registers: &mut PortRegisters) -> bool {
        if registers.eax != MAGIC {
            return false;
        }
        match registers.ecx & 0xffff {
            GET_VERSION => {
                (registers.eax, registers.ebx, registers.ecx) = (VERSION, MAGIC, PRODUCT);
            }
            GET_HERTZ => {
                let hertz = self.wires.tsc_hertz;
                (registers.eax, registers.ebx) = (hertz as u32, (hertz >> 32) as u32);
                registers.ecx = self.wires.apic_hertz;
            }
            POINTER_DATA => self.take(registers),
            POINTER_STATUS => {
                registers.eax = u32::from(self.state.status) << 16 | self.state.queue.len() as u32;
            }
            POINTER_COMMAND => {
                registers.eax = self.command(registers.ebx);
            }
            other => {
                tracing::debug!(command = other, "the guest gave VMware's port a command that is not there");
                registers.eax = UNKNOWN;
            }
        }
        true
    }

    fn command(&mut self, parameter: u32) -> u32 {
        match parameter {
            READ_ID => {
                self.state.queue.clear();
                self.state.queue.push_back(POINTER_ID);
                self.state.whole = false;
                self.state.status = 0;
            }
            DISABLE => self.state = VmMouseState::after_reset(),
            REQUEST_ABSOLUTE => self.state.absolute = self.state.status == 0,
            // Relative motion is the PS/2 mouse's.
            REQUEST_RELATIVE => self.state.absolute = false,
            _ => return UNKNOWN,
        }
        0
    }

    /// Takes as many words as EBX says. Where fewer wait the driver has lost its place: only switching it on again helps.
    fn take(&mut self, registers: &mut PortRegisters) {
        let count = registers.ebx as usize;
        if count == 0 || count > MAX_TAKEN || count > self.state.queue.len() {
            self.state.status = ERROR as u16;
            registers.eax = UNKNOWN;
            return;
        }
        let [a, b, c, d, s, t] = std::array::from_fn(|n| if n < count { self.state.queue.pop_front() } else { None });
        let PortRegisters { eax, ebx, ecx, edx, esi, edi } = registers;
        for (register, word) in [(eax, a), (ebx, b), (ecx, c), (edx, d), (esi, s), (edi, t)] {
            if let Some(word) = word {
                *register = word;
            }
        }
        self.state.whole &= self.state.queue.len() >= REPORT;
    }
}

/// Buttons as a report has them.
fn buttons(buttons: u8) -> u32 {
    [LEFT, RIGHT, MIDDLE].into_iter().enumerate().map(|(n, bit)| if buttons >> n & 1 != 0 { bit } else { 0 }).sum()
}

impl Device for VmMouse {
    fn name(&self) -> &'static str {
        "vmmouse"
    }

    fn reset(&mut self) {
        self.state = VmMouseState::after_reset();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: VmMouseState = section.decode(self.name(), 1)?;
        if state.queue.len() > MAX_WORDS || state.whole && state.queue.len() < REPORT {
            return Err(LoadError::invalid(self.name(), "its queue has a length that it cannot have"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::suite;

    fn port() -> VmMouse {
        VmMouse::new(1_000_000_000, 100_000_000)
    }

    fn call(port: &mut VmMouse, command: u32, parameter: u32) -> PortRegisters {
        let mut registers = PortRegisters { eax: MAGIC, ebx: parameter, ecx: command, ..Default::default() };
        assert!(port.call(&mut registers));
        registers
    }

    fn switch_on(port: &mut VmMouse) {
        assert_eq!(call(port, POINTER_COMMAND, READ_ID).eax, 0);
        assert_eq!(call(port, POINTER_STATUS, 0).eax, 1);
        assert_eq!(call(port, POINTER_DATA, 1).eax, POINTER_ID);
        assert_eq!(call(port, POINTER_COMMAND, REQUEST_ABSOLUTE).eax, 0);
    }

    fn take(port: &mut VmMouse) -> [u32; 4] {
        let PortRegisters { eax, ebx, ecx, edx, .. } = call(port, POINTER_DATA, 4);
        [eax, ebx, ecx, edx]
    }

    #[test]
    fn a_driver_finds_it_as_linux_does() {
        let mut port = port();
        let version = call(&mut port, GET_VERSION, !MAGIC);
        assert_eq!((version.eax, version.ebx), (6, MAGIC));
        let rates = call(&mut port, GET_HERTZ, 0);
        assert_eq!((rates.eax, rates.ebx, rates.ecx), (1_000_000_000, 0, 100_000_000));
        assert_eq!(call(&mut port, POINTER_STATUS, 0).eax, 0xffff_0000);
        call(&mut port, POINTER_COMMAND, REQUEST_ABSOLUTE);
        assert!(!port.is_absolute(), "it has not been switched on");
        switch_on(&mut port);
        assert!(port.is_absolute());
        assert_eq!(call(&mut port, 91, 0).eax, u32::MAX);
        call(&mut port, POINTER_COMMAND, DISABLE);
        assert!(!port.is_absolute());
        let mut registers = PortRegisters { eax: 1, ..Default::default() };
        assert!(!port.call(&mut registers));
    }

    #[test]
    fn motion_is_joined_and_clicks_are_kept() {
        let mut port = port();
        let at = |x, y, buttons| AbsolutePointerEvent { x, y, wheel: 0, buttons };
        assert!(!port.place(at(1, 1, 0)), "nobody asked for positions");
        switch_on(&mut port);
        for x in 0..100 {
            assert!(port.place(at(x, 7, 0)));
        }
        port.place(at(99, 7, 1));
        port.place(AbsolutePointerEvent { wheel: -1, ..at(99, 8, 1) });
        port.place(AbsolutePointerEvent { wheel: -2, ..at(99, 9, 1) });
        port.place(at(99, 9, 6));
        assert_eq!(call(&mut port, POINTER_STATUS, 0).eax, 12);
        assert_eq!(take(&mut port), [0, 99, 7, 0]);
        // A report of which a part was taken is left alone.
        assert_eq!(call(&mut port, POINTER_DATA, 1).eax, LEFT);
        let rest = call(&mut port, POINTER_DATA, 3);
        assert_eq!([rest.eax, rest.ebx, rest.ecx], [99, 9, -3_i32 as u32]);
        assert_eq!(take(&mut port), [RIGHT | MIDDLE, 99, 9, 0]);
        assert!(port.motion(PointerEvent { dx: 3, dy: 4, ..Default::default() }));
        port.motion(PointerEvent { dx: -1, dy: 1, ..Default::default() });
        assert_eq!(take(&mut port), [RELATIVE, 2, -5_i32 as u32, 0]);
        for n in 0..1000_u16 {
            port.place(at(n, n, n as u8 & 1));
        }
        assert_eq!(call(&mut port, POINTER_STATUS, 0).eax, 1024);
        assert_eq!(call(&mut port, POINTER_DATA, 7).eax, u32::MAX);
        assert_eq!(call(&mut port, POINTER_STATUS, 0).eax >> 16, 0xffff, "the driver has to begin anew");
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(port, |port| {
            switch_on(port);
            port.place(AbsolutePointerEvent { x: 1, y: 2, wheel: 3, buttons: 4 });
        });
        suite::hammer(port(), 20_000, |port, random, _| {
            let below = |random: &mut suite::Random, limit| random.below(limit) as u32;
            match random.below(3) {
                0 => {
                    let parameter = [READ_ID, DISABLE, REQUEST_ABSOLUTE, REQUEST_RELATIVE, below(random, 9)];
                    let command = [10, 39, 39, 40, 41, 41, 41, 45, below(random, 0x1_0000)];
                    call(port, command[random.below(9) as usize], parameter[random.below(5) as usize]);
                }
                1 => {
                    let (x, y, wheel) = (random.next() as u16, random.next() as u16, random.next() as i32);
                    port.place(AbsolutePointerEvent { x, y, wheel, buttons: random.next() as u8 });
                }
                _ => {
                    let [dx, dy, wheel] = [(); 3].map(|()| random.next() as i32);
                    port.motion(PointerEvent { dx, dy, wheel, buttons: random.next() as u8 });
                }
            }
            assert!(port.state.queue.len() <= MAX_WORDS);
        });
    }
}
