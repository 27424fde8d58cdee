//! One channel: two drives behind one register block, and the bus master that moves their data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ata::{Disk, DiskState};
use super::atapi::{Cd, CdState, Tray};
use super::buffer::DataBuffer;
use super::bus_master::{BusMaster, Direction, MasterEnable};
use super::{CONTROL_HOB, CONTROL_NIEN, CONTROL_SRST, DEVICE_1, EXECUTE_DIAGNOSTIC, FLOATING, status};
use crate::bus::Width;
use crate::bus::clock::Nanos;
use crate::bus::irq::IrqLine;
use crate::bus::ram::GuestRam;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::disk::BlockBackend;
use crate::snapshot::section::{LoadError, Section};

/// A drive on the channel.
#[derive(Debug)]
enum Drive {
    Disk(Disk),
    Cd(Cd),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum DriveState {
    Disk(DiskState),
    Cd(CdState),
}

impl DriveState {
    fn data(&mut self) -> &mut DataBuffer {
        match self {
            Self::Disk(state) => &mut state.data,
            Self::Cd(state) => &mut state.data,
        }
    }
}

/// Calls the same method of whichever drive it is.
macro_rules! each {
    ($drive:expr, $name:ident => $call:expr) => {
        match $drive {
            Drive::Disk($name) => $call,
            Drive::Cd($name) => $call,
        }
    };
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ChannelState {
    /// The drive that answers.
    selected: u8,
    control: u8,
    bus_master: BusMaster,
    units: [Option<DriveState>; 2],
}

/// One channel with up to two drives.
#[derive(Debug)]
pub struct IdeChannel {
    state: ChannelState,
    drives: [Option<Drive>; 2],
    name: &'static str,
    irq: IrqLine,
    ram: Arc<GuestRam>,
    enable: MasterEnable,
    signals: Arc<Signals>,
}

impl IdeChannel {
    /// A channel without drives. `name` is that of its section (`"ide0"`, `"ide1"`), `irq` its INTRQ; its bus master reaches
    /// `ram` while `enable` is set.
    pub fn new(
        name: &'static str,
        irq: IrqLine,
        ram: &Arc<GuestRam>,
        enable: &MasterEnable,
        signals: &Arc<Signals>,
    ) -> Self {
        Self {
            state: ChannelState::default(),
            drives: [None, None],
            name,
            irq,
            ram: Arc::clone(ram),
            enable: enable.clone(),
            signals: Arc::clone(signals),
        }
    }

    /// Puts a hard disk at `unit` (0 or 1).
    pub fn attach_disk(&mut self, unit: usize, medium: Box<dyn BlockBackend>) {
        let serial = format!("HK-{}-{}", self.name, unit & 1);
        self.drives[unit & 1] = Some(Drive::Disk(Disk::new(medium, unit & 1 != 0, serial, &self.signals)));
    }

    /// Puts a CD-ROM drive at `unit` (0 or 1), with a disc in it or empty.
    pub fn attach_cd(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) {
        let serial = format!("HK-{}-{}", self.name, unit & 1);
        self.drives[unit & 1] = Some(Drive::Cd(Cd::new(medium, serial, &self.signals)));
    }

    /// Whether something is attached at `unit`.
    pub fn is_attached(&self, unit: usize) -> bool {
        self.drives[unit & 1].is_some()
    }

    /// The medium at `unit`.
    pub fn medium(&mut self, unit: usize) -> Option<&mut (dyn BlockBackend + 'static)> {
        each!(self.drives[unit & 1].as_mut()?, drive => drive.slot.medium())
    }

    /// The CD-ROM drive at `unit`.
    fn cd(&mut self, unit: usize) -> Result<&mut Cd, String> {
        match &mut self.drives[unit & 1] {
            Some(Drive::Cd(cd)) => Ok(cd),
            Some(Drive::Disk(_)) | None => Err("there is no CD drive in this place of the machine".to_owned()),
        }
    }

    /// A person opens the tray of the CD-ROM drive at `unit`; one that the guest has locked only with `force`.
    ///
    /// # Errors
    /// In words: where there is no such drive, or the guest has locked it (it is asked to let go).
    pub fn open_tray(&mut self, unit: usize, force: bool) -> Result<(), String> {
        self.cd(unit)?.open_tray(force)?;
        self.update_irq();
        Ok(())
    }

    /// A person closes the tray of the CD-ROM drive at `unit`, with what lies in it.
    ///
    /// # Errors
    /// In words: where there is no such drive.
    pub fn close_tray(&mut self, unit: usize) -> Result<(), String> {
        self.cd(unit)?.close_tray();
        Ok(())
    }

    /// A person takes the disc out of the open tray of the CD-ROM drive at `unit`.
    ///
    /// # Errors
    /// In words: where there is no such drive, or its tray is closed.
    pub fn remove_medium(&mut self, unit: usize) -> Result<(), String> {
        self.cd(unit)?.remove_medium()
    }

    /// A person puts another disc into the CD-ROM drive at `unit`: the tray opens and closes.
    ///
    /// # Errors
    /// In words: where there is no such drive, or the guest has locked it and this is not forced.
    pub fn change_medium(&mut self, unit: usize, medium: Box<dyn BlockBackend>, force: bool) -> Result<(), String> {
        self.cd(unit)?.change_medium(medium, force)?;
        self.update_irq();
        Ok(())
    }

    /// The tray of the drive at `unit`; `None`: it has none.
    pub fn tray(&self, unit: usize) -> Option<Tray> {
        match &self.drives[unit & 1] {
            Some(Drive::Cd(cd)) => Some(cd.tray()),
            Some(Drive::Disk(_)) | None => None,
        }
    }

    /// How the tray of the drive at `unit` has moved since the last call: true is open.
    pub fn take_tray_moves(&mut self, unit: usize) -> Vec<bool> {
        match &mut self.drives[unit & 1] {
            Some(Drive::Cd(cd)) => cd.take_tray_moves(),
            Some(Drive::Disk(_)) | None => Vec::new(),
        }
    }

    /// Whether a request to a medium is under way: a save waits until it is not. One that failed on the host and waits for
    /// a person does not count; a loaded state asks for it again.
    pub fn busy(&self) -> bool {
        self.drives.iter().flatten().any(|drive| each!(drive, drive => drive.slot.busy()))
    }

    /// Tries requests that failed on the host again.
    pub fn retry(&mut self) {
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.slot.retry());
        }
    }

