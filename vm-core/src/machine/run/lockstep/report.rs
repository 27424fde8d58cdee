//! What is said where two engines differ.

use std::fmt::Write as _;

use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};

use crate::bus::Bus as _;
use crate::cpu::Cpu;
use crate::cpu::state::SegReg;
use crate::machine::board::Board;

/// Registers that are named, at most; the rest is counted.
const MOST_LINES: usize = 24;

/// An instruction that the first engine executed by itself.
pub(super) struct Step {
    /// Instructions completed before it.
    retired: u64,
    linear: u32,
    text: String,
    /// What the registers were before it.
    registers: Vec<(String, String)>,
}

/// Every register by name, with its value.
pub(super) fn registers(cpu: &Cpu) -> Vec<(String, String)> {
    let state = &cpu.state;
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    for (name, value) in ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"].into_iter().zip(state.gpr) {
        add(name, format!("{value:08x}"));
    }
    add("eip", format!("{:08x}", state.rip));
    add("eflags", format!("{:08x}", state.flags.get()));
    for (name, segment) in ["es", "cs", "ss", "ds", "fs", "gs"].into_iter().zip(state.seg) {
        add(name, format!("{segment:x?}"));
    }
    add("ldtr", format!("{:x?}", state.ldtr));
    add("tr", format!("{:x?}", state.tr));
    add("gdtr", format!("{:x?}", state.gdtr));
    add("idtr", format!("{:x?}", state.idtr));
    for number in [0, 2, 3, 4] {
        add(&format!("cr{number}"), format!("{:08x}", state.cr[number]));
    }
    for number in [0, 1, 2, 3, 6, 7] {
        add(&format!("dr{number}"), format!("{:08x}", state.dr[number]));
    }
    add("pdpte", format!("{:x?}", state.pdpte));
    add("msr", format!("{:x?}", state.msr));
    add("mxcsr", format!("{:08x}", state.mxcsr));
    for (number, value) in state.vector.iter().take(8).enumerate() {
        add(&format!("xmm{number}"), format!("{value:032x}"));
    }
    add("x87", format!("{:x?}", cpu.fpu));
    add("cpl", format!("{}", state.cpl));
    add("smbase", format!("{:x}", state.smbase));
    let held = [
        ("halted", state.halted),
        ("system management mode", state.smm),
        ("interrupts held off", state.interrupt_shadow),
        ("debug traps held off", state.debug_shadow),
        ("smi waits", state.smi_pending),
        ("nmi waits", state.nmi_pending),
        ("nmi blocked", state.nmi_blocked),
    ];
    for (name, value) in held {
        add(name, value.to_string());
    }
    add("debug traps due", format!("{:x}", state.pending_debug));
    all
}

/// Whether a program could tell the two processors apart by a register.
pub(super) fn same(one: &Cpu, other: &Cpu) -> bool {
    let (a, b) = (&one.state, &other.state);
    a.gpr[..8] == b.gpr[..8]
        && a.rip == b.rip
        && a.flags.get() == b.flags.get()
        && a.seg == b.seg
        && (a.ldtr, a.tr, a.gdtr, a.idtr) == (b.ldtr, b.tr, b.gdtr, b.idtr)
        && (a.cr, a.pdpte, a.dr) == (b.cr, b.pdpte, b.dr)
        && (a.cpl, a.smm, a.halted, a.smbase, a.mxcsr) == (b.cpl, b.smm, b.halted, b.smbase, b.mxcsr)
        && (a.interrupt_shadow, a.debug_shadow, a.pending_debug)
            == (b.interrupt_shadow, b.debug_shadow, b.pending_debug)
        && (a.smi_pending, a.nmi_pending, a.nmi_blocked) == (b.smi_pending, b.nmi_pending, b.nmi_blocked)
        && a.vector[..8] == b.vector[..8]
        && a.msr == b.msr
        && one.fpu == other.fpu
}

/// What is about to be executed: its linear address and its text.
pub(super) fn upcoming(cpu: &Cpu, board: &Board) -> (u32, String) {
    let base = cpu.state.segment(SegReg::Cs).base;
    let linear = base.wrapping_add(cpu.state.rip) as u32;
    let mut bytes = [0; 15];
    let mut there = 0;
    for (index, byte) in bytes.iter_mut().enumerate() {
        let Some(physical) = cpu.look_up(board, linear.wrapping_add(index as u32)) else { break };
        let Some(host) = board.page(physical).read else { break };
        // SAFETY: the page is mapped as plain memory of 4 KiB, and the offset is within it.
        *byte = unsafe { host.as_ptr().add((physical & 0xfff) as usize).read() };
        there += 1;
    }
    let bits = if cpu.state.protected() && cpu.state.segment(SegReg::Cs).big() { 32 } else { 16 };
    let mut decoder = Decoder::with_ip(bits, &bytes[..there], cpu.state.rip, DecoderOptions::NONE);
    let insn = decoder.decode();
    let mut text = String::new();
    for byte in &bytes[..insn.len().min(there)] {
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, "{:width$}", "", width = 22_usize.saturating_sub(text.len()));
    IntelFormatter::new().format(&insn, &mut text);
    (linear, text)
}

impl Step {
    /// The instruction that a processor is about to execute.
    pub fn next(cpu: &Cpu, board: &Board) -> Self {
        let (linear, text) = upcoming(cpu, board);
        Self { retired: cpu.retired, linear, text, registers: registers(cpu) }
    }
}

/// The registers that differ, a line each; with a trace also which instruction of it wrote each last.
pub(super) fn register_lines(names: [&str; 2], one: &Cpu, other: &Cpu, trace: &[Step]) -> String {
    let (ours, theirs) = (registers(one), registers(other));
    let mut text = String::new();
    let mut count = 0;
    for ((name, one), (_, other)) in ours.iter().zip(&theirs).filter(|(one, other)| one.1 != other.1) {
        count += 1;
        if count > MOST_LINES {
            continue;
        }
        let _ = writeln!(text, "  {name}: {} {one}, {} {other}", names[0], names[1]);
        let value =
            |step: &Step| step.registers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        // Values before each instruction, and after the last.
        let mut after = Some(one.clone());
        for step in trace.iter().rev() {
            let before = value(step);
            if before != after {
                let _ = writeln!(
                    text,
                    "    last written by instruction {}, at {:08x}: {}",
                    step.retired, step.linear, step.text
                );
                break;
            }
            after = before;
        }
    }
    if count > MOST_LINES {
        let _ = writeln!(text, "  and {} registers more", count - MOST_LINES);
    }
    text
}

/// What was executed, a line each.
pub(super) fn trace_lines(trace: &[Step]) -> String {
    trace.iter().fold(String::new(), |mut text, step| {
        let _ = writeln!(text, "  {:>12}  {:08x}  {}", step.retired, step.linear, step.text);
        text
    })
}
