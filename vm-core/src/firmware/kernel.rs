//! Starts a kernel directly (`-kernel`): a Linux bzImage or a multiboot image.
//!
//! SeaBIOS runs first and sets the machine up. Then it boots from an option ROM of our own (`option_rom`), which
//! it finds in fw_cfg beside a second file: the stream of pieces that go to memory. The pieces are worked out here, on the
//! host, so that the ROM stays small.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::option_rom::{self, Start};
use super::{linux, multiboot};
use crate::config::KernelConfig;

/// The file in fw_cfg that holds the pieces.
pub(super) const STREAM_FILE: &str = "opt/hako/kernel";
/// The option ROM, where SeaBIOS looks for such.
const ROM_FILE: &str = "genroms/hako-kernel.bin";
/// SeaBIOS boots in the order of the lines of this file.
const ORDER_FILE: &str = "bootorder";
/// The line that names our ROM.
const ORDER: &[u8] = b"/rom@genroms/hako-kernel.bin\n\0";

/// Memory at the top that SeaBIOS keeps for its tables.
const FIRMWARE_BYTES: u64 = 1 << 20;
/// Direct start puts nothing above this address.
const HIGHEST: u64 = 0xc000_0000;

/// One file for fw_cfg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its name.
    pub name: &'static str,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// What the machine's fw_cfg must offer for the kernel to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The option ROM, its stream, and the boot order that puts it first.
    pub files: Vec<BootFile>,
}

/// Why a kernel cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file cannot be read.
    #[error("“{}” cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host says.
        source: std::io::Error,
    },
    /// A file is not what it should be, or does not fit.
    #[error("“{}” cannot be started: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a kernel and what belongs to it, for a machine with `memory_bytes` of memory.
///
/// # Errors
/// Where a file cannot be read, is no kernel that Hako can start, or does not fit into memory.
pub fn load(config: &KernelConfig, memory_bytes: u64) -> Result<BootFiles, KernelError> {
    let memory = Memory::new(memory_bytes);
    let kernel = FileBytes::read(&config.kernel, memory.top)?;
    if config.append.contains('\0') {
        return Err(kernel.unusable("its command line has a zero character in it"));
    }
    let plan = if linux::recognise(&kernel.bytes) {
        linux::plan(&kernel, config, memory)?
    } else if let Some(header) = multiboot::find_header(&kernel.bytes) {
        multiboot::plan(&kernel, header, config, memory)?
    } else {
        return Err(kernel.unusable(not_a_kernel(&kernel.bytes)));
    };
    let rom = option_rom::build(&plan.start);
    let file = |name, bytes| BootFile { name, bytes };
    Ok(BootFiles {
        files: vec![file(ROM_FILE, rom), file(STREAM_FILE, plan.stream.finish()), file(ORDER_FILE, ORDER.to_vec())],
    })
}

/// What a file that is neither kind seems to be.
fn not_a_kernel(bytes: &[u8]) -> String {
    let guess = match bytes {
        [] => return "it is empty".to_owned(),
        [0x7f, b'E', b'L', b'F', ..] => {
            " It is an ELF file without a multiboot header in its first 8 KiB; Linux starts from a bzImage, not from vmlinux."
        }
        [0x1f, 0x8b, ..] => " It is compressed with gzip; unpack it first.",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => " It is compressed with zstd; unpack it first.",
        _ => "",
    };
    format!("it is neither a Linux bzImage nor a multiboot image.{guess}")
}

/// The machine's memory, as far as a kernel may be put there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// All of it, in bytes.
    pub bytes: u64,
    /// First address that is not free.
    pub top: u64,
}

impl Memory {
    fn new(bytes: u64) -> Self {
        Self { bytes, top: bytes.min(HIGHEST).saturating_sub(FIRMWARE_BYTES) }
    }

    /// Its size for messages.
    pub(super) fn mib(self) -> u64 {
        self.bytes >> 20
    }
}