    /// Requests of the drive at `unit` so far.
    pub fn requests(&self, unit: usize) -> u64 {
        self.drives[unit & 1].as_ref().map_or(0, |drive| each!(drive, drive => drive.slot.requests()))
    }

    /// Reads the command block, `offset` 0–7.
    pub fn read(&mut self, offset: u16, width: Width) -> u32 {
        match offset & 7 {
            0 => self.read_data(width),
            7 => self.read_status(),
            offset => u32::from(self.read_register(offset)),
        }
    }

    /// Writes the command block, `offset` 0–7.
    pub fn write(&mut self, offset: u16, width: Width, value: u32) {
        match offset & 7 {
            0 => self.write_data(width, value),
            6 => self.write_device(value as u8),
            7 => self.write_command(value as u8),
            offset => self.write_register(offset, value as u8),
        }
        self.run_dma();
        self.update_irq();
    }

    /// Reads the alternate status register: the status, and the interrupt stays.
    pub fn alternate_status(&self) -> u8 {
        if self.drives.iter().all(Option::is_none) {
            return FLOATING;
        }
        if self.state.control & CONTROL_SRST != 0 {
            return status::BSY;
        }
        match &self.drives[self.selected()] {
            Some(drive) => each!(drive, drive => drive.state.task.status),
            // Drive 0 answers for an absent drive 1 (ATA/ATAPI-6, 9.16.1).
            None if self.selected() == 1 => 0,
            None => FLOATING,
        }
    }

