//! Images into other images, and a look at whether one is sound.

use std::path::Path;

use super::image::{self, ImageError, MAX_NEW_BYTES, host_error};
use super::qcow2::{chain, make};
use super::raw::{Image, RawImage};
use super::sums::Stamp;
use super::{MediumError, SECTOR, check_kind_of_file, host_file, lock_file, open_file};
use crate::config::ImageFormat;

/// Bytes copied at a time: not less than the largest cluster.
const PART: usize = 2 << 20;

/// An image that is only read, whole and locked.
struct Source {
    /// Declared before the locks.
    image: Box<dyn Image>,
    _held: Vec<super::HeldFile>,
}

fn source(path: &Path, format: ImageFormat) -> Result<Source, MediumError> {
    if format == ImageFormat::Qcow2 {
        let opened = chain::open(path, false)?;
        let held = opened.files.into_iter().map(Into::into).collect();
        return Ok(Source { image: Box::new(opened.image), _held: held });
    }
    check_kind_of_file(path, false)?;
    let file = open_file(path, false)?;
    let lock = lock_file(path, &file, false)?;
    let image = file.try_clone().and_then(RawImage::new).map_err(|error| host_error(path, error))?;
    let (opened, written) = (Stamp::of(&file), image.written());
    let held = super::HeldFile { path: path.to_owned(), file, lock: Some(lock), opened, written };
    Ok(Source { image: Box::new(image), _held: vec![held] })
}

/// Copies the medium of the image at `from`, with all that is below it, into a new image at `to`, as a whole or not at all. Nothing is
/// overwritten; parts full of zeros take no room. `progress` gets (done, all) in bytes.
///
/// # Errors
/// In words that name the file.
pub fn convert(
    from: &Path,
    format: Option<ImageFormat>,
    to: &Path,
    wanted: ImageFormat,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), ImageError> {
    let format = format.map_or_else(|| image::probe(from), Ok)?;
    let mut source = source(from, format)?;
    let bytes = source.image.bytes();
    if !(1..=MAX_NEW_BYTES).contains(&bytes) {
        return Err(ImageError::Size(bytes));
    }
    // The last sector is filled up.
    let size = bytes.next_multiple_of(SECTOR);
    image::whole(to, |file, draft| {
        let host = |error| ImageError::Host { path: to.to_owned(), error };
        let mut copy = |target: &mut dyn FnMut(u64, &[u8]) -> std::io::Result<()>| {
            let mut part = vec![0; PART];
            let mut at = 0;
            while at < size {
                let part = &mut part[..(size - at).min(PART as u64) as usize];
                source.image.read(at, part).map_err(|error| host_error(from, error))?;
                for (index, piece) in part.chunks(64 << 10).enumerate() {
                    if piece.iter().any(|byte| *byte != 0) {
                        target(at + (index << 16) as u64, piece).map_err(host)?;
                    }
                }
                at += part.len() as u64;
                progress(at, size);
            }
            Ok(())
        };
        match wanted {
            ImageFormat::Raw => {
                file.set_len(size).map_err(host)?;
                copy(&mut |at, piece| host_file::write_at(file, at, piece))
            }
            ImageFormat::Qcow2 => {
                make::write_empty(file, size, None).map_err(host)?;
                let mut opened = chain::open(draft, true)?;
                copy(&mut |at, piece| opened.image.write(at, piece))?;
                opened.image.flush().map_err(host)
            }
        }
    })
}

