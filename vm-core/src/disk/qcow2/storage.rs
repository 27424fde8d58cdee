//! The file under a qcow2 image, as imago sees it: it keeps the order in which writes reach the disk.
//!
//! imago writes what points (table entries, the header) without waiting for what it points to, and keeps refcounts in memory while
//! the tables that need them are in the file already. After a power cut or a kill a cluster would be in use and counted as free, and
//! the next new cluster would overwrite it. So:
//! - Writes to the header and to the two tables of the first level wait in memory until [`Storage::commit`], which comes after imago
//!   has written its caches, and after a sync: first the refcount table, then the header, then the L1 table.
//! - An L2 table is written only when everything before it is on stable storage: the data and the refcounts that its entries need,
//!   and whatever of the refcount table and the header waits.
//! - A refcount block, and data in a cluster that was freed before, are written only when the L2 tables before them are.
//!
//! What a cut can leave behind is a cluster that is counted and not in use: lost room, no lost data.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;

use super::header::Header;
use super::tables::{self, Tables};
use crate::disk::host_file::{grow, read_at, sync, write_at};
use crate::disk::sums::Written;

/// Zeros are written in parts of this.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file of an image: the one that is written, or one below it.
#[derive(Clone, Debug)]
pub struct Storage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: File,
    path: PathBuf,
    helper: CommonStorageHelper,
    order: Mutex<Order>,
}

#[derive(Debug)]
struct Order {
    /// Bytes of the file.
    bytes: u64,
    /// `None`: nothing is written.
    layout: Option<Layout>,
    /// Writes to header and first level that wait, with their offsets, oldest first.
    waiting: Vec<(Link, u64, Vec<u8>)>,
    /// Written since the last sync: anything but L2 tables.
    unsynced: bool,
    /// Written since the last sync: L2 tables.
    unsynced_l2: bool,
    /// What of the file was written.
    written: Written,
    /// Clusters were freed since the last commit: data may land where an old table still points.
    freed: bool,
}

/// What a waiting write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    RefcountTable,
    Header,
    L1Table,
}

/// What of the file is which table.
#[derive(Debug)]
struct Layout {
    header: Header,
    tables: Tables,
}

impl Layout {
    /// What is reached from the header alone.
    fn first_level(&self, offset: u64, bytes: u64) -> Option<Link> {
        let end = offset.saturating_add(bytes);
        let meets = |range: std::ops::Range<u64>| offset < range.end && range.start < end;
        if offset < self.header.cluster() {
            Some(Link::Header)
        } else if meets(self.header.refcounts()) {
            Some(Link::RefcountTable)
        } else {
            meets(self.header.l1()).then_some(Link::L1Table)
        }
    }
}

impl Storage {
    /// A file that is only read.
    pub fn read_only(file: File, path: &Path, bytes: u64) -> Self {
        Self::new(file, path, bytes, None, Written::default())
    }

    /// The file of a qcow2 image that is written; where, is told to `written`.
    pub fn writable(file: File, path: &Path, bytes: u64, header: Header, tables: Tables, written: Written) -> Self {
        Self::new(file, path, bytes, Some(Layout { header, tables }), written)
    }

    fn new(file: File, path: &Path, bytes: u64, layout: Option<Layout>, written: Written) -> Self {
        let order =
            Order { bytes, layout, waiting: Vec::new(), unsynced: false, unsynced_l2: false, written, freed: false };
        Self(Arc::new(Shared {
            file,
            path: path.to_owned(),
            helper: CommonStorageHelper::default(),
            order: Mutex::new(order),
        }))
    }

    /// Lets no write through any more.
    pub fn freeze(&self) {
        self.order().layout = None;
    }

    /// Whether writes wait for [`Storage::commit`].
    pub fn waits(&self) -> bool {
        !self.order().waiting.is_empty()
    }

