//! Keys of the host to keys of a PC, by their place and not by what is printed on them.

use vm_core::input::Key;
use winit::keyboard::{KeyCode, PhysicalKey};

/// The PC's key at the place of the host's key; `None` where a PC has none there.
pub fn to_pc(key: PhysicalKey) -> Option<Key> {
    let PhysicalKey::Code(code) = key else { return None };
    by_code(code)
}

#[rustfmt::skip]
fn by_code(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Escape         => Key::Escape,
        KeyCode::Digit1         => Key::Digit1,
        KeyCode::Digit2         => Key::Digit2,
        KeyCode::Digit3         => Key::Digit3,
        KeyCode::Digit4         => Key::Digit4,
        KeyCode::Digit5         => Key::Digit5,
        KeyCode::Digit6         => Key::Digit6,
        KeyCode::Digit7         => Key::Digit7,
        KeyCode::Digit8         => Key::Digit8,
        KeyCode::Digit9         => Key::Digit9,
        KeyCode::Digit0         => Key::Digit0,
        KeyCode::Minus          => Key::Minus,
        KeyCode::Equal          => Key::Equal,
        KeyCode::Backspace      => Key::Backspace,
        KeyCode::Tab            => Key::Tab,
        KeyCode::KeyQ           => Key::Q,
        KeyCode::KeyW           => Key::W,
        KeyCode::KeyE           => Key::E,
        KeyCode::KeyR           => Key::R,
        KeyCode::KeyT           => Key::T,
        KeyCode::KeyY           => Key::Y,
        KeyCode::KeyU           => Key::U,
        KeyCode::KeyI           => Key::I,
        KeyCode::KeyO           => Key::O,
        KeyCode::KeyP           => Key::P,
        KeyCode::BracketLeft    => Key::BracketLeft,
        KeyCode::BracketRight   => Key::BracketRight,
        KeyCode::Enter          => Key::Enter,
        KeyCode::ControlLeft    => Key::ControlLeft,
        KeyCode::KeyA           => Key::A,
        KeyCode::KeyS           => Key::S,
        KeyCode::KeyD           => Key::D,
        KeyCode::KeyF           => Key::F,
        KeyCode::KeyG           => Key::G,
        KeyCode::KeyH           => Key::H,
        KeyCode::KeyJ           => Key::J,
        KeyCode::KeyK           => Key::K,
        KeyCode::KeyL           => Key::L,
        KeyCode::Semicolon      => Key::Semicolon,
        KeyCode::Quote          => Key::Quote,
        KeyCode::Backquote      => Key::Backquote,
        KeyCode::ShiftLeft      => Key::ShiftLeft,
        KeyCode::Backslash      => Key::Backslash,
        KeyCode::KeyZ           => Key::Z,
        KeyCode::KeyX           => Key::X,
        KeyCode::KeyC           => Key::C,
        KeyCode::KeyV           => Key::V,
        KeyCode::KeyB           => Key::B,
        KeyCode::KeyN           => Key::N,
        KeyCode::KeyM           => Key::M,
        KeyCode::Comma          => Key::Comma,
        KeyCode::Period         => Key::Period,
        KeyCode::Slash          => Key::Slash,
        KeyCode::ShiftRight     => Key::ShiftRight,
        KeyCode::NumpadMultiply | KeyCode::NumpadStar => Key::KeypadMultiply,
        KeyCode::AltLeft        => Key::AltLeft,
        KeyCode::Space          => Key::Space,
        KeyCode::CapsLock       => Key::CapsLock,
        KeyCode::F1             => Key::F1,
        KeyCode::F2             => Key::F2,
        KeyCode::F3             => Key::F3,
        KeyCode::F4             => Key::F4,
        KeyCode::F5             => Key::F5,
        KeyCode::F6             => Key::F6,
        KeyCode::F7             => Key::F7,
        KeyCode::F8             => Key::F8,
        KeyCode::F9             => Key::F9,
        KeyCode::F10            => Key::F10,
        KeyCode::NumLock        => Key::NumLock,
        KeyCode::ScrollLock     => Key::ScrollLock,
        KeyCode::Numpad7        => Key::Keypad7,
        KeyCode::Numpad8        => Key::Keypad8,
        KeyCode::Numpad9        => Key::Keypad9,
        KeyCode::NumpadSubtract => Key::KeypadSubtract,
        KeyCode::Numpad4        => Key::Keypad4,
        KeyCode::Numpad5        => Key::Keypad5,
        KeyCode::Numpad6        => Key::Keypad6,
        KeyCode::NumpadAdd      => Key::KeypadAdd,
        KeyCode::Numpad1        => Key::Keypad1,
        KeyCode::Numpad2        => Key::Keypad2,
        KeyCode::Numpad3        => Key::Keypad3,
        KeyCode::Numpad0        => Key::Keypad0,
        KeyCode::NumpadDecimal  | KeyCode::NumpadComma => Key::KeypadDecimal,
        KeyCode::IntlBackslash  => Key::IntlBackslash,
        KeyCode::F11            => Key::F11,
        KeyCode::F12            => Key::F12,
        KeyCode::IntlRo         => Key::IntlRo,
        KeyCode::KanaMode       | KeyCode::Lang1 => Key::KanaMode,
        KeyCode::Convert        => Key::Convert,
        KeyCode::NonConvert     => Key::NonConvert,
        KeyCode::IntlYen        => Key::IntlYen,
        KeyCode::NumpadEnter    => Key::KeypadEnter,
        KeyCode::ControlRight   => Key::ControlRight,
        KeyCode::NumpadDivide   => Key::KeypadDivide,
        KeyCode::PrintScreen    => Key::PrintScreen,
        KeyCode::AltRight       => Key::AltRight,
        KeyCode::Home           => Key::Home,
        KeyCode::ArrowUp        => Key::ArrowUp,
        KeyCode::PageUp         => Key::PageUp,
        KeyCode::ArrowLeft      => Key::ArrowLeft,
        KeyCode::ArrowRight     => Key::ArrowRight,
        KeyCode::End            => Key::End,
        KeyCode::ArrowDown      => Key::ArrowDown,
        KeyCode::PageDown       => Key::PageDown,
        KeyCode::Insert         => Key::Insert,
        KeyCode::Delete         => Key::Delete,
        KeyCode::SuperLeft      => Key::SuperLeft,
        KeyCode::SuperRight     => Key::SuperRight,
        KeyCode::ContextMenu    => Key::ContextMenu,
        KeyCode::Power          => Key::Power,
        KeyCode::Pause          => Key::Pause,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keypad_is_not_the_main_block() {
        let pc = |code| to_pc(PhysicalKey::Code(code));
        assert_eq!(pc(KeyCode::Numpad7), Some(Key::Keypad7));
        assert_eq!(pc(KeyCode::Home), Some(Key::Home));
        assert_eq!(pc(KeyCode::NumpadEnter), Some(Key::KeypadEnter));
        assert_eq!(pc(KeyCode::Enter), Some(Key::Enter));
        assert_eq!(pc(KeyCode::BrowserHome), None);
    }
}