/// Writes into the new, empty qcow2 image at `draft` (over `base`, where there is one) all that the image `from` shows and `base` does
/// not: it then shows the same as `from`. On stable storage. `progress` gets (done, all) in bytes; false: it said no.
///
/// # Errors
/// In words that name the file.
pub fn differences(
    (from, format): (&Path, ImageFormat),
    base: Option<(&Path, ImageFormat)>,
    draft: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<bool, ImageError> {
    /// What is compared and written as one: a cluster.
    const PIECE: usize = 64 << 10;
    let host = |error| ImageError::Host { path: draft.to_owned(), error };
    let mut upper = source(from, format)?;
    let mut lower = base.map(|(path, format)| source(path, format)).transpose()?;
    let lower_bytes = lower.as_ref().map_or(0, |lower| lower.image.bytes());
    let mut opened = chain::open(draft, true)?;
    let size = upper.image.bytes();
    let (mut now, mut before) = (vec![0; PART], vec![0; PART]);
    let mut at = 0;
    while at < size {
        if !progress(at, size) {
            return Ok(false);
        }
        let count = (size - at).min(PART as u64) as usize;
        let (now, before) = (&mut now[..count], &mut before[..count]);
        upper.image.read(at, now).map_err(|error| host_error(from, error))?;
        before.fill(0);
        if let (Some(lower), Some((path, _))) = (&mut lower, base) {
            // A base that is shorter shows zeros behind its end.
            let inside = lower_bytes.next_multiple_of(SECTOR).saturating_sub(at).min(count as u64) as usize;
            if inside > 0 {
                lower.image.read(at, &mut before[..inside]).map_err(|error| host_error(path, error))?;
            }
        }
        for (index, (now, before)) in now.chunks(PIECE).zip(before.chunks(PIECE)).enumerate() {
            if now != before {
                opened.image.write(at + (index * PIECE) as u64, now).map_err(host)?;
            }
        }
        at += count as u64;
    }
    opened.image.flush().map_err(host)?;
    Ok(true)
}

/// Looks through all tables of the image at `path` and of all below it: whether a machine could write to it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(path: &Path, format: Option<ImageFormat>) -> Result<ImageFormat, MediumError> {
    let format = format.map_or_else(|| image::probe(path), Ok)?;
    match format {
        ImageFormat::Raw => drop(source(path, format)?),
        ImageFormat::Qcow2 => chain::check(path)?,
    }
    Ok(format)
}

/// What the partition table of the medium says about its bytes from `size` on.
pub(super) fn behind(path: &Path, format: ImageFormat, size: u64) -> Result<Option<String>, MediumError> {
    let mut source = source(path, format)?;
    let mut sector = [0; SECTOR as usize];
    if source.image.bytes() >= SECTOR {
        source.image.read(0, &mut sector).map_err(|error| host_error(path, error))?;
    }
    Ok(partitions_behind(&sector, size))
}

/// Which partitions of a master boot record reach past `size` bytes.
fn partitions_behind(sector: &[u8; SECTOR as usize], size: u64) -> Option<String> {
    /// A disk with a GUID partition table, whose second copy lies at its end.
    const PROTECTIVE: u8 = 0xee;
    if sector[510..] != [0x55, 0xaa] {
        return None;
    }
    let mut lost = Vec::new();
    for (number, entry) in (1..).zip(sector[446..510].as_chunks::<16>().0) {
        let word = |at: usize| entry[at..at + 4].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)) * SECTOR;
        let (first, bytes) = (word(8), word(12));
        if entry[4] == 0 || bytes == 0 || first + bytes <= size {
            continue;
        }
        lost.push(match entry[4] {
            PROTECTIVE => "the copy of its partition table at its end (GPT)".to_owned(),
            _ if first >= size => format!("partition {number}"),
            _ => format!("the end of partition {number}"),
        });
    }
    (!lost.is_empty()).then(|| lost.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_would_be_cut_off_are_named() {
        let mut sector = [0; SECTOR as usize];
        let entries = [(0x83, 2048_u32, 2048_u32), (0x82, 4096, 2048), (0x83, 6144, 1024), (0, 0, 0xffff_ffff)];
        for (number, (kind, first, count)) in entries.into_iter().enumerate() {
            let entry = &mut sector[446 + number * 16..][..16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..].copy_from_slice(&count.to_le_bytes());
        }
        assert_eq!(partitions_behind(&sector, 0), None);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(partitions_behind(&sector, 7168 * SECTOR), None);
        let two = partitions_behind(&sector, 5000 * SECTOR).unwrap();
        assert_eq!(two, "the end of partition 2 and partition 3");
        sector[446 + 4] = 0xee;
        assert!(partitions_behind(&sector, 4000 * SECTOR).unwrap().contains("GPT"));
    }
}
