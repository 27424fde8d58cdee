//! System control port B (0x61) and the speaker.
