//! What a machine is made of, and its file `machine.ron`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use vm_core::config::{self, DriveConfig, DriveKind, DriveSlot, ImageFormat, KernelConfig, MachineConfig};
use vm_core::disk::image;

use super::file::{self, Field, Mistake};
use super::{FORMAT, Trouble, cannot_write, write_atomically};

pub use vm_core::config::Accelerator;

/// Where a drive sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the drive that it is named for")]
pub enum Place {
    FloppyA,
    FloppyB,
    Ide0,
    Ide1,
    Ide2,
    Ide3,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 6] = [Place::FloppyA, Place::FloppyB, Place::Ide0, Place::Ide1, Place::Ide2, Place::Ide3];

    /// The name in the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Place::FloppyA => "fda",
            Place::FloppyB => "fdb",
            Place::Ide0 => "hda",
            Place::Ide1 => "hdb",
            Place::Ide2 => "hdc",
            Place::Ide3 => "hdd",
        }
    }

    /// The name for people.
    pub fn label(self) -> &'static str {
        match self {
            Place::FloppyA => "Floppy drive A",
            Place::FloppyB => "Floppy drive B",
            Place::Ide0 => "IDE 0 (primary, first)",
            Place::Ide1 => "IDE 1 (primary, second)",
            Place::Ide2 => "IDE 2 (secondary, first)",
            Place::Ide3 => "IDE 3 (secondary, second)",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.name() == name)
    }

    /// The engine's name for it.
    pub fn slot(self) -> DriveSlot {
        match self {
            Place::FloppyA => DriveSlot::Floppy(0),
            Place::FloppyB => DriveSlot::Floppy(1),
            Place::Ide0 => DriveSlot::Ide(0),
            Place::Ide1 => DriveSlot::Ide(1),
            Place::Ide2 => DriveSlot::Ide(2),
            Place::Ide3 => DriveSlot::Ide(3),
        }
    }

    /// Whether a floppy drive sits there.
    pub fn is_floppy(self) -> bool {
        matches!(self, Place::FloppyA | Place::FloppyB)
    }
}

/// A drive and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Where it sits.
    pub place: Place,
    /// A CD drive (else a hard disk, or a floppy drive by its place).
    pub cd: bool,
    /// The image; relative to the machine's folder where it is not absolute. `None`: empty.
    pub path: Option<PathBuf>,
    /// How the image holds its bytes. It is found out once, when the image is attached: what a guest writes later changes nothing.
    pub format: Option<ImageFormat>,
    /// Writes are refused.
    pub read_only: bool,
    /// Writes are forgotten at power-off.
    pub temporary: bool,
    pub(crate) unknown: Vec<Field>,
}

impl Drive {
    /// A writable drive with this image.
    pub fn new(place: Place, cd: bool, path: Option<PathBuf>) -> Self {
        Self { place, cd, path, format: None, read_only: cd, temporary: false, unknown: Vec::new() }
    }

    /// The drive for people: “CD drive (hdc)”.
    pub fn words(&self) -> String {
        match self.kind() {
            DriveKind::Floppy => {
                self.place.label().to_lowercase().replace("drive a", "drive A").replace("drive b", "drive B")
            }
            DriveKind::Cd => format!("CD drive ({})", self.place.name()),
            DriveKind::Disk => format!("hard disk ({})", self.place.name()),
        }
    }

    /// Hard disk, CD or floppy.
    pub fn kind(&self) -> DriveKind {
        if self.place.is_floppy() {
            DriveKind::Floppy
        } else if self.cd {
            DriveKind::Cd
        } else {
            DriveKind::Disk
        }
    }
}

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The name to show.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The processor's model name.
    pub processor: String,
    /// What executes it.
    pub accelerator: Accelerator,
    /// Boot order as letters: a floppy, c disk, d CD.
    pub boot: String,
    /// Drives, by place.
    pub drives: Vec<Drive>,
    /// A kernel (bzImage or multiboot) that is started directly.
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub append: String,
    /// Minutes between snapshots that are taken by themselves; 0: none are.
    pub checkpoint_minutes: u32,
    /// After going back to a snapshot its clock shows the time that was saved; else it follows the host's again.
    pub keep_saved_time: bool,
    pub(crate) unknown: Vec<Field>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            name: String::new(),
            memory_mib: 128,
            processor: "pentium-m".into(),
            accelerator: Accelerator::default(),
            boot: "cad".into(),
            drives: Vec::new(),
            kernel: None,
            initrd: None,
            append: String::new(),
            checkpoint_minutes: 0,
            keep_saved_time: false,
            unknown: Vec::new(),
        }
    }
}

