//! Two engines side by side: the same machine twice, compared after each slice in every register and flag, in memory and in every chip.
//!
//! ```text
//! chips of both: what is due ─▶ first engine runs freely; its interrupts are written down
//!                               second engine runs to the same moment, with its interrupts there
//!                               compare ─▶ guest time of both goes on by what was executed
//! ```
//! Guest time is a function of the instruction count, disks answer before the guest goes on, and random numbers are the same for both: a
//! run can be repeated. Memory is compared page by page where it may have been written (`GuestRam::written`); now and then both TLBs are
//! flushed so that these stay few. Chips are compared by what they would save.

mod guided;
mod report;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guided::{Guided, Role, Script};
use report::Step;

use super::{Machine, MachineError, SHORTEST_SLICE, Slice, engine, take_requests, wire_numeric_error};
use crate::bus::Moment;
use crate::bus::clock::{Clock, Nanos};
use crate::bus::signals::{Signals, StopReason};
use crate::chardev::CharBackend;
use crate::chardev::tee::{Watch, tee};
use crate::config::{DriveSlot, MachineConfig, RtcBase, SecondEngine};
use crate::cpu::cpuid::CpuModel;
use crate::cpu::{Cpu, Exit};
use crate::dev::rtc;
use crate::disk::Access;
use crate::firmware::FirmwareChoice;
use crate::machine::board::{Board, BoardParts};
use crate::runner::MediumChange;

/// Guest nanoseconds that an instruction takes.
const INSTRUCTION: Nanos = 5;
/// Most instructions between two comparisons of the registers.
const SLICE: u64 = 20_000;
/// The same from where the first engine is traced.
const TRACED: u64 = 32;
/// Instructions between two comparisons of memory,
const MEMORY: u64 = 500_000;
/// and of all chips.
const CHIPS: u64 = 50_000_000;
/// Pages to compare after which both TLBs are flushed.
const MOST_PAGES: usize = 1024;
/// Longest rest of a guest that waits.
const LONGEST_REST: Nanos = 4_000_000;
/// How long a disk of the host may take.
const DISK_PATIENCE: Duration = Duration::from_mins(2);

