//! 8042 keyboard controller with its keyboard and mouse, and system control port A.
//!
//! IBM PC/AT and PS/2 technical references; 82371SB (PIIX3) data sheet, 2.5.6 for port 0x92.
//!
//! | port | offset | what |
//! |---|---|---|
//! | 0x60 | 0 | data |
//! | 0x64 | 1 | read: status; write: command |
//! | 0x92 | 2 | system control port A: fast A20 and reset |

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keyboard::{Keyboard, SET_2_TO_1};
use super::mouse::Mouse;
use crate::bus::clock::{Clock, Nanos};
use crate::bus::irq::IrqLine;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::input::{KeyEvent, PointerEvent};
use crate::snapshot::section::{LoadError, Section};

bitflags::bitflags! {
    /// The command byte, at address 0 of the controller's memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct CommandByte: u8 {
        /// IRQ 1 when a byte of the keyboard is there.
        const KEYBOARD_IRQ = 1 << 0;
        /// IRQ 12 when a byte of the mouse is there.
        const AUX_IRQ = 1 << 1;
        /// Shown in the status: the self test has passed.
        const SYSTEM = 1 << 2;
        /// The keyboard's clock is held.
        const KEYBOARD_OFF = 1 << 4;
        /// The mouse's clock is held.
        const AUX_OFF = 1 << 5;
        /// Codes of set 2 are translated to set 1.
        const TRANSLATE = 1 << 6;
    }
}

/// Status: a byte can be read.
const OUTPUT_FULL: u8 = 1 << 0;
/// Status: the self test has passed.
const SYSTEM: u8 = 1 << 2;
/// Status: the last write was a command.
const WAS_COMMAND: u8 = 1 << 3;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 1 << 4;
/// Status: the byte is one of the mouse.
const AUX_FULL: u8 = 1 << 5;

/// Output port: 0 here holds the processor in reset.
const PORT_NO_RESET: u8 = 1 << 0;
/// Output port: A20 passes.
const PORT_A20: u8 = 1 << 1;
/// Output port: IRQ 1 and IRQ 12.
const PORT_IRQ_1: u8 = 1 << 4;
const PORT_IRQ_12: u8 = 1 << 5;
/// Output port bits without a part here that read as ones.
const PORT_ONES: u8 = 0xcc;

/// Input port: keyboard not inhibited, colour display, manufacturing jumper out.
const INPUT_PORT: u8 = 0xb0;

/// System control port A.
const FAST_RESET: u8 = 1 << 0;
const FAST_A20: u8 = 1 << 1;

/// How long the next scan code takes after a byte was read, as a serial line of 11 bits would. Programs read the data port twice and
/// rely on finding the same byte.
const SCAN_CODE_TIME: Nanos = 500_000;

/// How far guest time may be behind for a key to repeat.
const HURRY: Nanos = 50_000_000;

/// Answers of the controller that wait, at most.
const MAX_ANSWERS: usize = 16;

/// A byte for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Byte {
    value: u8,
    aux: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct I8042State {
    command_byte: CommandByte,
    /// The rest of the controller's memory.
    memory: [u8; 32],
    /// The command whose parameter comes next.
    expects: Option<u8>,
    was_command: bool,
    /// The output buffer.
    output: Option<Byte>,
    /// What the data port shows while the buffer is empty.
    last: u8,
    /// The controller's own answers that wait for the buffer.
    answers: VecDeque<Byte>,
    /// When the next scan code may come.
    ready_at: Nanos,
    /// The last byte of the keyboard was 0xF0, which translation turns into bit 7 of the next.
    release: bool,
    a20: bool,
    keyboard: Keyboard,
    mouse: Mouse,
}

impl I8042State {
    fn after_reset() -> Self {
        Self {
            command_byte: CommandByte::TRANSLATE | CommandByte::KEYBOARD_IRQ,
            memory: [0; 32],
            expects: None,
            was_command: false,
            output: None,
            last: 0,
            answers: VecDeque::new(),
            ready_at: 0,
            release: false,
            a20: true,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
        }
    }
}

#[derive(Debug)]
struct I8042Wires {
    keyboard_irq: IrqLine,
    mouse_irq: IrqLine,
    clock: Clock,
    signals: Arc<Signals>,
}

/// The controller; keyboard and mouse are plugged in.
#[derive(Debug)]
pub struct I8042 {
    state: I8042State,
    wires: I8042Wires,
}

