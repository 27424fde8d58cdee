//! The one file that names every chip and says where it sits.
//!
//! A board of 1997: 82441FX host bridge, PIIX3 with its ISA chips, PIIX4 IDE and power management, a VGA on PCI. It answers
//! the processor in `decode`.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::bus::clock::{Clock, Nanos};
use crate::bus::irq::{FIRST_APIC_ONLY, IrqLine, IrqLines, IrqRoutes, LEGACY_LINES};
use crate::bus::ram::GuestRam;
use crate::bus::signals::Signals;
use crate::chardev::CharBackend;
use crate::chardev::null::Null;
use crate::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat, MachineConfig};
use crate::cpu::cpuid::{CpuModel, feature};
use crate::cpu::msr::{TSC_HERTZ, apic_base};
use crate::dev::Device;
use crate::dev::apic::{self, LocalApic};
use crate::dev::debug_exit::DebugExit;
use crate::dev::debug_port::DebugPort;
use crate::dev::dma::Dma;
use crate::dev::fdc::Fdc;
use crate::dev::fw_cfg::{self, FwCfg};
use crate::dev::hpet::{Hpet, HpetLines};
use crate::dev::i440fx::I440fx;
use crate::dev::i8042::I8042;
use crate::dev::ide::{IdeChannel, MasterEnable, PciIde};
use crate::dev::ioapic::IoApic;
use crate::dev::pci::PciPorts;
use crate::dev::pic::Pic;
use crate::dev::piix3::Piix3;
use crate::dev::pit::Pit;
use crate::dev::pm::Pm;
use crate::dev::rtc::{CmosSetup, Rtc};
use crate::dev::serial::{Pace, Serial};
use crate::dev::speaker::Speaker;
use crate::dev::vga::Vga;
use crate::dev::vmmouse::VmMouse;
use crate::disk::identity::IdentityStep;
use crate::disk::sums::FileSums;
use crate::disk::{self, BlockBackend, SECTOR};
use crate::firmware::{self, Firmware, FirmwareChoice};
use crate::input::{AbsolutePointerEvent, KeyEvent, PointerEvent};
use crate::snapshot::section::{LoadError, Section};

use super::interrupts::{ApicSocket, Intr};

/// No machine has more than this in memories of devices (video memory, above all).
pub const MOST_DEVICE_MEMORY: u64 = 64 << 20;

/// Ports and interrupt lines of COM1 to COM4.
pub(super) const SERIAL: [(u16, u32); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// Names of their sections.
const SERIAL_NAMES: [&str; 4] = ["serial0", "serial1", "serial2", "serial3"];

/// Names of the debug consoles.
const DEBUG_NAMES: [&str; 4] = ["debug0", "debug1", "debug2", "debug3"];

/// The file that SeaBIOS takes the machine's serial number in SMBIOS from (structure 1, field 7). Linux looks there for the word "VMware"
/// before it looks for VMware's port, and believes what the port says of the machine's clocks.
const SERIAL_NUMBER: &str = "smbios/field1-7";
const SERIAL_NUMBER_TEXT: &[u8] = b"Hako, with VMware's pointer at port 5658h\0";

/// The file that SeaBIOS takes the sleep states of its ACPI tables from, a byte each: bit 7, it is there; the rest, its sleep type. S3
/// (suspend to RAM) is not there.
const SLEEP_STATES: &str = "etc/system-states";
const SLEEP_STATES_THERE: [u8; 6] = [0x80, 0, 0, 0, 0x82, 0x80];

/// What the firmware finds in the battery-backed memory.
fn cmos(config: &MachineConfig, floppy_types: [u8; 2]) -> CmosSetup {
    CmosSetup {
        memory: u64::from(config.memory_mib) << 20,
        boot_order: CmosSetup::boot_order_of(&config.boot),
        fpu: true,
        memory_above_4g: 0,
        floppy_types,
    }
}

/// Why a board cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The host has not so much memory.
    #[error("the host has no {0} MiB of memory to give: {1}. Choose less, or close other programs.")]
    NoMemory(u32, std::io::Error),
    /// Firmware.
    #[error(transparent)]
    Firmware(#[from] firmware::FirmwareError),
    /// Kernel or its files.
    #[error(transparent)]
    Kernel(#[from] firmware::kernel::KernelError),
    /// A medium.
    #[error("{0}: {1}")]
    Medium(DriveSlot, disk::MediumError),
    /// Two drives in one place, or a kind of drive in a place where it cannot be.
    #[error("{0}: {1}")]
    Drive(DriveSlot, &'static str),
}

/// What a board is made with beside its configuration.
pub struct BoardParts<'a> {
    /// Attention, A20 and requests.
    pub signals: Arc<Signals>,
    /// Guest time.
    pub clock: Clock,
    /// Where firmware is looked for.
    pub firmware: &'a FirmwareChoice,
    /// COM1 and up; `None`: the port leads nowhere.
    pub serial: Vec<Option<Box<dyn CharBackend>>>,
    /// Debug console ports.
    pub debug_ports: Vec<(u16, Box<dyn CharBackend>)>,
}

/// The medium in a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumInfo {
    /// The file.
    pub path: PathBuf,
    /// How it holds the bytes.
    pub format: ImageFormat,
    /// The guest cannot write to it.
    pub read_only: bool,
    /// Writes are gone at the end.
    pub temporary: bool,
    /// Its size.
    pub bytes: u64,
}

/// A drive of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Where it sits.
    pub slot: DriveSlot,
    /// What it is.
    pub kind: DriveKind,
    /// What is in it.
    pub medium: Option<MediumInfo>,
}

