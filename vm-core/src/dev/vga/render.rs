//! From registers and video memory to a picture.
//!
//! The VGA's own modes are drawn line by line with the CRT controller's counters, so that start address, split screen,
//! panning and mixed row heights come out as programs expect. They fit in 256 KiB, which is compared with a copy to
//! see whether anything changed. High resolutions are compared and drawn row by row.

use super::cp437;
use super::memory::{LEGACY_SIZE, Vram};
use super::registers::{Registers, Shift};
use super::timing;
use super::vbe::{MAX_HEIGHT, VRAM_SIZE, Vbe};
use crate::bus::clock::Nanos;
use crate::frame::{Frame, TextScreen};

/// Monitors of the day were 4:3, whatever the number of pixels.
const MONITOR_ASPECT: f32 = 4.0 / 3.0;

/// What the last picture was drawn from.
#[derive(Debug, PartialEq)]
struct Source {
    registers: Registers,
    vbe: Vbe,
    /// Cursor and blinking characters are in their dark phase.
    phases: (bool, bool),
}

/// Draws pictures and remembers the last one, so that unchanged ones cost little.
#[derive(Debug)]
pub struct Renderer {
    sequence: u64,
    source: Option<Source>,
    /// The memory that the last picture was drawn from.
    shadow: Vec<u8>,
    picture: Picture,
    characters: [char; 256],
}

/// A picture without its number.
#[derive(Clone, Debug, Default, PartialEq)]
struct Picture {
    width: u32,
    height: u32,
    aspect: f32,
    rgba: Vec<u8>,
    text: Option<TextScreen>,
}

impl Renderer {
    /// A renderer that has drawn nothing yet.
    pub fn new() -> Self {
        Self { sequence: 0, source: None, shadow: Vec::new(), picture: Picture::default(), characters: cp437::table() }
    }

    /// Makes the next picture count as new (after a reset or a restore).
    pub fn forget(&mut self) {
        self.source = None;
    }

    /// The picture at `now`, where it differs from the last one.
    pub fn render(&mut self, registers: &Registers, vbe: &Vbe, vram: &Vram, now: Nanos) -> Option<Frame> {
        let phases = if vbe.is_on() {
            (false, false)
        } else {
            let frames = timing::frames(registers, now);
            (frames >> 3 & 1 != 0, frames >> 4 & 1 != 0)
        };
        let source = Source { registers: registers.clone(), vbe: vbe.clone(), phases };
        let same_source = self.source.as_ref() == Some(&source);
        let changed = if vbe.is_on() {
            self.draw_high(&source, vram, same_source)
        } else {
            self.draw_legacy(&source, vram, same_source)
        };
        self.source = Some(source);
        changed.then(|| {
            self.sequence += 1;
            let Picture { width, height, aspect, rgba, text } = self.picture.clone();
            Frame { sequence: self.sequence, width, height, aspect, rgba, text }
        })
    }

    /// Draws one of the VGA's own modes anew where registers or memory changed; whether it looks different now.
    fn draw_legacy(&mut self, source: &Source, vram: &Vram, same_source: bool) -> bool {
        let memory = &vram.bytes()[..LEGACY_SIZE];
        if same_source && self.shadow == memory {
            return false;
        }
        self.shadow.clear();
        self.shadow.extend_from_slice(memory);
        let picture = Legacy::new(source, &self.shadow, &self.characters).draw();
        let differs = self.source.is_none() || picture != self.picture;
        self.picture = picture;
        differs
    }