    /// Brings everything to stable storage, and what points after what it points to. Call it after imago has written its caches.
    ///
    /// # Errors
    /// What the host says; what is not written yet goes on waiting.
    pub fn commit(&self) -> io::Result<()> {
        let mut order = self.order();
        order.link(&self.0.file, &[Link::RefcountTable, Link::Header, Link::L1Table])?;
        order.sync(&self.0.file)?;
        order.freed = false;
        Ok(())
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        // A panic of imago cannot happen while it is held; ours would leave it as good as it was.
        self.0.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn sync(&mut self, file: &File) -> io::Result<()> {
        if self.unsynced || self.unsynced_l2 {
            sync(file)?;
            (self.unsynced, self.unsynced_l2) = (false, false);
        }
        Ok(())
    }

    /// Writes what waits of these kinds, each when the one before it is on stable storage.
    fn link(&mut self, file: &File, links: &[Link]) -> io::Result<()> {
        for link in links {
            if !self.waiting.iter().any(|(kind, ..)| kind == link) {
                continue;
            }
            self.sync(file)?;
            self.unsynced = true;
            for (_, offset, bytes) in self.waiting.iter().filter(|(kind, ..)| kind == link) {
                self.written.add(*offset, bytes.len() as u64);
                write_at(file, *offset, bytes)?;
                self.bytes = self.bytes.max(offset + bytes.len() as u64);
            }
            // Only then: if anything failed, all are written again.
            self.reread(file)?;
            self.waiting.retain(|(kind, ..)| kind != link);
        }
        Ok(())
    }

    /// Finds the tables again after the first level has changed.
    fn reread(&mut self, file: &File) -> io::Result<()> {
        let Some(layout) = &mut self.layout else { return Ok(()) };
        let header = Header::read(file, self.bytes)?.map_err(|refusal| io::Error::other(refusal.reason))?;
        let l2 = tables::places(&tables::entries(file, header.l1())?).collect();
        let refcount_blocks = tables::places(&tables::entries(file, header.refcounts())?).collect();
        *layout = Layout { header, tables: Tables { l2, refcount_blocks } };
        Ok(())
    }

    fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(layout) = &self.layout else {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "the image is not written"));
        };
        let end = offset.checked_add(bytes.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        if let Some(link) = layout.first_level(offset, bytes.len() as u64) {
            self.waiting.push((link, offset, bytes.to_vec()));
            return Ok(());
        }
        let is_l2 = layout.tables.l2.contains(&offset);
        let counts = layout.tables.refcount_blocks.contains(&offset);
        let wants_sync = !is_l2 && self.unsynced_l2 && (self.freed || counts);
        if is_l2 {
            self.link(file, &[Link::RefcountTable, Link::Header])?;
        }
        if wants_sync || is_l2 && self.unsynced {
            self.sync(file)?;
        }
        if is_l2 {
            self.unsynced_l2 = true;
        } else {
            self.unsynced = true;
        }
        self.written.add(offset, bytes.len() as u64);
        write_at(file, offset, bytes)?;
        self.bytes = self.bytes.max(end);
        Ok(())
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inside = self.bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (present, absent) = buffer.split_at_mut(inside);
        absent.fill(0);
        read_at(file, offset, present)?;
        for (_, at, bytes) in &self.waiting {
            let start = offset.max(*at);
            let end = (offset + buffer.len() as u64).min(at + bytes.len() as u64);
            if start < end {
                let from = &bytes[(start - at) as usize..(end - at) as usize];
                buffer[(start - offset) as usize..(end - offset) as usize].copy_from_slice(from);
            }
        }
        Ok(())
    }
}

impl Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.path.display())
    }
}

impl imago::Storage for Storage {
    fn size(&self) -> io::Result<u64> {
        Ok(self.order().bytes)
    }

    fn get_filename(&self) -> Option<PathBuf> {
        Some(self.0.path.clone())
    }

    unsafe fn pure_readv(&self, buffers: IoVectorMut<'_>, mut offset: u64) -> io::Result<()> {
        let order = self.order();
        for mut buffer in buffers.into_inner() {
            offset.checked_add(buffer.len() as u64).ok_or(ErrorKind::InvalidInput)?;
            order.read(&self.0.file, offset, &mut buffer)?;
            offset += buffer.len() as u64;
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, buffers: IoVector<'_>, mut offset: u64) -> io::Result<()> {
        let mut order = self.order();
        for buffer in buffers.into_inner() {
            order.write(&self.0.file, offset, &buffer)?;
            offset += buffer.len() as u64;
        }
        Ok(())
    }

    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut order = self.order();
        let end = offset.checked_add(length).ok_or(ErrorKind::FileTooLarge)?;
        // Behind the end a file is zeros by itself.
        let mut at = offset;
        while at < end.min(order.bytes) {
            let part = (end.min(order.bytes) - at).min(ZEROS.len() as u64);
            order.write(&self.0.file, at, &ZEROS[..part as usize])?;
            at += part;
        }
        if end > order.bytes {
            if order.layout.is_none() {
                return Err(ErrorKind::PermissionDenied.into());
            }
            grow(&self.0.file, end)?;
            order.bytes = end;
            order.unsynced = true;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        // Nothing is kept here but what waits for `commit`.
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.commit()
    }

    /// imago calls it before it frees clusters; an error makes it give them up instead.
    fn settle_writes(&self) -> io::Result<()> {
        let mut order = self.order();
        if order.waiting.is_empty() {
            order.freed = true;
            Ok(())
        } else {
            // The tables in the file still use what would be freed.
            Err(io::Error::new(ErrorKind::ResourceBusy, "tables wait to be written"))
        }
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.0.helper
    }

    fn resize(&self, bytes: u64, _: imago::storage::PreallocateMode) -> io::Result<()> {
        let mut order = self.order();
        if bytes < order.bytes || order.layout.is_none() {
            return Err(ErrorKind::Unsupported.into());
        }
        grow(&self.0.file, bytes)?;
        order.bytes = bytes;
        order.unsynced = true;
        Ok(())
    }
}