    /// Writes the device control register.
    pub fn write_control(&mut self, value: u8) {
        let before = self.state.control;
        self.state.control = value & (CONTROL_HOB | CONTROL_SRST | CONTROL_NIEN);
        if before & !value & CONTROL_SRST != 0 {
            self.soft_reset();
        }
        self.update_irq();
    }

    /// Reads the bus-master block of the channel, `offset` 0–7.
    pub fn read_bus_master(&self, offset: u16, width: Width) -> u32 {
        self.state.bus_master.read(offset, width)
    }

    /// Writes the bus-master block of the channel, `offset` 0–7.
    pub fn write_bus_master(&mut self, offset: u16, width: Width, value: u32) {
        self.state.bus_master.write(offset, width, value);
        self.run_dma();
        self.update_irq();
    }

    /// Moves what drive and bus master agree on. Each round moves a whole buffer, after which the drive has its medium to wait for.
    fn run_dma(&mut self) {
        while self.enable.get() {
            let selected = self.selected();
            let Some(drive) = &mut self.drives[selected] else { return };
            let Some(direction) = each!(drive, drive => drive.dma_direction()) else { return };
            let data = each!(drive, drive => &mut drive.state.data);
            let moved = match direction {
                Direction::ToMemory => self.state.bus_master.write_memory(&self.ram, data.unmoved()),
                Direction::FromMemory => self.state.bus_master.read_memory(&self.ram, data.unmoved_mut()),
            };
            data.moved(moved);
            if data.rest() != 0 {
                return;
            }
            each!(drive, drive => drive.dma_done());
        }
    }

    fn selected(&self) -> usize {
        usize::from(self.state.selected & 1)
    }

    fn read_data(&mut self, width: Width) -> u32 {
        let selected = self.selected();
        let Some(drive) = &mut self.drives[selected] else { return width.mask() as u32 };
        let mut word = || u32::from(each!(drive, drive => drive.read_data()));
        let value = match width {
            Width::Byte => word() & 0xff,
            Width::Word => word(),
            Width::Dword | Width::Qword => {
                let low = word();
                low | word() << 16
            }
        };
        self.update_irq();
        value
    }

    fn write_data(&mut self, width: Width, value: u32) {
        let selected = self.selected();
        let Some(drive) = &mut self.drives[selected] else { return };
        each!(drive, drive => drive.write_data(value as u16));
        if width >= Width::Dword {
            each!(drive, drive => drive.write_data((value >> 16) as u16));
        }
    }

    fn read_register(&self, offset: u16) -> u8 {
        let previous = self.state.control & CONTROL_HOB != 0;
        // Drive 0 answers for an absent drive 1.
        let answering =
            self.drives[self.selected()].as_ref().or(self.drives[0].as_ref().filter(|_| self.selected() == 1));
        match answering {
            Some(drive) if offset == 6 => {
                each!(drive, drive => drive.state.task.read(6, false) & !DEVICE_1) | self.state.selected << 4
            }
            Some(drive) => each!(drive, drive => drive.state.task.read(offset, previous)),
            None => FLOATING,
        }
    }

    fn read_status(&mut self) -> u32 {
        let value = self.alternate_status();
        let selected = self.selected();
        if let Some(drive) = &mut self.drives[selected] {
            each!(drive, drive => drive.state.task.interrupt = false);
        }
        self.update_irq();
        u32::from(value)
    }

