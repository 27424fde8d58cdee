//! Counts for people who watch.

use std::fmt;

/// Of how many turns of the dispatcher one is timed.
pub(in crate::cpu) const SAMPLED: u64 = 64;

/// Why the processor came back to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// The slice was over.
    pub budget: u64,
    /// Somebody wanted attention: a chip, a disk, a person.
    pub attention: u64,
    /// HLT.
    pub halted: u64,
    /// Shutdown.
    pub shutdown: u64,
}

/// Why native code was left for the dispatcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves {
    /// A way to code that is not native, or whose page may be mapped elsewhere by now; or attention at a jump back.
    pub way: u64,
    /// An indirect jump to such code.
    pub jump: u64,
    /// An op that the interpreter executed wanted out: a fault, a device, a change of mode.
    pub op: u64,
}

/// Instructions that were executed, and how long that took, in turns that were timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Instructions.
    pub instructions: u64,
    /// Nanoseconds.
    pub nanos: u64,
}

impl Sample {
    /// Millions of instructions a second.
    pub fn mips(self) -> f64 {
        if self.nanos == 0 { 0.0 } else { self.instructions as f64 * 1000.0 / self.nanos as f64 }
    }
}

/// Counts of translated code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeStats {
    /// Blocks translated.
    pub blocks: u64,
    /// Guest instructions translated.
    pub instructions: u64,
    /// Blocks dropped because their code was written.
    pub killed: u64,
    /// Blocks dropped because they were the oldest,
    pub aged: u64,
    /// and parts emptied for that.
    pub parts: u64,
    /// Times that everything was dropped.
    pub flushes: u64,
    /// Turns of the dispatcher.
    pub dispatches: u64,
    /// Exceptions that were delivered,
    pub faults: u64,
    /// and interrupts.
    pub interrupts: u64,
    /// Blocks that templates were made of,
    pub native_blocks: u64,
    /// those of them that were made once more because they are hot,
    pub hot_blocks: u64,
    /// their instructions,
    pub native_instructions: u64,
    /// the bytes of that code,
    pub native_bytes: u64,
    /// and the nanoseconds that it took.
    pub native_nanos: u64,
    /// Regions compiled,
    pub regions: u64,
    /// their blocks,
    pub region_blocks: u64,
    /// their instructions,
    pub region_instructions: u64,
    /// the bytes of their code,
    pub region_bytes: u64,
    /// and the nanoseconds that it took, on whatever thread.
    pub region_nanos: u64,
    /// Times that a region was entered from elsewhere.
    pub region_entries: u64,
    /// Instructions that regions executed.
    pub region_executed: u64,
    /// Instructions that native code of both kinds executed.
    pub native_executed: u64,
    /// Times that native code was entered from the dispatcher.
    pub native_entries: u64,
    /// Times that it went on from one block to another without that, but with the help of Rust code.
    pub resumed: u64,
    /// Ops that native code had the interpreter execute.
    pub native_calls: u64,
    /// Why native code was left.
    pub leaves: Leaves,
    /// Why the processor came back.
    pub exits: Exits,
    /// The speed of the interpreter,
    pub interpreter: Sample,
    /// and of native code.
    pub native: Sample,
}

impl fmt::Display for CodeStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, instructions, killed, aged, parts, flushes, dispatches, faults, interrupts, .. } = self;
        let Self { native_blocks, hot_blocks, native_instructions, native_bytes, native_nanos, .. } = self;
        let Self { regions, region_blocks, region_instructions, region_bytes, region_nanos, .. } = self;
        let Self { region_entries, region_executed, .. } = self;
        let Self { native_executed, native_entries, resumed, native_calls, leaves, exits, interpreter, native, .. } =
            self;
        let per = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
        writeln!(f, "blocks: {blocks}, with {instructions} instructions")?;
        writeln!(
            f,
            "native: {native_blocks}, with {native_instructions} instructions in {native_bytes} bytes, made in {} ms \
             ({:.2} µs an instruction); {hot_blocks} of them once more, with sites",
            native_nanos / 1_000_000,
            per(*native_nanos, *native_instructions) / 1000.0
        )?;
        writeln!(
            f,
            "regions: {regions} of {region_blocks} blocks, with {region_instructions} instructions in {region_bytes} bytes, compiled in \
             {} ms ({:.2} µs an instruction); entered {region_entries} times, for {region_executed} instructions",
            region_nanos / 1_000_000,
            per(*region_nanos, *region_instructions) / 1000.0
        )?;
        writeln!(
            f,
            "dropped: {killed} blocks because they were written, {aged} because they were the oldest (in {parts} parts), everything \
             {flushes} times"
        )?;
        writeln!(f, "dispatches: {dispatches}, {faults} exceptions, {interrupts} interrupts")?;
        let Exits { budget, attention, halted, shutdown } = exits;
        writeln!(
            f,
            "came back: {budget} at the end of a slice, {attention} for attention, {halted} halted, {shutdown} shut down"
        )?;
        writeln!(
            f,
            "native code entered: {native_entries} times, {:.0} instructions each; {resumed} times on by itself, {native_calls} ops by \
             the interpreter",
            per(*native_executed, *native_entries)
        )?;
        let Leaves { way, jump, op } = leaves;
        let rest = native_entries.saturating_sub(way + jump + op);
        writeln!(f, "native code left: {way} by a way, {jump} at an indirect jump, {op} for an op, {rest} otherwise")?;
        writeln!(f, "speed: interpreter {:.0} MIPS, native code {:.0} MIPS", interpreter.mips(), native.mips())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_instructions_over_time() {
        assert!((Sample { instructions: 500, nanos: 1000 }.mips() - 500.0).abs() < 1e-9);
        assert!(Sample::default().mips().abs() < 1e-9);
        let text = CodeStats { native_blocks: 2, native_instructions: 9, ..CodeStats::default() }.to_string();
        assert!(text.contains("native: 2, with 9 instructions"), "{text}");
    }
}
