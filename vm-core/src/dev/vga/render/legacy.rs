//! The VGA's own modes.
//!
//! They are drawn line by line with the CRT controller's counters, so that start address, split screen, panning and mixed
//! row heights come out as programs expect. They fit in 256 KiB; what changed there is found in blocks of 64 plane
//! addresses, by comparing touched pages with a copy.

use std::ops::Range;

use super::{Changes, MONITOR_ASPECT, Palette, Picture, Renderer, Source, Touched, Vram, planar_pixel};
use crate::dev::vga::memory::{LEGACY_SIZE, PAGE};
use crate::dev::vga::registers::{Registers, Shift};
use crate::dev::vga::vbe::MAX_HEIGHT;
use crate::frame::TextScreen;

/// Plane addresses of a block.
const BLOCK: usize = 64;
const BLOCK_BYTES: usize = 4 * BLOCK;
const BLOCKS: usize = LEGACY_SIZE / BLOCK_BYTES;

/// The text cursor, where it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Memory counter of its cell.
    address: u32,
    /// First and last scan line.
    lines: (u32, u32),
}

impl Cursor {
    /// The cursor of a text mode, if it is on.
    pub(super) fn of(registers: &Registers) -> Option<Self> {
        if registers.graphics.is_graphics() {
            return None;
        }
        let lines = registers.crtc.cursor_lines()?;
        Some(Self { address: registers.crtc.cursor(), lines: (*lines.start(), *lines.end()) })
    }
}

/// Blocks of plane addresses whose contents changed.
struct Dirty {
    blocks: [bool; BLOCKS],
    any: bool,
    /// Something changed in plane 2, where fonts are.
    fonts: bool,
}

impl Dirty {
    /// Compares touched pages with `shadow` and brings that up to date.
    fn find(shadow: &mut [u8], memory: &[u8], touched: &Touched, text: bool) -> Self {
        let mut dirty = Self { blocks: [false; BLOCKS], any: false, fonts: false };
        let pages = shadow.chunks_exact_mut(PAGE).zip(memory.chunks_exact(PAGE)).enumerate();
        for (page, (shadow, memory)) in pages {
            if !touched.any(page * PAGE..page * PAGE + 1) || shadow == memory {
                continue;
            }
            dirty.any = true;
            let first = page * PAGE / BLOCK_BYTES;
            let blocks = shadow.chunks_exact_mut(BLOCK_BYTES).zip(memory.chunks_exact(BLOCK_BYTES)).enumerate();
            for (n, (shadow, memory)) in blocks {
                if shadow == memory {
                    continue;
                }
                let mut planes = shadow.as_chunks::<4>().0.iter().zip(memory.as_chunks::<4>().0);
                dirty.fonts |= text && planes.any(|(old, new)| old[2] != new[2]);
                dirty.blocks[first + n] = true;
                shadow.copy_from_slice(memory);
            }
        }
        dirty
    }

    fn at(&self, address: usize) -> bool {
        self.blocks.get(address / BLOCK).is_some_and(|&dirty| dirty)
    }
}

impl Renderer {
    /// Draws one of the VGA's own modes where registers or memory changed.
    pub(super) fn draw_legacy(&mut self, source: &Source, vram: &Vram, touched: &Touched, mut changes: Changes) {
        let text = !source.registers.graphics.is_graphics();
        let dirty = Dirty::find(&mut self.shadow, &vram.bytes()[..LEGACY_SIZE], touched, text);
        changes.all |= dirty.fonts;
        let mode = Legacy::new(source, &self.shadow, &self.characters);
        changes.all |= self.picture.resize(mode.width(), mode.height(), MONITOR_ASPECT);
        if changes.all || changes.blink || changes.cursors != [None; 2] || dirty.any {
            mode.draw(&mut self.picture, &changes, &dirty);
        }
    }
}

/// The counters of the CRT controller while it draws one frame.
struct Beam {
    /// Memory counter at the left of the row.
    counter: u32,
    /// Scan line in the row.
    row: u32,
    /// Pixels and bytes that the picture is moved left by.
    pan: u32,
    bytes: u32,
}

/// One of the VGA's own modes, being drawn.
struct Legacy<'a> {
    source: &'a Source,
    registers: &'a Registers,
    palette: Palette,
    memory: &'a [u8],
    characters: &'a [char; 256],
    /// Dots of a character clock (8 or 9 in text, 8 or 4 in graphics).
    clock_dots: u32,
    columns: u32,
    text: bool,
    shift: Shift,
}

