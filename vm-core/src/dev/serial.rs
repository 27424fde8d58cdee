//! 16550A UART.
//!
//! National Semiconductor PC16550D data sheet. On a PC, OUT 2 opens the way to the interrupt line.
//!
//! | offset | read | write | with DLAB |
//! |---|---|---|---|
//! | 0 | receiver buffer | transmitter holding | divisor, low |
//! | 1 | interrupt enable | interrupt enable | divisor, high |
//! | 2 | interrupt identification | FIFO control | |
//! | 3 | line control | line control | |
//! | 4 | modem control | modem control | |
//! | 5 | line status | | |
//! | 6 | modem status | | |
//! | 7 | scratch | scratch | |

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Clock, Nanos, SECOND};
use crate::bus::irq::IrqLine;
use crate::chardev::CharBackend;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// Interrupt enable.
const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTER: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;
const IER_BITS: u8 = 0x0f;

/// Interrupt identification.
const IIR_NONE: u8 = 0x01;
const IIR_MODEM: u8 = 0x00;
const IIR_TRANSMITTER: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFOS: u8 = 0xc0;

/// FIFO control.
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;
const FCR_CLEAR_TRANSMITTER: u8 = 1 << 2;

/// Line control: the divisor is at offsets 0 and 1.
const LCR_DLAB: u8 = 1 << 7;

/// Modem control.
const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT_1: u8 = 1 << 2;
const MCR_OUT_2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const MCR_BITS: u8 = 0x1f;

/// Line status.
const LSR_DATA: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_HOLDING_EMPTY: u8 = 1 << 5;
const LSR_EMPTY: u8 = 1 << 6;

/// Modem status: lines, and in the low four bits which of them changed.
const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;
/// The host's end is always ready.
const MSR_CONNECTED: u8 = MSR_CTS | MSR_DSR | MSR_DCD;

/// Bytes in each FIFO.
const FIFO: usize = 16;
/// How soon a host end that takes nothing is asked again.
const RETRY: Nanos = 1_000_000;

/// How fast bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as both ends can.
    Host,
    /// At the rate that the guest sets.
    Baud,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SerialState {
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    /// Line status: the error bits only.
    errors: u8,
    modem_status: u8,
    scratch: u8,
    divisor: u16,
    receiver: VecDeque<u8>,
    transmitter: VecDeque<u8>,
    /// The transmitter ran empty and the guest has not been told.
    tell_empty: bool,
    /// When something last went into or out of the receiver's FIFO.
    receiver_moved: Nanos,
    /// When the next byte may leave, and arrive.
    transmit_at: Nanos,
    receive_at: Nanos,
}

impl SerialState {
    fn after_reset() -> Self {
        Self {
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: 0,
            errors: 0,
            modem_status: MSR_CONNECTED,
            scratch: 0,
            divisor: 12,
            receiver: VecDeque::new(),
            transmitter: VecDeque::new(),
            tell_empty: false,
            receiver_moved: 0,
            transmit_at: 0,
            receive_at: 0,
        }
    }

    fn has_fifos(&self) -> bool {
        self.fifo_control & FCR_ENABLE != 0
    }

    fn depth(&self) -> usize {
        if self.has_fifos() { FIFO } else { 1 }
    }

    /// Bytes in the receiver at which it interrupts.
    fn trigger(&self) -> usize {
        if self.has_fifos() { [1, 4, 8, 14][usize::from(self.fifo_control >> 6)] } else { 1 }
    }

    /// How long a character takes on the line.
    fn character_time(&self) -> Nanos {
        let data = 5 + u64::from(self.line_control & 3);
        let parity = u64::from(self.line_control >> 3 & 1);
        let stop = 1 + u64::from(self.line_control >> 2 & 1);
        (1 + data + parity + stop) * u64::from(self.divisor.max(1)) * SECOND / 115_200
    }

    fn timeout_at(&self) -> Nanos {
        self.receiver_moved.saturating_add(4 * self.character_time())
    }

    fn is_looped(&self) -> bool {
        self.modem_control & MCR_LOOP != 0
    }
}

struct SerialWires {
    irq: IrqLine,
    clock: Clock,
    backend: Box<dyn CharBackend>,
    pace: Pace,
}

