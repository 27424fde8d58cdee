//! The local APIC: the interrupt controller inside the processor.
//!
//! Intel SDM vol. 3A, chapter 10 ("Advanced Programmable Interrupt Controller"). Registers are 32 bits wide, one every 16 bytes of a page
//! (0xFEE00000, until `IA32_APIC_BASE` moves it).
//!
//! | offset | what |
//! |---|---|
//! | 0x020, 0x030 | ID, version |
//! | 0x080, 0x0A0 | task and processor priority |
//! | 0x0B0 | end of interrupt |
//! | 0x0D0, 0x0E0 | logical destination, destination format |
//! | 0x0F0 | spurious interrupt vector, software enable |
//! | 0x100, 0x180, 0x200 | in service, trigger mode, requests: eight registers each |
//! | 0x280 | error status |
//! | 0x300, 0x310 | interrupt command |
//! | 0x320–0x370 | local vector table |
//! | 0x380, 0x390, 0x3E0 | timer: initial count, current count, divider |
//!
//! The 8259s' INTR is its LINT0 pin. After a reset that is `ExtINT` and open, as it is on this board before firmware says so itself: code
//! that knows nothing of APICs then finds a PC/AT. An interrupt of the kind `ExtINT` is acknowledged at the 8259s, not here.

mod bits;
mod timer;
mod view;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::bus::clock::{Clock, Nanos};
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};
use bits::Bits;
use timer::Timer;

pub use timer::HERTZ;
pub use view::LocalApicView;

/// Bytes of its page.
pub const PAGE: u64 = 0x1000;

/// How an interrupt message or pin is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Raises the vector.
    Fixed,
    /// The same, at the processor that does the least important work.
    LowestPriority,
    /// SMI#.
    Smi,
    /// NMI.
    Nmi,
    /// Starts the processor anew.
    Init,
    /// Tells a processor that waits after INIT where to begin.
    StartUp,
    /// The 8259s have the vector.
    ExtInt,
    /// No kind at all.
    Reserved,
}

impl Delivery {
    /// From bits 8–10 of a command, table entry or redirection entry.
    pub fn from_bits(register: u32) -> Self {
        match register >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// What travels between APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The vector.
    pub vector: u8,
    /// How to deliver it.
    pub delivery: Delivery,
    /// It is triggered by level: its end is told to the I/O APICs.
    pub level: bool,
    /// The ID of an APIC, or with `logical` a set of them.
    pub destination: u8,
    /// `destination` is compared with the logical destination register.
    pub logical: bool,
}

/// Entries of the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Timer = 0,
    Thermal = 1,
    Performance = 2,
    Lint0 = 3,
    Lint1 = 4,
    Error = 5,
}

impl Entry {
    const ALL: [Self; 6] = [Self::Timer, Self::Thermal, Self::Performance, Self::Lint0, Self::Lint1, Self::Error];

    /// Its register.
    fn offset(self) -> u32 {
        0x320 + 0x10 * self as u32
    }

    /// Its usual short name.
    fn name(self) -> &'static str {
        match self {
            Self::Timer => "LVTT",
            Self::Thermal => "LVTTHMR",
            Self::Performance => "LVTPC",
            Self::Lint0 => "LVT0",
            Self::Lint1 => "LVT1",
            Self::Error => "LVTERR",
        }
    }

    /// Bits of the entry that can be written.
    fn writable(self) -> u32 {
        match self {
            Self::Timer => 0x3_00ff,
            Self::Thermal | Self::Performance => 0x1_07ff,
            Self::Lint0 | Self::Lint1 => 0x1_a7ff,
            Self::Error => 0x1_00ff,
        }
    }
}

/// Table entry: nothing is delivered.
const MASKED: u32 = 1 << 16;
/// Entry of a pin: triggered by level.
const LEVEL: u32 = 1 << 15;
/// Entry of a pin: an interrupt by level is being served.
const REMOTE_IRR: u32 = 1 << 14;
/// The entry of LINT0 after a reset: `ExtINT`.
const LINT0_RESET: u32 = 0x700;

