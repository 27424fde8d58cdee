//! Wires and requests that reach across the board: attention, A20, reset, power, stop.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Why the machine stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The processor shut down (triple fault); only a reset helps.
    TripleFault,
    /// The guest switched the power off (ACPI S5).
    PowerOff,
    /// The guest wrote this value to `isa-debug-exit`.
    DebugExit(u32),
    /// A disk of the host failed or is full. The request waits; resuming tries it again. The text names the file and says what to do.
    DiskError(String),
    /// A part of the guest's memory could not be loaded from its snapshot, or is not what was saved. The machine must not go on; the
    /// text names the file.
    Damaged(String),
    /// Two engines that run side by side are not of one mind; the text says where.
    EnginesDiffer(String),
}

/// Requests that devices and other threads leave for the processor and the run loop.
#[derive(Debug, Default)]
pub struct Signals {
    attention: AtomicU32,
    map_generation: AtomicU32,
    a20: AtomicBool,
    reset: AtomicBool,
    smi: AtomicBool,
    nmi: AtomicBool,
    init: AtomicBool,
    stop: Mutex<Option<StopReason>>,
    /// The machine's thread while it sleeps in [`Signals::wait`].
    sleeper: Mutex<Option<Thread>>,
    sleeping: AtomicBool,
}

impl Signals {
    /// New signals with the A20 gate open.
    pub fn new() -> Self {
        let signals = Self::default();
        signals.a20.store(true, Ordering::Relaxed);
        signals
    }

    /// Asks the processor to leave its fast loop at the next block boundary. Any thread may call it.
    pub fn raise(&self) {
        // Sequentially consistent with `wait`: either this store is seen there, or the sleeper is seen here.
        self.attention.store(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst)
            && let Some(thread) = &*self.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
        {
            thread.unpark();
        }
    }

    /// Sleeps until attention is raised or `timeout` has passed. Only the machine's thread calls it.
    pub fn wait(&self, timeout: Duration) {
        let lock = || self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
        *lock() = Some(std::thread::current());
        self.sleeping.store(true, Ordering::SeqCst);
        if self.attention.load(Ordering::SeqCst) == 0 {
            std::thread::park_timeout(timeout);
        }
        self.sleeping.store(false, Ordering::SeqCst);
        *lock() = None;
    }

    /// Whether somebody asked for attention.
    #[inline]
    pub fn raised(&self) -> bool {
        self.attention.load(Ordering::Relaxed) != 0
    }

    /// The word that is not zero while somebody asks for attention, for code that looks at it by itself.
    pub fn attention_flag(&self) -> *const AtomicU32 {
        &raw const self.attention
    }

    /// Takes the request; what it was about must be looked at *after* this call.
    pub fn take_raised(&self) -> bool {
        self.attention.swap(0, Ordering::AcqRel) != 0
    }

    /// Counts changes of the physical memory map (PAM, BARs). The processor drops TLB and blocks when it moves.
    pub fn map_generation(&self) -> u32 {
        self.map_generation.load(Ordering::Relaxed)
    }

    /// The memory map has changed.
    pub fn map_changed(&self) {
        self.map_generation.fetch_add(1, Ordering::Relaxed);
        self.raise();
    }

    /// Whether address line 20 passes (true) or is held low.
    pub fn a20(&self) -> bool {
        self.a20.load(Ordering::Relaxed)
    }

    /// Moves the A20 gate.
    pub fn set_a20(&self, open: bool) {
        if self.a20.swap(open, Ordering::Relaxed) != open {
            self.raise();
        }
    }

    /// Asks for a reset of the whole machine (keyboard controller, port 0x92, PCI).
    pub fn request_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        self.raise();
    }

    /// Takes the request for a reset.
    pub fn take_reset(&self) -> bool {
        self.reset.swap(false, Ordering::Relaxed)
    }

    /// Pulls SMI#: the processor enters system management mode before its next instruction.
    pub fn request_smi(&self) {
        self.smi.store(true, Ordering::Relaxed);
        self.raise();
    }

    /// Whether SMI# was pulled and not yet taken.
    #[inline]
    pub fn smi(&self) -> bool {
        self.smi.load(Ordering::Relaxed)
    }

    /// Takes the SMI.
    pub fn take_smi(&self) -> bool {
        self.smi.swap(false, Ordering::Relaxed)
    }

    /// Pulses NMI.
    pub fn request_nmi(&self) {
        self.nmi.store(true, Ordering::Relaxed);
        self.raise();
    }

    /// Whether NMI was pulsed and not yet taken.
    #[inline]
    pub fn nmi(&self) -> bool {
        self.nmi.load(Ordering::Relaxed)
    }

    /// Takes the NMI.
    pub fn take_nmi(&self) -> bool {
        self.nmi.swap(false, Ordering::Relaxed)
    }

    /// Pulses INIT#: the processor alone starts anew.
    pub fn request_init(&self) {
        self.init.store(true, Ordering::Relaxed);
        self.raise();
    }

    /// Takes the INIT#.
    pub fn take_init(&self) -> bool {
        self.init.swap(false, Ordering::Relaxed)
    }

    /// Stops the machine for `reason`; the first reason wins until it is taken.
    pub fn request_stop(&self, reason: StopReason) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.raise();
    }

    /// Takes the reason to stop.
    pub fn take_stop(&self) -> Option<StopReason> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
