use super::*;
use crate::cpu::cpuid::CpuModel;
use crate::cpu::flags::{AF, CF, IF, OF, PF, SF, TF, ZF};
use crate::cpu::state::{Segment, cr0, gpr};
use crate::cpu::testbus::TestBus;

const CODE: u64 = 0x1000;

/// A processor in flat 32-bit protected mode with `code` at 0x1000 and a stack at 0x8000.
fn flat(code: &[u8]) -> (Cpu, TestBus) {
    let mut bus = TestBus::new(64);
    let mut cpu = Cpu::new(CpuModel::default());
    bus.put(CODE, code);
    let data = Segment { base: 0, limit: u32::MAX, rights: 0xc093, selector: 16 };
    cpu.state.seg = [data; 6];
    cpu.state.seg[1] = Segment { rights: 0xc09b, selector: 8, ..data };
    cpu.state.cr[0] |= cr0::PE;
    cpu.state.gpr = [0; 16];
    cpu.state.gpr[gpr::RSP] = 0x8000;
    cpu.state.rip = CODE;
    cpu.state_changed();
    (cpu, bus)
}

/// A processor in real mode with `code` at 0100:0000 and a stack at 0000:8000.
fn real(code: &[u8]) -> (Cpu, TestBus) {
    let mut bus = TestBus::new(64);
    let mut cpu = Cpu::new(CpuModel::default());
    bus.put(CODE, code);
    cpu.state.seg = [Segment::real(0); 6];
    cpu.state.seg[1] = Segment::real((CODE >> 4) as u16);
    cpu.state.gpr = [0; 16];
    cpu.state.gpr[gpr::RSP] = 0x8000;
    cpu.state.rip = 0;
    cpu.state_changed();
    (cpu, bus)
}

fn arithmetic(cpu: &Cpu) -> u32 {
    cpu.state.flags.get() & (CF | PF | AF | ZF | SF | OF)
}

#[test]
fn a_loop_runs_in_linked_blocks_and_stops_on_its_budget() {
    // mov ecx, 1000; xor eax, eax; l: add eax, ecx; dec ecx; jnz l; hlt
    let code = [0xb9, 0xe8, 3, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4];
    let (mut cpu, mut bus) = flat(&code);
    assert_eq!(cpu.run(&mut bus, 1000), Exit::Budget);
    assert_eq!(cpu.retired, 1000);
    assert_eq!(cpu.run(&mut bus, 1 << 20), Exit::Halted);
    assert_eq!(cpu.state.gpr[gpr::RAX], 500_500);
    assert_eq!(cpu.retired, 2 + 3 * 1000 + 1);
    assert_eq!(cpu.state.rip, CODE + code.len() as u64);
    // One at a time it is the same.
    let (mut one, mut bus) = flat(&code);
    while one.run(&mut bus, 1) == Exit::Budget {}
    assert_eq!((one.retired, one.state.gpr, one.state.rip), (cpu.retired, cpu.state.gpr, cpu.state.rip));
    assert_eq!(one.state.flags, cpu.state.flags);
}

#[test]
fn a_tight_loop_leaves_for_attention() {
    let (mut cpu, mut bus) = flat(&[0xeb, 0xfe]);
    let signals = std::sync::Arc::clone(&bus.signals);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        signals.raise();
    });
    assert_eq!(cpu.run(&mut bus, u64::MAX), Exit::Attention);
    thread.join().unwrap();
    assert!(cpu.retired > 100);
}

#[test]
fn a_store_changes_the_next_instruction_of_its_own_block() {
    // mov byte [0x1008], 0x42 (inc edx); nop; inc eax (changed to inc edx); hlt
    let (mut cpu, mut bus) = flat(&[0xc6, 0x05, 0x08, 0x10, 0, 0, 0x42, 0x90, 0x40, 0xf4]);
    assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
    assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]), (0, 1));
    assert_eq!(cpu.retired, 4);
}

#[test]
fn a_changed_loop_body_is_seen_by_the_block_that_links_to_it() {
    // mov ecx, 3; l: inc eax; mov byte [l], 0x42; dec ecx; jnz l; hlt
    let code = [0xb9, 3, 0, 0, 0, 0x40, 0xc6, 0x05, 0x05, 0x10, 0, 0, 0x42, 0x49, 0x75, 0xf5, 0xf4];
    let (mut cpu, mut bus) = flat(&code);
    assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
    assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]), (1, 2));
}

