use iced_x86::{Decoder, DecoderOptions};

use super::*;
use crate::cpu::cpuid::CpuModel;
use crate::cpu::pass;
use crate::cpu::state::Segment;

/// What a piece of code becomes: lifted, and fused.
fn text(code: &[u8], flat: bool) -> (String, String) {
    let mut cpu = Cpu::new(CpuModel::default());
    if flat {
        let data = Segment { base: 0, limit: u32::MAX, rights: 0xc093, selector: 16 };
        cpu.state.seg = [data; 6];
        cpu.state.seg[1] = Segment { rights: 0xc09b, selector: 8, ..data };
    }
    let mode = Mode::of(&cpu);
    let mut lifted = Lifted::default();
    for insn in &mut Decoder::with_ip(mode.bitness(), code, 0x100, DecoderOptions::NONE) {
        lift(&mut lifted, &insn, mode, cpu.model);
    }
    let show = |ops: &[Uop]| ops.iter().fold(String::new(), |text, op| text + &op.to_string() + "\n");
    let first = show(&lifted.ops);
    pass::dead_flags(&mut lifted.ops);
    let mut fused = Vec::new();
    pass::fuse(&lifted.ops, &mut fused);
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
