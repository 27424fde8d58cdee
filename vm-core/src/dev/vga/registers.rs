//! The register file of a VGA: sequencer, graphics controller, attribute controller, CRT controller and DAC.
//!
//! Names and indexes are those of the IBM VGA Technical Reference. [`Registers`] holds what programs can set; what the
//! registers mean for memory and picture is in [`super::memory`], [`super::timing`] and [`super::render`].

use serde::{Deserialize, Serialize};

/// Bits that exist in each sequencer register.
const SEQUENCER_BITS: [u8; 5] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];
/// Bits that exist in each graphics controller register.
const GRAPHICS_BITS: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
/// CRT controller registers 0–7 are locked by bit 7 of this one.
const CRTC_PROTECT: usize = 0x11;

/// The sequencer, ports 0x3C4 and 0x3C5.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequencer {
    /// The register that the data port reaches.
    pub index: u8,
    /// Reset, clocking mode, map mask, character map select, memory mode.
    pub data: [u8; 5],
}

impl Sequencer {
    /// IN 0x3C5.
    pub fn read(&self) -> u8 {
        self.data.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// OUT 0x3C5.
    pub fn write(&mut self, value: u8) {
        let index = usize::from(self.index);
        if let (Some(register), Some(bits)) = (self.data.get_mut(index), SEQUENCER_BITS.get(index)) {
            *register = value & bits;
        }
    }

    /// Characters are 8 dots wide, not 9.
    pub fn eight_dots(&self) -> bool {
        self.data[1] & 0x01 != 0
    }

    /// The dot clock is halved.
    pub fn half_clock(&self) -> bool {
        self.data[1] & 0x08 != 0
    }

    /// The screen is off so that the processor has all of the memory's time.
    pub fn screen_off(&self) -> bool {
        self.data[1] & 0x20 != 0
    }

    /// Planes that writes reach.
    pub fn map_mask(&self) -> u8 {
        self.data[2] & 0x0f
    }

    /// Offsets in plane 2 of the two character maps: for attribute bit 3 clear and set.
    pub fn fonts(&self) -> (usize, usize) {
        let select = self.data[3];
        let offset = |map: u8| usize::from(map & 3) << 14 | usize::from(map >> 2) << 13;
        (offset(select & 3 | select >> 2 & 4), offset(select >> 2 & 3 | select >> 3 & 4))
    }

    /// Chain-4: the low two address bits choose the plane.
    pub fn chain4(&self) -> bool {
        self.data[4] & 0x08 != 0
    }

    /// Odd/even: address bit 0 chooses between planes 0 and 2 or 1 and 3 on writes.
    pub fn odd_even(&self) -> bool {
        self.data[4] & 0x04 == 0
    }
}

/// How pixels leave the shift registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// One bit of each plane a pixel: 16 colours.
    Planar,
    /// Two neighbouring bits a pixel, planes in pairs: the CGA's four colours.
    Interleaved,
    /// Eight bits a pixel: 256 colours.
    Packed,
}

/// The graphics controller, ports 0x3CE and 0x3CF.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graphics {
    /// The register that the data port reaches.
    pub index: u8,
    /// Set/reset, enable set/reset, colour compare, data rotate, read map select, mode, miscellaneous, colour don't
    /// care, bit mask.
    pub data: [u8; 9],
}

