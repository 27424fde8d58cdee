//! Media: what is behind a drive. Never blocks the machine's thread.
//!
//! [`open`] looks at the file, locks it, and puts an I/O thread before it. The drive submits [`Operation`]s and
//! collects [`Completion`]s when the machine's attention flag has been raised.

pub mod convert;
pub(crate) mod host_file;
pub mod identity;
pub mod image;
mod iso;
pub mod lock;
#[cfg(test)]
pub mod memory;
mod qcow2;
mod raw;
pub mod sums;
mod temporary;
mod worker;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::bus::signals::Signals;
use crate::config::{DriveKind, ImageFormat};
use identity::IdentityStep;
use lock::{Lock, LockError};
use raw::{Image, RawImage};
use sums::{FileSums, Stamp, Written};
use temporary::Overlay;
use worker::Worker;

pub use qcow2::chain::MAX_LAYERS;

/// Bytes in a logical sector of the block interface. ATAPI groups four.
pub const SECTOR: u64 = 512;

/// Most sectors of a hard disk: what 48-bit addresses reach.
pub const MAX_DISK_SECTORS: u64 = 1 << 48;

/// Most bytes of a floppy: 2.88 MB.
pub const MAX_FLOPPY_BYTES: u64 = 2880 * 1024;

/// Most bytes of a CD: what 32-bit addresses of 2,048-byte blocks reach.
pub const MAX_CD_BYTES: u64 = 2048 << 32;

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
    /// What the host said. [`ErrorKind::InvalidInput`]: the medium has no such place (nothing is wrong with the host).
    pub result: io::Result<()>,
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
    /// The file, for messages and saved states; `None`: not a file.
    fn path(&self) -> Option<&Path> {
        None
    }
    /// How the file holds the bytes; `None`: not a file.
    fn format(&self) -> Option<ImageFormat> {
        None
    }
    /// Whether the guest's writes are gone when the medium is closed (`snapshot=on`).
    fn temporary(&self) -> bool {
        false
    }
    /// Brings all writes so far to stable storage, then measures the medium for a saved state, on the I/O thread and after everything
    /// submitted before. `known`: sums of files from before, which may be among those of this medium. `None`: a medium that has no
    /// identity. Dropping the receiver cancels.
    fn identify(&mut self, known: &Arc<Vec<FileSums>>) -> Option<Receiver<IdentityStep>> {
        let _ = known;
        None
    }
    /// Brings all writes so far to stable storage, after everything submitted before. `None`: there is nothing to bring.
    fn sync(&mut self) -> Option<Receiver<io::Result<()>>> {
        None
    }
    /// From now on writes go to the qcow2 image at `overlay`, which lies over this one and holds nothing yet; what was here is on stable
    /// storage and is not written any more. On an error nothing has changed. It comes after everything submitted before, and is waited for.
    ///
    /// # Errors
    /// In words.
    fn freeze(&mut self, overlay: &Path) -> Result<(), MediumError> {
        let error = io::ErrorKind::Unsupported.into();
        Err(MediumError::Host { path: overlay.to_owned(), error })
    }
}

