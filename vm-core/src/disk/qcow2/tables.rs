//! A look through the tables of an image before it is used: nothing may point outside the file or at what something else uses, and
//! whatever is in use must be counted as such, or the next new cluster would overwrite it.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use super::header::{Header, Refusal, damaged};
use crate::disk::host_file::read_at;

/// Most clusters of a file: the marks of one kind then take 64 MiB of address space, touched only where something lies.
const MAX_CLUSTERS: u64 = 1 << 29;

/// Most bytes of L2 tables, which are all read: enough for 128 TiB in clusters of 64 KiB.
const MAX_L2_BYTES: u64 = 16 << 30;

/// Where the offset of an L1 or L2 entry is (bits 9 to 55).
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Where the tables of the second level are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Offsets of L2 tables.
    pub l2: HashSet<u64>,
    /// Offsets of refcount blocks.
    pub refcount_blocks: HashSet<u64>,
}

/// Reads the entries (of 8 bytes) of a table of the first level.
pub fn entries(file: &File, range: std::ops::Range<u64>) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    read_at(file, range.start, &mut bytes)?;
    Ok(words(&bytes).collect())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The places that the entries of a table of the first level point to.
pub fn places(entries: &[u64]) -> impl Iterator<Item = u64> {
    entries.iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0)
}

/// Checks all tables. With `counted`, refcounts too: an image that is only read does without.
///
/// # Errors
/// [`io::Error`] for the host, a [`Refusal`] for the image.
pub fn check(file: &File, header: &Header, file_bytes: u64, counted: bool) -> io::Result<Result<Tables, Refusal>> {
    let clusters = file_bytes.div_ceil(header.cluster());
    if clusters > MAX_CLUSTERS {
        return Ok(damaged(format!("{clusters} clusters")));
    }
    let mut look = Look {
        file,
        header,
        clusters,
        file_bytes,
        tables: Tables::default(),
        own: Marks::new(clusters),
        data: Marks::new(clusters),
        packed: Marks::new(clusters),
        buffer: vec![0; header.cluster() as usize],
    };
    let result = look.first_level().and_then(|()| look.second_level());
    let result = if counted { result.and_then(|()| look.counted()) } else { result };
    match result {
        Ok(()) => Ok(Ok(look.tables)),
        Err(Problem::Host(error)) => Err(error),
        Err(Problem::Image(refusal)) => Ok(Err(refusal)),
    }
}

enum Problem {
    Host(io::Error),
    Image(Refusal),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Image(refusal)
    }
}

/// A bit a cluster.
struct Marks(Vec<u64>);

impl Marks {
    fn new(clusters: u64) -> Self {
        Self(vec![0; clusters.div_ceil(64) as usize])
    }

    fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or_default()
    }

    fn has(&self, cluster: u64) -> bool {
        self.word((cluster / 64) as usize) >> (cluster % 64) & 1 != 0
    }

    /// Whether it is new.
    fn set(&mut self, cluster: u64) -> bool {
        let new = !self.has(cluster);
        if let Some(word) = self.0.get_mut((cluster / 64) as usize) {
            *word |= 1 << (cluster % 64);
        }
        new
    }
}

struct Look<'a> {
    file: &'a File,
    header: &'a Header,
    clusters: u64,
    file_bytes: u64,
    tables: Tables,
    /// Header and tables.
    own: Marks,
    /// Data, each of one place of the medium.
    data: Marks,
    /// Compressed data; several may share a cluster.
    packed: Marks,
    buffer: Vec<u8>,
}

