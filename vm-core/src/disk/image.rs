//! Image files as files: what they are, new ones, larger ones.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::convert;
use super::qcow2::{chain, make};
use super::{MediumError, SECTOR, check_kind_of_file, lock_file, open_file};
use crate::config::ImageFormat;

/// Most bytes of a new image: 64 TiB.
pub const MAX_NEW_BYTES: u64 = 64 << 40;

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The file.
    pub path: PathBuf,
    /// How it holds its bytes.
    pub format: ImageFormat,
    /// Bytes of the medium that a guest sees.
    pub medium_bytes: u64,
    /// Bytes that the file takes on the host.
    pub used_bytes: u64,
    /// Bytes of a cluster, for qcow2.
    pub cluster: Option<u64>,
    /// The images below it, topmost first.
    pub below: Vec<(PathBuf, ImageFormat)>,
}

/// Why no image was made or changed. The text is for the person.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The image cannot be opened.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// Something is there already.
    #[error("“{}” is there already and was not touched: choose another name", .0.display())]
    Exists(PathBuf),
    /// Too small or too large.
    #[error("a disk of {0} bytes cannot be made: sizes go from 512 bytes to 64 TiB")]
    Size(u64),
    /// A medium is not made smaller by the way.
    #[error("“{}” has {was} bytes, and what is behind byte {wanted} would be lost for good{}. Make the partitions and file systems in it smaller first, inside the guest", path.display(), lost.as_ref().map_or_else(String::new, |lost| format!(", with it {lost}")))]
    Shrink {
        /// The image.
        path: PathBuf,
        /// Its bytes.
        was: u64,
        /// Bytes asked for.
        wanted: u64,
        /// What its partition table says of that part: "the end of partition 1" …
        lost: Option<String>,
    },
    /// It may be an image that a guest has made up.
    #[error("“{}” begins like a qcow2 image and names a file below it, which a guest may have written into a raw image: say its format (-F) to have it believed", .0.display())]
    BackingFormat(PathBuf),
    /// A raw image has no place to name another file.
    #[error("a raw image cannot lie over another one: leave out the backing file, or make a qcow2 image")]
    RawBacking,
    /// The name of the file below cannot stand in the image.
    #[error("“{}” cannot be named in an image: its name is not plain text, or too long", .0.display())]
    BackingName(PathBuf),
    /// The host refused.
    #[error("“{}” could not be written: {error}", path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
}

/// The format that the file at `path` begins like.
///
/// # Errors
/// Where it cannot be read, or begins like an image of another program.
pub fn probe(path: &Path) -> Result<ImageFormat, MediumError> {
    check_kind_of_file(path, false)?;
    super::probe(path, &open_file(path, false)?)
}

pub(super) fn host_error(path: &Path, error: io::Error) -> MediumError {
    MediumError::Host { path: path.to_owned(), error }
}

/// Looks at the image at `path`, without a lock: a machine may be using it. `format`: as what; `None`: as what it begins like.
///
/// # Errors
/// In words that name the file.
pub fn info(path: &Path, format: Option<ImageFormat>) -> Result<ImageInfo, MediumError> {
    let format = format.map_or_else(|| probe(path), Ok)?;
    let (medium_bytes, cluster, below) = match format {
        ImageFormat::Raw => {
            check_kind_of_file(path, false)?;
            let image = super::raw::RawImage::new(open_file(path, false)?).map_err(|error| host_error(path, error))?;
            (image.bytes(), None, Vec::new())
        }
        ImageFormat::Qcow2 => {
            let files = chain::files(path, false, false)?;
            let top = files.first();
            let below = files.iter().skip(1).map(|file| (file.path.clone(), file.format)).collect();
            (
                top.map_or(0, chain::ChainFile::medium_bytes),
                top.and_then(|top| top.header()).map(super::qcow2::header::Header::cluster),
                below,
            )
        }
    };
    let metadata = fs::metadata(path).map_err(|error| host_error(path, error))?;
    Ok(ImageInfo { path: path.to_owned(), format, medium_bytes, used_bytes: used(&metadata), cluster, below })
}

fn used(metadata: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::blocks(metadata) * 512;
    #[cfg(not(unix))]
    metadata.len()
}

/// The image that a new one lies over.
#[derive(Clone, Copy, Debug)]
pub struct Backing<'a> {
    /// Where it is; relative to the new image's folder.
    pub path: &'a Path,
    /// Its format; `None`: what it begins like.
    pub format: Option<ImageFormat>,
}

