//! A machine's folder with a disk and memory, but without a processor: the engine of snapshots alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vm_core::bus::ram::GuestRam;
use vm_core::bus::signals::Signals;
use vm_core::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat, MachineConfig};
use vm_core::disk::{self, Access, BlockBackend, Operation, image};
use vm_core::snapshot::StateError;
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::{Captured, Keeper, Prepared, Restored, Wish};
use vm_core::snapshot::manifest::Hardware;
use vm_core::snapshot::section::Section;
use vm_core::snapshot::tree::{SnapshotId, SnapshotKind};

/// Places of the disk that are written and looked at: in three clusters and at its end.
pub const PLACES: [u64; 4] = [0, 200, 300, 8191];
pub const DISK: DriveSlot = DriveSlot::Ide(0);
pub const RAM: u64 = 1 << 20;

pub struct Rig {
    pub home: PathBuf,
    /// The image that the machine was made with; in its folder, or elsewhere.
    pub disk: PathBuf,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// What one instant of the machine is: all of it follows from one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World(pub u8);

impl Rig {
    pub fn new(name: &str, format: ImageFormat) -> Self {
        let home = std::env::temp_dir().join(format!("hako-snapshots-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).expect("a folder");
        let rig = Self { home, disk: PathBuf::from("disk.img") };
        image::create(&rig.disk(), Some(4 << 20), format, None).expect("a disk");
        rig
    }

    /// The same folder at another place, as after a crash of the computer.
    pub fn copy(&self, name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("hako-snapshots-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        copy_folder(&self.home, &home);
        Self { home, disk: self.disk.clone() }
    }

    pub fn disk(&self) -> PathBuf {
        self.home.join(&self.disk)
    }

    pub fn config(&self) -> MachineConfig {
        let drive = DriveConfig {
            slot: DISK,
            kind: DriveKind::Disk,
            path: Some(self.disk()),
            format: None,
            read_only: false,
            temporary: false,
        };
        MachineConfig { memory_mib: 1, drives: vec![drive], ..MachineConfig::default() }
    }

    pub fn open(&self) -> Result<Keeper, StateError> {
        Keeper::open(&self.home, Files::default())
    }

    /// The disk as the machine would open it now.
    pub fn medium(&self, keeper: &Keeper) -> Box<dyn BlockBackend> {
        let mut config = self.config();
        keeper.configure(&mut config).expect("the present can be opened");
        open(&config.drives[0].path.clone().expect("a disk"))
    }

    /// The number of the disk as it is now; all places must agree.
    pub fn disk_now(&self, keeper: &Keeper) -> World {
        world_of(&mut *self.medium(keeper))
    }

    /// Restores, and says what the machine sees; everything in it must be of one instant.
    pub fn restore(&self, keeper: &Keeper, id: SnapshotId, keep: bool) -> Result<(World, Restored), StateError> {
        let now = keep.then(|| keeper.media_of(&self.config()).expect("the media"));
        let (restored, mut media) = keeper.restore(id, &self.config(), now, |media| {
            Ok(media.iter().map(|medium| open(&medium.path)).collect::<Vec<_>>())
        })?;
        let world = world_of(&mut *media[0]);
        if let Some(state) = &restored.state {
            let ram = Arc::new(GuestRam::new(RAM, &Arc::new(Signals::new())).expect("memory"));
            ram.load_from(Arc::clone(&state.chunks) as _, true).expect("a thread");
            let mut bytes = vec![0; RAM as usize];
            ram.read(0, &mut bytes);
            assert_eq!(ram.failure(), None);
            assert!(bytes == memory(world), "memory is not of the moment of the disk ({world:?})");
            assert_eq!(state.sections, sections(world), "devices are not of the moment of the disk");
            assert_eq!(state.guest_time, u64::from(world.0));
        }
        Ok((world, restored))
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

pub fn open(path: &Path) -> Box<dyn BlockBackend> {
    let access = Access { format: None, read_only: false, temporary: false };
    disk::open(path, access, DriveKind::Disk, &Arc::new(Signals::new())).expect("the disk can be opened")
}

fn finish(medium: &mut dyn BlockBackend) -> Operation {
    loop {
        if let Some(completion) = medium.poll() {
            completion.result.expect("the host's disk works");
            return completion.operation;
        }
        std::thread::yield_now();
    }
}

pub fn write(medium: &mut dyn BlockBackend, world: World) {
    for sector in PLACES {
        medium.submit(1, Operation::Write { sector, buffer: vec![world.0; 512] });
        finish(medium);
    }
    medium.submit(1, Operation::Flush);
    finish(medium);
}

pub fn world_of(medium: &mut dyn BlockBackend) -> World {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for sector in PLACES {
        medium.submit(1, Operation::Read { sector, buffer: vec![0xee; 512] });
        let Operation::Read { buffer, .. } = finish(medium) else { panic!("another operation") };
        seen.push(buffer);
    }
    assert!(seen.iter().all(|sector| *sector == vec![seen[0][0]; 512]), "the disk is of several moments: {seen:?}");
    World(seen[0][0])
}

/// RAM of that instant: some of it the same at all times, some zeros, some its own.
pub fn memory(world: World) -> Vec<u8> {
    let mut bytes = vec![0; RAM as usize];
    bytes[0x1_0000..0x3_0000].fill(0x77);
    for at in (0x3_0000..0x8_0000).step_by(0x8000) {
        bytes[at..at + 100].fill(world.0);
    }
    bytes
}

pub fn sections(world: World) -> Vec<Section> {
    let video = vec![world.0; 100_000];
    vec![Section::encode("cpu", 1, &world.0), Section::encode("vga", 3, &"text").with_memory("video", video)]
}

pub fn wish(name: &str) -> Wish {
    Wish { name: Some(name.to_owned()), note: String::new(), kind: SnapshotKind::Manual, adopt: false }
}

/// The machine at an instant. RAM is overwritten behind the capture, as a guest would.
pub fn captured(world: World) -> Captured {
    let ram = Arc::new(GuestRam::new(RAM, &Arc::new(Signals::new())).expect("memory"));
    ram.write(0, &memory(world));
    let capture = ram.capture().expect("nothing else is being taken");
    ram.write(0x2_0000, &vec![0xbb; 0x4_0000]);
    ram.write(0xf_0000, &[0xbb; 10]);
    Captured {
        ram: capture,
        ram_len: RAM,
        sections: sections(world),
        guest_time: u64::from(world.0),
        host_time: 1_000_000_000,
        hardware: Hardware::of(&MachineConfig { memory_mib: 1, drives: Vec::new(), ..MachineConfig::default() }),
        picture: None,
    }
}

/// Takes a snapshot of a machine whose disk is `medium`, which goes on in another world.
pub fn take(
    rig: &Rig,
    keeper: &Keeper,
    medium: &mut dyn BlockBackend,
    world: World,
    after: World,
    adopt: bool,
) -> Result<Prepared, StateError> {
    let config = rig.config();
    let media = keeper.media_of(&config)?.into_iter().map(|mut now| {
        // What the machine really has open.
        medium.path().expect("a file").clone_into(&mut now.path);
        now.format = medium.format().expect("a file");
        now
    });
    let media = media.collect();
    write(medium, world);
    let prepared = keeper.prepare(media, Wish { adopt, ..wish(&format!("world {}", world.0)) })?;
    for (_, overlay) in &prepared.overlays {
        if let Err(error) = medium.freeze(overlay) {
            keeper.give_up(&prepared)?;
            return Err(StateError::Disk(error.to_string()));
        }
    }
    let mut captured = captured(world);
    captured.hardware = Hardware::of(&config);
    write(medium, after);
    keeper.write(&prepared, captured, &mut |_, _| true)?;
    Ok(prepared)
}
