//! Who has the keyboard and the pointer: the window, or a guest.
//!
//! Keys go from the window system straight to the machine, in order, without waiting for a picture to be drawn. Ctrl-Alt gives
//! everything back when both come up and no other key was pressed with them; with a third key they belong to the guest.
//!
//! A guest with an ordinary mouse gets motion, and the pointer is kept in the window meanwhile. A guest that takes places of the
//! pointer gets those while the pointer is over its picture, and nothing is kept.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use vm_core::input::{AbsolutePointerEvent, Key, KeyEvent, PointerEvent};
use vm_core::runner::{Command, VmHandle};
use winit::event::{ElementState, MouseButton, MouseScrollDelta, WindowEvent};
use winit::window::{CursorGrabMode, Window};

/// Pixels of a touchpad that count as one step of a wheel.
const PIXELS_PER_STEP: f64 = 40.0;

/// Takes what the guest should get. A trait so that tests can listen.
pub trait Receiver {
    /// Sends a command to the machine; never waits.
    fn send(&self, command: Command);
    /// Whether the guest takes the places that the pointer is at.
    fn takes_places(&self) -> bool;
}

impl Receiver for VmHandle {
    fn send(&self, command: Command) {
        VmHandle::send(self, command);
    }

    fn takes_places(&self) -> bool {
        self.takes_absolute_pointer()
    }
}

/// Keyboard and pointer, and the guest that has them.
pub struct Grab<R: Receiver = VmHandle> {
    guest: Option<(String, R)>,
    pointer: bool,
    /// Not an owner: the window must go away when its event loop lets it go.
    window: Weak<Window>,
    held: BTreeSet<Key>,
    buttons: u8,
    motion: (f64, f64),
    wheel: f64,
    /// Where the guest's picture is on the window, and where the pointer is, in pixels of the window.
    picture: Option<Area>,
    at: (f64, f64),
    chord: Chord,
}

/// A part of the window, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// From the window's left edge.
    pub left: f64,
    /// From its upper edge.
    pub top: f64,
    /// At least 1.
    pub width: f64,
    /// At least 1.
    pub height: f64,
}

impl Area {
    fn contains(&self, (x, y): (f64, f64)) -> bool {
        (self.left..self.left + self.width).contains(&x) && (self.top..self.top + self.height).contains(&y)
    }

    /// Where a point lies in the area, from 0 to 65535 each way; one outside counts as one at the edge.
    fn place(&self, (x, y): (f64, f64)) -> (u16, u16) {
        let part = |at: f64, start: f64, length: f64| {
            // From the middle of the first pixel to the middle of the last.
            (((at - start) / (length - 1.0).max(1.0)).clamp(0.0, 1.0) * 65535.0).round() as u16
        };
        (part(x, self.left, self.width), part(y, self.top, self.height))
    }
}

/// Where Ctrl-Alt stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chord {
    /// Not both are down.
    #[default]
    Idle,
    /// Both are down, alone so far (or one of them is up again already).
    Armed,
    /// Another key came with them: they are the guest's.
    Spoilt,
}

impl<R: Receiver> Default for Grab<R> {
    fn default() -> Self {
        Self {
            guest: None,
            pointer: false,
            window: Weak::new(),
            held: BTreeSet::new(),
            buttons: 0,
            motion: (0.0, 0.0),
            wheel: 0.0,
            picture: None,
            at: (0.0, 0.0),
            chord: Chord::Idle,
        }
    }
}

impl<R: Receiver> Grab<R> {
    /// The window whose pointer is confined.
    pub fn set_window(&mut self, window: &Arc<Window>) {
        self.window = Arc::downgrade(window);
    }

    /// The machine that has the keyboard.
    pub fn keyboard(&self) -> Option<&str> {
        self.guest.as_ref().map(|(id, _)| id.as_str())
    }

    /// Whether it has the pointer too.
    pub fn pointer(&self) -> bool {
        self.pointer
    }

    /// Whether the guest that has the keyboard gets the places of the pointer.
    pub fn places(&self) -> bool {
        !self.pointer && self.guest.as_ref().is_some_and(|(_, guest)| guest.takes_places())
    }

    /// Whether the pointer is the guest's now because it is over its picture: the host's own picture of it is in the way there.
    pub fn over_picture(&self) -> bool {
        self.places() && self.picture.is_some_and(|picture| picture.contains(self.at))
    }

    /// Where the guest's picture is on the window now.
    pub fn set_picture(&mut self, picture: Option<Area>) {
        self.picture = picture;
    }