/// Makes an empty image at `path`, as a whole or not at all. Nothing is overwritten. With `backing`, what is not written reads as that
/// image; without `size` it is then as large as that one.
///
/// # Errors
/// In words.
pub fn create(
    path: &Path,
    size: Option<u64>,
    format: ImageFormat,
    backing: Option<Backing<'_>>,
) -> Result<(), ImageError> {
    let below = match backing {
        None => None,
        Some(_) if format == ImageFormat::Raw => return Err(ImageError::RawBacking),
        Some(Backing { path: backing, format }) => {
            let place = path.parent().unwrap_or(Path::new("")).join(backing);
            let name = backing.to_str().filter(|name| (1..=1023).contains(&name.len()));
            let name = name.ok_or_else(|| ImageError::BackingName(backing.to_owned()))?;
            let info = info(&place, format)?;
            if format.is_none() && !info.below.is_empty() {
                return Err(ImageError::BackingFormat(place));
            }
            // A real drive below an image would be refused when it is opened.
            check_kind_of_file(&place, true)?;
            Some((name, info))
        }
    };
    let size = size.or(below.as_ref().map(|(_, info)| info.medium_bytes)).unwrap_or_default();
    if !(SECTOR..=MAX_NEW_BYTES).contains(&size) {
        return Err(ImageError::Size(size));
    }
    let size = size.next_multiple_of(SECTOR);
    whole(path, |file, _| {
        let made = match format {
            ImageFormat::Raw => file.set_len(size),
            ImageFormat::Qcow2 => {
                make::write_empty(file, size, below.as_ref().map(|(name, info)| (*name, info.format)))
            }
        };
        made.map_err(|error| failed(path, error))
    })
}

/// Lets the qcow2 image at `path`, which nobody else uses, name another file below it (relative to its own folder) that holds the same
/// as the one before. `None`: it must not name any.
///
/// # Errors
/// In words that name the file.
pub fn set_backing_name(path: &Path, name: Option<&Path>) -> Result<(), ImageError> {
    let text = name.map(|name| name.to_str().ok_or_else(|| ImageError::BackingName(name.to_owned()))).transpose()?;
    check_kind_of_file(path, true)?;
    Ok(make::set_backing_name(path, text)?)
}

fn failed(path: &Path, error: io::Error) -> ImageError {
    match error.kind() {
        ErrorKind::AlreadyExists => ImageError::Exists(path.to_owned()),
        _ => ImageError::Host { path: path.to_owned(), error },
    }
}

/// Makes a file with what `write` puts into it (it gets the open file and its path), as a whole or not at all, where there was none.
pub(super) fn whole(path: &Path, write: impl FnOnce(&File, &Path) -> Result<(), ImageError>) -> Result<(), ImageError> {
    let failed = |error| failed(path, error);
    if path.symlink_metadata().is_ok() {
        return Err(ImageError::Exists(path.to_owned()));
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    let file = File::create_new(&draft).map_err(failed)?;
    // A link never replaces a file; where there are no links, a rename after the look above has to do.
    let put = || match fs::hard_link(&draft, path) {
        Ok(()) => fs::remove_file(&draft),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(_) => fs::rename(&draft, path),
    };
    let made = write(&file, &draft)
        .and_then(|()| file.sync_all().and_then(|()| put()).and_then(|()| sync_folder(path)).map_err(failed));
    made.inspect_err(|_| {
        // Ours alone.
        let _ = fs::remove_file(&draft);
    })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Makes the medium of the image at `path` larger or, where `shrink` says that what is lost may be lost, smaller. A machine must not be
/// using it.
///
/// # Errors
/// In words; unless the host refuses in the middle, the image is then as it was.
pub fn resize(path: &Path, size: u64, format: Option<ImageFormat>, shrink: bool) -> Result<(), ImageError> {
    let info = info(path, format)?;
    if !(SECTOR..=MAX_NEW_BYTES).contains(&size) {
        return Err(ImageError::Size(size));
    }
    let (was, wanted) = (info.medium_bytes, size.next_multiple_of(SECTOR));
    if wanted < was && !shrink {
        let lost = convert::behind(path, info.format, wanted)?;
        return Err(ImageError::Shrink { path: path.to_owned(), was, wanted, lost });
    }
    match info.format {
        ImageFormat::Qcow2 if wanted < was => make::shrink(path, wanted)?,
        ImageFormat::Qcow2 => make::grow(path, wanted)?,
        ImageFormat::Raw => {
            check_kind_of_file(path, true)?;
            let file = open_file(path, true)?;
            let _lock = lock_file(path, &file, true)?;
            let resized = file.set_len(wanted).and_then(|()| file.sync_all());
            resized.map_err(|error| ImageError::Host { path: path.to_owned(), error })?;
        }
    }
    Ok(())
}
