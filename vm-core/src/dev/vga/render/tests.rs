use super::*;
use crate::dev::vga::tests::{mode_3, mode_12h, mode_13h};

fn draw(registers: &Registers, vram: &Vram) -> Arc<Frame> {
    draw_at(registers, vram, 0)
}

/// The picture at a guest time.
fn draw_at(registers: &Registers, vram: &Vram, now: Nanos) -> Arc<Frame> {
    let mut renderer = Renderer::new();
    renderer.render(registers, &Vbe::default(), vram, now).expect("the first picture is new")
}

/// The points that are not black, as (x, y).
fn lit(frame: &Frame) -> Vec<(u32, u32)> {
    let places = (0..frame.height).flat_map(|y| (0..frame.width).map(move |x| (x, y)));
    places.filter(|&(x, y)| pixel(frame, x, y) != BLACK).collect()
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
    let screen = frame.text.as_ref().expect("a text mode");
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
    let frame = draw(&registers, &vram);
    let lines = &frame.text.as_ref().expect("text").lines;
    assert!(lines[0].starts_with("first row"));
    assert!(lines[10].starts_with("top of memory"));
    assert_eq!(lines.len(), 25);
}

#[test]
fn panning_moves_by_bytes_and_pixels_and_may_stop_at_the_split() {
    let mut registers = mode_12h();
    let mut vram = Vram::new();
    // One point: the first pixel of the second byte.
    vram.bytes_mut()[4] = 0x80;
    assert_eq!(lit(&draw(&registers, &vram)), [(8, 0)]);
    registers.attribute.data[19] = 3;
    assert_eq!(lit(&draw(&registers, &vram)), [(5, 0)], "three pixels");
    registers.crtc.data[8] = 1 << 5;
    registers.attribute.data[19] = 0;
    assert_eq!(lit(&draw(&registers, &vram)), [(0, 0)], "one byte");
    // Lines from 100 on begin at address 0 again.
    registers.crtc.data[0x18] = 99;
    registers.crtc.data[7] &= !0x10;
    registers.crtc.data[9] &= !0x40;
    assert_eq!(lit(&draw(&registers, &vram)), [(0, 0), (0, 100)]);
    registers.attribute.data[16] |= 0x20;
    assert_eq!(lit(&draw(&registers, &vram)), [(0, 0), (8, 100)], "the lower part stands still");
    registers.attribute.data[19] = 7;
    vram.bytes_mut()[4 * 2] = 0x01;
    assert_eq!(lit(&draw(&registers, &vram)), [(8, 0), (8, 100), (23, 100)], "eight and seven");

    let mut registers = mode_13h();
    let mut vram = Vram::new();
    vram.bytes_mut()[5] = 7;
    for (register, x) in [(0, 5), (2, 4), (4, 3), (6, 2)] {
        registers.attribute.data[19] = register;
        assert_eq!(lit(&draw(&registers, &vram)), [(x, 0)], "two steps are a pixel of 256 colours");
    }
    registers.crtc.data[8] = 1 << 5;
    registers.attribute.data[19] = 0;
    assert_eq!(lit(&draw(&registers, &vram)), [(1, 0)], "a byte of each plane is four pixels");
}

/// A text screen with one character, a bar in the given scan line, in the second cell.
fn bar(registers: &mut Registers, row: usize, colors: u8) -> Vram {
    registers.crtc.data[0x0a] = 0x20;
    let mut vram = Vram::new();
    // Blanks do not shine.
    print(&mut vram, 1, b"A", colors);
    vram.bytes_mut()[(0x41 * 32 + row) * 4 + 2] = 0x80;
    vram
}

#[test]
fn text_is_panned_over_eight_or_nine_dots_and_begins_at_any_scan_line() {
    let mut registers = mode_3();
    let vram = bar(&mut registers, 5, 0x07);
    for (panning, x) in [(8, 9), (0, 8), (3, 5), (7, 1)] {
        registers.attribute.data[19] = panning;
        assert_eq!(lit(&draw(&registers, &vram)), [(x, 5)], "nine dots, {panning}");
    }
    registers.sequencer.data[1] |= 1;
    for (panning, x) in [(0, 8), (3, 5), (7, 1)] {
        registers.attribute.data[19] = panning;
        let frame = draw(&registers, &vram);
        assert_eq!((frame.width, lit(&frame)), (640, vec![(x, 5)]), "eight dots, {panning}");
    }
    registers.attribute.data[19] = 0;
    registers.crtc.data[8] = 3;
    assert_eq!(lit(&draw(&registers, &vram)), [(8, 2)], "the third scan line is the first");
    registers.crtc.data[8] = 1 << 5;
    assert_eq!(lit(&draw(&registers, &vram)), [(0, 5)], "a character further");
}

