//! What `state.ron` says.

use ron::value::RawValue;
use serde::{Deserialize, Serialize};

use super::section::{LoadError, Memory, Section};
use crate::config::{DriveKind, DriveSlot, MachineConfig};
use crate::disk::identity::MediumIdentity;

/// Version of the file as a whole; devices count their own.
pub const FORMAT: u32 = 1;

/// A saved state, without its memories.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// Version of Hako that wrote it.
    pub hako: String,
    /// When, in seconds since 1970 (UTC).
    pub saved_at: u64,
    /// What must be the same again.
    pub hardware: Hardware,
    /// Every medium that was in a drive.
    pub media: Vec<Medium>,
    /// The file of memories.
    pub memories: MemoryFile,
    /// Guest time in nanoseconds.
    pub guest_time: u64,
    /// The host's time when the machine stopped, in seconds since 1970 (UTC); 0: written by a version that did not keep it.
    #[serde(default)]
    pub host_time: u64,
    /// Processor and devices.
    pub devices: Vec<Device>,
}

/// The hardware of a machine, as far as a guest can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// MiB.
    pub memory_mib: u32,
    /// Processor model.
    pub cpu: String,
    /// With a display adapter.
    pub vga: bool,
    /// With high precision event timers.
    #[serde(default)]
    pub hpet: bool,
    /// Drives, in the order of their slots.
    pub drives: Vec<(DriveSlot, DriveKind)>,
}

impl Hardware {
    /// The hardware that `config` describes.
    pub fn of(config: &MachineConfig) -> Self {
        let mut drives: Vec<_> = config.drives.iter().map(|drive| (drive.slot, drive.kind)).collect();
        drives.sort_by_key(|&(slot, _)| slot);
        Self { memory_mib: config.memory_mib, cpu: config.cpu.clone(), vga: config.vga, hpet: config.hpet, drives }
    }

    /// What differs between a saved machine and the one at hand: a line each, saved first. Empty: nothing.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: &str, saved: String, now: String| {
            if saved != now {
                lines.push(format!("{what}: saved {saved}, now {now}"));
            }
        };
        compare("memory", format!("{} MiB", self.memory_mib), format!("{} MiB", now.memory_mib));
        compare("processor", self.cpu.clone(), now.cpu.clone());
        let adapter = |there| if there { "present" } else { "absent" }.to_owned();
        compare("display adapter", adapter(self.vga), adapter(now.vga));
        compare("event timers", adapter(self.hpet), adapter(now.hpet));
        let mut slots: Vec<_> = self.drives.iter().chain(&now.drives).map(|&(slot, _)| slot).collect();
        slots.sort();
        slots.dedup();
        for slot in slots {
            let kind = |drives: &[(DriveSlot, DriveKind)]| {
                drives.iter().find(|&&(at, _)| at == slot).map_or("none".to_owned(), |&(_, kind)| kind.to_string())
            };
            compare(&slot.to_string(), kind(&self.drives), kind(&now.drives));
        }
        lines
    }
}

/// A medium as it was when the state was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Medium {
    /// The drive that it was in.
    pub slot: DriveSlot,
    /// What was in it.
    pub identity: MediumIdentity,
}

/// The raw file beside the manifest: guest RAM first, then the memories of the devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFile {
    /// Name in the same folder.
    pub file: String,
    /// Bytes of guest RAM at its start.
    pub ram: u64,
    /// Bytes in all.
    pub len: u64,
    /// Check sums of its chunks of 1 MiB, the last one shorter.
    pub checksums: Vec<u64>,
}

/// One device.
#[derive(Debug, Serialize, Deserialize)]
pub struct Device {
    /// [`Section::kind`].
    pub kind: String,
    /// [`Section::version`].
    pub version: u32,
    /// The state.
    pub state: Box<RawValue>,
    /// Name, offset in the file of memories, length.
    pub memories: Vec<(String, u64, u64)>,
}

impl Device {
    /// Takes a section apart; its memories start at `offset` of the file.
    ///
    /// # Errors
    /// Where the section's body is not RON.
    pub fn from_section(section: &Section, mut offset: u64) -> Result<Self, LoadError> {
        let state = RawValue::from_boxed_ron(section.body.clone().into_boxed_str())
            .map_err(|error| LoadError::Malformed { kind: section.kind.clone(), reason: error.to_string() })?;
        let place = |memory: &Memory| {
            let at = offset;
            offset += memory.bytes.len() as u64;
            (memory.name.clone(), at, memory.bytes.len() as u64)
        };
        let memories = section.memories.iter().map(place).collect();
        Ok(Self { kind: section.kind.clone(), version: section.version, state, memories })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_hardware_is_told_with_both_values() {
        let saved = Hardware::of(&MachineConfig { memory_mib: 256, ..MachineConfig::default() });
        let now = Hardware::of(&MachineConfig { memory_mib: 128, vga: false, ..MachineConfig::default() });
        let lines = saved.differences(&now);
        assert_eq!(lines, ["memory: saved 256 MiB, now 128 MiB", "display adapter: saved present, now absent"]);
        assert!(saved.differences(&saved).is_empty());
    }
}
