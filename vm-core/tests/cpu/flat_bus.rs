//! RAM from address 0 up, ports that log text, and an interrupt that a program can ask for.

use std::ptr::NonNull;
use std::sync::Arc;

use vm_core::bus::clock::Nanos;
use vm_core::bus::ram::{GuestRam, PAGE_SIZE};
use vm_core::bus::signals::Signals;
use vm_core::bus::{Bus, CodePolicy, PhysPage, Width};

/// Bytes written here are the program's output.
pub const TEXT_PORT: u16 = 0xe9;
/// A byte written here is the vector of an interrupt that becomes pending at once.
pub const INTERRUPT_PORT: u16 = 0x80;

/// A byte written here pulls SMI#.
pub const SMI_PORT: u16 = 0xb2;

/// The bus of a program under test.
pub struct FlatBus {
    pub memory: GuestRam,
    signals: Arc<Signals>,
    /// What the program wrote to [`TEXT_PORT`], cut off at 64 KiB.
    pub text: String,
    interrupt: Option<u8>,
    /// Ports and their values are logged and interrupts requested; noise tests do without.
    pub quiet: bool,
    /// [`SMI_PORT`] is there.
    pub smi: bool,
    ticks: std::cell::Cell<Nanos>,
}

impl FlatBus {
    /// `len` bytes of zeroed RAM.
    pub fn new(len: u64) -> Self {
        let signals = Arc::new(Signals::new());
        let memory = GuestRam::new(len, &signals).expect("memory for a test");
        Self {
            memory,
            signals,
            text: String::new(),
            interrupt: None,
            quiet: false,
            smi: false,
            ticks: std::cell::Cell::new(0),
        }
    }

    /// To be called between processors that share this memory: nothing is translated yet.
    pub fn forget_code(&self) {
        for page in 0..self.memory.len() / PAGE_SIZE {
            self.memory.mark_code(page, false);
        }
        self.memory.take_modified_code();
        self.signals.take_raised();
    }

    /// Begins as another bus is now: its memory and its clock.
    pub fn restart(&self, like: &Self) {
        self.memory.write(0, like.bytes());
        self.ticks.set(like.ticks.get());
        self.memory.take_modified_code();
        self.signals.take_raised();
    }

    /// All of RAM, for a comparison.
    pub fn bytes(&self) -> &[u8] {
        let host = self.memory.host(0, self.memory.len()).expect("RAM starts at 0");
        // SAFETY: the mapping has that many bytes, and nothing writes it while the bus is borrowed.
        unsafe { std::slice::from_raw_parts(host.as_ptr(), self.memory.len() as usize) }
    }
}

impl Bus for FlatBus {
    fn page(&self, address: u64) -> PhysPage {
        let host: Option<NonNull<u8>> = self.memory.host(address & !(PAGE_SIZE - 1), PAGE_SIZE);
        let code = if host.is_some() { CodePolicy::Ram } else { CodePolicy::Volatile };
        PhysPage { read: host, write: host, code }
    }

    fn ram(&self) -> &GuestRam {
        &self.memory
    }

    fn read(&mut self, _address: u64, width: Width) -> u64 {
        width.mask()
    }

    fn write(&mut self, _address: u64, _width: Width, _value: u64) {}

    fn port_in(&mut self, _port: u16, width: Width) -> u32 {
        width.mask() as u32
    }

    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        if self.quiet || width != Width::Byte {
            return;
        }
        match port {
            TEXT_PORT if self.text.len() < 0x1_0000 => self.text.push(char::from(value as u8)),
            INTERRUPT_PORT => self.interrupt = Some(value as u8),
            SMI_PORT if self.smi => self.signals.request_smi(),
            _ => {}
        }
    }

    fn interrupt_pending(&mut self) -> bool {
        self.interrupt.is_some()
    }

    fn acknowledge_interrupt(&mut self) -> u8 {
        self.interrupt.take().unwrap_or(0xff)
    }

    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn now(&self) -> Nanos {
        self.ticks.set(self.ticks.get() + 1000);
        self.ticks.get()
    }
}
