//! The memories of a snapshot: an index of chunks, and packs in which they lie.
//!
//! A [pack](super::pack) holds chunks of 64 KiB: pieces of guest RAM and of the devices' memories.
//! `index.bin` says for each chunk where it lies: nowhere (all zeros), or in which pack and at which place, with a check sum. A snapshot
//! stores only chunks that its parent does not have; packs are shared and never written again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use twox_hash::XxHash3_128;

use super::pack::Pack;
use crate::bus::ram::transfer::{CHUNK, ChunkSource};
use crate::disk::sums::is_zero;

/// How an index begins.
const MAGIC: &[u8; 8] = b"HAKOMEM1";
/// Bytes before the packs' numbers: magic, bytes of RAM, bytes in all, number of packs.
const HEAD: usize = 8 + 8 + 8 + 4;
/// Bytes of an entry: pack + 1 (0: zeros), place in it, check sum.
const ENTRY: usize = 4 + 4 + 16;
/// Bytes of the check sum at the end.
const TRAILER: usize = 16;
/// Most bytes that an index describes.
pub(super) const MOST: u64 = 16 << 30;

/// The check sum of a chunk.
pub fn checksum(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is all zeros.
    Zero,
    /// In a pack, so many chunks from its start.
    Pack {
        /// The pack's number.
        pack: u32,
        /// Chunks before it.
        slot: u32,
    },
}

/// A chunk: where it lies, and its check sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// Over its bytes; 0 for zeros.
    pub checksum: u128,
}

impl Entry {
    /// A chunk of zeros.
    pub const ZERO: Self = Self { place: Place::Zero, checksum: 0 };
}

/// Where all chunks of a snapshot lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Bytes of guest RAM, which comes first.
    pub ram: u64,
    /// Bytes in all.
    pub len: u64,
    /// One a chunk; the last may be shorter.
    pub entries: Vec<Entry>,
}

impl Index {
    /// An index in which everything is zeros.
    pub fn empty(ram: u64, len: u64) -> Self {
        Self { ram, len, entries: vec![Entry::ZERO; len.div_ceil(CHUNK) as usize] }
    }

    /// Bytes of chunk `index`.
    pub fn chunk_len(&self, index: usize) -> usize {
        (self.len - index as u64 * CHUNK).min(CHUNK) as usize
    }

