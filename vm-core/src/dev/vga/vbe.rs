//! The Bochs "dispi" interface for high resolutions: ports 0x1CE (index), 0x1CF and 0x1D0 (data), 16 bits each.

use serde::{Deserialize, Serialize};

/// Bytes of video memory.
pub const VRAM_SIZE: usize = 16 << 20;
/// Most pixels across.
pub const MAX_WIDTH: u16 = 2560;
/// Most pixels down.
pub const MAX_HEIGHT: u16 = 1600;
/// Most bits a pixel.
const MAX_DEPTH: u16 = 32;

/// Interface versions 0xB0C0 to 0xB0C5.
const ID_FIRST: u16 = 0xb0c0;
const ID_NEWEST: u16 = 0xb0c5;

/// Indexes of the registers.
mod index {
    pub const ID: u16 = 0;
    pub const XRES: u16 = 1;
    pub const YRES: u16 = 2;
    pub const BPP: u16 = 3;
    pub const ENABLE: u16 = 4;
    pub const BANK: u16 = 5;
    pub const VIRT_WIDTH: u16 = 6;
    pub const VIRT_HEIGHT: u16 = 7;
    pub const X_OFFSET: u16 = 8;
    pub const Y_OFFSET: u16 = 9;
    pub const MEMORY_64K: u16 = 10;
}

bitflags::bitflags! {
    /// The enable register.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Enable: u16 {
        /// The mode is on.
        const ENABLED = 0x01;
        /// Resolution and depth read as the highest possible.
        const GET_CAPABILITIES = 0x02;
        /// Palette entries have eight bits.
        const WIDE_DAC = 0x20;
        /// The linear framebuffer is used (it always answers).
        const LINEAR = 0x40;
        /// Memory is not cleared when the mode is switched on.
        const KEEP_MEMORY = 0x80;
    }
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vbe {
    index: u16,
    id: u16,
    xres: u16,
    yres: u16,
    bpp: u16,
    enable: Enable,
    bank: u16,
    virt_width: u16,
    x_offset: u16,
    y_offset: u16,
}

impl Default for Vbe {
    fn default() -> Self {
        Self {
            index: 0,
            id: ID_NEWEST,
            xres: 640,
            yres: 480,
            bpp: 8,
            enable: Enable::empty(),
            bank: 0,
            virt_width: 640,
            x_offset: 0,
            y_offset: 0,
        }
    }
}

/// What the adapter has to do after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// The mode went on or off.
    Switched,
    /// The mode went on and so much video memory is to be cleared.
    Clear(usize),
}

impl Vbe {
    /// IN 0x1CE.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// OUT 0x1CE.
    pub fn set_index(&mut self, value: u16) {
        self.index = value;
    }

    /// IN 0x1CF or 0x1D0.
    pub fn read(&self) -> u16 {
        self.register(self.index)
    }

    /// OUT 0x1CF or 0x1D0.
    pub fn write(&mut self, value: u16) -> Action {
        self.set_register(self.index, value)
    }

    /// The register at `index`.
    pub fn register(&self, index: u16) -> u16 {
        let most = self.enable.contains(Enable::GET_CAPABILITIES);
        match index {
            index::ID => self.id,
            index::XRES => {
                if most {
                    MAX_WIDTH
                } else {
                    self.xres
                }
            }
            index::YRES => {
                if most {
                    MAX_HEIGHT
                } else {
                    self.yres
                }
            }
            index::BPP => {
                if most {
                    MAX_DEPTH
                } else {
                    self.bpp
                }
            }
            index::ENABLE => self.enable.bits(),
            index::BANK => self.bank,
            index::VIRT_WIDTH => self.virt_width,
            index::VIRT_HEIGHT => self.virt_height(),
            index::X_OFFSET => self.x_offset,
            index::Y_OFFSET => self.y_offset,
            index::MEMORY_64K => (VRAM_SIZE >> 16) as u16,
            _ => 0,
        }
    }

    /// Sets the register at `index`.
    pub fn set_register(&mut self, index: u16, value: u16) -> Action {
        let off = !self.is_on();
        match index {
            index::ID if (ID_FIRST..=ID_NEWEST).contains(&value) => self.id = value,
            // Size and depth change only while the mode is off.
            index::XRES if off => self.xres = value.clamp(1, MAX_WIDTH),
            index::YRES if off => self.yres = value.clamp(1, MAX_HEIGHT),
            index::BPP if off && matches!(value, 4 | 8 | 15 | 16 | 24 | 32) => self.bpp = value,
            // Depth 0 means 8 bits.
            index::BPP if off && value == 0 => self.bpp = 8,
            index::ENABLE => return self.set_enable(Enable::from_bits_truncate(value)),
            index::BANK => self.bank = value % (VRAM_SIZE >> 16) as u16,
            index::VIRT_WIDTH => self.set_virt_width(value),
            index::X_OFFSET => self.x_offset = value,
            index::Y_OFFSET => self.y_offset = value,
            _ => {}
        }
        Action::None
    }

    fn set_enable(&mut self, enable: Enable) -> Action {
        let was = self.is_on();
        self.enable = enable;
        match (was, self.is_on()) {
            (false, true) => {
                (self.bank, self.x_offset, self.y_offset) = (0, 0, 0);
                self.set_virt_width(self.xres);
                if self.enable.contains(Enable::KEEP_MEMORY) {
                    Action::Switched
                } else {
                    Action::Clear((self.pitch() * usize::from(self.yres)).min(VRAM_SIZE))
                }
            }
            (true, false) => {
                self.bank = 0;
                Action::Switched
            }
            _ => Action::None,
        }
    }

