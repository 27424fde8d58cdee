//! Packs: files that hold chunks of memory, one behind the other, and are never written again.
//!
//! `N.bin` is plain: slot `n` begins at byte `n × 64 KiB`. A cold pack is written anew as `N.zst` and the plain one goes; what lies in
//! which slot stays, so that no index changes. Where both are there, the plain one counts: the other may not be finished.
//!
//! ```text
//! N.zst   a zstd frame a slot (plain where that is not smaller) │ length of each, u32 │ number of slots, u32 │ check sum of both │ magic
//! ```
//!
//! Neither file is trusted: a chunk's own check sum stands in the index.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ruzstd::decoding::FrameDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::files::Files;
use super::memory::{MOST, checksum};
use crate::bus::ram::transfer::CHUNK;
use crate::disk::host_file::read_at;

const MAGIC: &[u8; 8] = b"HAKOZST1";
/// Bytes at the end: number of slots, check sum, magic.
const TRAILER: u64 = 4 + 16 + 8;

/// The path of a plain pack in the folder of packs.
pub fn pack_path(folder: &Path, pack: u32) -> PathBuf {
    folder.join(format!("{pack}.bin"))
}

/// The path of a compressed pack.
pub fn compressed_path(folder: &Path, pack: u32) -> PathBuf {
    folder.join(format!("{pack}.zst"))
}

fn damaged(text: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text.into())
}

/// An open pack.
pub struct Pack {
    /// The file.
    pub path: PathBuf,
    file: File,
    bytes: u64,
    compressed: Option<Compressed>,
}