/// Spurious vector register: the APIC is on.
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// Error status bits.
const SEND_ACCEPT: u32 = 1 << 2;
const SEND_ILLEGAL: u32 = 1 << 5;
const RECEIVE_ILLEGAL: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;

/// Interrupt command: level bit, shorthand.
const ICR_WRITABLE: u32 = 0xc_cfff;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_LEVEL: u32 = 1 << 15;
const ICR_LOGICAL: u32 = 1 << 11;

/// The lowest vector that an APIC takes.
const FIRST_VECTOR: u8 = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ApicState {
    id: u8,
    task_priority: u8,
    logical_destination: u8,
    destination_format: u32,
    spurious: u32,
    in_service: Bits,
    trigger_mode: Bits,
    requests: Bits,
    errors: u32,
    /// What the error status shows: the errors as of the last write to it.
    shown_errors: u32,
    command: [u32; 2],
    /// The local vector table.
    table: [u32; 6],
    timer: Timer,
    /// The level of the LINT0 pin.
    lint0: bool,
}

impl ApicState {
    fn after_reset() -> Self {
        let mut table = [MASKED; 6];
        table[Entry::Lint0 as usize] = LINT0_RESET;
        Self {
            id: 0,
            task_priority: 0,
            logical_destination: 0,
            destination_format: u32::MAX,
            spurious: 0xff,
            in_service: Bits::default(),
            trigger_mode: Bits::default(),
            requests: Bits::default(),
            errors: 0,
            shown_errors: 0,
            command: [0; 2],
            table,
            timer: Timer::default(),
            lint0: false,
        }
    }
}

/// Which processor it sits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The P6 family: IDs of four bits, five table entries.
    P6,
    /// xAPIC, from the Pentium 4 and the Pentium M on: IDs of eight bits, an entry for the thermal sensor.
    X,
}

#[derive(Debug)]
struct ApicWires {
    generation: Generation,
    clock: Clock,
    signals: Arc<Signals>,
}

/// The APIC of the one processor.
#[derive(Debug)]
pub struct LocalApic {
    state: ApicState,
    wires: ApicWires,
}

impl LocalApic {
    /// An APIC that pulls NMI and SMI# of `signals` where a message or a pin says so.
    pub fn new(generation: Generation, clock: Clock, signals: &Arc<Signals>) -> Self {
        let wires = ApicWires { generation, clock, signals: Arc::clone(signals) };
        Self { state: ApicState::after_reset(), wires }
    }

    fn entry(&self, entry: Entry) -> u32 {
        self.state.table[entry as usize]
    }

    fn enabled(&self) -> bool {
        self.state.spurious & SOFTWARE_ENABLE != 0
    }

    /// The processor's priority: that of the task or of what is in service, whichever is higher (10.8.3.1).
    fn processor_priority(&self) -> u8 {
        let serving = self.state.in_service.highest().unwrap_or(0);
        if self.state.task_priority & 0xf0 >= serving & 0xf0 { self.state.task_priority } else { serving & 0xf0 }
    }

    /// The vector that the processor should be interrupted with.
    fn deliverable(&self) -> Option<u8> {
        self.state.requests.highest().filter(|vector| vector & 0xf0 > self.processor_priority() & 0xf0)
    }

    /// Whether the processor should be interrupted with a vector of ours.
    pub fn intr(&self) -> bool {
        self.deliverable().is_some()
    }

    /// Whether INTR of the 8259s goes straight to the processor.
    pub fn passes_ext_int(&self) -> bool {
        let entry = self.entry(Entry::Lint0);
        entry & MASKED == 0 && Delivery::from_bits(entry) == Delivery::ExtInt
    }