impl Machine {
    /// The drive at a place.
    pub fn drive(&self, place: Place) -> Option<&Drive> {
        self.drives.iter().find(|drive| drive.place == place)
    }

    /// Puts a drive in its place; `None` takes it out. What we do not know about the drive stays.
    pub fn set_drive(&mut self, place: Place, drive: Option<Drive>) {
        let old = self.drives.iter().position(|drive| drive.place == place).map(|index| self.drives.remove(index));
        if let Some(mut drive) = drive {
            if drive.unknown.is_empty() {
                drive.unknown = old.map(|old| old.unknown).unwrap_or_default();
            }
            self.drives.push(drive);
            self.drives.sort_by_key(|drive| drive.place);
        }
    }

    /// Finds out the format of every image that has none yet. Whether something was found. An image that is missing or of a format
    /// that we do not know stays without: the engine says what is wrong with it.
    pub fn settle_formats(&mut self, folder: &Path) -> bool {
        let mut found = false;
        for drive in &mut self.drives {
            if let (Some(path), None) = (&drive.path, drive.format) {
                drive.format = image::probe(&folder.join(path)).ok();
                found |= drive.format.is_some();
            }
        }
        found
    }

    /// Whether the guest can change what is on one of its media.
    pub fn writes_to_media(&self) -> bool {
        let writes = |drive: &Drive| drive.kind() != DriveKind::Cd && !drive.read_only && !drive.temporary;
        self.drives.iter().any(|drive| drive.path.is_some() && writes(drive))
    }

    /// The drives whose media can be changed.
    pub fn removable(&self) -> impl Iterator<Item = &Drive> {
        self.drives.iter().filter(|drive| drive.kind() != DriveKind::Disk)
    }

    /// Every file that it needs, with what it is.
    pub fn files(&self, folder: &Path) -> Vec<(String, PathBuf)> {
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for drive in &self.drives {
            if let Some(path) = &drive.path {
                files.push((drive.place.label().to_owned(), folder.join(path)));
            }
        }
        for (what, path) in [("Kernel", &self.kernel), ("Initial RAM disk", &self.initrd)] {
            if let Some(path) = path {
                files.push((what.to_owned(), folder.join(path)));
            }
        }
        files
    }

    /// What the images of its hard disks are; those that cannot be opened are left out.
    pub fn disks(&self, folder: &Path) -> Vec<(Place, image::ImageInfo)> {
        let disks = self.drives.iter().filter(|drive| drive.kind() == DriveKind::Disk);
        let info = |drive: &Drive| {
            let path = folder.join(drive.path.as_ref()?);
            Some((drive.place, image::info(&path, drive.format).ok()?))
        };
        disks.filter_map(info).collect()
    }

    /// What keeps it from starting, as far as a look at its files tells.
    pub fn attention(&self, folder: &Path) -> Option<Trouble> {
        if let Some(words) = memory_words(self.memory_mib) {
            return Some(Trouble::new(words, "Change the memory in Settings."));
        }
        self.files(folder).into_iter().find_map(|(what, path)| {
            file_words(&path).map(|words| {
                Trouble::new(format!("{what}: {words}"), "Put the file back, or choose another one in Settings.")
            })
        })
    }

    /// The engine's description of it.
    pub fn to_config(&self, folder: &Path) -> MachineConfig {
        MachineConfig {
            name: self.name.clone(),
            memory_mib: self.memory_mib,
            cpu: self.processor.clone(),
            accelerator: self.accelerator,
            drives: self
                .drives
                .iter()
                .map(|drive| DriveConfig {
                    slot: drive.place.slot(),
                    kind: drive.kind(),
                    path: drive.path.as_ref().map(|path| folder.join(path)),
                    format: drive.format,
                    read_only: drive.read_only || drive.kind() == DriveKind::Cd,
                    temporary: drive.temporary,
                })
                .collect(),
            boot: self.boot.clone(),
            keep_saved_time: self.keep_saved_time,
            kernel: self.kernel.as_ref().map(|kernel| KernelConfig {
                kernel: folder.join(kernel),
                initrd: self.initrd.as_ref().map(|initrd| folder.join(initrd).to_string_lossy().into_owned()),
                append: self.append.clone(),
            }),
            ..MachineConfig::default()
        }
    }