impl MediumInfo {
    /// What is known of an open medium; `None`: it is not a file.
    pub(super) fn of(medium: &dyn BlockBackend) -> Option<Self> {
        let path = medium.path()?.to_owned();
        let bytes = medium.sectors() * SECTOR;
        let format = medium.format().unwrap_or(ImageFormat::Raw);
        Some(Self { path, format, read_only: medium.read_only(), temporary: medium.temporary(), bytes })
    }
}

impl Drive {
    /// The file in it.
    pub fn path(&self) -> Option<PathBuf> {
        self.medium.as_ref().map(|medium| medium.path.clone())
    }
}

/// The local APIC that the machine's processor has; `None`: it is of a time before there were any.
fn apic_generation(config: &MachineConfig) -> Option<apic::Generation> {
    let model = CpuModel::from_name(&config.cpu).ok().filter(|model| model.has(feature::APIC))?;
    let extended = model.signature() >> 8 & 15 > 6 || model.signature() >> 4 & 15 >= 9;
    Some(if extended { apic::Generation::X } else { apic::Generation::P6 })
}

/// All chips of a PC.
pub struct Board {
    pub(super) signals: Arc<Signals>,
    pub(super) clock: Clock,
    pub(super) ram: Arc<GuestRam>,
    /// System firmware; its last 128 KiB show below 1 MiB, all of it ends at 4 GiB.
    pub(super) bios: Arc<[u8]>,
    pub(super) pci: PciPorts,
    pub(super) host_bridge: I440fx,
    pub(super) isa_bridge: Piix3,
    /// Power management.
    pub pm: Pm,
    pub(super) lines: Arc<IrqLines>,
    pub(super) pic: Pic,
    pub(super) ioapic: IoApic,
    pub(super) socket: ApicSocket,
    pub(super) intr: Intr,
    pub(super) hpet: Option<Hpet>,
    pub(super) pit: Pit,
    pub(super) rtc: Rtc,
    pub(super) dma: Dma,
    pub(super) i8042: I8042,
    pub(super) vmmouse: VmMouse,
    pub(super) speaker: Speaker,
    pub(super) serial: Vec<Serial>,
    pub(super) debug_ports: Vec<(u16, DebugPort)>,
    pub(super) debug_exit: Option<(u16, DebugExit)>,
    pub(super) fw_cfg: FwCfg,
    pub(super) fdc: Fdc,
    pub(super) ide: [IdeChannel; 2],
    pub(super) ide_function: PciIde,
    /// The display adapter.
    pub vga: Option<Vga>,
    pub(super) drives: Vec<Drive>,
    /// The processor's FERR# pin, wired to IRQ 13 as on a PC/AT.
    pub(super) ferr: IrqLine,
    /// The guest wrote port 0xF0: IGNNE# goes up until FERR# falls.
    pub(super) ignne: bool,
    /// The processor's SMIACT# pin: system management mode.
    pub(super) smi_active: bool,
}

