//! Video memory, and the data path between it and the processor.
//!
//! The four planes are interleaved: byte `4 * address + plane`. One plane address is thus one 32-bit word, which is
//! what latches, bit mask and set/reset work on; and chain-4 memory is plain linear memory, as is the framebuffer of the
//! high resolutions. (The original chip leaves gaps in chain-4 mode. Nobody sees them who sets the CRT controller to
//! doubleword addresses along with chain-4.)

use std::cell::Cell;
use std::ops::Range;
use std::ptr::NonNull;

use memmap2::MmapMut;

use super::registers::Registers;
use super::vbe::{VRAM_SIZE, Vbe};
use crate::bus::Width;

/// Plane addresses of the original VGA: 64 Ki of four bytes.
const PLANE_SIZE: usize = 0x10000;
/// Bytes of the original VGA's four planes.
pub const LEGACY_SIZE: usize = 4 * PLANE_SIZE;
/// Bytes of a page, the unit in which it is known what was written.
pub const PAGE: usize = 4096;

/// Pages of video memory that may have been written, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched([u64; VRAM_SIZE / PAGE / 64]);

impl Touched {
    /// No page.
    pub const NONE: Self = Self([0; VRAM_SIZE / PAGE / 64]);
    /// Every page.
    pub const ALL: Self = Self([u64::MAX; VRAM_SIZE / PAGE / 64]);

    /// No page was.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether a page was that has some of these bytes.
    pub fn any(&self, bytes: Range<usize>) -> bool {
        let end = bytes.end.min(VRAM_SIZE).div_ceil(PAGE);
        (bytes.start / PAGE..end).any(|page| self.0[page / 64] >> (page % 64) & 1 != 0)
    }
}

/// Video memory: one anonymous mapping that guests may reach by host address.
#[derive(Debug)]
pub struct Vram {
    base: NonNull<u8>,
    _mapping: MmapMut,
    /// Written, or lent to somebody who may write, since the last picture.
    touched: Cell<Touched>,
    /// A page was lent since the last picture.
    lent: Cell<bool>,
}

// SAFETY: the mapping belongs to this value and lives as long; a device moves between threads only as a whole.
unsafe impl Send for Vram {}

impl Vram {
    /// Zeroed memory.
    ///
    /// # Panics
    /// Where the host cannot map 16 MiB.
    pub fn new() -> Self {
        let mut mapping = MmapMut::map_anon(VRAM_SIZE).expect("16 MiB of address space");
        let base = NonNull::new(mapping.as_mut_ptr()).expect("a mapping has an address");
        Self { base, _mapping: mapping, touched: Cell::new(Touched::ALL), lent: Cell::new(false) }
    }

    /// Host address of the first byte, which does not move.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Host address of the page that has byte `offset`, for somebody who may write to it until the next picture
    /// ([`Vram::take_lent`]); `None`: it lies beyond the end.
    pub fn lend(&self, offset: usize) -> Option<NonNull<u8>> {
        let page = offset & !(PAGE - 1);
        if page >= VRAM_SIZE {
            return None;
        }
        self.touch(page);
        self.lent.set(true);
        // SAFETY: the page lies within the mapping.
        Some(unsafe { self.base.add(page) })
    }

    /// Whether a page was lent since the last call. Whoever then draws must take all pages back.
    pub fn take_lent(&self) -> bool {
        self.lent.take()
    }

    /// Which pages may have been written since the last call.
    pub fn take_touched(&self) -> Touched {
        self.touched.replace(Touched::NONE)
    }

    /// Notes that the page of byte `at` is written.
    #[inline]
    fn touch(&self, at: usize) {
        let words = self.touched.as_ptr();
        let page = at / PAGE % (VRAM_SIZE / PAGE);
        // SAFETY: nobody else holds a reference into the cell: its other users take the value out or put one in.
        unsafe { (*words).0[page / 64] |= 1 << (page % 64) };
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `VRAM_SIZE` bytes; guest code that writes them through host addresses runs on this
        // same thread, never during a method of the device.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), VRAM_SIZE) }
    }

