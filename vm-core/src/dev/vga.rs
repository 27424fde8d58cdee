//! A VGA with the Bochs extensions for high resolutions, as PCI device 1234:1111.
//!
//! IBM VGA Technical Reference (registers, text and planar modes); the Bochs "dispi" interface; the layout of QEMU's
//! standard VGA as its documentation `specs/standard-vga` gives it.
//!
//! | where | what |
//! |---|---|
//! | ports 0x3B0–0x3DF | VGA registers ([`Vga::read`], [`Vga::write`]) |
//! | ports 0x1CE, 0x1CF, 0x1D0 | Bochs VBE index and data ([`Vga::vbe_read`], [`Vga::vbe_write`]) |
//! | 0xA0000–0xBFFFF | video memory through the VGA's data path ([`Vga::memory_read`], [`Vga::memory_write`]) |
//! | BAR 0, 16 MiB | all of video memory, linear ([`Vga::lfb_read`], [`Vga::lfb_write`], [`Vga::vram`]) |
//! | BAR 2, 4 KiB | 0: the monitor's EDID; 0x400: ports 0x3C0–0x3DF; 0x500: VBE registers, 16 bits each; 0x600: size, byte order |
//! | expansion ROM | the VGA BIOS |

mod cp437;
mod edid;
mod memory;
mod registers;
mod render;
mod timing;
mod vbe;

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::bus::clock::Clock;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::dev::pci::{Identity, PciConfig, PciFunction, PciLayout};
use crate::frame::Frame;
use crate::snapshot::section::{LoadError, Section};

use memory::Vram;
use registers::Registers;
use render::Renderer;
use vbe::{Action, Vbe};

pub use vbe::VRAM_SIZE;

/// Name and version of the saved state.
const KIND: &str = "vga";
const VERSION: u32 = 1;
/// Video memory in the saved state: up to the last 4 KiB page that is not zero.
const MEMORY: &str = "vram";

const IDENTITY: Identity = Identity { vendor: 0x1234, device: 0x1111, revision: 2, class: 0x030000 };
/// Size of BAR 2.
pub const MMIO_SIZE: u32 = 4096;
/// VGA ports in BAR 2.
const MMIO_PORTS: Range<u32> = 0x400..0x420;
/// VBE registers in BAR 2.
const MMIO_VBE: Range<u32> = 0x500..0x516;
/// Extended registers in BAR 2: their size in bytes, then the framebuffer's byte order.
const MMIO_EXTENDED: Range<u32> = 0x600..0x608;
const EXTENDED: [u32; 2] = [8, 0x1e1e_1e1e];

/// Input status 0: the monitor's sense line; bit 4 set says that one is there.
const STATUS_0: u8 = 0x10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct VgaState {
    registers: Registers,
    vbe: Vbe,
    /// What the last read of video memory left in the four planes' latches.
    latches: u32,
    pci: PciConfig,
}

impl VgaState {
    fn new(layout: &PciLayout) -> Self {
        Self { registers: Registers::default(), vbe: Vbe::default(), latches: 0, pci: layout.reset() }
    }
}

#[derive(Debug)]
struct VgaWires {
    clock: Clock,
    signals: Arc<Signals>,
    layout: PciLayout,
    rom: Vec<u8>,
    renderer: Renderer,
}

/// The display adapter.
#[derive(Debug)]
pub struct Vga {
    state: VgaState,
    vram: Vram,
    wires: VgaWires,
}

impl Vga {
    /// An adapter with `rom` as its VGA BIOS (empty: none; at most 16 MiB are used).
    ///
    /// # Panics
    /// Where the host cannot map 16 MiB of video memory.
    pub fn new(clock: Clock, signals: Arc<Signals>, mut rom: Vec<u8>) -> Self {
        rom.truncate(VRAM_SIZE);
        let mut layout = PciLayout::new(IDENTITY)
            .subsystem(0x1af4, 0x1100)
            .memory_bar(0, VRAM_SIZE as u32, true)
            .memory_bar(2, MMIO_SIZE, false);
        if !rom.is_empty() {
            layout = layout.rom_bar((rom.len() as u32).next_power_of_two().max(2048));
        }
        let state = VgaState::new(&layout);
        let renderer = Renderer::new();
        Self { state, vram: Vram::new(), wires: VgaWires { clock, signals, layout, rom, renderer } }
    }

