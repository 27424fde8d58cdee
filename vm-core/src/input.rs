//! What a person does to the machine: keys and the pointer.

use serde::{Deserialize, Serialize};

macro_rules! keys {
    ($($key:ident, $qcode:literal, $set1:literal;)*) => {
        /// A key of a PC keyboard, by its place (the names are those of a US keyboard).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "each is the key that it is named for")]
        pub enum Key { $($key),* }

        impl Key {
            /// Every key.
            pub const ALL: &'static [Key] = &[$(Key::$key),*];

            /// The name that `sendkey` and QMP use.
            pub const fn qcode(self) -> &'static str {
                match self { $(Key::$key => $qcode),* }
            }

            /// The make code of scan-code set 1; `0xe0` in the high byte where the key has that prefix. `Pause`, the only key
            /// whose code starts with `0xe1`, has `0xe11d`.
            pub const fn set1(self) -> u16 {
                match self { $(Key::$key => $set1),* }
            }

            /// The key that `sendkey` and QMP call `name`.
            pub fn from_qcode(name: &str) -> Option<Key> {
                match name { $($qcode => Some(Key::$key),)* _ => None }
            }
        }
    };
}

#[rustfmt::skip]
keys! {
    Escape,          "esc",               0x01;
    Digit1,          "1",                 0x02;
    Digit2,          "2",                 0x03;
    Digit3,          "3",                 0x04;
    Digit4,          "4",                 0x05;
    Digit5,          "5",                 0x06;
    Digit6,          "6",                 0x07;
    Digit7,          "7",                 0x08;
    Digit8,          "8",                 0x09;
    Digit9,          "9",                 0x0a;
    Digit0,          "0",                 0x0b;
    Minus,           "minus",             0x0c;
    Equal,           "equal",             0x0d;
    Backspace,       "backspace",         0x0e;
    Tab,             "tab",               0x0f;
    Q,               "q",                 0x10;
    W,               "w",                 0x11;
    E,               "e",                 0x12;
    R,               "r",                 0x13;
    T,               "t",                 0x14;
    Y,               "y",                 0x15;
    U,               "u",                 0x16;
    I,               "i",                 0x17;
    O,               "o",                 0x18;
    P,               "p",                 0x19;
    BracketLeft,     "bracket_left",      0x1a;
    BracketRight,    "bracket_right",     0x1b;
    Enter,           "ret",               0x1c;
    ControlLeft,     "ctrl",              0x1d;
    A,               "a",                 0x1e;
    S,               "s",                 0x1f;
    D,               "d",                 0x20;
    F,               "f",                 0x21;
    G,               "g",                 0x22;
    H,               "h",                 0x23;
    J,               "j",                 0x24;
    K,               "k",                 0x25;
    L,               "l",                 0x26;
    Semicolon,       "semicolon",         0x27;
    Quote,           "apostrophe",        0x28;
    Backquote,       "grave_accent",      0x29;
    ShiftLeft,       "shift",             0x2a;
    Backslash,       "backslash",         0x2b;
    Z,               "z",                 0x2c;
    X,               "x",                 0x2d;
    C,               "c",                 0x2e;
    V,               "v",                 0x2f;
    B,               "b",                 0x30;
    N,               "n",                 0x31;
    M,               "m",                 0x32;
    Comma,           "comma",             0x33;
    Period,          "dot",               0x34;
    Slash,           "slash",             0x35;
    ShiftRight,      "shift_r",           0x36;
    KeypadMultiply,  "kp_multiply",       0x37;
    AltLeft,         "alt",               0x38;
    Space,           "spc",               0x39;
    CapsLock,        "caps_lock",         0x3a;
    F1,              "f1",                0x3b;
    F2,              "f2",                0x3c;
    F3,              "f3",                0x3d;
    F4,              "f4",                0x3e;
    F5,              "f5",                0x3f;
    F6,              "f6",                0x40;
    F7,              "f7",                0x41;
    F8,              "f8",                0x42;
    F9,              "f9",                0x43;
    F10,             "f10",               0x44;
    NumLock,         "num_lock",          0x45;
    ScrollLock,      "scroll_lock",       0x46;
    Keypad7,         "kp_7",              0x47;
    Keypad8,         "kp_8",              0x48;
    Keypad9,         "kp_9",              0x49;
    KeypadSubtract,  "kp_subtract",       0x4a;
    Keypad4,         "kp_4",              0x4b;
    Keypad5,         "kp_5",              0x4c;
    Keypad6,         "kp_6",              0x4d;
    KeypadAdd,       "kp_add",            0x4e;
    Keypad1,         "kp_1",              0x4f;
    Keypad2,         "kp_2",              0x50;
    Keypad3,         "kp_3",              0x51;
    Keypad0,         "kp_0",              0x52;
    KeypadDecimal,   "kp_decimal",        0x53;
    IntlBackslash,   "less",              0x56;
    F11,             "f11",               0x57;
    F12,             "f12",               0x58;
    IntlRo,          "ro",                0x73;
    KanaMode,        "katakanahiragana",  0x70;
    Convert,         "henkan",            0x79;
    NonConvert,      "muhenkan",          0x7b;
    IntlYen,         "yen",               0x7d;
    KeypadEnter,     "kp_enter",          0xe01c;
    ControlRight,    "ctrl_r",            0xe01d;
    KeypadDivide,    "kp_divide",         0xe035;
    PrintScreen,     "print",             0xe037;
    AltRight,        "alt_r",             0xe038;
    Home,            "home",              0xe047;
    ArrowUp,         "up",                0xe048;
    PageUp,          "pgup",              0xe049;
    ArrowLeft,       "left",              0xe04b;
    ArrowRight,      "right",             0xe04d;
    End,             "end",               0xe04f;
    ArrowDown,       "down",              0xe050;
    PageDown,        "pgdn",              0xe051;
    Insert,          "insert",            0xe052;
    Delete,          "delete",            0xe053;
    SuperLeft,       "meta_l",            0xe05b;
    SuperRight,      "meta_r",            0xe05c;
    ContextMenu,     "menu",              0xe05d;
    Power,           "power",             0xe05e;
    Pause,           "pause",             0xe11d;
}

/// A key went down or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEvent {
    /// Which.
    pub key: Key,
    /// Down (true) or up. A repeated "down" is the typematic repeat of the host, and ignored: the guest's keyboard makes its own.
    pub down: bool,
}

/// The pointer moved, or its buttons or wheel did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointerEvent {
    /// Counts to the right.
    pub dx: i32,
    /// Counts down.
    pub dy: i32,
    /// Wheel steps towards the person.
    pub wheel: i32,
    /// Buttons that are down now: bit 0 left, bit 1 right, bit 2 middle, bit 3 back, bit 4 forward.
    pub buttons: u8,
}

/// The pointer is at a place of the guest's picture, or its buttons or wheel changed there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsolutePointerEvent {
    /// 0 at the left edge of the picture, 65535 at the right one.
    pub x: u16,
    /// 0 at the upper edge, 65535 at the lower one.
    pub y: u16,
    /// Wheel steps towards the person.
    pub wheel: i32,
    /// Buttons that are down now, as in [`PointerEvent::buttons`].
    pub buttons: u8,
}
