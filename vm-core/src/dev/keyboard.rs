//! PS/2 keyboard (101 keys and more).
//!
//! IBM PS/2 technical reference (keyboard); scan-code sets 1, 2 and 3. The keyboard controller carries bytes between it and the guest.
//!
//! The keyboard repeats the key that went down last (typematic), by the guest's clock and at the rate that the guest sets; repeats of the host
//! are ignored.
//!
//! Key events wait here, as events, until the guest has taken all bytes of the one before: nothing is dropped when the guest is slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::bus::clock::Nanos;
use crate::input::{Key, KeyEvent};

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const ECHO: u8 = 0xee;
const SELF_TEST_PASSED: u8 = 0xaa;
const IDENTIFICATION: [u8; 2] = [0xab, 0x83];

/// Bytes of answers that wait, at most.
const MAX_ANSWER: usize = 16;
/// From so many waiting events on, new presses are left out (a real keyboard holds 16 bytes). Releases never are; each needs a press.
const MAX_PRESSES: usize = 1 << 18;

/// What the keyboard controller makes of codes of set 2 where it translates: set 1.
#[rustfmt::skip]
pub(super) const SET_2_TO_1: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];

/// Keys whose code in set 3 is not that of set 2.
#[rustfmt::skip]
const SET_3: [(Key, u8); 52] = [
    (Key::F1, 0x07), (Key::F2, 0x0f), (Key::F3, 0x17), (Key::F4, 0x1f), (Key::F5, 0x27), (Key::F6, 0x2f),
    (Key::F7, 0x37), (Key::F8, 0x3f), (Key::F9, 0x47), (Key::F10, 0x4f), (Key::F11, 0x56), (Key::F12, 0x5e),
    (Key::Escape, 0x08), (Key::ControlLeft, 0x11), (Key::AltLeft, 0x19), (Key::AltRight, 0x39),
    (Key::ControlRight, 0x58), (Key::CapsLock, 0x14), (Key::Backslash, 0x5c), (Key::IntlBackslash, 0x13),
    (Key::PrintScreen, 0x57), (Key::ScrollLock, 0x5f), (Key::Pause, 0x62), (Key::Insert, 0x67), (Key::Home, 0x6e),
    (Key::PageUp, 0x6f), (Key::Delete, 0x64), (Key::End, 0x65), (Key::PageDown, 0x6d), (Key::ArrowUp, 0x63),
    (Key::ArrowLeft, 0x61), (Key::ArrowDown, 0x60), (Key::ArrowRight, 0x6a), (Key::NumLock, 0x76),
    (Key::KeypadDivide, 0x4a), (Key::KeypadMultiply, 0x7e), (Key::KeypadSubtract, 0x84), (Key::KeypadAdd, 0x7c),
    (Key::KeypadEnter, 0x79), (Key::KeypadDecimal, 0x71), (Key::SuperLeft, 0x8b), (Key::SuperRight, 0x8c),
    (Key::ContextMenu, 0x8d), (Key::IntlRo, 0x51), (Key::IntlYen, 0x5d), (Key::Convert, 0x86),
    (Key::NonConvert, 0x85), (Key::KanaMode, 0x87), (Key::Keypad5, 0x73), (Key::Keypad0, 0x70),
    (Key::Keypad1, 0x69), (Key::ShiftLeft, 0x12),
];

/// How the print-screen key went down: its codes depend on what else was down, and its release must fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum PrintScreen {
    #[default]
    Alone,
    WithShiftOrControl,
    /// As SysRq.
    WithAlt,
}

/// What a key sends in scan-code set 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[default]
    TypematicMakeBreak,
    Typematic,
    MakeBreak,
    Make,
}

impl Kind {
    /// The kind that a command gives to all keys (0xF7–0xFA), or to single ones (0xFB–0xFD).
    fn of_command(command: u8) -> Self {
        match command {
            0xf7 | 0xfb => Self::Typematic,
            0xf8 | 0xfc => Self::MakeBreak,
            0xf9 | 0xfd => Self::Make,
            _ => Self::TypematicMakeBreak,
        }
    }

    fn repeats(self) -> bool {
        matches!(self, Self::TypematicMakeBreak | Self::Typematic)
    }

    fn breaks(self) -> bool {
        matches!(self, Self::TypematicMakeBreak | Self::MakeBreak)
    }
}

/// The key that repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Repeat {
    key: Key,
    due: Nanos,
}

/// Delay of half a second, 10.9 characters a second.
const TYPEMATIC_DEFAULT: u8 = 0x2b;

