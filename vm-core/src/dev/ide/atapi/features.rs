//! What the drive says of itself: identification, mode pages, features.

use super::{Cd, PACKET, Packet, Reply, Sense, be16};
use crate::dev::ide::put_text;

/// Most bytes that MODE SELECT may send: all pages, and some.
const MOST_PARAMETERS: usize = 256;

impl Cd {
    /// IDENTIFY PACKET DEVICE (ATA/ATAPI-6, 8.16).
    pub(super) fn identify(&mut self) {
        let mut words = [0; 256];
        words[0] = 0x85c0; // CD-ROM, removable, DRQ within 50 µs, packets of 12 bytes
        put_text(&mut words[10..20], &self.serial);
        put_text(&mut words[23..27], "1.0");
        put_text(&mut words[27..47], "HAKO CD-ROM");
        words[49] = 0x0b00; // IORDY, LBA, DMA
        words[51] = 0x0200;
        words[53] = 0x0006; // words 64–70 and 88 count
        words[63] = self.state.mode.multiword();
        words[64] = 0x0003; // PIO modes 3 and 4
        words[65..69].fill(120); // nanoseconds a cycle, of multiword DMA and of PIO
        words[80] = 0x0078; // ATA-3 … ATA/ATAPI-6
        words[82] = 0x4210; // NOP, DEVICE RESET, PACKET
        words[83] = 0x4000;
        words[84] = 0x4000;
        words[85] = 0x4210;
        words[87] = 0x4000;
        words[88] = self.state.mode.ultra();
        self.state.limit = 512;
        self.show(words.iter().flat_map(|word: &u16| word.to_le_bytes()).collect());
    }

    /// Mode pages 01 (error recovery), 0D (CD-ROM), 0E (audio) and 2A (capabilities) (SFF-8020i, 10.8.6; MMC-3, 5.5).
    fn mode_pages(&self) -> [Vec<u8>; 4] {
        let lock = 0x29 | u8::from(self.state.locked) << 1; // tray, can eject, can lock, is locked
        let [high, low] = 0x02c2_u16.to_be_bytes(); // 706 kB/s: four times
        [
            vec![0x01, 6, 0, 5, 0, 0, 0, 0],
            vec![0x0d, 6, 0, 0, 0, 60, 0, 75], // seconds of a minute, frames of a second
            vec![0x0e, 14, 4, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0],
            // Reads CD-R, CD-RW and DVD-ROM; sectors of mode 2, and more than one session.
            vec![0x2a, 18, 0x0b, 0, 0x70, 0, lock, 0, high, low, 0, 2, 2, 0, high, low, 0, 0, 0, 0],
        ]
    }

    pub(super) fn mode_sense(&self, packet: &[u8; PACKET], long: bool) -> Packet {
        const ALL_PAGES: u8 = 0x3f;
        let wanted = if long { usize::from(be16(packet, 7)) } else { usize::from(packet[4]) };
        let (page, control) = (packet[2] & 0x3f, packet[2] >> 6);
        if control == 3 {
            return Err(Sense::SAVING_PAGES);
        }
        let mut pages: Vec<_> =
            self.mode_pages().into_iter().filter(|bytes| page == ALL_PAGES || bytes[0] == page).collect();
        if pages.is_empty() {
            return Err(Sense::INVALID_FIELD);
        }
        if control == 1 {
            // Nothing can be changed.
            for page in &mut pages {
                page[2..].fill(0);
            }
        }
        let medium = match (self.state.tray_open, self.slot.is_present()) {
            (true, _) => 0x71,
            (false, true) => 0x01,
            (false, false) => 0x70,
        };
        let mut bytes = if long { vec![0, 0, medium, 0, 0, 0, 0, 0] } else { vec![0, medium, 0, 0] };
        bytes.extend(pages.concat());
        if long {
            let length = bytes.len() as u16 - 2;
            bytes[..2].copy_from_slice(&length.to_be_bytes());
        } else {
            bytes[0] = bytes.len() as u8 - 1;
        }
        Ok(Reply::Data(bytes, wanted))
    }

    /// MODE SELECT: the guest sends pages. Whether it may is seen once they are there.
    pub(super) fn mode_select(packet: &[u8; PACKET], long: bool) -> Packet {
        const SAVE: u8 = 0x01;
        const PAGE_FORMAT: u8 = 0x10;
        let bytes = if long { usize::from(be16(packet, 7)) } else { usize::from(packet[4]) };
        if packet[1] & SAVE != 0 || packet[1] & PAGE_FORMAT == 0 || bytes > MOST_PARAMETERS {
            return Err(Sense::INVALID_FIELD);
        }
        Ok(if bytes == 0 { Reply::Done } else { Reply::Parameters(bytes, if long { 8 } else { 4 }) })
    }

    /// Takes the pages of MODE SELECT behind a header of `header` bytes: they may say only what is so already.
    pub(super) fn take_mode_pages(&self, bytes: &[u8], header: usize) -> Packet {
        let mut rest = bytes.get(header..).ok_or(Sense::INVALID_PARAMETER)?;
        let descriptors = usize::from(bytes[header - 1]);
        rest = rest.get(descriptors..).ok_or(Sense::INVALID_PARAMETER)?;
        let pages = self.mode_pages();
        while !rest.is_empty() {
            let page = pages.iter().find(|page| page[0] == rest[0] & 0x3f).ok_or(Sense::INVALID_PARAMETER)?;
            let sent = rest.get(1..page.len()).ok_or(Sense::INVALID_PARAMETER)?;
            if *sent != page[1..] {
                return Err(Sense::INVALID_PARAMETER);
            }
            rest = &rest[page.len()..];
        }
        Ok(Reply::Done)
    }

    /// GET CONFIGURATION (MMC-3, 5.5 and 4.2): profile list, core, removable medium, reading of CDs and DVDs.
    pub(super) fn get_configuration(&self, packet: &[u8; PACKET]) -> Reply {
        const CD_ROM: [u8; 2] = [0, 0x08];
        const DVD_ROM: [u8; 2] = [0, 0x10];
        const TRAY: u8 = 0x29;
        let (cd, dvd) = (self.is_ready() && !self.is_dvd(), self.is_ready() && self.is_dvd());
        let profile = match (cd, dvd) {
            (true, _) => CD_ROM,
            (_, true) => DVD_ROM,
            _ => [0, 0],
        };
        let mut bytes = vec![0, 0, 0, 0, 0, 0, profile[0], profile[1]];
        let (first, kind) = (be16(packet, 2), packet[1] & 3);
        let profiles = vec![0x03, 8, DVD_ROM[0], DVD_ROM[1], u8::from(dvd), 0, CD_ROM[0], CD_ROM[1], u8::from(cd), 0];
        let features: [(u16, bool, Vec<u8>); 5] = [
            (0x0000, true, profiles),
            (0x0001, true, vec![0x0b, 8, 0, 0, 0, 2, 1, 0, 0, 0]),
            (0x0003, true, vec![0x03, 4, TRAY, 0, 0, 0]),
            (0x001e, cd, vec![0x08 | u8::from(cd), 4, 0, 0, 0, 0]),
            (0x001f, dvd, vec![u8::from(dvd), 0]),
        ];
        for (code, is_current, body) in features {
            let wanted = match kind {
                0 => code >= first,
                1 => code >= first && is_current,
                _ => code == first,
            };
            if wanted {
                bytes.extend(code.to_be_bytes());
                bytes.extend(body);
            }
        }
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Reply::Data(bytes, usize::from(be16(packet, 7)))
    }
}
