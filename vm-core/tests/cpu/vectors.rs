//! Random runs of MMX, SSE and SSE2 instructions, here and on the host's own processor: registers, memory, EFLAGS, MXCSR,
//! the x87's tags, and which instruction raised an exception.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vm_core::bus::Bus;
use vm_core::cpu::Cpu;
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::flags::ARITHMETIC;
use vm_core::cpu::state::{SegReg, Segment, TableRegister, cr0, cr4, gpr};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::noise::Random;

const GUEST_CODE: u64 = 0x1000;
const GUEST_WINDOW: u64 = 0x2000;
const GUEST_GDT: u64 = 0x3000;
const GUEST_IDT: u64 = 0x3800;
const GUEST_HLT: u64 = 0x3f00;
const GUEST_STACK: u64 = 0x5000;
/// Bytes that the instructions may touch.
const WINDOW: usize = 512;
/// Where EBX points in the window; displacements go up to 127.
const MIDDLE: u64 = 128;
/// The vector of a SIMD floating-point exception.
const XM: u64 = 19;

/// What instructions see and change: general registers and EFLAGS, the image of FXSAVE before and after, and an MXCSR
/// for the way back.
#[repr(C, align(64))]
struct Frame {
    general: [u64; 9],
    calm: u32,
    _pad: [u8; 52],
    before: [u8; 512],
    after: [u8; 512],
}

const BEFORE: u32 = 128;
const AFTER: u32 = 640;
const CALM: u8 = 72;

/// Where the host's code goes on after a SIGFPE; zero while none is expected.
static RECOVER: AtomicUsize = AtomicUsize::new(0);
/// The instruction that raised it.
static RAISED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_sigfpe(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let recover = RECOVER.load(Ordering::SeqCst);
    if recover == 0 {
        std::process::abort();
    }
    // SAFETY: the kernel passes the context of the interrupted code.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = &mut registers[libc::REG_RIP as usize];
    RAISED.store(*rip as usize, Ordering::SeqCst);
    *rip = recover as i64;
}

/// The handler of SIGFPE is the process's: one comparison at a time.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Host {
    page: *mut u8,
}

impl Host {
    const DATA: usize = 0x800;

    fn new() -> Self {
        // SAFETY: zeros are a valid action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_sigfpe as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler does nothing that a handler may not do.
        unsafe { libc::sigaction(libc::SIGFPE, &raw const action, null_mut()) };
        for hint in (0x1100_0000_usize..0x7000_0000).step_by(0x0100_0000) {
            let hint = std::ptr::without_provenance_mut(hint);
            let rights = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
            // SAFETY: a hint without MAP_FIXED replaces no mapping.
            let page = unsafe { mmap_anonymous(hint, 0x1000, rights, MapFlags::PRIVATE) }.unwrap_or(null_mut());
            if !page.is_null() && (page.addr() as u64) < 1 << 31 {
                return Self { page: page.cast() };
            }
        }
        panic!("no page below 2 GiB for the host's side of the comparison")
    }

    fn window_address(&self) -> u64 {
        (self.page.addr() + Self::DATA) as u64
    }

    fn window(&mut self) -> &mut [u8] {
        // SAFETY: the page has 4096 bytes, and only `run` touches it otherwise.
        unsafe { std::slice::from_raw_parts_mut(self.page.add(Self::DATA), WINDOW) }
    }

