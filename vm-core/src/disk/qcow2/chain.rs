//! Opening an image with everything below it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::header::{Header, MAGIC, Refusal, refusal};
use super::storage::Storage;
use super::{Layer, Qcow2Image, qcow2_layer, raw_layer, tables};
use crate::config::ImageFormat;
use crate::disk::host_file::read_at;
use crate::disk::lock::Lock;
use crate::disk::raw::RawImage;
use crate::disk::sums::{Stamp, Written};
use crate::disk::{HeldFile, MediumError, check_kind_of_file, lock_file, open_file};

/// Most images on top of each other.
pub const MAX_LAYERS: usize = 100;

/// A file of a chain.
#[derive(Debug)]
pub struct ChainFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it holds its bytes.
    pub format: ImageFormat,
    /// Open.
    pub file: File,
    lock: Option<Lock>,
    header: Option<Header>,
    bytes: u64,
    /// As it was when it was opened.
    opened: Stamp,
    /// Written since.
    written: Written,
}

impl ChainFile {
    /// What the header says; `None`: a plain image.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Bytes of the medium that this file alone would be.
    pub fn medium_bytes(&self) -> u64 {
        self.header.as_ref().map_or(self.bytes, |header| header.size)
    }
}

impl From<ChainFile> for HeldFile {
    fn from(file: ChainFile) -> Self {
        Self { path: file.path, file: file.file, lock: file.lock, opened: file.opened, written: file.written }
    }
}

/// Turns what an image or the host says into an error about `path`.
fn unusable(path: &Path) -> impl Fn(Refusal) -> MediumError {
    move |Refusal { reason, advice }| MediumError::Unusable { path: path.to_owned(), reason, advice }
}

fn host(path: &Path) -> impl Fn(io::Error) -> MediumError {
    move |error| MediumError::Host { path: path.to_owned(), error }
}

/// Opens the qcow2 image at `path` and all images below it, topmost first. With `locked`, each is locked: the first as `writable`
/// says, the others for reading.
///
/// # Errors
/// In words that name the file.
pub fn files(path: &Path, writable: bool, locked: bool) -> Result<Vec<ChainFile>, MediumError> {
    let mut chain: Vec<ChainFile> = Vec::new();
    let mut next = Some((path.to_owned(), Some(ImageFormat::Qcow2)));
    while let Some((path, format)) = next {
        let above = chain.last().map(|file| file.path.clone());
        let link = |error: MediumError| match &above {
            None => error,
            Some(above) => MediumError::Backing { path: above.clone(), error: Box::new(error) },
        };
        let file = one(&path, format, writable && chain.is_empty(), locked, &chain).map_err(link)?;
        next = below(&file).map_err(unusable(&file.path))?;
        chain.push(file);
    }
    Ok(chain)
}

fn one(
    path: &Path,
    format: Option<ImageFormat>,
    writable: bool,
    locked: bool,
    above: &[ChainFile],
) -> Result<ChainFile, MediumError> {
    // A drive of the computer below an image is nothing that a file should decide.
    check_kind_of_file(path, true)?;
    let file = open_file(path, writable)?;
    for other in above {
        if same(&file, path, other).map_err(host(path))? {
            return Err(unusable(path)(Refusal {
                reason: "lies below itself".to_owned(),
                advice: "correct its backing file with “qemu-img rebase -u”".to_owned(),
            }));
        }
    }
    if above.len() >= MAX_LAYERS {
        return Err(unusable(path)(Refusal {
            reason: format!("lies below {} other images, and {MAX_LAYERS} are the most", above.len()),
            advice: "put them together with “qemu-img convert -O qcow2 OLD NEW”".to_owned(),
        }));
    }
    let lock = locked.then(|| lock_file(path, &file, writable)).transpose()?;
    let bytes = RawImage::new(file.try_clone().map_err(host(path))?).map_err(host(path))?.bytes();
    let looks_qcow2 = begins_as_qcow2(&file, bytes).map_err(host(path))?;
    let found = if looks_qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw };
    let header = match format.unwrap_or(found) {
        ImageFormat::Raw => None,
        ImageFormat::Qcow2 => Some(Header::read(&file, bytes).map_err(host(path))?.map_err(unusable(path))?),
    };
    if format.is_none() && header.as_ref().is_some_and(|header| header.backing.is_some()) {
        // A guest may have written all of it into a plain image.
        return Err(unusable(path)(Refusal {
            reason: "names a file below it, and the image above does not say that it is a qcow2 image".to_owned(),
            advice: "if you trust it, say so with “qemu-img rebase -u -F qcow2 -b BACKING OVERLAY”".to_owned(),
        }));
    }
    let format = if header.is_some() { ImageFormat::Qcow2 } else { ImageFormat::Raw };
    let opened = Stamp::of(&file);
    Ok(ChainFile { path: path.to_owned(), format, file, lock, header, bytes, opened, written: Written::default() })
}