struct Compressed {
    /// Where each slot begins, and where the last one ends.
    places: Vec<u64>,
    decoder: Mutex<FrameDecoder>,
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Pack {
    /// Opens pack number `pack` in `folder`.
    ///
    /// # Errors
    /// The file, and what the host says; [`ErrorKind::InvalidData`] with words where the file is damaged.
    pub fn open(folder: &Path, pack: u32) -> Result<Self, (PathBuf, io::Error)> {
        let path = pack_path(folder, pack);
        match File::open(&path) {
            Ok(file) => match file.metadata() {
                Ok(metadata) => Ok(Self { path, file, bytes: metadata.len(), compressed: None }),
                Err(error) => Err((path, error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let other = compressed_path(folder, pack);
                // Where neither is there, the plain one is what is missed.
                if other.exists() {
                    Self::open_compressed(&other).map_err(|error| (other, error))
                } else {
                    Err((path, error))
                }
            }
            Err(error) => Err((path, error)),
        }
    }

    fn open_compressed(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut trailer = [0; TRAILER as usize];
        let end = bytes.checked_sub(TRAILER).ok_or_else(|| damaged("it was cut off"))?;
        read_at(&file, end, &mut trailer)?;
        if !trailer.ends_with(MAGIC) {
            return Err(damaged("it was cut off, or is not a pack of this version"));
        }
        let slots = u64::from(u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]));
        let begin = end.checked_sub(slots * 4).filter(|_| slots <= MOST / CHUNK);
        let begin = begin.ok_or_else(|| damaged("its table is larger than itself"))?;
        let mut table = vec![0; (slots * 4) as usize];
        read_at(&file, begin, &mut table)?;
        table.extend(&trailer[..4]);
        if checksum(&table).to_le_bytes() != trailer[4..20] {
            return Err(damaged("the check sum of its table is wrong: it has changed since it was written"));
        }
        let (lengths, _) = table.as_chunks::<4>();
        let mut places = vec![0];
        let mut at = 0;
        for length in &lengths[..slots as usize] {
            at += u64::from(u32::from_le_bytes(*length)).min(CHUNK);
            places.push(at);
        }
        if at != begin {
            return Err(damaged("its table does not fit its length"));
        }
        let decoder = Mutex::new(FrameDecoder::new());
        Ok(Self { path: path.to_owned(), file, bytes, compressed: Some(Compressed { places, decoder }) })
    }

    /// Whether the pack reaches so far: `slot`, and so many bytes of it.
    ///
    /// # Errors
    /// In words, where it was cut off.
    pub fn covers(&self, slot: u32, bytes: u64) -> io::Result<()> {
        let needed = u64::from(slot) * CHUNK + bytes;
        let has = match &self.compressed {
            None => self.bytes,
            Some(compressed) => (compressed.places.len() as u64 - 1) * CHUNK,
        };
        if has < needed {
            return Err(damaged(format!("it has {has} bytes and {needed} are needed: it was cut off")));
        }
        Ok(())
    }

    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Slots in it.
    pub fn slots(&self) -> u32 {
        self.compressed.as_ref().map_or(self.bytes / CHUNK, |compressed| compressed.places.len() as u64 - 1) as u32
    }

    /// Bytes that a slot takes in the file.
    pub fn bytes_of(&self, slot: u32) -> u64 {
        self.place(slot).map_or(CHUNK, |(_, bytes)| bytes)
    }

    /// Where a slot of a compressed pack lies, and its bytes.
    fn place(&self, slot: u32) -> Option<(u64, u64)> {
        let places = &self.compressed.as_ref()?.places;
        let (begin, end) = (places.get(slot as usize)?, places.get(slot as usize + 1)?);
        Some((*begin, end - begin))
    }

    /// Reads the beginning of a slot.
    ///
    /// # Errors
    /// What the host says; [`ErrorKind::InvalidData`] with words where it cannot be unpacked.
    pub fn read(&self, slot: u32, into: &mut [u8]) -> io::Result<()> {
        let Some(compressed) = &self.compressed else { return read_at(&self.file, u64::from(slot) * CHUNK, into) };
        let (at, bytes) = self.place(slot).ok_or(ErrorKind::UnexpectedEof)?;
        if bytes == CHUNK {
            return read_at(&self.file, at, into);
        }
        let mut frame = vec![0; bytes as usize];
        read_at(&self.file, at, &mut frame)?;
        let mut chunk = vec![0; CHUNK as usize];
        let mut decoder = compressed.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let unpacked = decoder.decode_all(&frame, &mut chunk);
        drop(decoder);
        if unpacked.is_err() || unpacked.is_ok_and(|bytes| bytes as u64 != CHUNK) {
            return Err(damaged(format!(
                "the part from byte {at} cannot be unpacked: the file has changed since it was written"
            )));
        }
        into.copy_from_slice(&chunk[..into.len()]);
        Ok(())
    }
}

/// Writes the plain pack `pack` anew, compressed, looks whether all came out as it went in, and removes the plain one. False: `progress`
/// (bytes done, in all) said no, and everything is as before.
///
/// # Errors
/// The file, and what the host says; the plain pack is then still there.
pub fn compress(
    files: &Files,
    folder: &Path,
    pack: u32,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<bool, (PathBuf, io::Error)> {
    let (plain, new) = (pack_path(folder, pack), compressed_path(folder, pack));
    let done = write_compressed(files, folder, pack, progress).map_err(|error| (new.clone(), error));
    match done {
        Ok(true) => files.remove(&plain).map(|()| true).map_err(|error| (plain, error)),
        other => {
            // Half of it: it counts for nothing while the plain one is there.
            let _ = files.remove(&new);
            other
        }
    }
}

fn write_compressed(
    files: &Files,
    folder: &Path,
    pack: u32,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> io::Result<bool> {
    let source = Pack::open(folder, pack).map_err(|(_, error)| error)?;
    let new = compressed_path(folder, pack);
    files.remove(&new)?;
    let mut out = files.create(&new)?;
    let mut chunk = vec![0; CHUNK as usize];
    let mut table = Vec::new();
    let slots = source.slots();
    let all = u64::from(slots) * CHUNK;
    for slot in 0..slots {
        if !progress(u64::from(slot) * CHUNK, all) {
            return Ok(false);
        }
        source.read(slot, &mut chunk)?;
        let frame = compress_to_vec(&chunk[..], CompressionLevel::Fastest);
        let piece = if (frame.len() as u64) < CHUNK { &frame } else { &chunk };
        out.write(piece)?;
        table.extend((piece.len() as u32).to_le_bytes());
    }
    table.extend(slots.to_le_bytes());
    let sum = checksum(&table);
    table.extend(sum.to_le_bytes());
    table.extend(MAGIC);
    out.write(&table)?;
    out.sync()?;
    files.sync_folder(folder)?;
    let written = Pack::open_compressed(&new)?;
    let mut again = vec![0; CHUNK as usize];
    for slot in 0..slots {
        source.read(slot, &mut chunk)?;
        written.read(slot, &mut again)?;
        if chunk != again {
            return Err(damaged("what was written is not what was read again: the host's disk or memory fails"));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with pack 1 of three chunks: one that shrinks, one of noise, one of zeros and text.
    fn folder(name: &str) -> (PathBuf, Vec<u8>) {
        let folder = std::env::temp_dir().join(format!("hako-pack-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut seed = 1_u64;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        let mut bytes = vec![7; CHUNK as usize];
        bytes.extend(noise.take(CHUNK as usize));
        bytes.extend(vec![0; CHUNK as usize - 4]);
        bytes.extend(b"text");
        std::fs::write(pack_path(&folder, 1), &bytes).unwrap();
        (folder, bytes)
    }

    fn all(folder: &Path) -> Result<Vec<u8>, io::Error> {
        let pack = Pack::open(folder, 1).map_err(|(_, error)| error)?;
        let mut bytes = vec![0; 3 * CHUNK as usize];
        for (slot, part) in (0..).zip(bytes.chunks_mut(CHUNK as usize)) {
            pack.read(slot, part)?;
        }
        Ok(bytes)
    }

    #[test]
    fn a_compressed_pack_holds_the_same_in_less() {
        let (folder, bytes) = folder("same");
        assert!(!compress(&Files::default(), &folder, 1, &mut |_, _| false).unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "given up, nothing is left of it");
        assert!(compress(&Files::default(), &folder, 1, &mut |_, _| true).unwrap());
        assert!(!pack_path(&folder, 1).exists());
        assert!(all(&folder).unwrap() == bytes);
        let pack = Pack::open(&folder, 1).unwrap();
        assert_eq!((pack.slots(), pack.bytes_of(1), pack.is_compressed()), (3, CHUNK, true));
        assert!(pack.bytes_of(0) < 100 && pack.bytes() < CHUNK + 1000, "{pack:?}");
        assert!(pack.covers(2, CHUNK).is_ok() && pack.covers(3, 1).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damage_of_a_compressed_pack_is_found_or_gives_other_bytes_that_the_index_refuses() {
        let (folder, bytes) = folder("damage");
        compress(&Files::default(), &folder, 1, &mut |_, _| true).unwrap();
        let path = compressed_path(&folder, 1);
        let good = std::fs::read(&path).unwrap();
        let head = good.len() - (TRAILER as usize + 12);
        for at in (0..100).chain(head..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            // In a frame a changed byte may unpack to something; nothing in the table may.
            assert!(at < head || all(&folder).is_err(), "byte {at}");
            let _ = all(&folder);
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(Pack::open(&folder, 1).is_err(), "cut at {at}");
        }
        std::fs::write(&path, &good).unwrap();
        assert!(all(&folder).unwrap() == bytes);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn each_step_of_compressing_leaves_a_whole_pack() {
        use crate::snapshot::files::Fault;
        for fault in [Fault::Fails, Fault::Killed] {
            for step in 0.. {
                let (folder, bytes) = folder("steps");
                let files = Files::faulty(step, fault);
                let _ = compress(&files, &folder, 1, &mut |_, _| true);
                assert!(all(&folder).unwrap() == bytes, "{fault:?} at {step}");
                std::fs::remove_dir_all(&folder).unwrap();
                if !files.is_struck() {
                    assert!(step > 6, "{step} steps");
                    break;
                }
            }
        }
    }
}
