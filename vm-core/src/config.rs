//! What a machine is made of.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Least memory of a machine in MiB.
pub const MIN_MEMORY_MIB: u32 = 1;
/// Most memory in MiB: below the PCI hole of a 32-bit machine.
pub const MAX_MEMORY_MIB: u32 = 3072;

/// The part of a machine that a drive sits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DriveSlot {
    /// Floppy drive A (0) or B (1).
    Floppy(u8),
    /// IDE drive: 0 and 1 on the primary channel, 2 and 3 on the secondary.
    Ide(u8),
}

impl DriveSlot {
    /// The name that monitors use for a drive of this kind here: `floppy0`, `ide0-hd0`, `ide1-cd0`.
    pub fn monitor_name(self, kind: DriveKind) -> String {
        match self {
            Self::Floppy(number) => format!("floppy{number}"),
            Self::Ide(number) => {
                let kind = if kind == DriveKind::Cd { "cd" } else { "hd" };
                format!("ide{}-{kind}{}", number / 2, number % 2)
            }
        }
    }
}

impl fmt::Display for DriveSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Floppy(number) => write!(f, "floppy drive {}", if *number == 0 { 'A' } else { 'B' }),
            Self::Ide(number) => write!(f, "drive {}", number + 1),
        }
    }
}

/// What kind of drive it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveKind {
    /// A hard disk.
    Disk,
    /// A CD-ROM drive.
    Cd,
    /// A floppy drive.
    Floppy,
}

impl fmt::Display for DriveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "hard disk",
            Self::Cd => "CD drive",
            Self::Floppy => "floppy drive",
        })
    }
}

/// How an image file holds the bytes of its medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageFormat {
    /// One after the other.
    Raw,
    /// QEMU's image format: grows as it is written, may lie over another image.
    Qcow2,
}

impl ImageFormat {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Raw, Self::Qcow2].into_iter().find(|format| format.name() == name)
    }
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A drive and the medium in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveConfig {
    /// Where it sits.
    pub slot: DriveSlot,
    /// What it is.
    pub kind: DriveKind,
    /// The image file; `None`: the drive is empty.
    pub path: Option<PathBuf>,
    /// The image's format; `None`: found out by looking, and a guest may then not make a plain image look like another format.
    #[serde(default)]
    pub format: Option<ImageFormat>,
    /// The person asked for read-only.
    pub read_only: bool,
    /// Writes go to a temporary place and are gone at the end (`snapshot=on`).
    pub temporary: bool,
}

/// A kernel that is started directly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelConfig {
    /// A bzImage or multiboot image.
    pub kernel: PathBuf,
    /// Initial RAM disk; for multiboot a comma-separated list of modules, each with arguments after a space.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub append: String,
}

/// Where the battery-backed clock starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RtcBase {
    /// The host's time in UTC.
    #[default]
    Utc,
    /// The host's local time.
    LocalTime,
    /// This Unix time.
    At(i64),
}

/// What executes the guest's instructions. It is not hardware: a saved state resumes under any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accelerator {
    /// The interpreter, which runs everywhere.
    Interpreter,
    /// Native code of what runs often: made by templates where the host has them, else compiled by Cranelift.
    Templates,
    /// The same, and loops that run again and again are compiled by Cranelift.
    Cranelift,
}

/// Whether there are templates for this host.
const TEMPLATES: bool = cfg!(all(feature = "jit", target_arch = "x86_64", target_os = "linux"));
/// Whether Cranelift is there and makes code for this host.
const CRANELIFT: bool =
    cfg!(all(feature = "jit", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")));

impl Default for Accelerator {
    /// Templates where this host has them, else the interpreter.
    fn default() -> Self {
        if TEMPLATES { Self::Templates } else { Self::Interpreter }
    }
}

impl Accelerator {
    /// Whether there are templates for this host: else Cranelift makes all native code.
    pub const HAS_TEMPLATES: bool = TEMPLATES;
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Interpreter, Self::Templates, Self::Cranelift];

    /// The name in machine files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interpreter => "interpreter",
            Self::Templates => "jit",
            Self::Cranelift => "cranelift",
        }
    }

    /// The accelerator of a name in machine files.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|accelerator| accelerator.name() == name)
    }

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interpreter => "interp",
            Self::Templates => "jit",
            Self::Cranelift => "jit=cranelift",
        }
    }

    /// What it is, for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Interpreter => "interpreter",
            Self::Templates => "JIT",
            Self::Cranelift => "JIT (Cranelift)",
        }
    }

    /// Whether this program has it on this host.
    ///
    /// # Errors
    /// In words, why not.
    pub fn available(self) -> Result<(), &'static str> {
        match self {
            Self::Interpreter => Ok(()),
            _ if !cfg!(feature = "jit") => Err("this build of Hako is without native code"),
            Self::Templates | Self::Cranelift if CRANELIFT => Ok(()),
            Self::Templates if TEMPLATES => Ok(()),
            Self::Templates | Self::Cranelift => {
                Err("native code is made on hosts with x86-64, 64-bit ARM or 64-bit RISC-V processors only")
            }
        }
    }
}

/// A second engine that runs beside the accelerator and is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondEngine {
    /// Which it is.
    pub accelerator: Accelerator,
    /// From this instruction on slices are short and a report has the instructions in it.
    pub trace_from: Option<u64>,
}

/// A machine's hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// For titles and messages.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The processor's model name (`pentium-m`, see [`CpuModel`](crate::cpu::cpuid::CpuModel)).
    pub cpu: String,
    /// What executes it; no part of the hardware.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// What it is compared with while it runs; no part of the hardware either. Such a machine's drives lose what is written.
    #[serde(default)]
    pub second: Option<SecondEngine>,
    /// Drives.
    pub drives: Vec<DriveConfig>,
    /// Boot order as letters: a floppy, c disk, d CD, n network.
    pub boot: String,
    /// Directly started kernel.
    pub kernel: Option<KernelConfig>,
    /// With a display adapter.
    pub vga: bool,
    /// With high precision event timers.
    #[serde(default = "present")]
    pub hpet: bool,
    /// The clock.
    pub rtc: RtcBase,
    /// After a saved state or a snapshot the clock shows the time that was saved; else it follows the host again.
    #[serde(default)]
    pub keep_saved_time: bool,
    /// `isa-debug-exit` at this port, so many bytes wide.
    pub debug_exit: Option<(u16, u16)>,
    /// A reset by the guest ends the machine.
    pub no_reboot: bool,
    /// Power-off by the guest pauses instead of ending.
    pub no_shutdown: bool,
}

/// A machine has what its file says nothing of.
fn present() -> bool {
    true
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            name: "hako".to_owned(),
            memory_mib: 128,
            cpu: "pentium-m".to_owned(),
            accelerator: Accelerator::default(),
            second: None,
            drives: Vec::new(),
            boot: "cad".to_owned(),
            kernel: None,
            vga: true,
            hpet: true,
            rtc: RtcBase::Utc,
            keep_saved_time: false,
            debug_exit: None,
            no_reboot: false,
            no_shutdown: false,
        }
    }
}