#[test]
fn the_cursor_has_its_shape_place_and_delay() {
    let mut registers = mode_3();
    let mut vram = Vram::new();
    print(&mut vram, 0, &[b' '; 160], 0x07);
    registers.crtc.data[0x0f] = 82;
    let mut shape = |start: u8, end: u8| {
        registers.crtc.data[0x0a] = start;
        registers.crtc.data[0x0b] = end;
        let points = lit(&draw(&registers, &vram));
        (points.first().copied(), points.last().copied(), points.len())
    };
    assert_eq!(shape(13, 14), (Some((18, 29)), Some((26, 30)), 18), "two lines of nine dots");
    assert_eq!(shape(0, 15), (Some((18, 16)), Some((26, 31)), 144), "a block");
    assert_eq!(shape(7, 7).2, 9);
    assert_eq!(shape(14, 13).2, 0, "it ends before it begins");
    assert_eq!(shape(0x2d, 14).2, 0, "off");
    assert_eq!(shape(13, 0x4e).0, Some((36, 29)), "two characters later");
}

#[test]
fn attributes_blink_or_brighten_and_planes_and_mask_take_colors_away() {
    let mut registers = mode_3();
    let vram = bar(&mut registers, 5, 0x87);
    let dark_phase = 300_000_000;
    assert_eq!(lit(&draw(&registers, &vram)), [(9, 5)]);
    assert!(lit(&draw_at(&registers, &vram, dark_phase)).is_empty(), "blinking");
    registers.attribute.data[16] &= !0x08;
    let frame = draw_at(&registers, &vram, dark_phase);
    assert_eq!((pixel(&frame, 9, 5), pixel(&frame, 10, 5)), (GREY, [0x55; 3]), "a bright background");
    registers.attribute.data[18] = 0x01;
    let frame = draw(&registers, &vram);
    assert_eq!((pixel(&frame, 9, 5), pixel(&frame, 10, 5)), ([0, 0, 0xaa], BLACK), "plane 0 alone");
    registers.attribute.data[18] = 0x0f;
    registers.attribute.data[7] = 0x02;
    assert_eq!(pixel(&draw(&registers, &vram), 9, 5), [0, 0xaa, 0], "another entry of the palette");
    registers.dac.mask = 0;
    assert!(lit(&draw(&registers, &vram)).is_empty(), "every index is 0");
}

#[test]
fn attribute_bit_3_chooses_between_two_fonts() {
    let mut registers = mode_3();
    let mut vram = bar(&mut registers, 5, 0x07);
    // Map select A: the second 16 KiB of plane 2.
    registers.sequencer.data[3] = 1 << 2;
    vram.bytes_mut()[(0x4000 + 0x41 * 32 + 9) * 4 + 2] = 0x80;
    assert_eq!(lit(&draw(&registers, &vram)), [(9, 5)]);
    print(&mut vram, 1, b"A", 0x0f);
    assert_eq!(lit(&draw(&registers, &vram)), [(9, 9)]);
}