    /// All of it, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.touched.set(Touched::ALL);
        self.all_mut()
    }

    /// All of it, for those who note themselves what they write.
    fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes other slices.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), VRAM_SIZE) }
    }

    /// Up to the last page that is not zero: a multiple of 4096 bytes.
    pub fn used(&self) -> &[u8] {
        let bytes = self.bytes();
        let zero = [0; 4096];
        let pages = bytes.chunks_exact(4096).rposition(|page| page != zero).map_or(0, |last| last + 1);
        &bytes[..pages * 4096]
    }

    /// Takes over what [`Vram::used`] gave, at most [`VRAM_SIZE`] bytes; the rest becomes zero.
    pub fn restore(&mut self, used: &[u8]) {
        let len = used.len().min(VRAM_SIZE);
        let old = self.used().len().max(len);
        let bytes = self.bytes_mut();
        bytes[..len].copy_from_slice(&used[..len]);
        bytes[len..old].fill(0);
    }

    /// Reads `width` bytes at `offset`; bytes past the end read as ones.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let bytes = self.bytes();
        (0..width.bytes()).fold(0, |value, n| {
            let at = usize::try_from(offset.wrapping_add(n)).unwrap_or(usize::MAX);
            value | u64::from(bytes.get(at).copied().unwrap_or(0xff)) << (8 * n)
        })
    }

    /// Writes `width` bytes at `offset`; bytes past the end are dropped.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) {
        for n in 0..width.bytes() {
            let at = usize::try_from(offset.wrapping_add(n)).unwrap_or(usize::MAX);
            self.set(at, (value >> (8 * n)) as u8);
        }
    }

    /// Writes the byte at `at`; past the end it is dropped.
    fn set(&mut self, at: usize, value: u8) {
        if let Some(byte) = self.all_mut().get_mut(at) {
            *byte = value;
            self.touch(at);
        }
    }

    fn word(&self, address: usize) -> u32 {
        let at = address * 4;
        self.bytes().get(at..at + 4).map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    }

    /// Stores the bytes of `word` whose planes are in `planes`.
    fn store(&mut self, address: usize, word: u32, planes: u8) {
        let at = address * 4;
        if let Some(bytes) = self.all_mut().get_mut(at..at + 4) {
            let mask = spread(planes);
            let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            bytes.copy_from_slice(&(old & !mask | word & mask).to_le_bytes());
            self.touch(at);
        }
    }
}

/// A byte of ones for each plane in `planes`.
fn spread(planes: u8) -> u32 {
    (0..4).fold(0, |word, plane| word | (u32::from(planes >> plane & 1) * (0xff << (8 * plane))))
}