    /// Gives the keyboard to a guest, and the pointer too where `pointer` says so and the guest takes no places.
    pub fn give(&mut self, id: &str, guest: R, pointer: bool) {
        let pointer = pointer && !guest.takes_places();
        if self.keyboard() != Some(id) {
            self.release();
            self.guest = Some((id.to_owned(), guest));
        }
        if pointer != self.pointer {
            self.confine(pointer);
        }
    }

    /// Takes everything back and lifts every key and button that the guest believes is down.
    pub fn release(&mut self) {
        self.lift();
        self.guest = None;
        if self.pointer {
            self.confine(false);
        }
    }

    /// Lifts every key and button in the guest; it keeps the keyboard. For a window that lost the focus.
    pub fn lift(&mut self) {
        self.chord = Chord::Idle;
        let held = std::mem::take(&mut self.held);
        let buttons = std::mem::take(&mut self.buttons);
        let Some((_, guest)) = &self.guest else { return };
        for key in held.into_iter().rev() {
            guest.send(Command::Key(KeyEvent { key, down: false }));
        }
        if buttons != 0 {
            self.send_pointer(0, 0, 0);
        }
    }

    fn confine(&mut self, confined: bool) {
        self.pointer = confined;
        self.motion = (0.0, 0.0);
        self.wheel = 0.0;
        let Some(window) = self.window.upgrade() else { return };
        window.set_cursor_visible(!confined);
        let done = if confined {
            // X11 has the first, Wayland both, macOS the second.
            window.set_cursor_grab(CursorGrabMode::Confined).or_else(|_| window.set_cursor_grab(CursorGrabMode::Locked))
        } else {
            window.set_cursor_grab(CursorGrabMode::None)
        };
        if let Err(error) = done {
            tracing::warn!("the pointer cannot be kept in the window: {error}");
        }
    }

    /// Looks at an event of the window before anybody else. True: it was for the guest, and nobody else should see it.
    pub fn window_event(&mut self, event: &WindowEvent) -> bool {
        if let WindowEvent::CursorMoved { position, .. } = event {
            self.at = (position.x, position.y);
        }
        let Some((_, guest)) = &self.guest else { return false };
        if self.pointer && guest.takes_places() {
            // It has learnt to take places since it got the pointer.
            self.lift_buttons();
            self.confine(false);
        }
        match event {
            WindowEvent::KeyboardInput { event, is_synthetic, .. } => {
                if !is_synthetic && let Some(key) = crate::keymap::to_pc(event.physical_key) {
                    self.key(key, event.state == ElementState::Pressed, event.repeat);
                }
                true
            }
            WindowEvent::Ime(_) => true,
            WindowEvent::Focused(false) => {
                self.lift();
                if self.pointer {
                    self.confine(false);
                }
                false
            }
            WindowEvent::MouseInput { state, button, .. } if self.pointer => {
                self.button(*button, *state == ElementState::Pressed);
                true
            }
            WindowEvent::MouseInput { state: ElementState::Pressed, button, .. } if self.over_picture() => {
                self.button(*button, true);
                true
            }
            WindowEvent::MouseInput { state: ElementState::Released, button, .. } if self.buttons != 0 => {
                self.button(*button, false);
                // The window may have seen it go down.
                false
            }
            WindowEvent::CursorMoved { .. } if self.places() => {
                // A drag goes on beside the picture, at its edge.
                if self.buttons != 0 || self.over_picture() {
                    self.send_pointer(0, 0, 0);
                }
                false
            }
            WindowEvent::MouseWheel { delta, .. } if self.pointer || self.over_picture() => {
                // A positive delta is away from the person.
                self.wheel -= match *delta {
                    MouseScrollDelta::LineDelta(_, lines) => f64::from(lines),
                    MouseScrollDelta::PixelDelta(pixels) => pixels.y / PIXELS_PER_STEP,
                };
                let steps = self.wheel.trunc();
                if steps != 0.0 {
                    self.wheel -= steps;
                    self.send_pointer(0, 0, steps as i32);
                }
                true
            }
            WindowEvent::CursorMoved { .. } | WindowEvent::CursorEntered { .. } | WindowEvent::CursorLeft { .. } => {
                self.pointer
            }
            _ => false,
        }
    }

    /// The pointer moved by so much (raw counts, whatever the window system does with the visible pointer).
    pub fn motion(&mut self, dx: f64, dy: f64) {
        if !self.pointer {
            return;
        }
        self.motion.0 += dx;
        self.motion.1 += dy;
        let whole = (self.motion.0.trunc(), self.motion.1.trunc());
        if whole != (0.0, 0.0) {
            self.motion.0 -= whole.0;
            self.motion.1 -= whole.1;
            self.send_pointer(whole.0 as i32, whole.1 as i32, 0);
        }
    }

