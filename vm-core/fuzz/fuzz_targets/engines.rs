//! Engines against each other: what `tests/cpu/lockstep.rs` does with its own noise, with code that the fuzzer finds.
//!
//! The input: a byte for the mode, eight for everything else that is random, then code.

#![no_main]

#[path = "../../tests/cpu/engine.rs"]
mod engine;
#[path = "../../tests/cpu/flat_bus.rs"]
mod flat_bus;
#[path = "../../tests/cpu/lockstep.rs"]
mod lockstep;
#[path = "../../tests/cpu/noise.rs"]
mod noise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[number, ref seed @ ..], code)) = data.split_first_chunk::<9>() else { return };
    // The generator stands still at 0.
    let mut random = noise::Random(u64::from_le_bytes(*seed) | 1);
    let mode = noise::MODES[usize::from(number) % noise::MODES.len()];
    let mut buses = lockstep::buses();
    let code = &code[..code.len().min(0x4000)];
    for engine in &engine::ENGINES[1..] {
        let start = random.0;
        lockstep::compare(engine, &mut buses, mode, &mut random, code);
        random.0 = start;
    }
});