impl<'a> Legacy<'a> {
    fn new(source: &'a Source, memory: &'a [u8], characters: &'a [char; 256]) -> Self {
        let registers = &source.registers;
        let text = !registers.graphics.is_graphics();
        let shift = registers.graphics.shift();
        let packed = !text && shift == Shift::Packed;
        let clock_dots = match (text, packed) {
            (true, _) => 8 + u32::from(!registers.sequencer.eight_dots()),
            (false, true) => 4,
            (false, false) => 8,
        };
        let palette = Palette::new(registers, &source.vbe, !packed, registers.screen_on());
        let columns = registers.crtc.columns();
        Self { source, registers, palette, memory, characters, clock_dots, columns, text, shift }
    }

    /// How many lines of the screen are one line of the picture.
    fn lines_a_row(&self) -> u32 {
        let crtc = &self.registers.crtc;
        let doubled = 1 + u32::from(crtc.double_scan());
        if self.text || crtc.interleaves_rows() { doubled } else { doubled * crtc.row_height() }
    }

    fn width(&self) -> u32 {
        self.columns * self.clock_dots
    }

    fn height(&self) -> u32 {
        (self.registers.crtc.lines() / self.lines_a_row()).clamp(1, u32::from(MAX_HEIGHT))
    }

    fn fetch(&self, address: usize) -> [u8; 4] {
        self.memory.get(address * 4..address * 4 + 4).map_or([0; 4], |word| [word[0], word[1], word[2], word[3]])
    }

    fn top(&self) -> Beam {
        let crtc = &self.registers.crtc;
        let panning = u32::from(self.registers.attribute.panning());
        let pan = match (self.text && self.clock_dots == 9, self.shift) {
            // With nine dots, 8 means none and 0 means one.
            (true, _) => {
                if panning > 7 {
                    0
                } else {
                    panning + 1
                }
            }
            (false, Shift::Packed) if !self.text => panning / 2 & 3,
            (false, _) => panning & 7,
        };
        Beam { counter: crtc.start(), row: crtc.preset_row(), pan, bytes: crtc.byte_panning() }
    }

    /// The memory counter and plane address of each column, one more than is shown, for panning.
    fn cells(&self, beam: &Beam) -> impl Iterator<Item = (u32, usize)> {
        let crtc = &self.registers.crtc;
        let hold = if self.text { 1 } else { crtc.count_by() };
        let (first, row) = (beam.counter.wrapping_add(beam.bytes), beam.row);
        (0..=self.columns).map(move |column| {
            let counter = first.wrapping_add(column / hold) & 0xffff;
            (counter, crtc.address(counter, row))
        })
    }

    fn draw(&self, picture: &mut Picture, changes: &Changes, dirty: &Dirty) {
        let step = self.lines_a_row();
        let height = self.height();
        let row_height = self.registers.crtc.row_height();
        let mut dots = vec![0_u8; (self.width() + 2 * self.clock_dots) as usize];
        let mut screen = TextScreen::default();
        let mut beam = self.top();
        let mut wanted = true;
        for y in 0..height {
            let first = beam.row == 0 || y == 0;
            if self.text && first && y + row_height - beam.row.min(row_height) <= height {
                self.read_row(&beam, &mut screen);
            }
            // All scan lines of a character row show the same cells.
            if first || !self.text || self.registers.crtc.interleaves_rows() {
                wanted = changes.all || self.may_differ(&beam, changes, dirty);
            }
            if wanted {
                if self.text {
                    self.text_line(&beam, &mut dots);
                } else {
                    self.graphics_line(&beam, &mut dots);
                }
                let shown = &dots[beam.pan as usize..];
                picture.draw_row(y, |rgba| {
                    for (pixel, &dot) in rgba.as_chunks_mut::<4>().0.iter_mut().zip(shown) {
                        *pixel = self.palette.0[usize::from(dot)];
                    }
                });
            }
            wanted &= !self.next_row(&mut beam, y * step..y * step + step);
        }
        picture.set_text(self.text.then_some(screen));
    }