    /// Executes; the offset of the instruction that raised an exception, if one did.
    fn run(&mut self, instructions: &[u8], frame: &mut Frame) -> Option<usize> {
        let mut code = vec![0x53, 0x55, 0x49, 0x89, 0xf8]; // push rbx; push rbp; mov r8, rdi
        code.extend([0x41, 0x0f, 0xae, 0x88]); // fxrstor [r8 + before]
        code.extend(BEFORE.to_le_bytes());
        code.extend([0x41, 0xff, 0x70, 64, 0x9d]); // push qword [r8 + 64]; popfq
        let registers: [u8; 7] = [0, 1, 2, 3, 5, 6, 7];
        for register in registers {
            code.extend([0x49, 0x8b, 0x40 | register << 3, register * 8]); // mov reg, [r8 + slot * 8]
        }
        let start = code.len();
        code.extend(instructions);
        let tail = code.len();
        code.extend([0x9c, 0x41, 0x8f, 0x40, 64]); // pushfq; pop qword [r8 + 64]
        for register in registers {
            code.extend([0x49, 0x89, 0x40 | register << 3, register * 8]);
        }
        code.extend([0x41, 0x0f, 0xae, 0x80]); // fxsave [r8 + after]
        code.extend(AFTER.to_le_bytes());
        // fninit; ldmxcsr [r8 + calm]; pop rbp; pop rbx; cld; ret
        code.extend([0xdb, 0xe3, 0x41, 0x0f, 0xae, 0x50, CALM, 0x5d, 0x5b, 0xfc, 0xc3]);
        assert!(code.len() < Self::DATA);
        RAISED.store(0, Ordering::SeqCst);
        RECOVER.store(self.page.addr() + tail, Ordering::SeqCst);
        // SAFETY: the code fits below the data; it is a whole function of this type that touches the frame, the window
        // and nothing else, and keeps what the convention wants kept.
        unsafe {
            self.page.copy_from_nonoverlapping(code.as_ptr(), code.len());
            let function: unsafe extern "sysv64" fn(*mut Frame) = std::mem::transmute(self.page);
            function(&raw mut *frame);
        }
        RECOVER.store(0, Ordering::SeqCst);
        let raised = RAISED.load(Ordering::SeqCst);
        (raised != 0).then(|| raised - self.page.addr() - start)
    }
}

/// What an instruction's operands are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// Register, and register or so many bytes of memory, aligned.
    Aligned(u8),
    /// The same at any address.
    Any(u8),
    /// Register and register.
    Registers,
    /// Register and memory, aligned.
    Memory(u8),
    /// The operation is in the register field.
    Group(u8),
    /// General register and vector register.
    ToGeneral,
    /// Vector register, and general register or so many bytes of memory.
    General(u8),
    /// No operands.
    None,
}

/// A row: prefix or 0, opcode behind 0F, operands, and whether an immediate byte follows.
type Row = (u8, u8, Shape, bool);

