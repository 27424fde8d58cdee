//! What joins the processor to everything else: memory, ports, interrupt lines and the clock.

pub mod clock;
pub mod irq;
pub mod ram;
pub mod signals;

use std::ptr::NonNull;

use clock::Nanos;
use ram::GuestRam;
use signals::Signals;

/// The width of one access on a bus, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits (memory only).
    Qword = 8,
}

impl Width {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// A mask of the bits that fit: `0xff`, `0xffff` …
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self as u32)
    }
}

/// The registers that a chip may read and write where IN asks for more than a number (see [`Bus::port_in_registers`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named in the manual")]
pub struct PortRegisters {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
}

/// A moment between two instructions of a processor: two engines that execute the same program pass through the same ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Instructions completed since power-on.
    pub retired: u64,
    /// Interrupts and exceptions that were delivered since then, or could not be.
    pub deliveries: u64,
}

/// How code on a physical page may be cached by the processor's block cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodePolicy {
    /// Guest RAM: cache, and have [`GuestRam::mark_code`] watch for writes.
    Ram,
    /// Read-only memory: cache; only a change of the memory map drops it.
    Rom,
    /// Video memory or a device: decode anew each time.
    Volatile,
}

/// One 4 KiB page of the physical address space, as the processor's TLB wants to know it.
#[derive(Clone, Copy, Debug)]
pub struct PhysPage {
    /// Host address of the page's first byte where reads are plain memory; `None`: call [`Bus::read`].
    pub read: Option<NonNull<u8>>,
    /// The same for writes; `None`: call [`Bus::write`] (ROM, device or watched memory).
    pub write: Option<NonNull<u8>>,
    /// How code on this page is cached.
    pub code: CodePolicy,
}

/// All that the processor knows of the rest of the machine.
///
/// Addresses are physical and already masked by the A20 gate ([`Signals::a20`] is applied by the processor, which
/// flushes its TLB when the gate moves).
pub trait Bus {
    /// How the page that holds `address` is mapped now. Valid until [`Signals::map_generation`] changes.
    fn page(&self, address: u64) -> PhysPage;
    /// What [`Bus::page`] says of reads alone: a walk through page tables asks for nothing else.
    fn page_to_read(&self, address: u64) -> Option<NonNull<u8>> {
        self.page(address).read
    }
    /// Guest RAM; its offset 0 is physical address 0.
    fn ram(&self) -> &GuestRam;
    /// A read that [`Bus::page`] did not map. Never crosses a multiple of its width. Nothing there: all ones.
    fn read(&mut self, address: u64, width: Width) -> u64;
    /// A write that [`Bus::page`] did not map. Never crosses a multiple of its width. Nothing there: ignored.
    fn write(&mut self, address: u64, width: Width, value: u64);
    /// IN. `width` is at most `Dword`.
    fn port_in(&mut self, port: u16, width: Width) -> u32;
    /// IN EAX, before [`Bus::port_in`] is asked: a chip that talks by way of the registers, as VMware's port does, changes them and says
    /// true. Everything else says false and leaves them alone.
    fn port_in_registers(&mut self, port: u16, registers: &mut PortRegisters) -> bool {
        let _ = (port, registers);
        false
    }
    /// OUT. `width` is at most `Dword`.
    fn port_out(&mut self, port: u16, width: Width, value: u32);
    /// The level of the processor's INTR pin.
    fn interrupt_pending(&mut self) -> bool;
    /// The same, asked by a processor that would take the interrupt at this moment.
    fn interrupt_pending_at(&mut self, moment: Moment) -> bool {
        let _ = moment;
        self.interrupt_pending()
    }
    /// The interrupt-acknowledge cycle: the vector.
    fn acknowledge_interrupt(&mut self) -> u8;
    /// `IA32_APIC_BASE` was written: bit 11 enables the local APIC, bits 12 to 35 are its page.
    fn set_apic_base(&mut self, value: u64) {
        let _ = value;
    }
    /// The SMIACT# pin: the processor is (true) or no longer is in system management mode, where other memory may answer. The
    /// processor flushes its TLB itself.
    fn set_smi_active(&mut self, active: bool) {
        let _ = active;
    }
    /// 64 random bits for RDRAND and RDSEED; `None` where the host has none to give now.
    fn random(&mut self) -> Option<u64> {
        None
    }
    /// Attention flag, A20, map generation, SMI#.
    fn signals(&self) -> &Signals;
    /// Guest time since power-on; the TSC is derived from it.
    fn now(&self) -> Nanos;
}
