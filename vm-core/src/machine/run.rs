//! A machine and one slice of its work.

mod lockstep;

use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, BoardError, BoardParts};
use crate::bus::Bus as _;
use crate::bus::clock::{Clock, Nanos, SECOND};
use crate::bus::signals::{Signals, StopReason};
use crate::chardev::CharBackend;
use crate::config::{Accelerator, DriveKind, DriveSlot, MAX_MEMORY_MIB, MIN_MEMORY_MIB, MachineConfig};
use crate::cpu::cpuid::CpuModel;
use crate::cpu::{Compilation, Cpu, Exit};
use crate::dev::vga::Vga;
use crate::disk::Access;
use crate::firmware::FirmwareChoice;
use crate::frame::Frame;
use crate::input::{AbsolutePointerEvent, KeyEvent, PointerEvent};
use crate::runner::{MediumAccess, MediumChange, Statistics};
use crate::snapshot::section::{LoadError, Section};
use lockstep::Twin;

/// Longest slice in guest time: bounds how late a timer and a command can be.
const LONGEST_SLICE: Nanos = 2_000_000;
/// Fewest instructions of a slice, so that a late deadline does not stop the guest's progress.
const SHORTEST_SLICE: u64 = 500;
/// Most instructions of a slice.
const MOST_INSTRUCTIONS: u64 = 200_000;

/// What came of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The guest worked.
    Worked,
    /// The guest waits for an interrupt, and nothing is due for so long.
    Idle(Duration),
    /// The guest asked for a reset; nothing has been reset yet.
    Reset,
    /// The machine has to stop.
    Stopped(StopReason),
}

/// Why a machine cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The amount of memory is not possible.
    #[error("{0} MiB of memory is not possible: choose between {MIN_MEMORY_MIB} and {MAX_MEMORY_MIB} MiB")]
    Memory(u32),
    /// The processor model is not known or not there yet.
    #[error("{0}")]
    Cpu(String),
    /// Firmware, kernel or a drive.
    #[error(transparent)]
    Board(#[from] BoardError),
}

/// A whole PC: processor, board and guest time.
pub struct Machine {
    cpu: Cpu,
    board: Board,
    clock: Clock,
    config: MachineConfig,
    /// Guest nanoseconds that a thousand instructions take, from the slices so far.
    pace: u64,
    lateness: Nanos,
    /// The same machine once more, with the engine that this one is compared with.
    twin: Option<Box<Twin>>,
}

