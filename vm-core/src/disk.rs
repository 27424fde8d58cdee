//! Media: what is behind a drive. Never blocks the machine's thread.

/// Bytes in a logical sector of the block interface. ATAPI groups four.
pub const SECTOR: u64 = 512;

/// What a drive asks of its medium.
#[derive(Debug)]
pub enum Operation {
    /// Fill `buffer` (a multiple of [`SECTOR`]) from sector `sector` on.
    Read {
        /// First sector.
        sector: u64,
        /// Comes back filled.
        buffer: Vec<u8>,
    },
    /// Write `buffer` from sector `sector` on.
    Write {
        /// First sector.
        sector: u64,
        /// Comes back as it was.
        buffer: Vec<u8>,
    },
    /// Complete once every completed write is on the host's stable storage.
    Flush,
}

/// A finished request, in the order of submission.
#[derive(Debug)]
pub struct Completion {
    /// The tag given at submission.
    pub tag: u64,
    /// The operation, with its buffer, to use or to submit again after an error.
    pub operation: Operation,
    /// What the host said.
    pub result: std::io::Result<()>,
}

/// A medium behind an I/O thread.
pub trait BlockBackend: Send {
    /// Sectors on the medium.
    fn sectors(&self) -> u64;
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Queues an operation. Completion raises the machine's attention flag.
    fn submit(&mut self, tag: u64, operation: Operation);
    /// Takes the next finished request, if there is one.
    fn poll(&mut self) -> Option<Completion>;
    /// Requests submitted and not yet taken by [`BlockBackend::poll`].
    fn in_flight(&self) -> usize;
}
