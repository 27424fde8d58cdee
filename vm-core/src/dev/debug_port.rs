//! Debug consoles: a port that takes bytes for the host. 0xE9 (Bochs) and 0x402 (SeaBIOS).

use serde::{Deserialize, Serialize};

use crate::chardev::CharBackend;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// What a read gives, so that a guest knows that the port is there.
pub const PRESENT: u8 = 0xe9;

/// Bytes kept for a slow host end; more are lost.
const MAX_WAITING: usize = 1 << 16;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DebugPortState {
    /// Bytes written so far.
    written: u64,
}

/// One debug console.
pub struct DebugPort {
    name: &'static str,
    state: DebugPortState,
    backend: Box<dyn CharBackend>,
    waiting: Vec<u8>,
}

impl DebugPort {
    /// A console whose bytes go to `backend`. `name` is that of its section in a saved state.
    pub fn new(name: &'static str, backend: Box<dyn CharBackend>) -> Self {
        Self { name, state: DebugPortState::default(), backend, waiting: Vec::new() }
    }

    /// Reads the port.
    pub fn read(&self) -> u8 {
        PRESENT
    }

    /// Writes a byte.
    pub fn write(&mut self, value: u8) {
        self.state.written = self.state.written.wrapping_add(1);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(value);
        }
        self.flush();
    }

    fn flush(&mut self) {
        if !self.waiting.is_empty() {
            let taken = self.backend.write(&self.waiting).min(self.waiting.len());
            self.waiting.drain(..taken);
        }
    }
}

impl Device for DebugPort {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reset(&mut self) {
        self.state = DebugPortState::default();
    }

    fn advance(&mut self, _now: u64) {
        self.flush();
    }

    fn save(&self) -> Section {
        Section::encode(self.name, 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.state = section.decode(self.name, 1)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::suite;
    use std::sync::{Arc, Mutex};

    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl CharBackend for Slow {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let mut taken = self.0.lock().expect("not poisoned");
            let count = bytes.len().min(taken.len() % 3);
            taken.extend(&bytes[..count]);
            if count == 0 {
                taken.push(b'.');
            }
            count
        }

        fn read(&mut self, _into: &mut [u8]) -> usize {
            0
        }
    }

    #[test]
    fn bytes_reach_a_slow_host_in_order() {
        let taken = Arc::default();
        let mut port = DebugPort::new("debugcon", Box::new(Slow(Arc::clone(&taken))));
        assert_eq!(port.read(), 0xe9);
        for byte in *b"hello" {
            port.write(byte);
        }
        for _ in 0..9 {
            port.advance(0);
        }
        let text: Vec<u8> = taken.lock().expect("not poisoned").iter().copied().filter(|byte| *byte != b'.').collect();
        assert_eq!(text, b"hello");
        suite::check(|| DebugPort::new("debugcon", Box::new(Slow(Arc::default()))), |port| port.write(1));
    }
}
