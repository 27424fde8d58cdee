//! The table of packets, and those that read.
//!
//! MMC-3 (T10/1363-D), 5; SPC-2 for what all devices have.

use super::{BLOCK, Cd, PACKET, Packet, Reply, Sense, be16, be32, sector};

/// Frames of a disc that come before block 0: two seconds.
const LEAD_IN: u32 = 150;

impl Cd {
    #[allow(clippy::match_same_arms, reason = "one row a command")]
    #[rustfmt::skip]
    pub(super) fn packet(&mut self, packet: &[u8; PACKET]) -> Packet {
        // These never wait behind a unit attention (MMC-3, 4.1.6.1; SPC-2, 5.6).
        match packet[0] {
            0x03 => return Ok(self.request_sense(packet)),
            0x12 => return Self::inquiry(packet),
            0x46 => return Ok(self.get_configuration(packet)),
            0x4a => return self.get_event_status(packet),
            _    => {}
        }
        if let Some(sense) = self.state.attention.pop_front() {
            return Err(sense);
        }
        match packet[0] {
            0x00 => self.test_unit_ready(),              // TEST UNIT READY
            0x15 => Self::mode_select(packet, false),    // MODE SELECT(6)
            0x1a => self.mode_sense(packet, false),      // MODE SENSE(6)
            0x1b => self.start_stop(packet),             // START STOP UNIT
            0x1e => Ok(self.prevent_removal(packet)),    // PREVENT ALLOW MEDIUM REMOVAL
            0x25 => self.read_capacity(),                // READ CAPACITY
            0x28 => self.read(be32(packet, 2), u32::from(be16(packet, 7))), // READ(10)
            0x2b => self.seek(packet),                   // SEEK(10)
            0x35 => self.test_unit_ready(),              // SYNCHRONIZE CACHE
            0x42 => self.read_subchannel(packet),        // READ SUB-CHANNEL
            0x43 => self.read_toc(packet),               // READ TOC/PMA/ATIP
            0x44 => self.read_header(packet),            // READ HEADER
            0x4e => self.test_unit_ready(),              // STOP PLAY/SCAN: nothing plays
            0x51 => self.read_disc_information(packet),  // READ DISC INFORMATION
            0x52 => self.read_track_information(packet), // READ TRACK INFORMATION
            0x55 => Self::mode_select(packet, true),     // MODE SELECT(10)
            0x5a => self.mode_sense(packet, true),       // MODE SENSE(10)
            0xa8 => self.read(be32(packet, 2), be32(packet, 6)), // READ(12)
            0xad => self.read_dvd_structure(packet),     // READ DVD STRUCTURE
            0xb9 => self.read_cd_msf(packet),            // READ CD MSF
            0xbb => self.test_unit_ready(),              // SET CD SPEED
            0xbd => Ok(self.mechanism_status(packet)),   // MECHANISM STATUS
            0xbe => self.read_cd(packet),                // READ CD
            _    => Err(Sense::INVALID_OPCODE),
        }
    }

    pub(super) fn no_medium(&self) -> Sense {
        if self.state.tray_open { Sense::TRAY_OPEN } else { Sense::NO_MEDIUM }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.slot.is_present() && !self.state.tray_open
    }

    pub(super) fn ready(&self) -> Result<(), Sense> {
        if self.is_ready() { Ok(()) } else { Err(self.no_medium()) }
    }

    pub(super) fn test_unit_ready(&self) -> Packet {
        self.ready().map(|()| Reply::Done)
    }

    pub(super) fn request_sense(&mut self, packet: &[u8; PACKET]) -> Reply {
        let pending = (self.state.sense == Sense::NONE).then(|| self.state.attention.pop_front()).flatten();
        let sense = pending.unwrap_or(self.state.sense);
        let mut bytes = vec![0; 18];
        bytes[0] = 0x70;
        bytes[2] = sense.key;
        bytes[7] = 10;
        bytes[12] = sense.asc;
        bytes[13] = sense.ascq;
        Reply::Data(bytes, usize::from(packet[4]))
    }

    pub(super) fn inquiry(packet: &[u8; PACKET]) -> Packet {
        if packet[1] & 3 != 0 || packet[2] != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let mut bytes = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
        bytes.extend_from_slice(b"HAKO    CD-ROM          1.0 ");
        Ok(Reply::Data(bytes, usize::from(packet[4])))
    }

    pub(super) fn read_capacity(&self) -> Packet {
        self.ready()?;
        let last = (self.blocks() as u32).saturating_sub(1);
        Ok(Reply::Data([last.to_be_bytes(), (BLOCK as u32).to_be_bytes()].concat(), 8))
    }

    pub(super) fn read(&mut self, block: u32, blocks: u32) -> Packet {
        self.ready()?;
        if u64::from(block) + u64::from(blocks) > self.blocks() {
            return Err(Sense::OUT_OF_RANGE);
        }
        if blocks == 0 {
            return Ok(Reply::Done);
        }
        self.state.block = block;
        self.state.blocks = blocks;
        Ok(Reply::Reading)
    }

    pub(super) fn read_cd(&mut self, packet: &[u8; PACKET]) -> Packet {
        let blocks = u32::from(packet[6]) << 16 | u32::from(be16(packet, 7));
        self.read_fields(packet, be32(packet, 2), blocks)
    }

    /// The same from one minute, second and frame up to another.
    fn read_cd_msf(&mut self, packet: &[u8; PACKET]) -> Packet {
        let frames = |at: usize| {
            let [minute, second, frame] = [packet[at], packet[at + 1], packet[at + 2]].map(u32::from);
            (second < 60 && frame < 75).then_some((minute * 60 + second) * 75 + frame)
        };
        let (Some(start), Some(end)) = (frames(3), frames(6)) else { return Err(Sense::INVALID_FIELD) };
        let blocks = end.checked_sub(start).ok_or(Sense::INVALID_FIELD)?;
        // The first two seconds lie before block 0.
        let block = start.checked_sub(LEAD_IN).ok_or(Sense::OUT_OF_RANGE)?;
        self.read_fields(packet, block, blocks)
    }

    fn read_fields(&mut self, packet: &[u8; PACKET], block: u32, blocks: u32) -> Packet {
        let fields = packet[9];
        match packet[1] >> 2 & 7 {
            // Any type, or mode 1. No disc here has a sub-channel to show.
            0 | 2 if packet[10] & 7 != 0 => return Err(Sense::INVALID_FIELD),
            0 | 2 => {}
            _ => return Err(Sense::WRONG_MODE),
        }
        sector::check_fields(fields)?;
        if fields & 0xf8 == 0 || fields & 0xf8 == 0x40 {
            // Nothing is to be moved; mode 1 has no subheader.
            return self.test_unit_ready();
        }
        let reply = self.read(block, blocks)?;
        if !sector::is_plain(fields) {
            self.state.fields = fields;
        }
        Ok(reply)
    }

    pub(super) fn seek(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        if u64::from(be32(packet, 2)) >= self.blocks() {
            return Err(Sense::OUT_OF_RANGE);
        }
        Ok(Reply::Done)
    }
}