    /// Draws the rows of a high resolution that changed; whether any did.
    fn draw_high(&mut self, source: &Source, vram: &Vram, same_source: bool) -> bool {
        let vbe = &source.vbe;
        let (width, height, depth) = vbe.mode();
        let (width, height) = (usize::from(width), usize::from(height));
        let row_bytes = match vbe.pixel_bytes() {
            0 => width.div_ceil(8) * 4,
            bytes => width * bytes,
        };
        if !same_source || self.shadow.len() != row_bytes * height {
            self.shadow.clear();
            self.shadow.resize(row_bytes * height, 0);
            let rgba = vec![0; width * height * 4];
            let aspect = width as f32 / height as f32;
            self.picture = Picture { width: width as u32, height: height as u32, aspect, rgba, text: None };
        }
        let shown = source.registers.attribute.palette_is_shown() || depth > 8;
        let palette = Palette::new(&source.registers, vbe, depth == 4, shown);
        let mut changed = !same_source;
        let rows = self.shadow.chunks_exact_mut(row_bytes).zip(self.picture.rgba.chunks_exact_mut(width * 4));
        for (y, (shadow, rgba)) in rows.enumerate() {
            // Rows that lie beyond the end of memory wrap around, as its address lines do.
            let start = (vbe.start() + y * vbe.pitch()) % VRAM_SIZE;
            let Some(row) = vram.bytes().get(start..start + row_bytes) else {
                rgba.fill(0);
                continue;
            };
            if same_source && shadow == row {
                continue;
            }
            shadow.copy_from_slice(row);
            convert_row(depth, row, &palette, rgba);
            changed = true;
        }
        changed
    }
}

/// One row of a high resolution in colours.
fn convert_row(depth: u16, row: &[u8], palette: &Palette, rgba: &mut [u8]) {
    let pixels = rgba.chunks_exact_mut(4);
    let word = |bytes: &[u8]| u32::from(bytes[0]) | u32::from(bytes[1]) << 8;
    let five = |value: u32| (value << 3 & 0xf8 | value >> 2 & 7) as u8;
    match depth {
        4 => {
            for (n, pixel) in pixels.enumerate() {
                let at = n / 8 * 4;
                let color = planar_pixel([row[at], row[at + 1], row[at + 2], row[at + 3]], n as u32 % 8);
                pixel.copy_from_slice(&palette.0[usize::from(color)]);
            }
        }
        8 => {
            for (pixel, from) in pixels.zip(row) {
                pixel.copy_from_slice(&palette.0[usize::from(*from)]);
            }
        }
        15 => {
            for (pixel, from) in pixels.zip(row.chunks_exact(2)) {
                let value = word(from);
                pixel.copy_from_slice(&[five(value >> 10), five(value >> 5), five(value), 255]);
            }
        }
        16 => {
            for (pixel, from) in pixels.zip(row.chunks_exact(2)) {
                let value = word(from);
                let green = (value >> 3 & 0xfc | value >> 9 & 3) as u8;
                pixel.copy_from_slice(&[five(value >> 11), green, five(value), 255]);
            }
        }
        24 => {
            for (pixel, from) in pixels.zip(row.chunks_exact(3)) {
                pixel.copy_from_slice(&[from[2], from[1], from[0], 255]);
            }
        }
        _ => {
            for (pixel, from) in pixels.zip(row.chunks_exact(4)) {
                pixel.copy_from_slice(&[from[2], from[1], from[0], 255]);
            }
        }
    }
}

/// Pixel `n` (0 is leftmost) of eight in four planes.
fn planar_pixel(planes: [u8; 4], n: u32) -> u8 {
    let bit = |plane: usize| planes[plane] >> (7 - (n & 7)) & 1;
    bit(0) | bit(1) << 1 | bit(2) << 2 | bit(3) << 3
}

/// What each pixel value shows as.
struct Palette([[u8; 4]; 256]);

