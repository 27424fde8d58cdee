//! PS/2 mouse with a wheel and five buttons.
//!
//! IBM PS/2 technical reference (mouse); the wheel protocol is that of the IntelliMouse: sample rates 200, 100, 80 in a row switch it on.
//! After that 200, 200, 80 switch on the two buttons more of the IntelliMouse Explorer.
//! The keyboard controller carries bytes between it and the guest.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Nanos, SECOND};
use crate::input::PointerEvent;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
/// Identifications: standard mouse, with a wheel, with five buttons too.
const ID_STANDARD: u8 = 0;
const ID_WHEEL: u8 = 3;
const ID_EXPLORER: u8 = 4;
/// The buttons that there are.
const BUTTONS: u8 = 0x1f;
/// Changes of buttons that wait, at most; motion between them is summed up.
const MAX_WAITING: usize = 64;
/// Bytes of answers that wait, at most.
const MAX_ANSWER: usize = 16;

/// A mouse, as its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mouse {
    /// Bytes on their way to the controller.
    output: VecDeque<u8>,
    last: u8,
    /// The command whose parameter comes next.
    command: Option<u8>,
    reporting: bool,
    remote: bool,
    wrap: bool,
    scaling: bool,
    resolution: u8,
    rate: u8,
    /// The last three sample rates set.
    knock: [u8; 3],
    wheel_mode: bool,
    /// In wheel mode: with buttons four and five.
    #[serde(default)]
    explorer: bool,
    /// Motion not yet reported; a new entry for each change of buttons.
    waiting: VecDeque<PointerEvent>,
    /// Buttons as last reported.
    buttons: u8,
    /// When the next report may leave.
    report_at: Nanos,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            output: VecDeque::new(),
            last: 0,
            command: None,
            reporting: false,
            remote: false,
            wrap: false,
            scaling: false,
            resolution: 2,
            rate: 100,
            knock: [0; 3],
            wheel_mode: false,
            explorer: false,
            waiting: VecDeque::new(),
            buttons: 0,
            report_at: 0,
        }
    }
}

impl Mouse {
    /// The person moved it or pressed something. While the guest is slow, motion is summed up; no click is lost.
    pub fn pointer(&mut self, event: PointerEvent) {
        let event = PointerEvent { buttons: event.buttons & BUTTONS, ..event };
        let full = self.waiting.len() >= MAX_WAITING;
        match self.waiting.back_mut() {
            // Motion joins the last entry where the buttons are the same.
            Some(last) if last.buttons == event.buttons || full => {
                last.dx = last.dx.saturating_add(event.dx);
                last.dy = last.dy.saturating_add(event.dy);
                last.wheel = last.wheel.saturating_add(event.wheel);
                last.buttons = event.buttons;
            }
            _ => self.waiting.push_back(event),
        }
    }

