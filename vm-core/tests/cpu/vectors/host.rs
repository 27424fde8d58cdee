//! The host's side: a run of instructions with given registers, and what became of them.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Bytes that the instructions may touch.
pub const WINDOW: usize = 512;
/// Where EBX points in the window; displacements go up to 127.
pub const MIDDLE: u64 = 128;
/// What instructions see and change: general registers and EFLAGS, the image of FXSAVE before and after, and an MXCSR
/// for the way back.
#[repr(C, align(64))]
pub struct Frame {
    pub general: [u64; 9],
    pub calm: u32,
    _pad: [u8; 52],
    pub before: [u8; 512],
    pub after: [u8; 512],
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

impl Default for Frame {
    fn default() -> Self {
        Self { general: [0; 9], calm: 0, _pad: [0; 52], before: [0; 512], after: [0; 512] }
    }
}

/// The handler of SIGFPE is the process's: one comparison at a time.
pub static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// A page of code and data for the host.
pub struct Host {
    page: *mut u8,
}

impl Host {
    const DATA: usize = 0x800;

    /// Gets a page, and the signal of the exceptions.
    pub fn new() -> Self {
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

    /// Where the bytes are that instructions may touch.
    pub fn window_address(&self) -> u64 {
        (self.page.addr() + Self::DATA) as u64
    }

    /// These bytes.
    pub fn window(&mut self) -> &mut [u8] {
        // SAFETY: the page has 4096 bytes, and only `run` touches it otherwise.
        unsafe { std::slice::from_raw_parts_mut(self.page.add(Self::DATA), WINDOW) }
    }

    /// Executes; the offset of the instruction that raised an exception, if one did.
    pub fn run(&mut self, instructions: &[u8], frame: &mut Frame) -> Option<usize> {
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