/// A keyboard, as its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyboard {
    /// Events that the guest has not seen yet.
    queue: VecDeque<KeyEvent>,
    /// Keys that are down once the queue is through.
    held: BTreeSet<Key>,
    /// Keys that the guest believes to be down.
    sent: BTreeSet<Key>,
    /// The rest of the bytes of an event that is on its way.
    output: VecDeque<u8>,
    answer: VecDeque<u8>,
    last: u8,
    /// The command whose parameter comes next.
    command: Option<u8>,
    /// 1–3.
    set: u8,
    scanning: bool,
    leds: u8,
    typematic: u8,
    #[serde(default)]
    repeat: Option<Repeat>,
    /// Set 3: what keys send, and by code where single keys differ.
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    kinds: BTreeMap<u8, Kind>,
    print_screen: PrintScreen,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            held: BTreeSet::new(),
            sent: BTreeSet::new(),
            output: VecDeque::new(),
            answer: VecDeque::new(),
            last: 0,
            command: None,
            set: 2,
            scanning: true,
            leds: 0,
            typematic: TYPEMATIC_DEFAULT,
            repeat: None,
            kind: Kind::default(),
            kinds: BTreeMap::new(),
            print_screen: PrintScreen::Alone,
        }
    }
}

impl Keyboard {
    /// A key went down or up. Down again is the host's repeat: the keyboard makes its own.
    pub fn key(&mut self, event: KeyEvent) {
        if event.down {
            if self.queue.len() >= MAX_PRESSES || !self.held.insert(event.key) {
                return;
            }
        } else if !self.held.remove(&event.key) {
            // It went down before the machine was there.
            return;
        }
        self.queue.push_back(event);
    }

    /// Lets go of every key that is down, or will be once the queue is through.
    pub fn release_all(&mut self) {
        for key in std::mem::take(&mut self.held) {
            self.queue.push_back(KeyEvent { key, down: false });
        }
    }