impl Board {
    /// Puts the chips together, opens the media and hands firmware and kernel over. Nothing is reset yet.
    ///
    /// # Errors
    /// What is missing or wrong, in words.
    pub fn new(config: &MachineConfig, parts: BoardParts) -> Result<Self, BoardError> {
        let BoardParts { signals, clock, firmware, serial, debug_ports } = parts;
        let firmware = Firmware::find(firmware)?;
        let bytes = u64::from(config.memory_mib) << 20;
        let ram = GuestRam::new(bytes, &signals).map_err(|error| BoardError::NoMemory(config.memory_mib, error))?;
        let ram = Arc::new(ram);
        let lines = Arc::new(IrqLines::default());
        let routes = IrqRoutes::default();
        let irq = |number| IrqLine::new(&lines, &signals, number);

        let mut fw_cfg = FwCfg::new(&ram);
        fw_cfg.set_item(fw_cfg::key::NO_GRAPHIC, &u16::from(!config.vga).to_le_bytes());
        fw_cfg.set_item(fw_cfg::key::IRQ0_OVERRIDE, &1_u32.to_le_bytes());
        fw_cfg.add_file(SLEEP_STATES, SLEEP_STATES_THERE.to_vec());
        fw_cfg.add_file(SERIAL_NUMBER, SERIAL_NUMBER_TEXT.to_vec());
        if let Some(kernel) = &config.kernel {
            for file in firmware::kernel::load(kernel, bytes)?.files {
                fw_cfg.add_file(file.name, file.bytes);
            }
        }

        let dma = Dma::new(&ram);
        let pit = Pit::new(irq(0), clock.clone());
        let vga = config.vga.then(|| Vga::new(clock.clone(), Arc::clone(&signals), firmware.vga.to_vec()));
        let mut ports = serial.into_iter();
        let serial = SERIAL_NAMES.iter().zip(SERIAL).zip(&mut ports).map(|((name, (_, line)), backend)| {
            let backend = backend.unwrap_or_else(|| Box::new(Null));
            Serial::new(name, irq(line), clock.clone(), backend, Pace::Host)
        });
        let serial = serial.collect();
        let consoles = DEBUG_NAMES.into_iter().zip(debug_ports);
        let debug_ports = consoles.map(|(name, (port, backend))| (port, DebugPort::new(name, backend))).collect();
        let debug_exit = config.debug_exit.map(|(port, _)| (port, DebugExit::new(&signals)));
        let mut fdc = Fdc::new(irq(6), dma.handle(), clock.clone(), &signals);
        let master_enable = MasterEnable::default();
        let mut ide = [("ide0", 14), ("ide1", 15)]
            .map(|(name, line)| IdeChannel::new(name, irq(line), &ram, &master_enable, &signals));
        let mut drives = Vec::new();
        for drive in &config.drives {
            drives.push(install(drive, &drives, &mut fdc, &mut ide, &signals)?);
        }
        let own = HpetLines {
            legacy: LEGACY_LINES.map(irq),
            routed: std::array::from_fn(|n| irq(FIRST_APIC_ONLY + n as u32)),
        };
        let hpet = config.hpet.then(|| Hpet::new(own, &routes, clock.clone()));
        let apic = apic_generation(config).map(|generation| LocalApic::new(generation, clock.clone(), &signals));
        let page = apic.is_some().then_some(apic_base::RESET & apic_base::ADDRESS);
        let socket = ApicSocket { apic, page };
        let floppy_types = [fdc.drive_type(0), fdc.drive_type(1)];
        Ok(Self {
            pic: Pic::new(&lines, &routes),
            ioapic: IoApic::new(&lines, &routes),
            socket,
            intr: Intr::default(),
            hpet,
            rtc: Rtc::new(irq(8), clock.clone(), config.rtc, &cmos(config, floppy_types)),
            i8042: I8042::new(irq(1), irq(12), clock.clone(), &signals),
            vmmouse: VmMouse::new(TSC_HERTZ, apic::HERTZ as u32),
            speaker: Speaker::new(clock.clone()),
            ide_function: PciIde::new(&master_enable, &signals),
            pm: Pm::new(irq(9), irq(8), clock.clone(), &signals),
            host_bridge: I440fx::new(&signals),
            isa_bridge: Piix3::new(&routes, &signals),
            lines: Arc::clone(&lines),
            pci: PciPorts::new(),
            bios: firmware.bios,
            fdc,
            ide,
            drives,
            ferr: irq(13),
            ignne: false,
            smi_active: false,
            serial,
            debug_ports,
            debug_exit,
            fw_cfg,
            dma,
            pit,
            vga,
            signals,
            clock,
            ram,
        })
    }

