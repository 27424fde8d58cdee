//! Plain images: the bytes of the medium, one after the other.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};

use super::SECTOR;
use super::host_file::{read_at, write_at};
use super::qcow2::{self, Layer};
use super::sums::Written;

/// What the I/O thread works on.
pub trait Image: Send + 'static {
    /// Bytes of the medium.
    fn bytes(&self) -> u64;
    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] where the medium has no such place, otherwise what the host says.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// As for [`Image::read`].
    fn write(&mut self, offset: u64, buffer: &[u8]) -> io::Result<()>;
    /// Brings what was written to stable storage.
    ///
    /// # Errors
    /// What the host says.
    fn flush(&mut self) -> io::Result<()>;
    /// The image as a layer below another one. It must not be written any more once something lies over it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where nothing can lie over it, otherwise what the host says.
    fn layer(&mut self) -> io::Result<Layer> {
        Err(ErrorKind::Unsupported.into())
    }
    /// From now on lets no write through.
    fn freeze(&mut self) {}
}

impl Image for Box<dyn Image> {
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read(offset, buffer)
    }

    fn write(&mut self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        (**self).write(offset, buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn layer(&mut self) -> io::Result<Layer> {
        (**self).layer()
    }

    fn freeze(&mut self) {
        (**self).freeze();
    }
}

/// A plain image.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    bytes: u64,
    /// Beginnings that are not written.
    refused: Option<fn(&[u8]) -> bool>,
    written: Written,
}

impl RawImage {
    /// Takes an open file (or block device) as it is now.
    ///
    /// # Errors
    /// Where its end cannot be found.
    pub fn new(mut file: File) -> io::Result<Self> {
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, bytes, refused: None, written: Written::default() })
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From now on refuses to write a beginning that `looks_other` takes for another format.
    pub fn keep_plain(&mut self, looks_other: fn(&[u8]) -> bool) {
        self.refused = Some(looks_other);
    }

    /// What is written from now on.
    pub fn written(&self) -> Written {
        self.written.clone()
    }

    /// Another handle of the same open file: it shares its lock.
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Fills `buffer` from `offset` on; behind the end of the file, up to the end of its last sector, stand zeros.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inside = self.inside(offset, buffer.len())?;
        let (present, absent) = buffer.split_at_mut(inside);
        absent.fill(0);
        if present.is_empty() {
            return Ok(());
        }
        read_at(&self.file, offset, present)
    }

    fn write_at(&self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        let inside = self.inside(offset, buffer.len())?;
        let (present, absent) = buffer.split_at(inside);
        if absent.iter().any(|byte| *byte != 0) {
            return Err(no_such_place());
        }
        if present.is_empty() {
            return Ok(());
        }
        if offset == 0 && self.refused.is_some_and(|looks_other| looks_other(present)) {
            let text = "it would make this plain image look like one of another format; say format=raw to allow it";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        self.written.add(offset, present.len() as u64);
        write_at(&self.file, offset, present)
    }

    /// How many of `len` bytes from `offset` on the file has; an error past its last sector.
    fn inside(&self, offset: u64, len: usize) -> io::Result<usize> {
        let end = offset.checked_add(len as u64).ok_or_else(no_such_place)?;
        if end > self.bytes.div_ceil(SECTOR) * SECTOR {
            return Err(no_such_place());
        }
        Ok(self.bytes.saturating_sub(offset).min(len as u64) as usize)
    }
}

/// The medium has no such place.
pub fn no_such_place() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "the medium has no such sector")
}

impl Image for RawImage {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, buffer)
    }

    fn write(&mut self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        self.write_at(offset, buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn layer(&mut self) -> io::Result<Layer> {
        qcow2::layer_of(self.file.try_clone()?, self.bytes)
    }
}
