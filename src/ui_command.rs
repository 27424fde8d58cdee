//! Every action: its text, tooltip and shortcut.
