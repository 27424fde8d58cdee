use std::fmt::Write as _;

use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};

use super::*;
use crate::cpu::cpuid::CpuModel;
use crate::cpu::pass;
use crate::cpu::state::Segment;

/// A processor in real mode, or with flat segments of 32 bits.
fn processor(flat: bool) -> Cpu {
    let mut cpu = Cpu::new(CpuModel::default());
    if flat {
        let data = Segment { base: 0, limit: u32::MAX, rights: 0xc093, selector: 16 };
        cpu.state.seg = [data; 6];
        cpu.state.seg[1] = Segment { rights: 0xc09b, selector: 8, ..data };
    }
    cpu
}

/// What a piece of code becomes: lifted, and fused.
fn text(code: &[u8], flat: bool) -> (String, String) {
    let cpu = processor(flat);
    let mode = Mode::of(&cpu);
    let mut lifted = Lifted::default();
    for insn in &mut Decoder::with_ip(mode.bitness(), code, 0x100, DecoderOptions::NONE) {
        lift(&mut lifted, &insn, mode, cpu.model);
    }
    let show = |ops: &[Uop]| ops.iter().fold(String::new(), |text, op| text + &op.to_string() + "\n");
    let first = show(&lifted.ops);
    pass::dead_flags(&mut lifted.ops);
    let mut fused = Vec::new();
    pass::fuse(&lifted.ops, false, &mut fused);
    (first, show(&fused))
}

#[test]
fn memory_operands_fold_and_stack_ops_fuse() {
    // push ebx; mov eax, [ebx+esi*4+8]; add [ebx], eax; cmp al, 3; jne; pop ebx
    let code = [0x53, 0x8b, 0x44, 0xb3, 8, 0x01, 0x03, 0x3c, 3, 0x75, 0, 0x5b];
    let (lifted, fused) = text(&code, true);
    let expect = "\
store.d [esp-0x4], ebx
sub.d esp, esp, 0x4
load.d eax, [ebx+esi*4+0x8]
loadw.d t0, [ebx]
add.d! t0, t0, eax
store.d [ebx], t0
cmp.b! al, 0x3
jne 0x10b, 0x10b
load.d ebx, [esp]
add.d esp, esp, 0x4
";
    assert_eq!(lifted, expect);
    let expect = "\
pushflat ebx
load.d eax, [ebx+esi*4+0x8]
add.d! [ebx], eax
cmp.b+jne al, 0x3
jne 0x10b, 0x10b
popflat ebx
";
    assert_eq!(fused, expect);
}

#[test]
fn real_mode_checks_its_segments() {
    // mov ax, [bp+si-2]; mov es:[bx], al
    let (_, fused) = text(&[0x8b, 0x42, 0xfe, 0x26, 0x88, 0x07], false);
    let expect = "\
segment t6, ss:[bp+si*1-0x2], read 2
load.w ax, [t6]
segment t6, es:[bx], write 1
store.b [t6], al
";
    assert_eq!(fused, expect);
}

#[test]
fn flags_that_nobody_sees_are_dead() {
    // add eax, ebx; xor ecx, ecx; inc edx; cmp eax, ecx; adc eax, 0
    let (_, fused) = text(&[0x01, 0xd8, 0x31, 0xc9, 0x42, 0x39, 0xc8, 0x83, 0xd0, 0], true);
    let expect = "\
add.d eax, eax, ebx
xor.d ecx, ecx, ecx
add.d edx, edx, 0x1
cmp.d! eax, ecx
adc.d! eax, eax, 0x0
";
    assert_eq!(fused, expect);
}

/// The programs of `expect`: what their instructions become, as text that a person has read. With `HAKO_BLESS` set the files are
/// written anew instead of compared.
#[test]
fn micro_ops_are_as_they_were_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cpu/lift/expect");
    let bless = std::env::var_os("HAKO_BLESS").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for path in files {
        let found = std::fs::read_to_string(&path).unwrap();
        let (head, expected) = found.split_once("---\n").expect("a line of dashes behind the program");
        let made = become_text(head);
        if made != expected {
            if bless {
                std::fs::write(&path, format!("{head}---\n{made}")).unwrap();
            } else {
                wrong.push(format!("{} is now\n{made}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "HAKO_BLESS=1 writes this down, once it was read:\n{}", wrong.join("\n"));
}

/// What a program's head says (lines of comments, then `flat`, `user` (flat at level 3) or `real`, then lines of hexadecimal bytes)
/// becomes: an instruction a line, its ops below.
fn become_text(head: &str) -> String {
    let mut lines = head.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mode = lines.next();
    let flat = match mode {
        Some("flat" | "user") => true,
        Some("real") => false,
        other => panic!("{other:?} is no mode"),
    };
    let bytes: Vec<u8> =
        lines.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mut cpu = processor(flat);
    if mode == Some("user") {
        cpu.state.cpl = 3;
    }
    let mode = Mode::of(&cpu);
    let mut lifted = Lifted::default();
    let mut instructions = Vec::new();
    for (number, insn) in Decoder::with_ip(mode.bitness(), &bytes, 0x1000, DecoderOptions::NONE).iter().enumerate() {
        let from = lifted.ops.len();
        lift(&mut lifted, &insn, mode, cpu.model);
        lifted.ops[from..].iter_mut().for_each(|uop| uop.y = number as u16);
        let mut text = format!("{:04x}  ", insn.ip());
        IntelFormatter::new().format(&insn, &mut text);
        instructions.push(text);
    }
    pass::dead_flags(&mut lifted.ops);
    let mut fused = Vec::new();
    pass::fuse(&lifted.ops, mode.is_relative(), &mut fused);
    let mut text = String::new();
    for (title, ops) in [("for native code", &lifted.ops), ("for the interpreter", &fused)] {
        let _ = writeln!(text, "{title}");
        for (number, instruction) in instructions.iter().enumerate() {
            let _ = writeln!(text, "  {instruction}");
            for op in ops.iter().filter(|op| usize::from(op.y) == number) {
                let _ = writeln!(text, "          {op}");
            }
        }
    }
    text
}
