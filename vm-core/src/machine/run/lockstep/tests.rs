//! The comparison itself: SeaBIOS on two engines, and what is said where one of them is wrong.

use std::sync::Arc;

use super::*;
use crate::bus::{Bus as _, Width};
use crate::config::Accelerator;

/// Long enough for SeaBIOS to have looked at all drives.
const BOOT: u64 = 60_000_000;

fn machine(second: SecondEngine) -> Machine {
    let config = MachineConfig {
        memory_mib: 16,
        accelerator: Accelerator::Interpreter,
        second: Some(second),
        ..MachineConfig::default()
    };
    let mut machine =
        Machine::new(config, Arc::new(Signals::new()), &FirmwareChoice::default(), Vec::new(), Vec::new())
            .expect("SeaBIOS is installed");
    machine.resume();
    machine
}

/// Runs so many instructions; the text where the engines differ.
fn run(machine: &mut Machine, instructions: u64) -> Result<(), String> {
    let until = machine.retired() + instructions;
    // A guest that waits makes no progress by instructions, only by time.
    // Before a minute of it is over, for then SeaBIOS resets.
    for _ in 0..8_000 {
        if machine.retired() >= until {
            break;
        }
        match machine.slice() {
            Slice::Stopped(StopReason::EnginesDiffer(text)) => return Err(text),
            Slice::Worked | Slice::Idle(_) => {}
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

fn twin(machine: &mut Machine) -> &mut Twin {
    machine.twin.as_mut().expect("a second machine")
}

#[test]
fn seabios_runs_the_same_on_all_engines() {
    for accelerator in Accelerator::ALL.into_iter().filter(|accelerator| accelerator.available().is_ok()) {
        let mut machine = machine(SecondEngine { accelerator, trace_from: None });
        if let Err(text) = run(&mut machine, BOOT) {
            panic!("{text}");
        }
        let mut twin = machine.twin.take().expect("a second machine");
        machine.compare_chips(&mut twin).expect("the same chips");
        assert!(machine.retired() > 1_000_000, "{} instructions", machine.retired());
        assert_eq!(machine.retired(), twin.cpu.retired);
        if accelerator != Accelerator::Interpreter {
            assert!(twin.cpu.code.stats.native_blocks > 100, "{:?}", twin.cpu.code.stats);
        }
    }
}

#[test]
fn a_wrong_register_is_named_with_both_values() {
    let mut machine = machine(SecondEngine { accelerator: Accelerator::default(), trace_from: None });
    run(&mut machine, 1_000_000).expect("no difference yet");
    let theirs = &mut twin(&mut machine).cpu;
    theirs.state.vector[3] ^= 1 << 77;
    let text = run(&mut machine, 1_000_000).expect_err("a difference");
    assert!(text.contains("xmm3: interp 0000"), "{text}");
    assert!(text.contains(",from="), "{text}");
}

#[test]
fn a_wrong_byte_of_memory_is_named_with_its_address() {
    let mut machine = machine(SecondEngine { accelerator: Accelerator::default(), trace_from: None });
    run(&mut machine, 1_000_000).expect("no difference yet");
    twin(&mut machine).board.ram.write(0x9_1234, &[0x5a]);
    let text = run(&mut machine, 2 * MEMORY).expect_err("a difference");
    assert!(text.contains("memory at 0x91234") && text.contains("5a"), "{text}");
}

#[test]
fn a_trace_says_which_instruction_wrote_what_differs() {
    let mut machine = machine(SecondEngine { accelerator: Accelerator::default(), trace_from: Some(1_000_000) });
    run(&mut machine, 1_000_100).expect("no difference yet");
    // Something that most code soon reads.
    let esp = &mut twin(&mut machine).cpu.state.gpr[4];
    *esp = esp.wrapping_sub(16);
    let text = run(&mut machine, 10_000).expect_err("a difference");
    assert!(text.contains("esp: interp") && text.contains("executed:"), "{text}");
}

#[test]
fn a_chip_that_differs_is_named() {
    let mut machine = machine(SecondEngine { accelerator: Accelerator::Interpreter, trace_from: None });
    run(&mut machine, 200_000).expect("no difference yet");
    let mut own = machine.twin.take().expect("a second machine");
    own.chips_due = 0;
    // A byte of CMOS memory that nobody uses.
    own.board.port_out(0x70, Width::Byte, 0x6e);
    own.board.port_out(0x71, Width::Byte, 0x77);
    machine.twin = Some(own);
    let text = run(&mut machine, 200_000).expect_err("a difference");
    assert!(text.contains("chip “rtc”"), "{text}");
}
