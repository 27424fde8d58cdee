//! What a disk says of itself.

use super::{CHUNK, Disk, MOST_CHS, MOST_LBA28, MOST_MULTIPLE, Outcome, Transfer, default_geometry};
use crate::dev::ide::put_text;

impl Disk {
    pub(super) fn identify(&mut self) -> Outcome {
        let words = self.identification();
        // One sector that is not on the medium.
        self.state.transfer =
            Transfer { sector: 0, chunk: 1, left: 1, block: 1, extended: false, own: true, dma: false };
        self.show(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    /// IDENTIFY DEVICE data (ATA/ATAPI-6, 8.15).
    fn identification(&self) -> [u16; 256] {
        let total = self.slot.sectors();
        let (cylinders, heads, sectors) = default_geometry(total);
        let (now_heads, now_sectors) = (u64::from(self.state.heads), u64::from(self.state.sectors_per_track));
        let now_cylinders = (total.min(MOST_CHS) / (now_heads * now_sectors)).min(65535);
        let now_total = now_cylinders * now_heads * now_sectors;
        let lba28 = total.min(MOST_LBA28);
        let mut words = [0; 256];
        words[0] = 0x0040; // a disk that cannot be taken out
        words[1] = cylinders;
        words[3] = u16::from(heads);
        words[6] = u16::from(sectors);
        put_text(&mut words[10..20], &self.serial);
        words[20] = 3; // a buffer that looks ahead …
        words[21] = CHUNK as u16; // … of so many sectors
        put_text(&mut words[23..27], "1.0");
        put_text(&mut words[27..47], "HAKO HARDDISK");
        words[47] = 0x8000 | u16::from(MOST_MULTIPLE);
        words[49] = 0x2b00; // standby timer as the standard says, IORDY, LBA, DMA
        words[50] = 0x4000;
        words[51] = 0x0200; // PIO mode 2 without IORDY
        words[53] = 0x0007; // words 54–58, 64–70 and 88 count
        words[54] = now_cylinders as u16;
        words[55] = now_heads as u16;
        words[56] = now_sectors as u16;
        words[57] = now_total as u16;
        words[58] = (now_total >> 16) as u16;
        words[59] = if self.state.multiple == 0 { 0 } else { 0x0100 | u16::from(self.state.multiple) };
        words[60] = lba28 as u16;
        words[61] = (lba28 >> 16) as u16;
        words[63] = self.state.mode.multiword();
        words[64] = 0x0003; // PIO modes 3 and 4
        words[65..69].fill(120); // nanoseconds a cycle, of multiword DMA and of PIO
        words[80] = 0x0078; // ATA-3 … ATA/ATAPI-6
        words[82] = 0x4068; // NOP, look-ahead, write cache, power management
        words[83] = 0x7400; // FLUSH CACHE (EXT), 48-bit addresses
        words[84] = 0x4000;
        words[85] = 0x4008 | u16::from(self.state.look_ahead) << 6 | u16::from(self.state.write_cache) << 5;
        words[86] = 0x3400;
        words[87] = 0x4000;
        words[88] = self.state.mode.ultra();
        words[93] = if self.second { 0x6b00 } else { 0x600b }; // what the reset found
        for (n, word) in words[100..104].iter_mut().enumerate() {
            *word = (total >> (16 * n)) as u16;
        }
        words[255] = 0x00a5;
        let sum = words.iter().flat_map(|word| word.to_le_bytes()).fold(0_u8, u8::wrapping_add);
        words[255] |= u16::from(sum.wrapping_neg()) << 8;
        words
    }
}
