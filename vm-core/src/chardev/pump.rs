//! The thread between a backend and descriptors of the host.
//!
//! One named thread a backend waits in `poll` for bytes, for room, for a connection, or to be told that the machine's side did
//! something. Both ways have a buffer of [`BUFFER`] bytes; a full one leaves the bytes where they are.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::memory::{offer, take};
use super::{BUFFER, CharBackend, Waker};

/// How long an ending backend waits for the host to take what is still in its buffer.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes moved in one call to the host.
const CHUNK: usize = 4096;

/// The descriptors that a pump serves, and how they come and go.
pub trait Link: Send + 'static {
    /// Where connections arrive, while there is none.
    fn listener(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Where bytes come from now.
    fn input(&self) -> Option<BorrowedFd<'_>>;
    /// Where bytes go to now.
    fn output(&self) -> Option<BorrowedFd<'_>>;
    /// The listener has somebody, or the time to retry has come: true where there is a connection now.
    fn connect(&mut self) -> bool {
        false
    }
    /// When to call [`Link::connect`] unasked.
    fn retry_at(&self) -> Option<Instant> {
        None
    }
    /// The input has ended or failed.
    fn input_lost(&mut self);
    /// The output has failed.
    fn output_lost(&mut self);
}

#[derive(Debug)]
struct Shared {
    input: Mutex<VecDeque<u8>>,
    output: Mutex<VecDeque<u8>>,
    /// Number of the present connection, 0 for none.
    connection: AtomicU64,
    /// The backend is being dropped: write out what is left, then end.
    closing: AtomicBool,
    /// A write found the buffer full.
    refused: AtomicBool,
}

fn lock(queue: &Mutex<VecDeque<u8>>) -> MutexGuard<'_, VecDeque<u8>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A backend with a thread behind it.
#[derive(Debug)]
pub struct Pump {
    shared: Arc<Shared>,
    /// Written to where the thread has to look again.
    alarm: UnixStream,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread ends.
    ended: Receiver<()>,
}

impl Pump {
    /// Starts the thread, which is called `chardev-NAME`.
    ///
    /// # Errors
    /// Where the host has no thread or descriptor left.
    pub fn start(name: &str, link: impl Link, waker: Waker) -> io::Result<Self> {
        let (alarm, heard) = UnixStream::pair()?;
        alarm.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        let connected = link.input().is_some() || link.output().is_some();
        let shared = Arc::new(Shared {
            input: Mutex::default(),
            output: Mutex::default(),
            connection: AtomicU64::new(u64::from(connected)),
            closing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        });
        let (end, ended) = bounded(0);
        let worker = Worker { link, shared: Arc::clone(&shared), waker, heard, connections: u64::from(connected) };
        let thread = std::thread::Builder::new().name(format!("chardev-{name}")).spawn(move || {
            let _end = end;
            worker.run();
        })?;
        Ok(Self { shared, alarm, thread: Some(thread), ended })
    }

    /// Takes bytes for a peer that is `wanted`; swallows them for any other.
    fn give(&self, wanted: impl Fn(u64) -> bool, bytes: &[u8]) -> usize {
        // A new connection comes under this lock too.
        let mut output = lock(&self.shared.output);
        if !wanted(self.shared.connection.load(Ordering::Acquire)) {
            return bytes.len();
        }
        let was_empty = output.is_empty();
        let taken = offer(&mut output, bytes);
        if taken < bytes.len() {
            self.shared.refused.store(true, Ordering::Release);
        }
        drop(output);
        if was_empty && taken > 0 {
            self.alarm();
        }
        taken
    }

    /// Gives bytes of a peer that is `wanted`.
    fn get(&self, wanted: impl Fn(u64) -> bool, into: &mut [u8]) -> usize {
        let mut input = lock(&self.shared.input);
        if !wanted(self.shared.connection.load(Ordering::Acquire)) {
            return 0;
        }
        let was_full = input.len() >= BUFFER;
        let taken = take(&mut input, into);
        drop(input);
        if was_full && taken > 0 {
            self.alarm();
        }
        taken
    }

    fn alarm(&self) {
        // A full pipe has already told.
        let _ = (&self.alarm).write(&[0]);
    }
}

impl CharBackend for Pump {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.give(|connection| connection != 0, bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        self.get(|_| true, into)
    }

    fn write_to(&mut self, connection: u64, bytes: &[u8]) -> usize {
        self.give(|now| now == connection && now != 0, bytes)
    }

    fn read_from(&mut self, connection: u64, into: &mut [u8]) -> usize {
        self.get(|now| now == connection || now == 0, into)
    }

