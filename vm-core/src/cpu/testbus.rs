//! A bus for the processor's own tests: flat RAM, a log of port accesses, an interrupt that a test can raise.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::bus::clock::Nanos;
use crate::bus::ram::{GuestRam, PAGE_SIZE};
use crate::bus::signals::Signals;
use crate::bus::{Bus, CodePolicy, PhysPage, Width};

/// RAM from address 0 up and nothing else but ports.
pub(crate) struct TestBus {
    pub ram: GuestRam,
    pub signals: Arc<Signals>,
    /// OUTs in order: port, width, value.
    pub outs: Vec<(u16, Width, u32)>,
    /// What INs give, in order; all ones when empty.
    pub ins: VecDeque<u32>,
    /// INs in order: port, width.
    pub asked: Vec<(u16, Width)>,
    /// Memory accesses that no page maps: address, width, value where it is a write.
    pub mmio: Vec<(u64, Width, Option<u64>)>,
    /// What a read that no page maps gives.
    pub mmio_value: u64,
    /// A pending interrupt's vector; taken by the acknowledge.
    pub interrupt: Option<u8>,
    pub now: Nanos,
}

impl TestBus {
    /// So many pages of zeroed RAM.
    pub fn new(pages: u64) -> Self {
        let signals = Arc::new(Signals::new());
        let ram = GuestRam::new(pages * PAGE_SIZE, &signals).expect("memory for a test");
        Self {
            ram,
            signals,
            outs: Vec::new(),
            ins: VecDeque::new(),
            asked: Vec::new(),
            mmio: Vec::new(),
            mmio_value: u64::MAX,
            interrupt: None,
            now: 0,
        }
    }

    /// Puts bytes into RAM as a test's set-up does.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        self.ram.write(address, bytes);
    }

    /// Reads RAM back.
    pub fn get<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.ram.read(address, &mut bytes);
        bytes
    }

    pub fn put32(&mut self, address: u64, value: u32) {
        self.put(address, &value.to_le_bytes());
    }

    pub fn get32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.get(address))
    }

    pub fn get16(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.get(address))
    }
}

impl Bus for TestBus {
    fn page(&self, address: u64) -> PhysPage {
        let host: Option<NonNull<u8>> = self.ram.host(address & !(PAGE_SIZE - 1), PAGE_SIZE);
        let code = if host.is_some() { CodePolicy::Ram } else { CodePolicy::Volatile };
        PhysPage { read: host, write: host, code }
    }
    fn ram(&self) -> &GuestRam {
        &self.ram
    }
    fn read(&mut self, address: u64, width: Width) -> u64 {
        self.mmio.push((address, width, None));
        self.mmio_value & width.mask()
    }
    fn write(&mut self, address: u64, width: Width, value: u64) {
        self.mmio.push((address, width, Some(value)));
    }
    fn port_in(&mut self, port: u16, width: Width) -> u32 {
        self.asked.push((port, width));
        self.ins.pop_front().unwrap_or(u32::MAX) & width.mask() as u32
    }
    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        self.outs.push((port, width, value));
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
        self.now
    }
}
