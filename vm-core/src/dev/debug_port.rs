//! Debug console ports 0xE9 and 0x402.
