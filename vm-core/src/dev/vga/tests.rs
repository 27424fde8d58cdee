use super::*;
use crate::bus::clock::SECOND;
use crate::dev::suite;

/// The sixteen colours of the attribute controller, and DAC entries 0–63 as the BIOS loads them.
fn with_colors(mut registers: Registers) -> Registers {
    registers.attribute.index = 0x20;
    for (n, entry) in registers.attribute.data[..16].iter_mut().enumerate() {
        *entry = [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f][n];
    }
    registers.attribute.data[18] = 0x0f;
    for entry in 0..64 {
        for (color, bit) in [(0, 2), (1, 1), (2, 0)] {
            registers.dac.colors[entry * 3 + color] = ((entry >> bit & 1) * 42 + (entry >> (bit + 3) & 1) * 21) as u8;
        }
    }
    registers
}

fn mode(misc: u8, sequencer: [u8; 5], graphics: [u8; 9], crtc: [u8; 25]) -> Registers {
    let mut registers = Registers { misc, ..Registers::default() };
    registers.sequencer.data = sequencer;
    registers.graphics.data = graphics;
    registers.crtc.data = crtc;
    with_colors(registers)
}

/// 80 × 25 characters of 9 × 16 dots.
pub(super) fn mode_3() -> Registers {
    let crtc = [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28,
        0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ];
    let mut registers = mode(0x67, [3, 0, 3, 0, 2], [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff], crtc);
    registers.attribute.data[16] = 0x0c;
    registers.attribute.data[19] = 8;
    registers
}

/// 640 × 480, 16 colours.
pub(super) fn mode_12h() -> Registers {
    let crtc = [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0x00,
        0xe7, 0x04, 0xe3, 0xff,
    ];
    let mut registers = mode(0xe3, [3, 1, 0x0f, 0, 6], [0, 0, 0, 0, 0, 0, 0x05, 0x0f, 0xff], crtc);
    registers.attribute.data[16] = 0x01;
    registers
}

/// 320 × 200, 256 colours.
pub(super) fn mode_13h() -> Registers {
    let crtc = [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40,
        0x96, 0xb9, 0xa3, 0xff,
    ];
    let mut registers = mode(0x63, [3, 1, 0x0f, 0, 0x0e], [0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff], crtc);
    registers.attribute.data[16] = 0x41;
    registers
}

fn vga() -> Vga {
    Vga::new(Clock::manual(), Arc::new(Signals::new()), vec![0x55, 0xaa, 20])
}

fn set_mode_13h(vga: &mut Vga) {
    let registers = mode_13h();
    vga.write(0x12, registers.misc);
    for (port, data) in [(0x14, &registers.sequencer.data[..]), (0x1e, &registers.graphics.data)] {
        for (index, value) in (0..).zip(data) {
            vga.write(port, index);
            vga.write(port + 1, *value);
        }
    }
}

#[test]
fn it_is_a_chip_like_the_others() {
    suite::check(vga, |vga| {
        set_mode_13h(vga);
        vga.memory_write(0x1234, Width::Dword, 0x12345678);
        vga.memory_read(0x1234, Width::Byte);
        vga.config_write(0x10, Width::Dword, 0xe000_0000);
        vga.config_write(0x04, Width::Word, 0x0003);
        vga.vbe_write(0, Width::Word, 1);
        vga.vbe_write(1, Width::Word, 1280);
        vga.write(0x18, 7);
        vga.write(0x19, 0x2a);
    });
}

#[test]
fn no_access_at_random_breaks_it() {
    let clock = Clock::manual();
    let vga = Vga::new(clock.clone(), Arc::new(Signals::new()), vec![0; 70_000]);
    let mut rounds = 0;
    suite::hammer(vga, 20_000, |vga, random, now| {
        clock.set(now);
        rounds += 1;
        let value = random.next();
        let offset = random.below(0x30_0000) as u32;
        let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][random.below(4) as usize];
        match random.below(16) {
            0..6 => vga.write(random.below(0x30) as u16, value as u8),
            6 => _ = vga.read(random.below(0x30) as u16),
            7 => vga.vbe_write(0, Width::Word, (value % 12) as u32),
            8 => vga.vbe_write(1, Width::Word, value as u32 & 0xfff),
            9 => vga.memory_write(offset & 0x1ffff, width, value),
            10 => _ = vga.memory_read(offset & 0x1ffff, width),
            11 => vga.mmio_write(offset & 0xfff, width, value),
            12 => _ = vga.mmio_read(offset & 0xfff, width),
            13 => vga.lfb_write(offset.wrapping_mul(7), width, value),
            14 => _ = (vga.lfb_read(offset.wrapping_mul(7), width), vga.rom_read(offset, width)),
            _ => vga.config_write((value & 0xfc) as u8, Width::Dword, value as u32),
        }
        if rounds % 64 == 0
            && let Some(frame) = vga.render()
        {
            assert!(frame.width <= 2560 && frame.height <= 1600 && frame.width > 0 && frame.height > 0);
            assert_eq!(frame.rgba.len(), (frame.width * frame.height * 4) as usize);
        }
    });
}

