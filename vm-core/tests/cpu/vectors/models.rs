//! Which instructions a model has, and which registers forbid them.

use vm_core::bus::Bus;
use vm_core::cpu::Cpu;
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::state::{cr0, cr4, gpr};

use super::compare::{GUEST_CODE, GUEST_HLT, GUEST_STACK, GUEST_WINDOW, guest};
use crate::flat_bus::FlatBus;

/// Runs one instruction; the vector of what it raised.
fn outcome(
    model: CpuModel,
    cr0_bits: u64,
    cr4_bits: u64,
    code: &[u8],
    prepare: fn(&mut Cpu, &mut FlatBus),
) -> Option<u64> {
    let mut bus = FlatBus::new(0x1_0000);
    let mut cpu = guest(|| Cpu::new(CpuModel::PentiumM), &mut bus, GUEST_WINDOW);
    cpu.model = model;
    cpu.fpu.init();
    cpu.state.cr[0] |= cr0_bits;
    cpu.state.cr[4] = cr4_bits;
    cpu.state.gpr[gpr::RBX] = GUEST_WINDOW;
    cpu.state.gpr[gpr::RSP] = GUEST_STACK;
    cpu.state.rip = GUEST_CODE;
    prepare(&mut cpu, &mut bus);
    cpu.state_changed();
    bus.ram().write(GUEST_CODE, &[code, &[0xf4]].concat());
    cpu.run(&mut bus, 10);
    assert!(cpu.state.halted, "{code:02x?}");
    (cpu.state.rip > GUEST_HLT).then(|| cpu.state.rip - GUEST_HLT - 1)
}