    /// The click that gave the guest the keyboard is the guest's too, where it takes places.
    pub fn click_too(&mut self) {
        if self.over_picture() {
            self.button(MouseButton::Left, true);
            self.button(MouseButton::Left, false);
        }
    }

    fn lift_buttons(&mut self) {
        if std::mem::take(&mut self.buttons) != 0 {
            self.send_pointer(0, 0, 0);
        }
    }

    fn button(&mut self, button: MouseButton, down: bool) {
        let bit = match button {
            MouseButton::Left => 1,
            MouseButton::Right => 2,
            MouseButton::Middle => 4,
            MouseButton::Back => 8,
            MouseButton::Forward => 16,
            MouseButton::Other(_) => return,
        };
        if down {
            self.buttons |= bit;
        } else {
            self.buttons &= !bit;
        }
        self.send_pointer(0, 0, 0);
    }

    fn send_pointer(&self, dx: i32, dy: i32, wheel: i32) {
        let Some((_, guest)) = &self.guest else { return };
        let buttons = self.buttons;
        match self.picture {
            Some(picture) if !self.pointer && guest.takes_places() => {
                let (x, y) = picture.place(self.at);
                guest.send(Command::AbsolutePointer(AbsolutePointerEvent { x, y, wheel, buttons }));
            }
            _ => guest.send(Command::Pointer(PointerEvent { dx, dy, wheel, buttons })),
        }
    }