    /// Keys that the guest believes to be down.
    pub fn keys_down(&self) -> impl Iterator<Item = Key> + '_ {
        self.sent.iter().copied()
    }

    /// The lights: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// A byte from the guest.
    pub fn receive(&mut self, value: u8) {
        self.answer.clear();
        // A command in place of a parameter begins anew.
        if let Some(command) = self.command.take()
            && value < 0xed
        {
            self.parameter(command, value);
            return;
        }
        match value {
            0xed | 0xf0 | 0xf3 | 0xfb..=0xfd => self.wait_for_parameter(value),
            0xee => self.send(&[ECHO]),
            0xf2 => self.send(&[ACK, IDENTIFICATION[0], IDENTIFICATION[1]]),
            0xf4 => self.set_scanning(true),
            0xf5 => self.set_defaults(false),
            0xf6 => self.set_defaults(true),
            0xf7..=0xfa => self.set_all_kinds(Kind::of_command(value)),
            0xfe => self.send(&[self.last]),
            0xff => self.self_test(),
            _ => self.send(&[RESEND]),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.answer.extend(bytes);
        self.answer.truncate(MAX_ANSWER);
    }

    fn wait_for_parameter(&mut self, command: u8) {
        self.command = Some(command);
        self.send(&[ACK]);
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (0xed, _) => self.leds = value & 7,
            (0xf0, 0) => {
                self.send(&[ACK, self.set]);
                return;
            }
            (0xf0, 1..=3) => self.set = value,
            (0xf0, _) => {
                self.send(&[RESEND]);
                return;
            }
            (0xf3, _) => self.typematic = value & 0x7f,
            (0xfb..=0xfd, code) => {
                self.kinds.insert(code, Kind::of_command(command));
                // More keys may follow, until the next command.
                self.command = Some(command);
            }
            _ => {}
        }
        self.send(&[ACK]);
    }

    fn set_scanning(&mut self, on: bool) {
        self.scanning = on;
        self.send(&[ACK]);
    }

    fn set_all_kinds(&mut self, kind: Kind) {
        self.kind = kind;
        self.kinds.clear();
        self.send(&[ACK]);
    }

    /// What a key sends. Only set 3 knows differences.
    fn kind_of(&self, key: Key) -> Kind {
        if self.set == 3 { self.kinds.get(&set_3(key)).copied().unwrap_or(self.kind) } else { Kind::default() }
    }

    /// Typematic delay: 250 ms to one second.
    fn delay(&self) -> Nanos {
        250_000_000 * u64::from((self.typematic >> 5 & 3) + 1)
    }

    /// Typematic period: (8 + A) × 2^B × 4.17 ms.
    fn period(&self) -> Nanos {
        u64::from(8 + (self.typematic & 7)) * 4_170_000 << (self.typematic >> 3 & 3)
    }

    /// When the key that is down repeats.
    pub fn repeat_due(&self) -> Option<Nanos> {
        self.repeat.map(|repeat| repeat.due)
    }

    /// Repeats the key that is down, where that is due and the guest has read all before it. `hurried`: guest time makes up for what the
    /// host took, so nobody can have held the key for as long as it seems; then the repeat waits.
    pub fn repeat(&mut self, now: Nanos, hurried: bool) {
        let period = self.period();
        let free = self.queue.is_empty() && self.output.is_empty() && self.scanning && self.command.is_none();
        let Some(repeat) = self.repeat.as_mut().filter(|repeat| now >= repeat.due) else { return };
        // Repeats that nobody read are not made up for.
        repeat.due = now.max(repeat.due.saturating_add(period));
        if hurried || !free {
            repeat.due = now.saturating_add(period);
        } else {
            self.queue.push_back(KeyEvent { key: repeat.key, down: true });
        }
    }

    fn set_defaults(&mut self, scanning: bool) {
        self.set = 2;
        self.typematic = TYPEMATIC_DEFAULT;
        self.repeat = None;
        self.kind = Kind::default();
        self.kinds.clear();
        self.scanning = scanning;
        self.send(&[ACK]);
    }

    /// Reset. What was typed stays typed: events that the guest has not seen wait on.
    fn self_test(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        let held = std::mem::take(&mut self.held);
        let sent = std::mem::take(&mut self.sent);
        *self = Self { queue, held, sent, ..Self::default() };
        self.send(&[ACK, SELF_TEST_PASSED]);
    }

    /// Whether an answer to a command waits.
    pub fn has_answer(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Whether anything waits that may leave now.
    pub fn has_output(&self) -> bool {
        self.has_answer()
            || (self.command.is_none() && self.scanning && !(self.output.is_empty() && self.queue.is_empty()))
    }

    /// Takes the next byte.
    pub fn take(&mut self, now: Nanos) -> Option<u8> {
        if !self.has_output() {
            return None;
        }
        let byte = self.answer.pop_front().or_else(|| self.take_scan_code(now))?;
        self.last = byte;
        Some(byte)
    }

    fn take_scan_code(&mut self, now: Nanos) -> Option<u8> {
        while self.output.is_empty() {
            let event = self.queue.pop_front()?;
            let bytes = self.encode(event);
            self.output.extend(bytes);
            if event.down {
                // Pause goes up by itself.
                if event.key != Key::Pause && self.sent.insert(event.key) {
                    let due = now.saturating_add(self.delay());
                    self.repeat = self.kind_of(event.key).repeats().then_some(Repeat { key: event.key, due });
                }
            } else {
                self.sent.remove(&event.key);
                self.repeat = self.repeat.filter(|repeat| repeat.key != event.key);
            }
        }
        self.output.pop_front()
    }

    fn encode(&mut self, event: KeyEvent) -> Vec<u8> {
        if self.set == 3 {
            let code = set_3(event.key);
            return match event.down {
                true => vec![code],
                false if self.kind_of(event.key).breaks() => vec![0xf0, code],
                false => Vec::new(),
            };
        }
        let codes = self.set_1(event);
        if self.set == 1 { codes } else { to_set_2(&codes) }
    }

    fn any_sent(&self, keys: [Key; 2]) -> bool {
        keys.iter().any(|key| self.sent.contains(key))
    }

    fn set_1(&mut self, event: KeyEvent) -> Vec<u8> {
        let control = self.any_sent([Key::ControlLeft, Key::ControlRight]);
        match event.key {
            Key::Pause if !event.down => Vec::new(),
            Key::Pause if control => vec![0xe0, 0x46, 0xe0, 0xc6],
            Key::Pause => vec![0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5],
            Key::PrintScreen => {
                if event.down && !self.sent.contains(&event.key) {
                    self.print_screen = if self.any_sent([Key::AltLeft, Key::AltRight]) {
                        PrintScreen::WithAlt
                    } else if control || self.any_sent([Key::ShiftLeft, Key::ShiftRight]) {
                        PrintScreen::WithShiftOrControl
                    } else {
                        PrintScreen::Alone
                    };
                }
                let codes: &[u8] = match (self.print_screen, event.down) {
                    (PrintScreen::Alone, true) => &[0xe0, 0x2a, 0xe0, 0x37],
                    (PrintScreen::Alone, false) => &[0xe0, 0xb7, 0xe0, 0xaa],
                    (PrintScreen::WithShiftOrControl, true) => &[0xe0, 0x37],
                    (PrintScreen::WithShiftOrControl, false) => &[0xe0, 0xb7],
                    (PrintScreen::WithAlt, true) => &[0x54],
                    (PrintScreen::WithAlt, false) => &[0xd4],
                };
                codes.to_vec()
            }
            key => {
                let [prefix, code] = key.set1().to_be_bytes();
                let code = if event.down { code } else { code | 0x80 };
                if prefix == 0 { vec![code] } else { vec![prefix, code] }
            }
        }
    }

    /// Whether a saved state can be one of a keyboard.
    pub fn is_possible(&self) -> bool {
        (1..=3).contains(&self.set)
            && self.leds <= 7
            && self.answer.len() <= MAX_ANSWER
            && self.output.len() <= MAX_ANSWER
    }
}