#[test]
fn the_window_is_mapped_directly_in_mode_13h_only() {
    let mut vga = vga();
    assert_eq!(vga.legacy_window(), 0..0);
    let generation = vga.wires.signals.map_generation();
    set_mode_13h(&mut vga);
    assert_eq!(vga.wires.signals.map_generation(), generation + 1);
    assert_eq!(vga.legacy_window(), 0..0x10000);
    vga.memory_write(0x3456, Width::Word, 0xbeef);
    let page = vga.legacy_page(0x3000).expect("plain memory");
    // SAFETY: the page has 4096 bytes.
    assert_eq!(unsafe { page.add(0x456).read() }, 0xef);
    // Only plane 1 from now on.
    vga.write(0x14, 2);
    vga.write(0x15, 2);
    assert_eq!((vga.legacy_page(0x3000), vga.wires.signals.map_generation()), (None, generation + 2));
}

#[test]
fn registers_answer_at_both_ports_and_in_bar_2() {
    let mut vga = vga();
    // Misc output bit 0 moves the CRT controller from 0x3B4 to 0x3D4.
    vga.write(0x04, 0x0c);
    vga.write(0x05, 0x12);
    assert_eq!((vga.read(0x05), vga.read(0x25)), (0x12, 0xff));
    vga.mmio_write(0x402, Width::Byte, 0x63);
    assert_eq!((vga.read(0x1c), vga.read(0x05), vga.read(0x25)), (0x63, 0xff, 0x12));
    assert_eq!(vga.mmio_read(0x424 - 0x10, Width::Word), 0x120c);
    // Reading input status 1 makes 0x3C0 take an index.
    vga.write(0x10, 0x10);
    vga.read(0x2a);
    vga.write(0x10, 0x11);
    vga.write(0x10, 0x2d);
    vga.write(0x10, 0x11);
    assert_eq!(vga.read(0x11), 0x2d);
    vga.mmio_write(0x502, Width::Dword, 0x0258_0320);
    assert_eq!(vga.mmio_read(0x500, Width::Qword), 0x0008_0258_0320_b0c5);
    assert_eq!(vga.mmio_read(0x604, Width::Dword), 0x1e1e_1e1e);
    assert_eq!((vga.mmio_read(0, Width::Qword), vga.mmio_read(128, Width::Qword)), (0x00ff_ffff_ffff_ff00, 0), "EDID");
}

#[test]
fn bars_are_sized_and_moved_as_pci_does() {
    let mut vga = vga();
    for (register, size) in [(0x10, 0xff00_0008), (0x18, 0xffff_f000), (0x30, 0xffff_f801_u32)] {
        vga.config_write(register, Width::Dword, u32::MAX);
        assert_eq!(vga.config_read(register, Width::Dword), size);
    }
    vga.config_write(0x10, Width::Dword, 0xfd00_0000);
    assert_eq!(vga.lfb_base(), None);
    let generation = vga.wires.signals.map_generation();
    vga.config_write(0x04, Width::Word, 2);
    assert_eq!(vga.lfb_base(), Some(0xfd00_0000));
    assert!(vga.wires.signals.map_generation() > generation);
    vga.lfb_write(VRAM_SIZE as u32 - 2, Width::Dword, 0x4433_2211);
    assert_eq!(vga.lfb_read(VRAM_SIZE as u32 - 2, Width::Dword), 0xffff_2211);
    assert_eq!(vga.rom_read(0, Width::Dword), 0xff14_aa55);
}

#[test]
fn the_screen_blinks_with_guest_time() {
    let mut vga = vga();
    vga.state.registers = mode_3();
    vga.memory_write(0x18000, Width::Word, 0x0720);
    assert!(vga.render().is_some());
    let mut blinks = 0;
    for tenth in 1..=20 {
        vga.wires.clock.set(tenth * SECOND / 10);
        blinks += u32::from(vga.render().is_some());
    }
    // 70 Hz: a change every 8 frames, 17 in two seconds.
    assert!((15..=18).contains(&blinks), "{blinks}");
}

