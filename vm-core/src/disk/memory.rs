//! A medium in memory, for tests: answers only when told, fails when told.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{BlockBackend, Completion, Operation, SECTOR};

/// What a test sees and sets from outside.
#[derive(Debug, Default)]
pub struct Control {
    /// The medium's bytes.
    pub bytes: Vec<u8>,
    /// Requests are kept waiting.
    pub held: bool,
    /// How many of the next requests fail, and with what.
    pub failures: VecDeque<io::ErrorKind>,
    /// Flushes carried out.
    pub flushes: u32,
    /// Requests carried out.
    pub requests: u32,
}

/// A medium in memory.
#[derive(Debug)]
pub struct Memory {
    control: Arc<Mutex<Control>>,
    read_only: bool,
    queue: VecDeque<(u64, Operation)>,
}

impl Memory {
    /// A medium with these bytes, and the end of it that a test keeps.
    pub fn new(bytes: Vec<u8>, read_only: bool) -> (Box<Self>, Arc<Mutex<Control>>) {
        let control = Arc::new(Mutex::new(Control { bytes, ..Control::default() }));
        (Box::new(Self { control: Arc::clone(&control), read_only, queue: VecDeque::new() }), control)
    }
}

impl BlockBackend for Memory {
    fn sectors(&self) -> u64 {
        self.control.lock().unwrap().bytes.len() as u64 / SECTOR
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn submit(&mut self, tag: u64, operation: Operation) {
        self.queue.push_back((tag, operation));
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut control = self.control.lock().unwrap();
        if control.held {
            return None;
        }
        let (tag, mut operation) = self.queue.pop_front()?;
        control.requests += 1;
        if let Some(kind) = control.failures.pop_front() {
            return Some(Completion { tag, operation, result: Err(kind.into()) });
        }
        let bytes = &mut control.bytes;
        let range = |sector: u64, len: usize| {
            let start = usize::try_from(sector).unwrap().saturating_mul(512);
            start..start.saturating_add(len)
        };
        let result = match &mut operation {
            Operation::Read { sector, buffer } => {
                bytes.get(range(*sector, buffer.len())).map(|from| buffer.copy_from_slice(from))
            }
            Operation::Write { sector, buffer } => {
                bytes.get_mut(range(*sector, buffer.len())).map(|into| into.copy_from_slice(buffer))
            }
            Operation::Flush => {
                control.flushes += 1;
                Some(())
            }
        };
        Some(Completion { tag, operation, result: result.ok_or_else(|| io::ErrorKind::InvalidInput.into()) })
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn path(&self) -> Option<&Path> {
        Some(Path::new("/memory.img"))
    }
}