/// One UART.
pub struct Serial {
    name: &'static str,
    state: SerialState,
    wires: SerialWires,
}

impl Serial {
    /// A UART that drives `irq` and speaks with `backend`. `name` is that of its section in a saved state.
    pub fn new(name: &'static str, irq: IrqLine, clock: Clock, backend: Box<dyn CharBackend>, pace: Pace) -> Self {
        Self { name, state: SerialState::after_reset(), wires: SerialWires { irq, clock, backend, pace } }
    }

    /// Reads the register at `offset` (0–7).
    pub fn read(&mut self, offset: u16) -> u8 {
        let dlab = self.state.line_control & LCR_DLAB != 0;
        self.pump(self.wires.clock.now());
        let value = match offset & 7 {
            0 if dlab => self.state.divisor as u8,
            1 if dlab => (self.state.divisor >> 8) as u8,
            0 => self.read_receiver(),
            1 => self.state.interrupt_enable,
            2 => self.read_identification(),
            3 => self.state.line_control,
            4 => self.state.modem_control,
            5 => self.read_line_status(),
            6 => self.read_modem_status(),
            _ => self.state.scratch,
        };
        self.drive();
        value
    }

    /// Writes the register at `offset` (0–7).
    pub fn write(&mut self, offset: u16, value: u8) {
        let dlab = self.state.line_control & LCR_DLAB != 0;
        match offset & 7 {
            0 if dlab => self.state.divisor = self.state.divisor & 0xff00 | u16::from(value),
            1 if dlab => self.state.divisor = self.state.divisor & 0x00ff | u16::from(value) << 8,
            0 => self.write_transmitter(value),
            1 => self.write_enable(value),
            2 => self.write_fifo_control(value),
            3 => self.state.line_control = value,
            4 => self.write_modem_control(value),
            7 => self.state.scratch = value,
            // Line and modem status are read-only.
            _ => {}
        }
        self.pump(self.wires.clock.now());
    }

    fn read_receiver(&mut self) -> u8 {
        let now = self.wires.clock.now();
        let byte = self.state.receiver.pop_front();
        self.state.receiver_moved = now;
        self.receive(now);
        byte.unwrap_or(0)
    }

    fn write_transmitter(&mut self, value: u8) {
        let now = self.wires.clock.now();
        self.state.tell_empty = false;
        if self.state.is_looped() {
            self.store_received(value, now);
            self.state.tell_empty = true;
            return;
        }
        if self.state.transmitter.is_empty() {
            let delay = if self.wires.pace == Pace::Baud { self.state.character_time() } else { 0 };
            self.state.transmit_at = self.state.transmit_at.max(now).max(now.saturating_add(delay));
            if self.wires.pace == Pace::Host {
                self.state.transmit_at = now;
            }
        }
        if self.state.transmitter.len() >= self.state.depth() {
            // The guest did not wait: the last byte in is overwritten.
            self.state.transmitter.pop_back();
        }
        self.state.transmitter.push_back(value);
    }

    fn store_received(&mut self, value: u8, now: Nanos) {
        if self.state.receiver.len() >= self.state.depth() {
            self.state.errors |= LSR_OVERRUN;
        } else {
            self.state.receiver.push_back(value);
        }
        self.state.receiver_moved = now;
    }

    fn write_enable(&mut self, value: u8) {
        let newly = value & !self.state.interrupt_enable;
        self.state.interrupt_enable = value & IER_BITS;
        if newly & IER_TRANSMITTER != 0 && self.state.transmitter.is_empty() {
            self.state.tell_empty = true;
        }
    }

    fn write_fifo_control(&mut self, value: u8) {
        let switched = (value ^ self.state.fifo_control) & FCR_ENABLE != 0;
        if switched || value & FCR_ENABLE != 0 && value & FCR_CLEAR_RECEIVER != 0 {
            self.state.receiver.clear();
        }
        if switched || value & FCR_ENABLE != 0 && value & FCR_CLEAR_TRANSMITTER != 0 {
            self.state.transmitter.clear();
            self.state.tell_empty = true;
        }
        self.state.fifo_control = if value & FCR_ENABLE != 0 { value & 0xc9 } else { 0 };
    }