#[test]
fn a_model_has_its_instructions_and_no_others() {
    use CpuModel::{I486, Max, Pentium, Pentium2, Pentium3, PentiumM};
    // The first model of the list that has it.
    let rows: &[(&[u8], CpuModel)] = &[
        (&[0x0f, 0xa2], I486),                       // cpuid
        (&[0x0f, 0xc8], I486),                       // bswap eax
        (&[0xf3, 0x90], I486),                       // pause
        (&[0xf3, 0x0f, 0xbc, 0xc3], I486),           // rep bsf
        (&[0xd9, 0xfe], I486),                       // fsin
        (&[0x0f, 0x31], Pentium),                    // rdtsc
        (&[0x0f, 0xc7, 0x0b], Pentium),              // cmpxchg8b [ebx]
        (&[0x0f, 0x40, 0xc3], Pentium2),             // cmovo eax, ebx
        (&[0xda, 0xc1], Pentium2),                   // fcmovb
        (&[0xdb, 0xf1], Pentium2),                   // fcomi
        (&[0x0f, 0x1f, 0x03], Pentium2),             // nop [ebx]
        (&[0x0f, 0x18, 0x0b], Pentium2),             // prefetcht0 [ebx]
        (&[0x0f, 0x77], Pentium2),                   // emms
        (&[0x0f, 0xfc, 0xc1], Pentium2),             // paddb mm0, mm1
        (&[0x0f, 0xd4, 0xc1], PentiumM),             // paddq mm0, mm1
        (&[0x0f, 0xae, 0x03], Pentium2),             // fxsave [ebx]
        (&[0x0f, 0xae, 0x0b], Pentium2),             // fxrstor [ebx]
        (&[0x0f, 0xae, 0x1b], Pentium3),             // stmxcsr [ebx]
        (&[0x0f, 0xae, 0xf8], Pentium3),             // sfence
        (&[0x0f, 0x57, 0xc0], Pentium3),             // xorps xmm0, xmm0
        (&[0x0f, 0x70, 0xc1, 0], Pentium3),          // pshufw mm0, mm1, 0
        (&[0x0f, 0xd7, 0xc1], Pentium3),             // pmovmskb eax, mm1
        (&[0x0f, 0xe7, 0x03], Pentium3),             // movntq [ebx], mm0
        (&[0x0f, 0x2b, 0x03], Pentium3),             // movntps [ebx], xmm0
        (&[0x66, 0x0f, 0x57, 0xc0], PentiumM),       // xorpd xmm0, xmm0
        (&[0x66, 0x0f, 0xfc, 0xc1], PentiumM),       // paddb xmm0, xmm1
        (&[0x0f, 0xc3, 0x03], PentiumM),             // movnti [ebx], eax
        (&[0x0f, 0xae, 0xe8], PentiumM),             // lfence
        (&[0x0f, 0xae, 0xf0], PentiumM),             // mfence
        (&[0x0f, 0xae, 0x3b], PentiumM),             // clflush [ebx]
        (&[0xf3, 0x0f, 0xd6, 0xc1], PentiumM),       // movq2dq xmm0, mm1
        (&[0x66, 0x0f, 0xf7, 0xc1], PentiumM),       // maskmovdqu xmm0, xmm1
        (&[0x66, 0x0f, 0x6f, 0x03], PentiumM),       // movdqa xmm0, [ebx]
        (&[0xf3, 0x0f, 0x6f, 0x43, 1], PentiumM),    // movdqu xmm0, [ebx+1]
        (&[0xf2, 0x0f, 0x10, 0x03], PentiumM),       // movsd xmm0, [ebx]
        (&[0x66, 0x0f, 0x73, 0xf8, 3], PentiumM),    // pslldq xmm0, 3
        (&[0x66, 0x0f, 0x6e, 0xc0], PentiumM),       // movd xmm0, eax
        (&[0x66, 0x0f, 0x70, 0xc1, 0x1b], PentiumM), // pshufd xmm0, xmm1, 27
        (&[0x0f, 0x12, 0xc1], Pentium3),             // movhlps xmm0, xmm1
        (&[0xf3, 0x0f, 0x10, 0x03], Pentium3),       // movss xmm0, [ebx]
        (&[0x0f, 0x58, 0xc1], Pentium3),             // addps xmm0, xmm1
        (&[0xf3, 0x0f, 0x51, 0xc1], Pentium3),       // sqrtss xmm0, xmm1
        (&[0x0f, 0x53, 0xc1], Pentium3),             // rcpps xmm0, xmm1
        (&[0x0f, 0xc2, 0xc1, 1], Pentium3),          // cmpltps xmm0, xmm1
        (&[0x0f, 0x2f, 0xc1], Pentium3),             // comiss xmm0, xmm1
        (&[0x0f, 0x2a, 0xc1], Pentium3),             // cvtpi2ps xmm0, mm1
        (&[0x0f, 0x2d, 0xc1], Pentium3),             // cvtps2pi mm0, xmm1
        (&[0xf3, 0x0f, 0x2c, 0xc1], Pentium3),       // cvttss2si eax, xmm1
        (&[0x0f, 0xf7, 0xc1], Pentium3),             // maskmovq mm0, mm1
        (&[0x0f, 0xda, 0xc1], Pentium3),             // pminub mm0, mm1
        (&[0x66, 0x0f, 0x58, 0xc1], PentiumM),       // addpd xmm0, xmm1
        (&[0xf2, 0x0f, 0x51, 0xc1], PentiumM),       // sqrtsd xmm0, xmm1
        (&[0xf2, 0x0f, 0xc2, 0xc1, 1], PentiumM),    // cmpltsd xmm0, xmm1
        (&[0x66, 0x0f, 0x2e, 0xc1], PentiumM),       // ucomisd xmm0, xmm1
        (&[0x0f, 0x5b, 0xc1], PentiumM),             // cvtdq2ps xmm0, xmm1
        (&[0x0f, 0x5a, 0xc1], PentiumM),             // cvtps2pd xmm0, xmm1
        (&[0x66, 0x0f, 0x2d, 0xc1], PentiumM),       // cvtpd2pi mm0, xmm1
        (&[0xf2, 0x0f, 0x2c, 0xc1], PentiumM),       // cvttsd2si eax, xmm1
        (&[0xf2, 0x0f, 0xe6, 0xc1], PentiumM),       // cvtpd2dq xmm0, xmm1
        (&[0x0f, 0xfb, 0xc1], PentiumM),             // psubq mm0, mm1
        (&[0x0f, 0xf4, 0xc1], PentiumM),             // pmuludq mm0, mm1
        (&[0x0f, 0xc7, 0xf0], PentiumM),             // rdrand eax
        (&[0xf2, 0x0f, 0xf0, 0x03], Max),            // lddqu xmm0, [ebx]: SSE3
        (&[0xdb, 0x0b], Max),                        // fisttp [ebx]: SSE3
        (&[0xf2, 0x0f, 0x7c, 0xc1], Max),            // haddps xmm0, xmm1: SSE3
        (&[0x0f, 0x38, 0x00, 0xc1], Max),            // pshufb mm0, mm1: SSSE3
        (&[0x66, 0x0f, 0x3a, 0x0f, 0xc1, 3], Max),   // palignr xmm0, xmm1, 3: SSSE3
        (&[0x66, 0x0f, 0x38, 0x17, 0xc1], Max),      // ptest xmm0, xmm1: SSE4.1
        (&[0x66, 0x0f, 0x3a, 0x08, 0xc1, 0], Max),   // roundps xmm0, xmm1, 0: SSE4.1
        (&[0x66, 0x0f, 0x3a, 0x63, 0xc1, 0], Max),   // pcmpistri xmm0, xmm1, 0: SSE4.2
        (&[0xf2, 0x0f, 0x38, 0xf1, 0xc1], Max),      // crc32 eax, ecx: SSE4.2
        (&[0xf3, 0x0f, 0xb8, 0xc3], Max),            // popcnt eax, ebx
        (&[0x0f, 0x38, 0xf0, 0x03], Max),            // movbe eax, [ebx]
        (&[0x0f, 0xc7, 0xf8], Max),                  // rdseed eax
        (&[0x66, 0x0f, 0x38, 0xdc, 0xc1], Max),      // aesenc xmm0, xmm1: AES
        (&[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0], Max),   // pclmulqdq xmm0, xmm1, 0
        (&[0x0f, 0x38, 0xcb, 0xc1], Max),            // sha256rnds2 xmm0, xmm1: SHA
    ];
    let nobody: [&[u8]; 5] = [
        &[0x0f, 0x01, 0xc8],       // monitor
        &[0x0f, 0x01, 0xd0],       // xgetbv
        &[0x0f, 0x05],             // syscall
        &[0xc5, 0xf0, 0x58, 0xc2], // vaddps xmm0, xmm1, xmm2
        &[0xf2, 0x0f, 0x79, 0xc1], // insertq xmm0, xmm1: AMD's SSE4a
    ];
    for model in CpuModel::ALL {
        let place = |model: CpuModel| CpuModel::ALL.iter().position(|&other| other == model);
        let cr4_bits = (cr4::OSFXSR | cr4::OSXMMEXCPT) & model.cr4_mask();
        for (code, first) in rows {
            let expected = if place(model) >= place(*first) { None } else { Some(6) };
            assert_eq!(outcome(model, 0, cr4_bits, code, |_, _| ()), expected, "{code:02x?} on {}", model.name());
        }
        for code in nobody {
            assert_eq!(outcome(model, 0, cr4_bits, code, |_, _| ()), Some(6), "{code:02x?} on {}", model.name());
        }
    }
}

