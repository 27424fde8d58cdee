//! Returns and jumps to places that change meanwhile, and returns to other places.

use vm_core::bus::Bus;
use vm_core::cpu::Exit;
use vm_core::cpu::state::gpr;

use crate::engine::{ENGINES, set_flat};
use crate::flat_bus::FlatBus;

/// Turns of the loop.
const TURNS: u32 = 2_000;
/// Where the page directory is.
const DIRECTORY: u64 = 0x8000;
/// And the page table.
const PAGES: u64 = 0x9000;
/// Where the function is.
const FUNCTION: u32 = 0x3000;
/// Where the loop is, and that its page may be mapped to instead.
const LOOP: u32 = 0x1000;
const OTHER: u32 = 0x5000;

/// The loop: `again: call FUNCTION; add eax, by; inc esi; dec ecx; jnz again; hlt`, at an address.
fn caller(at: u32, by: u8) -> Vec<u8> {
    let distance = FUNCTION.wrapping_sub(at + 5).to_le_bytes();
    [&[0xe8], &distance[..], &[0x83, 0xc0, by, 0x46, 0x49, 0x75, 0xf4, 0xf4]].concat()
}

/// An instruction with an absolute address.
fn to(code: &[u8], address: u32) -> Vec<u8> {
    [code, &address.to_le_bytes()].concat()
}

/// A function that in two turns of four maps the loop's page to its other place, and lets the processor know.
fn moves(tell: &[u8]) -> Vec<u8> {
    // test cl, 2; jz out; xor dword [entry], LOOP ^ OTHER; (tell); out: ret
    let step = [&to(&to(&[0x81, 0x35], PAGES as u32 + 4), LOOP ^ OTHER), tell].concat();
    [&[0xf6, 0xc1, 2, 0x74, step.len() as u8], &step[..], &[0xc3]].concat()
}

#[test]
fn returns_lead_to_what_is_there_now() {
    let end = LOOP + 0xffb; // The call ends with its page.
    let programs: &[(&str, u32, Vec<u8>)] = &[
        ("plain", LOOP, vec![0xc3]),
        ("plain, to the next page", end, vec![0xc3]),
        // inc byte [of the immediate]; ret
        ("what follows the call is written", LOOP, [to(&[0xfe, 0x05], LOOP + 7), vec![0xc3]].concat()),
        ("the same in the next page", end, [to(&[0xfe, 0x05], end + 7), vec![0xc3]].concat()),
        // invlpg [LOOP]
        ("the page moves, INVLPG", LOOP, moves(&to(&[0x0f, 0x01, 0x3d], LOOP))),
        // mov edx, cr3; mov cr3, edx
        ("the page moves, CR3", LOOP, moves(&[0x0f, 0x20, 0xda, 0x0f, 0x22, 0xda])),
        // add dword [esp], 3; ret
        ("behind the next instruction", LOOP, vec![0x83, 0x04, 0x24, 3, 0xc3]),
        // pop edx; jmp edx
        ("by a jump", LOOP, vec![0x5a, 0xff, 0xe2]),
        // pop edx; push edx; push edx; ret 4
        ("with the stack rewritten", LOOP, vec![0x5a, 0x52, 0x52, 0xc2, 4, 0]),
        // call down; add eax, 5; ret; down: add esp, 4; ret
        ("two frames at once", LOOP, vec![0xe8, 4, 0, 0, 0, 0x83, 0xc0, 5, 0xc3, 0x83, 0xc4, 4, 0xc3]),
        // mov ebx, 40; call down; ret; down: dec ebx; jz out; call down; add eax, 1; out: ret
        (
            "forty deep",
            LOOP,
            vec![
                0xbb, 40, 0, 0, 0, 0xe8, 1, 0, 0, 0, 0xc3, 0x4b, 0x74, 8, 0xe8, 0xf8, 0xff, 0xff, 0xff, 0x83, 0xc0, 1,
                0xc3,
            ],
        ),
        // mov edx, inner; call edx; call edx; ret; inner: inc eax; ret
        ("by a register", LOOP, [to(&[0xba], FUNCTION + 10), vec![0xff, 0xd2, 0xff, 0xd2, 0xc3, 0x40, 0xc3]].concat()),
    ];
    for (name, at, function) in programs {
        let parts = [(*at, caller(*at, 1)), (at - LOOP + OTHER, caller(*at, 7)), (FUNCTION, function.clone())];
        same_on_all(name, &parts, *at, TURNS);
    }
}

