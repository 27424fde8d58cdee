//! 8237A DMA controllers and the page registers.
//!
//! Intel 8237A data sheet; PC/AT technical reference for the page registers and the cascade (channel 4).
//!
//! | port | call | what |
//! |---|---|---|
//! | 0x00–0x0F | [`Dma::read`], offset 0x00–0x0F | first controller: channels 0–3, bytes |
//! | 0xC0–0xDF | [`Dma::read`], offset 0xC0–0xDF | second controller: channels 4–7, words; registers at even ports |
//! | 0x80–0x8F | [`Dma::read`], offset 0x80–0x8F | page registers |
//!
//! Offsets are the port numbers themselves: the three blocks are one chip and three decoders.
//! A device that uses DMA holds a [`DmaHandle`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bus::ram::GuestRam;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// Command register, bit 2: the controller is off.
const COMMAND_DISABLE: u8 = 1 << 2;
/// Mode register, bits 2 and 3: what a transfer does.
const MODE_TRANSFER: u8 = 0b1100;
const MODE_WRITE_MEMORY: u8 = 0b0100;
const MODE_READ_MEMORY: u8 = 0b1000;
const MODE_VERIFY: u8 = 0b0000;
/// Mode register, bit 4: start over after terminal count.
const MODE_AUTO_INIT: u8 = 1 << 4;
/// Mode register, bit 5: addresses go down.
const MODE_DECREMENT: u8 = 1 << 5;
/// Mode register, bits 6 and 7: a cascade transfers nothing itself.
const MODE_CASCADE: u8 = 0b1100_0000;

/// The page register (offset from 0x80) of each channel; channel 4 has none and gets that of refresh.
const PAGE_REGISTER: [usize; 8] = [0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa];