    /// Whether a row at `beam` reads from changed memory, or shows a cursor or something blinking that changed.
    fn may_differ(&self, beam: &Beam, changes: &Changes, dirty: &Dirty) -> bool {
        let blink = self.text && changes.blink && self.registers.attribute.blink();
        self.cells(beam).any(|(counter, address)| {
            dirty.any && dirty.at(address)
                || blink && self.fetch(address)[1] & 0x80 != 0
                || changes.cursors.iter().flatten().any(|cursor| cursor.address == counter)
        })
    }

    /// Moves on over `lines` of the screen; whether the picture started again at address 0.
    fn next_row(&self, beam: &mut Beam, lines: Range<u32>) -> bool {
        let crtc = &self.registers.crtc;
        if lines.contains(&crtc.line_compare()) {
            beam.counter = 0;
            beam.row = 0;
            if self.registers.attribute.pan_top_only() {
                (beam.pan, beam.bytes) = (0, 0);
            }
            return true;
        }
        let rows = if self.text || crtc.interleaves_rows() { 1 } else { crtc.row_height() };
        beam.row += rows;
        if beam.row >= crtc.row_height() {
            beam.row = 0;
            beam.counter = beam.counter.wrapping_add(crtc.offset()) & 0xffff;
        }
        false
    }

    /// Adds the characters of one row to `screen`.
    fn read_row(&self, beam: &Beam, screen: &mut TextScreen) {
        let crtc = &self.registers.crtc;
        let row = screen.lines.len() as u32;
        // Where it is counts, whether or not it is in its dark phase.
        let cursor = self.source.cursor.filter(|cursor| cursor.lines.0 < crtc.row_height());
        let cells = (0..self.columns).zip(self.cells(beam)).map(|(column, (counter, address))| {
            if cursor.is_some_and(|cursor| cursor.address == counter) {
                screen.cursor = Some((column, row));
            }
            self.characters[usize::from(self.fetch(address)[0])]
        });
        let line = cells.collect();
        screen.lines.push(line);
    }

    fn text_line(&self, beam: &Beam, dots: &mut [u8]) {
        let crtc = &self.registers.crtc;
        let attribute = &self.registers.attribute;
        let (font_clear, font_set) = self.registers.sequencer.fonts();
        let cursor = self.source.cursor.filter(|_| !self.source.cursor_dark);
        let cursor = cursor.filter(|cursor| (cursor.lines.0..=cursor.lines.1).contains(&beam.row));
        let blink = attribute.blink();
        for ((counter, address), cell) in self.cells(beam).zip(dots.chunks_mut(self.clock_dots as usize)) {
            let [code, colors, ..] = self.fetch(address);
            let font = if colors & 0x08 != 0 { font_set } else { font_clear };
            let glyph = font + usize::from(code) * 32 + (beam.row & 31) as usize;
            let mut bits = self.fetch(glyph & 0xffff)[2];
            let mut ninth = attribute.line_graphics() && code & 0xe0 == 0xc0 && bits & 1 != 0;
            if colors & 0x77 == 0x01 && beam.row == crtc.underline() {
                (bits, ninth) = (0xff, true);
            }
            if blink && colors & 0x80 != 0 && self.source.blinked {
                (bits, ninth) = (0, false);
            }
            if cursor.is_some_and(|cursor| cursor.address == counter) {
                (bits, ninth) = (0xff, true);
            }
            let ink = colors & 0x0f;
            let paper = colors >> 4 & if blink { 7 } else { 15 };
            for (n, dot) in cell.iter_mut().enumerate() {
                let set = if n == 8 { ninth } else { bits >> (7 - (n & 7)) & 1 != 0 };
                *dot = if set { ink } else { paper };
            }
        }
    }

    fn graphics_line(&self, beam: &Beam, dots: &mut [u8]) {
        for ((_, address), cell) in self.cells(beam).zip(dots.chunks_mut(self.clock_dots as usize)) {
            let planes = self.fetch(address);
            match self.shift {
                Shift::Planar => (0..).zip(cell).for_each(|(n, dot)| *dot = planar_pixel(planes, n)),
                Shift::Interleaved => {
                    for (n, dot) in cell.iter_mut().enumerate() {
                        // Planes 0 and 2 hold the first four pixels, 1 and 3 the other four.
                        let pair = |plane: usize| planes[plane + n / 4 % 2] >> (6 - 2 * (n % 4)) & 3;
                        *dot = pair(0) | pair(2) << 2;
                    }
                }
                Shift::Packed => cell.iter_mut().zip(planes).for_each(|(dot, plane)| *dot = plane),
            }
        }
    }
}