    /// A check sum of the content, wherever the chunks lie.
    pub fn content(&self) -> u128 {
        let mut bytes = Vec::with_capacity(16 + self.entries.len() * 16);
        bytes.extend(self.ram.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        for entry in &self.entries {
            bytes.extend(entry.checksum.to_le_bytes());
        }
        checksum(&bytes)
    }

    /// The packs that it needs, and how many chunks of each.
    pub fn packs(&self) -> HashMap<u32, u64> {
        let mut packs = HashMap::new();
        for entry in &self.entries {
            if let Place::Pack { pack, .. } = entry.place {
                *packs.entry(pack).or_insert(0) += 1;
            }
        }
        packs
    }

    /// As a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut packs: Vec<u32> = self.packs().into_keys().collect();
        packs.sort_unstable();
        let number: HashMap<u32, u32> = packs.iter().copied().zip(1..).collect();
        let mut bytes = Vec::with_capacity(HEAD + packs.len() * 4 + self.entries.len() * ENTRY + TRAILER);
        bytes.extend(MAGIC);
        bytes.extend(self.ram.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend((packs.len() as u32).to_le_bytes());
        bytes.extend(packs.iter().flat_map(|pack| pack.to_le_bytes()));
        for entry in &self.entries {
            let (pack, slot) = match entry.place {
                Place::Zero => (0, 0),
                Place::Pack { pack, slot } => (number[&pack], slot),
            };
            bytes.extend(pack.to_le_bytes());
            bytes.extend(slot.to_le_bytes());
            bytes.extend(entry.checksum.to_le_bytes());
        }
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// From a file.
    ///
    /// # Errors
    /// In words: what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let short = || "it is cut off".to_owned();
        let (rest, trailer) = bytes.split_last_chunk::<TRAILER>().ok_or_else(short)?;
        if !rest.starts_with(MAGIC) {
            return Err("it is not an index of memories of this version".to_owned());
        }
        if checksum(rest) != u128::from_le_bytes(*trailer) {
            return Err("its check sum is wrong: it has changed since it was written".to_owned());
        }
        let mut rest = rest.get(8..).ok_or_else(short)?;
        let ram = u64::from_le_bytes(take(&mut rest).ok_or_else(short)?);
        let len = u64::from_le_bytes(take(&mut rest).ok_or_else(short)?);
        let packs = u32::from_le_bytes(take(&mut rest).ok_or_else(short)?);
        if len > MOST || ram > len {
            return Err("it describes more memory than a machine can have".to_owned());
        }
        let count = len.div_ceil(CHUNK) as usize;
        if rest.len() as u64 != u64::from(packs) * 4 + count as u64 * ENTRY as u64 {
            return Err("its length is not what it says".to_owned());
        }
        let mut numbers = Vec::with_capacity(packs as usize);
        for _ in 0..packs {
            numbers.push(u32::from_le_bytes(take(&mut rest).ok_or_else(short)?));
        }
        let mut entries = Vec::with_capacity(count);
        while let Some(pack) = take(&mut rest).map(u32::from_le_bytes) {
            let slot = u32::from_le_bytes(take(&mut rest).ok_or_else(short)?);
            let checksum = u128::from_le_bytes(take(&mut rest).ok_or_else(short)?);
            let place = match pack.checked_sub(1) {
                None if slot == 0 && checksum == 0 => Place::Zero,
                None => return Err("a chunk of zeros has a place".to_owned()),
                Some(number) => {
                    let pack = *numbers.get(number as usize).ok_or("a chunk lies in a pack that is not named")?;
                    Place::Pack { pack, slot }
                }
            };
            entries.push(Entry { place, checksum });
        }
        Ok(Self { ram, len, entries })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

/// Reads and checks the index at `path`.
///
/// # Errors
/// What the host says; [`io::ErrorKind::InvalidData`] with words where the file is damaged.
pub fn read_index(path: &Path) -> io::Result<Index> {
    // The packs' numbers and the entries of the largest.
    let most = HEAD as u64 + (MOST / CHUNK) * (ENTRY as u64 + 4) + TRAILER as u64;
    let file = File::open(path)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(most) as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than any index"));
    }
    Index::from_bytes(&bytes).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))
}

/// The chunks of a snapshot, to be read.
#[derive(Debug)]
pub struct Chunks {
    /// The index.
    pub index: Index,
    packs: HashMap<u32, Pack>,
    /// Zeros are known to be zeros only where the index was right: for messages.
    origin: PathBuf,
}

impl Chunks {
    /// Opens all packs that `index` (read from `origin`) needs and looks whether they are long enough.
    ///
    /// # Errors
    /// The file, and what the host says or what is wrong with it.
    pub fn open(index: Index, origin: &Path, folder: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let mut packs: HashMap<u32, Pack> = HashMap::new();
        for (number, entry) in index.entries.iter().enumerate() {
            let Place::Pack { pack, slot } = entry.place else { continue };
            let open = match packs.entry(pack) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => place.insert(Pack::open(folder, pack)?),
            };
            open.covers(slot, index.chunk_len(number) as u64).map_err(|error| (open.path.clone(), error))?;
        }
        Ok(Self { index, packs, origin: origin.to_owned() })
    }

    /// Reads the memories behind RAM.
    ///
    /// # Errors
    /// In words that name the file.
    pub fn beyond_ram(&self) -> Result<Vec<u8>, String> {
        let first = (self.index.ram / CHUNK) as usize;
        let mut bytes = vec![0; (self.index.len - self.index.ram) as usize];
        let mut chunk = vec![0; CHUNK as usize];
        for (number, part) in (first..).zip(bytes.chunks_mut(CHUNK as usize)) {
            if !self.is_zero(number) {
                let chunk = &mut chunk[..part.len()];
                self.fill(number, chunk)?;
                part.copy_from_slice(chunk);
            }
        }
        Ok(bytes)
    }
}

