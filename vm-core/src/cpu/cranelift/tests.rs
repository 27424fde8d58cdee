//! CLIF of small guest programs, kept as text beside this file. `HAKO_BLESS=1` writes what is made now.

use std::fmt::Write;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions};

use super::compiler::Compiler;
use super::{Request, Source};
use crate::cpu::Cpu;
use crate::cpu::block::Header;
use crate::cpu::cpuid::CpuModel;
use crate::cpu::lift::{Ends, Lifted, Mode, lift};
use crate::cpu::state::{Segment, cr0};
use crate::cpu::{
    pass,
    uop::{Op, Uop},
};

/// Where the programs begin.
const START: u32 = 0x1000;

/// The blocks of a program of flat 32-bit code, cut at branches and where branches lead.
fn blocks(code: &[u8], starts: &[u32]) -> Vec<Source> {
    let mut cpu = Cpu::new(CpuModel::PentiumM);
    let data = Segment { base: 0, limit: u32::MAX, rights: 0xc093, selector: 16 };
    cpu.state.seg = [data; 6];
    cpu.state.seg[1] = Segment { rights: 0xc09b, selector: 8, ..data };
    cpu.state.cr[0] |= cr0::PE;
    let mode = Mode::of(&cpu);
    let mut sources = Vec::new();
    for (number, &start) in starts.iter().enumerate() {
        let bytes = &code[(start - START) as usize..];
        let mut decoder = Decoder::with_ip(32, bytes, u64::from(start), DecoderOptions::NONE);
        let mut lifted = Lifted::default();
        let mut count = 0;
        loop {
            let from = lifted.ops.len();
            let insn = decoder.decode();
            let ends = lift(&mut lifted, &insn, mode, cpu.model);
            let next = insn.next_ip() as u32;
            let falls = ends == Ends::No && starts.contains(&next);
            if falls {
                lifted.ops.push(Uop::new(Op::Jump {}).imm(next));
            }
            for uop in &mut lifted.ops[from..] {
                uop.y = count;
            }
            count += 1;
            if falls || ends == Ends::Yes {
                break;
            }
        }
        pass::dead_flags(&mut lifted.ops);
        let block = Header::for_test(u64::from(start), mode.key(), start, u32::from(count), number as u32);
        sources.push(Source { header: std::ptr::null(), block, ops: lifted.ops, after_call: false });
    }
    sources
}

/// The line with a word for each offset of a field of the processor, which the compiler chooses.
fn without_offsets(line: &str) -> String {
    // One of them is at 0, which is not written.
    let at_zero = line.contains(" notrap ") && line.ends_with(" v0");
    let line = if at_zero { format!("{line}+0") } else { line.to_owned() };
    let mut parts = line.split("v0+");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        text += "v0+FIELD";
        text += rest;
    }
    text
}

/// Text without what differs from run to run, and from compiler to compiler: host addresses, offsets.
fn settled(clif: &str) -> String {
    clif.lines().fold(String::new(), |mut text, line| {
        // Comments repeat constants.
        let line = without_offsets(line.split_once("  ; ").map_or(line, |(line, _)| line));
        let host = line.split_once("iconst.i64 0x").filter(|(_, number)| {
            let digits = number.split(' ').next().unwrap_or(number).replace('_', "");
            u64::from_str_radix(digits.trim(), 16).is_ok_and(|number| number > u64::from(u32::MAX))
        });
        let _ = match host {
            Some((before, _)) => writeln!(text, "{before}iconst.i64 HOST"),
            None => writeln!(text, "{line}"),
        };
        text
    })
}

fn expect(name: &str, code: &[u8], starts: &[u32]) {
    let request = Request { epoch: 0, number: 7, flat_code: true, logged: false, blocks: blocks(code, starts) };
    let mut text = String::new();
    for source in &request.blocks {
        let _ = writeln!(text, "; {:#x}", source.block.eip);
        for uop in &source.ops {
            let _ = writeln!(text, ";   {uop}");
        }
    }
    text.push_str(&settled(&Compiler::new().expect("a host that Cranelift knows").clif(&request)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cpu/cranelift/expect").join(format!("{name}.clif"));
    if std::env::var_os("HAKO_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the expectation is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs; what is made now:\n{text}\n(HAKO_BLESS=1 takes it over)", path.display());
}

#[test]
fn a_loop_that_adds_up_memory() {
    // add eax, [esi]; add esi, 4; dec ecx; jnz the start
    expect("sum", &[0x03, 0x06, 0x83, 0xc6, 0x04, 0x49, 0x75, 0xf8], &[START]);
}

#[test]
fn a_memory_operand_that_is_read_and_written() {
    // add [ebx], eax; adc dword [ebx+4], 0; jmp far away
    expect("rmw", &[0x01, 0x03, 0x83, 0x53, 0x04, 0x00, 0xe9, 0xf5, 0xff, 0x0f, 0x00], &[START]);
}

#[test]
fn two_blocks_of_which_one_is_left_by_its_flags() {
    // start: cmp eax, edx; jb start + 6; xchg eax, edx; nop; (start + 6:) sub eax, edx; jne start; hlt
    let code = [0x39, 0xd0, 0x72, 0x02, 0x92, 0x90, 0x29, 0xd0, 0x75, 0xf6, 0xf4];
    expect("gcd", &code, &[START, START + 4, START + 6]);
}
