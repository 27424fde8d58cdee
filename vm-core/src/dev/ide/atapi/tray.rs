//! The tray: who may open it, what the guest hears of it, and how a person changes the disc.
//!
//! MMC-3 (T10/1363-D): 5.6 GET EVENT STATUS NOTIFICATION, 5.12 MECHANISM STATUS, 5.17 PREVENT ALLOW MEDIUM REMOVAL, 5.38 START STOP UNIT.

use serde::{Deserialize, Serialize};

use super::{Cd, PACKET, Packet, Phase, Reply, Sense, be16};
use crate::disk::BlockBackend;

/// Most moves that are remembered for somebody who looks too seldom. Two moves that cancel each other are forgotten then.
const MOST_MOVES: usize = 8;

/// What GET EVENT STATUS NOTIFICATION tells next (MMC-3, 5.6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaEvent {
    /// Nothing has happened.
    #[default]
    None,
    /// The person wants the disc.
    EjectRequest,
    /// A disc has come.
    NewMedia,
    /// It is gone, or lies in an open tray.
    Removal,
}

/// The tray of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tray {
    /// It is open.
    pub open: bool,
    /// The guest keeps it from being opened (PREVENT ALLOW MEDIUM REMOVAL).
    pub locked: bool,
}

impl Cd {
    /// The tray now.
    pub(in crate::dev::ide) fn tray(&self) -> Tray {
        Tray { open: self.state.tray_open, locked: self.state.locked }
    }

    /// Moves of the tray since the last call, by anybody: true is open.
    pub(in crate::dev::ide) fn take_tray_moves(&mut self) -> Vec<bool> {
        std::mem::take(&mut self.tray_moves)
    }

    /// A person opens the tray. A locked one stays shut unless it is forced, and the guest hears that somebody wants the disc.
    pub(in crate::dev::ide) fn open_tray(&mut self, force: bool) -> Result<(), String> {
        if self.state.tray_open {
            return Ok(());
        }
        if self.state.locked && self.slot.is_present() && !force {
            self.state.event = MediaEvent::EjectRequest;
            return Err("the guest is using the disc and has locked the drive. It has been asked to let go: wait for \
                        the tray to open, or eject the disc in the guest; then try again. It can also be forced"
                .to_owned());
        }
        self.move_tray(true);
        Ok(())
    }

    /// A person closes the tray, with what lies in it.
    pub(in crate::dev::ide) fn close_tray(&mut self) {
        self.move_tray(false);
    }

    /// A person takes the disc out of the open tray.
    pub(in crate::dev::ide) fn remove_medium(&mut self) -> Result<(), String> {
        if !self.state.tray_open {
            return Err("the tray is closed: open it first, or eject the disc".to_owned());
        }
        self.slot.change(None);
        Ok(())
    }

    /// A person opens the tray, puts another disc in and closes it.
    pub(in crate::dev::ide) fn change_medium(
        &mut self,
        medium: Box<dyn BlockBackend>,
        force: bool,
    ) -> Result<(), String> {
        self.open_tray(force)?;
        self.slot.change(Some(medium));
        self.close_tray();
        Ok(())
    }

    /// Every move of the tray comes through here.
    fn move_tray(&mut self, open: bool) {
        if std::mem::replace(&mut self.state.tray_open, open) == open {
            return;
        }
        if self.tray_moves.len() < MOST_MOVES {
            self.tray_moves.push(open);
        } else {
            self.tray_moves.pop();
        }
        let present = self.slot.is_present();
        if open {
            self.state.attention.retain(|sense| *sense != Sense::MEDIUM_CHANGED);
            if present {
                self.state.event = MediaEvent::Removal;
            }
            let wants_more = match self.state.phase {
                Phase::Reading => true,
                Phase::DataIn | Phase::DmaIn => self.state.blocks != 0,
                Phase::Idle | Phase::Packet | Phase::DataOut | Phase::DmaOut => false,
            };
            if wants_more {
                self.slot.abandon();
                self.fail(Sense::TRAY_OPEN);
            }
        } else if present {
            self.state.event = MediaEvent::NewMedia;
            self.attend(Sense::MEDIUM_CHANGED);
        }
    }

    fn attend(&mut self, sense: Sense) {
        if !self.state.attention.contains(&sense) {
            self.state.attention.push_back(sense);
        }
    }

    pub(super) fn start_stop(&mut self, packet: &[u8; PACKET]) -> Packet {
        let (power, load_eject, start) = (packet[4] >> 4, packet[4] & 2 != 0, packet[4] & 1 != 0);
        match (load_eject, start) {
            // A power condition: the other bits do not count.
            _ if power != 0 => Ok(Reply::Done),
            (true, false) if self.state.locked => Err(Sense::LOCKED),
            (true, false) => {
                // The disc lies in the open tray: closing it brings it back.
                self.move_tray(true);
                Ok(Reply::Done)
            }
            (true, true) => {
                self.move_tray(false);
                Ok(Reply::Done)
            }
            (false, true) => self.test_unit_ready(),
            // The disc stops turning, if there is one.
            (false, false) => Ok(Reply::Done),
        }
    }

    pub(super) fn prevent_removal(&mut self, packet: &[u8; PACKET]) -> Reply {
        self.state.locked = packet[4] & 1 != 0;
        Reply::Done
    }

    pub(super) fn get_event_status(&mut self, packet: &[u8; PACKET]) -> Packet {
        const MEDIA: u8 = 1 << 4;
        if packet[1] & 1 == 0 {
            // Only polling is there.
            return Err(Sense::INVALID_FIELD);
        }
        let wanted = usize::from(be16(packet, 7));
        if packet[4] & MEDIA == 0 {
            return Ok(Reply::Data(vec![0, 2, 0x80, MEDIA], wanted));
        }
        let event = match self.state.event {
            MediaEvent::None => 0,
            MediaEvent::EjectRequest => 1,
            MediaEvent::NewMedia => 2,
            MediaEvent::Removal => 3,
        };
        if wanted > 4 {
            // Whoever takes only the header has not heard of it.
            self.state.event = MediaEvent::None;
        }
        let present = u8::from(self.is_ready()) << 1 | u8::from(self.state.tray_open);
        Ok(Reply::Data(vec![0, 6, 0x04, MEDIA, event, present, 0, 0], wanted))
    }

    pub(super) fn mechanism_status(&self, packet: &[u8; PACKET]) -> Reply {
        let door = u8::from(self.state.tray_open) << 4;
        Reply::Data(vec![0, door, 0, 0, 0, 1, 0, 0], usize::from(be16(packet, 8)))
    }
}
