//! One terminal for two: a serial line and the monitor, switched with Ctrl-A.
//!
//! Ctrl-A c switches, Ctrl-A x ends the machine, Ctrl-A h helps, Ctrl-A Ctrl-A sends one Ctrl-A.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{offer, take};
use super::{CharBackend, Waker};

const CTRL_A: u8 = 0x01;
const HELP: &[u8] =
    b"\r\nCtrl-A h  this help\r\nCtrl-A x  end the machine\r\nCtrl-A c  switch between the serial line and \
the monitor\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n";

/// Which of the two an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Serial = 0,
    Monitor = 1,
}

struct State {
    terminal: Box<dyn CharBackend>,
    /// Who gets the keys.
    focus: Side,
    /// Ctrl-A came last.
    escape: bool,
    /// Keys on their way to each side.
    queues: [VecDeque<u8>; 2],
    quit: Waker,
    /// Tells each side.
    wakers: [Waker; 2],
}

impl State {
    /// Sorts what was typed.
    fn route(&mut self) {
        let mut buffer = [0; 256];
        loop {
            let count = self.terminal.read(&mut buffer);
            if count == 0 {
                return;
            }
            for byte in &buffer[..count] {
                self.key(*byte);
            }
        }
    }

    fn key(&mut self, byte: u8) {
        if !std::mem::take(&mut self.escape) {
            if byte == CTRL_A {
                self.escape = true;
            } else {
                self.deliver(byte);
            }
            return;
        }
        match byte {
            CTRL_A => self.deliver(CTRL_A),
            b'c' | b'C' => {
                self.focus = match self.focus {
                    Side::Serial => Side::Monitor,
                    Side::Monitor => Side::Serial,
                };
                if self.focus == Side::Monitor {
                    // An empty line brings the prompt.
                    self.deliver(b'\r');
                }
            }
            b'x' | b'X' => self.quit.wake(),
            b'h' | b'H' | b'?' => {
                let _ = self.terminal.write(HELP);
            }
            _ => {}
        }
    }

    /// Somebody who types far ahead of a guest that reads nothing loses keys, but never Ctrl-A.
    fn deliver(&mut self, byte: u8) {
        let side = self.focus as usize;
        if offer(&mut self.queues[side], &[byte]) > 0 {
            self.wakers[side].wake();
        }
    }
}

/// One end of a shared terminal.
pub struct MuxEnd {
    state: Arc<Mutex<State>>,
    side: Side,
}

impl MuxEnd {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shares `terminal`: the ends of the serial line and of the monitor. The wakers hear when their side has keys; the terminal
/// itself must wake both. `quit` is told of Ctrl-A x. The serial line has the keys first.
pub fn share(
    terminal: Box<dyn CharBackend>,
    serial_waker: Waker,
    monitor_waker: Waker,
    quit: Waker,
) -> (MuxEnd, MuxEnd) {
    let state = Arc::new(Mutex::new(State {
        terminal,
        focus: Side::Serial,
        escape: false,
        queues: Default::default(),
        quit,
        wakers: [serial_waker, monitor_waker],
    }));
    (MuxEnd { state: Arc::clone(&state), side: Side::Serial }, MuxEnd { state, side: Side::Monitor })
}

impl CharBackend for MuxEnd {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.state().terminal.write(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let mut state = self.state();
        state.route();
        take(&mut state.queues[self.side as usize], into)
    }

    fn connection(&self) -> u64 {
        self.state().terminal.connection()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chardev::memory;

    fn read(end: &mut MuxEnd) -> Vec<u8> {
        let mut buffer = [0; 64];
        let count = end.read(&mut buffer);
        buffer[..count].to_vec()
    }

    #[test]
    fn control_a_switches_helps_and_quits() {
        let (bell, _) = Waker::bell();
        let (quit, asked) = Waker::bell();
        let (terminal, person) = memory::pipe(bell.clone());
        let (mut serial, mut monitor) = share(Box::new(terminal), bell.clone(), bell, quit);
        person.send(b"ls\x01\x01\x01cstop");
        assert_eq!(read(&mut serial), b"ls\x01");
        assert_eq!(read(&mut monitor), b"\rstop");
        person.send(b"\x01cx\x01h");
        assert_eq!(read(&mut monitor), b"");
        assert_eq!(read(&mut serial), b"x");
        assert!(String::from_utf8(person.received()).unwrap().contains("Ctrl-A x"));
        assert!(asked.try_recv().is_err());
        person.send(b"\x01x");
        read(&mut serial);
        asked.try_recv().unwrap();
        serial.write(b"a");
        monitor.write(b"b");
        assert_eq!(person.received(), b"ab");
    }
}
