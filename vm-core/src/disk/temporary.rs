//! `snapshot=on`: the image stays as it is; what the guest writes goes to a file that has no name.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::SECTOR;
use super::raw::{Image, RawImage};

/// Sectors whose bits stand together: 2 MiB.
const GROUP: u64 = 4096;

/// An image with written sectors laid over it.
pub struct Overlay {
    base: Box<dyn Image>,
    written: RawImage,
    /// One bit a sector that stands in `written`, for groups that have one.
    present: HashMap<u64, Box<[u64; GROUP as usize / 64]>>,
}

impl Overlay {
    /// An overlay in which nothing is written yet.
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub fn new(base: Box<dyn Image>) -> io::Result<Self> {
        let file = unnamed_file()?;
        // Sparse: takes no room until written.
        file.set_len(base.bytes().div_ceil(SECTOR) * SECTOR)?;
        Ok(Self { base, written: RawImage::new(file)?, present: HashMap::new() })
    }

    fn is_present(&self, sector: u64) -> bool {
        self.present.get(&(sector / GROUP)).is_some_and(|bits| {
            let bit = sector % GROUP;
            bits[(bit / 64) as usize] >> (bit % 64) & 1 != 0
        })
    }
}

impl Image for Overlay {
    fn bytes(&self) -> u64 {
        self.base.bytes()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let sectors = buffer.len() / SECTOR as usize;
        let first = offset / SECTOR;
        let mut done = 0;
        while done < sectors {
            let here = self.is_present(first + done as u64);
            let run = (done..sectors).take_while(|n| self.is_present(first + *n as u64) == here).count();
            let part = &mut buffer[done * SECTOR as usize..(done + run) * SECTOR as usize];
            let at = (first + done as u64) * SECTOR;
            if here {
                self.written.read(at, part)?;
            } else {
                self.base.read(at, part)?;
            }
            done += run;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        self.written.write(offset, buffer)?;
        for sector in offset / SECTOR..(offset + buffer.len() as u64) / SECTOR {
            let bits = self.present.entry(sector / GROUP).or_insert_with(|| Box::new([0; GROUP as usize / 64]));
            let bit = sector % GROUP;
            bits[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Gone at the end anyway.
        Ok(())
    }
}

/// A file of mode 0600 that is removed at once and lives as long as it is open.
fn unnamed_file() -> io::Result<File> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = folder();
    for _ in 0..100 {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".hako-{}-{count}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        #[cfg(windows)]
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, 0x0400_0000); // FILE_FLAG_DELETE_ON_CLOSE
        match options.open(&path) {
            Ok(file) => {
                #[cfg(not(windows))]
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                let text = format!("no temporary file can be made in “{}”: {error}; set TMPDIR", folder.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// `TMPDIR`, else `/var/tmp`: `/tmp` may be memory.
fn folder() -> PathBuf {
    let large = PathBuf::from("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && large.is_dir() { large } else { std::env::temp_dir() }
}