impl Palette {
    /// `through_attribute`: values are 4 bits and pass the attribute controller; `shown`: the screen is on.
    fn new(registers: &Registers, vbe: &Vbe, through_attribute: bool, shown: bool) -> Self {
        let mut colors = [[0, 0, 0, 255]; 256];
        if shown {
            for (value, color) in (0..=255_u8).zip(&mut colors) {
                let index = if through_attribute { registers.attribute.dac_index(value) } else { value };
                *color = registers.dac.rgba(index, vbe.wide_dac());
            }
        }
        Self(colors)
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
    registers: &'a Registers,
    palette: Palette,
    memory: &'a [u8],
    characters: &'a [char; 256],
    phases: (bool, bool),
    /// Dots of a character clock (8 or 9 in text, 8 or 4 in graphics).
    clock_dots: u32,
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
        Self { registers, palette, memory, characters, phases: source.phases, clock_dots, text, shift }
    }

    /// How many lines of the screen are one line of the picture.
    fn lines_a_row(&self) -> u32 {
        let crtc = &self.registers.crtc;
        let doubled = 1 + u32::from(crtc.double_scan());
        if self.text || crtc.interleaves_rows() { doubled } else { doubled * crtc.row_height() }
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
            (false, Shift::Packed) if !self.text => panning / 2,
            (false, _) => panning & 7,
        };
        Beam { counter: crtc.start(), row: crtc.preset_row(), pan, bytes: crtc.byte_panning() }
    }

    fn draw(&self) -> Picture {
        let crtc = &self.registers.crtc;
        let columns = crtc.columns();
        let width = columns * self.clock_dots;
        let lines = crtc.lines();
        let step = self.lines_a_row();
        let height = (lines / step).clamp(1, u32::from(MAX_HEIGHT));
        let mut rgba = Vec::with_capacity((width * height * 4) as usize);
        // One character clock more than is shown, for panning.
        let mut dots = vec![0_u8; (width + 2 * self.clock_dots) as usize];
        let mut screen = TextScreen::default();
        let mut beam = self.top();
        let row_height = crtc.row_height();
        for y in 0..height {
            let whole = y + row_height - beam.row.min(row_height) <= height;
            if self.text && (beam.row == 0 || y == 0) && whole {
                self.read_row(&beam, columns, &mut screen);
            }
            if self.text {
                self.text_line(&beam, columns, &mut dots);
            } else {
                self.graphics_line(&beam, columns, &mut dots);
            }
            let from = beam.pan as usize;
            for dot in &dots[from..from + width as usize] {
                rgba.extend_from_slice(&self.palette.0[usize::from(*dot)]);
            }
            self.next_row(&mut beam, y * step, step);
        }
        let text = self.text.then_some(screen);
        Picture { width, height, aspect: MONITOR_ASPECT, rgba, text }
    }

    /// Moves on over `step` lines of the screen from line `first`.
    fn next_row(&self, beam: &mut Beam, first: u32, step: u32) {
        let crtc = &self.registers.crtc;
        let compare = crtc.line_compare();
        if (first..first + step).contains(&compare) {
            beam.counter = 0;
            beam.row = 0;
            if self.registers.attribute.pan_top_only() {
                (beam.pan, beam.bytes) = (0, 0);
            }
            return;
        }
        let rows = if self.text || crtc.interleaves_rows() { 1 } else { crtc.row_height() };
        beam.row += rows;
        if beam.row >= crtc.row_height() {
            beam.row = 0;
            beam.counter = beam.counter.wrapping_add(crtc.offset()) & 0xffff;
        }
    }

    /// Adds the characters of one row to `screen`.
    fn read_row(&self, beam: &Beam, columns: u32, screen: &mut TextScreen) {
        let crtc = &self.registers.crtc;
        let row = screen.lines.len() as u32;
        let line = (0..columns).map(|column| {
            let counter = beam.counter.wrapping_add(beam.bytes + column) & 0xffff;
            if counter == crtc.cursor() && crtc.cursor_lines().is_some_and(|lines| *lines.start() < crtc.row_height()) {
                screen.cursor = Some((column, row));
            }
            self.characters[usize::from(self.fetch(crtc.address(counter, beam.row))[0])]
        });
        let line = line.collect();
        screen.lines.push(line);
    }

    fn text_line(&self, beam: &Beam, columns: u32, dots: &mut [u8]) {
        let crtc = &self.registers.crtc;
        let attribute = &self.registers.attribute;
        let (font_clear, font_set) = self.registers.sequencer.fonts();
        let cursor_lines = crtc.cursor_lines().filter(|lines| !self.phases.0 && lines.contains(&beam.row));
        let blink = attribute.blink();
        for (column, cell) in (0..=columns).zip(dots.chunks_mut(self.clock_dots as usize)) {
            let counter = beam.counter.wrapping_add(beam.bytes + column) & 0xffff;
            let [code, colors, ..] = self.fetch(crtc.address(counter, beam.row));
            let font = if colors & 0x08 != 0 { font_set } else { font_clear };
            let glyph = font + usize::from(code) * 32 + (beam.row & 31) as usize;
            let mut bits = self.fetch(glyph & 0xffff)[2];
            let mut ninth = attribute.line_graphics() && code & 0xe0 == 0xc0 && bits & 1 != 0;
            if colors & 0x77 == 0x01 && beam.row == crtc.underline() {
                (bits, ninth) = (0xff, true);
            }
            if blink && colors & 0x80 != 0 && self.phases.1 {
                (bits, ninth) = (0, false);
            }
            if cursor_lines.is_some() && counter == crtc.cursor() {
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

    fn graphics_line(&self, beam: &Beam, columns: u32, dots: &mut [u8]) {
        let crtc = &self.registers.crtc;
        let hold = crtc.count_by();
        for (column, cell) in (0..=columns).zip(dots.chunks_mut(self.clock_dots as usize)) {
            let counter = beam.counter.wrapping_add(beam.bytes + column / hold) & 0xffff;
            let planes = self.fetch(crtc.address(counter, beam.row));
            match self.shift {
                Shift::Planar => {
                    for (n, dot) in (0..).zip(cell) {
                        *dot = planar_pixel(planes, n);
                    }
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::vga::tests::{mode_3, mode_12h, mode_13h};

    fn draw(registers: &Registers, vram: &Vram) -> Frame {
        let mut renderer = Renderer::new();
        renderer.render(registers, &Vbe::default(), vram, 0).expect("the first picture is new")
    }

    fn pixel(frame: &Frame, x: u32, y: u32) -> [u8; 3] {
        let at = ((y * frame.width + x) * 4) as usize;
        [frame.rgba[at], frame.rgba[at + 1], frame.rgba[at + 2]]
    }

    /// Writes text with attribute `colors` at a cell of the 80-column screen.
    fn print(vram: &mut Vram, cell: usize, text: &[u8], colors: u8) {
        for (n, byte) in text.iter().enumerate() {
            let at = (cell + n) * 2 * 4;
            vram.bytes_mut()[at] = *byte;
            vram.bytes_mut()[at + 1] = colors;
        }
    }

    const GREY: [u8; 3] = [0xaa; 3];
    const BLACK: [u8; 3] = [0; 3];

    #[test]
    fn text_has_its_font_colors_ninth_dot_and_cursor() {
        let mut registers = mode_3();
        let mut vram = Vram::new();
        print(&mut vram, 0, b"A\xc4", 0x07);
        print(&mut vram, 80 + 79, b"\x01", 0x1f);
        // Row 3 of 'A' and of 0xC4 in the font in plane 2.
        for (code, bits) in [(0x41, 0b1000_0001), (0xc4, 0xff)] {
            vram.bytes_mut()[(code * 32 + 3) * 4 + 2] = bits;
        }
        registers.crtc.data[0x0f] = 5;
        let frame = draw(&registers, &vram);
        assert_eq!((frame.width, frame.height), (720, 400));
        assert!((frame.aspect - 4.0 / 3.0).abs() < 0.001);
        assert_eq!([0, 1, 7, 8].map(|x| pixel(&frame, x, 3)), [GREY, BLACK, GREY, BLACK]);
        assert_eq!([9, 16, 17].map(|x| pixel(&frame, x, 3)), [GREY; 3], "line graphics reach the ninth dot");
        assert_eq!(pixel(&frame, 719, 16), [0, 0, 0xaa], "blue background");
        let screen = frame.text.expect("a text mode");
        assert_eq!(screen.lines.len(), 25);
        assert!(screen.lines.iter().all(|line| line.chars().count() == 80));
        assert!(screen.lines[0].starts_with("A─"));
        assert!(screen.lines[1].ends_with('☺'));
        assert_eq!(screen.cursor, Some((5, 0)));
        assert_eq!(frame.rgba.len(), 720 * 400 * 4);
    }

    #[test]
    fn nothing_new_is_drawn_only_when_something_changed() {
        let (mut registers, mut vram, vbe) = (mode_3(), Vram::new(), Vbe::default());
        registers.crtc.data[0x0a] = 0x20;
        let mut renderer = Renderer::new();
        assert!(renderer.render(&registers, &vbe, &vram, 0).is_some());
        assert!(renderer.render(&registers, &vbe, &vram, 1_000_000_000).is_none());
        print(&mut vram, 0, b"x", 0x07);
        let frame = renderer.render(&registers, &vbe, &vram, 1_000_000_000).expect("a new character");
        assert_eq!(frame.sequence, 2);
        registers.graphics.data[0] = 5;
        assert!(renderer.render(&registers, &vbe, &vram, 0).is_none(), "set/reset cannot be seen");
        registers.crtc.data[0x0a] = 0;
        registers.crtc.data[0x0b] = 15;
        vram.bytes_mut()[1] = 0x07;
        assert!(renderer.render(&registers, &vbe, &vram, 0).is_some(), "the cursor is on");
        assert!(renderer.render(&registers, &vbe, &vram, 130_000_000).is_some(), "and goes off");
    }

    #[test]
    fn split_screen_and_panning_move_the_picture() {
        let mut registers = mode_3();
        let mut vram = Vram::new();
        print(&mut vram, 0, b"top of memory", 0x07);
        print(&mut vram, 800, b"first row", 0x07);
        registers.crtc.data[0x0c] = 3;
        registers.crtc.data[0x0d] = 0x20;
        // Line compare 159: the lines from 160 (row 10) on come from address 0.
        registers.crtc.data[0x18] = 159;
        registers.crtc.data[7] &= !0x10;
        registers.crtc.data[9] &= !0x40;
        let lines = draw(&registers, &vram).text.expect("text").lines;
        assert!(lines[0].starts_with("first row"));
        assert!(lines[10].starts_with("top of memory"));
        assert_eq!(lines.len(), 25);
    }

    #[test]
    fn mode_13h_and_mode_x_show_bytes_as_pixels() {
        let mut registers = mode_13h();
        let mut vram = Vram::new();
        vram.bytes_mut()[320 * 199 + 319] = 4;
        let frame = draw(&registers, &vram);
        assert_eq!((frame.width, frame.height, frame.text), (320, 200, None));
        let frame = draw(&registers, &vram);
        assert_eq!(pixel(&frame, 319, 199), [0xaa, 0, 0]);
        assert_eq!(pixel(&frame, 318, 199), BLACK);
        // Unchained, byte addresses, 480 lines: 320 × 240.
        registers.sequencer.data[4] = 0x06;
        registers.crtc.data[0x14] = 0;
        registers.crtc.data[0x17] = 0xe3;
        registers.crtc.data[0x12] = 0xdf;
        registers.crtc.data[7] = 0x3e & !0x20 | 0x02;
        let frame = draw(&registers, &vram);
        assert_eq!((frame.width, frame.height), (320, 240));
        assert_eq!(pixel(&frame, 319, 199), [0xaa, 0, 0]);
    }

    #[test]
    fn planar_and_interleaved_modes() {
        let mut registers = mode_12h();
        let mut vram = Vram::new();
        vram.bytes_mut()[4 * 80..4 * 81].copy_from_slice(&[0x80, 0x40, 0xc0, 0x01]);
        let frame = draw(&registers, &vram);
        assert_eq!((frame.width, frame.height), (640, 480));
        assert_eq!(pixel(&frame, 0, 1), [0xaa, 0, 0xaa], "planes 0 and 2: magenta");
        assert_eq!(pixel(&frame, 1, 1), [0xaa, 0x55, 0], "planes 1 and 2: brown");
        assert_eq!(pixel(&frame, 7, 1), [0x55; 3], "plane 3: dark grey");
        registers.attribute.data[19] = 7;
        assert_eq!(pixel(&draw(&registers, &vram), 0, 1), [0x55; 3], "panned to the eighth pixel");
    }

    #[test]
    fn cga_modes_interleave_rows_and_pair_bits() {
        // Mode 4: 320 × 200 in four colours, odd rows 8 KiB behind even ones, each row shown twice.
        let mut registers = mode_12h();
        registers.graphics.data[5] = 0x30;
        registers.sequencer.data[1] = 0x09;
        registers.crtc.data[1] = 0x27;
        registers.crtc.data[7] = 0x1f;
        registers.crtc.data[9] = 0xc1;
        registers.crtc.data[0x12] = 0x8f;
        registers.crtc.data[0x13] = 0x14;
        registers.crtc.data[0x17] = 0xa2;
        let mut vram = Vram::new();
        // The word at byte address 0x2000 (row 1): planes 0 and 1 of plane address 0x2000.
        vram.bytes_mut()[4 * 0x2000..4 * 0x2000 + 2].copy_from_slice(&[0b00_01_10_11, 0b11_00_00_10]);
        let frame = draw(&registers, &vram);
        assert_eq!((frame.width, frame.height), (320, 200));
        let colors = [BLACK, [0, 0, 0xaa], [0, 0xaa, 0], [0, 0xaa, 0xaa]];
        let expected = [0, 1, 2, 3, 3, 0, 0, 2].map(|color: usize| colors[color]);
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|x| pixel(&frame, x, 1)), expected);
        assert_eq!(pixel(&frame, 1, 0), BLACK);
    }

    #[test]
    fn linear_modes_have_their_depths_and_wrap_at_the_end() {
        let mut vram = Vram::new();
        let expected = [[0xff, 0, 0], [0, 0xff, 0], [0, 0, 0xff]];
        for (depth, bytes) in [
            (15, vec![0x00, 0x7c, 0xe0, 0x03, 0x1f, 0x00]),
            (16, vec![0x00, 0xf8, 0xe0, 0x07, 0x1f, 0x00]),
            (24, vec![0, 0, 255, 0, 255, 0, 255, 0, 0]),
            (32, vec![0, 0, 255, 9, 0, 255, 0, 9, 255, 0, 0, 9]),
        ] {
            let mut vbe = Vbe::default();
            for (index, value) in [(1, 800), (2, 600), (3, depth), (4, 0xc1), (6, 0), (9, 3)] {
                vbe.set_register(index, value);
            }
            let mut renderer = Renderer::new();
            let registers = Registers::default();
            assert!(renderer.render(&registers, &vbe, &vram, 0).is_some());
            let at = vbe.start();
            vram.bytes_mut()[at..at + bytes.len()].copy_from_slice(&bytes);
            let frame = renderer.render(&registers, &vbe, &vram, 0).expect("the picture changed");
            assert_eq!((frame.width, frame.height), (800, 600));
            assert_eq!([0, 1, 2].map(|x| pixel(&frame, x, 0)), expected, "{depth} bits");
            assert!(renderer.render(&registers, &vbe, &vram, 0).is_none());
            vram.bytes_mut()[at..at + bytes.len()].fill(0);
        }
    }
}