impl Graphics {
    /// IN 0x3CF.
    pub fn read(&self) -> u8 {
        self.data.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// OUT 0x3CF.
    pub fn write(&mut self, value: u8) {
        let index = usize::from(self.index);
        if let (Some(register), Some(bits)) = (self.data.get_mut(index), GRAPHICS_BITS.get(index)) {
            *register = value & bits;
        }
    }

    /// Set/reset: the colour that write modes 0 and 3 draw with.
    pub fn set_reset(&self) -> u8 {
        self.data[0]
    }

    /// Planes that take [`Graphics::set_reset`] in write mode 0.
    pub fn enable_set_reset(&self) -> u8 {
        self.data[1]
    }

    /// The colour that read mode 1 looks for.
    pub fn color_compare(&self) -> u8 {
        self.data[2]
    }

    /// Bits to rotate processor data right by.
    pub fn rotate(&self) -> u32 {
        u32::from(self.data[3] & 7)
    }

    /// What is done between data and latch: 0 nothing, 1 AND, 2 OR, 3 XOR.
    pub fn function(&self) -> u8 {
        self.data[3] >> 3 & 3
    }

    /// The plane that read mode 0 reads.
    pub fn read_map(&self) -> u8 {
        self.data[4]
    }

    /// Write mode 0–3.
    pub fn write_mode(&self) -> u8 {
        self.data[5] & 3
    }

    /// Read mode 1: compare colours.
    pub fn read_mode_1(&self) -> bool {
        self.data[5] & 0x08 != 0
    }

    /// Odd/even addressing for reads.
    pub fn odd_even(&self) -> bool {
        self.data[5] & 0x10 != 0
    }

    /// How pixels are shifted out.
    pub fn shift(&self) -> Shift {
        match self.data[5] >> 5 & 3 {
            0 => Shift::Planar,
            1 => Shift::Interleaved,
            _ => Shift::Packed,
        }
    }

    /// Graphics, not text.
    pub fn is_graphics(&self) -> bool {
        self.data[6] & 0x01 != 0
    }

    /// Address bit 0 only chooses the plane.
    pub fn chain_odd_even(&self) -> bool {
        self.data[6] & 0x02 != 0
    }

    /// Which part of 0xA0000–0xBFFFF answers: 0 all, 1 A0000–AFFFF, 2 B0000–B7FFF, 3 B8000–BFFFF.
    pub fn memory_map(&self) -> u8 {
        self.data[6] >> 2 & 3
    }

    /// Planes that take part in the compare of read mode 1.
    pub fn color_care(&self) -> u8 {
        self.data[7]
    }

    /// Bits that writes change; the others come from the latches.
    pub fn bit_mask(&self) -> u8 {
        self.data[8]
    }
}

/// The attribute controller, ports 0x3C0 and 0x3C1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Low five bits: the register reached. Bit 5: the palette belongs to the screen, which is on.
    pub index: u8,
    /// The next write to 0x3C0 is data.
    pub data_next: bool,
    /// Sixteen palette registers, mode control, overscan, colour plane enable, horizontal panning, colour select.
    pub data: [u8; 21],
}

impl Attribute {
    /// IN 0x3C1.
    pub fn read(&self) -> u8 {
        self.data.get(usize::from(self.index & 0x1f)).copied().unwrap_or(0)
    }

    /// OUT 0x3C0: index and data in turn.
    pub fn write(&mut self, value: u8) {
        if self.data_next {
            let index = usize::from(self.index & 0x1f);
            // The palette can be written even while the screen owns it, as on the reference's type 2 subsystem.
            if let Some(register) = self.data.get_mut(index) {
                *register = if index < 16 { value & 0x3f } else { value };
            }
        } else {
            self.index = value & 0x3f;
        }
        self.data_next = !self.data_next;
    }

    /// The screen is on.
    pub fn palette_is_shown(&self) -> bool {
        self.index & 0x20 != 0
    }

    /// Characters 0xC0–0xDF continue their eighth dot into the ninth.
    pub fn line_graphics(&self) -> bool {
        self.data[16] & 0x04 != 0
    }

    /// Attribute bit 7 blinks instead of brightening the background.
    pub fn blink(&self) -> bool {
        self.data[16] & 0x08 != 0
    }

    /// Panning stops at the line compare.
    pub fn pan_top_only(&self) -> bool {
        self.data[16] & 0x20 != 0
    }

    /// Planes that reach the palette.
    pub fn plane_enable(&self) -> u8 {
        self.data[18] & 0x0f
    }

    /// Dots that the picture is moved left by, as the register has it.
    pub fn panning(&self) -> u8 {
        self.data[19] & 0x0f
    }

    /// The DAC entry of a 4-bit colour.
    pub fn dac_index(&self, color: u8) -> u8 {
        let entry = self.data[usize::from(color & self.plane_enable() & 0x0f)] & 0x3f;
        let select = self.data[20];
        if self.data[16] & 0x80 == 0 { (select & 0x0c) << 4 | entry } else { (select & 0x0f) << 4 | entry & 0x0f }
    }
}

/// The CRT controller, ports 0x3D4 and 0x3D5 (0x3B4 and 0x3B5 on a monochrome display).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crtc {
    /// The register that the data port reaches.
    pub index: u8,
    /// Registers 0x00–0x18.
    pub data: [u8; 25],
}