/// One thing that a program may do, at random: legal registers of all chips, memory through every door, and noise.
fn disturb(vga: &mut Vga, random: &mut suite::Random) {
    let value = random.next();
    let offset = random.below(0x30_0000) as u32;
    let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][random.below(4) as usize];
    // Mostly near the start, where small modes look.
    let near = (value >> 32) as u32 & [0x1fff, 0x1ffff][random.below(2) as usize];
    match random.below(64) {
        0..28 => vga.memory_write([near, 0x18000 | near & 0x7fff][random.below(2) as usize], width, value),
        28..40 => {
            if let Some(page) = vga.legacy_page(near & 0xf000) {
                // SAFETY: the page has 4096 bytes.
                unsafe { page.add(near as usize & 0xfff).write(value as u8) };
            }
        }
        40..46 => {
            let page = vga.lfb_page(offset).expect("within video memory");
            // SAFETY: the page has 4096 bytes.
            unsafe { page.add(offset as usize & 0xfff).write(value as u8) };
        }
        46 => vga.lfb_write(offset.wrapping_mul(5), width, value),
        47..50 => {
            vga.write(0x24, 0x0a + (value % 6) as u8);
            vga.write(0x25, (value >> 8) as u8 & 0x1f);
        }
        50 => {
            vga.write(0x18, value as u8);
            (0..3).for_each(|n| vga.write(0x19, (value >> (8 * n)) as u8));
        }
        51 => {
            vga.read(0x2a);
            vga.write(0x10, (value % 21) as u8 | 0x20);
            vga.write(0x10, (value >> 8) as u8);
        }
        52 if random.below(8) == 0 => {
            let (port, registers) = [(0x14, 5), (0x1e, 9), (0x24, 25)][random.below(3) as usize];
            vga.write(port, (value % registers) as u8);
            vga.write(port + 1, (value >> 8) as u8);
        }
        53 if random.below(8) == 0 => {
            vga.vbe_write(0, Width::Word, 5 + random.below(5) as u32);
            vga.vbe_write(1, Width::Word, value as u32 & 0x7ff);
        }
        54 if random.below(64) == 0 => vga.write(random.below(0x30) as u16, value as u8),
        57 => _ = vga.memory_read(near, width),
        _ => {}
    }
}

/// A screen as the BIOS leaves it, or a high resolution.
fn set_scene(vga: &mut Vga, random: &mut suite::Random) {
    vga.vbe_write(0, Width::Word, 4);
    vga.vbe_write(1, Width::Word, 0);
    vga.state.registers = [mode_3(), mode_12h(), mode_13h()][random.below(3) as usize].clone();
    // Blinking at every row.
    vga.state.registers.crtc.data[0x0b] = 15;
    if random.below(3) == 0 {
        let depth = [4, 8, 15, 16, 24, 32][random.below(6) as usize];
        for (index, value) in [(1, random.below(800)), (2, random.below(500)), (3, depth), (4, 0xc1)] {
            vga.vbe_write(0, Width::Word, index);
            vga.vbe_write(1, Width::Word, value as u32);
        }
    }
}

#[test]
fn what_is_drawn_anew_is_all_that_changed_in_a_million_operations() {
    let clock = Clock::manual();
    let mut vga = Vga::new(clock.clone(), Arc::new(Signals::new()), Vec::new());
    let mut random = suite::Random::new(0x7669_6465);
    let mut shown: Option<Frame> = None;
    for round in 0..1_000_000_u32 {
        if round % 4096 == 0 {
            set_scene(&mut vga, &mut random);
        }
        disturb(&mut vga, &mut random);
        if round % 64 != 0 {
            continue;
        }
        clock.set(u64::from(round) * 400_000);
        if let Some(frame) = vga.render() {
            // A window that copies only the rows that it is told of has the same picture.
            let window = shown.get_or_insert_with(Frame::default);
            if (window.width, window.height) != (frame.width, frame.height) {
                *window = Frame { rgba: frame.rgba.clone(), ..(*frame).clone() };
            }
            for rows in frame.rows_since(window.sequence) {
                let start = rows.start as usize * frame.width as usize * 4;
                let bytes = frame.rows(&rows);
                window.rgba[start..start + bytes.len()].copy_from_slice(bytes);
            }
            *window = Frame { rgba: std::mem::take(&mut window.rgba), ..(*frame).clone() };
        }
        if round % 1024 != 0 {
            continue;
        }
        let window = shown.as_ref().expect("a picture");
        let all =
            Renderer::new().render(&vga.state.registers, &vga.state.vbe, &vga.vram, clock.now()).expect("a picture");
        assert_eq!((window.width, window.height, &window.text), (all.width, all.height, &all.text), "round {round}");
        assert!(window.rgba == all.rgba, "round {round}: {:?}", vga.state.registers);
    }
}
