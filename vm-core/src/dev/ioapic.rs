//! 82093AA I/O APIC: 24 interrupt inputs, each with a message of its own to the processor.
//!
//! Intel 82093AA data sheet (290566). Registers of 32 bits in a page (0xFEC00000):
//!
//! | offset | what |
//! |---|---|
//! | 0x00 | index: selects a register |
//! | 0x10 | data: the register |
//!
//! | index | what |
//! |---|---|
//! | 0, 2 | ID, arbitration ID |
//! | 1 | version, and the number of the last input |
//! | 0x10–0x3F | redirection table: low and high half of each entry |
//!
//! The board's wires say "asserted", whatever the level on the copper; so the polarity bit of an entry is kept and changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::bus::irq::{IrqLines, IrqRoutes};
use crate::dev::Device;
use crate::dev::apic::{Delivery, Message};
use crate::snapshot::section::{LoadError, Section};

/// Inputs.
pub const INPUTS: usize = 24;
/// Bytes of its page.
pub const PAGE: u64 = 0x1000;

const IOREGSEL: u32 = 0x00;
const IOWIN: u32 = 0x10;

const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const REDIRECTION: u8 = 0x10;
const LAST_REDIRECTION: u8 = REDIRECTION + 2 * INPUTS as u8 - 1;

/// Version 0x11, the last input is 23.
const VERSION_VALUE: u32 = (INPUTS as u32 - 1) << 16 | 0x11;

/// Redirection entry.
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Bits that can be written; delivery status (12) is always idle, for a message is delivered at once.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IoApicState {
    id: u8,
    index: u8,
    redirection: [u64; INPUTS],
}

impl IoApicState {
    fn after_reset() -> Self {
        Self { id: 0, index: 0, redirection: [MASKED; INPUTS] }
    }
}

#[derive(Debug)]
struct IoApicWires {
    lines: Arc<IrqLines>,
    routes: IrqRoutes,
}

/// Its registers, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoApicView {
    /// APIC ID.
    pub id: u8,
    /// The register that the index selects.
    pub index: u8,
    /// Inputs that are asserted.
    pub asserted: u32,
    /// The redirection table.
    pub redirection: [u64; INPUTS],
}

/// The I/O APIC.
#[derive(Debug)]
pub struct IoApic {
    state: IoApicState,
    wires: IoApicWires,
}

impl IoApic {
    /// A controller fed by the lines of a board as `routes` wires them.
    pub fn new(lines: &Arc<IrqLines>, routes: &IrqRoutes) -> Self {
        let wires = IoApicWires { lines: Arc::clone(lines), routes: routes.clone() };
        Self { state: IoApicState::after_reset(), wires }
    }

    /// The registers now. Nothing changes by looking.
    pub fn view(&self) -> IoApicView {
        let IoApicState { id, index, redirection } = self.state;
        IoApicView { id, index, asserted: self.wires.routes.apic_inputs(self.wires.lines.level()), redirection }
    }

    /// Takes in the interrupt lines and sends what is due. `send` says whether somebody took the message.
    pub fn sync(&mut self, mut send: impl FnMut(Message) -> bool) {
        let rose = self.wires.routes.apic_inputs(self.wires.lines.take_rose_for_apic());
        let level = self.wires.routes.apic_inputs(self.wires.lines.level());
        let inputs = rose | level;
        for (input, entry) in self.state.redirection.iter_mut().enumerate() {
            // A masked input sees nothing, and remembers nothing.
            if inputs >> input & 1 == 0 || *entry & MASKED != 0 {
                continue;
            }
            if *entry & LEVEL == 0 {
                if rose >> input & 1 != 0 {
                    send(message(*entry));
                }
            } else if level >> input & 1 != 0 && *entry & REMOTE_IRR == 0 && send(message(*entry)) {
                *entry |= REMOTE_IRR;
            }
        }
    }