/// Why an image cannot be a medium. The text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// No such file.
    #[error("“{}” does not exist: check the path, or choose another image", .0.display())]
    Missing(PathBuf),
    /// Permissions.
    #[error("“{}” may not be read by you: change its permissions (chmod u+r), or choose another image", .0.display())]
    Unreadable(PathBuf),
    /// Permissions, for writing.
    #[error("“{}” may not be written by you: change its permissions (chmod u+w), or attach it read-only", .0.display())]
    Unwritable(PathBuf),
    /// A folder.
    #[error("“{}” is a folder, not an image: choose a file", .0.display())]
    Directory(PathBuf),
    /// A pipe, socket, terminal …
    #[error("“{}” is not a file that can be read at any place (it is a {}): choose an image file", .0.display(), .1)]
    NotAFile(PathBuf, &'static str),
    /// A block device that the guest would write.
    #[error("“{}” is a real drive of this computer: attach it read-only, or make an image of it", .0.display())]
    Device(PathBuf),
    /// No bytes.
    #[error("“{}” is empty: choose another image, or give it a size (truncate -s 1G)", .0.display())]
    Empty(PathBuf),
    /// Too many bytes.
    #[error("“{}” has {size} bytes, and {what} has at most {limit}: attach it as {instead}", path.display())]
    TooLarge {
        /// The image.
        path: PathBuf,
        /// Its bytes.
        size: u64,
        /// "a floppy" …
        what: &'static str,
        /// Most bytes.
        limit: u64,
        /// What to do.
        instead: &'static str,
    },
    /// An image of a format that is not a plain one.
    #[error("“{}” is {format}: {advice}", path.display())]
    Format {
        /// The image.
        path: PathBuf,
        /// Name of the format, with its article.
        format: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// An image that we cannot serve, or would not.
    #[error("“{}” {reason}: {advice}", path.display())]
    Unusable {
        /// The image.
        path: PathBuf,
        /// "is encrypted" …
        reason: String,
        /// What to do.
        advice: String,
    },
    /// Something is wrong with what an image lies over.
    #[error("“{}” lies over another file: {error}", path.display())]
    Backing {
        /// The image.
        path: PathBuf,
        /// What is wrong with the file below.
        error: Box<MediumError>,
    },
    /// Somebody else has it open.
    #[error("“{}” is in use by another machine (of Hako or QEMU): close that one, or attach the image read-only in both", .0.display())]
    InUse(PathBuf),
    /// Anything else that the host says.
    #[error("“{}” cannot be opened: {error}", path.display())]
    Host {
        /// The image.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
}

/// How an image is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// How the file holds the bytes; `None`: as it begins. The guest may then not make a plain image look like another format, which
    /// would be believed at the next start.
    pub format: Option<ImageFormat>,
    /// Writes are refused.
    pub read_only: bool,
    /// Writes go to a temporary file that is gone at the end.
    pub temporary: bool,
}

/// Opens the image at `path` for a drive of kind `kind` and starts its I/O thread.
///
/// The last sector of a medium whose size is not a multiple of 512 reads as if filled up with zeros; no write makes a medium grow.
///
/// # Errors
/// Where the file is missing, unfit, locked, or the host refuses; the text is for the person.
pub fn open(
    path: &Path,
    access: Access,
    kind: DriveKind,
    signals: &Arc<Signals>,
) -> Result<Box<dyn BlockBackend>, MediumError> {
    let read_only = access.read_only || kind == DriveKind::Cd;
    let temporary = access.temporary && !read_only;
    let writable = !read_only && !temporary;
    check_kind_of_file(path, writable)?;
    let format = access.format.map_or_else(|| image::probe(path), Ok)?;
    let (image, files): (Box<dyn Image>, _) = match format {
        ImageFormat::Raw => {
            let (image, file) = open_raw(path, writable, access.format.is_none(), kind)?;
            (Box::new(image), vec![file])
        }
        ImageFormat::Qcow2 => {
            let opened = qcow2::chain::open(path, writable)?;
            (Box::new(opened.image), opened.files.into_iter().map(Into::into).collect())
        }
    };
    check_size(path, image.bytes(), kind)?;
    let host = |error| MediumError::Host { path: path.to_owned(), error };
    let about = worker::About { path: path.to_owned(), format, bytes: image.bytes(), read_only, temporary };
    let image = if temporary { Box::new(Overlay::new(image).map_err(host)?) } else { image };
    Ok(Box::new(Worker::start(about, files, image, signals).map_err(host)?))
}

/// A file of an image that is in use.
#[derive(Debug)]
struct HeldFile {
    path: PathBuf,
    /// Another handle of it.
    file: File,
    /// Lives until all is written.
    lock: Option<Lock>,
    /// As it was when it was opened.
    opened: Stamp,
    /// Written since.
    written: Written,
}

/// A plain image, and its file.
fn open_raw(path: &Path, writable: bool, probed: bool, kind: DriveKind) -> Result<(RawImage, HeldFile), MediumError> {
    let host = |error| MediumError::Host { path: path.to_owned(), error };
    let file = open_file(path, writable)?;
    let lock = lock_file(path, &file, writable)?;
    let mut image = RawImage::new(file).map_err(host)?;
    check_size(path, image.bytes(), kind)?;
    check_content(path, &image, kind)?;
    if probed {
        image.keep_plain(|start| format_of(start).is_some());
    }
    let file = image.share().map_err(host)?;
    let (opened, written) = (Stamp::of(&file), image.written());
    Ok((image, HeldFile { path: path.to_owned(), file, lock: Some(lock), opened, written }))
}

/// Locks the open file of an image.
fn lock_file(path: &Path, file: &File, writable: bool) -> Result<Lock, MediumError> {
    lock::acquire(file, writable).map_err(|error| match error {
        LockError::InUse => MediumError::InUse(path.to_owned()),
        LockError::Host(error) => MediumError::Host { path: path.to_owned(), error },
    })
}

/// Refuses what is not a file before opening it: opening a pipe would wait for its other end.
fn check_kind_of_file(path: &Path, writable: bool) -> Result<(), MediumError> {
    let metadata = std::fs::metadata(path).map_err(|error| open_error(path, error, false))?;
    if metadata.is_dir() {
        return Err(MediumError::Directory(path.to_owned()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_block_device() && writable {
            return Err(MediumError::Device(path.to_owned()));
        }
        let special =
            [(kind.is_char_device(), "character device"), (kind.is_fifo(), "pipe"), (kind.is_socket(), "socket")];
        if let Some((_, what)) = special.into_iter().find(|(is, _)| *is) {
            return Err(MediumError::NotAFile(path.to_owned(), what));
        }
    }
    #[cfg(not(unix))]
    let _ = writable;
    Ok(())
}

fn open_file(path: &Path, writable: bool) -> Result<File, MediumError> {
    OpenOptions::new().read(true).write(writable).open(path).map_err(|error| {
        let readable = writable && File::open(path).is_ok();
        open_error(path, error, readable)
    })
}

fn open_error(path: &Path, error: io::Error, readable: bool) -> MediumError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::NotFound => MediumError::Missing(path),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem if readable => MediumError::Unwritable(path),
        ErrorKind::PermissionDenied => MediumError::Unreadable(path),
        _ => MediumError::Host { path, error },
    }
}

fn check_size(path: &Path, size: u64, kind: DriveKind) -> Result<(), MediumError> {
    let path = path.to_owned();
    let (what, limit, instead) = match kind {
        DriveKind::Disk => ("a disk", MAX_DISK_SECTORS.saturating_mul(SECTOR), "several smaller ones"),
        DriveKind::Cd => ("a CD", MAX_CD_BYTES, "a hard disk"),
        DriveKind::Floppy => ("a floppy", MAX_FLOPPY_BYTES, "a hard disk (-hda)"),
    };
    match size {
        0 => Err(MediumError::Empty(path)),
        size if size > limit => Err(MediumError::TooLarge { path, size, what, limit, instead }),
        _ => Ok(()),
    }
}

const CONVERT: &str = "convert it with “qemu-img convert -O qcow2 OLD NEW” and attach the new one";
const CONVERT_VHD: &str =
    "convert it with “qemu-img convert -f vpc -O qcow2 OLD NEW” and attach the new one, or say format=raw";
const UNPACK: &str = "unpack it first";

/// How images of other formats begin.
const FORMATS: [(u64, &[u8], &str, &str); 10] = [
    // Looked for before; here for what a guest writes.
    (0, &qcow2::header::MAGIC, "a qcow2 image", CONVERT),
    (0, b"KDMV", "a VMDK image", CONVERT),
    (0, b"# Disk DescriptorFile", "the description of a VMDK image", CONVERT),
    (0, b"vhdxfile", "a VHDX image", CONVERT),
    (0, b"conectix", "a dynamic VHD image", CONVERT),
    (0, b"QED\0", "a QED image", CONVERT),
    (0, b"WithoutFreeSpace", "a Parallels image", CONVERT),
    (0, b"WithouFreSpacExt", "a Parallels image", CONVERT),
    (0, b"Bochs Virtual HD Image", "a growing image of Bochs", CONVERT),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI image", CONVERT),
];

/// How packed files begin. A hard disk may hold one by itself; a floppy or a CD never does.
const PACKED: [(u64, &[u8], &str, &str); 5] = [
    (0, b"\x1f\x8b\x08", "packed with gzip", UNPACK),
    (0, b"\xfd7zXZ\0", "packed with xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "packed with zstd", UNPACK),
    (0, b"BZh", "packed with bzip2", UNPACK),
    (0, b"PK\x03\x04", "a ZIP archive", UNPACK),
];

/// The format of another program whose images begin so.
fn format_of(start: &[u8]) -> Option<&'static (u64, &'static [u8], &'static str, &'static str)> {
    FORMATS.iter().find(|(at, magic, ..)| start.get(*at as usize..).is_some_and(|start| start.starts_with(magic)))
}

/// Finds out the format by the first sector.
fn probe(path: &Path, file: &File) -> Result<ImageFormat, MediumError> {
    let mut start = [0; SECTOR as usize];
    let read = file.try_clone().and_then(RawImage::new).and_then(|image| {
        // An empty file has nothing to say.
        if image.bytes() > 0 { image.read_at(0, &mut start) } else { Ok(()) }
    });
    read.map_err(|error| MediumError::Host { path: path.to_owned(), error })?;
    if start.starts_with(&qcow2::header::MAGIC) {
        return Ok(ImageFormat::Qcow2);
    }
    if let Some(&(_, _, format, advice)) = format_of(&start) {
        return Err(MediumError::Format { path: path.to_owned(), format, advice });
    }
    if ends_as_vhd(file).map_err(|error| MediumError::Host { path: path.to_owned(), error })? {
        let (format, advice) = ("a VHD image of fixed size", CONVERT_VHD);
        return Err(MediumError::Format { path: path.to_owned(), format, advice });
    }
    Ok(ImageFormat::Raw)
}

/// A VHD image of fixed size is a plain one with a sector more that describes it.
fn ends_as_vhd(file: &File) -> io::Result<bool> {
    let bytes = RawImage::new(file.try_clone()?)?.bytes();
    let mut cookie = [0; 8];
    let Some(at) = bytes.checked_sub(SECTOR).filter(|at| *at > 0 && bytes % SECTOR == 0) else { return Ok(false) };
    host_file::read_at(file, at, &mut cookie)?;
    Ok(cookie == *b"conectix")
}

/// Refuses what can be no floppy or CD.
fn check_content(path: &Path, image: &RawImage, kind: DriveKind) -> Result<(), MediumError> {
    if kind == DriveKind::Disk {
        return Ok(());
    }
    let mut start = [0; SECTOR as usize];
    image.read_at(0, &mut start).map_err(|error| MediumError::Host { path: path.to_owned(), error })?;
    if let Some(&(_, _, format, advice)) = PACKED.iter().find(|(_, magic, ..)| start.starts_with(magic)) {
        return Err(MediumError::Format { path: path.to_owned(), format, advice });
    }
    if kind == DriveKind::Cd { iso::check(path, &start) } else { Ok(()) }
}

/// What to tell when the host failed on the medium in `path` while the guest was waiting for `operation`.
pub fn failure_text(path: Option<&Path>, operation: &Operation, error: &io::Error) -> String {
    let file = path.map_or_else(|| "the medium".to_owned(), |path| format!("“{}”", path.display()));
    let what = match operation {
        Operation::Read { .. } => "read from",
        Operation::Write { .. } => "write to",
        Operation::Flush => "bring to stable storage what was written to",
    };
    let advice = match (error.kind(), operation) {
        (ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge, _) => {
            "Make room there, then resume: the write is tried again and nothing is lost."
        }
        (ErrorKind::UnexpectedEof, _) => {
            "The file has become shorter. Put it back as it was, then resume: the request is tried again."
        }
        (_, Operation::Read { .. }) => {
            "Look after the host's disk, then resume: the request is tried again, and if it fails again the guest is told of a bad sector."
        }
        _ => "Look after the host's disk, then resume: the request is tried again.",
    };
    format!("Hako could not {what} {file}: {error}. The guest waits. {advice}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// A folder of its own that goes away with the test.
    pub struct Folder(pub PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hako-disk-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub fn plain(path: &Path, kind: DriveKind) -> Result<Box<dyn BlockBackend>, MediumError> {
        let access = Access { format: None, read_only: false, temporary: false };
        open(path, access, kind, &Arc::new(Signals::new()))
    }

    pub fn finish(backend: &mut dyn BlockBackend) -> Completion {
        let end = Instant::now() + Duration::from_mins(5);
        loop {
            if let Some(completion) = backend.poll() {
                return completion;
            }
            assert!(Instant::now() < end, "no completion");
            std::thread::yield_now();
        }
    }

    pub fn read(backend: &mut dyn BlockBackend, sector: u64, sectors: usize) -> Vec<u8> {
        backend.submit(1, Operation::Read { sector, buffer: vec![0xaa; sectors * 512] });
        let completion = finish(backend);
        completion.result.unwrap();
        let Operation::Read { buffer, .. } = completion.operation else { panic!("another operation came back") };
        buffer
    }

    pub fn write(backend: &mut dyn BlockBackend, sector: u64, bytes: &[u8]) -> io::Result<()> {
        backend.submit(2, Operation::Write { sector, buffer: bytes.to_vec() });
        finish(backend).result
    }

    #[test]
    fn every_bad_image_is_refused_in_words_that_name_it() {
        let folder = Folder::new("bad");
        let mut vdi = vec![0; 1024];
        vdi[0x40..0x44].copy_from_slice(b"\x7f\x10\xda\xbe");
        let mut raw_cd = vec![0; 4704];
        raw_cd[1..11].fill(0xff);
        let cases = [
            (folder.0.join("nothing.img"), DriveKind::Disk, "does not exist"),
            (folder.0.clone(), DriveKind::Disk, "is a folder"),
            (folder.file("empty.img", b""), DriveKind::Disk, "is empty"),
            (folder.file("a.qcow2", b"QFI\xfb\0\0\0\x03"), DriveKind::Disk, "header is cut off"),
            (folder.file("a.vmdk", b"KDMV and more"), DriveKind::Disk, "VMDK"),
            (folder.file("a.vdi", &vdi), DriveKind::Cd, "VDI"),
            (folder.file("a.img.gz", b"\x1f\x8b\x08\0"), DriveKind::Floppy, "unpack it first"),
            (folder.file("a.bin", &raw_cd), DriveKind::Cd, "2,352"),
            (folder.file("big.img", &vec![0; 2880 * 1024 + 1]), DriveKind::Floppy, "at most 2949120"),
            (PathBuf::from("/dev/null"), DriveKind::Disk, "character device"),
        ];
        for (path, kind, words) in cases {
            let Err(error) = plain(&path, kind) else { panic!("{} was accepted", path.display()) };
            let text = error.to_string();
            assert!(text.contains(words), "{text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = Folder::new("pipe");
        let pipe = folder.0.join("pipe");
        if std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
            assert!(matches!(plain(&pipe, DriveKind::Disk), Err(MediumError::NotAFile(_, "pipe"))));
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_stands_in_the_file() {
        let folder = Folder::new("write");
        let path = folder.file("a.img", &[0; 4096]);
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        assert_eq!((backend.sectors(), backend.read_only()), (8, false));
        write(backend.as_mut(), 6, &[7; 1024]).unwrap();
        assert_eq!(read(backend.as_mut(), 5, 3), [&[0; 512][..], &[7; 1024]].concat());
        assert_eq!(write(backend.as_mut(), 7, &[1; 1024]).unwrap_err().kind(), ErrorKind::InvalidInput);
        backend.submit(9, Operation::Flush);
        assert!(matches!(finish(backend.as_mut()), Completion { tag: 9, operation: Operation::Flush, result: Ok(()) }));
        drop(backend);
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((bytes.len(), bytes[3071], bytes[3072], bytes[4095]), (4096, 0, 7, 7));
    }

    #[test]
    fn a_guest_cannot_make_a_plain_image_look_like_another_format() {
        let folder = Folder::new("plain");
        let path = folder.file("a.img", &[0; 4096]);
        let mut magic = [0; 1024];
        magic[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        assert_eq!(write(backend.as_mut(), 0, &magic).unwrap_err().kind(), ErrorKind::InvalidInput);
        // Elsewhere they are bytes like all others.
        write(backend.as_mut(), 1, &magic).unwrap();
        write(backend.as_mut(), 0, &[1; 512]).unwrap();
        drop(backend);
        assert_eq!(std::fs::read(&path).unwrap()[..4], [1; 4]);
        // Where the format is said, anything goes, and the image stays what it is.
        let raw = Access { format: Some(ImageFormat::Raw), read_only: false, temporary: false };
        let mut backend = open(&path, raw, DriveKind::Disk, &Arc::new(Signals::new())).unwrap();
        write(backend.as_mut(), 0, &magic).unwrap();
        drop(backend);
        let mut backend = open(&path, raw, DriveKind::Disk, &Arc::new(Signals::new())).unwrap();
        assert_eq!((backend.sectors(), &read(backend.as_mut(), 0, 1)[..4]), (8, &b"QFI\xfb"[..]));
    }

    #[test]
    fn closing_finishes_all_that_was_queued() {
        let folder = Folder::new("close");
        let path = folder.file("a.img", &vec![0; 1 << 20]);
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        for n in 0..2048 {
            backend.submit(n, Operation::Write { sector: n, buffer: vec![n as u8; 512] });
        }
        assert_eq!(backend.in_flight(), 2048);
        drop(backend);
        let bytes = std::fs::read(path).unwrap();
        assert!((0..2048).all(|n| bytes[n * 512] == n as u8));
    }

    #[test]
    fn a_partial_last_sector_reads_as_zeros_and_never_makes_the_file_grow() {
        let folder = Folder::new("partial");
        let path = folder.file("a.img", &[9; 700]);
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        assert_eq!(backend.sectors(), 2);
        let sector = read(backend.as_mut(), 1, 1);
        assert_eq!((&sector[..188], &sector[188..]), (&[9; 188][..], &[0; 324][..]));
        // What fits may be written; what does not is an error, not a loss.
        let mut fits = [0; 512];
        fits[..188].fill(3);
        write(backend.as_mut(), 1, &fits).unwrap();
        assert_eq!(write(backend.as_mut(), 1, &[3; 512]).unwrap_err().kind(), ErrorKind::InvalidInput);
        drop(backend);
        assert_eq!(std::fs::read(path).unwrap(), [&[9; 512][..], &[3; 188]].concat());
    }

    #[test]
    fn a_temporary_medium_keeps_its_writes_to_itself() {
        let folder = Folder::new("temporary");
        let path = folder.file("a.img", &vec![1; 3 << 20]);
        let access = Access { format: None, read_only: false, temporary: true };
        let mut backend = open(&path, access, DriveKind::Disk, &Arc::new(Signals::new())).unwrap();
        assert!(backend.temporary() && !backend.read_only());
        write(backend.as_mut(), 4095, &[5; 1024]).unwrap();
        assert_eq!(read(backend.as_mut(), 4094, 4), [&[1; 512][..], &[5; 1024], &[1; 512]].concat());
        drop(backend);
        assert_eq!(std::fs::read(path).unwrap(), vec![1; 3 << 20]);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_not_zeros() {
        let folder = Folder::new("shrink");
        let path = folder.file("a.img", &[1; 4096]);
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
        backend.submit(1, Operation::Read { sector: 2, buffer: vec![0; 512] });
        let completion = finish(backend.as_mut());
        let error = completion.result.unwrap_err();
        let text = failure_text(backend.path(), &completion.operation, &error);
        assert!(text.contains("a.img") && text.contains("shorter") && text.contains("resume"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_host_disk_is_said_in_words() {
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        let text = failure_text(Some(Path::new("/a.img")), &Operation::Write { sector: 0, buffer: Vec::new() }, &error);
        assert!(text.contains("“/a.img”") && text.contains("Make room"), "{text}");
    }

    #[test]
    fn an_identity_is_measured_behind_what_was_queued() {
        let folder = Folder::new("identity");
        let path = folder.file("a.img", &vec![1; 3 << 20]);
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        write(backend.as_mut(), 0, &[2; 512]).unwrap();
        let steps = backend.identify(&Arc::default()).unwrap();
        let measured = |steps: Receiver<IdentityStep>| loop {
            match steps.recv().unwrap() {
                IdentityStep::Progress { .. } => {}
                IdentityStep::Done(result) => break result.unwrap(),
            }
        };
        let identity::Measured { identity, sums, read } = measured(steps);
        assert_eq!(read, 3 << 20);
        identity.check(&mut |_, _| true).expect("nothing has changed");
        // The next session: what it does not write is not read.
        drop(backend);
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        write(backend.as_mut(), 2049, &[3; 512]).unwrap();
        let known = Arc::new(sums);
        let again = measured(backend.identify(&known).unwrap());
        assert_eq!(again.read, 1 << 20);
        again.identity.check(&mut |_, _| true).unwrap();
        let whole = identity::MediumIdentity { modified: None, ..again.identity.clone() };
        whole.check(&mut |_, _| true).expect("it is what reading everything says");
        // A session of somebody else in between: its sums are worth nothing.
        drop(backend);
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        assert_eq!(measured(backend.identify(&Arc::new(again.sums)).unwrap()).read, 3 << 20);
        drop(backend);
        let text = identity.check(&mut |_, _| true).expect_err("it has changed").to_string();
        assert!(text.contains("a.img") && text.contains("changed"), "{text}");
    }
}