impl Crtc {
    /// IN 0x3D5.
    pub fn read(&self) -> u8 {
        self.data.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// OUT 0x3D5.
    pub fn write(&mut self, value: u8) {
        let index = usize::from(self.index);
        let locked = self.data[CRTC_PROTECT] & 0x80 != 0;
        match self.data.get_mut(index) {
            // Line compare bit 8 is open even while the rest of the register is locked.
            Some(register) if locked && index == 7 => *register = *register & !0x10 | value & 0x10,
            Some(register) if !locked || index > 7 => *register = value,
            _ => {}
        }
    }

    fn bit(&self, register: usize, bit: u32, to: u32) -> u32 {
        u32::from(self.data[register] >> bit & 1) << to
    }

    /// Character clocks of a line, blanking included.
    pub fn horizontal_total(&self) -> u32 {
        u32::from(self.data[0]) + 5
    }

    /// Character clocks shown.
    pub fn columns(&self) -> u32 {
        u32::from(self.data[1]) + 1
    }

    /// 2 where the vertical counter runs at half speed.
    fn vertical_scale(&self) -> u32 {
        1 + u32::from(self.data[0x17] >> 2 & 1)
    }

    /// Lines of a frame, retrace included.
    pub fn vertical_total(&self) -> u32 {
        ((u32::from(self.data[6]) | self.bit(7, 0, 8) | self.bit(7, 5, 9)) + 2) * self.vertical_scale()
    }

    /// Lines shown (1–2048).
    pub fn lines(&self) -> u32 {
        ((u32::from(self.data[0x12]) | self.bit(7, 1, 8) | self.bit(7, 6, 9)) + 1) * self.vertical_scale()
    }

    /// First line and number of lines of the vertical retrace.
    pub fn retrace(&self) -> (u32, u32) {
        let start = u32::from(self.data[0x10]) | self.bit(7, 2, 8) | self.bit(7, 7, 9);
        let length = u32::from(self.data[0x11]).wrapping_sub(start) & 0x0f;
        (start * self.vertical_scale(), if length == 0 { 16 } else { length } * self.vertical_scale())
    }

    /// The line after which the picture starts again at address 0.
    pub fn line_compare(&self) -> u32 {
        (u32::from(self.data[0x18]) | self.bit(7, 4, 8) | self.bit(9, 6, 9)) * self.vertical_scale()
    }

    /// Scan lines of a character row, or times that each graphics line is repeated (1–32).
    pub fn row_height(&self) -> u32 {
        u32::from(self.data[9] & 0x1f) + 1
    }

    /// Each line is shown twice.
    pub fn double_scan(&self) -> bool {
        self.data[9] & 0x80 != 0
    }

    /// The scan line of the row that the picture starts with.
    pub fn preset_row(&self) -> u32 {
        u32::from(self.data[8] & 0x1f)
    }

    /// Bytes that the picture is moved left by, beside the pixels of the attribute controller.
    pub fn byte_panning(&self) -> u32 {
        u32::from(self.data[8] >> 5 & 3)
    }

    /// The memory counter at the top left.
    pub fn start(&self) -> u32 {
        u32::from(self.data[0x0c]) << 8 | u32::from(self.data[0x0d])
    }

    /// What the memory counter grows by from row to row.
    pub fn offset(&self) -> u32 {
        u32::from(self.data[0x13]) * 2
    }

    /// The memory counter at the cursor, which shows up to three characters later (bits 5 and 6 of cursor end).
    pub fn cursor(&self) -> u32 {
        let at = u32::from(self.data[0x0e]) << 8 | u32::from(self.data[0x0f]);
        at.wrapping_add(u32::from(self.data[0x0b] >> 5 & 3)) & 0xffff
    }

    /// The scan lines of the cursor, where it is on.
    pub fn cursor_lines(&self) -> Option<std::ops::RangeInclusive<u32>> {
        let (start, end) = (u32::from(self.data[0x0a] & 0x1f), u32::from(self.data[0x0b] & 0x1f));
        (self.data[0x0a] & 0x20 == 0 && start <= end).then_some(start..=end)
    }

    /// The scan line of the underline.
    pub fn underline(&self) -> u32 {
        u32::from(self.data[0x14] & 0x1f)
    }

    /// How many character clocks the memory counter stands still: 1, 2 or 4.
    pub fn count_by(&self) -> u32 {
        if self.data[0x14] & 0x20 != 0 { 4 } else { 1 + u32::from(self.data[0x17] >> 3 & 1) }
    }

    /// Row scan bits stand in for address bits 13 or 14, as on CGA and Hercules.
    pub fn interleaves_rows(&self) -> bool {
        self.data[0x17] & 3 != 3
    }

    /// The plane address for a memory counter in scan line `row` of its row.
    ///
    /// Doubleword mode leaves the counter as it is: chain-4 stores four neighbouring bytes at one plane address
    /// ([`super::memory`]), so both sides of the real chip's factor of four are left out.
    pub fn address(&self, counter: u32, row: u32) -> usize {
        let mode = self.data[0x17];
        let mut address = if self.data[0x14] & 0x40 != 0 || mode & 0x40 != 0 {
            counter
        } else {
            counter << 1 | counter >> (if mode & 0x20 != 0 { 15 } else { 13 }) & 1
        };
        if mode & 0x01 == 0 {
            address = address & !0x2000 | (row & 1) << 13;
        }
        if mode & 0x02 == 0 {
            address = address & !0x4000 | (row >> 1 & 1) << 14;
        }
        (address & 0xffff) as usize
    }
}

/// The palette DAC, ports 0x3C6–0x3C9.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dac {
    /// Every index passes through this mask.
    pub mask: u8,
    /// The entry that the next data access is for.
    pub index: u8,
    /// Red, green or blue is next (0–2).
    pub component: u8,
    /// The last address was written to 0x3C7: data accesses read.
    pub reading: bool,
    /// Red and green until blue completes the entry.
    pub held: [u8; 2],
    /// 256 entries of red, green, blue, as written.
    #[serde(with = "crate::dev::bytes")]
    pub colors: [u8; 768],
}