impl Look<'_> {
    fn first_level(&mut self) -> Result<(), Problem> {
        let cluster = self.header.cluster();
        self.own.set(0);
        for range in [self.header.l1(), self.header.refcounts()] {
            for number in range.start / cluster..range.end.div_ceil(cluster) {
                self.table(number, "two tables")?;
            }
        }
        let l1 = entries(self.file, self.header.l1())?;
        let refcounts = entries(self.file, self.header.refcounts())?;
        for (entries, what) in [(&l1, "L2 table"), (&refcounts, "refcount block")] {
            for offset in places(entries) {
                if offset % cluster != 0 || offset.checked_add(cluster).is_none_or(|end| end > self.padded()) {
                    damaged(format!("its {what} at {offset} is not inside the file"))?;
                }
                self.table(offset / cluster, "two tables")?;
            }
        }
        self.tables.l2 = places(&l1).collect();
        self.tables.refcount_blocks = places(&refcounts).collect();
        Ok(())
    }

    /// Bytes of the file with its last cluster filled up.
    fn padded(&self) -> u64 {
        self.clusters << self.header.cluster_bits
    }

    fn table(&mut self, cluster: u64, who: &str) -> Result<(), Refusal> {
        if self.own.set(cluster) { Ok(()) } else { damaged(format!("{who} share cluster {cluster}")) }
    }

    /// Reads a cluster; what lies behind the end of the file is zeros.
    fn read(&mut self, offset: u64) -> io::Result<()> {
        let inside = self.file_bytes.saturating_sub(offset).min(self.buffer.len() as u64) as usize;
        let (present, absent) = self.buffer.split_at_mut(inside);
        absent.fill(0);
        read_at(self.file, offset, present)
    }

    fn second_level(&mut self) -> Result<(), Problem> {
        let bytes = (self.tables.l2.len() as u64) << self.header.cluster_bits;
        if bytes > MAX_L2_BYTES {
            damaged(format!("{bytes} bytes of L2 tables"))?;
        }
        let mut tables: Vec<u64> = self.tables.l2.iter().copied().collect();
        tables.sort_unstable();
        for table in tables {
            self.read(table)?;
            let buffer = std::mem::take(&mut self.buffer);
            let result = words(&buffer).filter(|entry| *entry != 0).try_for_each(|entry| self.entry(entry));
            self.buffer = buffer;
            result?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: u64) -> Result<(), Refusal> {
        let bits = self.header.cluster_bits;
        if entry & COMPRESSED != 0 {
            let width = 62 - (bits - 8);
            let offset = entry & ((1 << width) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> width;
            let end = (offset & !511) + (sectors + 1) * 512;
            for cluster in offset >> bits..end.div_ceil(self.header.cluster()) {
                // The last sector may be counted beyond the end of the file.
                if offset >= self.file_bytes
                    || cluster > self.clusters
                    || self.own.has(cluster)
                    || self.data.has(cluster)
                {
                    return damaged(format!("compressed data at {offset} is not its own"));
                }
                self.packed.set(cluster);
            }
            return Ok(());
        }
        if self.header.version == 2 && entry & ZERO != 0 {
            return damaged("an entry has a bit that version 2 does not know");
        }
        let offset = entry & OFFSET;
        let cluster = offset >> bits;
        if offset == 0 {
            return Ok(());
        }
        if !offset.is_multiple_of(self.header.cluster()) || cluster >= self.clusters {
            return damaged(format!("data at {offset} is not inside the file"));
        }
        if self.own.has(cluster) || self.packed.has(cluster) || !self.data.set(cluster) {
            return damaged(format!("cluster {cluster} is used twice"));
        }
        Ok(())
    }

    /// Every cluster in use has a refcount.
    fn counted(&mut self) -> Result<(), Problem> {
        let per_block = (self.header.cluster() * 8) >> self.header.refcount_order;
        let blocks = entries(self.file, self.header.refcounts())?;
        let needed = self.clusters.div_ceil(per_block);
        for index in 0..needed {
            // A block counts a multiple of 64 clusters: whole words of marks.
            let words = (index * per_block / 64) as usize..((index + 1) * per_block / 64) as usize;
            let used =
                |word: usize| [&self.own, &self.data, &self.packed].iter().fold(0, |all, marks| all | marks.word(word));
            let mut used = words.map(|word| (word, used(word))).filter(|(_, bits)| *bits != 0).peekable();
            if used.peek().is_none() {
                continue;
            }
            let used: Vec<(usize, u64)> = used.collect();
            let block = blocks.get(index as usize).map_or(0, |entry| entry & OFFSET);
            if block == 0 {
                damaged(format!("clusters from {} on are in use and not counted", index * per_block))?;
            }
            self.read(block)?;
            for (word, bits) in used {
                for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                    let cluster = word as u64 * 64 + bit;
                    if is_zero(&self.buffer, cluster - index * per_block, self.header.refcount_order) {
                        damaged(format!("cluster {cluster} is in use and counted as free"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether refcount `index` of a block is zero.
fn is_zero(block: &[u8], index: u64, order: u32) -> bool {
    if order >= 3 {
        let bytes = 1 << (order - 3);
        let at = index as usize * bytes;
        return block.get(at..at + bytes).is_none_or(|count| count.iter().all(|byte| *byte == 0));
    }
    // Several in a byte, from its low bits up.
    let bit = index << order;
    let mask = (1_u16 << (1 << order)) - 1;
    block.get((bit / 8) as usize).is_none_or(|byte| u16::from(*byte) >> (bit % 8) & mask == 0)
}