impl I8042 {
    /// A controller that drives IRQ 1 and IRQ 12, and A20 and reset through `signals`.
    pub fn new(keyboard_irq: IrqLine, mouse_irq: IrqLine, clock: Clock, signals: &Arc<Signals>) -> Self {
        let wires = I8042Wires { keyboard_irq, mouse_irq, clock, signals: Arc::clone(signals) };
        Self { state: I8042State::after_reset(), wires }
    }

    /// A key of the host. Nothing is dropped; what the guest does not read waits.
    pub fn key(&mut self, event: KeyEvent) {
        self.state.keyboard.key(event);
        self.pump();
    }

    /// Lets go of every key that is down.
    pub fn release_all(&mut self) {
        self.state.keyboard.release_all();
        self.pump();
    }

    /// The pointer of the host.
    pub fn pointer(&mut self, event: PointerEvent) {
        self.state.mouse.pointer(event);
        self.pump();
    }

    /// The mouse sends a report in which nothing has moved: the pointer is another's, which has no interrupt of its own.
    pub fn nudge(&mut self) {
        self.pointer(PointerEvent::default());
    }

    /// The keyboard, to look at.
    pub fn keyboard(&self) -> &Keyboard {
        &self.state.keyboard
    }

    /// Reads the register at `offset` (0–2).
    pub fn read(&mut self, offset: u16) -> u8 {
        self.pump();
        match offset {
            0 => self.read_data(),
            1 => self.status(),
            2 => {
                if self.state.a20 {
                    FAST_A20
                } else {
                    0
                }
            }
            _ => 0xff,
        }
    }

    /// Writes the register at `offset` (0–2).
    pub fn write(&mut self, offset: u16, value: u8) {
        match offset {
            0 => self.write_data(value),
            1 => self.write_command(value),
            2 => self.write_control_a(value),
            _ => {}
        }
        self.pump();
    }

    fn read_data(&mut self) -> u8 {
        if let Some(byte) = self.state.output.take() {
            self.state.last = byte.value;
            self.state.ready_at = self.wires.clock.now().saturating_add(SCAN_CODE_TIME);
            // The lines fall before the next byte raises one again.
            self.drive();
            self.pump();
        }
        self.state.last
    }

    fn status(&self) -> u8 {
        let state = &self.state;
        let output = state.output.map_or(0, |byte| OUTPUT_FULL | if byte.aux { AUX_FULL } else { 0 });
        let system = if state.command_byte.contains(CommandByte::SYSTEM) { SYSTEM } else { 0 };
        UNLOCKED | output | system | if state.was_command { WAS_COMMAND } else { 0 }
    }

