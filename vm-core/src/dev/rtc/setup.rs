//! What firmware finds in the CMOS memory: the places are those of the PC/AT, and of SeaBIOS.

/// What firmware wants to know from the CMOS memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmosSetup {
    /// Bytes of memory below 4 GiB, from 0 on.
    pub memory: u64,
    /// Bytes of memory from 4 GiB on.
    pub memory_above_4g: u64,
    /// Types of floppy drives A and B: 0 none, 1 360 KiB, 2 1.2 MiB, 3 720 KiB, 4 1.44 MiB, 5 2.88 MiB.
    pub floppy_types: [u8; 2],
    /// The order of boot devices: 0 none, 1 floppy, 2 hard disk, 3 CD, 4 network.
    pub boot_order: [u8; 3],
    /// There is a floating-point unit.
    pub fpu: bool,
}

impl CmosSetup {
    /// The first three of the letters of a boot order, as QEMU's `-boot` has them: a or b floppy, c disk, d CD, n network. Others count for
    /// nothing.
    pub fn boot_order_of(letters: &str) -> [u8; 3] {
        let mut codes = letters.chars().filter_map(|letter| match letter {
            'a' | 'b' => Some(1),
            'c' => Some(2),
            'd' => Some(3),
            'n' => Some(4),
            _ => None,
        });
        std::array::from_fn(|_| codes.next().unwrap_or(0))
    }

    pub(super) fn write_to(&self, cmos: &mut [u8; 256]) {
        let mut word = |at: usize, value: u64| {
            cmos[at] = value as u8;
            cmos[at + 1] = (value >> 8) as u8;
        };
        let kib = self.memory >> 10;
        let extended = kib.saturating_sub(1024).min(0xffff);
        let above_16m = (self.memory.saturating_sub(16 << 20) >> 16).min(0xffff);
        let above_4g = self.memory_above_4g >> 16;
        word(0x15, kib.min(640));
        word(0x17, extended);
        word(0x30, extended);
        word(0x34, above_16m);
        word(0x5b, above_4g);
        cmos[0x5d] = (above_4g >> 16) as u8;
        let [first, second] = self.floppy_types.map(|kind| kind & 15);
        cmos[0x10] = first << 4 | second;
        let floppies = u8::from(first != 0) + u8::from(second != 0);
        // Equipment: PS/2 mouse, display with its own ROM.
        cmos[0x14] = 1 << 2 | u8::from(self.fpu) << 1 | u8::from(floppies > 0) | floppies.saturating_sub(1) << 6;
        let [one, two, three] = self.boot_order.map(|code| code & 15);
        cmos[0x3d] = two << 4 | one;
        // Bit 0: start floppies without the signature 55 AA too.
        cmos[0x38] = three << 4 | 1;
        let sum: u16 = cmos[0x10..=0x2d].iter().map(|byte| u16::from(*byte)).sum();
        [cmos[0x2e], cmos[0x2f]] = sum.to_be_bytes();
    }
}