    /// IN from port 0x3B0 + `offset`.
    pub fn read(&mut self, offset: u16) -> u8 {
        let registers = &mut self.state.registers;
        match offset {
            0x04 | 0x05 | 0x0a if registers.is_color() => 0xff,
            0x24 | 0x25 | 0x2a if !registers.is_color() => 0xff,
            0x04 | 0x24 => registers.crtc.index,
            0x05 | 0x25 => registers.crtc.read(),
            0x0a | 0x2a => self.read_status(),
            0x10 => registers.attribute.index,
            0x11 => registers.attribute.read(),
            0x12 => STATUS_0,
            0x13 => registers.enable,
            0x14 => registers.sequencer.index,
            0x15 => registers.sequencer.read(),
            0x16 => registers.dac.mask,
            0x17 => registers.dac.status(),
            0x18 => registers.dac.write_index(),
            0x19 => registers.dac.read(),
            0x1a => registers.feature,
            0x1c => registers.misc,
            0x1e => registers.graphics.index,
            0x1f => registers.graphics.read(),
            _ => 0xff,
        }
    }

    /// OUT to port 0x3B0 + `offset`.
    pub fn write(&mut self, offset: u16, value: u8) {
        let was_plain = self.window_is_plain();
        let wide = self.state.vbe.wide_dac();
        let registers = &mut self.state.registers;
        match offset {
            0x04 | 0x05 | 0x0a if registers.is_color() => {}
            0x24 | 0x25 | 0x2a if !registers.is_color() => {}
            0x04 | 0x24 => registers.crtc.index = value,
            0x05 | 0x25 => registers.crtc.write(value),
            0x0a | 0x2a => registers.feature = value,
            0x10 | 0x11 => registers.attribute.write(value),
            0x12 => registers.misc = value,
            0x13 => registers.enable = value,
            0x14 => registers.sequencer.index = value,
            0x15 => registers.sequencer.write(value),
            0x16 => registers.dac.mask = value,
            0x17 => registers.dac.set_read_index(value),
            0x18 => registers.dac.set_write_index(value),
            0x19 => registers.dac.write(value, wide),
            0x1e => registers.graphics.index = value,
            0x1f => registers.graphics.write(value),
            _ => {}
        }
        self.tell_window(was_plain);
    }

    /// Input status 1: where the beam is. Reading it makes 0x3C0 expect an index.
    fn read_status(&mut self) -> u8 {
        self.state.registers.attribute.data_next = false;
        timing::status(&self.state.registers, self.wires.clock.now())
    }

    /// IN from port 0x1CE + `offset`: words only.
    pub fn vbe_read(&mut self, offset: u16, width: Width) -> u32 {
        match (offset, width) {
            (0, Width::Word) => u32::from(self.state.vbe.index()),
            (1 | 2, Width::Word) => u32::from(self.state.vbe.read()),
            _ => width.mask() as u32,
        }
    }

    /// OUT to port 0x1CE + `offset`: words only.
    pub fn vbe_write(&mut self, offset: u16, width: Width, value: u32) {
        match (offset, width) {
            (0, Width::Word) => self.state.vbe.set_index(value as u16),
            (1 | 2, Width::Word) => self.write_vbe_register(None, value as u16),
            _ => {}
        }
    }

    /// Writes the VBE register at `index`, or the one that the index port names.
    fn write_vbe_register(&mut self, index: Option<u16>, value: u16) {
        let was_plain = self.window_is_plain();
        let vbe = &mut self.state.vbe;
        let action = match index {
            Some(index) => vbe.set_register(index, value),
            None => vbe.write(value),
        };
        match action {
            Action::None | Action::Switched => {}
            Action::Clear(bytes) => self.vram.bytes_mut()[..bytes].fill(0),
        }
        self.tell_window(was_plain);
    }