    fn write_command(&mut self, value: u8) {
        self.state.was_command = true;
        self.state.expects = None;
        match value {
            0x20..=0x3f => self.answer(self.read_memory(value & 0x1f)),
            0x60..=0x7f | 0xd1..=0xd4 => self.state.expects = Some(value),
            0xa7 => self.state.command_byte.insert(CommandByte::AUX_OFF),
            0xa8 => self.state.command_byte.remove(CommandByte::AUX_OFF),
            // Tests of the two interfaces find nothing wrong; both test inputs (0xE0) are low.
            0xa9 | 0xab | 0xe0 => self.answer(0x00),
            0xaa => self.self_test(),
            0xad => self.state.command_byte.insert(CommandByte::KEYBOARD_OFF),
            0xae => self.state.command_byte.remove(CommandByte::KEYBOARD_OFF),
            0xc0 => self.answer(INPUT_PORT),
            0xd0 => self.answer(self.output_port()),
            0xdd => self.set_a20(false),
            0xdf => self.set_a20(true),
            0xf0..=0xff => self.pulse(value),
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        self.state.was_command = false;
        match self.state.expects.take() {
            Some(command @ 0x60..=0x7f) => self.write_memory(command & 0x1f, value),
            Some(0xd1) => self.write_output_port(value),
            Some(0xd2) => self.push(Byte { value, aux: false }),
            Some(0xd3) => self.push(Byte { value, aux: true }),
            Some(0xd4) => {
                self.state.command_byte.remove(CommandByte::AUX_OFF);
                self.state.mouse.receive(value);
            }
            _ => {
                // A byte for the keyboard lets its clock go.
                self.state.command_byte.remove(CommandByte::KEYBOARD_OFF);
                self.state.release = false;
                self.state.keyboard.receive(value);
            }
        }
    }

    fn read_memory(&self, address: u8) -> u8 {
        if address == 0 { self.state.command_byte.bits() } else { self.state.memory[usize::from(address)] }
    }

    fn write_memory(&mut self, address: u8, value: u8) {
        if address == 0 {
            self.state.command_byte = CommandByte::from_bits_truncate(value);
        } else {
            self.state.memory[usize::from(address)] = value;
        }
    }

    fn self_test(&mut self) {
        self.state.output = None;
        self.state.answers.clear();
        self.state.command_byte =
            CommandByte::SYSTEM | CommandByte::KEYBOARD_OFF | CommandByte::AUX_OFF | CommandByte::TRANSLATE;
        self.state.release = false;
        self.drive();
        self.answer(0x55);
    }

    /// Pulses the low four bits of the output port that are 0 in `value`; bit 0 is the processor's reset.
    fn pulse(&mut self, value: u8) {
        if value & PORT_NO_RESET == 0 {
            self.wires.signals.request_reset();
        }
    }

    fn output_port(&self) -> u8 {
        let (irq_1, irq_12) = self.levels();
        PORT_ONES
            | PORT_NO_RESET
            | if self.state.a20 { PORT_A20 } else { 0 }
            | if irq_1 { PORT_IRQ_1 } else { 0 }
            | if irq_12 { PORT_IRQ_12 } else { 0 }
    }

    fn write_output_port(&mut self, value: u8) {
        self.set_a20(value & PORT_A20 != 0);
        if value & PORT_NO_RESET == 0 {
            self.wires.signals.request_reset();
        }
    }

    fn write_control_a(&mut self, value: u8) {
        self.set_a20(value & FAST_A20 != 0);
        if value & FAST_RESET != 0 {
            self.wires.signals.request_reset();
        }
    }

    fn set_a20(&mut self, open: bool) {
        self.state.a20 = open;
        self.wires.signals.set_a20(open);
    }

    fn answer(&mut self, value: u8) {
        self.push(Byte { value, aux: false });
    }

    fn push(&mut self, byte: Byte) {
        if self.state.answers.len() < MAX_ANSWERS {
            self.state.answers.push_back(byte);
        }
    }

    /// Fills the output buffer, if it is empty and something is there.
    fn pump(&mut self) {
        if self.state.output.is_none() {
            let now = self.wires.clock.now();
            self.state.output = self.state.answers.pop_front().or_else(|| self.next_of_devices(now));
        }
        self.drive();
    }

    fn next_of_devices(&mut self, now: Nanos) -> Option<Byte> {
        let state = &mut self.state;
        let keyboard_on = !state.command_byte.contains(CommandByte::KEYBOARD_OFF);
        if keyboard_on && state.keyboard.repeat_due().is_some_and(|due| now >= due) {
            state.keyboard.repeat(now, self.wires.clock.behind() > HURRY);
        }
        while keyboard_on && (state.keyboard.has_answer() || now >= state.ready_at) {
            let Some(code) = state.keyboard.take(now) else { break };
            if let Some(value) = translate(state.command_byte, &mut state.release, code) {
                return Some(Byte { value, aux: false });
            }
        }
        let aux_on = !state.command_byte.contains(CommandByte::AUX_OFF);
        let value = (aux_on && state.mouse.prepare(now)).then(|| state.mouse.take())??;
        Some(Byte { value, aux: true })
    }

    fn levels(&self) -> (bool, bool) {
        let command = self.state.command_byte;
        match self.state.output {
            Some(Byte { aux: true, .. }) => (false, command.contains(CommandByte::AUX_IRQ)),
            Some(_) => {
                let on = !command.contains(CommandByte::KEYBOARD_OFF);
                (on && command.contains(CommandByte::KEYBOARD_IRQ), false)
            }
            None => (false, false),
        }
    }

    fn drive(&self) {
        let (irq_1, irq_12) = self.levels();
        self.wires.keyboard_irq.set(irq_1);
        self.wires.mouse_irq.set(irq_12);
    }
}

/// Translation of one byte of the keyboard; `None`: it is kept until the next.
fn translate(command: CommandByte, release: &mut bool, code: u8) -> Option<u8> {
    if !command.contains(CommandByte::TRANSLATE) {
        return Some(code);
    }
    if code == 0xf0 {
        *release = true;
        return None;
    }
    let make = match code {
        0..=0x7f => SET_2_TO_1[usize::from(code)],
        0x83 => 0x41,
        0x84 => 0x54,
        other => other,
    };
    Some(if std::mem::take(release) { make | 0x80 } else { make })
}

impl Device for I8042 {
    fn name(&self) -> &'static str {
        "i8042"
    }

