//! Accesses whose page follows from the code alone: at constant addresses, and in tables whose index is bounded.

use vm_core::bus::Bus;
use vm_core::cpu::Exit;
use vm_core::cpu::state::gpr;

use crate::engine::{ENGINES, set_flat};
use crate::flat_bus::FlatBus;

/// Turns of the loop.
const TURNS: u32 = 3_000;
/// Where the page directory is.
const DIRECTORY: u64 = 0x8000;
/// And a page table.
const PAGES: u64 = 0x9000;

/// Linear addresses of two tables of double words, one of bytes, and a variable.
type Places = [u32; 4];

const PLACES: &[(&str, Places)] = &[
    ("in one page", [0x10_0000, 0x10_0400, 0x10_0800, 0x10_0ffc]),
    ("in four pages", [0x10_0c00, 0x10_1c00, 0x10_2f00, 0x10_3ffc]),
    ("across the ends of pages", [0x10_0e00, 0x10_1c01, 0x10_2f01, 0x10_3ffe]),
    ("in the upper half of all addresses", [0xc010_0000, 0xc010_0400, 0xc010_0800, 0xc010_0ffc]),
    ("where the code is", [0x1400, 0x1800, 0x1c00, 0x1ffc]),
    ("where code is read", [0x10_0000, 0x10_0400, 0x1000, 0x10_0ffc]),
    ("behind the end of memory", [0x30_fc00, 0x3f_0000, 0x30_0000, 0x3f_0ffc]),
    ("across the ends of pages that change places", [0xc010_0e00, 0xc010_1c01, 0xc010_2f01, 0xc010_3ffe]),
    ("in no page", [0x10_0000, 0x10_0400, 0x80_0000, 0x10_0ffc]),
    ("in no page where it writes", [0xc010_0000, 0xc010_0400, 0xc010_0800, 0xd000_0ffc]),
    ("at the end of all addresses", [0xffff_fc00, 0xffff_fc01, 0xffff_ff00, 0xffff_fffe]),
];

fn program([words, others, bytes, variable]: Places) -> Vec<u8> {
    let at = |code: &[u8], place: u32| [code, &place.to_le_bytes()].concat();
    let body = [
        vec![0x0f, 0xb6, 0xd9],             // again: movzx ebx, cl
        at(&[0x8b, 0x04, 0x9d], words),     //        mov eax, [words + ebx*4]
        at(&[0x01, 0x05], variable),        //        add [variable], eax
        at(&[0x89, 0x0c, 0x9d], others),    //        mov [others + ebx*4], ecx
        vec![0x89, 0xda, 0xc1, 0xea, 0x01], //        mov edx, ebx; shr edx, 1
        at(&[0x0f, 0xb6, 0xba], bytes),     //        movzx edi, byte [bytes + edx]
        vec![0x11, 0xfe],                   //        adc esi, edi
        at(&[0xff, 0x04, 0x95], words),     //        inc dword [words + edx*4]
        at(&[0x13, 0x35], variable),        //        adc esi, [variable]
        at(&[0xc7, 0x04, 0x9d], others),    //        mov dword [others + ebx*4], 77
        vec![77, 0, 0, 0, 0x49],            //        dec ecx
    ]
    .concat();
    let back = -(body.len() as i8 + 2);
    [body, vec![0x75, back as u8, 0xf4]].concat() // jnz again; hlt
}

#[test]
fn tables_in_pages_that_are_known_are_read_and_written() {
    for (name, places) in PLACES {
        let mut expected = None;
        for engine in ENGINES {
            let mut bus = FlatBus::new(3 << 20);
            bus.quiet = true;
            let noise: Vec<u8> = (0..0x1000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
            bus.ram().write(0x10_0000, &noise);
            bus.ram().write(0x1000, &program(*places));
            // Four megabytes at 0 and at the end; at 0xc0000000 the same, with each two pages in each other's place. All may be written.
            for (entry, value) in [(0, 0x83), (0x300, PAGES as u32 | 3), (0x3ff, 0x83_u32)] {
                bus.ram().write(DIRECTORY + 4 * entry, &value.to_le_bytes());
            }
            for page in 0..0x400_u32 {
                bus.ram().write(PAGES + 4 * u64::from(page), &((page ^ 1) << 12 | 3).to_le_bytes());
            }
            bus.forget_code();
            let mut cpu = (engine.make)();
            cpu.state.gpr[gpr::RCX] = TURNS.into();
            (cpu.state.cr[3], cpu.state.cr[4]) = (DIRECTORY, 0x10);
            cpu.state.cr[0] |= 0x8001_0000;
            set_flat(&mut cpu, 0x1000);
            let exit = (0..10_000).map(|_| cpu.run(&mut bus, 1_000)).find(|exit| *exit != Exit::Budget);
            let state = (exit, cpu.state.gpr, cpu.state.rip, cpu.state.cr, cpu.state.flags, cpu.retired);
            let memory = bus.bytes().to_vec();
            match &expected {
                None => expected = Some((state, memory)),
                Some((as_interpreted, bytes)) => {
                    assert_eq!(&state, as_interpreted, "{}: {name}", engine.name);
                    assert!(&memory == bytes, "{}: {name}: memory", engine.name);
                }
            }
        }
        let ended = expected.and_then(|((exit, ..), _)| exit);
        let faults = name.starts_with("in no page");
        assert_eq!(ended, Some(if faults { Exit::TripleFault } else { Exit::Halted }), "{name}");
    }
}