    /// A byte from the guest.
    pub fn receive(&mut self, value: u8) {
        self.output.clear();
        if self.wrap && !matches!(value, 0xec | 0xff) {
            self.send(&[value]);
            return;
        }
        if let Some(command) = self.command.take() {
            self.parameter(command, value);
            return;
        }
        match value {
            0xe6 => self.set_scaling(false),
            0xe7 => self.set_scaling(true),
            0xe8 | 0xf3 => self.wait_for_parameter(value),
            0xe9 => self.send_status(),
            0xea => self.set_remote(false),
            0xeb => self.read_data(),
            0xec => self.set_wrap(false),
            0xee => self.set_wrap(true),
            0xf0 => self.set_remote(true),
            0xf2 => self.send(&[ACK, self.identification()]),
            0xf4 => self.set_reporting(true),
            0xf5 => self.set_reporting(false),
            0xf6 => self.set_defaults(),
            0xfe => self.send(&[self.last]),
            0xff => self.self_test(),
            _ => self.send(&[RESEND]),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
        self.output.truncate(MAX_ANSWER);
    }

    fn identification(&self) -> u8 {
        match (self.wheel_mode, self.explorer) {
            (false, _) => ID_STANDARD,
            (true, false) => ID_WHEEL,
            (true, true) => ID_EXPLORER,
        }
    }

    fn set_scaling(&mut self, on: bool) {
        self.scaling = on;
        self.send(&[ACK]);
    }

    fn wait_for_parameter(&mut self, command: u8) {
        self.command = Some(command);
        self.send(&[ACK]);
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match command {
            0xe8 if value <= 3 => self.resolution = value,
            0xf3 if matches!(value, 10 | 20 | 40 | 60 | 80 | 100 | 200) => self.set_rate(value),
            _ => {
                self.send(&[RESEND]);
                return;
            }
        }
        self.send(&[ACK]);
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.knock = [self.knock[1], self.knock[2], rate];
        match self.knock {
            [200, 100, 80] => self.wheel_mode = true,
            [200, 200, 80] if self.wheel_mode => self.explorer = true,
            _ => {}
        }
    }

    fn send_status(&mut self) {
        let mode = u8::from(self.remote) << 6 | u8::from(self.reporting) << 5 | u8::from(self.scaling) << 4;
        // Here the left button is bit 2 and the right one bit 0.
        let buttons = self.buttons << 2 & 4 | self.buttons >> 1 & 1 | self.buttons >> 1 & 2;
        self.send(&[ACK, mode | buttons, self.resolution, self.rate]);
    }

    fn set_remote(&mut self, on: bool) {
        self.remote = on;
        self.waiting.clear();
        self.send(&[ACK]);
    }

    fn set_wrap(&mut self, on: bool) {
        self.wrap = on;
        self.send(&[ACK]);
    }

    fn set_reporting(&mut self, on: bool) {
        self.reporting = on;
        self.waiting.clear();
        self.send(&[ACK]);
    }

    fn set_defaults(&mut self) {
        let Self { last, wheel_mode, explorer, report_at, .. } = *self;
        *self = Self { last, wheel_mode, explorer, report_at, ..Self::default() };
        self.send(&[ACK]);
    }

    fn self_test(&mut self) {
        *self = Self { report_at: self.report_at, ..Self::default() };
        self.send(&[ACK, SELF_TEST_PASSED, ID_STANDARD]);
    }

    fn read_data(&mut self) {
        self.send(&[ACK]);
        let packet = self.packet(true);
        self.send(&packet);
    }

    /// The next report. What does not fit into it stays for the one after. `remote`: it is asked for, so it is not scaled.
    fn packet(&mut self, remote: bool) -> Vec<u8> {
        let mut event =
            self.waiting.pop_front().unwrap_or(PointerEvent { buttons: self.buttons, ..Default::default() });
        let dx = event.dx.clamp(-255, 255);
        let dy = event.dy.saturating_neg().clamp(-255, 255);
        let wheel = if self.wheel_mode { event.wheel.clamp(-8, 7) } else { event.wheel };
        event.dx -= dx;
        event.dy = event.dy.saturating_add(dy);
        event.wheel -= wheel;
        self.buttons = event.buttons;
        if event.dx != 0 || event.dy != 0 || event.wheel != 0 {
            self.waiting.push_front(event);
        }
        let scale = |value| if self.scaling && !remote { double(value) } else { value };
        let (x, y) = (scale(dx), scale(dy));
        let first = self.buttons & 7 | 1 << 3 | u8::from(x < 0) << 4 | u8::from(y < 0) << 5;
        let mut packet = vec![first, x as u8, y as u8];
        if self.explorer {
            // Four bits of wheel, then buttons four and five.
            packet.push(wheel as u8 & 0x0f | self.buttons << 1 & 0x30);
        } else if self.wheel_mode {
            packet.push(wheel as u8);
        }
        packet
    }

    /// Whether the next byte is there at `now`.
    pub fn prepare(&mut self, now: Nanos) -> bool {
        if self.output.is_empty() && self.wants_report() && now >= self.report_at {
            // The rate is a limit, not a clock: a report leaves when there is something to say.
            self.report_at = now.saturating_add(SECOND / u64::from(self.rate.max(10)));
            let packet = self.packet(false);
            self.send(&packet);
        }
        !self.output.is_empty()
    }

    fn wants_report(&self) -> bool {
        self.reporting && !self.remote && !self.wrap && self.command.is_none() && !self.waiting.is_empty()
    }

    /// When it next has something to say by itself, if it has.
    pub fn next_event(&self) -> Option<Nanos> {
        if self.output.is_empty() { self.wants_report().then_some(self.report_at) } else { Some(0) }
    }

    /// Takes the next byte.
    pub fn take(&mut self) -> Option<u8> {
        let byte = self.output.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// Whether a saved state can be one of a mouse.
    pub fn is_possible(&self) -> bool {
        self.output.len() <= MAX_ANSWER
            && self.waiting.len() <= MAX_WAITING
            && self.waiting.iter().all(|event| event.buttons <= BUTTONS)
            && self.buttons <= BUTTONS
            && self.resolution <= 3
            && (self.wheel_mode || !self.explorer)
            && (10..=200).contains(&self.rate)
    }
}

/// 2:1 scaling (technical reference, "Scaling").
fn double(value: i32) -> i32 {
    let magnitude = match value.abs() {
        0 => 0,
        1 | 2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        more => (2 * more).min(255),
    };
    magnitude * value.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for byte in bytes {
            mouse.receive(*byte);
            answer.extend(std::iter::from_fn(|| mouse.take()));
        }
        answer
    }

    fn report(mouse: &mut Mouse, now: Nanos) -> Vec<u8> {
        mouse.prepare(now);
        std::iter::from_fn(|| mouse.take()).collect()
    }

    #[test]
    fn a_driver_finds_the_wheel() {
        let mut mouse = Mouse::default();
        assert_eq!(say(&mut mouse, &[0xff]), [ACK, 0xaa, 0]);
        assert_eq!(say(&mut mouse, &[0xf2]), [ACK, 0]);
        assert_eq!(say(&mut mouse, &[0xf3, 200, 0xf3, 100, 0xf3, 80]), [ACK; 6]);
        assert_eq!(say(&mut mouse, &[0xf2]), [ACK, 3]);
        assert_eq!(say(&mut mouse, &[0xe8, 3, 0xe7, 0xf4, 0xe9]), [ACK, ACK, ACK, ACK, ACK, 0x30, 3, 80]);
        assert_eq!(say(&mut mouse, &[0xf3, 33, 0x55]), [ACK, RESEND, RESEND]);
        assert_eq!(say(&mut mouse, &[0xee, 0x12, 0xf4, 0xec]), [ACK, 0x12, 0xf4, ACK]);
    }

    #[test]
    fn five_buttons_come_after_the_wheel() {
        let mut mouse = Mouse::default();
        let explorer = [0xf3, 200, 0xf3, 200, 0xf3, 80];
        say(&mut mouse, &explorer);
        assert_eq!(say(&mut mouse, &[0xf2]), [ACK, 0], "only a mouse with its wheel on has them");
        say(&mut mouse, &[0xf3, 200, 0xf3, 100, 0xf3, 80]);
        say(&mut mouse, &explorer);
        assert_eq!(say(&mut mouse, &[0xf2, 0xf6, 0xf2, 0xf4]), [ACK, 4, ACK, ACK, 4, ACK]);
        mouse.pointer(PointerEvent { dx: 1, wheel: -1, buttons: 0x18, ..Default::default() });
        assert_eq!(report(&mut mouse, 0), [0x08, 1, 0, 0x3f]);
        mouse.pointer(PointerEvent { wheel: 2, buttons: 0x0c, ..Default::default() });
        assert_eq!(report(&mut mouse, SECOND), [0x0c, 0, 0, 0x12]);
        assert_eq!(say(&mut mouse, &[0xff, 0xf2]), [ACK, 0xaa, 0, ACK, 0]);
    }

    #[test]
    fn motion_is_summed_up_and_clicks_are_kept() {
        let mut mouse = Mouse::default();
        mouse.receive(0xf4);
        mouse.take();
        for _ in 0..100 {
            mouse.pointer(PointerEvent { dx: 3, dy: -1, ..Default::default() });
        }
        mouse.pointer(PointerEvent { buttons: 1, ..Default::default() });
        mouse.pointer(PointerEvent::default());
        assert_eq!(report(&mut mouse, 0), [0x08, 255, 100]);
        assert_eq!(report(&mut mouse, 1), [0_u8; 0], "not faster than the sample rate");
        assert_eq!(mouse.next_event(), Some(SECOND / 100));
        assert_eq!(report(&mut mouse, SECOND), [0x08, 45, 0]);
        assert_eq!(report(&mut mouse, 2 * SECOND), [0x09, 0, 0]);
        assert_eq!(report(&mut mouse, 3 * SECOND), [0x08, 0, 0]);
        assert_eq!(mouse.next_event(), None);
        mouse.pointer(PointerEvent { dx: -1, dy: 2, ..Default::default() });
        assert_eq!(report(&mut mouse, 4 * SECOND), [0x38, 0xff, 0xfe]);
        say(&mut mouse, &[0xf3, 200, 0xf3, 100, 0xf3, 80]);
        mouse.pointer(PointerEvent { wheel: -1, ..Default::default() });
        assert_eq!(report(&mut mouse, 5 * SECOND), [0x08, 0, 0, 0xff]);
        mouse.pointer(PointerEvent { dx: 5, buttons: 2, ..Default::default() });
        assert_eq!(say(&mut mouse, &[0xf0, 0xeb]), [ACK, ACK, 0x08, 0, 0, 0]);
    }
}