#[test]
fn code_written_by_dma_is_decoded_again() {
    let (mut cpu, mut bus) = flat(&[0x40, 0xf4]);
    assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
    bus.ram.write(CODE, &[0x42]);
    bus.signals.take_raised();
    cpu.state.halted = false;
    cpu.state.rip = CODE;
    assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
    assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]), (1, 1));
}

#[test]
fn an_instruction_across_two_pages() {
    let (mut cpu, mut bus) = flat(&[0xe9, 0xf9, 0x0f, 0, 0]);
    // At 0x1ffe: mov eax, 0x12345678; hlt
    bus.put(0x1ffe, &[0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4]);
    assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
    assert_eq!(cpu.state.gpr[gpr::RAX], 0x1234_5678);
    bus.put(0x2000, &[0x79]);
    cpu.state.halted = false;
    cpu.state.rip = CODE;
    bus.signals.take_raised();
    assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
    assert_eq!(cpu.state.gpr[gpr::RAX], 0x1234_7978);
}

#[test]
fn calls_returns_and_the_stack() {
    // push 7; call f; hlt; f: mov eax, [esp+4]; push eax; pop ebx; xchg eax, ecx; ret 4
    let code = [0x6a, 7, 0xe8, 1, 0, 0, 0, 0xf4, 0x8b, 0x44, 0x24, 4, 0x50, 0x5b, 0x91, 0xc2, 4, 0];
    let real_code = [0x6a, 7, 0xe8, 1, 0, 0xf4, 0x55, 0x89, 0xe5, 0x8b, 0x46, 4, 0x5d, 0x50, 0x5b, 0x91, 0xc2, 2, 0];
    for protected in [true, false] {
        let (mut cpu, mut bus) = if protected { flat(&code) } else { real(&real_code) };
        assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
        assert_eq!((cpu.state.gpr[gpr::RCX], cpu.state.gpr[gpr::RBX]), (7, 7));
        assert_eq!(cpu.state.gpr[gpr::RSP], 0x8000);
    }
}

#[test]
fn a_fault_leaves_registers_and_flags_as_they_were() {
    // Real mode: stc; mov bx, 0xffff; add ax, [bx]: #GP through vector 13.
    let (mut cpu, mut bus) = real(&[0xf9, 0xbb, 0xff, 0xff, 0x03, 0x07]);
    bus.put32(13 * 4, 0x0200_0000);
    bus.put(0x2000, &[0xf4]);
    assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
    assert_eq!(bus.get16(0x8000 - 6), 4, "IP of the instruction that faulted");
    assert_eq!(bus.get16(0x8000 - 2) & 0xff, 0x03, "CF as it was");
    assert_eq!(cpu.state.gpr[gpr::RAX], 0);
}

#[test]
fn too_long_locked_and_undefined_instructions() {
    for (bytes, vector) in [(&[0x66u8; 16][..], 13u64), (&[0xf0, 0x01, 0xc0][..], 6), (&[0x0f, 0x0b][..], 6)] {
        let (mut cpu, mut bus) = real(bytes);
        bus.put32(vector * 4, 0x0200_0000);
        bus.put(0x2000, &[0xf4]);
        assert_eq!(cpu.run(&mut bus, 10), Exit::Halted, "{bytes:x?}");
        assert_eq!(cpu.state.rip, 1);
    }
}

#[test]
fn single_steps_trap_after_each_instruction() {
    let (mut cpu, mut bus) = real(&[0x40, 0x40, 0xf4]);
    bus.put32(4, 0x0200_0000);
    // inc cx; iret
    bus.put(0x2000, &[0x41, 0xcf]);
    cpu.state.flags.update(TF, TF);
    assert_eq!(cpu.run(&mut bus, 6), Exit::Budget);
    assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RCX]), (2, 2));
}

#[test]
fn interrupts_wait_for_the_instruction_after_sti() {
    // sti; inc ax; inc ax; hlt
    let (mut cpu, mut bus) = real(&[0xfb, 0x40, 0x40, 0xf4]);
    bus.put32(8 * 4, 0x0200_0000);
    bus.put(0x2000, &[0xf4]);
    bus.interrupt = Some(8);
    assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
    assert_eq!(cpu.state.gpr[gpr::RAX], 1);
    assert!(!cpu.state.flags.has(IF));
}