    /// Reads `machine.ron`.
    ///
    /// # Errors
    /// In words, with the file and the line.
    pub fn read(path: &Path) -> Result<Self, Trouble> {
        const LARGEST: u64 = 1 << 20;
        let show = path.display();
        let length = path.metadata().map_err(|error| unreadable(path, &error))?.len();
        if length > LARGEST {
            return Err(Trouble::new(
                format!("{show} is {length} bytes long; no machine needs so many."),
                "Is it another file?",
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Self::from_text(&text, path)
    }

    /// The same from the text of the file at `path`.
    ///
    /// # Errors
    /// In words, with the file and the line.
    pub fn from_text(text: &str, path: &Path) -> Result<Self, Trouble> {
        let show = path.display();
        Self::parse(text).map_err(|problem| match problem {
            Problem::Mistake(Mistake { line, what }) => Trouble::new(
                format!("{show}, line {line}: {what}"),
                "Correct the line in a text editor, then look again.",
            ),
            Problem::Newer(version) => Trouble::new(
                format!("{show} is of format {version}, newer than this Hako, which knows formats up to {FORMAT}."),
                "Use the newer Hako that wrote it. The file has not been touched.",
            ),
        })
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let mut fields = file::fields(text, 1)?;
        let missing = |name: &str| Mistake { line: 1, what: format!("there is no “{name}”") };
        let version: u32 = file::take(&mut fields, "version")?.ok_or_else(|| missing("version"))?;
        if version > FORMAT {
            return Err(Problem::Newer(version));
        }
        let standard = Self::default();
        let drives = match fields.iter().position(|field| field.name == "drives") {
            Some(index) => {
                let list = fields.remove(index);
                file::items(&list.value, list.line)
                    .into_iter()
                    .map(|(text, line)| parse_drive(&text, line))
                    .collect::<Result<Vec<_>, _>>()?
            }
            None => Vec::new(),
        };
        let accelerator_line = fields.iter().find(|field| field.name == "accelerator").map_or(1, |field| field.line);
        let accelerator = match file::take::<String>(&mut fields, "accelerator")? {
            None => Accelerator::default(),
            Some(name) => Accelerator::from_name(&name).ok_or_else(|| {
                Problem::Mistake(Mistake {
                    line: accelerator_line,
                    what: format!("accelerator: “{name}” is not there; “interpreter” and “jit” are"),
                })
            })?,
        };
        let mut machine = Self {
            name: file::take(&mut fields, "name")?.ok_or_else(|| missing("name"))?,
            memory_mib: file::take(&mut fields, "memory_mib")?.unwrap_or(standard.memory_mib),
            processor: file::take(&mut fields, "processor")?.unwrap_or(standard.processor),
            accelerator,
            boot: file::take(&mut fields, "boot")?.unwrap_or(standard.boot),
            drives,
            kernel: file::take::<Option<PathBuf>>(&mut fields, "kernel")?.flatten(),
            initrd: file::take::<Option<PathBuf>>(&mut fields, "initrd")?.flatten(),
            append: file::take(&mut fields, "append")?.unwrap_or_default(),
            checkpoint_minutes: file::take(&mut fields, "checkpoint_minutes")?.unwrap_or_default(),
            keep_saved_time: file::take(&mut fields, "keep_saved_time")?.unwrap_or_default(),
            unknown: Vec::new(),
        };
        machine.drives.sort_by_key(|drive| drive.place);
        machine.unknown = fields;
        Ok(machine)
    }

    /// Writes `machine.ron`, as a whole or not at all. Fields that we do not know are written back as they were.
    ///
    /// # Errors
    /// In words, where the disk does not let us.
    pub fn write(&self, path: &Path) -> Result<(), Trouble> {
        let mut machine = self.clone();
        if let Some(folder) = path.parent() {
            machine.own_files(folder);
        }
        write_atomically(path, machine.text().as_bytes()).map_err(|error| cannot_write(path, &error))
    }

    /// Names files in the machine's own folder as seen from there, so that the folder can be moved, copied and restored as one.
    fn own_files(&mut self, folder: &Path) {
        let Ok(folder) = std::path::absolute(folder) else { return };
        let drives = self.drives.iter_mut().filter_map(|drive| drive.path.as_mut());
        for path in drives.chain(self.kernel.as_mut()).chain(self.initrd.as_mut()) {
            if let Ok(own) = path.strip_prefix(&folder) {
                *path = own.to_owned();
            }
        }
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = String::from("// A machine of Hako. Change this by hand only while the machine is off.\n(\n");
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "    {name}: {value},");
        };
        line("version", &FORMAT.to_string());
        line("name", &quoted(&self.name));
        line("memory_mib", &self.memory_mib.to_string());
        line("processor", &quoted(&self.processor));
        line("accelerator", &quoted(self.accelerator.name()));
        line("boot", &quoted(&self.boot));
        let mut drives = String::from("[\n");
        for drive in &self.drives {
            let kind = if drive.place.is_floppy() {
                "floppy"
            } else if drive.cd {
                "cd"
            } else {
                "disk"
            };
            let _ = write!(
                drives,
                "        (slot: {}, kind: {}, path: {}, read_only: {}, temporary: {}",
                quoted(drive.place.name()),
                quoted(kind),
                option(drive.path.as_deref()),
                drive.read_only,
                drive.temporary
            );
            if let Some(format) = drive.format {
                let _ = write!(drives, ", format: {}", quoted(format.name()));
            }
            for field in &drive.unknown {
                let _ = write!(drives, ", {}: {}", field.name, field.value);
            }
            drives.push_str("),\n");
        }
        drives.push_str("    ]");
        line("drives", &drives);
        line("kernel", &option(self.kernel.as_deref()));
        line("initrd", &option(self.initrd.as_deref()));
        line("append", &quoted(&self.append));
        line("checkpoint_minutes", &self.checkpoint_minutes.to_string());
        line("keep_saved_time", &self.keep_saved_time.to_string());
        for field in &self.unknown {
            line(&field.name, &field.value);
        }
        text.push_str(")\n");
        text
    }
}

enum Problem {
    Mistake(Mistake),
    Newer(u32),
}

impl From<Mistake> for Problem {
    fn from(mistake: Mistake) -> Self {
        Problem::Mistake(mistake)
    }
}

fn parse_drive(text: &str, line: usize) -> Result<Drive, Mistake> {
    let mut fields = file::fields(text, line)?;
    let slot: String =
        file::take(&mut fields, "slot")?.ok_or_else(|| Mistake { line, what: "a drive without “slot”".into() })?;
    let place = Place::from_name(&slot)
        .ok_or_else(|| Mistake { line, what: format!("slot: “{slot}” is none of fda, fdb, hda, hdb, hdc, hdd") })?;
    let kind: Option<String> = file::take(&mut fields, "kind")?;
    let cd = match kind.as_deref() {
        Some("cd") if !place.is_floppy() => true,
        Some("disk") if !place.is_floppy() => false,
        Some("floppy") if place.is_floppy() => false,
        None => false,
        Some(other) => {
            return Err(Mistake { line, what: format!("kind: “{other}” does not fit slot “{slot}”") });
        }
    };
    let format_line = fields.iter().find(|field| field.name == "format").map_or(line, |field| field.line);
    let format = match file::take::<String>(&mut fields, "format")? {
        None => None,
        Some(name) => Some(ImageFormat::from_name(&name).ok_or_else(|| Mistake {
            line: format_line,
            what: format!("format: “{name}” is not known; “raw” and “qcow2” are"),
        })?),
    };
    let drive = Drive {
        place,
        cd,
        path: file::take::<Option<PathBuf>>(&mut fields, "path")?.flatten(),
        format,
        read_only: file::take(&mut fields, "read_only")?.unwrap_or(cd),
        temporary: file::take(&mut fields, "temporary")?.unwrap_or(false),
        unknown: fields,
    };
    Ok(drive)
}

fn quoted(text: &str) -> String {
    ron::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

fn option(path: Option<&Path>) -> String {
    path.map_or_else(|| "None".to_owned(), |path| format!("Some({})", quoted(&path.to_string_lossy())))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(format!("{}: {error}", path.display()), "Look at the file and its rights, then look again.")
}

/// A number of bytes for people: “2 GiB”, “1.5 MiB”.
pub(crate) fn size_words(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while unit + 1 < units.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {}", units[unit]),
        (whole, tenth) => format!("{whole}.{tenth} {}", units[unit]),
    }
}

/// Why a machine cannot have so much memory.
pub(crate) fn memory_words(mib: u32) -> Option<String> {
    (!(config::MIN_MEMORY_MIB..=config::MAX_MEMORY_MIB).contains(&mib)).then(|| {
        format!(
            "{mib} MiB of memory cannot be: choose between {} and {} MiB.",
            config::MIN_MEMORY_MIB,
            config::MAX_MEMORY_MIB
        )
    })
}

/// What is wrong with a file that a machine needs.
pub(crate) fn file_words(path: &Path) -> Option<String> {
    let show = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!("{show} is not there.")),
        Err(error) => Some(format!("{show}: {error}.")),
        Ok(data) if data.is_dir() => Some(format!("{show} is a folder, not a file.")),
        Ok(data) if data.is_file() && data.len() == 0 => Some(format!("{show} is empty.")),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_do_not_know_survives_a_rewrite() {
        let text = "(version: 1, name: \"A \\\"b\\\"\", colour: Some(Red), memory_mib: 32, drives: [\n (slot: \"hda\", path: Some(\"d.img\"), cache: (mode: Writeback)),\n (slot: \"hdc\", kind: \"cd\", path: None)], notes: [1, /* two */ 2])";
        let Ok(mut machine) = Machine::parse(text) else { panic!() };
        machine.memory_mib = 48;
        let mut drive = machine.drive(Place::Ide0).unwrap().clone();
        drive.path = Some("e.img".into());
        machine.set_drive(Place::Ide0, Some(drive));
        let written = machine.text();
        for kept in
            ["colour: Some(Red)", "cache: (mode: Writeback)", "notes: [1, /* two */ 2]", "memory_mib: 48", "e.img"]
        {
            assert!(written.contains(kept), "{kept} in {written}");
        }
        let Ok(again) = Machine::parse(&written) else { panic!("{written}") };
        assert_eq!(again.text(), written);
        assert_eq!(again.name, "A \"b\"");
        assert!(again.drive(Place::Ide2).unwrap().cd);
    }