/// What came of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes moved; fewer than asked where the channel is masked, off or at its terminal count.
    pub moved: usize,
    /// The channel reached its terminal count with this transfer.
    pub terminal_count: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
    mode: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Controller {
    channels: [Channel; 4],
    command: u8,
    /// Bit n: channel n is masked.
    mask: u8,
    /// Bits 0–3: terminal count reached since the last read; bits 4–7: software request.
    status: u8,
    temporary: u8,
    /// The byte pointer: whether the next byte of a 16-bit register is its high one.
    high_byte: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DmaState {
    controllers: [Controller; 2],
    pages: [u8; 16],
}

impl Controller {
    fn after_reset() -> Self {
        Self { mask: 0x0f, ..Self::default() }
    }

    /// Master clear: channels keep addresses, counts and modes.
    fn master_clear(&mut self) {
        self.command = 0;
        self.status = 0;
        self.temporary = 0;
        self.high_byte = false;
        self.mask = 0x0f;
    }

    fn read(&mut self, register: u16) -> u8 {
        match register {
            0..=7 => self.read_channel(register),
            8 => self.read_status(),
            0xd => self.temporary,
            0xf => self.mask | 0xf0,
            _ => 0xff,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        match register {
            0..=7 => self.write_channel(register, value),
            0x8 => self.command = value,
            0x9 => self.write_request(value),
            0xa => self.write_single_mask(value),
            0xb => self.write_mode(value),
            0xc => self.high_byte = false,
            0xd => self.master_clear(),
            0xe => self.mask = 0,
            _ => self.mask = value & 0x0f,
        }
    }

    fn read_channel(&mut self, register: u16) -> u8 {
        let channel = &self.channels[usize::from(register >> 1)];
        let value = if register & 1 == 0 { channel.address } else { channel.count };
        self.high_byte = !self.high_byte;
        value.to_le_bytes()[usize::from(!self.high_byte)]
    }

    fn write_channel(&mut self, register: u16, value: u8) {
        let high = self.high_byte;
        self.high_byte = !high;
        let channel = &mut self.channels[usize::from(register >> 1)];
        let (base, current) = if register & 1 == 0 {
            (&mut channel.base_address, &mut channel.address)
        } else {
            (&mut channel.base_count, &mut channel.count)
        };
        let byte = u16::from(value);
        *base = if high { *base & 0x00ff | byte << 8 } else { *base & 0xff00 | byte };
        *current = *base;
    }

    fn read_status(&mut self) -> u8 {
        let status = self.status;
        self.status &= 0xf0;
        status
    }

    fn write_request(&mut self, value: u8) {
        let bit = 0x10 << (value & 3);
        self.status = if value & 4 != 0 { self.status | bit } else { self.status & !bit };
    }

    fn write_single_mask(&mut self, value: u8) {
        let bit = 1 << (value & 3);
        self.mask = if value & 4 != 0 { self.mask | bit } else { self.mask & !bit };
    }

    fn write_mode(&mut self, value: u8) {
        self.channels[usize::from(value & 3)].mode = value & !3;
    }
}

impl DmaState {
    fn after_reset() -> Self {
        Self { controllers: [Controller::after_reset(), Controller::after_reset()], pages: [0; 16] }
    }

    /// Moves up to `len` bytes on `channel` in `direction`; `copy` gets (guest address, offset in the buffer, bytes).
    fn run(&mut self, channel: u8, direction: u8, len: usize, mut copy: impl FnMut(u64, usize, usize)) -> Transfer {
        let number = usize::from(channel & 7);
        let page = u64::from(self.pages[PAGE_REGISTER[number]]);
        let cascade_open = self.controllers[1].command & COMMAND_DISABLE == 0;
        let controller = &mut self.controllers[number >> 2];
        let bit = 1 << (number & 3);
        let words = number >= 4;
        let unit = if words { 2 } else { 1 };
        let registers = &mut controller.channels[number & 3];
        let kind = registers.mode & MODE_TRANSFER;
        if controller.mask & bit != 0
            || controller.command & COMMAND_DISABLE != 0
            || !cascade_open
            || registers.mode & MODE_CASCADE == MODE_CASCADE
            || (kind != direction && kind != MODE_VERIFY)
        {
            return Transfer::default();
        }
        let mut done = Transfer::default();
        while done.moved + unit <= len {
            // The address counter is 16 bits wide and wraps in its page.
            let wanted = ((len - done.moved) / unit).min(usize::from(registers.count) + 1);
            let down = registers.mode & MODE_DECREMENT != 0;
            let run = if down { 1 } else { wanted.min(0x10000 - usize::from(registers.address)) };
            let address = if words {
                (page & 0xfe) << 16 | u64::from(registers.address) << 1
            } else {
                page << 16 | u64::from(registers.address)
            };
            if kind != MODE_VERIFY {
                copy(address, done.moved, run * unit);
            }
            done.moved += run * unit;
            let step = run as u16;
            registers.address =
                if down { registers.address.wrapping_sub(step) } else { registers.address.wrapping_add(step) };
            let (count, ended) = registers.count.overflowing_sub(step);
            registers.count = count;
            // A run of 65536 units wraps the 16-bit step to 0 and always ends the transfer.
            if ended || run == 0x10000 {
                done.terminal_count = true;
                controller.status |= bit;
                controller.status &= !(bit << 4);
                if registers.mode & MODE_AUTO_INIT != 0 {
                    registers.address = registers.base_address;
                    registers.count = registers.base_count;
                } else {
                    registers.count = 0xffff;
                    controller.mask |= bit;
                }
                break;
            }
        }
        done
    }
}

/// A device's end of its DMA request line. Clones reach the same controllers.
#[derive(Clone, Debug)]
pub struct DmaHandle {
    state: Arc<Mutex<DmaState>>,
    ram: Arc<GuestRam>,
}

impl DmaHandle {
    fn lock(&self) -> MutexGuard<'_, DmaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Device to memory: writes `bytes` where `channel` points, as far as its count goes. A channel set to verify counts
    /// without writing. Channels 5–7 move whole words.
    pub fn write_memory(&self, channel: u8, bytes: &[u8]) -> Transfer {
        let ram = &self.ram;
        self.lock().run(channel, MODE_WRITE_MEMORY, bytes.len(), |address, at, len| {
            ram.write(address, &bytes[at..at + len]);
        })
    }

    /// Memory to device: fills `bytes` from where `channel` points, as far as its count goes.
    pub fn read_memory(&self, channel: u8, bytes: &mut [u8]) -> Transfer {
        let ram = &self.ram;
        self.lock().run(channel, MODE_READ_MEMORY, bytes.len(), |address, at, len| {
            ram.read(address, &mut bytes[at..at + len]);
        })
    }

    /// Whether a transfer on `channel` would move anything now: it is not masked and its controller is on.
    pub fn is_ready(&self, channel: u8) -> bool {
        let state = self.lock();
        let controller = &state.controllers[usize::from(channel >> 2 & 1)];
        controller.mask & 1 << (channel & 3) == 0 && controller.command & COMMAND_DISABLE == 0
    }
}

/// Both controllers and their page registers.
#[derive(Debug)]
pub struct Dma {
    handle: DmaHandle,
}

impl Dma {
    /// Controllers that reach `ram`.
    pub fn new(ram: &Arc<GuestRam>) -> Self {
        let state = Arc::new(Mutex::new(DmaState::after_reset()));
        Self { handle: DmaHandle { state, ram: Arc::clone(ram) } }
    }

    /// An end for a device.
    pub fn handle(&self) -> DmaHandle {
        self.handle.clone()
    }

    /// Reads port `offset`: 0x00–0x0F, 0x80–0x8F or 0xC0–0xDF.
    pub fn read(&mut self, offset: u16) -> u8 {
        let mut state = self.handle.lock();
        match offset {
            0x00..=0x0f => state.controllers[0].read(offset),
            0x80..=0x8f => state.pages[usize::from(offset & 15)],
            0xc0..=0xdf => state.controllers[1].read((offset & 0x1f) >> 1),
            _ => 0xff,
        }
    }

    /// Writes port `offset`: 0x00–0x0F, 0x80–0x8F or 0xC0–0xDF.
    pub fn write(&mut self, offset: u16, value: u8) {
        let mut state = self.handle.lock();
        match offset {
            0x00..=0x0f => state.controllers[0].write(offset, value),
            0x80..=0x8f => state.pages[usize::from(offset & 15)] = value,
            0xc0..=0xdf => state.controllers[1].write((offset & 0x1f) >> 1, value),
            _ => {}
        }
    }
}

impl Device for Dma {
    fn name(&self) -> &'static str {
        "dma"
    }

    fn reset(&mut self) {
        *self.handle.lock() = DmaState::after_reset();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &*self.handle.lock())
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: DmaState = section.decode(self.name(), 1)?;
        for controller in &state.controllers {
            if controller.mask > 0x0f || controller.channels.iter().any(|channel| channel.mode & 3 != 0) {
                return Err(LoadError::invalid(self.name(), "a mask or a mode has bits that do not exist"));
            }
        }
        *self.handle.lock() = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::signals::Signals;
    use crate::dev::suite;

    fn dma() -> (Dma, Arc<GuestRam>) {
        let ram = Arc::new(GuestRam::new(1 << 20, &Arc::new(Signals::new())).expect("memory"));
        (Dma::new(&ram), ram)
    }

    /// Channel 2 as a floppy driver sets it up.
    fn program(dma: &mut Dma, mode: u8, address: u32, count: u16) {
        dma.write(0x0c, 0);
        dma.write(0x0b, mode | 2);
        for (port, value) in [(4, address as u16), (5, count)] {
            dma.write(port, value as u8);
            dma.write(port, (value >> 8) as u8);
        }
        dma.write(0x81, (address >> 16) as u8);
        dma.write(0x0a, 2);
    }

    #[test]
    fn a_sector_goes_to_memory_and_the_count_ends_it() {
        let (mut dma, ram) = dma();
        let handle = dma.handle();
        assert_eq!(handle.write_memory(2, &[1; 8]).moved, 0, "masked after a reset");
        program(&mut dma, 0x44, 0x2_3400, 511);
        assert!(handle.is_ready(2));
        assert_eq!(handle.write_memory(2, &[0xa5; 300]), Transfer { moved: 300, terminal_count: false });
        assert_eq!(handle.write_memory(2, &[0x5a; 300]), Transfer { moved: 212, terminal_count: true });
        let mut back = [0; 513];
        ram.read(0x2_3400, &mut back);
        assert_eq!((back[299], back[300], back[511], back[512]), (0xa5, 0x5a, 0x5a, 0));
        assert!(!handle.is_ready(2), "masked by terminal count");
        assert_eq!(dma.read(8) & 0x0f, 4);
        assert_eq!(dma.read(8) & 0x0f, 0, "reading the status clears it");
        dma.write(0x0c, 0);
        assert_eq!((dma.read(5), dma.read(5)), (0xff, 0xff));
    }

    #[test]
    fn memory_goes_to_the_device_downwards_and_auto_initialises() {
        let (mut dma, ram) = dma();
        ram.write(0x1_0000, &[1, 2, 3, 4]);
        program(&mut dma, 0x78, 0x1_0003, 3);
        let mut out = [0; 6];
        assert_eq!(dma.handle().read_memory(2, &mut out), Transfer { moved: 4, terminal_count: true });
        assert_eq!(out, [4, 3, 2, 1, 0, 0]);
        assert!(dma.handle().is_ready(2));
        assert_eq!(dma.handle().read_memory(2, &mut out[..1]).moved, 1);
        assert_eq!(dma.handle().write_memory(2, &[9]).moved, 0, "the channel is set to read");
    }

    #[test]
    fn addresses_wrap_in_their_page_and_words_are_shifted() {
        let (mut dma, ram) = dma();
        program(&mut dma, 0x44, 0x3_ffff, 0xffff);
        assert_eq!(dma.handle().write_memory(2, &[7, 8]).moved, 2);
        let mut byte = [0];
        ram.read(0x3_0000, &mut byte);
        assert_eq!(byte, [8]);
        program(&mut dma, 0x44, 0x3_0000, 0xffff);
        assert_eq!(
            dma.handle().write_memory(2, &vec![1; 0x1_0001]),
            Transfer { moved: 0x1_0000, terminal_count: true }
        );
        for (port, value) in [(0xd6, 0x45), (0xc4, 0x10), (0xc4, 0), (0xc6, 1), (0xc6, 0), (0x8b, 0x05), (0xd4, 1)] {
            dma.write(port, value);
        }
        assert_eq!(dma.handle().write_memory(5, &[1, 2, 3, 4, 5]), Transfer { moved: 4, terminal_count: true });
        let mut words = [0; 4];
        ram.read(0x4_0020, &mut words);
        assert_eq!(words, [1, 2, 3, 4]);
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(|| dma().0, |dma| program(dma, 0x44, 0x12345, 77));
        suite::hammer(dma().0, 20_000, |dma, random, _| {
            dma.write(random.below(0x100) as u16, random.next() as u8);
            dma.read(random.below(0x100) as u16);
            let mut bytes = [0; 700];
            dma.handle().write_memory(random.next() as u8, &bytes);
            dma.handle().read_memory(random.next() as u8, &mut bytes);
        });
    }
}