    /// The part of 0xA0000–0xBFFFF that answers now, as offsets from 0xA0000.
    pub fn legacy_window(&self) -> Range<u32> {
        memory::window(&self.state.registers, &self.state.vbe)
    }

    /// Host address of the page at `offset` from 0xA0000 (a multiple of 4096) while that page is plain memory, as in mode
    /// 13h. [`Signals::map_changed`] tells when the answer changes. Writes through it are noticed as [`Vga::take_lent`] says.
    pub fn legacy_page(&self, offset: u32) -> Option<NonNull<u8>> {
        if !self.window_is_plain() || !self.legacy_window().contains(&offset) {
            return None;
        }
        self.vram.lend(offset as usize)
    }

    fn window_is_plain(&self) -> bool {
        memory::is_plain(&self.state.registers, &self.state.vbe)
    }

    fn tell_window(&self, was_plain: bool) {
        if was_plain != self.window_is_plain() {
            self.wires.signals.map_changed();
        }
    }

    /// The processor reads at 0xA0000 + `offset`.
    pub fn memory_read(&mut self, offset: u32, width: Width) -> u64 {
        let VgaState { registers, vbe, latches, .. } = &mut self.state;
        (0..width.bytes() as u32).fold(0, |value, n| {
            let byte = memory::read(&self.vram, registers, vbe, latches, offset.wrapping_add(n));
            value | u64::from(byte) << (8 * n)
        })
    }

    /// The processor writes at 0xA0000 + `offset`.
    pub fn memory_write(&mut self, offset: u32, width: Width, value: u64) {
        let VgaState { registers, vbe, latches, .. } = &self.state;
        for n in 0..width.bytes() as u32 {
            let byte = (value >> (8 * n)) as u8;
            memory::write(&mut self.vram, registers, vbe, *latches, offset.wrapping_add(n), byte);
        }
    }

    /// Physical address of BAR 0, the linear framebuffer of [`VRAM_SIZE`] bytes, where it answers.
    pub fn lfb_base(&self) -> Option<u32> {
        self.state.pci.memory_bar(0)
    }

    /// Physical address of BAR 2, 4 KiB of registers, where it answers.
    pub fn mmio_base(&self) -> Option<u32> {
        self.state.pci.memory_bar(2)
    }

    /// Physical address of the expansion ROM and its size, where it answers.
    pub fn rom_window(&self) -> Option<(u32, u32)> {
        let size = (self.wires.rom.len() as u32).next_power_of_two().max(2048);
        self.state.pci.rom_bar().filter(|_| !self.wires.rom.is_empty()).map(|base| (base, size))
    }

    /// Host address of the page at `offset` in the linear framebuffer; it lives as long as the adapter. Code on it is
    /// [`Volatile`](crate::bus::CodePolicy::Volatile). Writes through it are noticed as [`Vga::take_lent`] says.
    pub fn lfb_page(&self, offset: u32) -> Option<NonNull<u8>> {
        self.vram.lend(offset as usize)
    }

    /// Host addresses of all of video memory if a page of it was asked for since the last call. With each picture, whoever holds
    /// such pages has to let them go and to ask again before he writes: that is how the adapter knows what was written.
    pub fn take_lent(&self) -> Option<Range<usize>> {
        let base = self.vram.base().as_ptr().addr();
        self.vram.take_lent().then_some(base..base + VRAM_SIZE)
    }

    /// Reads the linear framebuffer.
    pub fn lfb_read(&self, offset: u32, width: Width) -> u64 {
        self.vram.read(u64::from(offset), width)
    }

    /// Writes the linear framebuffer.
    pub fn lfb_write(&mut self, offset: u32, width: Width, value: u64) {
        self.vram.write(u64::from(offset), width, value);
    }

    /// Reads the expansion ROM; bytes past its end are ones.
    pub fn rom_read(&self, offset: u32, width: Width) -> u64 {
        (0..width.bytes() as u32).fold(0, |value, n| {
            let byte = self.wires.rom.get(offset.wrapping_add(n) as usize).copied().unwrap_or(0xff);
            value | u64::from(byte) << (8 * n)
        })
    }