    /// Every chip, in the order in which they are saved.
    fn chips(&mut self) -> impl Iterator<Item = &mut dyn Device> {
        let [primary, secondary] = &mut self.ide;
        let fixed: [&mut dyn Device; 17] = [
            &mut self.pic,
            &mut self.ioapic,
            &mut self.pci,
            &mut self.host_bridge,
            &mut self.isa_bridge,
            &mut self.ide_function,
            &mut self.pm,
            &mut self.dma,
            &mut self.pit,
            &mut self.speaker,
            &mut self.rtc,
            &mut self.i8042,
            &mut self.vmmouse,
            &mut self.fw_cfg,
            &mut self.fdc,
            primary,
            secondary,
        ];
        let consoles = self.debug_ports.iter_mut().map(|(_, console)| console as &mut dyn Device);
        let serial = self.serial.iter_mut().map(|port| port as &mut dyn Device);
        let vga = self.vga.iter_mut().map(|vga| vga as &mut dyn Device);
        let apic = self.socket.apic.iter_mut().map(|apic| apic as &mut dyn Device);
        let hpet = self.hpet.iter_mut().map(|hpet| hpet as &mut dyn Device);
        fixed.into_iter().chain(apic).chain(hpet).chain(serial).chain(consoles).chain(vga)
    }

    /// Resets every chip.
    pub fn reset(&mut self) {
        self.chips().for_each(Device::reset);
        self.smi_active = false;
        self.signals.take_smi();
        self.signals.take_nmi();
        self.signals.take_init();
        self.move_apic(apic_base::RESET);
        self.intr.stale = true;
        self.signals.set_a20(true);
        self.signals.map_changed();
    }

    /// The earliest moment at which a chip has something to do.
    pub fn next_event(&mut self) -> Option<Nanos> {
        self.chips().filter_map(|chip| chip.next_event()).min()
    }

    /// Lets every chip do what is due and take in what the host has ready.
    pub fn advance_all(&mut self, now: Nanos) {
        self.chips().for_each(|chip| chip.advance(now));
        self.intr.stale = true;
    }

    /// Lets the chips whose time has come do what is due; says how late the latest of them was.
    pub fn advance_due(&mut self, now: Nanos) -> Option<Nanos> {
        let mut lateness = None;
        for chip in self.chips() {
            if let Some(at) = chip.next_event()
                && at <= now
            {
                chip.advance(now);
                lateness = lateness.max(Some(now - at));
            }
        }
        self.intr.stale |= lateness.is_some();
        lateness
    }

    /// The state of every chip.
    pub fn save(&mut self) -> Vec<Section> {
        self.chips().map(|chip| chip.save()).collect()
    }

    /// Puts saved states into the chips.
    ///
    /// # Errors
    /// Where a section is missing, unknown or refused by its chip. The board must then be reset or thrown away.
    pub fn load(&mut self, sections: &[Section]) -> Result<(), LoadError> {
        for chip in self.chips() {
            let name = chip.name();
            let section = sections.iter().find(|section| section.kind == name);
            chip.load(section.ok_or_else(|| LoadError::invalid(name, "it is missing from the saved state"))?)?;
        }
        self.intr.stale = true;
        self.signals.map_changed();
        Ok(())
    }

    /// Tries failed disk requests again.
    pub fn retry(&mut self) {
        self.fdc.retry();
        self.ide.iter_mut().for_each(IdeChannel::retry);
    }

    /// Whether a request is on its way to a disk of the host.
    pub fn disks_busy(&self) -> bool {
        self.fdc.busy() || self.ide.iter().any(IdeChannel::busy)
    }