/// A file that was read whole.
#[derive(Debug)]
pub(super) struct FileBytes {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl FileBytes {
    /// Reads `path`, which may have at most `most` bytes: more does not fit into the machine anyway.
    pub(super) fn read(path: &Path, most: u64) -> Result<Self, KernelError> {
        let unreadable = |source| KernelError::Unreadable { path: path.to_path_buf(), source };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let mut read = Self { path: path.to_path_buf(), bytes: Vec::new() };
        if !metadata.is_file() {
            return Err(read.unusable("it is not a file"));
        }
        let too_large = |len: u64| format!("it has {len} bytes, which do not fit into the machine's memory");
        if metadata.len() > most {
            return Err(read.unusable(too_large(metadata.len())));
        }
        let file = File::open(path).map_err(unreadable)?;
        file.take(most + 1).read_to_end(&mut read.bytes).map_err(unreadable)?;
        if read.bytes.len() as u64 > most {
            return Err(read.unusable(too_large(read.bytes.len() as u64)));
        }
        Ok(read)
    }

    pub(super) fn unusable(&self, reason: impl Into<String>) -> KernelError {
        KernelError::Unusable { path: self.path.clone(), reason: reason.into() }
    }

    /// The little-endian word at `at`, 0 past the end.
    pub(super) fn word(&self, at: usize) -> u16 {
        self.bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
    }

    /// The little-endian doubleword at `at`, 0 past the end.
    pub(super) fn dword(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }
}

/// What is to be put into memory, and how to go on from there.
#[derive(Debug)]
pub(super) struct Plan {
    pub stream: Stream,
    pub start: Start,
}

/// Pieces for memory, each behind the fw_cfg DMA descriptor that moves it.
///
/// The ROM reads one descriptor (16 bytes, big-endian: control, length, address) out of the stream and hands it straight
/// back to fw_cfg, which then moves the bytes that follow. A descriptor of zeros is the end.
#[derive(Debug, Default)]
pub(super) struct Stream(Vec<u8>);

impl Stream {
    /// fw_cfg DMA control: read from the item.
    const READ: u32 = 2;

    /// Adds `bytes` for memory from `address` on.
    pub(super) fn piece(&mut self, address: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.extend(Self::READ.to_be_bytes());
            self.0.extend((bytes.len() as u32).to_be_bytes());
            self.0.extend(u64::from(address).to_be_bytes());
            self.0.extend(bytes);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 16]);
        self.0
    }

    /// The pieces, as a machine would get them.
    #[cfg(test)]
    pub(super) fn pieces(&self) -> Vec<(u32, &[u8])> {
        let (mut rest, mut pieces) = (&self.0[..], Vec::new());
        while let Some((head, tail)) = rest.split_at_checked(16) {
            let field = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
            let (bytes, after) = tail.split_at(field(4) as usize);
            pieces.push((field(12), bytes));
            rest = after;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::tests::Folder;

    #[test]
    fn messages_name_the_file_and_the_reason() {
        let folder = Folder::new("kernel");
        let try_file = |bytes: &[u8]| {
            let kernel = folder.file("kernel.img", bytes);
            let config = KernelConfig { kernel, ..KernelConfig::default() };
            load(&config, 64 << 20).unwrap_err().to_string()
        };
        assert!(try_file(b"").contains("kernel.img” cannot be started: it is empty"));
        assert!(try_file(b"#!/bin/sh\n").contains("neither a Linux bzImage nor a multiboot image"));
        assert!(try_file(b"\x7fELF\x02").contains("not from vmlinux"));
        assert!(try_file(b"\x1f\x8b\x08").contains("unpack it first"));
        let config = KernelConfig { kernel: "/no/such/kernel".into(), ..KernelConfig::default() };
        assert!(load(&config, 64 << 20).unwrap_err().to_string().contains("/no/such/kernel"));
        let config = KernelConfig { kernel: folder.0.clone(), ..KernelConfig::default() };
        assert!(load(&config, 64 << 20).unwrap_err().to_string().contains("not a file"));
        let kernel = folder.file("big.img", &vec![0; 4 << 20]);
        let config = KernelConfig { kernel, ..KernelConfig::default() };
        assert!(load(&config, 4 << 20).unwrap_err().to_string().contains("do not fit"));
        assert!(load(&config, 0).unwrap_err().to_string().contains("do not fit"));
    }
}