    /// A processor has ended the service of `vector`, which came by level. What is still asserted is sent again by the next
    /// [`IoApic::sync`].
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.state.redirection {
            if *entry & LEVEL != 0 && *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
            }
        }
    }

    /// Tells the lines which of them have an interrupt by edge that still waits at the processor, as `is_requested` says of a vector.
    pub fn publish_pending(&self, is_requested: impl Fn(u8) -> bool) {
        let waits = |entry: u64| entry & (MASKED | LEVEL) == 0 && is_requested(entry as u8);
        let inputs = self.state.redirection.iter().enumerate().filter(|(_, entry)| waits(**entry));
        let inputs = inputs.fold(0, |bits, (input, _)| bits | 1_u32 << input);
        self.wires.lines.set_apic_pending(self.wires.routes.lines_of_apic_inputs(inputs));
    }

    /// Reads at `offset` of the page: 32 bits at the two registers; there is nothing else.
    pub fn read(&self, offset: u32, width: Width) -> u64 {
        let register = match offset & 0xfc {
            IOREGSEL => u32::from(self.state.index),
            IOWIN => self.read_register(self.state.index),
            _ => 0,
        };
        u64::from(register) >> (8 * (offset & 3)) & width.mask()
    }

    fn read_register(&self, index: u8) -> u32 {
        match index {
            ID | ARBITRATION => u32::from(self.state.id) << 24,
            VERSION => VERSION_VALUE,
            REDIRECTION..=LAST_REDIRECTION => {
                let entry = self.state.redirection[usize::from(index - REDIRECTION) / 2];
                if index & 1 == 0 { entry as u32 } else { (entry >> 32) as u32 }
            }
            _ => 0,
        }
    }

    /// Writes at `offset` of the page. Call [`IoApic::sync`] before, so that edges meet the entries of their time, and after.
    pub fn write(&mut self, offset: u32, value: u32) {
        match offset & 0xff {
            IOREGSEL => self.state.index = value as u8,
            IOWIN => self.write_register(self.state.index, value),
            _ => {}
        }
    }

    fn write_register(&mut self, index: u8, value: u32) {
        match index {
            ID => self.state.id = (value >> 24) as u8 & 0xf,
            REDIRECTION..=LAST_REDIRECTION => {
                let entry = &mut self.state.redirection[usize::from(index - REDIRECTION) / 2];
                let written = if index & 1 == 0 {
                    *entry & !0xffff_ffff | u64::from(value)
                } else {
                    *entry & 0xffff_ffff | u64::from(value) << 32
                };
                // The remote IRR is one of level-triggered interrupts: as an edge the entry has none. Software without a register
                // for the end of interrupt clears it in this way.
                let kept = if written & LEVEL != 0 { *entry & REMOTE_IRR } else { 0 };
                *entry = written & WRITABLE | kept;
            }
            _ => {}
        }
    }
}

fn message(entry: u64) -> Message {
    Message {
        vector: entry as u8,
        delivery: Delivery::from_bits(entry as u32),
        level: entry & LEVEL != 0,
        destination: (entry >> 56) as u8,
        logical: entry & LOGICAL != 0,
    }
}