/// The second machine.
pub(super) struct Twin {
    cpu: Cpu,
    board: Board,
    clock: Clock,
    signals: Arc<Signals>,
    names: [&'static str; 2],
    script: Script,
    randoms: [u64; 2],
    /// From here on slices are short, and the first engine's instructions are traced.
    from: u64,
    trace: Vec<Step>,
    /// Attention was asked for while the first engine ran.
    attention: bool,
    memory_due: u64,
    chips_due: u64,
    lines: Vec<(&'static str, Watch)>,
}

/// The backends of the second machine.
type Lines = (Vec<Option<Box<dyn CharBackend>>>, Vec<(u16, Box<dyn CharBackend>)>);

/// The same hardware for both: nothing that one of them writes reaches a disk of the host, and the clock does not follow the host's.
pub(super) fn prepare(config: &mut MachineConfig) {
    for drive in &mut config.drives {
        drive.temporary = true;
    }
    config.rtc = RtcBase::At(rtc::seconds(config.rtc));
}

impl Twin {
    /// The second machine; the backends become those of both.
    pub fn new(
        config: &MachineConfig,
        second: SecondEngine,
        firmware: &FirmwareChoice,
        serial: &mut [Option<Box<dyn CharBackend>>],
        debug_ports: &mut [(u16, Box<dyn CharBackend>)],
    ) -> Result<Self, MachineError> {
        let model = CpuModel::from_name(&config.cpu).map_err(|error| MachineError::Cpu(error.to_string()))?;
        let mut lines = Vec::new();
        let (serial, debug_ports) = share(serial, debug_ports, &mut lines);
        let (clock, signals) = (Clock::manual(), Arc::new(Signals::new()));
        let parts = BoardParts { signals: Arc::clone(&signals), clock: clock.clone(), firmware, serial, debug_ports };
        let board = Board::new(config, parts)?;
        let cpu = engine(model, second.accelerator);
        board.ram.watch_writes();
        Ok(Self {
            cpu,
            board,
            clock,
            signals,
            names: [config.accelerator.word(), second.accelerator.word()],
            script: Script::default(),
            randoms: [0; 2],
            from: second.trace_from.unwrap_or(u64::MAX),
            trace: Vec::new(),
            attention: false,
            memory_due: MEMORY,
            chips_due: CHIPS,
            lines,
        })
    }

    /// Processor and board.
    pub fn parts(&mut self) -> (&mut Cpu, &mut Board) {
        (&mut self.cpu, &mut self.board)
    }

    /// Its guest time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The reset button.
    pub fn reset(&mut self) {
        self.signals.take_reset();
        self.cpu.reset();
        wire_numeric_error(&mut self.cpu, &mut self.board);
        self.board.reset();
    }

    /// The same change of a medium as the first had.
    pub fn change_medium(&mut self, slot: DriveSlot, change: &MediumChange, kept: Access) -> Result<(), String> {
        self.board.change_medium(slot, change, kept)
    }

    fn differ(&self, what: &str) -> String {
        format!("the engines {} and {} differ: {what}", self.names[0], self.names[1])
    }
}

fn twin_waits(now: Nanos) -> String {
    format!("a disk of the host does not answer; guest time is {now} ns")
}

fn share(
    serial: &mut [Option<Box<dyn CharBackend>>],
    debug_ports: &mut [(u16, Box<dyn CharBackend>)],
    lines: &mut Vec<(&'static str, Watch)>,
) -> Lines {
    let mut share = |name, backend: &mut Box<dyn CharBackend>| -> Box<dyn CharBackend> {
        let inner = std::mem::replace(backend, Box::new(crate::chardev::null::Null));
        let (first, second, watch) = tee(inner);
        *backend = Box::new(first);
        lines.push((name, watch));
        Box::new(second)
    };
    let serial = serial.iter_mut().map(|port| port.as_mut().map(|backend| share("a serial line", backend))).collect();
    let debug_ports =
        debug_ports.iter_mut().map(|(port, backend)| (*port, share("a debug console", backend))).collect();
    (serial, debug_ports)
}

impl Machine {
    /// One slice of both machines.
    pub(super) fn slice_of_both(&mut self, twin: &mut Twin) -> Slice {
        match self.both(twin) {
            Ok(slice) => slice,
            Err(text) => Slice::Stopped(StopReason::EnginesDiffer(text)),
        }
    }

    fn both(&mut self, twin: &mut Twin) -> Result<Slice, String> {
        let now = self.clock.now();
        let attention = self.signals().take_raised() | std::mem::take(&mut twin.attention);
        twin.signals.take_raised();
        if attention {
            self.board.advance_all(now);
            twin.board.advance_all(now);
        } else {
            self.board.advance_due(now);
            twin.board.advance_due(now);
        }
        self.let_disks_answer(twin, now)?;
        let ours = take_requests(&mut self.cpu, &mut self.board);
        let theirs = take_requests(&mut twin.cpu, &mut twin.board);
        let disk = |slice: &Option<Slice>| matches!(slice, Some(Slice::Stopped(StopReason::DiskError(_))));
        if ours != theirs && !disk(&ours) && !disk(&theirs) {
            return Err(twin.differ(&format!("the first asked for {ours:?}, the second for {theirs:?}")));
        }
        if let Some(outcome) = ours.or(theirs) {
            return Ok(outcome);
        }
        wire_numeric_error(&mut self.cpu, &mut self.board);
        wire_numeric_error(&mut twin.cpu, &mut twin.board);

        let traced = self.cpu.retired >= twin.from;
        let most = if traced { TRACED } else { SLICE.min(twin.from - self.cpu.retired) };
        let until = self.board.next_event().map_or(u64::MAX, |at| at.saturating_sub(now));
        let budget = (until / INSTRUCTION).clamp(SHORTEST_SLICE.min(most), most);
        let began = (self.cpu.moment(), report::upcoming(&self.cpu, &self.board).0);
        let exit = if traced { self.trace(twin, budget) } else { self.lead(twin, budget) };
        if let Err(text) = self.follow(twin, exit) {
            let registers = report::register_lines(twin.names, &self.cpu, &twin.cpu, &twin.trace);
            return Err(self.describe(twin, began, &format!("{text}; in\n{registers}")));
        }
        self.compare(twin, exit).map_err(|text| self.describe(twin, began, &text))?;

        let executed = self.cpu.retired.wrapping_sub(began.0.retired);
        let mut then = now + (executed * INSTRUCTION).max(1);
        let mut slice = Slice::Worked;
        if exit == Exit::TripleFault {
            slice = Slice::Stopped(StopReason::TripleFault);
        } else if exit == Exit::Halted && !twin.attention && !self.signals().raised() {
            let next = self.board.next_event().map_or(LONGEST_REST, |at| at.saturating_sub(then));
            let rest = next.min(LONGEST_REST);
            then += rest;
            slice = if rest == 0 { Slice::Worked } else { Slice::Idle(Duration::from_nanos(rest)) };
        }
        self.clock.set(then);
        twin.clock.set(then);
        Ok(slice)
    }

    /// Requests to disks of the host are through before the guest goes on: how long they take is nothing that can be repeated.
    fn let_disks_answer(&mut self, twin: &mut Twin, now: Nanos) -> Result<(), String> {
        let deadline = Instant::now() + DISK_PATIENCE;
        let mut failed = false;
        while !failed && (self.board.disks_busy() || twin.board.disks_busy()) {
            if Instant::now() > deadline {
                return Err(twin_waits(now));
            }
            // Each round is one of both machines: how often they look at their serial lines is compared.
            for board in [&mut self.board, &mut twin.board] {
                if board.disks_busy() {
                    board.signals.wait(Duration::from_millis(1));
                }
                board.signals.take_raised();
                board.advance_all(now);
                if let Some(reason) = board.signals.take_stop() {
                    // A disk that failed answers when it is tried again.
                    board.signals.request_stop(reason);
                    failed = true;
                }
            }
        }
        Ok(())
    }

    /// The first engine runs. It comes back where both will stand: whatever happens between two instructions has happened.
    fn lead(&mut self, twin: &mut Twin, budget: u64) -> Exit {
        let script = &mut twin.script;
        let randoms = &mut twin.randoms[0];
        let mut bus = Guided { board: &mut self.board, role: Role::First, script, randoms, asked: Moment::default() };
        let mut exit = self.cpu.run(&mut bus, budget);
        while exit == Exit::Attention {
            twin.attention = true;
            bus.board.signals.take_raised();
            exit = self.cpu.run(&mut bus, 0);
        }
        exit
    }

    /// The same, an instruction at a time.
    fn trace(&mut self, twin: &mut Twin, budget: u64) -> Exit {
        twin.trace.clear();
        let mut exit = Exit::Budget;
        for _ in 0..budget {
            twin.trace.push(Step::next(&self.cpu, &self.board));
            exit = self.lead(twin, 1);
            if exit != Exit::Budget || twin.attention {
                break;
            }
        }
        exit
    }

    /// The second engine runs to where the first stands. Where it goes further, in a string instruction, the first follows: it may stop
    /// behind other rounds, and before the fault of the next.
    fn follow(&mut self, twin: &mut Twin, exit: Exit) -> Result<(), String> {
        let mut stuck = 0;
        let mut shut_down = false;
        let mut fault_followed = false;
        loop {
            let (ours, theirs) = (self.cpu.moment(), twin.cpu.moment());
            if ours == theirs && twin.script.is_empty() && (exit != Exit::TripleFault || shut_down) {
                return Ok(());
            }
            let beyond = theirs.retired == ours.retired && theirs.deliveries > ours.deliveries;
            if beyond && exit == Exit::Budget && !fault_followed {
                fault_followed = true;
                self.lead(twin, 1);
                continue;
            }
            if stuck > 8 || beyond || shut_down && ours != theirs {
                let next = twin
                    .script
                    .front()
                    .map_or(String::new(), |at| format!(", where an interrupt was to be taken after {}", at.retired));
                return Err(format!(
                    "the first has completed {} instructions with {} interrupts and exceptions, the second {} with {}{next}",
                    ours.retired, ours.deliveries, theirs.retired, theirs.deliveries
                ));
            }
            if theirs.retired > ours.retired {
                self.lead(twin, theirs.retired - ours.retired);
                stuck += u32::from(self.cpu.moment() == ours);
                continue;
            }
            let goal = twin.script.front().copied().unwrap_or(ours).min(ours);
            let budget = if goal == theirs && !twin.script.is_empty() {
                0 // Only the interrupt.
            } else {
                goal.retired.saturating_sub(theirs.retired).max(1)
            };
            let Twin { cpu, board, script, randoms, .. } = twin;
            let mut bus =
                Guided { board, role: Role::Second, script, randoms: &mut randoms[1], asked: Moment::default() };
            bus.board.signals.take_raised();
            let waiting = bus.script.len();
            let mut ended = cpu.run(&mut bus, budget);
            while ended == Exit::Attention {
                bus.board.signals.take_raised();
                ended = cpu.run(&mut bus, 0);
            }
            let moved = cpu.moment() != theirs || script.len() != waiting;
            stuck = if moved { 0 } else { stuck + 1 };
            shut_down = ended == Exit::TripleFault;
        }
    }

    fn compare(&mut self, twin: &mut Twin, exit: Exit) -> Result<(), String> {
        let traced = self.cpu.retired >= twin.from;
        let same = report::same(&self.cpu, &twin.cpu);
        let mut text = String::new();
        if traced || !same || self.cpu.retired >= twin.memory_due || exit == Exit::TripleFault {
            twin.memory_due = self.cpu.retired + MEMORY;
            text = self.compare_memory(twin);
        }
        if !same || !text.is_empty() {
            let registers = report::register_lines(twin.names, &self.cpu, &twin.cpu, &twin.trace);
            return Err(format!("in\n{registers}{text}"));
        }
        if self.cpu.retired >= twin.chips_due {
            twin.chips_due = self.cpu.retired + CHIPS;
            self.compare_chips(twin)?;
        }
        match twin.lines.iter().find(|(_, watch)| watch.apart()) {
            Some((name, _)) => Err(format!("in what they wrote to {name}")),
            None => Ok(()),
        }
    }

    /// The bytes that differ, of pages that may have been written.
    fn compare_memory(&mut self, twin: &mut Twin) -> String {
        let mut text = String::new();
        let (ours, theirs) = (Arc::clone(&self.board.ram), Arc::clone(&twin.board.ram));
        let mut pages: Vec<u64> = ours.written().chain(theirs.written()).collect();
        pages.sort_unstable();
        pages.dedup();
        for &page in &pages {
            if let Some((at, one, other)) = ours.first_difference(&theirs, page) {
                let _ = writeln!(
                    text,
                    "  memory at {at:#x}, the first byte of its page that differs: {} {one:02x}, {} {other:02x}",
                    twin.names[0], twin.names[1]
                );
            }
        }
        if pages.len() > MOST_PAGES {
            for (cpu, ram) in [(&mut self.cpu, &ours), (&mut twin.cpu, &theirs)] {
                cpu.tlb.flush();
                ram.forget_written();
            }
        }
        text
    }

    fn compare_chips(&mut self, twin: &mut Twin) -> Result<(), String> {
        // Wires between the interrupt controllers are looked at when a processor asks.
        self.board.sync_interrupts();
        twin.board.sync_interrupts();
        for (ours, theirs) in self.board.save().iter().zip(twin.board.save()) {
            if *ours == theirs {
                continue;
            }
            let mut text = format!("in the chip “{}”", ours.kind);
            for (one, other) in ours.body.lines().zip(theirs.body.lines()).filter(|(one, other)| one != other) {
                let _ = write!(text, "\n  {}, instead of {}", other.trim(), one.trim());
            }
            if ours.memories != theirs.memories {
                text.push_str("\n  and in its memory");
            }
            return Err(text);
        }
        Ok(())
    }

    /// The whole report.
    fn describe(&mut self, twin: &Twin, began: (Moment, u32), what: &str) -> String {
        let mut text = twin.differ(what);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let (from, linear) = began;
        let _ = writeln!(
            text,
            "between instruction {}, at {linear:08x}, and {}; guest time {} ns",
            from.retired,
            self.cpu.retired,
            self.clock.now()
        );
        if twin.trace.is_empty() {
            let _ = write!(
                text,
                "To see the instructions, run it again with -accel diff={},{},from={}",
                twin.names[0], twin.names[1], from.retired
            );
        } else {
            let _ = write!(text, "executed:\n{}", report::trace_lines(&twin.trace));
        }
        text
    }
}

#[cfg(test)]
mod tests;
