//! What the monitor sees and does: the machine's thread as a [`MonitorTarget`].

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::event::{EndReason, Event, RunState};
use super::media::{BlockInfo, MediumChange};
use super::snapshots::SnapshotTask;
use super::worker::{KeyChord, Worker};
use crate::bus::Bus as _;
use crate::config::Accelerator;
use crate::cpu::block::log::CodeLog;
use crate::cpu::state::{CpuState, gpr};
use crate::debug::monitor::MonitorTarget;
use crate::frame::Frame;
use crate::input::Key;
use crate::machine::interrupts::InterruptControllers;
use crate::snapshot::keeper::Wish;
use crate::snapshot::tree::{SnapshotKind, SnapshotTree};
use crate::snapshot::{self, StateError};

const GENERAL: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
/// D/B of a segment's rights.
const BIG: u16 = 1 << 14;

fn registers_text(state: &CpuState) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let order = [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI, gpr::RBP, gpr::RSP];
    for (index, &number) in order.iter().enumerate() {
        let end = if index % 4 == 3 { '\n' } else { ' ' };
        let _ = write!(text, "{}={:08x}{end}", GENERAL[number].to_uppercase(), state.gpr[number] as u32);
    }
    let flags = state.flags.get();
    let letters: String = [(11, 'O'), (10, 'D'), (9, 'I'), (8, 'T'), (7, 'S'), (6, 'Z'), (4, 'A'), (2, 'P'), (0, 'C')]
        .iter()
        .map(|&(bit, letter)| if flags >> bit & 1 != 0 { letter } else { '-' })
        .collect();
    let halted = u8::from(state.halted);
    let _ = writeln!(text, "EIP={:08x} EFL={flags:08x} [{letters}] CPL={} HLT={halted}", state.rip as u32, state.cpl);
    let named = SEGMENTS.iter().zip(&state.seg).map(|(&name, segment)| (name, segment));
    for (name, segment) in named.chain([("ldt", &state.ldtr), ("tr", &state.tr)]) {
        let (base, limit, rights) = (segment.base as u32, segment.limit, segment.rights);
        let _ =
            writeln!(text, "{:<3}={:04x} {base:08x} {limit:08x} {rights:04x}", name.to_uppercase(), segment.selector);
    }
    for (name, table) in [("GDT", &state.gdtr), ("IDT", &state.idtr)] {
        let _ = writeln!(text, "{name}=     {:08x} {:08x}", table.base as u32, table.limit);
    }
    let [cr0, _, cr2, cr3, cr4] = state.cr;
    let _ = writeln!(text, "CR0={cr0:08x} CR2={cr2:08x} CR3={cr3:08x} CR4={cr4:08x}");
    let [dr0, dr1, dr2, dr3, _, _, dr6, dr7] = state.dr;
    let _ = writeln!(text, "DR0={dr0:08x} DR1={dr1:08x} DR2={dr2:08x} DR3={dr3:08x} DR6={dr6:08x} DR7={dr7:08x}");
    text
}

impl MonitorTarget for Worker {
    fn registers(&mut self) -> String {
        registers_text(&self.machine.parts().0.state)
    }

    fn register(&mut self, name: &str) -> Option<u64> {
        let state = &self.machine.parts().0.state;
        if let Some(number) = GENERAL.iter().position(|&known| known == name) {
            return Some(state.gpr[number]);
        }
        if let Some(number) = SEGMENTS.iter().position(|&known| known == name) {
            return Some(u64::from(state.seg[number].selector));
        }
        match name {
            "eip" | "pc" => Some(state.seg[1].base.wrapping_add(state.rip) & 0xffff_ffff),
            "eflags" => Some(u64::from(state.flags.get())),
            "cr0" => Some(state.cr[0]),
            "cr2" => Some(state.cr[2]),
            "cr3" => Some(state.cr[3]),
            "cr4" => Some(state.cr[4]),
            _ => None,
        }
    }

    fn code_bits(&mut self) -> u32 {
        if self.machine.parts().0.state.seg[1].rights & BIG != 0 { 32 } else { 16 }
    }

    fn state(&self) -> RunState {
        self.run_state()
    }

    fn interrupt_controllers(&mut self) -> InterruptControllers {
        self.machine.parts().1.interrupt_controllers()
    }

    fn log_code(&mut self, log: CodeLog) {
        self.machine.parts().0.log_code(log);
    }

