//! Random runs of MMX, SSE and SSE2 instructions, here and on the host's own processor: registers, memory, EFLAGS, MXCSR,
//! the x87's tags, and which instruction raised an exception.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod compare;
mod host;
mod models;
mod rows;

use vm_core::bus::Bus;
use vm_core::cpu::Cpu;
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::state::gpr;

use compare::{GUEST_CODE, GUEST_WINDOW, compare, describe, guest};
use host::{Frame, Host, ONE};
use rows::{ciphers, floats, newer, scramble, whole_numbers};

use crate::flat_bus::FlatBus;
use crate::noise::Random;

#[test]
fn whole_number_vectors_are_as_on_the_host() {
    compare(0x1357_9bdf_0246_8ace, &whole_numbers(), |_| 0x1f80);
}

/// MXCSR as after reset, with some flags.
fn usual(random: &mut Random) -> u32 {
    0x1f80 | random.next() as u32 & 0x3f & random.next() as u32
}

/// Any rounding, denormals as zeros, tiny results as zeros; all exceptions masked.
fn masked(random: &mut Random) -> u32 {
    usual(random) | random.next() as u32 & 0xe040
}

/// The same with some exceptions not masked.
fn unmasked(random: &mut Random) -> u32 {
    masked(random) & !(random.next() as u32 & random.next() as u32 & 0x1f80)
}

#[test]
fn floats_are_as_on_the_host() {
    compare(0x0f1e_2d3c_4b5a_6978, &floats(), usual);
}

#[test]
fn floats_round_as_on_the_host() {
    compare(0x1122_3344_5566_7788, &floats(), masked);
}

#[test]
fn floats_raise_what_they_raise_on_the_host() {
    compare(0x8877_6655_4433_2211, &floats(), unmasked);
}

#[test]
fn floats_and_whole_numbers_mix_as_on_the_host() {
    compare(0x0bad_cafe_dead_beef, &[floats(), whole_numbers()].concat(), masked);
}

#[test]
fn newer_instructions_are_as_on_the_host() {
    let there = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
    if !(there && is_x86_feature_detected!("movbe")) {
        eprintln!("this host does not have them: nothing to compare with");
        return;
    }
    compare(0x1248_8421_1248_8421, &newer(), masked);
    compare(0x7531_0246_8ace_9bdf, &newer(), unmasked);
}

#[test]
fn ciphers_are_as_on_the_host() {
    let there = is_x86_feature_detected!("aes") && is_x86_feature_detected!("sha");
    if !(there && is_x86_feature_detected!("pclmulqdq")) {
        eprintln!("this host does not have them: nothing to compare with");
        return;
    }
    compare(0x0bad_cafe_1234_5678, &ciphers(), |_| 0x1f80);
}

#[test]
fn the_image_of_fxsave_is_the_hosts() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut host = Host::new();
    let mut random = Random(0x2468_ace0_1357_9bdf);
    let mut bus = FlatBus::new(0x1_0000);
    let mut cpu = guest(|| Cpu::new(CpuModel::PentiumM), &mut bus, GUEST_WINDOW);
    let mut frame = Frame::default();
    // fxrstor [ebx]; fxsave [ebx+0x400]; hlt
    bus.ram().write(GUEST_CODE, &[0x0f, 0xae, 0x0b, 0x0f, 0xae, 0x83, 0, 4, 0, 0, 0xf4]);
    for _ in 0..2000 {
        let mxcsr = random.next() as u32 & 0xffff | 0x1f80;
        scramble(&mut random, &mut frame, mxcsr);
        // Condition codes, sticky flags, and an unmasked exception that waits.
        frame.before[2] = random.next() as u8 & 0x7f;
        frame.before[3] = random.next() as u8 & 0x7f;
        frame.before[0] = random.next() as u8 & 0x3f | 0x40;
        frame.before[6..24].fill(0);
        bus.ram().write(GUEST_WINDOW, &frame.before);
        bus.ram().write(GUEST_WINDOW + 0x400, &[0xa5; 512]);
        cpu.state.gpr[gpr::RBX] = GUEST_WINDOW;
        cpu.state.rip = GUEST_CODE;
        cpu.state.halted = false;
        cpu.run(&mut bus, 10);
        frame.general[8] = 2;
        host.run(&[], &mut frame);
        let mut image = [0; 512];
        bus.ram().read(GUEST_WINDOW + 0x400, &mut image);
        assert_eq!(cpu.state.rip, GUEST_CODE + 11);
        assert_eq!(describe(&image), describe(&frame.after));
        // Bit 17 of the mask is AMD's.
        for range in [0..6, 24..30, 32..288] {
            assert_eq!(image[range.clone()], frame.after[range.clone()], "bytes {range:?}");
        }
        assert!(image[288..].iter().all(|byte| *byte == 0xa5), "the rest belongs to the program");
    }
}