    fn write_modem_control(&mut self, value: u8) {
        self.state.modem_control = value & MCR_BITS;
        let lines = if self.state.is_looped() {
            [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT_1, MSR_RI), (MCR_OUT_2, MSR_DCD)]
                .iter()
                .filter(|(output, _)| value & output != 0)
                .fold(0, |lines, (_, input)| lines | input)
        } else {
            MSR_CONNECTED
        };
        let before = self.state.modem_status;
        let changed = (before ^ lines) & (MSR_CTS | MSR_DSR | MSR_DCD);
        // Of the ring indicator only the end counts.
        let rang = before & !lines & MSR_RI;
        self.state.modem_status = lines | before & 0x0f | (changed | rang) >> 4;
    }

    fn read_line_status(&mut self) -> u8 {
        let data = if self.state.receiver.is_empty() { 0 } else { LSR_DATA };
        let empty = if self.state.transmitter.is_empty() { LSR_HOLDING_EMPTY | LSR_EMPTY } else { 0 };
        std::mem::take(&mut self.state.errors) | data | empty
    }

    fn read_modem_status(&mut self) -> u8 {
        let value = self.state.modem_status;
        self.state.modem_status &= 0xf0;
        value
    }

    fn read_identification(&mut self) -> u8 {
        let source = self.interrupt(self.wires.clock.now());
        if source == IIR_TRANSMITTER {
            self.state.tell_empty = false;
        }
        source | if self.state.has_fifos() { IIR_FIFOS } else { 0 }
    }

    /// The source of the interrupt, the first by priority.
    fn interrupt(&self, now: Nanos) -> u8 {
        let state = &self.state;
        let enabled = |bit| state.interrupt_enable & bit != 0;
        if enabled(IER_LINE) && state.errors != 0 {
            IIR_LINE
        } else if enabled(IER_RECEIVED) && state.receiver.len() >= state.trigger() {
            IIR_RECEIVED
        } else if enabled(IER_RECEIVED) && !state.receiver.is_empty() && now >= state.timeout_at() {
            IIR_TIMEOUT
        } else if enabled(IER_TRANSMITTER) && state.tell_empty {
            IIR_TRANSMITTER
        } else if enabled(IER_MODEM) && state.modem_status & 0x0f != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    fn drive(&self) {
        let open = self.state.modem_control & (MCR_OUT_2 | MCR_LOOP) == MCR_OUT_2;
        self.wires.irq.set(open && self.interrupt(self.wires.clock.now()) != IIR_NONE);
    }

    fn pump(&mut self, now: Nanos) {
        self.transmit(now);
        self.receive(now);
        self.drive();
    }

    fn transmit(&mut self, now: Nanos) {
        while !self.state.transmitter.is_empty() && now >= self.state.transmit_at {
            let bytes = self.state.transmitter.make_contiguous();
            let offered = if self.wires.pace == Pace::Baud { &bytes[..1] } else { bytes };
            let taken = self.wires.backend.write(offered).min(offered.len());
            if taken == 0 {
                self.state.transmit_at = now.saturating_add(RETRY);
                return;
            }
            self.state.transmitter.drain(..taken);
            if self.wires.pace == Pace::Baud {
                self.state.transmit_at = self.state.transmit_at.saturating_add(self.state.character_time());
            }
            if self.state.transmitter.is_empty() {
                self.state.tell_empty = true;
            }
        }
    }

    /// Takes what has arrived, as far as there is room: nothing overruns, the rest waits at the host's end.
    fn receive(&mut self, now: Nanos) {
        if self.state.is_looped() || (self.wires.pace == Pace::Baud && now < self.state.receive_at) {
            return;
        }
        let room = self.state.depth().saturating_sub(self.state.receiver.len());
        let most = if self.wires.pace == Pace::Baud { room.min(1) } else { room };
        let mut bytes = [0; FIFO];
        if most == 0 {
            return;
        }
        let count = self.wires.backend.read(&mut bytes[..most]).min(most);
        if count > 0 {
            self.state.receiver.extend(&bytes[..count]);
            self.state.receiver_moved = now;
            self.state.receive_at = now.saturating_add(self.state.character_time());
        }
    }
}