    /// A key of the host. `repeat`: the host's own typematic repeat.
    pub fn key(&mut self, key: Key, down: bool, repeat: bool) {
        let Some((_, guest)) = &self.guest else { return };
        if down {
            if repeat && !self.held.contains(&key) {
                return; // It was pressed for the window, before the guest got the keyboard.
            }
            self.held.insert(key);
        } else if !self.held.remove(&key) {
            return;
        }
        guest.send(Command::Key(KeyEvent { key, down }));
        let control = |key: &Key| matches!(key, Key::ControlLeft | Key::ControlRight);
        let alt = |key: &Key| matches!(key, Key::AltLeft | Key::AltRight);
        let ctrl_alt_key = |key: &Key| control(key) || alt(key);
        if down {
            if !self.held.iter().all(ctrl_alt_key) {
                self.chord = Chord::Spoilt;
            } else if self.chord == Chord::Idle && self.held.iter().any(control) && self.held.iter().any(alt) {
                self.chord = Chord::Armed;
            }
        } else if !self.held.iter().any(ctrl_alt_key) {
            let armed = self.chord == Chord::Armed;
            self.chord = if self.held.is_empty() { Chord::Idle } else { Chord::Spoilt };
            if armed {
                self.release();
            }
        } else if self.held.is_empty() {
            self.chord = Chord::Idle;
        }
        if self.held.is_empty() {
            self.chord = Chord::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use winit::dpi::PhysicalPosition;
    use winit::event::DeviceId;

    use super::*;

    #[derive(Clone, Default)]
    struct Ear(Rc<RefCell<Vec<(Key, bool)>>>, Rc<RefCell<Vec<AbsolutePointerEvent>>>, Rc<Cell<bool>>);

    impl Receiver for Ear {
        fn send(&self, command: Command) {
            match command {
                Command::Key(event) => self.0.borrow_mut().push((event.key, event.down)),
                Command::AbsolutePointer(event) => self.1.borrow_mut().push(event),
                _ => {}
            }
        }

        fn takes_places(&self) -> bool {
            self.2.get()
        }
    }

    fn moved(x: f64, y: f64) -> WindowEvent {
        WindowEvent::CursorMoved { device_id: DeviceId::dummy(), position: PhysicalPosition::new(x, y) }
    }

    fn left(state: ElementState) -> WindowEvent {
        WindowEvent::MouseInput { device_id: DeviceId::dummy(), state, button: MouseButton::Left }
    }

    #[test]
    fn a_guest_that_takes_places_gets_them_over_its_picture_and_the_pointer_stays_free() {
        let ear = Ear::default();
        ear.2.set(true);
        let mut grab = Grab::default();
        grab.set_picture(Some(Area { left: 100.0, top: 50.0, width: 101.0, height: 101.0 }));
        grab.give("m", ear.clone(), true);
        assert!(!grab.pointer() && grab.places());
        assert!(!grab.window_event(&moved(99.0, 60.0)) && !grab.over_picture());
        assert!(!grab.window_event(&left(ElementState::Pressed)), "beside the picture it is the window's");
        assert!(ear.1.borrow().is_empty());
        assert!(!grab.window_event(&moved(150.0, 100.0)), "the window follows the pointer too");
        assert!(grab.window_event(&left(ElementState::Pressed)));
        grab.window_event(&moved(900.0, 100.0));
        grab.window_event(&left(ElementState::Released));
        let heard: Vec<_> = ear.1.borrow().iter().map(|event| (event.x, event.y, event.buttons)).collect();
        assert_eq!(heard, [(32768, 32768, 0), (32768, 32768, 1), (65535, 32768, 1), (65535, 32768, 0)]);
        // Ctrl-Alt gives the keyboard back, and with it the places.
        for (key, down) in
            [(Key::ControlLeft, true), (Key::AltLeft, true), (Key::AltLeft, false), (Key::ControlLeft, false)]
        {
            grab.key(key, down, false);
        }
        grab.window_event(&moved(150.0, 100.0));
        assert_eq!(ear.1.borrow().len(), heard.len());
    }

    #[test]
    fn a_guest_that_learns_to_take_places_lets_the_pointer_go() {
        let (mut grab, ear) = grabbed();
        grab.set_picture(Some(Area { left: 0.0, top: 0.0, width: 10.0, height: 10.0 }));
        assert!(grab.pointer() && grab.window_event(&moved(5.0, 5.0)));
        ear.2.set(true);
        assert!(!grab.window_event(&moved(9.0, 0.0)));
        assert!(!grab.pointer() && grab.keyboard().is_some());
        assert_eq!(ear.1.borrow().last().map(|event| (event.x, event.y)), Some((65535, 0)));
    }

    fn grabbed() -> (Grab<Ear>, Ear) {
        let ear = Ear::default();
        let mut grab = Grab::default();
        grab.give("m", ear.clone(), true);
        (grab, ear)
    }

    #[test]
    fn ctrl_alt_alone_releases_when_both_are_up_again() {
        let (mut grab, ear) = grabbed();
        grab.key(Key::ControlLeft, true, false);
        grab.key(Key::AltLeft, true, false);
        grab.key(Key::ControlLeft, false, false);
        assert!(grab.keyboard().is_some());
        grab.key(Key::AltLeft, false, false);
        assert!(grab.keyboard().is_none() && !grab.pointer());
        assert_eq!(ear.0.borrow().iter().filter(|(_, down)| *down).count(), 2);
        assert_eq!(ear.0.borrow().iter().filter(|(_, down)| !*down).count(), 2, "the guest saw them come up");
    }

    #[test]
    fn ctrl_alt_with_a_third_key_is_the_guests() {
        let (mut grab, _) = grabbed();
        for key in [Key::ControlLeft, Key::AltLeft, Key::F2] {
            grab.key(key, true, false);
        }
        for key in [Key::F2, Key::AltLeft, Key::ControlLeft] {
            grab.key(key, false, false);
        }
        assert!(grab.keyboard().is_some());
        // A key that was down before them spoils it too; the next time they are alone.
        grab.key(Key::A, true, false);
        grab.key(Key::ControlLeft, true, false);
        grab.key(Key::AltLeft, true, false);
        grab.key(Key::A, false, false);
        grab.key(Key::AltLeft, false, false);
        grab.key(Key::ControlLeft, false, false);
        assert!(grab.keyboard().is_some());
        grab.key(Key::AltRight, true, false);
        grab.key(Key::ControlRight, true, false);
        grab.key(Key::AltRight, false, false);
        grab.key(Key::ControlRight, false, false);
        assert!(grab.keyboard().is_none());
    }

    #[test]
    fn losing_the_focus_lifts_every_key() {
        let (mut grab, ear) = grabbed();
        grab.key(Key::ShiftLeft, true, false);
        grab.key(Key::A, true, false);
        grab.key(Key::A, true, true);
        grab.window_event(&WindowEvent::Focused(false));
        let heard = ear.0.borrow().clone();
        assert_eq!(&heard[..3], [(Key::ShiftLeft, true), (Key::A, true), (Key::A, true)]);
        assert!(heard[3..].contains(&(Key::A, false)) && heard[3..].contains(&(Key::ShiftLeft, false)));
        assert!(!grab.pointer() && grab.keyboard().is_some());
        grab.key(Key::A, false, false);
        assert_eq!(ear.0.borrow().len(), heard.len(), "a key that is up does not come up again");
    }

    #[test]
    fn a_key_pressed_for_the_window_does_not_reach_the_guest() {
        let (mut grab, ear) = grabbed();
        grab.key(Key::Enter, true, true);
        grab.key(Key::Enter, false, false);
        assert!(ear.0.borrow().is_empty());
    }
}