    fn set_virt_width(&mut self, value: u16) {
        // So wide that one line still fits, and a multiple of eight pixels where pixels share bytes.
        let value = value.max(self.xres);
        self.virt_width = if self.bpp == 4 { value.saturating_add(7) & !7 } else { value };
    }

    /// The mode is on.
    pub fn is_on(&self) -> bool {
        self.enable.contains(Enable::ENABLED)
    }

    /// The mode is on, and a byte belongs to one pixel only: memory is reached linearly.
    pub fn is_linear(&self) -> bool {
        self.is_on() && self.bpp != 4
    }

    /// Palette entries have eight bits.
    pub fn wide_dac(&self) -> bool {
        self.enable.contains(Enable::WIDE_DAC)
    }

    /// Where the window at 0xA0000 starts in video memory, in units of 64 KiB.
    pub fn bank(&self) -> usize {
        usize::from(self.bank)
    }

    /// Pixels across, pixels down, bits a pixel.
    pub fn mode(&self) -> (u16, u16, u16) {
        (self.xres, self.yres, self.bpp)
    }

    /// Bytes that one pixel takes; 0 in the planar mode, where eight pixels take four.
    pub fn pixel_bytes(&self) -> usize {
        usize::from(self.bpp).div_ceil(8) * usize::from(self.bpp != 4)
    }

    /// Bytes from one line to the next.
    pub fn pitch(&self) -> usize {
        match self.pixel_bytes() {
            0 => usize::from(self.virt_width) / 2,
            bytes => usize::from(self.virt_width) * bytes,
        }
    }

    /// Where the picture starts in video memory, in bytes; it may lie beyond its end.
    pub fn start(&self) -> usize {
        let x = usize::from(self.x_offset);
        let across = match self.pixel_bytes() {
            0 => x / 8 * 4,
            bytes => x * bytes,
        };
        self.pitch() * usize::from(self.y_offset) + across
    }

    fn virt_height(&self) -> u16 {
        (VRAM_SIZE / self.pitch().max(1)).min(usize::from(u16::MAX)) as u16
    }

    /// What of the registers can be seen in the picture, all else as after power-on.
    pub fn visible(&self) -> Self {
        Self { index: 0, id: ID_NEWEST, bank: 0, ..self.clone() }
    }

    /// Checks what a hostile saved state could have wrong.
    ///
    /// # Errors
    /// The field, in words.
    pub fn check(&self) -> Result<(), String> {
        let (width, height, depth) = self.mode();
        if !(1..=MAX_WIDTH).contains(&width) || !(1..=MAX_HEIGHT).contains(&height) {
            return Err(format!("a picture of {width} × {height}"));
        }
        if !matches!(depth, 4 | 8 | 15 | 16 | 24 | 32) {
            return Err(format!("{depth} bits a pixel"));
        }
        if self.bank() >= VRAM_SIZE >> 16 {
            return Err(format!("bank {}", self.bank));
        }
        if self.is_on() && self.virt_width < self.xres {
            return Err(format!("lines of {} pixels for a picture of {width}", self.virt_width));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_set_the_way_drivers_do() {
        let mut vbe = Vbe::default();
        assert_eq!(vbe.register(index::ID), 0xb0c5);
        assert_eq!(vbe.set_register(index::ID, 0xb0c0), Action::None);
        assert_eq!(vbe.register(index::ID), 0xb0c0);
        vbe.set_register(index::ENABLE, 0x02);
        assert_eq!((1..4).map(|index| vbe.register(index)).collect::<Vec<_>>(), [2560, 1600, 32]);
        vbe.set_register(index::ENABLE, 0);
        for (index, value) in [(index::XRES, 1024), (index::YRES, 768), (index::BPP, 32)] {
            vbe.set_register(index, value);
        }
        assert_eq!(vbe.set_register(index::ENABLE, 0x41), Action::Clear(1024 * 768 * 4));
        assert_eq!((vbe.register(index::VIRT_WIDTH), vbe.register(index::VIRT_HEIGHT)), (1024, 4096));
        vbe.set_register(index::XRES, 640);
        assert_eq!(vbe.mode(), (1024, 768, 32), "the size stands while the mode is on");
        vbe.set_register(index::Y_OFFSET, 768);
        assert_eq!(vbe.start(), 768 * 4096);
        assert_eq!(vbe.set_register(index::ENABLE, 0), Action::Switched);
    }

    #[test]
    fn absurd_values_stay_within_bounds() {
        let mut vbe = Vbe::default();
        for value in [0, 1, 0x7fff, 0xffff] {
            for depth in [4, 8, 15, 16, 24, 32, 0, 77, 0xffff] {
                vbe.set_register(index::ENABLE, 0);
                vbe.set_register(index::XRES, value);
                vbe.set_register(index::YRES, value);
                vbe.set_register(index::BPP, depth);
                vbe.set_register(index::ENABLE, 0xffff);
                for index in index::BANK..=0x20 {
                    vbe.set_register(index, value);
                }
                vbe.check().expect("registers hold only what is possible");
            }
        }
    }
}