    #[test]
    fn mistakes_name_the_line() {
        let words = |text: &str| match Machine::parse(text) {
            Err(Problem::Mistake(mistake)) => (mistake.line, mistake.what),
            Err(Problem::Newer(version)) => (0, version.to_string()),
            Ok(_) => panic!("{text}"),
        };
        assert_eq!(words("(\nversion: 1,\nname: \"x\",\nmemory_mib: \"much\",\n)").0, 4);
        assert_eq!(words("(\nversion: 1,\nname: \"x\",\ndrives: [\n(slot: \"hdx\")],\n)").0, 5);
        assert_eq!(words("(version: 2)"), (0, "2".to_owned()));
        assert!(words("(version: 1)").1.contains("name"));
        words("");
        words("\u{1F600}'\"((((");
        words("[1, 2]");
    }

    #[test]
    fn files_in_the_machine_s_own_folder_move_with_it() {
        let folder = std::env::temp_dir().join(format!("hako-own-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut machine = Machine::default();
        machine.set_drive(Place::Ide0, Some(Drive::new(Place::Ide0, false, Some(folder.join("disk.qcow2")))));
        machine.kernel = Some(PathBuf::from("/boot/vmlinuz"));
        machine.write(&folder.join("machine.ron")).unwrap();
        let read = Machine::read(&folder.join("machine.ron")).unwrap();
        assert_eq!(read.drives[0].path.as_deref(), Some(Path::new("disk.qcow2")));
        assert_eq!(read.kernel, machine.kernel);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn absurd_memory_is_said_in_words() {
        let machine = Machine { memory_mib: 0, ..Machine::default() };
        assert!(machine.attention(Path::new("/")).unwrap().what.contains("0 MiB"));
        let machine = Machine { memory_mib: u32::MAX, ..Machine::default() };
        assert!(machine.attention(Path::new("/")).is_some());
    }
}