/// Instructions on whole numbers and bits, and moves.
fn whole_numbers() -> Vec<Row> {
    use Shape::{Aligned, Any, General, Group, Memory, Registers, ToGeneral};
    let mut rows = Vec::new();
    let both = [
        0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x74, 0x75, 0x76, 0xd1, 0xd2, 0xd3,
        0xd4, 0xd5, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe8, 0xe9,
        0xea, 0xeb, 0xec, 0xed, 0xee, 0xef, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd,
        0xfe,
    ];
    for opcode in both {
        rows.push((0, opcode, Any(8), false));
        rows.push((0x66, opcode, Aligned(16), false));
    }
    for prefix in [0, 0x66] {
        for opcode in [0x14, 0x15, 0x28, 0x54, 0x55, 0x56, 0x57] {
            rows.push((prefix, opcode, Aligned(16), false));
        }
        rows.push((prefix, 0x29, Aligned(16), false));
        rows.push((prefix, 0xc6, Aligned(16), true));
        rows.push((prefix, 0x10, Any(16), false));
        rows.push((prefix, 0x11, Any(16), false));
        rows.push((prefix, 0x2b, Memory(16), false));
        for opcode in [0x12, 0x13, 0x16, 0x17] {
            rows.push((prefix, opcode, Memory(8), false));
        }
        rows.push((prefix, 0x50, ToGeneral, false));
        rows.push((prefix, 0xd7, ToGeneral, false));
        rows.push((prefix, 0xc5, ToGeneral, true));
        rows.push((prefix, 0xc4, General(2), true));
        rows.push((prefix, 0x6e, General(4), false));
        rows.push((prefix, 0x7e, General(4), false));
        for opcode in [0x71, 0x72, 0x73] {
            rows.push((prefix, opcode, Group(opcode), true));
        }
    }
    rows.extend([
        (0, 0x12, Registers, false),
        (0, 0x16, Registers, false),
        (0xf3, 0x10, Any(4), false),
        (0xf3, 0x11, Any(4), false),
        (0xf2, 0x10, Any(8), false),
        (0xf2, 0x11, Any(8), false),
        (0, 0x6f, Any(8), false),
        (0, 0x7f, Any(8), false),
        (0x66, 0x6f, Aligned(16), false),
        (0x66, 0x7f, Aligned(16), false),
        (0xf3, 0x6f, Any(16), false),
        (0xf3, 0x7f, Any(16), false),
        (0xf3, 0x7e, Any(8), false),
        (0x66, 0xd6, Any(8), false),
        (0xf3, 0xd6, Registers, false),
        (0xf2, 0xd6, Registers, false),
        (0x66, 0x6c, Aligned(16), false),
        (0x66, 0x6d, Aligned(16), false),
        (0, 0x70, Any(8), true),
        (0x66, 0x70, Aligned(16), true),
        (0xf3, 0x70, Aligned(16), true),
        (0xf2, 0x70, Aligned(16), true),
        (0, 0xe7, Memory(8), false),
        (0x66, 0xe7, Memory(16), false),
        (0, 0xc3, Memory(4), false),
        (0, 0xf7, Registers, false),
        (0x66, 0xf7, Registers, false),
        (0, 0x77, Shape::None, false),
        (0, 0x2a, Any(8), false),
        (0x66, 0x2a, Any(8), false),
    ]);
    rows.retain(|row| !matches!(row, (0, 0x2a, ..)));
    rows
}

/// A run of instructions.
fn run_of(random: &mut Random, rows: &[Row], most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(most) {
        // Now and then something of the x87, which shares registers with MMX.
        match random.below(40) {
            0 => bytes.extend([0xd9, 0xe8]),
            1 => bytes.extend([0xdd, 0xd8]),
            2 => bytes.extend([0x0f, 0xae, 0x5b, 0x10]),
            _ => {}
        }
        let (prefix, opcode, shape, immediate) = rows[random.below(rows.len() as u64) as usize];
        if prefix != 0 {
            bytes.push(prefix);
        }
        bytes.extend([0x0f, opcode]);
        // [ebx + disp8] where memory may be.
        let memory = |random: &mut Random, reg: u8, step: u64| {
            let displacement = random.below(128 / step) * step;
            [0x43 | reg << 3, displacement as u8 & 0x7f]
        };
        let reg = random.below(8) as u8;
        let rm = random.below(8) as u8;
        let general = [0, 1, 2, 5, 6][random.below(5) as usize];
        match shape {
            Shape::Aligned(size) if random.below(3) == 0 => bytes.extend(memory(random, reg, u64::from(size))),
            Shape::Any(_) if random.below(3) == 0 => bytes.extend(memory(random, reg, 1)),
            Shape::Aligned(_) | Shape::Any(_) | Shape::Registers => bytes.push(0xc0 | reg << 3 | rm),
            // MOVNTI has a general register.
            Shape::Memory(4) => bytes.extend(memory(random, general, 1)),
            Shape::Memory(size) => bytes.extend(memory(random, reg, u64::from(size))),
            Shape::Group(opcode) => {
                let choices: &[u8] = match (opcode, prefix) {
                    (0x73, 0x66) => &[2, 3, 6, 7],
                    (0x73, _) => &[2, 6],
                    _ => &[2, 4, 6],
                };
                let choice = choices[random.below(choices.len() as u64) as usize];
                bytes.push(0xc0 | choice << 3 | rm);
            }
            Shape::ToGeneral => bytes.push(0xc0 | general << 3 | rm),
            Shape::General(_) if random.below(3) == 0 => bytes.extend(memory(random, reg, 1)),
            Shape::General(_) => bytes.push(0xc0 | reg << 3 | general),
            Shape::None => {}
        }
        if immediate {
            bytes.push(if random.below(2) == 0 { random.next() as u8 } else { random.below(20) as u8 });
        }
    }
    bytes
}