/// Jumps of the chain: more than are noted one by one as untrue once CR3 is loaded.
const CHAIN: u32 = 2_500;
/// Where it is: no place in a jump table is shared with LOOP.
const LINKS: u32 = 0x10_2000;

#[test]
fn more_jumps_than_are_noted_lead_to_what_is_there_now() {
    // Each link: mov edx, next; jmp edx. The last leads to LOOP: add eax, by; jmp ebx.
    let link = |number: u32| {
        let next = if number + 1 == CHAIN { LOOP } else { LINKS + 8 * (number + 1) };
        [to(&[0xba], next), vec![0xff, 0xe2, 0x90]].concat()
    };
    let chain: Vec<u8> = (0..CHAIN).flat_map(link).collect();
    let last = |by: u8| vec![0x83, 0xc0, by, 0xff, 0xe3];
    // again: mov ebx, back; mov edx, LINKS; jmp edx; back: (moves); inc esi; dec ecx; jnz again; hlt
    let mut moved = moves(&[0x0f, 0x20, 0xda, 0x0f, 0x22, 0xda]);
    moved.pop();
    let head = [to(&[0xbb], FUNCTION + 12), to(&[0xba], LINKS), vec![0xff, 0xe2]].concat();
    let back = (head.len() + moved.len() + 4) as i8;
    let main = [head, moved, vec![0x46, 0x49, 0x75, -back as u8, 0xf4]].concat();
    let parts = [(LOOP, last(1)), (OTHER, last(7)), (LINKS, chain), (FUNCTION, main)];
    same_on_all("a chain of jumps", &parts, FUNCTION, 200);
}

/// Runs a program from `start` on, with so many turns in ECX, on all engines: they end with the same registers after as many instructions,
/// and with the turns in ESI.
fn same_on_all(name: &str, parts: &[(u32, Vec<u8>)], start: u32, turns: u32) {
    let mut expected = None;
    for engine in ENGINES {
        let mut bus = FlatBus::new(3 << 20);
        bus.quiet = true;
        for (at, bytes) in parts {
            bus.ram().write((*at).into(), bytes);
        }
        bus.ram().write(DIRECTORY, &(PAGES as u32 | 3).to_le_bytes());
        for page in 0..0x400_u32 {
            bus.ram().write(PAGES + 4 * u64::from(page), &(page << 12 | 3).to_le_bytes());
        }
        bus.forget_code();
        let mut cpu = (engine.make)();
        cpu.state.gpr[gpr::RCX] = turns.into();
        cpu.state.gpr[gpr::RSP] = 0x7000;
        // Pages may be global: what is known of others is forgotten one by one where CR3 is loaded.
        (cpu.state.cr[3], cpu.state.cr[4]) = (DIRECTORY, 0x80);
        cpu.state.cr[0] |= 0x8001_0000;
        set_flat(&mut cpu, start);
        let exit = (0..10_000).map(|_| cpu.run(&mut bus, 1_000)).find(|exit| *exit != Exit::Budget);
        assert_eq!(exit, Some(Exit::Halted), "{}: {name}", engine.name);
        assert_eq!(cpu.state.gpr[gpr::RSI], u64::from(turns), "{}: {name}", engine.name);
        let state = (cpu.state.gpr, cpu.state.rip, cpu.state.flags, cpu.retired);
        let expected = expected.get_or_insert(state);
        assert_eq!(&state, expected, "{}: {name}", engine.name);
    }
}
