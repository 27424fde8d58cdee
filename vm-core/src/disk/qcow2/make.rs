//! New qcow2 images, larger and smaller ones.

use std::fs::File;
use std::io;
use std::path::Path;

use imago::format::PreallocateMode;

use super::chain;
use super::header::{Header, MAGIC};
use crate::config::ImageFormat;
use crate::disk::MediumError;
use crate::disk::host_file::{read_at, write_at};
use crate::disk::raw::Image as _;

/// log2 of the cluster size of new images: 64 KiB, which is QEMU's choice too.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of a version 3 header.
const HEADER: u32 = 104;
/// Clusters before the L1 table: header, refcount table, refcount block.
const FIRST: u64 = 3;

/// Writes an empty image of `size` bytes (at most [`crate::disk::image::MAX_NEW_BYTES`]) into the empty `file`, over a backing file
/// where one is named.
///
/// # Errors
/// What the host says; [`io::ErrorKind::InvalidInput`] where the name of the backing file is too long.
pub fn write_empty(file: &File, size: u64, backing: Option<(&str, ImageFormat)>) -> io::Result<()> {
    let per_cluster = CLUSTER / 8;
    // Whole clusters: the medium can grow to 4 TiB without a new table.
    let l1_entries = size.div_ceil(CLUSTER * per_cluster).max(1).next_multiple_of(per_cluster);
    let l1_clusters = l1_entries / per_cluster;
    let clusters = FIRST + l1_clusters;
    if clusters > CLUSTER / 2 || backing.is_some_and(|(name, _)| name.is_empty() || name.len() > 1023) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut extensions = Vec::new();
    if let Some((_, format)) = backing {
        let name = format.name().as_bytes();
        extensions.extend(0xe279_2aca_u32.to_be_bytes());
        extensions.extend((name.len() as u32).to_be_bytes());
        extensions.extend(name);
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    // The end of the extensions.
    extensions.extend([0; 8]);
    let name = backing.map_or("", |(name, _)| name);
    let name_at = if name.is_empty() { 0 } else { u64::from(HEADER) + extensions.len() as u64 };

    let mut header = Vec::new();
    header.extend(MAGIC);
    header.extend(3_u32.to_be_bytes());
    header.extend(name_at.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // encryption
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend((FIRST * CLUSTER).to_be_bytes());
    header.extend(CLUSTER.to_be_bytes()); // refcount table
    header.extend(1_u32.to_be_bytes()); // its clusters
    header.extend([0; 12]); // snapshots
    header.extend([0; 24]); // features
    header.extend(4_u32.to_be_bytes()); // refcounts of 16 bits
    header.extend(HEADER.to_be_bytes());
    header.extend(extensions);
    header.extend(name.as_bytes());

    file.set_len(clusters * CLUSTER)?;
    write_at(file, 0, &header)?;
    write_at(file, CLUSTER, &(2 * CLUSTER).to_be_bytes())?;
    write_at(file, 2 * CLUSTER, &[0, 1].repeat(clusters as usize))
}

/// Makes the medium of the image at `path` larger.
///
/// # Errors
/// In words that name the file.
pub fn grow(path: &Path, size: u64) -> Result<(), MediumError> {
    let host = |error| MediumError::Host { path: path.to_owned(), error };
    let mut opened = chain::open(path, true)?;
    let Some(header) = opened.files.first().and_then(|file| file.header()).cloned() else { return Ok(()) };
    if let Some(below) = opened.files.get(1).filter(|below| below.medium_bytes() > header.size) {
        return Err(MediumError::Unusable {
            path: path.to_owned(),
            reason: format!("is smaller than “{}” below it, whose end would appear in it", below.path.display()),
            advice: "put both into one image first, with “qemu-img convert -O qcow2 OLD NEW”".to_owned(),
        });
    }
    if grow_in_place(&opened.files[0].file, &header, size).map_err(host)? {
        return Ok(());
    }
    // The table of the first level has to move.
    opened.image.run(|access| access.resize_grow(size, PreallocateMode::None)).map_err(host)?;
    opened.image.flush().map_err(host)
}

/// Cuts the medium of the image at `path` off at `size`.
///
/// # Errors
/// In words that name the file. Of what is behind `size` some may be gone then.
pub fn shrink(path: &Path, size: u64) -> Result<(), MediumError> {
    let host = |error| MediumError::Host { path: path.to_owned(), error };
    let mut opened = chain::open(path, true)?;
    let Some(header) = opened.files.first().and_then(|file| file.header()).cloned() else { return Ok(()) };
    let image = &mut opened.image;
    // The rest of the last cluster, which stays: should the medium grow again, zeros must stand there.
    let end = size.next_multiple_of(header.cluster()).min(header.size);
    let zeros = vec![0; (end - size) as usize];
    if end > size {
        image.write(size, &zeros).map_err(host)?;
    }
    image.discard(end, header.size.saturating_sub(end)).map_err(host)?;
    image.flush().map_err(host)?;
    set_size(&opened.files[0].file, size, u64::from(header.l1_entries)).map_err(host)
}

/// Where the L1 table has room in its clusters, only the header changes. Whether it does.
fn grow_in_place(file: &File, header: &Header, size: u64) -> io::Result<bool> {
    let needed = size.div_ceil(header.l2_reach());
    let has = u64::from(header.l1_entries);
    if needed > has {
        let end = header.l1().end;
        let room = end.next_multiple_of(header.cluster()) - end;
        if has == 0 || needed - has > room / 8 {
            return Ok(false);
        }
        write_at(file, end, &vec![0; ((needed - has) * 8) as usize])?;
        file.sync_data()?;
    }
    set_size(file, size, needed.max(has))?;
    Ok(true)
}

/// Lets the image at `path` name another file below it, which must hold the same as the one before. `None`: it names none, and none is
/// put there.
///
/// # Errors
/// In words that name the file.
pub fn set_backing_name(path: &Path, name: Option<&str>) -> Result<(), MediumError> {
    let host = |error| MediumError::Host { path: path.to_owned(), error };
    let unusable = |reason: &str| MediumError::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
        advice: "convert it into one image first".to_owned(),
    };
    let file = File::options().read(true).write(true).open(path).map_err(host)?;
    let mut fields = [0; 24];
    read_at(&file, 0, &mut fields).map_err(host)?;
    let word = |at: usize| u32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
    let (at, len, cluster_bits) = (u64::from(word(8)) << 32 | u64::from(word(12)), u64::from(word(16)), word(20));
    if !fields.starts_with(&MAGIC) {
        return Err(unusable("is not a qcow2 image"));
    }
    let Some(name) = name else {
        return if at == 0 { Ok(()) } else { Err(unusable("names a file below it that does not belong to it")) };
    };
    if at < 72 || !(9..=21).contains(&cluster_bits) || len > 1023 || at + len > 1 << cluster_bits {
        return Err(unusable("has no place for the name of a file below it"));
    }
    let mut old = vec![0; len as usize];
    read_at(&file, at, &mut old).map_err(host)?;
    if old == name.as_bytes() {
        return Ok(());
    }
    if name.is_empty() || name.len() > 1023 || at + name.len() as u64 > 1 << cluster_bits {
        return Err(unusable("has no place for so long a name of a file below it"));
    }
    // What stands behind the old name must be nothing.
    let mut behind = vec![0; name.len().saturating_sub(old.len())];
    read_at(&file, at + len, &mut behind).map_err(host)?;
    if behind.iter().any(|byte| *byte != 0) {
        return Err(unusable("has something else behind the name of the file below it"));
    }
    let mut new = name.as_bytes().to_vec();
    new.resize(new.len().max(old.len()), 0);
    write_at(&file, at, &new).map_err(host)?;
    write_at(&file, 16, &(name.len() as u32).to_be_bytes()).map_err(host)?;
    file.sync_all().map_err(host)
}

/// Says in the header how large the medium is and how long the L1 table. Both lie in one sector.
fn set_size(file: &File, size: u64, l1_entries: u64) -> io::Result<()> {
    let mut fields = [0; 16];
    read_at(file, 24, &mut fields)?;
    fields[..8].copy_from_slice(&size.to_be_bytes());
    fields[12..].copy_from_slice(&(l1_entries as u32).to_be_bytes());
    write_at(file, 24, &fields)?;
    file.sync_all()
}