    fn code_in_words(&mut self) -> String {
        let statistics = self.machine.statistics();
        let engine = statistics.engine.map_or("none", Accelerator::label);
        format!("engine: {engine}\n{}TLB misses: {}\n", statistics.code, statistics.tlb_misses)
    }

    fn blocks(&mut self) -> Vec<BlockInfo> {
        self.block_info()
    }

    fn read_physical(&mut self, address: u64, into: &mut [u8]) -> bool {
        let (_, board) = self.machine.parts();
        for (at, byte) in (address..).zip(into) {
            match board.page(at).read {
                // SAFETY: the page is mapped as plain memory of 4 KiB, and the offset is within it.
                Some(host) => *byte = unsafe { host.as_ptr().add((at & 0xfff) as usize).read() },
                None => return false,
            }
        }
        true
    }

    fn read_linear(&mut self, address: u64, into: &mut [u8]) -> bool {
        for (index, byte) in into.iter_mut().enumerate() {
            let (cpu, board) = self.machine.parts();
            let linear = (address as u32).wrapping_add(index as u32);
            let Some(physical) = cpu.look_up(board, linear) else { return false };
            if !self.read_physical(physical, std::slice::from_mut(byte)) {
                return false;
            }
        }
        true
    }

    fn pause(&mut self) {
        self.pause_machine();
    }

    fn resume(&mut self) {
        self.resume_machine();
    }

    fn reset(&mut self) {
        self.reset_machine();
    }

    fn power_button(&mut self) {
        self.machine.power_button();
        self.shared.publish(&Event::PowerButton);
    }

    fn quit(&mut self) {
        self.end = Some(EndReason::PowerOff);
    }

    fn save_and_close(&mut self, folder: &str) -> Result<(), String> {
        self.close((!folder.is_empty()).then(|| folder.into()))
    }

    fn save_state(&mut self, name: &str, adopt: bool) -> Result<(), String> {
        let name = (!name.is_empty()).then(|| name.to_owned());
        let wish = Wish { name, note: String::new(), kind: SnapshotKind::Manual, adopt };
        self.snapshot_work(SnapshotTask::Take(wish), None)
    }

    fn load_state(&mut self, name: &str) -> Result<(), String> {
        if let Some(id) = self.snapshots.tree().map_err(|error| error.to_string())?.find(name).map(|found| found.id) {
            return self.snapshot_work(SnapshotTask::Restore { id, keep: true }, None);
        }
        // A state of an older version.
        let folder = self.state_folder(name).filter(|folder| snapshot::exists(folder));
        let folder = folder.ok_or_else(|| StateError::NoSnapshot(name.to_owned()).to_string())?;
        self.load_and_go_on(&folder)
    }

    fn delete_state(&mut self, name: &str) -> Result<(), String> {
        let tree = self.snapshots.tree().map_err(|error| error.to_string())?;
        let id =
            tree.find(name).map(|found| found.id).ok_or_else(|| StateError::NoSnapshot(name.to_owned()).to_string())?;
        self.snapshot_work(SnapshotTask::Delete(vec![id]), None)
    }

    fn cancel_snapshot(&mut self) -> Result<(), String> {
        Worker::cancel_snapshot(self, None)
    }

    fn snapshots(&mut self) -> Result<SnapshotTree, String> {
        self.snapshots.tree().map_err(|error| error.to_string())
    }

    fn send_keys(&mut self, keys: Vec<Key>, hold_ms: u32) {
        self.chords.waiting.push_back(KeyChord::Press { keys, hold: Duration::from_millis(u64::from(hold_ms)) });
    }

    fn screen(&mut self) -> Option<Arc<Frame>> {
        self.show_frame();
        self.shared.frame.latest()
    }

    fn change_medium(&mut self, drive: &str, change: MediumChange) -> Result<(), String> {
        let slot = BlockInfo::named(&self.block_info(), drive)?.slot;
        Worker::change_medium(self, slot, &change)
    }
}

impl Worker {
    /// The folder of the state called `name`.
    fn state_folder(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(self.states.as_ref()?.join(name))
    }

    /// Goes to a saved state; the machine stands still where it is when anything does not fit.
    fn load_and_go_on(&mut self, folder: &Path) -> Result<(), String> {
        let was_running = self.running;
        self.pause_machine();
        let loaded = snapshot::load(&mut self.machine, folder).map_err(|error| error.to_string());
        if was_running && loaded.is_ok() {
            self.resume_machine();
        }
        loaded
    }
}