#[test]
fn shifts_and_rotates() {
    let cases: &[(&[u8], u32, u32, u32, u32)] = &[
        // bytes, eax, flags before, eax after, CF and OF after
        (&[0xd1, 0xe0], 0xc000_0000, 0, 0x8000_0000, CF),
        (&[0xc1, 0xe0, 4], 0x1800_0000, 0, 0x8000_0000, CF),
        (&[0xd1, 0xe8], 0x8000_0001, 0, 0x4000_0000, CF | OF),
        (&[0xd1, 0xf8], 0x8000_0001, 0, 0xc000_0000, CF),
        (&[0xc0, 0xd0, 9], 0x81, CF, 0x81, CF),
        (&[0xd0, 0xd0], 0x81, 0, 0x02, CF | OF),
        (&[0xd1, 0xd8], 0x0000_0001, CF, 0x8000_0000, CF | OF),
        (&[0xc0, 0xc8, 8], 0x81, 0, 0x81, CF | OF),
        (&[0xc0, 0xc0, 32], 0x81, CF, 0x81, CF),
        (&[0x0f, 0xa4, 0xd0, 8], 0x1234_5678, 0, 0x3456_78aa, 0),
        (&[0x0f, 0xac, 0xd0, 8], 0x1234_5678, 0, 0xdd12_3456, 0),
    ];
    for &(bytes, before, flags, after, expect) in cases {
        let mut code = bytes.to_vec();
        code.push(0xf4);
        let (mut cpu, mut bus) = flat(&code);
        cpu.state.gpr[gpr::RAX] = u64::from(before);
        cpu.state.gpr[gpr::RDX] = 0xaabb_ccdd;
        cpu.state.flags.update(CF | OF, flags);
        assert_eq!(cpu.run(&mut bus, 10), Exit::Halted);
        assert_eq!(cpu.state.gpr[gpr::RAX], u64::from(after), "{bytes:x?}");
        if bytes[0] != 0xc0 || bytes[1] != 0xc8 {
            assert_eq!(arithmetic(&cpu) & (CF | OF), expect, "{bytes:x?}");
        }
    }
}

#[test]
fn division_and_its_fault() {
    // mov eax, 0x80000000; cdq; mov ecx, -1; idiv ecx
    let (mut cpu, mut bus) = flat(&[0xb8, 0, 0, 0, 0x80, 0x99, 0xb9, 0xff, 0xff, 0xff, 0xff, 0xf7, 0xf9]);
    cpu.state.idtr.limit = 0;
    assert_eq!(cpu.run(&mut bus, 100), Exit::TripleFault);
    assert_eq!((cpu.state.rip, cpu.state.gpr[gpr::RDX]), (CODE + 11, 0xffff_ffff));
    // mov ax, -7; cwd; mov cx, 2; idiv cx; hlt
    let (mut cpu, mut bus) = real(&[0xb8, 0xf9, 0xff, 0x99, 0xb9, 2, 0, 0xf7, 0xf9, 0xf4]);
    assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
    assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]), (0xfffd, 0xffff));
}

#[test]
fn bit_strings_reach_below_their_address() {
    // mov eax, -33; bts [0x3000], eax; setc dl; hlt
    let (mut cpu, mut bus) =
        flat(&[0xb8, 0xdf, 0xff, 0xff, 0xff, 0x0f, 0xab, 0x05, 0, 0x30, 0, 0, 0x0f, 0x92, 0xc2, 0xf4]);
    bus.put32(0x2ff8, 1);
    assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
    assert_eq!(bus.get32(0x2ff8), 0x8000_0001);
    assert_eq!(cpu.state.gpr[gpr::RDX], 0);
}

#[test]
fn compare_and_exchange_and_add() {
    // mov eax, 5; mov ecx, 9; cmpxchg [0x3000], ecx; setz dl; xadd [0x3000], ecx; hlt
    let code = [
        0xb8, 5, 0, 0, 0, 0xb9, 9, 0, 0, 0, 0x0f, 0xb1, 0x0d, 0, 0x30, 0, 0, 0x0f, 0x94, 0xc2, 0x0f, 0xc1, 0x0d, 0,
        0x30, 0, 0, 0xf4,
    ];
    for (memory, eax, result, ecx) in [(5, 5, 18, 9), (6, 6, 15, 6)] {
        let (mut cpu, mut bus) = flat(&code);
        bus.put32(0x3000, memory);
        assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
        assert_eq!(cpu.state.gpr[gpr::RAX], eax);
        assert_eq!(cpu.state.gpr[gpr::RCX], ecx);
        assert_eq!(cpu.state.gpr[gpr::RDX], u64::from(memory == 5));
        assert_eq!(bus.get32(0x3000), result);
    }
}