impl Device for Serial {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reset(&mut self) {
        self.state = SerialState::after_reset();
        self.wires.irq.set(false);
    }

    fn next_event(&self) -> Option<Nanos> {
        let state = &self.state;
        let transmit = (!state.transmitter.is_empty()).then_some(state.transmit_at);
        let waits = !state.receiver.is_empty() && state.receiver.len() < state.trigger();
        let timeout = (waits && state.interrupt_enable & IER_RECEIVED != 0 && !self.wires.irq.is_high())
            .then(|| state.timeout_at())
            .filter(|at| *at > self.wires.clock.now());
        // Between two paced bytes the host's end is looked at again.
        let receive =
            (self.wires.pace == Pace::Baud && state.receive_at > self.wires.clock.now()).then_some(state.receive_at);
        transmit.into_iter().chain(timeout).chain(receive).min()
    }

    fn advance(&mut self, now: Nanos) {
        self.pump(now);
    }

    fn save(&self) -> Section {
        Section::encode(self.name, 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: SerialState = section.decode(self.name, 1)?;
        if state.receiver.len() > FIFO || state.transmitter.len() > FIFO {
            return Err(LoadError::invalid(self.name, "a FIFO holds more than 16 bytes"));
        }
        if state.interrupt_enable & !IER_BITS != 0 || state.modem_control & !MCR_BITS != 0 {
            return Err(LoadError::invalid(self.name, "a register has bits that do not exist"));
        }
        self.state = state;
        let open = self.state.modem_control & (MCR_OUT_2 | MCR_LOOP) == MCR_OUT_2;
        self.wires.irq.restore(open && self.interrupt(self.wires.clock.now()) != IIR_NONE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::irq::IrqLines;
    use crate::bus::signals::Signals;
    use crate::dev::suite;
    use std::sync::{Arc, Mutex};

    #[derive(Default)]
    struct Ends {
        sent: Vec<u8>,
        arrived: VecDeque<u8>,
        stuck: bool,
    }

    #[derive(Clone, Default)]
    struct Host(Arc<Mutex<Ends>>);

    impl CharBackend for Host {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let mut ends = self.0.lock().expect("not poisoned");
            if ends.stuck {
                return 0;
            }
            ends.sent.extend(bytes);
            bytes.len()
        }

        fn read(&mut self, into: &mut [u8]) -> usize {
            let mut ends = self.0.lock().expect("not poisoned");
            let count = into.len().min(ends.arrived.len());
            for (to, from) in into.iter_mut().zip(ends.arrived.drain(..count)) {
                *to = from;
            }
            count
        }
    }

    struct Bench {
        chip: Serial,
        clock: Clock,
        lines: Arc<IrqLines>,
        host: Host,
    }

    impl Bench {
        fn new(pace: Pace) -> Self {
            let (lines, clock, host) = (Arc::new(IrqLines::default()), Clock::manual(), Host::default());
            let irq = IrqLine::new(&lines, &Arc::new(Signals::new()), 4);
            let chip = Serial::new("serial0", irq, clock.clone(), Box::new(host.clone()), pace);
            Self { chip, clock, lines, host }
        }

        fn ends(&self) -> std::sync::MutexGuard<'_, Ends> {
            self.host.0.lock().expect("not poisoned")
        }

        fn write(&mut self, registers: &[(u16, u8)]) {
            for (offset, value) in registers {
                self.chip.write(*offset, *value);
            }
        }
    }

    #[test]
    fn a_driver_tells_it_from_its_ancestors() {
        let mut bench = Bench::new(Pace::Host);
        bench.write(&[(3, 0x80), (0, 0x01), (1, 0x02), (3, 0x03)]);
        assert_eq!(bench.chip.state.divisor, 0x201);
        bench.write(&[(7, 0x5a), (1, 0xff), (2, 0x01)]);
        assert_eq!((bench.chip.read(7), bench.chip.read(1), bench.chip.read(2) & 0xc0), (0x5a, 0x0f, 0xc0));
        // Loopback, as drivers probe it.
        bench.write(&[(1, 0), (4, 0x1a)]);
        assert_eq!(bench.chip.read(6) & 0xf0, MSR_CTS | MSR_DCD);
        bench.write(&[(0, 0x77)]);
        assert_eq!((bench.chip.read(5), bench.chip.read(0), bench.chip.read(5)), (0x61, 0x77, 0x60));
        assert!(bench.ends().sent.is_empty());
        bench.write(&[(4, 0x0b)]);
        assert_eq!(bench.chip.read(6), 0xb0 | 0x02);
        assert_eq!(bench.chip.read(6), 0xb0);
    }

    #[test]
    fn output_interrupts_when_the_host_has_taken_it() {
        let mut bench = Bench::new(Pace::Host);
        bench.write(&[(4, 0x0b), (2, 0x07), (1, 0x02)]);
        assert_eq!(bench.lines.level(), 1 << 4, "empty from the start");
        assert_eq!(bench.chip.read(2), 0xc2);
        assert_eq!((bench.lines.level(), bench.chip.read(2)), (0, 0xc1), "reading it was the answer");
        bench.ends().stuck = true;
        bench.write(&[(0, b'h'), (0, b'i')]);
        assert_eq!((bench.chip.read(5) & 0x60, bench.lines.level()), (0, 0));
        bench.ends().stuck = false;
        let at = bench.chip.next_event().expect("asks again");
        bench.clock.set(at);
        bench.chip.advance(at);
        assert_eq!((bench.ends().sent.as_slice(), bench.lines.level()), (&b"hi"[..], 1 << 4));
    }

    #[test]
    fn input_interrupts_at_the_trigger_or_after_a_pause_and_none_is_lost() {
        let mut bench = Bench::new(Pace::Host);
        bench.write(&[(4, 0x0b), (3, 0x03), (2, 0x81), (1, 0x01)]);
        bench.ends().arrived.extend(b"abc");
        bench.chip.advance(0);
        assert_eq!(bench.lines.level(), 0, "three of eight");
        let at = bench.chip.next_event().expect("a time-out");
        assert_eq!(at, 4 * (10 * 12 * SECOND / 115_200));
        bench.clock.set(at);
        bench.chip.advance(at);
        assert_eq!((bench.lines.level(), bench.chip.read(2)), (1 << 4, 0xcc));
        assert_eq!(bench.chip.next_event(), None);
        bench.ends().arrived.extend((0..100).map(|n| b'd' + n % 20));
        bench.chip.advance(at);
        assert_eq!(bench.chip.read(2), 0xc4);
        let mut text = Vec::new();
        while bench.chip.read(5) & 1 != 0 {
            text.push(bench.chip.read(0));
        }
        assert_eq!((text.len(), &text[..4], bench.chip.read(5) & 2), (103, &b"abcd"[..], 0));
        assert_eq!(bench.lines.level(), 0);
    }

    #[test]
    fn a_paced_line_keeps_its_rate() {
        let mut bench = Bench::new(Pace::Baud);
        bench.write(&[(3, 0x83), (0, 12), (1, 0), (3, 0x03), (2, 1)]);
        for _ in 0..10 {
            bench.chip.write(0, b'x');
        }
        while let Some(at) = bench.chip.next_event() {
            bench.clock.set(at);
            bench.chip.advance(at);
        }
        assert_eq!(bench.ends().sent.len(), 10);
        assert_eq!(bench.clock.now() / 1000, 10 * 10 * 1_000_000 / 9600, "ten characters at 9600 baud");
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(
            || Bench::new(Pace::Host).chip,
            |chip| {
                for (offset, value) in [(3, 0x1b), (4, 0x1b), (2, 0x41), (1, 0x0f), (0, 1), (0, 2)] {
                    chip.write(offset, value);
                }
            },
        );
        for pace in [Pace::Host, Pace::Baud] {
            let Bench { chip, clock, host, .. } = Bench::new(pace);
            suite::hammer(chip, 20_000, |chip, random, now| {
                clock.set(now);
                {
                    let mut ends = host.0.lock().expect("not poisoned");
                    ends.stuck = random.below(3) == 0;
                    ends.arrived.push_back(random.next() as u8);
                    ends.arrived.truncate(100);
                    ends.sent.clear();
                }
                chip.write(random.below(8) as u16, random.next() as u8);
                chip.read(random.below(8) as u16);
            });
        }
    }
}