impl Device for IoApic {
    fn name(&self) -> &'static str {
        "ioapic"
    }

    fn reset(&mut self) {
        self.state = IoApicState::after_reset();
        self.wires.lines.take_rose_for_apic();
        self.wires.lines.set_apic_pending(0);
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: IoApicState = section.decode(self.name(), 1)?;
        if state.id > 0xf || state.redirection.iter().any(|entry| entry & !(WRITABLE | REMOTE_IRR) != 0) {
            return Err(LoadError::invalid(self.name(), "a register has bits that do not exist"));
        }
        self.state = state;
        // Edges from before are not of this state.
        self.wires.lines.take_rose_for_apic();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::irq::IrqLine;
    use crate::bus::signals::Signals;
    use crate::dev::suite;

    struct Bench {
        chip: IoApic,
        lines: Arc<IrqLines>,
        signals: Arc<Signals>,
    }

    impl Bench {
        fn new() -> Self {
            let (lines, signals) = (Arc::new(IrqLines::default()), Arc::new(Signals::new()));
            Self { chip: IoApic::new(&lines, &IrqRoutes::default()), lines, signals }
        }

        fn line(&self, number: u32) -> IrqLine {
            IrqLine::new(&self.lines, &self.signals, number)
        }

        fn register(&mut self, index: u32, value: u32) {
            self.chip.sync(|_| true);
            self.chip.write(IOREGSEL, index);
            self.chip.write(IOWIN, value);
        }

        fn look(&mut self, index: u32) -> u32 {
            self.chip.write(IOREGSEL, index);
            self.chip.read(IOWIN, Width::Dword) as u32
        }

        /// The vectors sent by a look at the lines.
        fn sent(&mut self) -> Vec<u8> {
            let mut sent = Vec::new();
            self.chip.sync(|message| {
                sent.push(message.vector);
                true
            });
            sent
        }
    }

    #[test]
    fn a_driver_finds_24_inputs() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(1), 0x17_0011);
        bench.register(0, 0x1f00_0000);
        assert_eq!((bench.look(0), bench.look(2)), (0x0f00_0000, 0x0f00_0000));
        assert_eq!((bench.look(0x10), bench.look(0x3f), bench.look(0x40)), (0x1_0000, 0, 0));
        bench.register(0x3e, u32::MAX);
        bench.register(0x3f, u32::MAX);
        assert_eq!((bench.look(0x3e), bench.look(0x3f)), (0x1_afff, 0xff00_0000));
        assert_eq!(bench.chip.read(0x11, Width::Byte), 0, "a part of a register");
    }

    #[test]
    fn edges_are_sent_once_and_masked_ones_are_lost() {
        let mut bench = Bench::new();
        let keyboard = bench.line(1);
        keyboard.set(true);
        bench.register(0x12, 0x31);
        assert_eq!(bench.sent(), [0_u8; 0], "it rose while the input was masked");
        keyboard.set(false);
        keyboard.set(true);
        assert_eq!(bench.sent(), [0x31]);
        assert_eq!(bench.sent(), [0_u8; 0]);
        bench.chip.publish_pending(|vector| vector == 0x31);
        assert!(keyboard.is_pending());
        bench.chip.publish_pending(|_| false);
        assert!(!keyboard.is_pending());
        // The timer of the PC/AT is on input 2.
        bench.register(0x10, 0x20);
        bench.register(0x14, 0x30);
        bench.line(0).set(true);
        assert_eq!(bench.sent(), [0x30]);
        bench.line(0).set(false);
        bench.line(0).set(true);
        bench.line(0).set(false);
        assert_eq!(bench.sent(), [0x30], "a pulse between two looks");
    }

    #[test]
    fn levels_are_sent_again_after_their_end() {
        let mut bench = Bench::new();
        let disk = bench.line(11);
        bench.register(0x26, 0x8051);
        disk.set(true);
        bench.chip.sync(|_| false);
        assert_eq!(bench.look(0x26), 0x8051, "nobody took it");
        assert_eq!(bench.sent(), [0x51]);
        assert_eq!(bench.look(0x26), 0xc051);
        assert_eq!(bench.sent(), [0_u8; 0], "it is being served");
        bench.chip.end_of_interrupt(0x51);
        assert_eq!(bench.sent(), [0x51]);
        disk.set(false);
        bench.chip.end_of_interrupt(0x50);
        assert_eq!(bench.look(0x26), 0xc051);
        bench.register(0x26, 0x1_0051);
        assert_eq!(bench.look(0x26), 0x1_0051, "as an edge it has no remote IRR");
        bench.register(0x26, 0x8051);
        assert_eq!(bench.sent(), [0_u8; 0]);
    }

    #[test]
    fn any_guest_and_any_file() {
        let make = || Bench::new().chip;
        suite::check(make, |chip| {
            chip.write(IOREGSEL, 0x12);
            chip.write(IOWIN, 0x31);
        });
        let bench = Bench::new();
        let lines: Vec<_> = (0..26).map(|number| bench.line(number)).collect();
        suite::hammer(bench.chip, 40_000, |chip, random, _| {
            let line = &lines[random.below(26) as usize];
            line.set(random.below(2) == 0);
            let accept = random.below(2) == 0;
            chip.sync(|_| accept);
            chip.write(IOREGSEL, random.below(0x44) as u32);
            chip.write([0, 0x10, 0x10, 0x20][random.below(4) as usize], random.next() as u32);
            chip.end_of_interrupt(random.next() as u8);
            chip.publish_pending(|vector| vector & 1 != 0);
            chip.read(random.below(0x1000) as u32, Width::Dword);
        });
    }
}