    fn reset(&mut self) {
        self.state = I8042State::after_reset();
        self.wires.signals.set_a20(true);
        self.drive();
    }

    fn next_event(&self) -> Option<Nanos> {
        let state = &self.state;
        if state.output.is_some() {
            return None;
        }
        let keyboard_on = !state.command_byte.contains(CommandByte::KEYBOARD_OFF);
        let keyboard = keyboard_on && state.keyboard.has_output();
        let repeat = state.keyboard.repeat_due().filter(|_| keyboard_on && !keyboard);
        let aux = !state.command_byte.contains(CommandByte::AUX_OFF);
        let mouse = if aux { state.mouse.next_event() } else { None };
        keyboard.then_some(state.ready_at).into_iter().chain(mouse).chain(repeat).min()
    }

    fn advance(&mut self, _now: Nanos) {
        self.pump();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: I8042State = section.decode(self.name(), 1)?;
        if !state.keyboard.is_possible() || !state.mouse.is_possible() || state.answers.len() > MAX_ANSWERS {
            return Err(LoadError::invalid(self.name(), "keyboard, mouse or a queue is in a state it cannot have"));
        }
        self.state = state;
        self.wires.signals.set_a20(self.state.a20);
        let (irq_1, irq_12) = self.levels();
        self.wires.keyboard_irq.restore(irq_1);
        self.wires.mouse_irq.restore(irq_12);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::clock::SECOND;
    use crate::bus::irq::IrqLines;
    use crate::dev::suite;
    use crate::input::Key;

    struct Bench {
        chip: I8042,
        clock: Clock,
        lines: Arc<IrqLines>,
        signals: Arc<Signals>,
    }

    impl Bench {
        fn new() -> Self {
            let (lines, signals, clock) = (Arc::new(IrqLines::default()), Arc::new(Signals::new()), Clock::manual());
            let line = |number| IrqLine::new(&lines, &signals, number);
            Self { chip: I8042::new(line(1), line(12), clock.clone(), &signals), clock, lines, signals }
        }

        /// Waits for the next byte, but not for the repeat of a key that is held.
        fn wait(&mut self) -> bool {
            let soon = self.clock.now() + SECOND / 10;
            if let Some(at) = self.chip.next_event().filter(|at| *at < soon) {
                self.clock.set(self.clock.now().max(at));
                self.chip.advance(self.clock.now());
            }
            self.chip.read(1) & OUTPUT_FULL != 0
        }

        fn drain(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            while self.wait() {
                bytes.push(self.chip.read(0));
            }
            bytes
        }

        fn command(&mut self, command: u8, data: Option<u8>) -> Vec<u8> {
            self.chip.write(1, command);
            if let Some(data) = data {
                self.chip.write(0, data);
            }
            self.drain()
        }

        fn key(&mut self, key: Key, down: bool) {
            self.chip.key(KeyEvent { key, down });
        }
    }

    #[test]
    fn firmware_sets_it_up() {
        let mut bench = Bench::new();
        assert_eq!(bench.command(0xaa, None), [0x55]);
        assert_eq!(bench.command(0xab, None), [0]);
        assert_eq!(bench.command(0x20, None), [0x74]);
        assert_eq!(bench.command(0x60, Some(0x61)), [0_u8; 0]);
        assert_eq!(bench.chip.read(1), UNLOCKED);
        bench.chip.write(0, 0xff);
        assert_eq!(bench.drain(), [0xfa, 0xaa]);
        assert_eq!(bench.command(0xd4, Some(0xf2)), [0xfa, 0x00]);
        assert_eq!(bench.command(0xd0, None)[0] & 3, 3);
    }

    #[test]
    fn keys_come_translated_one_interrupt_a_byte() {
        let mut bench = Bench::new();
        bench.key(Key::ArrowLeft, true);
        assert_eq!(bench.lines.take_rose(), 2);
        assert_eq!(bench.chip.read(0), 0xe0);
        assert_eq!(bench.lines.level(), 0);
        assert_eq!((bench.chip.read(1) & 1, bench.chip.read(0)), (0, 0xe0), "a second read finds the same byte");
        assert!(bench.wait());
        assert_eq!(bench.lines.take_rose(), 2);
        assert_eq!(bench.chip.read(0), 0x4b);
        bench.key(Key::ArrowLeft, false);
        bench.key(Key::F7, true);
        bench.key(Key::F7, false);
        assert_eq!(bench.drain(), [0xe0, 0xcb, 0x41, 0xc1]);
        // Without translation, and with the keyboard held meanwhile.
        bench.command(0x60, Some(0x11));
        bench.key(Key::A, true);
        assert_eq!(bench.drain(), [0_u8; 0]);
        assert_eq!(bench.command(0xae, None), [0x1c]);
        // Held, it repeats; the output buffer holds one byte until it is read.
        let due = bench.chip.next_event().expect("a repeat to come");
        assert!(due > bench.clock.now() + SECOND / 3);
        bench.clock.set(due);
        bench.chip.advance(due);
        assert_eq!((bench.chip.read(0), bench.chip.next_event().is_some()), (0x1c, true));
        bench.key(Key::A, false);
        assert_eq!(bench.drain(), [0xf0, 0x1c]);
    }

    #[test]
    fn two_thousand_keys_arrive_once_in_order() {
        let mut bench = Bench::new();
        for n in 0..2000 {
            bench.key(Key::ALL[1 + n % 50], true);
            bench.key(Key::ALL[1 + n % 50], false);
        }
        let codes: Vec<u8> = (0..2000).flat_map(|n| [2 + (n % 50) as u8, 0x82 + (n % 50) as u8]).collect();
        assert_eq!(bench.drain(), codes);
    }

    #[test]
    fn a_saved_queue_goes_on_and_held_keys_come_up() {
        let mut bench = Bench::new();
        for key in [Key::ControlLeft, Key::AltLeft] {
            bench.key(key, true);
        }
        let saved = bench.chip.save();
        let mut other = Bench::new();
        other.chip.load(&saved).expect("loads");
        assert_eq!((other.lines.level(), other.lines.take_rose()), (2, 0), "a level without an edge");
        other.chip.release_all();
        assert_eq!(other.drain(), [0x1d, 0x38, 0x9d, 0xb8]);
    }

    #[test]
    fn the_mouse_has_its_own_interrupt_and_flag() {
        let mut bench = Bench::new();
        bench.command(0x60, Some(0x43));
        bench.chip.write(1, 0xd4);
        bench.chip.write(0, 0xf4);
        assert_eq!(bench.chip.read(1) & (AUX_FULL | OUTPUT_FULL), AUX_FULL | OUTPUT_FULL);
        assert_eq!(bench.lines.take_rose(), 1 << 12);
        assert_eq!(bench.drain(), [0xfa]);
        bench.chip.pointer(PointerEvent { dx: 1, dy: 1, ..Default::default() });
        assert_eq!(bench.drain(), [0x28, 1, 0xff]);
        assert_eq!(bench.command(0xd3, Some(0x77)), [0x77]);
    }

    #[test]
    fn a20_and_reset() {
        let mut bench = Bench::new();
        bench.command(0xd1, Some(0xdd));
        assert!(!bench.signals.a20());
        bench.chip.write(2, 2);
        assert!(bench.signals.a20());
        assert_eq!(bench.chip.read(2), 2);
        bench.command(0xff, None);
        assert!(!bench.signals.take_reset());
        bench.command(0xfe, None);
        assert!(bench.signals.take_reset());
        bench.chip.write(2, 3);
        assert!(bench.signals.take_reset());
        bench.command(0xdd, None);
        bench.chip.reset();
        assert!(bench.signals.a20());
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(
            || Bench::new().chip,
            |chip| {
                chip.write(1, 0xd1);
                chip.write(0, 0xdd);
                for key in [Key::A, Key::PrintScreen, Key::Pause] {
                    chip.key(KeyEvent { key, down: true });
                }
                chip.pointer(PointerEvent { dx: -1, dy: 2, wheel: 3, buttons: 1 });
            },
        );
        let Bench { chip, clock, .. } = Bench::new();
        suite::hammer(chip, 20_000, |chip, random, now| {
            clock.set(now);
            match random.below(6) {
                0 => _ = chip.read(random.below(4) as u16),
                1 => {
                    let key = Key::ALL[random.below(Key::ALL.len() as u64) as usize];
                    chip.key(KeyEvent { key, down: random.below(2) == 0 });
                }
                2 => chip.pointer(PointerEvent {
                    dx: random.next() as i32,
                    dy: random.next() as i32,
                    wheel: random.next() as i32,
                    buttons: random.next() as u8,
                }),
                3 => chip.write(1, random.next() as u8),
                _ => chip.write(0, random.next() as u8 | if random.below(2) == 0 { 0xe0 } else { 0 }),
            }
        });
        assert!(clock.now() > SECOND);
    }
}
