//! A bus for the processor's own tests: flat RAM, a log of port accesses, an interrupt that a test can raise.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::bus::clock::Nanos;
use crate::bus::ram::{GuestRam, PAGE_SIZE};
use crate::bus::signals::Signals;
use crate::bus::{Bus, CodePolicy, PhysPage, PortRegisters, Width};
use crate::cpu::cpuid::CpuModel;
use crate::cpu::fault::Fault;
use crate::cpu::state::{SegReg, Segment, TableRegister, cr0, gpr};
use crate::cpu::{Cpu, Flow, helper};

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
    /// SMIACT#.
    pub smi_active: bool,
    /// What RDRAND gets.
    pub random: Option<u64>,
    /// The port whose chip talks by way of the registers: it numbers them.
    pub exchange: Option<u16>,
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
            smi_active: false,
            random: None,
            exchange: None,
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
    fn port_in_registers(&mut self, port: u16, registers: &mut PortRegisters) -> bool {
        let there = self.exchange == Some(port);
        if there {
            *registers = PortRegisters { eax: 1, ebx: 2, ecx: 3, edx: 4, esi: 5, edi: 6 };
        }
        there
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
    fn set_smi_active(&mut self, active: bool) {
        self.smi_active = active;
    }
    fn random(&mut self) -> Option<u64> {
        self.random
    }

    fn signals(&self) -> &Signals {
        &self.signals
    }
    fn now(&self) -> Nanos {
        self.now
    }
}

/// Runs one instruction that has a helper, as the run loop would: decoded by CS.D, RIP moved by the outcome.
pub(crate) fn step(cpu: &mut Cpu, bus: &mut TestBus, bytes: &[u8]) -> Result<Flow, Fault> {
    let bits = if cpu.state.segment(SegReg::Cs).big() { 32 } else { 16 };
    let mut decoder = iced_x86::Decoder::with_ip(bits, bytes, 0, iced_x86::DecoderOptions::NONE);
    let insn = decoder.decode();
    assert_eq!(insn.len(), bytes.len(), "{bytes:02x?} is one instruction");
    let helper = helper::find(insn.code()).unwrap_or_else(|| panic!("{:?} has a helper", insn.code()));
    let flow = helper(cpu, bus, &insn)?;
    if matches!(flow, Flow::Next | Flow::Resync) {
        cpu.state.rip += insn.len() as u64;
    }
    Ok(flow)
}

/// A machine in protected mode with a flat ring 0 and ring 3 and room for more.
///
/// GDT at 0x1000: 08 code 0, 10 data 0, 18 code 3 (1b), 20 data 3 (23), 28 TSS at 0x3000. IDT at 0x2000, empty.
/// Stack of ring 0 at 0x8000, also in the TSS. The I/O bitmap starts at 0x68, and the TSS ends there.
pub(crate) fn protected(pages: u64) -> (Cpu, TestBus) {
    let mut bus = TestBus::new(pages);
    for (n, descriptor) in [
        0x00cf_9b00_0000_ffff_u64,
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x0000_8b00_3000_0067,
    ]
    .into_iter()
    .enumerate()
    {
        bus.put(0x1008 + 8 * n as u64, &descriptor.to_le_bytes());
    }
    bus.put32(0x3004, 0x8000);
    bus.put32(0x3008, 0x10);
    bus.put32(0x3064, 0x68 << 16);
    let mut cpu = Cpu::new(CpuModel::Pentium2);
    cpu.state.cr[0] |= cr0::PE;
    cpu.state.gdtr = TableRegister { base: 0x1000, limit: 0xff };
    cpu.state.idtr = TableRegister { base: 0x2000, limit: 0x7ff };
    cpu.state.tr = Segment { base: 0x3000, limit: 0x67, rights: 0x8b, selector: 0x28 };
    level(&mut cpu, 0);
    (cpu, bus)
}

/// Puts a protected-mode processor on flat segments of ring 0 or 3.
pub(crate) fn level(cpu: &mut Cpu, cpl: u8) {
    let (cs, ds, dpl) = if cpl == 0 { (0x08, 0x10, 0) } else { (0x1b, 0x23, 0x60) };
    let data = Segment { base: 0, limit: u32::MAX, rights: 0xc093 | dpl, selector: ds };
    cpu.state.seg = [data; 6];
    cpu.state.seg[SegReg::Cs as usize] = Segment { rights: 0xc09b | dpl, selector: cs, ..data };
    cpu.state.gpr[gpr::RSP] = 0x7000;
    cpu.state.rip = 0x100;
    cpu.state_changed();
    cpu.set_cpl(cpl);
}