    /// Reads BAR 2.
    pub fn mmio_read(&mut self, offset: u32, width: Width) -> u64 {
        (0..width.bytes() as u32).fold(0, |value, n| {
            let byte = self.mmio_read_byte(offset.wrapping_add(n));
            value | u64::from(byte) << (8 * n)
        })
    }

    fn mmio_read_byte(&mut self, offset: u32) -> u8 {
        if let Some(byte) = edid::BLOCK.get(offset as usize) {
            *byte
        } else if MMIO_PORTS.contains(&offset) {
            self.read((offset - MMIO_PORTS.start) as u16 + 0x10)
        } else if MMIO_VBE.contains(&offset) {
            let at = offset - MMIO_VBE.start;
            self.state.vbe.register((at / 2) as u16).to_le_bytes()[at as usize % 2]
        } else if MMIO_EXTENDED.contains(&offset) {
            let at = (offset - MMIO_EXTENDED.start) as usize;
            EXTENDED[at / 4].to_le_bytes()[at % 4]
        } else {
            0
        }
    }

    /// Writes BAR 2. VBE registers take whole words.
    pub fn mmio_write(&mut self, offset: u32, width: Width, value: u64) {
        if MMIO_VBE.contains(&offset) {
            let first = (offset - MMIO_VBE.start) / 2;
            for n in 0..width.bytes() as u32 / 2 {
                self.write_vbe_register(Some((first + n) as u16), (value >> (16 * n)) as u16);
            }
            return;
        }
        for n in 0..width.bytes() as u32 {
            let at = offset.wrapping_add(n);
            if MMIO_PORTS.contains(&at) {
                self.write((at - MMIO_PORTS.start) as u16 + 0x10, (value >> (8 * n)) as u8);
            }
        }
    }

    /// The picture, where it differs from the one before.
    pub fn render(&mut self) -> Option<Arc<Frame>> {
        let now = self.wires.clock.now();
        self.wires.renderer.render(&self.state.registers, &self.state.vbe, &self.vram, now)
    }

    /// Whether the guest had a hand in the last picture, or only the hardware's own blinking.
    pub fn is_picture_by_guest(&self) -> bool {
        self.wires.renderer.is_by_guest()
    }

    /// Makes the next [`Vga::render`] give a picture even if nothing changed.
    pub fn redraw(&mut self) {
        self.wires.renderer.forget();
    }

    fn bases(&self) -> [Option<u32>; 3] {
        [self.lfb_base(), self.mmio_base(), self.state.pci.rom_bar()]
    }
}

impl PciFunction for Vga {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.pci.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        let before = self.bases();
        self.state.pci.write(&self.wires.layout, offset, width, value);
        if before != self.bases() {
            self.wires.signals.map_changed();
        }
    }
}

impl Device for Vga {
    fn name(&self) -> &'static str {
        KIND
    }

    fn reset(&mut self) {
        self.state = VgaState::new(&self.wires.layout);
        self.vram.restore(&[]);
        self.wires.renderer.forget();
        self.wires.signals.map_changed();
    }

    fn save(&self) -> Section {
        Section::encode(KIND, VERSION, &self.state).with_memory(MEMORY, self.vram.used().to_vec())
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: VgaState = section.decode(KIND, VERSION)?;
        let invalid = |reason: String| LoadError::invalid(KIND, reason);
        state.registers.check().map_err(invalid)?;
        state.vbe.check().map_err(invalid)?;
        self.wires.layout.check(&state.pci).map_err(invalid)?;
        let len = section.memories.iter().find(|memory| memory.name == MEMORY).map_or(0, |memory| memory.bytes.len());
        let vram = section.memory(MEMORY, len)?;
        if len > VRAM_SIZE || !len.is_multiple_of(4096) {
            return Err(invalid(format!("{len} bytes of video memory")));
        }
        self.vram.restore(vram);
        self.state = state;
        self.wires.renderer.forget();
        self.wires.signals.map_changed();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
