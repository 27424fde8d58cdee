//! 82441FX host bridge.
