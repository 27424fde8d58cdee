//! isa-debug-exit: a guest ends the machine with a value. The process then leaves with (value << 1) | 1.

use std::sync::Arc;

use crate::bus::Width;
use crate::bus::signals::{Signals, StopReason};

/// The port. It has no state.
#[derive(Debug)]
pub struct DebugExit {
    signals: Arc<Signals>,
}

impl DebugExit {
    /// A port that stops the machine through `signals`.
    pub fn new(signals: &Arc<Signals>) -> Self {
        Self { signals: Arc::clone(signals) }
    }

    /// Reads the port: 0.
    pub fn read(&self) -> u32 {
        0
    }

    /// Ends the machine.
    pub fn write(&mut self, width: Width, value: u32) {
        self.signals.request_stop(StopReason::DebugExit(value & width.mask() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_ends_the_machine() {
        let signals = Arc::new(Signals::new());
        DebugExit::new(&signals).write(Width::Byte, 0x110);
        assert_eq!(signals.take_stop(), Some(StopReason::DebugExit(0x10)));
    }
}