impl Machine {
    /// Puts a machine together, paused at guest time 0 and reset.
    ///
    /// # Errors
    /// Impossible memory or processor, missing firmware, a medium that cannot be opened.
    pub fn new(
        mut config: MachineConfig,
        signals: Arc<Signals>,
        firmware: &FirmwareChoice,
        mut serial: Vec<Option<Box<dyn CharBackend>>>,
        mut debug_ports: Vec<(u16, Box<dyn CharBackend>)>,
    ) -> Result<Self, MachineError> {
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&config.memory_mib) {
            return Err(MachineError::Memory(config.memory_mib));
        }
        let model = CpuModel::from_name(&config.cpu).map_err(|error| MachineError::Cpu(error.to_string()))?;
        let mut twin = None;
        if let Some(second) = config.second {
            lockstep::prepare(&mut config);
            twin = Some(Box::new(Twin::new(&config, second, firmware, &mut serial, &mut debug_ports)?));
        }
        let clock = if twin.is_some() { Clock::manual() } else { Clock::host() };
        let parts = BoardParts { signals, clock: clock.clone(), firmware, serial, debug_ports };
        let board = Board::new(&config, parts)?;
        let cpu = engine(model, config.accelerator);
        if twin.is_some() {
            board.ram.watch_writes();
        }
        let mut machine = Self { cpu, board, clock, config, pace: 10_000, lateness: 0, twin };
        machine.reset();
        Ok(machine)
    }

    /// The hardware.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// Processor and board, for looking in from outside.
    pub fn parts(&mut self) -> (&mut Cpu, &mut Board) {
        (&mut self.cpu, &mut self.board)
    }

    /// Guest time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The machine's signals.
    pub fn signals(&self) -> &Signals {
        self.board.signals()
    }

    /// Instructions executed since power-on.
    pub fn retired(&self) -> u64 {
        self.cpu.retired
    }

    /// Stops guest time.
    pub fn pause(&mut self) {
        self.clock.pause();
        if let Some(twin) = &self.twin {
            twin.clock().pause();
        }
    }

    /// Lets guest time go on; failed disk requests are tried again.
    pub fn resume(&mut self) {
        self.clock.resume();
        self.board.retry();
        if let Some(twin) = &mut self.twin {
            twin.clock().resume();
            twin.parts().1.retry();
        }
    }

    /// The reset button.
    pub fn reset(&mut self) {
        self.signals().take_reset();
        self.cpu.reset();
        wire_numeric_error(&mut self.cpu, &mut self.board);
        self.board.reset();
        if let Some(twin) = &mut self.twin {
            twin.reset();
        }
    }

    /// The power button.
    pub fn power_button(&mut self) {
        self.each_board(|board| {
            board.pm.power_button();
        });
    }

    /// A key goes down or up.
    pub fn key(&mut self, event: KeyEvent) {
        self.each_board(|board| board.key(event));
    }

    /// Lets go of every key that the guest believes to be down.
    pub fn release_keys(&mut self) {
        self.each_board(Board::release_keys);
    }

    /// After a saved state was put in: the battery's clock catches up with the host, unless the person wants the saved time. `saved_at`:
    /// the host's time when it was saved, in seconds since 1970 (UTC).
    pub fn follow_host(&mut self, saved_at: u64) {
        if !self.config().keep_saved_time {
            // A host's clock that was set back stops no guest's.
            self.board.catch_up(crate::snapshot::host_seconds().saturating_sub(saved_at));
        }
    }

    /// The pointer moved.
    pub fn pointer(&mut self, event: PointerEvent) {
        self.each_board(|board| board.pointer(event));
    }

    /// The pointer is at a place of the picture.
    pub fn absolute_pointer(&mut self, event: AbsolutePointerEvent) {
        self.each_board(|board| board.absolute_pointer(event));
    }

    /// Whether the guest takes such places; where not, only buttons and wheel of them reach it.
    pub fn takes_absolute_pointer(&self) -> bool {
        self.board.takes_absolute_pointer()
    }

    /// Does with the medium of a drive what a person wants. A medium that is put in may be written, or loses its writes at the end, as
    /// the drive's was at the start, unless the change says otherwise.
    ///
    /// # Errors
    /// In words: there is no such drive, the guest has locked it, or the new medium cannot be opened; the old one then stays.
    pub fn change_medium(&mut self, slot: DriveSlot, change: &MediumChange) -> Result<(), String> {
        let drive = self.config.drives.iter_mut().find(|drive| drive.slot == slot);
        let drive = drive.ok_or("there is no such drive in this machine")?;
        let kept = Access { format: None, read_only: drive.read_only, temporary: drive.temporary };
        self.board.change_medium(slot, change, kept)?;
        if let Some(twin) = &mut self.twin {
            twin.change_medium(slot, change, kept)?;
        }
        match change {
            MediumChange::Insert { path, format, access, .. } => {
                drive.path = Some(path.clone());
                drive.format = *format;
                match access {
                    MediumAccess::Retain => {}
                    MediumAccess::ReadOnly => drive.read_only = true,
                    MediumAccess::ReadWrite => drive.read_only = drive.kind == DriveKind::Cd,
                }
            }
            MediumChange::Eject { .. } | MediumChange::Remove => drive.path = None,
            MediumChange::OpenTray { .. } | MediumChange::CloseTray => {}
        }
        Ok(())
    }

    /// The picture, where it has changed since the last call.
    pub fn render(&mut self) -> Option<Arc<Frame>> {
        let vga = self.board.vga.as_mut()?;
        let frame = vga.render();
        // From here on a store to video memory asks the board for its page again, and so shows in the next picture.
        if let Some(host) = vga.take_lent() {
            self.cpu.tlb.forget_writes(host);
        }
        frame
    }

    /// Whether the guest had a hand in the last picture, or only the hardware's own blinking.
    pub fn is_picture_by_guest(&self) -> bool {
        self.board.vga.as_ref().is_some_and(Vga::is_picture_by_guest)
    }

    /// Takes in finished disk requests and bytes from the host while the guest stands still.
    pub fn service_stopped(&mut self) {
        let now = self.clock.now();
        self.each_board(|board| board.advance_all(now));
    }

    /// The state of processor and chips.
    pub fn sections(&mut self) -> Vec<Section> {
        if self.signals().take_smi() {
            self.cpu.state.smi_pending = true;
        }
        if self.signals().take_nmi() {
            self.cpu.state.nmi_pending = true;
        }
        // An interrupt that came while the last disk requests ended is still on its line; it has to be in the state.
        self.board.sync_interrupts();
        std::iter::once(self.cpu.save()).chain(self.board.save()).collect()
    }

    /// Puts saved states into processor and chips.
    ///
    /// # Errors
    /// Where one is missing or refused. The machine must then be reset or thrown away.
    pub fn load_sections(&mut self, sections: &[Section]) -> Result<(), LoadError> {
        if self.twin.is_some() {
            let reason = "a machine that two engines run side by side (-accel diff) starts with its power button only";
            return Err(LoadError::invalid("cpu", reason));
        }
        let missing = || LoadError::invalid("cpu", "it is missing from the saved state");
        self.cpu.load_state(sections.iter().find(|section| section.kind == "cpu").ok_or_else(missing)?)?;
        self.board.load(sections)?;
        self.signals().take_smi();
        self.signals().take_nmi();
        self.board.set_smi_active(self.cpu.state.smm);
        self.board.set_apic_base(self.cpu.state.msr.apic_base);
        self.board.ferr.restore(self.cpu.fpu.ferr);
        Ok(())
    }

    /// Figures; instruction counts and speed are the caller's.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            guest_time: self.clock.now(),
            timer_lateness: self.lateness.max(self.clock.behind()),
            leds: self.board.leds(),
            disk_requests: self.board.disk_requests(),
            engine: Some(if self.cpu.makes_regions() {
                Accelerator::Cranelift
            } else if self.cpu.makes_native_code() {
                Accelerator::Templates
            } else {
                Accelerator::Interpreter
            }),
            tlb_misses: self.cpu.tlb.misses,
            code: self.cpu.code.stats,
            ..Statistics::default()
        }
    }

    /// One slice: chips that are due, then the processor until something needs them again.
    pub fn slice(&mut self) -> Slice {
        if let Some(mut twin) = self.twin.take() {
            let slice = self.slice_of_both(&mut twin);
            self.twin = Some(twin);
            return slice;
        }
        let now = self.clock.now();
        if self.signals().take_raised() {
            self.board.advance_all(now);
        } else {
            self.lateness = self.board.advance_due(now).unwrap_or(self.lateness);
        }
        if let Some(outcome) = take_requests(&mut self.cpu, &mut self.board) {
            return outcome;
        }
        wire_numeric_error(&mut self.cpu, &mut self.board);
        let until = self.board.next_event().map_or(LONGEST_SLICE, |at| at.saturating_sub(now)).min(LONGEST_SLICE);
        let budget = (until * 1000 / self.pace).clamp(SHORTEST_SLICE, MOST_INSTRUCTIONS);
        let before = self.cpu.retired;
        let exit = self.cpu.run_blocks(&mut self.board, budget);
        match exit {
            Exit::Budget => {
                let executed = self.cpu.retired.wrapping_sub(before).max(1);
                let took = self.clock.now().saturating_sub(now);
                let measured = (took.saturating_mul(1000) / executed).clamp(100, 1_000_000);
                self.pace = (self.pace * 7 + measured) / 8;
                Slice::Worked
            }
            Exit::Attention => take_requests(&mut self.cpu, &mut self.board).unwrap_or(Slice::Worked),
            Exit::Halted => {
                if self.signals().raised() {
                    return Slice::Worked;
                }
                let now = self.clock.now();
                let nap = self.board.next_event().map_or(SECOND, |at| at.saturating_sub(now));
                if nap == 0 { Slice::Worked } else { Slice::Idle(Duration::from_nanos(nap)) }
            }
            Exit::TripleFault => Slice::Stopped(StopReason::TripleFault),
        }
    }

    /// Does the same to the board, and to that of the machine beside it.
    fn each_board(&mut self, mut what: impl FnMut(&mut Board)) {
        what(&mut self.board);
        if let Some(twin) = &mut self.twin {
            what(twin.parts().1);
        }
    }
}