    /// Both drives take in what is written, unless they are busy.
    fn write_register(&mut self, offset: u16, value: u8) {
        self.state.control &= !CONTROL_HOB;
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => if drive.state.task.status & status::BSY == 0 {
                drive.state.task.write(offset, value);
            });
        }
    }

    fn write_device(&mut self, value: u8) {
        self.state.selected = value >> 4 & 1;
        self.write_register(6, value);
    }

    fn write_command(&mut self, command: u8) {
        self.state.control &= !CONTROL_HOB;
        if self.state.control & CONTROL_SRST != 0 {
            return;
        }
        if command == EXECUTE_DIAGNOSTIC {
            self.execute_diagnostic();
        } else {
            let selected = self.selected();
            if let Some(drive) = &mut self.drives[selected] {
                each!(drive, drive => drive.command(command));
            }
        }
    }

    /// EXECUTE DEVICE DIAGNOSTIC goes to both drives; drive 0 asks for the interrupt (ATA/ATAPI-6, 8.11).
    fn execute_diagnostic(&mut self) {
        self.soft_reset();
        if let Some(drive) = &mut self.drives[0] {
            each!(drive, drive => drive.state.task.interrupt = true);
        }
    }

    fn soft_reset(&mut self) {
        self.state.selected = 0;
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.soft_reset());
        }
    }

    fn wants_interrupt(&self) -> bool {
        let pending = self.drives[self.selected()].as_ref();
        let pending = pending.is_some_and(|drive| each!(drive, drive => drive.state.task.interrupt));
        pending && self.state.control & CONTROL_NIEN == 0
    }

    fn update_irq(&mut self) {
        let high = self.wants_interrupt();
        if high && !self.irq.is_high() {
            self.state.bus_master.note_interrupt();
        }
        if high != self.irq.is_high() {
            self.irq.set(high);
        }
    }
}

impl Device for IdeChannel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reset(&mut self) {
        self.state = ChannelState::default();
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.hard_reset());
        }
        self.update_irq();
    }

    fn advance(&mut self, _now: Nanos) {
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.poll());
        }
        self.run_dma();
        self.update_irq();
    }

    fn save(&self) -> Section {
        let mut state = self.state.clone();
        for (unit, drive) in state.units.iter_mut().zip(&self.drives) {
            *unit = drive.as_ref().map(|drive| match drive {
                Drive::Disk(disk) => DriveState::Disk(disk.state.clone()),
                Drive::Cd(cd) => DriveState::Cd(cd.state.clone()),
            });
        }
        let mut section = Section::encode(self.name, 1, &state);
        for (name, unit) in ["unit0", "unit1"].into_iter().zip(&mut state.units) {
            let bytes = unit.as_mut().map_or(Vec::new(), |unit| unit.data().take_bytes());
            if !bytes.is_empty() {
                section = section.with_memory(name, bytes);
            }
        }
        section
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let mut state: ChannelState = section.decode(self.name, 1)?;
        let invalid = |reason: String| LoadError::invalid(self.name, reason);
        state.bus_master.check().map_err(invalid)?;
        if state.selected > 1 {
            return Err(invalid(format!("drive {} is selected", state.selected)));
        }
        for (unit, drive) in self.drives.iter().enumerate() {
            match (drive, &mut state.units[unit]) {
                (None, None) => {}
                (Some(Drive::Disk(disk)), Some(DriveState::Disk(saved))) => {
                    saved.data.load(section, ["unit0", "unit1"][unit])?;
                    disk.check(saved).map_err(|reason| invalid(format!("drive {unit}: {reason}")))?;
                }
                (Some(Drive::Cd(cd)), Some(DriveState::Cd(saved))) => {
                    saved.data.load(section, ["unit0", "unit1"][unit])?;
                    cd.check(saved).map_err(|reason| invalid(format!("drive {unit}: {reason}")))?;
                }
                _ => return Err(invalid(format!("drive {unit} is of another kind than in this machine"))),
            }
        }
        for (drive, saved) in self.drives.iter_mut().zip(&mut state.units) {
            match (drive, saved.take()) {
                (Some(Drive::Disk(disk)), Some(DriveState::Disk(saved))) => disk.take_over(saved),
                (Some(Drive::Cd(cd)), Some(DriveState::Cd(saved))) => cd.take_over(saved),
                _ => {}
            }
        }
        self.state = state;
        self.irq.restore(self.wants_interrupt());
        Ok(())
    }
}