/// `byte` in each plane.
fn replicate(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// The part of 0xA0000–0xBFFFF that answers, as offsets from 0xA0000.
pub fn window(registers: &Registers, vbe: &Vbe) -> Range<u32> {
    if vbe.is_on() {
        return 0..0x10000;
    }
    if !registers.ram_enabled() {
        return 0..0;
    }
    match registers.graphics.memory_map() {
        0 => 0..0x20000,
        1 => 0..0x10000,
        2 => 0x10000..0x18000,
        _ => 0x18000..0x20000,
    }
}

/// Whether the window is plain memory now, from the start of video memory on: chain-4 with nothing in the data path.
pub fn is_plain(registers: &Registers, vbe: &Vbe) -> bool {
    let graphics = &registers.graphics;
    !vbe.is_on()
        && registers.ram_enabled()
        && graphics.memory_map() == 1
        && registers.sequencer.chain4()
        && registers.sequencer.map_mask() == 0x0f
        && graphics.write_mode() == 0
        && !graphics.read_mode_1()
        && graphics.enable_set_reset() == 0
        && graphics.rotate() == 0
        && graphics.function() == 0
        && graphics.bit_mask() == 0xff
}

/// Where one byte of the window is.
enum Place {
    /// Nothing answers.
    Nowhere,
    /// At this byte of video memory, without data path.
    Linear(usize),
    /// At this plane address.
    Planes(usize),
}

fn place(registers: &Registers, vbe: &Vbe, offset: u32) -> Place {
    let window = window(registers, vbe);
    if !window.contains(&offset) {
        return Place::Nowhere;
    }
    let address = (offset - window.start) as usize;
    if vbe.is_linear() {
        Place::Linear(vbe.bank() << 16 | address)
    } else if vbe.is_on() {
        Place::Planes(vbe.bank() << 16 | address)
    } else {
        Place::Planes(address)
    }
}

/// Bit 0 of a plane address in odd/even mode: the upper half of the 128 KiB window, else 0.
fn odd_even_address(registers: &Registers, address: usize) -> usize {
    if registers.graphics.chain_odd_even() { address & 0xfffe | address >> 16 & 1 } else { address }
}

/// The processor reads one byte at `offset` from 0xA0000.
pub fn read(vram: &Vram, registers: &Registers, vbe: &Vbe, latches: &mut u32, offset: u32) -> u8 {
    let graphics = &registers.graphics;
    let (address, plane) = match place(registers, vbe, offset) {
        Place::Nowhere => return 0xff,
        Place::Linear(at) => return vram.bytes().get(at).copied().unwrap_or(0xff),
        Place::Planes(address) if registers.sequencer.chain4() && !vbe.is_on() => {
            (address >> 2 & (PLANE_SIZE - 1), (address & 3) as u8)
        }
        Place::Planes(address) if graphics.odd_even() && !vbe.is_on() => {
            (odd_even_address(registers, address) & (PLANE_SIZE - 1), graphics.read_map() & 2 | (address & 1) as u8)
        }
        Place::Planes(address) if vbe.is_on() => (address, graphics.read_map()),
        Place::Planes(address) => (address & (PLANE_SIZE - 1), graphics.read_map()),
    };
    *latches = vram.word(address);
    if graphics.read_mode_1() {
        // A bit is 1 where all planes that count have the colour looked for.
        let differs = (*latches ^ spread(graphics.color_compare())) & spread(graphics.color_care());
        !differs.to_le_bytes().into_iter().fold(0, |all, plane| all | plane)
    } else {
        (*latches >> (8 * u32::from(plane & 3))) as u8
    }
}

/// The processor writes one byte at `offset` from 0xA0000.
pub fn write(vram: &mut Vram, registers: &Registers, vbe: &Vbe, latches: u32, offset: u32, value: u8) {
    let sequencer = &registers.sequencer;
    let map_mask = sequencer.map_mask();
    let (address, planes) = match place(registers, vbe, offset) {
        Place::Nowhere => return,
        Place::Linear(at) => return vram.set(at, value),
        Place::Planes(address) if sequencer.chain4() && !vbe.is_on() => {
            (address >> 2 & (PLANE_SIZE - 1), map_mask & 1 << (address & 3))
        }
        Place::Planes(address) if sequencer.odd_even() && !vbe.is_on() => {
            (odd_even_address(registers, address) & (PLANE_SIZE - 1), map_mask & 0b0101 << (address & 1))
        }
        Place::Planes(address) if vbe.is_on() => (address, map_mask),
        Place::Planes(address) => (address & (PLANE_SIZE - 1), map_mask),
    };
    vram.store(address, data_path(registers, latches, value), planes);
}

/// What the graphics controller makes of a written byte, for all four planes.
fn data_path(registers: &Registers, latches: u32, value: u8) -> u32 {
    let graphics = &registers.graphics;
    let rotated = value.rotate_right(graphics.rotate());
    let set_reset = spread(graphics.set_reset());
    let (data, bit_mask) = match graphics.write_mode() {
        0 => {
            let enabled = spread(graphics.enable_set_reset());
            (replicate(rotated) & !enabled | set_reset & enabled, graphics.bit_mask())
        }
        // The latches go back as they are; nothing else takes part.
        1 => return latches,
        2 => (spread(value & 0x0f), graphics.bit_mask()),
        _ => (set_reset, graphics.bit_mask() & rotated),
    };
    let data = match graphics.function() {
        0 => data,
        1 => data & latches,
        2 => data | latches,
        _ => data ^ latches,
    };
    let mask = replicate(bit_mask);
    data & mask | latches & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::vga::tests::{mode_3, mode_12h, mode_13h};

    /// One plane address of mode 12h, seen through the four planes.
    struct Cell {
        vram: Vram,
        registers: Registers,
        vbe: Vbe,
        latches: u32,
    }

    impl Cell {
        fn new(planes: [u8; 4]) -> Self {
            let mut vram = Vram::new();
            vram.bytes_mut()[400..404].copy_from_slice(&planes);
            Self { vram, registers: mode_12h(), vbe: Vbe::default(), latches: 0 }
        }

        fn set(mut self, index: usize, value: u8) -> Self {
            self.registers.graphics.data[index] = value;
            self
        }

        /// Loads the latches, writes, and gives the planes.
        fn write(mut self, value: u8) -> [u8; 4] {
            read(&self.vram, &self.registers, &self.vbe, &mut self.latches, 100);
            write(&mut self.vram, &self.registers, &self.vbe, self.latches, 100, value);
            let at = &self.vram.bytes()[400..404];
            [at[0], at[1], at[2], at[3]]
        }
    }

    const OLD: [u8; 4] = [0x0f, 0xf0, 0xff, 0x00];

    #[test]
    fn write_mode_0_rotates_sets_combines_and_masks() {
        assert_eq!(Cell::new(OLD).write(0xa5), [0xa5; 4]);
        assert_eq!(Cell::new(OLD).set(3, 4).write(0xa6), [0x6a; 4]);
        assert_eq!(Cell::new(OLD).set(0, 0b0101).set(1, 0b0011).write(0xa5), [0xff, 0x00, 0xa5, 0xa5]);
        assert_eq!(Cell::new(OLD).set(8, 0x3c).write(0xff), [0x3f, 0xfc, 0xff, 0x3c]);
        assert_eq!(Cell::new(OLD).set(3, 0x08).write(0x3c), [0x0c, 0x30, 0x3c, 0x00], "AND");
        assert_eq!(Cell::new(OLD).set(3, 0x10).write(0x3c), [0x3f, 0xfc, 0xff, 0x3c], "OR");
        assert_eq!(Cell::new(OLD).set(3, 0x18).write(0x3c), [0x33, 0xcc, 0xc3, 0x3c], "XOR");
        let mut some = Cell::new(OLD);
        some.registers.sequencer.data[2] = 0b1010;
        assert_eq!(some.write(0x81), [0x0f, 0x81, 0xff, 0x81], "map mask");
    }

    #[test]
    fn write_modes_1_2_and_3() {
        let mut copy = Cell::new(OLD).set(5, 1).set(8, 0).set(3, 0x18);
        read(&copy.vram, &copy.registers, &copy.vbe, &mut copy.latches, 100);
        write(&mut copy.vram, &copy.registers, &copy.vbe, copy.latches, 7, 0xee);
        assert_eq!(copy.vram.bytes()[28..32], OLD, "mode 1 ignores data, bit mask and function");
        assert_eq!(Cell::new(OLD).set(5, 2).set(8, 0x0f).write(0b0110), [0x00, 0xff, 0xff, 0x00]);
        assert_eq!(Cell::new(OLD).set(5, 3).set(8, 0x3c).set(0, 0b1001).write(0xf0), [0x3f, 0xc0, 0xcf, 0x30]);
    }

    #[test]
    fn read_mode_1_finds_a_color_in_the_planes_that_count() {
        let mut cell = Cell::new(OLD).set(5, 8).set(2, 0b0101).set(7, 0x0f);
        let mut look = |care: u8| {
            cell.registers.graphics.data[7] = care;
            read(&cell.vram, &cell.registers, &cell.vbe, &mut cell.latches, 100)
        };
        assert_eq!(look(0x0f), 0x0f, "planes 0 and 2 set, 1 and 3 clear");
        assert_eq!(look(0b0100), 0xff);
        assert_eq!(look(0b1000), 0xff);
        assert_eq!(look(0b0010), 0x0f);
        assert_eq!(look(0), 0xff, "nothing counts");
    }

    #[test]
    fn odd_even_and_chain_4_choose_the_plane_by_address() {
        let (mut vram, vbe, mut latches) = (Vram::new(), Vbe::default(), 0);
        let text = mode_3();
        for (offset, value) in [(0x18000, b'A'), (0x18001, 0x1e), (0x18002, b'B'), (0x18003, 0x2f)] {
            write(&mut vram, &text, &vbe, latches, offset, value);
            assert_eq!(read(&vram, &text, &vbe, &mut latches, offset), value);
        }
        // Characters at even addresses of plane 0, attributes at the same ones of plane 1.
        assert_eq!(vram.bytes()[..12], [b'A', 0x1e, 0, 0, 0, 0, 0, 0, b'B', 0x2f, 0, 0]);
        write(&mut vram, &text, &vbe, latches, 0x17fff, 0xff);
        assert_eq!(read(&vram, &text, &vbe, &mut latches, 0x17fff), 0xff, "outside the window");

        let chained = mode_13h();
        assert!(is_plain(&chained, &vbe) && !is_plain(&text, &vbe));
        for offset in 0..64_000 {
            write(&mut vram, &chained, &vbe, latches, offset, (offset % 251) as u8);
        }
        assert!(vram.bytes()[..64_000].iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }

    #[test]
    fn saved_memory_ends_at_the_last_page_in_use() {
        let mut vram = Vram::new();
        assert!(vram.used().is_empty());
        vram.bytes_mut()[8192] = 1;
        let used = vram.used().to_vec();
        assert_eq!(used.len(), 3 * 4096);
        vram.bytes_mut()[VRAM_SIZE - 1] = 1;
        vram.restore(&used);
        assert_eq!(vram.used(), used);
    }
}