/// A number of 32 bits as a single: ordinary, or one of the odd ones.
fn single(random: &mut Random) -> u32 {
    let any = random.next() as u32;
    match random.below(16) {
        0 => any & 0x8000_0000,
        1 => any & 0x8000_0000 | 0x7f80_0000,
        2 => any & 0x807f_ffff | 0x7f80_0000,
        3 => any & 0x803f_ffff | 0x7f80_0001,
        4 => any & 0x807f_ffff,
        5 => any & 0x8000_000f,
        6 => any & 0x80ff_ffff,
        7 => any & 0x807f_ffff | 0x7f00_0000,
        8 => (any & 0x1ff) as i32 as f32 as u32,
        9 => (random.below(64) as f32 / 8.0 - 4.0).to_bits(),
        10 => any & 0x80ff_ffff | 0x4e80_0000,
        11 => (any as i32 as f32).to_bits(),
        12..14 => any & 0x81ff_ffff | 0x3f00_0000,
        _ => any,
    }
}

/// The same of 64 bits.
fn double(random: &mut Random) -> u64 {
    let any = random.next();
    let sign = any & 1 << 63;
    let fraction = any & 0x000f_ffff_ffff_ffff;
    match random.below(17) {
        0 => sign,
        1 => sign | 0x7ff0 << 48,
        2 => sign | 0x7ff0 << 48 | fraction,
        3 => sign | 0x7ff0 << 48 | fraction >> 1 | 1,
        4 => sign | fraction,
        5 => sign | fraction & 15,
        6 => sign | 1 << 52 | fraction,
        7 => sign | 0x7fe0 << 48 | fraction,
        8 => (random.below(64) as f64 / 8.0 - 4.0).to_bits(),
        9 => sign | 0x41e0 << 48 | fraction & 0xffff_ff00_0000,
        10 => f64::from(any as i32).to_bits(),
        // Where singles begin and end.
        11 => sign | (0x3690 + (any & 0x1f0)) << 48 | fraction,
        12 => sign | (0x47e0 + (any & 0x10)) << 48 | fraction,
        13 => f64::from(f32::from_bits(single(random))).to_bits(),
        14..16 => sign | (0x3fe0 + (any & 0x10)) << 48 | fraction,
        _ => any,
    }
}

/// Eight bytes that are worth computing with.
fn chunk(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.next(),
        1 => [0, u64::MAX, 0x8000_7fff_8000_7fff, 0x7f80_ff00_0180_7f00, 3, 0x21][random.below(6) as usize],
        2 | 3 => double(random),
        _ => u64::from(single(random)) | u64::from(single(random)) << 32,
    }
}