/// The same codes in set 2.
fn to_set_2(set_1: &[u8]) -> Vec<u8> {
    let mut codes = Vec::with_capacity(2 * set_1.len());
    for code in set_1 {
        match *code {
            0xe0 | 0xe1 => codes.push(*code),
            make if make < 0x80 => codes.push(code_of_set_2(make)),
            up => codes.extend([0xf0, code_of_set_2(up & 0x7f)]),
        }
    }
    codes
}

fn code_of_set_2(make: u8) -> u8 {
    match make {
        // These two lie beyond the table.
        0x41 => 0x83,
        0x54 => 0x84,
        _ => SET_2_TO_1.iter().position(|code| *code == make).unwrap_or(0) as u8,
    }
}

fn set_3(key: Key) -> u8 {
    SET_3
        .iter()
        .find(|(other, _)| *other == key)
        .map_or_else(|| code_of_set_2(key.set1() as u8 & 0x7f), |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::clock::SECOND;

    fn drain(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.take(0)).collect()
    }

    fn type_keys(keyboard: &mut Keyboard, events: &[(Key, bool)]) -> Vec<u8> {
        for (key, down) in events {
            keyboard.key(KeyEvent { key: *key, down: *down });
        }
        drain(keyboard)
    }

    fn say(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| {
                keyboard.receive(*byte);
                drain(keyboard)
            })
            .collect()
    }

    #[test]
    fn keys_have_the_codes_of_each_set() {
        let mut keyboard = Keyboard::default();
        let both = |key| [(key, true), (key, false)];
        assert_eq!(type_keys(&mut keyboard, &both(Key::A)), [0x1c, 0xf0, 0x1c]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::F7)), [0x83, 0xf0, 0x83]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::ArrowUp)), [0xe0, 0x75, 0xe0, 0xf0, 0x75]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::Pause)), [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]);
        assert_eq!(
            type_keys(&mut keyboard, &both(Key::PrintScreen)),
            [0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]
        );
        let sysrq = [(Key::AltLeft, true), (Key::PrintScreen, true), (Key::AltLeft, false), (Key::PrintScreen, false)];
        assert_eq!(type_keys(&mut keyboard, &sysrq), [0x11, 0x84, 0xf0, 0x11, 0xf0, 0x84]);
        assert_eq!(say(&mut keyboard, &[0xf0, 1]), [ACK, ACK]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::ControlRight)), [0xe0, 0x1d, 0xe0, 0x9d]);
        let brk = [(Key::ControlLeft, true), (Key::Pause, true), (Key::ControlLeft, false)];
        assert_eq!(type_keys(&mut keyboard, &brk), [0x1d, 0xe0, 0x46, 0xe0, 0xc6, 0x9d]);
        assert_eq!(say(&mut keyboard, &[0xf0, 3, 0xf0, 0]), [ACK, ACK, ACK, ACK, 3]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::ArrowUp)), [0x63, 0xf0, 0x63]);
        for key in Key::ALL.iter().filter(|key| **key != Key::Pause) {
            assert_ne!(code_of_set_2(key.set1() as u8), 0, "{key:?} has a code");
        }
    }

    #[test]
    fn commands_are_answered() {
        let mut keyboard = Keyboard::default();
        assert_eq!(say(&mut keyboard, &[0xff]), [ACK, 0xaa]);
        assert_eq!(say(&mut keyboard, &[0xf2]), [ACK, 0xab, 0x83]);
        assert_eq!(say(&mut keyboard, &[0xed, 0x05]), [ACK, ACK]);
        assert_eq!(keyboard.leds(), 5);
        assert_eq!(say(&mut keyboard, &[0xee, 0xfe, 0x12]), [ECHO, ECHO, RESEND]);
        assert_eq!(say(&mut keyboard, &[0xf3, 0xf4]), [ACK, ACK], "a command in place of a parameter");
        assert_eq!(say(&mut keyboard, &[0xf5]), [ACK]);
        assert_eq!(type_keys(&mut keyboard, &[(Key::B, true)]), [0_u8; 0]);
        assert_eq!(say(&mut keyboard, &[0xf4]), [ACK, 0x32], "what was typed meanwhile is not lost");
    }

    #[test]
    fn a_key_repeats_at_the_rate_that_the_guest_sets() {
        const MS: Nanos = 1_000_000;
        let mut keyboard = Keyboard::default();
        let count = |keyboard: &mut Keyboard, from: Nanos, to: Nanos| {
            (from / MS..to / MS)
                .filter(|ms| {
                    keyboard.repeat(ms * MS, false);
                    !drain(keyboard).is_empty()
                })
                .count()
        };
        type_keys(&mut keyboard, &[(Key::A, true)]);
        assert_eq!(count(&mut keyboard, 0, 500 * MS), 0);
        assert_eq!(count(&mut keyboard, 500 * MS, 1500 * MS), 11, "10.9 a second");
        type_keys(&mut keyboard, &[(Key::A, true)]);
        assert_eq!(keyboard.repeat_due().map(|due| due / MS), Some(1509), "the host's repeat is nothing");
        type_keys(&mut keyboard, &[(Key::A, false)]);
        assert_eq!(count(&mut keyboard, 1500 * MS, 3000 * MS), 0);
        // The fastest: 250 ms, 30 a second.
        say(&mut keyboard, &[0xf3, 0x00]);
        type_keys(&mut keyboard, &[(Key::A, true), (Key::B, true)]);
        assert_eq!(count(&mut keyboard, 250 * MS, 1250 * MS), 30);
        assert_eq!(say(&mut keyboard, &[0xf5, 0xf4]), [ACK, ACK]);
        assert_eq!(keyboard.repeat_due(), None);
        // Only what has been read is followed by a repeat, and never in a hurry.
        type_keys(&mut keyboard, &[(Key::B, false), (Key::B, true)]);
        keyboard.repeat(SECOND, true);
        assert_eq!(drain(&mut keyboard), [0_u8; 0]);
        keyboard.repeat(2 * SECOND, false);
        keyboard.repeat(3 * SECOND, false);
        assert_eq!(drain(&mut keyboard), [0x32]);
    }

    #[test]
    fn keys_of_set_3_have_kinds() {
        let mut keyboard = Keyboard::default();
        let both = |key| [(key, true), (key, false)];
        say(&mut keyboard, &[0xf0, 3, 0xf9]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::A)), [0x1c]);
        assert_eq!(keyboard.repeat_due(), None);
        assert_eq!(say(&mut keyboard, &[0xfc, 0x1c, 0x32, 0xfb, 0x21, 0xf4]), [ACK; 6]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::B)), [0x32, 0xf0, 0x32]);
        assert_eq!(type_keys(&mut keyboard, &[(Key::C, true)]), [0x21]);
        assert!(keyboard.repeat_due().is_some());
        assert_eq!(type_keys(&mut keyboard, &[(Key::C, false), (Key::D, true), (Key::D, false)]), [0x23]);
        say(&mut keyboard, &[0xfa]);
        assert_eq!(type_keys(&mut keyboard, &both(Key::D)), [0x23, 0xf0, 0x23]);
    }

    #[test]
    fn no_event_is_lost_and_every_key_comes_up() {
        let mut keyboard = Keyboard::default();
        for _ in 0..5000 {
            for down in [true, false] {
                keyboard.key(KeyEvent { key: Key::X, down });
            }
        }
        keyboard.key(KeyEvent { key: Key::ShiftLeft, down: true });
        for _ in 0..10_000 {
            keyboard.key(KeyEvent { key: Key::ShiftLeft, down: true });
        }
        keyboard.release_all();
        keyboard.release_all();
        keyboard.key(KeyEvent { key: Key::ShiftLeft, down: false });
        let bytes = drain(&mut keyboard);
        assert_eq!(bytes, [[0x22, 0xf0, 0x22].repeat(5000), vec![0x12, 0xf0, 0x12]].concat());
        assert_eq!(keyboard.keys_down().count(), 0);
    }
}