impl Default for Dac {
    fn default() -> Self {
        Self { mask: 0xff, index: 0, component: 0, reading: false, held: [0; 2], colors: [0; 768] }
    }
}

impl Dac {
    /// OUT 0x3C7: the entry to read.
    pub fn set_read_index(&mut self, value: u8) {
        (self.index, self.component, self.reading) = (value, 0, true);
    }

    /// OUT 0x3C8: the entry to write.
    pub fn set_write_index(&mut self, value: u8) {
        (self.index, self.component, self.reading) = (value, 0, false);
    }

    /// IN 0x3C7: 3 while reading, 0 while writing.
    pub fn status(&self) -> u8 {
        if self.reading { 3 } else { 0 }
    }

    /// IN 0x3C8: while reading, the chip has already moved on to the next entry.
    pub fn write_index(&self) -> u8 {
        self.index.wrapping_add(u8::from(self.reading))
    }

    /// IN 0x3C9.
    pub fn read(&mut self) -> u8 {
        let value = self.colors[usize::from(self.index) * 3 + usize::from(self.component % 3)];
        self.step();
        value
    }

    /// OUT 0x3C9; `wide`: entries have eight bits, not six.
    pub fn write(&mut self, value: u8, wide: bool) {
        let value = if wide { value } else { value & 0x3f };
        if let Some(held) = self.held.get_mut(usize::from(self.component % 3)) {
            *held = value;
        } else {
            let at = usize::from(self.index) * 3;
            self.colors[at..at + 3].copy_from_slice(&[self.held[0], self.held[1], value]);
        }
        self.step();
    }

    fn step(&mut self) {
        self.component = (self.component + 1) % 3;
        if self.component == 0 {
            self.index = self.index.wrapping_add(1);
        }
    }

    /// What an index shows as: red, green, blue, 255.
    pub fn rgba(&self, index: u8, wide: bool) -> [u8; 4] {
        let at = usize::from(index & self.mask) * 3;
        let widen = |value: u8| if wide { value } else { value << 2 | value >> 4 & 3 };
        [widen(self.colors[at]), widen(self.colors[at + 1]), widen(self.colors[at + 2]), 255]
    }
}

/// Everything that a program can set through the VGA's ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// Miscellaneous output (0x3C2, read at 0x3CC).
    pub misc: u8,
    /// Feature control (0x3DA, read at 0x3CA).
    pub feature: u8,
    /// Video subsystem enable (0x3C3).
    pub enable: u8,
    /// Timing and plane access.
    pub sequencer: Sequencer,
    /// The data path of processor accesses.
    pub graphics: Graphics,
    /// Colours.
    pub attribute: Attribute,
    /// Timing and addresses of the picture.
    pub crtc: Crtc,
    /// The palette.
    pub dac: Dac,
}