    fn connection(&self) -> u64 {
        self.shared.connection.load(Ordering::Acquire)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.alarm();
        // A host that takes nothing any more (a stopped terminal) does not hold up the end of the machine.
        let _ = self.ended.recv_timeout(LINGER);
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// What `poll` is asked about, in the order of the descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    Alarm,
    Listener,
    Input,
    Output,
}

struct Worker<L> {
    link: L,
    shared: Arc<Shared>,
    waker: Waker,
    heard: UnixStream,
    connections: u64,
}

impl<L: Link> Worker<L> {
    fn run(mut self) {
        loop {
            let pending = !lock(&self.shared.output).is_empty();
            let closing = self.shared.closing.load(Ordering::Acquire);
            if closing && (!pending || self.link.output().is_none()) {
                return;
            }
            let ready = match self.wait(pending, closing) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!("a character device cannot wait for the host: {error}");
                    return;
                }
            };
            for interest in ready {
                match interest {
                    Interest::Alarm => while matches!((&self.heard).read(&mut [0; 64]), Ok(1..)) {},
                    Interest::Listener => self.connect(),
                    Interest::Input => self.fill(),
                    Interest::Output => self.drain(),
                }
            }
            if self.link.retry_at().is_some_and(|at| at <= Instant::now()) {
                self.connect();
            }
        }
    }

    /// Waits until something can be done and says what.
    fn wait(&self, pending: bool, closing: bool) -> io::Result<Vec<Interest>> {
        let room = lock(&self.shared.input).len() < BUFFER;
        let mut interests = vec![Interest::Alarm];
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.heard.as_fd(), PollFlags::IN)];
        let mut ask = |interest, descriptor: Option<_>, flags, wanted: bool| {
            if let Some(descriptor) = descriptor.filter(|_| wanted) {
                interests.push(interest);
                descriptors.push(PollFd::from_borrowed_fd(descriptor, flags));
            }
        };
        ask(Interest::Listener, self.link.listener(), PollFlags::IN, !closing);
        ask(Interest::Input, self.link.input(), PollFlags::IN, room && !closing);
        ask(Interest::Output, self.link.output(), PollFlags::OUT, pending);
        let timeout = self.link.retry_at().map(|at| {
            let wait = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: wait.as_secs().min(3600) as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
        });
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = interests.iter().zip(&descriptors).filter(|(_, descriptor)| !descriptor.revents().is_empty());
        Ok(ready.map(|(interest, _)| *interest).collect())
    }

    fn connect(&mut self) {
        if self.link.connect() {
            self.connections += 1;
            {
                // Nobody gets what was meant for, or came from, the one before.
                let (mut input, mut output) = (lock(&self.shared.input), lock(&self.shared.output));
                input.clear();
                output.clear();
                self.shared.connection.store(self.connections, Ordering::Release);
            }
            self.waker.wake();
        }
    }

    /// Takes bytes from the host.
    fn fill(&mut self) {
        let Some(descriptor) = self.link.input() else { return };
        let mut buffer = [0; CHUNK];
        let mut input = lock(&self.shared.input);
        let room = BUFFER.saturating_sub(input.len()).min(CHUNK);
        if room == 0 {
            return;
        }
        // The host has bytes or an end of file: this does not wait.
        match rustix::io::read(descriptor, &mut buffer[..room]) {
            Ok(0) => {
                drop(input);
                self.link.input_lost();
                self.look_whether_connected();
            }
            Ok(count) => input.extend(&buffer[..count]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return,
            Err(_) => {
                drop(input);
                self.link.input_lost();
                self.look_whether_connected();
            }
        }
        self.waker.wake();
    }

    /// Gives bytes to the host.
    fn drain(&mut self) {
        let Some(descriptor) = self.link.output() else { return };
        let mut buffer = [0; CHUNK];
        let count = {
            let output = lock(&self.shared.output);
            let count = output.len().min(CHUNK);
            for (slot, byte) in buffer.iter_mut().zip(output.iter()) {
                *slot = *byte;
            }
            count
        };
        match rustix::io::write(descriptor, &buffer[..count]) {
            Ok(written) => {
                let mut output = lock(&self.shared.output);
                let written = written.min(output.len());
                output.drain(..written);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return,
            Err(error) => {
                tracing::debug!("a character device lost its other end: {error}");
                self.link.output_lost();
                lock(&self.shared.output).clear();
                self.look_whether_connected();
            }
        }
        if self.shared.refused.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    fn look_whether_connected(&self) {
        if self.link.input().is_none() && self.link.output().is_none() {
            self.shared.connection.store(0, Ordering::Release);
            lock(&self.shared.output).clear();
        }
    }
}