#[test]
fn control_registers_and_alignment_decide_who_may_run() {
    const FXSR: u64 = cr4::OSFXSR;
    const PENDING: fn(&mut Cpu, &mut FlatBus) = |cpu, _| {
        cpu.fpu.set_control(0x37e);
        cpu.fpu.raise(1);
    };
    const CALM: fn(&mut Cpu, &mut FlatBus) = |_, _| ();
    const UNMASKED: fn(&mut Cpu, &mut FlatBus) = |cpu, _| cpu.state.mxcsr = 0x1f00;
    let paddb_mm: &[u8] = &[0x0f, 0xfc, 0xc1];
    let paddb_xmm: &[u8] = &[0x66, 0x0f, 0xfc, 0xc1];
    let fxsave: &[u8] = &[0x0f, 0xae, 0x03];
    for (code, cr0_bits, cr4_bits, prepare, expected) in [
        (paddb_mm, 0, 0, CALM, None),
        (paddb_mm, cr0::EM, 0, CALM, Some(6)),
        (paddb_mm, cr0::TS, 0, CALM, Some(7)),
        (paddb_mm, cr0::TS | cr0::EM, 0, CALM, Some(6)),
        (paddb_mm, 0, 0, PENDING, Some(16)),
        (paddb_xmm, 0, FXSR, PENDING, None),
        (paddb_xmm, 0, 0, CALM, Some(6)),
        (paddb_xmm, cr0::EM, FXSR, CALM, Some(6)),
        (paddb_xmm, cr0::TS, FXSR, CALM, Some(7)),
        (paddb_xmm, cr0::TS, 0, CALM, Some(6)),
        (fxsave, 0, 0, PENDING, None),
        (fxsave, cr0::TS, 0, CALM, Some(7)),
        (fxsave, cr0::EM, 0, CALM, Some(7)),
        // movq xmm0, mm1 looks at both.
        (&[0xf3, 0x0f, 0xd6, 0xc1], 0, FXSR, PENDING, Some(16)),
        (&[0xf3, 0x0f, 0xd6, 0xc1], 0, 0, CALM, Some(6)),
        // fences, movnti and clflush look at nothing.
        (&[0x0f, 0xae, 0xf0], cr0::TS | cr0::EM, 0, CALM, None),
        (&[0x0f, 0xc3, 0x03], cr0::TS | cr0::EM, 0, CALM, None),
        (&[0x0f, 0xae, 0x3b], cr0::TS | cr0::EM, 0, CALM, None),
        // An x87 instruction in between: FNINIT takes the exception away, then FLD1 and MOVQ.
        (&[0xdb, 0xe3, 0x0f, 0x6f, 0xc1], 0, 0, PENDING, None),
        // paddb mm0, mm1; mov cr0, ecx (ECX = EM); paddb mm0, mm1
        (&[0x0f, 0xfc, 0xc1, 0x0f, 0x22, 0xc1, 0x0f, 0xfc, 0xc1], 0, 0, |cpu, _| cpu.state.gpr[gpr::RCX] = 5, Some(6)),
        // Alignment: movaps, movups, paddb, fxsave, movlps, ldmxcsr of a reserved bit.
        (&[0x0f, 0x28, 0x43, 8], 0, FXSR, CALM, Some(13)),
        (&[0x0f, 0x29, 0x43, 8], 0, FXSR, CALM, Some(13)),
        (&[0x0f, 0x10, 0x43, 8], 0, FXSR, CALM, None),
        (&[0x66, 0x0f, 0xfc, 0x43, 1], 0, FXSR, CALM, Some(13)),
        (&[0x0f, 0xae, 0x43, 8], 0, FXSR, CALM, Some(13)),
        (&[0x0f, 0xae, 0x4b, 8], 0, FXSR, CALM, Some(13)),
        (&[0x0f, 0x12, 0x43, 1], 0, FXSR, CALM, None),
        // movntdqa and pcmpistri: the latter takes any address. Scalars do, too.
        (&[0x66, 0x0f, 0x38, 0x2a, 0x43, 8], 0, FXSR, CALM, Some(13)),
        (&[0x66, 0x0f, 0x3a, 0x63, 0x43, 1, 0], 0, FXSR, CALM, None),
        (&[0xf2, 0x0f, 0x58, 0x43, 1], 0, FXSR, CALM, None),
        (&[0x0f, 0x58, 0x43, 8], 0, FXSR, CALM, Some(13)),
        // divps xmm0, xmm1 of zeros, invalid operations not masked: #XM only where the system knows of it.
        (&[0x0f, 0x5e, 0xc1], 0, FXSR | cr4::OSXMMEXCPT, UNMASKED, Some(19)),
        (&[0x0f, 0x5e, 0xc1], 0, FXSR, UNMASKED, Some(6)),
        (&[0x0f, 0x2d, 0xc1], 0, FXSR | cr4::OSXMMEXCPT, UNMASKED, None),
        // cvttss2si eax, [ebx] looks at what allows SSE.
        (&[0xf3, 0x0f, 0x2c, 0x03], 0, 0, CALM, Some(6)),
        (&[0xf3, 0x0f, 0x2c, 0x03], cr0::TS, FXSR, CALM, Some(7)),
        (&[0x0f, 0xae, 0x13], 0, FXSR, |_, bus| bus.ram().write(GUEST_WINDOW, &[0, 0, 1, 0]), Some(13)),
        (&[0x0f, 0xae, 0x0b], 0, FXSR, |_, bus| bus.ram().write(GUEST_WINDOW + 24, &[0, 0, 1, 0]), Some(13)),
    ] {
        let got = outcome(CpuModel::Max, cr0_bits, cr4_bits, code, prepare);
        assert_eq!(got, expected, "{code:02x?} with CR0 {cr0_bits:x}, CR4 {cr4_bits:x}");
    }
}
