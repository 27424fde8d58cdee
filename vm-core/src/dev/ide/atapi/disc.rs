//! What a disc says of itself: one session with one data track.
//!
//! MMC-3 (T10/1363-D), 5.29 to 5.33.

use super::{Cd, PACKET, Packet, Reply, Sense, be16, be32};

impl Cd {
    /// The address of `block` as the guest wants it: minutes, seconds and frames, or a number.
    pub(super) fn address(block: u32, msf: bool) -> [u8; 4] {
        if !msf {
            return block.to_be_bytes();
        }
        // The first two seconds of a disc come before block 0.
        let frames = block.saturating_add(150);
        [0, (frames / 75 / 60).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
    }

    pub(super) fn read_toc(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let msf = packet[1] & 2 != 0;
        let end = self.blocks() as u32;
        // Older drivers put the format into the last byte (SFF-8020i, 10.8.17).
        let format = match packet[2] & 0x0f {
            0 => packet[9] >> 6,
            format => format,
        };
        let wanted = usize::from(be16(packet, 7));
        let mut bytes = match (format, packet[6]) {
            (0, 0 | 1 | 0xaa) => {
                let mut bytes = vec![0, 0, 1, 1];
                if packet[6] != 0xaa {
                    bytes.extend([0, 0x14, 1, 0]);
                    bytes.extend(Self::address(0, msf));
                }
                bytes.extend([0, 0x14, 0xaa, 0]);
                bytes.extend(Self::address(end, msf));
                bytes
            }
            (1, _) => {
                let mut bytes = vec![0, 0, 1, 1, 0, 0x14, 1, 0];
                bytes.extend(Self::address(0, msf));
                bytes
            }
            (2, 0 | 1) => {
                let mut bytes = vec![0, 0, 1, 1];
                let [_, minute, second, frame] = Self::address(end, true);
                for (point, minute, second, frame) in
                    [(0xa0, 1, 0, 0), (0xa1, 1, 0, 0), (0xa2, minute, second, frame), (1, 0, 2, 0)]
                {
                    bytes.extend([1, 0x14, 0, point, 0, 0, 0, 0, minute, second, frame]);
                }
                bytes
            }
            _ => return Err(Sense::INVALID_FIELD),
        };
        let length = bytes.len() as u16 - 2;
        bytes[..2].copy_from_slice(&length.to_be_bytes());
        Ok(Reply::Data(bytes, wanted))
    }

    pub(super) fn read_subchannel(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let wanted = usize::from(be16(packet, 7));
        // No audio is playing: status 0x15.
        if packet[2] & 0x40 == 0 {
            return Ok(Reply::Data(vec![0, 0x15, 0, 0], wanted));
        }
        let bytes = match packet[3] {
            1 => {
                let mut bytes = vec![0, 0x15, 0, 12, 1, 0x14, 1, 1];
                bytes.extend([0; 8]);
                bytes
            }
            format @ 2..=3 => {
                let mut bytes = vec![0, 0x15, 0, 20, format, 0x14, 1, 0];
                bytes.extend([0; 16]);
                bytes
            }
            _ => return Err(Sense::INVALID_FIELD),
        };
        Ok(Reply::Data(bytes, wanted))
    }

    pub(super) fn read_disc_information(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let mut bytes = vec![0; 34];
        bytes[1] = 32;
        bytes[2] = 0x0e; // the disc and its last session are complete
        bytes[3..7].fill(1); // first track, sessions, first and last track of the last session
        bytes[7] = 0x20;
        bytes[16..24].fill(0xff);
        Ok(Reply::Data(bytes, usize::from(be16(packet, 7))))
    }

    /// READ HEADER: the address as it stands in the sector, and its mode.
    pub(super) fn read_header(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let block = be32(packet, 2);
        if u64::from(block) >= self.blocks() {
            return Err(Sense::OUT_OF_RANGE);
        }
        let mut bytes = vec![1, 0, 0, 0];
        bytes.extend(Self::address(block, packet[1] & 2 != 0));
        Ok(Reply::Data(bytes, usize::from(be16(packet, 7))))
    }

    /// The only track, by a block in it, by its number, or by its session's.
    pub(super) fn read_track_information(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let (kind, number) = (packet[1] & 3, be32(packet, 2));
        let known = match kind {
            0 => u64::from(number) < self.blocks(),
            1 | 2 => number == 1,
            _ => false,
        };
        if !known {
            return Err(if kind == 0 { Sense::OUT_OF_RANGE } else { Sense::INVALID_FIELD });
        }
        let mut bytes = vec![0; 36];
        bytes[1] = 34;
        bytes[2] = 1; // the track …
        bytes[3] = 1; // … of session 1
        bytes[5] = 0x04; // data, recorded at once
        bytes[6] = 0x01; // mode 1
        bytes[24..28].copy_from_slice(&(self.blocks() as u32).to_be_bytes());
        Ok(Reply::Data(bytes, usize::from(be16(packet, 7))))
    }
}