impl ChunkSource for Chunks {
    fn is_zero(&self, index: usize) -> bool {
        self.index.entries.get(index).is_some_and(|entry| entry.place == Place::Zero)
    }

    fn fill(&self, index: usize, into: &mut [u8]) -> Result<(), String> {
        let entry = self.index.entries.get(index).copied().unwrap_or(Entry::ZERO);
        let Place::Pack { pack, slot } = entry.place else {
            into.fill(0);
            return Ok(());
        };
        let Some(pack) = self.packs.get(&pack) else {
            return Err(format!("{}: a pack that it names is not open", self.origin.display()));
        };
        let path = &pack.path;
        let advice = "The machine was stopped before it could go wrong; its disks are whole. Go back to another snapshot, or start it afresh.";
        pack.read(slot, into).map_err(|error| {
            format!("a part of the guest's memory cannot be read from {}: {error}. {advice}", path.display())
        })?;
        if checksum(into) != entry.checksum {
            return Err(format!(
                "a part of the guest's memory in {} (number {slot} of 64 KiB each) is not what was saved: the file has changed, or its disk fails. {advice}",
                path.display()
            ));
        }
        Ok(())
    }
}

/// Puts chunks into a new pack, where the parent does not have them already.
#[derive(Debug)]
pub struct Packer {
    /// What has been put so far.
    pub index: Index,
    parent: Option<Arc<Index>>,
    pack: u32,
    next: u32,
}

impl Packer {
    /// A packer for `ram` bytes of RAM and `len` in all; new chunks go to pack number `pack`.
    pub fn new(ram: u64, len: u64, pack: u32, parent: Option<Arc<Index>>) -> Self {
        Self { index: Index::empty(ram, len), parent, pack, next: 0 }
    }

    /// Takes chunk `number`; what must be written to the pack next is given back.
    pub fn put<'a>(&mut self, number: usize, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if is_zero(bytes) {
            return None;
        }
        let checksum = checksum(bytes);
        let known = self.parent.as_ref().and_then(|parent| {
            let entry = parent.entries.get(number).filter(|entry| entry.checksum == checksum)?;
            (parent.chunk_len(number) == bytes.len()).then_some(*entry)
        });
        if let Some(entry) = known {
            self.index.entries[number] = entry;
            return None;
        }
        let place = Place::Pack { pack: self.pack, slot: self.next };
        self.next += 1;
        self.index.entries[number] = Entry { place, checksum };
        Some(bytes)
    }

    /// Chunk `number` is as `entry` says.
    pub fn put_known(&mut self, number: usize, entry: Entry) {
        self.index.entries[number] = entry;
    }

    /// Bytes that the new pack takes.
    pub fn packed(&self) -> u64 {
        u64::from(self.next) * CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_and_any_change_of_it_is_found() {
        let mut packer = Packer::new(4 * CHUNK, 4 * CHUNK + 100, 7, None);
        assert!(packer.put(0, &vec![0; CHUNK as usize]).is_none());
        assert!(packer.put(2, &vec![1; CHUNK as usize]).is_some());
        assert!(packer.put(4, &[5; 100]).is_some());
        let parent = Arc::new(packer.index.clone());
        let bytes = parent.to_bytes();
        assert_eq!(Index::from_bytes(&bytes).unwrap(), *parent);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            assert!(Index::from_bytes(&bad).is_err(), "byte {at}");
            assert!(Index::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut child = Packer::new(4 * CHUNK, 4 * CHUNK + 100, 8, Some(Arc::clone(&parent)));
        assert!(child.put(2, &vec![1; CHUNK as usize]).is_none(), "the parent has it");
        assert!(child.put(3, &vec![1; CHUNK as usize]).is_some(), "at another place it is stored again");
        assert!(child.put(4, &[6; 100]).is_some());
        assert_eq!(child.packed(), 2 * CHUNK);
        assert_eq!(child.index.packs(), HashMap::from([(7, 1), (8, 2)]));
        assert_ne!(child.index.content(), parent.content());
    }
}