    /// Requests so far: floppy drives, then IDE drives.
    pub fn disk_requests(&self) -> [u64; 6] {
        let ide = |number: usize| self.ide[number / 2].requests(number % 2);
        [self.fdc.requests(0), self.fdc.requests(1), ide(0), ide(1), ide(2), ide(3)]
    }

    /// Keyboard LEDs, bits as in the keyboard's ED command.
    pub fn leds(&self) -> u8 {
        self.i8042.keyboard().leds()
    }

    /// A key.
    pub fn key(&mut self, event: KeyEvent) {
        self.i8042.key(event);
    }

    /// The battery's clock goes on by so many seconds at once.
    pub fn catch_up(&mut self, seconds: u64) {
        self.rtc.catch_up(seconds);
    }

    /// Every key that the guest believes to be down goes up.
    pub fn release_keys(&mut self) {
        self.i8042.release_all();
    }

    /// The pointer moved.
    pub fn pointer(&mut self, event: PointerEvent) {
        if self.vmmouse.motion(event) {
            self.i8042.nudge();
        } else {
            self.i8042.pointer(event);
        }
    }

    /// The pointer is somewhere. A guest that does not take positions gets buttons and wheel.
    pub fn absolute_pointer(&mut self, event: AbsolutePointerEvent) {
        if self.vmmouse.place(event) {
            self.i8042.nudge();
        } else {
            let AbsolutePointerEvent { wheel, buttons, .. } = event;
            self.i8042.pointer(PointerEvent { wheel, buttons, ..PointerEvent::default() });
        }
    }

    /// Whether the guest takes positions.
    pub fn takes_absolute_pointer(&self) -> bool {
        self.vmmouse.is_absolute()
    }

    /// Asks the thread of every medium to bring it to stable storage and to measure it; `known`: sums of their files from before.
    pub fn identify_media(&mut self, known: &Arc<Vec<FileSums>>) -> Vec<(DriveSlot, Receiver<IdentityStep>)> {
        let slots: Vec<_> = self.drives.iter().map(|drive| drive.slot).collect();
        let mut media = Vec::new();
        for slot in slots {
            let medium = self.medium(slot);
            if let Some(steps) = medium.and_then(|medium| medium.identify(known)) {
                media.push((slot, steps));
            }
        }
        media
    }

    /// The drives and what is in them.
    pub fn drives(&self) -> impl Iterator<Item = &Drive> {
        self.drives.iter()
    }
}

/// Puts a drive in, with its medium.
fn install(
    config: &DriveConfig,
    others: &[Drive],
    fdc: &mut Fdc,
    ide: &mut [IdeChannel; 2],
    signals: &Arc<Signals>,
) -> Result<Drive, BoardError> {
    let &DriveConfig { slot, kind, .. } = config;
    if others.iter().any(|drive| drive.slot == slot) {
        return Err(BoardError::Drive(slot, "two drives are to sit there: give each a place of its own"));
    }
    let access = disk::Access { format: config.format, read_only: config.read_only, temporary: config.temporary };
    let open = |path: &PathBuf| disk::open(path, access, kind, signals);
    let medium = config.path.as_ref().map(open).transpose().map_err(|error| BoardError::Medium(slot, error))?;
    let info = medium.as_deref().and_then(MediumInfo::of);
    match (slot, kind, medium) {
        (DriveSlot::Floppy(unit @ 0..=1), DriveKind::Floppy, medium) => fdc.attach(usize::from(unit), medium),
        (DriveSlot::Ide(number @ 0..=3), DriveKind::Disk, Some(medium)) => {
            ide[usize::from(number / 2)].attach_disk(usize::from(number % 2), medium);
        }
        (DriveSlot::Ide(number @ 0..=3), DriveKind::Cd, medium) => {
            ide[usize::from(number / 2)].attach_cd(usize::from(number % 2), medium);
        }
        (DriveSlot::Ide(0..=3), DriveKind::Disk, None) => {
            return Err(BoardError::Drive(slot, "a hard disk needs an image: choose one or make one"));
        }
        _ => return Err(BoardError::Drive(slot, "no drive of this kind can sit there")),
    }
    Ok(Drive { slot, kind, medium: info })
}
