//! RAM that comes in from a snapshot while the guest runs, and RAM that is written to one behind it.
//!
//! Both work on chunks of [`CHUNK`] bytes, each with a state of its own. A chunk is claimed (BUSY) before anybody touches it and
//! settled after; whoever finds it claimed waits for that moment, which is microseconds away.
//! - **Loading**: a chunk is absent until its first use or until the filler reaches it. Its bytes are checked before anybody sees them.
//! - **Saving**: a chunk is unsaved until the saver has copied it, or until the guest is about to write there: then the guest's thread
//!   copies it first. Copies wait in a channel of bounded length, so that a guest that writes everywhere waits for the disk.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes of RAM that come and go as one.
pub const CHUNK: u64 = 64 << 10;
/// Copies that wait for the disk at most: 32 MiB.
const MOST_COPIES: usize = 512;

/// Where absent chunks come from.
pub trait ChunkSource: Send + Sync + Debug {
    /// Whether chunk `index` is all zeros.
    fn is_zero(&self, index: usize) -> bool;
    /// Fills `into` with chunk `index` and checks it.
    ///
    /// # Errors
    /// In words that name the file, where it cannot be read or is not what was saved.
    fn fill(&self, index: usize, into: &mut [u8]) -> Result<(), String>;
}

const ABSENT: u8 = 0;
const BUSY: u8 = 1;
const PRESENT: u8 = 2;

/// Chunks and their states.
#[derive(Debug)]
struct States(Box<[AtomicU8]>);

impl States {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU8::new(ABSENT)).collect())
    }

    /// Claims a chunk that nobody has touched; false: it is settled (by now).
    fn claim(&self, index: usize) -> bool {
        let Some(state) = self.0.get(index) else { return false };
        loop {
            match state.compare_exchange(ABSENT, BUSY, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return true,
                Err(BUSY) => std::thread::yield_now(),
                Err(_) => return false,
            }
        }
    }

    fn settle(&self, index: usize) {
        self.0[index].store(PRESENT, Ordering::Release);
    }

    fn is_settled(&self, index: usize) -> bool {
        self.0.get(index).is_none_or(|state| state.load(Ordering::Acquire) == PRESENT)
    }
}

/// RAM that is still coming in.
#[derive(Debug)]
pub(super) struct Loading {
    states: States,
    pub source: Arc<dyn ChunkSource>,
    /// RAM was all zeros before.
    fresh: bool,
    left: AtomicUsize,
    /// The filler is to end.
    stop: AtomicBool,
}

impl Loading {
    pub fn new(count: usize, source: Arc<dyn ChunkSource>, fresh: bool) -> Self {
        let states = States::new(count);
        Self { states, source, fresh, left: AtomicUsize::new(count), stop: AtomicBool::new(false) }
    }

    pub fn is_present(&self, index: usize) -> bool {
        self.states.is_settled(index)
    }

    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Brings chunk `index` into `bytes`, its place in RAM; `before` is called first where that is to be done.
    pub fn bring(&self, index: usize, bytes: impl FnOnce() -> *mut [u8], before: impl FnOnce()) -> Result<(), String> {
        if self.is_present(index) || !self.states.claim(index) {
            return Ok(());
        }
        before();
        // SAFETY: the chunk is claimed: nobody else reads or writes it until it is settled.
        let bytes = unsafe { &mut *bytes() };
        let result = if self.source.is_zero(index) {
            // Memory that is zero stays untouched: it costs the host nothing.
            if !self.fresh && bytes.iter().any(|&byte| byte != 0) {
                bytes.fill(0);
            }
            Ok(())
        } else {
            self.source.fill(index, bytes)
        };
        if result.is_err() {
            bytes.fill(0);
        }
        self.states.settle(index);
        self.left.fetch_sub(1, Ordering::AcqRel);
        result
    }
}

/// What the saver gets for a chunk.
#[derive(Debug)]
pub enum Saved {
    /// Its bytes.
    Bytes(Box<[u8]>),
    /// It never came in: it is as the snapshot has it that RAM comes from.
    AsLoaded,
}

/// RAM that is being written to a snapshot.
#[derive(Debug)]
pub(super) struct Saving {
    states: States,
    copies: Sender<(usize, Saved)>,
    /// RAM that had not come in yet at that instant.
    inherited: Option<Arc<Loading>>,
}

impl Saving {
    pub fn new(count: usize, inherited: Option<Arc<Loading>>) -> (Self, Receiver<(usize, Saved)>) {
        let (copies, receiver) = bounded(MOST_COPIES);
        (Self { states: States::new(count), copies, inherited }, receiver)
    }

    pub fn is_saved(&self, index: usize) -> bool {
        self.states.is_settled(index)
    }

    /// Gives up the chunk for `bytes`, which is about to be written or replaced, to whoever saves. Waits while too many wait already.
    pub fn save_first(&self, index: usize, bytes: impl FnOnce() -> *const [u8]) {
        if self.is_saved(index) || !self.states.claim(index) {
            return;
        }
        let saved = self.take(index, bytes);
        // The saver has given up: then nobody needs it.
        let _ = self.copies.send((index, saved));
        self.states.settle(index);
    }

    /// The same by the saver itself; `None`: it is in the channel.
    pub fn save(&self, index: usize, bytes: impl FnOnce() -> *const [u8]) -> Option<Saved> {
        if self.is_saved(index) || !self.states.claim(index) {
            return None;
        }
        let saved = self.take(index, bytes);
        self.states.settle(index);
        Some(saved)
    }

    fn take(&self, index: usize, bytes: impl FnOnce() -> *const [u8]) -> Saved {
        if self.inherited.as_ref().is_some_and(|loading| !loading.is_present(index)) {
            return Saved::AsLoaded;
        }
        // SAFETY: the chunk is claimed: nobody writes it until it is settled.
        Saved::Bytes(unsafe { &*bytes() }.into())
    }
}

/// A text that is kept until somebody asks.
#[derive(Debug, Default)]
pub(super) struct Failure(Mutex<Option<String>>);

impl Failure {
    pub fn set(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
