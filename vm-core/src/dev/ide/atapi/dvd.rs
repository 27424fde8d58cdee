//! Discs that are too large for a CD: they are DVDs.
//!
//! MMC-3 (T10/1363-D), 5.28 (READ DVD STRUCTURE); ECMA-267, 16 (control data).

use super::{Cd, PACKET, Packet, Reply, Sense, be16};

/// Most blocks of a CD: 80 minutes.
const MOST_CD: u64 = 80 * 60 * 75;
/// Where the data of a DVD begins.
const FIRST_SECTOR: u32 = 0x3_0000;

/// The formats that are known, with the bytes of their answers.
const FORMATS: [(u8, u16); 3] = [(PHYSICAL, 2052), (COPYRIGHT, 8), (MANUFACTURING, 2052)];
const PHYSICAL: u8 = 0x00;
const COPYRIGHT: u8 = 0x01;
const MANUFACTURING: u8 = 0x04;
const LIST: u8 = 0xff;

impl Cd {
    /// The disc in the drive is a DVD.
    pub(super) fn is_dvd(&self) -> bool {
        self.blocks() > MOST_CD
    }

    pub(super) fn read_dvd_structure(&self, packet: &[u8; PACKET]) -> Packet {
        let wanted = usize::from(be16(packet, 8));
        let format = packet[7];
        if format == LIST {
            let rows = FORMATS.iter().flat_map(|(format, bytes)| {
                let [high, low] = bytes.to_be_bytes();
                [*format, 0x40, high, low]
            });
            return Ok(structure(rows.collect(), wanted));
        }
        self.ready()?;
        if !self.is_dvd() {
            return Err(Sense::WRONG_MEDIUM);
        }
        // One layer.
        if packet[6] != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        match format {
            PHYSICAL => {
                let last = FIRST_SECTOR.saturating_add(self.blocks() as u32 - 1);
                let mut bytes = vec![0; 2048];
                bytes[0] = 0x01; // DVD-ROM, version 1
                bytes[1] = 0x0f; // 120 mm, any speed
                bytes[2] = 0x01; // one layer, stamped
                bytes[4..8].copy_from_slice(&FIRST_SECTOR.to_be_bytes());
                bytes[8..12].copy_from_slice(&last.min(0x00ff_ffff).to_be_bytes());
                Ok(structure(bytes, wanted))
            }
            // Not protected, for all regions.
            COPYRIGHT => Ok(structure(vec![0; 4], wanted)),
            MANUFACTURING => Ok(structure(vec![0; 2048], wanted)),
            _ => Err(Sense::INVALID_FIELD),
        }
    }
}

/// `bytes` behind their length.
fn structure(mut bytes: Vec<u8>, wanted: usize) -> Reply {
    let [high, low] = (bytes.len() as u16 + 2).to_be_bytes();
    bytes.splice(0..0, [high, low, 0, 0]);
    Reply::Data(bytes, wanted)
}