/// A processor that runs on an engine; where this host does not have it, it is interpreted.
fn engine(model: CpuModel, accelerator: Accelerator) -> Cpu {
    let mut cpu = Cpu::new(model);
    let outcome = match accelerator {
        Accelerator::Interpreter => Ok(()),
        Accelerator::Templates if Accelerator::HAS_TEMPLATES => cpu.use_native_code(),
        Accelerator::Cranelift if Accelerator::HAS_TEMPLATES => {
            cpu.use_native_code().and_then(|()| cpu.use_regions(Compilation::Behind))
        }
        Accelerator::Templates | Accelerator::Cranelift => cpu.use_regions(Compilation::Behind),
    };
    if let Err(error) = outcome {
        tracing::warn!("the machine is interpreted: {error}");
    }
    cpu
}

/// FERR# and IGNNE#, between the processor and the board (SDM vol. 1, D.2.1).
fn wire_numeric_error(cpu: &mut Cpu, board: &mut Board) {
    if std::mem::take(&mut board.ignne) {
        cpu.fpu.ignore_error();
    }
    board.ferr.set(cpu.fpu.ferr);
}

/// Requests to stop or reset that chips left.
fn take_requests(cpu: &mut Cpu, board: &mut Board) -> Option<Slice> {
    if let Some(reason) = board.signals.take_stop() {
        return Some(Slice::Stopped(reason));
    }
    if board.signals.take_reset() {
        return Some(Slice::Reset);
    }
    // In system management mode it waits for RSM.
    if !cpu.state.smm && board.signals.take_init() {
        cpu.init();
        board.init_apic();
    }
    None
}