#[test]
fn mode_13h_and_mode_x_show_bytes_as_pixels() {
    let mut registers = mode_13h();
    let mut vram = Vram::new();
    vram.bytes_mut()[320 * 199 + 319] = 4;
    let frame = draw(&registers, &vram);
    assert_eq!((frame.width, frame.height, &frame.text), (320, 200, &None));
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
        let mut registers = Registers::default();
        registers.attribute.index = 0x20;
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

/// One run of rows.
fn one(rows: std::ops::Range<u32>) -> Option<Vec<std::ops::Range<u32>>> {
    Some(std::iter::once(rows).collect())
}

/// A screen with a renderer that has drawn it, to see what the next picture changes.
struct Screen {
    registers: Registers,
    vbe: Vbe,
    vram: Vram,
    renderer: Renderer,
    now: Nanos,
    last: u64,
}

impl Screen {
    fn new(registers: Registers, vbe: Vbe) -> Self {
        let mut screen = Self { registers, vbe, vram: Vram::new(), renderer: Renderer::new(), now: 0, last: 0 };
        assert!(screen.changed().is_some(), "the first picture is new");
        screen
    }

    /// Runs of rows that the next picture changes; `None`: there is no new one.
    fn changed(&mut self) -> Option<Vec<std::ops::Range<u32>>> {
        let frame = self.renderer.render(&self.registers, &self.vbe, &self.vram, self.now)?;
        let rows = frame.rows_since(self.last);
        self.last = frame.sequence;
        Some(rows)
    }

    /// Writes a byte of video memory as a program does whose page was lent to it.
    fn poke(&mut self, at: usize, value: u8) {
        let page = self.vram.lend(at).expect("within video memory");
        // SAFETY: the page has 4096 bytes.
        unsafe { page.add(at % 4096).write(value) };
    }
}

#[test]
fn only_rows_that_look_different_are_new() {
    let mut text = Screen::new(mode_3(), Vbe::default());
    // The first row of the cell in row 12 (its code in plane 0, its colours in plane 1) on a font that is solid.
    (0..16).for_each(|row| text.poke(4 * (0x41 * 32 + row) + 2, 0xff));
    assert_eq!(text.changed(), None, "no cell shows that character");
    text.poke(4 * 2 * (12 * 80 + 5), 0x41);
    text.poke(4 * 2 * (12 * 80 + 5) + 1, 0x07);
    assert_eq!(text.changed(), one(192..208), "one character");
    text.poke(4 * 2 * (12 * 80 + 5), 0x41);
    assert_eq!(text.changed(), None, "written, and the same as before");
    text.poke(4 * (0x41 * 32 + 3) + 2, 0x7f);
    assert_eq!(text.changed(), one(195..196), "one row of its shape");

    text.poke(4 * 2 * (20 * 80) + 1, 0x07);
    text.registers.crtc.data[0x0a..=0x0b].copy_from_slice(&[13, 14]);
    text.registers.crtc.data[0x0e..=0x0f]
        .copy_from_slice(&[(20 * 80_u16).to_be_bytes()[0], (20 * 80_u16).to_be_bytes()[1]]);
    assert_eq!(text.changed(), one(320 + 13..320 + 15), "the cursor appears");
    text.now = 130_000_000;
    assert_eq!(text.changed(), one(320 + 13..320 + 15), "and blinks");
    text.registers.attribute.data[17] = 3;
    text.registers.sequencer.data[2] = 5;
    assert_eq!(text.changed(), None, "border and map mask are not in the picture");

    let mut pixels = Screen::new(mode_13h(), Vbe::default());
    pixels.poke(320 * 7 + 3, 4);
    pixels.poke(320 * 150, 4);
    assert_eq!(pixels.changed(), Some(vec![7..8, 150..151]));
    pixels.registers.dac.colors[3 * 4] = 7;
    assert_eq!(pixels.changed(), Some(vec![7..8, 150..151]), "rows with the colour that changed");
    pixels.registers.dac.colors[3 * 9] = 7;
    assert_eq!(pixels.changed(), None, "a colour that no pixel has");
}

#[test]
fn high_resolutions_send_the_rows_that_changed() {
    let mut vbe = Vbe::default();
    for (index, value) in [(1, 1920), (2, 1200), (3, 32), (4, 0xc1)] {
        vbe.set_register(index, value);
    }
    let mut registers = mode_3();
    registers.attribute.index = 0;
    let mut screen = Screen::new(registers, vbe);
    screen.poke(4 * 1920 * 600, 0xff);
    assert_eq!(screen.changed(), None, "the screen is off");
    screen.registers.attribute.index = 0x20;
    assert_eq!(screen.changed(), one(600..601));
    screen.poke(4 * 1920 * 1200 - 1, 0xff);
    assert_eq!(screen.changed(), None, "the fourth byte of a pixel shows nothing");
    screen.vram.write(4 * 1920 * 1199, crate::bus::Width::Dword, 1);
    screen.vram.write(4 * 1920 * 1200, crate::bus::Width::Dword, 2);
    assert_eq!(screen.changed(), one(1199..1200), "the last row, and one behind it");
    screen.vbe.set_register(9, 1);
    assert_eq!(screen.changed(), Some(vec![599..601, 1198..1200]), "scrolled by one row");
}