/// Random registers of all kinds.
fn scramble(random: &mut Random, frame: &mut Frame, mxcsr: u32) {
    frame.calm = 0x1f80;
    frame.before.fill(0);
    frame.before[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    frame.before[2..4].copy_from_slice(&((random.below(8) << 11) as u16).to_le_bytes());
    frame.before[4] = random.next() as u8;
    frame.before[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for n in 0..8 {
        let at = 32 + 16 * n;
        frame.before[at..at + 8].copy_from_slice(&chunk(random).to_le_bytes());
        let exponent = [0xffff, 0x3fff, random.next() as u16][random.below(3) as usize];
        frame.before[at + 8..at + 10].copy_from_slice(&exponent.to_le_bytes());
        let at = 160 + 16 * n;
        frame.before[at..at + 8].copy_from_slice(&chunk(random).to_le_bytes());
        frame.before[at + 8..at + 16].copy_from_slice(&chunk(random).to_le_bytes());
    }
    for register in &mut frame.general {
        *register = chunk(random) & 0xffff_ffff;
    }
    frame.general[8] = frame.general[8] & u64::from(ARITHMETIC) | 2;
}

/// A guest that takes exceptions to a HLT.
fn guest(make: fn() -> Cpu, bus: &mut FlatBus, window: u64) -> Cpu {
    let mut cpu = make();
    cpu.model = CpuModel::PentiumM;
    cpu.state.cr[0] |= cr0::PE | cr0::NE;
    cpu.state.cr[4] |= cr4::OSFXSR | cr4::OSXMMEXCPT;
    for seg in SegReg::ALL {
        let (base, rights) = match seg {
            SegReg::Cs => (0, 0xc09b),
            SegReg::Ss => (0, 0xc093),
            _ => (GUEST_WINDOW.wrapping_sub(window) & 0xffff_ffff, 0xc093),
        };
        cpu.state.seg[seg as usize] = Segment { base, limit: u32::MAX, rights, selector: 8 };
    }
    cpu.state.gdtr = TableRegister { base: GUEST_GDT, limit: 0xff };
    cpu.state.idtr = TableRegister { base: GUEST_IDT, limit: 0x7ff };
    bus.ram().write(GUEST_GDT + 8, &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    for vector in 0..32 {
        let at = GUEST_HLT + vector;
        bus.ram().write(GUEST_IDT + 8 * vector, &(0x8e00_u64 << 32 | 8 << 16 | at).to_le_bytes());
        bus.ram().write(at, &[0xf4]);
    }
    cpu.state_changed();
    cpu
}

/// Puts the image of FXSAVE into the guest's registers.
fn load_image(cpu: &mut Cpu, image: &[u8; 512]) {
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
    cpu.fpu.init();
    cpu.fpu.set_control(word(0) as u16);
    cpu.fpu.set_status_word((word(0) >> 16) as u16);
    cpu.fpu.valid = image[4];
    cpu.state.mxcsr = word(24) as u32;
    for n in 0..8 {
        let index = cpu.fpu.index(n as u8);
        cpu.fpu.registers[index].significand = word(32 + 16 * n);
        cpu.fpu.registers[index].sign_exponent = word(40 + 16 * n) as u16;
        cpu.state.vector[n] = u128::from(word(160 + 16 * n)) | u128::from(word(168 + 16 * n)) << 64;
    }
}

/// Control, status and tag words, MXCSR, the stack and the XMM registers of an image, as text.
fn describe(image: &[u8; 512]) -> Vec<String> {
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
    let mut lines = vec![
        format!("fcw {:04x} fsw {:04x} tags {:02x}", word(0) as u16, (word(0) >> 16) as u16, image[4]),
        format!("mxcsr {:08x}", word(24) as u32),
    ];
    for n in 0..8 {
        lines.push(format!("st{n} {:04x} {:016x}", word(40 + 16 * n) as u16, word(32 + 16 * n)));
    }
    for n in 0..8 {
        lines.push(format!("xmm{n} {:016x} {:016x}", word(168 + 16 * n), word(160 + 16 * n)));
    }
    lines
}

/// The same of the guest.
fn describe_guest(cpu: &Cpu) -> Vec<String> {
    let mut image = [0; 512];
    image[..2].copy_from_slice(&cpu.fpu.control.to_le_bytes());
    image[2..4].copy_from_slice(&cpu.fpu.status_word().to_le_bytes());
    image[4] = cpu.fpu.valid;
    image[24..28].copy_from_slice(&cpu.state.mxcsr.to_le_bytes());
    for n in 0..8 {
        let value = cpu.fpu.get(n as u8);
        image[32 + 16 * n..40 + 16 * n].copy_from_slice(&value.significand.to_le_bytes());
        image[40 + 16 * n..42 + 16 * n].copy_from_slice(&value.sign_exponent.to_le_bytes());
        image[160 + 16 * n..176 + 16 * n].copy_from_slice(&cpu.state.vector[n].to_le_bytes());
    }
    describe(&image)
}

/// Compares runs of these instructions with the host; `control` draws an MXCSR.
fn compare(seed: u64, rows: &[Row], control: fn(&mut Random) -> u32) {
    const ORDER: [usize; 7] = [gpr::RAX, gpr::RCX, gpr::RDX, gpr::RBX, gpr::RBP, gpr::RSI, gpr::RDI];
    const SLOTS: [usize; 7] = [0, 1, 2, 3, 5, 6, 7];
    let cases: u64 = std::env::var("HAKO_HOST_CASES").map_or(30_000, |text| text.parse().expect("a number"));
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut host = Host::new();
    let window = host.window_address();
    for engine in ENGINES {
        let mut random = Random(seed);
        let mut bus = FlatBus::new(0x1_0000);
        let mut cpu = guest(engine.make, &mut bus, window);
        let mut frame = Frame { general: [0; 9], calm: 0, _pad: [0; 52], before: [0; 512], after: [0; 512] };
        let (mut raised_here, mut failures) = (0_u64, Vec::new());
        for number in 0..cases {
            let most = if number % 2 == 0 { 1 } else { 10 };
            let bytes = run_of(&mut random, rows, most);
            bus.ram().write(GUEST_CODE, &[bytes.as_slice(), &[0xf4]].concat());
            for _ in 0..8 {
                let mxcsr = control(&mut random);
                scramble(&mut random, &mut frame, mxcsr);
                frame.general[3] = window + MIDDLE;
                frame.general[7] = window + MIDDLE + random.below(64);
                for bytes in host.window().chunks_mut(8) {
                    bytes.copy_from_slice(&chunk(&mut random).to_le_bytes());
                }
                bus.ram().write(GUEST_WINDOW, host.window());
                // Here.
                load_image(&mut cpu, &frame.before);
                for (slot, register) in SLOTS.into_iter().zip(ORDER) {
                    cpu.state.gpr[register] = frame.general[slot];
                }
                cpu.state.gpr[gpr::RSP] = GUEST_STACK;
                cpu.state.flags.set(frame.general[8] as u32);
                cpu.state.rip = GUEST_CODE;
                cpu.state.halted = false;
                bus.signals().take_raised();
                let start = format!("{:x?}\n{}", frame.general, describe(&frame.before).join("\n"));
                cpu.run(&mut bus, 200);
                // There.
                let raised = host.run(&bytes, &mut frame);
                let mut here = describe_guest(&cpu);
                let mut there = describe(&frame.after);
                let end = if raised.is_some() { GUEST_HLT + XM + 1 } else { GUEST_CODE + bytes.len() as u64 + 1 };
                here.push(format!("rip {:x}", cpu.state.rip));
                there.push(format!("rip {end:x}"));
                let flags = if let Some(offset) = raised {
                    raised_here += 1;
                    let mut pushed = [0; 12];
                    bus.ram().read(GUEST_STACK - 12, &mut pushed);
                    let word = |n: usize| u32::from_le_bytes(pushed[4 * n..4 * n + 4].try_into().expect("4 bytes"));
                    here.push(format!("raised by +{:x}", word(0).wrapping_sub(GUEST_CODE as u32)));
                    there.push(format!("raised by +{offset:x}"));
                    word(2)
                } else {
                    cpu.state.flags.get()
                };
                for (slot, register) in SLOTS.into_iter().zip(ORDER) {
                    here.push(format!("general {register} {:x}", cpu.state.gpr[register]));
                    there.push(format!("general {register} {:x}", frame.general[slot]));
                }
                here.push(format!("flags {:x}", flags & ARITHMETIC));
                there.push(format!("flags {:x}", frame.general[8] as u32 & ARITHMETIC));
                let mut memory = [0; WINDOW];
                bus.ram().read(GUEST_WINDOW, &mut memory);
                here.push(format!("memory {}", memory == *host.window()));
                there.push("memory true".to_owned());
                if here != there && failures.len() < 12 {
                    let differ: Vec<_> = here
                        .iter()
                        .zip(&there)
                        .filter(|(here, there)| here != there)
                        .map(|(here, there)| format!("  here {here}, there {there}"))
                        .collect();
                    failures.push(format!("{bytes:02x?} from {start}\n{}", differ.join("\n")));
                    break;
                }
            }
        }
        eprintln!("{}: {cases} runs compared, {raised_here} exceptions", engine.name);
        assert!(failures.is_empty(), "{}: {} runs differ\n{}", engine.name, failures.len(), failures.join("\n"));
    }
}

#[test]
fn whole_number_vectors_are_as_on_the_host() {
    compare(0x1357_9bdf_0246_8ace, &whole_numbers(), |_| 0x1f80);
}

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
    use CpuModel::{I486, Pentium, Pentium2, PentiumM};
    const MODELS: [CpuModel; 4] = [I486, Pentium, Pentium2, PentiumM];
    // The first model of the list that has it.
    let rows: [(&[u8], CpuModel); 38] = [
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
        (&[0x0f, 0xae, 0x1b], PentiumM),             // stmxcsr [ebx]
        (&[0x0f, 0xae, 0xf8], PentiumM),             // sfence
        (&[0x0f, 0x57, 0xc0], PentiumM),             // xorps xmm0, xmm0
        (&[0x0f, 0x70, 0xc1, 0], PentiumM),          // pshufw mm0, mm1, 0
        (&[0x0f, 0xd7, 0xc1], PentiumM),             // pmovmskb eax, mm1
        (&[0x0f, 0xe7, 0x03], PentiumM),             // movntq [ebx], mm0
        (&[0x0f, 0x2b, 0x03], PentiumM),             // movntps [ebx], xmm0
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
    ];
    let nobody: [&[u8]; 7] = [
        &[0xf2, 0x0f, 0xf0, 0x03],          // lddqu: SSE3
        &[0xdb, 0x0b],                      // fisttp [ebx]: SSE3
        &[0x0f, 0x38, 0x00, 0xc1],          // pshufb mm0, mm1: SSSE3
        &[0x0f, 0x01, 0xd0],                // xgetbv
        &[0x0f, 0x05],                      // syscall
        &[0xf3, 0x0f, 0xb8, 0xc3],          // popcnt eax, ebx
        &[0x66, 0x0f, 0x3a, 0x0f, 0xc1, 3], // palignr xmm0, xmm1, 3: SSSE3
    ];
    for model in MODELS {
        let place = |model: CpuModel| MODELS.iter().position(|&other| other == model);
        let cr4_bits = (cr4::OSFXSR | cr4::OSXMMEXCPT) & model.cr4_mask();
        for (code, first) in rows {
            let expected = if place(model) >= place(first) { None } else { Some(6) };
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
        (&[0x0f, 0xae, 0x13], 0, FXSR, |_, bus| bus.ram().write(GUEST_WINDOW, &[0, 0, 1, 0]), Some(13)),
        (&[0x0f, 0xae, 0x0b], 0, FXSR, |_, bus| bus.ram().write(GUEST_WINDOW + 24, &[0, 0, 1, 0]), Some(13)),
    ] {
        let got = outcome(CpuModel::PentiumM, cr0_bits, cr4_bits, code, prepare);
        assert_eq!(got, expected, "{code:02x?} with CR0 {cr0_bits:x}, CR4 {cr4_bits:x}");
    }
}

#[test]
fn the_image_of_fxsave_is_the_hosts() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut host = Host::new();
    let mut random = Random(0x2468_ace0_1357_9bdf);
    let mut bus = FlatBus::new(0x1_0000);
    let mut cpu = guest(|| Cpu::new(CpuModel::PentiumM), &mut bus, GUEST_WINDOW);
    let mut frame = Frame { general: [0; 9], calm: 0, _pad: [0; 52], before: [0; 512], after: [0; 512] };
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