    /// The interrupt-acknowledge cycle: the vector, or where the request is gone the spurious one.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.deliverable() else { return self.state.spurious as u8 };
        self.state.requests.clear(vector);
        self.state.in_service.set(vector);
        vector
    }

    /// Whether an interrupt with this vector waits to be acknowledged.
    pub fn is_requested(&self, vector: u8) -> bool {
        self.state.requests.has(vector)
    }

    /// Takes an interrupt in.
    fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.enabled() {
            return false;
        }
        if vector < FIRST_VECTOR {
            self.note_error(RECEIVE_ILLEGAL);
            return false;
        }
        self.state.requests.set(vector);
        if level {
            self.state.trigger_mode.set(vector);
        } else {
            self.state.trigger_mode.clear(vector);
        }
        true
    }

    /// A message from an I/O APIC or from ourselves; false: it is not for us, or cannot be taken.
    pub fn receive(&mut self, message: Message) -> bool {
        self.is_destination(message) && self.deliver(message.delivery, message.vector, message.level)
    }

    fn deliver(&mut self, delivery: Delivery, vector: u8, level: bool) -> bool {
        match delivery {
            Delivery::Fixed | Delivery::LowestPriority => return self.accept(vector, level),
            Delivery::Smi => self.wires.signals.request_smi(),
            Delivery::Nmi => self.wires.signals.request_nmi(),
            Delivery::Init => self.wires.signals.request_init(),
            // The processor runs already.
            Delivery::StartUp => {}
            // Nothing on this board asks the 8259s by way of a message.
            Delivery::ExtInt | Delivery::Reserved => return false,
        }
        true
    }

    /// 10.6.2: whether a message is for this APIC.
    fn is_destination(&self, message: Message) -> bool {
        let to = message.destination;
        if !message.logical {
            return match self.wires.generation {
                Generation::P6 => to & 0xf == self.state.id || to & 0xf == 0xf,
                Generation::X => to == self.state.id || to == 0xff,
            };
        }
        let own = self.state.logical_destination;
        match self.state.destination_format >> 28 {
            0xf => to & own != 0,
            // A cluster and members of it.
            0 => (to >> 4 == own >> 4 || to >> 4 == 0xf) && to & own & 0xf != 0,
            _ => false,
        }
    }

    /// Drives the LINT0 pin (INTR of the 8259s), where it is no `ExtINT`.
    pub fn set_lint0(&mut self, high: bool) {
        let rises = high && !self.state.lint0;
        self.state.lint0 = high;
        let entry = self.entry(Entry::Lint0);
        if entry & MASKED != 0 {
            return;
        }
        match Delivery::from_bits(entry) {
            Delivery::Fixed if entry & LEVEL != 0 => {
                let due = high && entry & REMOTE_IRR == 0;
                if due && self.accept(entry as u8, true) {
                    self.state.table[Entry::Lint0 as usize] |= REMOTE_IRR;
                }
            }
            delivery if rises && delivery != Delivery::ExtInt => _ = self.deliver(delivery, entry as u8, false),
            _ => {}
        }
    }

    fn note_error(&mut self, error: u32) {
        self.state.errors |= error;
        let entry = self.entry(Entry::Error);
        let vector = entry as u8;
        if entry & MASKED == 0 && self.enabled() && vector >= FIRST_VECTOR {
            self.state.requests.set(vector);
            self.state.trigger_mode.clear(vector);
        }
    }

    /// Reads at `offset` of the page. Whatever the width, it is a part of the register there.
    pub fn read(&mut self, offset: u32, width: Width) -> u64 {
        self.pass_timer(self.wires.clock.now());
        let register = u64::from(self.read_register(offset & 0xff0));
        // The twelve bytes behind a register are nothing.
        register >> (8 * (offset & 3)) & width.mask() & if offset & 0xc == 0 { u64::MAX } else { 0 }
    }

    fn read_register(&mut self, offset: u32) -> u32 {
        let now = self.wires.clock.now();
        let entry = Entry::ALL.into_iter().find(|&entry| offset == entry.offset() && self.has_entry(entry));
        let state = &self.state;
        let word = (offset >> 4 & 7) as usize;
        match offset {
            0x020 => u32::from(state.id) << 24,
            0x030 => match self.wires.generation {
                Generation::P6 => 0x0004_0011,
                Generation::X => 0x0005_0014,
            },
            0x080 => u32::from(state.task_priority),
            // Arbitration takes place on no bus here.
            0x090 => u32::from(self.processor_priority()),
            0x0a0 => u32::from(self.processor_priority()),
            0x0b0 | 0x0c0 => 0,
            0x0d0 => u32::from(state.logical_destination) << 24,
            0x0e0 => state.destination_format,
            0x0f0 => state.spurious,
            0x100..=0x170 => state.in_service.word(word),
            0x180..=0x1f0 => state.trigger_mode.word(word),
            0x200..=0x270 => state.requests.word(word),
            0x280 => state.shown_errors,
            0x300 => state.command[0],
            0x310 => state.command[1],
            0x320..=0x370 => match entry {
                Some(entry) => self.entry(entry),
                None => self.illegal_register(),
            },
            0x380 => state.timer.initial(),
            0x390 => state.timer.current(now),
            0x3e0 => state.timer.divider(),
            _ => self.illegal_register(),
        }
    }

    fn illegal_register(&mut self) -> u32 {
        self.note_error(ILLEGAL_REGISTER);
        0
    }

    fn has_entry(&self, entry: Entry) -> bool {
        entry != Entry::Thermal || self.wires.generation == Generation::X
    }

    /// Writes at `offset` of the page: 32 bits at a time; other widths are not defined and do nothing. A vector: an interrupt by level
    /// has ended, which the I/O APICs want to know.
    pub fn write(&mut self, offset: u32, width: Width, value: u32) -> Option<u8> {
        let now = self.wires.clock.now();
        self.pass_timer(now);
        if width != Width::Dword || offset & 0xf != 0 {
            return None;
        }
        let entry = Entry::ALL.into_iter().find(|&entry| offset == entry.offset() && self.has_entry(entry));
        let state = &mut self.state;
        match offset {
            0x020 => {
                let bits = if self.wires.generation == Generation::P6 { 0xf } else { 0xff };
                state.id = (value >> 24) as u8 & bits;
            }
            0x080 => state.task_priority = value as u8,
            0x0b0 => return self.end_of_interrupt(),
            0x0d0 => state.logical_destination = (value >> 24) as u8,
            0x0e0 => state.destination_format = value | 0x0fff_ffff,
            0x0f0 => self.write_spurious(value),
            0x280 => {
                state.shown_errors = std::mem::take(&mut state.errors);
            }
            0x300 => self.send(value),
            0x310 => state.command[1] = value & 0xff00_0000,
            0x320..=0x370 => match entry {
                Some(entry) => self.write_entry(entry, value, now),
                None => self.note_error(ILLEGAL_REGISTER),
            },
            0x380 => state.timer.start(value, now),
            0x3e0 => state.timer.set_divider(value, now),
            // Read-only.
            0x030 | 0x090 | 0x0a0 | 0x0c0 | 0x100..=0x270 | 0x390 => {}
            _ => self.note_error(ILLEGAL_REGISTER),
        }
        None
    }

    fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.state.in_service.highest()?;
        self.state.in_service.clear(vector);
        if !self.state.trigger_mode.has(vector) {
            return None;
        }
        let pin = &mut self.state.table[Entry::Lint0 as usize];
        if *pin as u8 == vector {
            *pin &= !REMOTE_IRR;
        }
        Some(vector)
    }

    fn write_spurious(&mut self, value: u32) {
        // The P6 family has ones in the low four bits of the vector.
        let ones = if self.wires.generation == Generation::P6 { 0xf } else { 0 };
        self.state.spurious = value & 0x3ff | ones;
        if !self.enabled() {
            // 10.4.7.2: switched off, every entry is masked.
            self.state.table.iter_mut().for_each(|entry| *entry |= MASKED);
            self.state.timer.forget_late();
        }
    }

    fn write_entry(&mut self, entry: Entry, value: u32, now: Nanos) {
        let off = if self.enabled() { 0 } else { MASKED };
        let place = &mut self.state.table[entry as usize];
        let kept = *place & REMOTE_IRR & if value & LEVEL != 0 { u32::MAX } else { 0 };
        *place = value & entry.writable() | kept | off;
        let new = *place;
        if entry == Entry::Timer {
            self.state.timer.set_periodic(new >> 17 & 1 != 0, now);
            if new & MASKED != 0 {
                self.state.timer.forget_late();
            }
        }
    }

    /// The interrupt command (10.6.1).
    fn send(&mut self, command: u32) {
        self.state.command[0] = command & ICR_WRITABLE;
        let [low, high] = self.state.command;
        let (delivery, vector) = (Delivery::from_bits(low), low as u8);
        let fixed = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        if fixed && vector < FIRST_VECTOR {
            self.note_error(SEND_ILLEGAL);
            return;
        }
        if delivery == Delivery::Init && low & ICR_LEVEL != 0 && low & ICR_ASSERT == 0 {
            // The de-assert message sets arbitration IDs, of which there is one.
            return;
        }
        let destination = (high >> 24) as u8;
        let logical = low & ICR_LOGICAL != 0;
        let message = Message { vector, delivery, level: false, destination, logical };
        let taken = match low >> 18 & 3 {
            0 => self.receive(message),
            // Only fixed interrupts can be sent to oneself by shorthand.
            1 => fixed && self.deliver(delivery, vector, false),
            2 => self.deliver(delivery, vector, false),
            // All but ourselves: nobody.
            _ => false,
        };
        if !taken && self.wires.generation == Generation::P6 {
            // On the APIC bus a message must be taken by somebody.
            self.note_error(SEND_ACCEPT);
        }
    }

    /// Takes in what the timer has done up to `now`.
    fn pass_timer(&mut self, now: Nanos) {
        let entry = self.entry(Entry::Timer);
        let vector = entry as u8;
        let waiting = self.state.requests.has(vector);
        let ticked = self.state.timer.pass(now, waiting);
        if ticked && entry & MASKED == 0 {
            self.accept(vector, false);
        } else if entry & MASKED != 0 {
            self.state.timer.forget_late();
        }
    }

    /// INIT#: as after a reset, but the ID stays (10.4.7.3).
    pub fn init(&mut self) {
        self.state = ApicState { id: self.state.id, lint0: self.state.lint0, ..ApicState::after_reset() };
    }

    /// Ticks of the timer that came late, in all, and those given up.
    pub fn late_ticks(&self) -> (u64, u64) {
        self.state.timer.late_and_lost()
    }
}

impl Device for LocalApic {
    fn name(&self) -> &'static str {
        "apic"
    }

    fn reset(&mut self) {
        self.state = ApicState::after_reset();
    }

    fn next_event(&self) -> Option<Nanos> {
        let unmasked = self.entry(Entry::Timer) & MASKED == 0;
        if unmasked { self.state.timer.next_event() } else { None }
    }

    fn advance(&mut self, now: Nanos) {
        self.pass_timer(now);
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: ApicState = section.decode(self.name(), 1)?;
        let entries = Entry::ALL.into_iter().zip(state.table);
        let possible = entries.map(|(entry, value)| value & !(entry.writable() | REMOTE_IRR)).all(|extra| extra == 0)
            && state.spurious <= 0x3ff
            && state.command[0] & !ICR_WRITABLE == 0
            && state.timer.is_possible();
        if !possible {
            return Err(LoadError::invalid(self.name(), "a register has bits that do not exist"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