impl Registers {
    /// The CRT controller sits at 0x3D0, not 0x3B0.
    pub fn is_color(&self) -> bool {
        self.misc & 0x01 != 0
    }

    /// The processor may reach video memory.
    pub fn ram_enabled(&self) -> bool {
        self.misc & 0x02 != 0
    }

    /// Something is shown.
    pub fn screen_on(&self) -> bool {
        self.attribute.palette_is_shown() && !self.sequencer.screen_off()
    }

    /// What of the registers can be seen in the picture, all else zero; the cursor's are left out, too. Two pictures from equal
    /// values and equal memory are equal but for the cursor.
    pub fn visible(&self) -> Self {
        let mut seen = Self::default();
        seen.sequencer.data = [0, self.sequencer.data[1], 0, self.sequencer.data[3], 0];
        seen.graphics.data[5] = self.graphics.data[5] & 0x60;
        seen.graphics.data[6] = self.graphics.data[6] & 0x01;
        seen.attribute.index = self.attribute.index & 0x20;
        seen.attribute.data = self.attribute.data;
        // The border is not a part of the picture.
        seen.attribute.data[17] = 0;
        for index in [0x01, 0x08, 0x09, 0x0c, 0x0d, 0x12, 0x13, 0x14, 0x17, 0x18] {
            seen.crtc.data[index] = self.crtc.data[index];
        }
        // High bits of display end and line compare.
        seen.crtc.data[7] = self.crtc.data[7] & 0x52;
        seen.dac = Dac { mask: self.dac.mask, colors: self.dac.colors, ..Dac::default() };
        seen
    }

    /// Checks what a hostile saved state could have wrong.
    ///
    /// # Errors
    /// The field, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.dac.component > 2 {
            return Err(format!("the DAC is at component {}", self.dac.component));
        }
        if self.attribute.index > 0x3f {
            return Err(format!("the attribute index is {:#04x}", self.attribute.index));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dac_entry_changes_when_blue_arrives_and_reads_back_in_turn() {
        let mut dac = Dac::default();
        dac.set_write_index(255);
        for value in [0x7f, 2, 3, 4, 5, 6] {
            dac.write(value, false);
        }
        dac.set_read_index(255);
        let back: Vec<u8> = (0..6).map(|_| dac.read()).collect();
        assert_eq!(back, [0x3f, 2, 3, 4, 5, 6]);
        assert_eq!(dac.status(), 3);
        dac.set_write_index(7);
        dac.write(9, false);
        dac.write(9, false);
        assert_eq!(dac.colors[21..24], [0, 0, 0]);
    }

    #[test]
    fn the_lock_leaves_only_line_compare_bit_8_open() {
        let mut crtc = Crtc::default();
        crtc.data[CRTC_PROTECT] = 0x80;
        for index in 0..8 {
            crtc.index = index;
            crtc.write(0xff);
        }
        assert_eq!(crtc.data[..8], [0, 0, 0, 0, 0, 0, 0, 0x10]);
    }

    #[test]
    fn character_maps_are_where_the_reference_says() {
        let mut sequencer = Sequencer::default();
        // Map select B in bits 0, 1, 4; map select A in bits 2, 3, 5.
        for (select, (clear, set)) in
            [(0, (0, 0)), (0x04, (0, 0x4000)), (0x13, (0xe000, 0)), (0x2a, (0x8000, 0xa000)), (0x10, (0x2000, 0))]
        {
            sequencer.data[3] = select;
            assert_eq!(sequencer.fonts(), (clear, set), "select {select:#04x}");
        }
    }

    #[test]
    fn index_and_data_take_turns_and_color_select_fills_the_high_bits() {
        let mut attribute = Attribute::default();
        for value in [0x01, 0xea, 0x32] {
            attribute.write(value);
        }
        assert!(attribute.palette_is_shown());
        assert_eq!(attribute.data[1], 0x2a);
        attribute.data[18] = 0x0f;
        attribute.data[20] = 0x0d;
        assert_eq!(attribute.dac_index(1), 0xc0 | 0x2a);
        attribute.data[16] = 0x80;
        assert_eq!(attribute.dac_index(1), 0xda);
    }
}
