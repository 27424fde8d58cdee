//! Where regions are compiled: on a thread of their own, or at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};

use super::compiler::Compiler;
use super::{Compilation, Compiled, Request};

/// Requests that may wait: what does not fit is asked for again later.
const QUEUE: usize = 32;

/// What the thread is told.
enum Order {
    Compile(Box<Request>),
    /// Requests from now on are of this epoch; code whose epoch is over is freed.
    Epoch(u32),
}

/// A thread that compiles.
pub(super) struct Behind {
    orders: Option<Sender<Order>>,
    done: Receiver<Box<Compiled>>,
    /// The epoch that requests must be of to be worth their while.
    epoch: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

/// Compiles regions, here or there.
pub(super) enum Worker {
    /// At once; what is done waits to be taken.
    Here(Box<Compiler>, Vec<Compiled>),
    /// On a thread.
    There(Behind),
}

impl Worker {
    /// A compiler, or a thread that has one.
    ///
    /// # Errors
    /// In words, where Cranelift does not know the host, or no thread can be had.
    pub fn new(compilation: Compilation) -> Result<Self, String> {
        let compiler = Compiler::new()?;
        if compilation == Compilation::AtOnce {
            return Ok(Self::Here(Box::new(compiler), Vec::new()));
        }
        let (orders, to_do) = bounded(QUEUE);
        let (results, done) = unbounded();
        let epoch = Arc::new(AtomicU32::new(0));
        let theirs = epoch.clone();
        let thread = std::thread::Builder::new()
            .name("hako compiler".to_string())
            .spawn(move || work(compiler, &to_do, &results, &theirs))
            .map_err(|error| format!("no thread for the compiler: {error}"))?;
        Ok(Self::There(Behind { orders: Some(orders), done, epoch, thread: Some(thread) }))
    }

    /// Begins an epoch, and frees code of those that are over. The caller has forgotten it.
    pub fn begin(&mut self, epoch: u32) {
        match self {
            Self::Here(compiler, done) => {
                done.clear();
                compiler.begin(epoch);
            }
            Self::There(behind) => {
                behind.epoch.store(epoch, Ordering::Release);
                if let Some(orders) = &behind.orders {
                    // Waits where the queue is full; the thread passes quickly over requests that are out of date.
                    let _ = orders.send(Order::Epoch(epoch));
                }
                while behind.done.try_recv().is_ok() {}
            }
        }
    }

    /// Has a region compiled; false: too many wait already.
    pub fn ask(&mut self, request: Request) -> bool {
        match self {
            Self::Here(compiler, done) => {
                match compiler.compile(request) {
                    Ok(compiled) => done.push(compiled),
                    Err(error) => tracing::debug!("a region was not compiled: {error}"),
                }
                true
            }
            Self::There(behind) => match &behind.orders {
                Some(orders) => {
                    !matches!(orders.try_send(Order::Compile(Box::new(request))), Err(TrySendError::Full(_)))
                }
                None => true,
            },
        }
    }

    /// What has been compiled.
    pub fn take(&mut self) -> Option<Box<Compiled>> {
        match self {
            Self::Here(_, done) => done.pop().map(Box::new),
            Self::There(behind) => behind.done.try_recv().ok(),
        }
    }
}

fn work(mut compiler: Compiler, to_do: &Receiver<Order>, results: &Sender<Box<Compiled>>, epoch: &AtomicU32) {
    for order in to_do {
        match order {
            Order::Epoch(epoch) => compiler.begin(epoch),
            Order::Compile(request) if request.epoch != epoch.load(Ordering::Acquire) => {}
            Order::Compile(request) => match compiler.compile(*request) {
                Ok(compiled) => {
                    if results.send(Box::new(compiled)).is_err() {
                        break;
                    }
                }
                Err(error) => tracing::debug!("a region was not compiled: {error}"),
            },
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