/// Whether the file begins as a qcow2 image does.
pub fn begins_as_qcow2(file: &File, bytes: u64) -> io::Result<bool> {
    let mut magic = [0; 4];
    if bytes < 4 {
        return Ok(false);
    }
    read_at(file, 0, &mut magic)?;
    Ok(magic == MAGIC)
}

fn same(file: &File, path: &Path, other: &ChainFile) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let _ = path;
        let (one, two) = (file.metadata()?, other.file.metadata()?);
        Ok((one.dev(), one.ino()) == (two.dev(), two.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(std::fs::canonicalize(path)? == std::fs::canonicalize(&other.path)?)
    }
}

/// The image below `file`, and its format where the file says one.
fn below(file: &ChainFile) -> Result<Option<(PathBuf, Option<ImageFormat>)>, Refusal> {
    let Some(header) = &file.header else { return Ok(None) };
    let Some(name) = &header.backing else { return Ok(None) };
    let advice = "put both into one image with “qemu-img convert -O qcow2 OLD NEW”";
    let local = name.strip_prefix("file:").unwrap_or(name);
    if name.starts_with("json:") || local.contains("://") || local.starts_with("nbd:") || local.is_empty() {
        return refusal(format!("lies over “{name}”, which is not a file"), advice);
    }
    let format = match header.backing_format.as_deref() {
        None => None,
        Some("raw" | "file") => Some(ImageFormat::Raw),
        Some("qcow2") => Some(ImageFormat::Qcow2),
        Some(other) => return refusal(format!("lies over “{local}” of the format “{other}”"), advice),
    };
    // Names are relative to the folder of the image that says them.
    let folder = file.path.parent().unwrap_or(Path::new(""));
    Ok(Some((folder.join(local), format)))
}

/// Looks through the tables of the image at `path` and of all below it, as if it were to be written, without writing.
///
/// # Errors
/// In words that name the file.
pub fn check(path: &Path) -> Result<(), MediumError> {
    for (index, file) in files(path, false, true)?.iter().enumerate() {
        if let Some(header) = &file.header {
            let tables = tables::check(&file.file, header, file.bytes, index == 0);
            tables.map_err(host(&file.path))?.map_err(unusable(&file.path))?;
        }
    }
    Ok(())
}

/// An image with its layers, and its files for identities.
pub struct Opened {
    /// To read and write.
    pub image: Qcow2Image,
    /// Its files, topmost first. They are locked for as long as these live.
    pub files: Vec<ChainFile>,
}

/// Opens, locks and checks the image at `path` and all below it.
///
/// # Errors
/// In words that name the file.
pub fn open(path: &Path, writable: bool) -> Result<Opened, MediumError> {
    let files = files(path, writable, true)?;
    let mut layer: Option<Layer> = None;
    let mut top = None;
    for (index, file) in files.iter().enumerate().rev() {
        let path = file.path.as_path();
        let writable = writable && index == 0;
        let clone = file.file.try_clone().map_err(host(path))?;
        let opened = match &file.header {
            None => raw_layer(Storage::read_only(clone, path, file.bytes)).map_err(host(path))?,
            Some(header) => {
                let tables = tables::check(&file.file, header, file.bytes, writable);
                let tables = tables.map_err(host(path))?.map_err(unusable(path))?;
                let storage = if writable {
                    Storage::writable(clone, path, file.bytes, header.clone(), tables, file.written.clone())
                } else {
                    Storage::read_only(clone, path, file.bytes)
                };
                top = Some(storage.clone());
                qcow2_layer(storage, writable, layer.take()).map_err(host(path))?
            }
        };
        layer = Some(opened);
    }
    let bytes = files.first().map_or(0, ChainFile::medium_bytes);
    match (layer, top) {
        (Some(access), Some(storage)) => {
            Ok(Opened { image: Qcow2Image { access, storage, bytes, broken: false }, files })
        }
        _ => Err(host(path)(io::ErrorKind::NotFound.into())),
    }
}

/// Opens the image at `path`, whose backing file is open already as `below`: of the chain only this one file is opened, locked and
/// checked.
///
/// # Errors
/// In words that name the file.
pub fn open_over(path: &Path, below: Layer) -> Result<(Qcow2Image, ChainFile), MediumError> {
    let file = one(path, Some(ImageFormat::Qcow2), true, true, &[])?;
    let Some(header) = &file.header else { return Err(host(path)(io::ErrorKind::InvalidData.into())) };
    if header.backing.is_none() {
        return Err(unusable(path)(Refusal {
            reason: "lies over no other image".to_owned(),
            advice: "take the snapshot again".to_owned(),
        }));
    }
    let tables = tables::check(&file.file, header, file.bytes, true);
    let tables = tables.map_err(host(path))?.map_err(unusable(path))?;
    let clone = file.file.try_clone().map_err(host(path))?;
    let storage = Storage::writable(clone, path, file.bytes, header.clone(), tables, file.written.clone());
    let access = qcow2_layer(storage.clone(), true, Some(below)).map_err(host(path))?;
    let bytes = header.size;
    Ok((Qcow2Image { access, storage, bytes, broken: false }, file))
}
