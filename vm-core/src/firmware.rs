//! Finds the machine's firmware: SeaBIOS and its VGA BIOS.
//!
//! Each file is looked for in this order, and the first one found is used:
//! 1. the folders given with `-L`,
//! 2. the folder in the environment variable `HAKO_FIRMWARE`,
//! 3. the folder of the program itself,
//! 4. where distributions install it (`firmware/folders.txt`),
//! 5. the copy that was embedded when the program was built.
//!
//! A file that is found but cannot be used is an error; the search does not pass it over in silence.

pub mod kernel;
mod linux;
mod multiboot;
mod option_rom;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// SeaBIOS as QEMU's and Debian's packages name it.
const BIOS_FILE: &str = "bios-256k.bin";
/// Its VGA BIOS for the adapter that Hako has.
const VGA_FILE: &str = "vgabios-stdvga.bin";
/// Folders of distributions, one a line.
const FOLDERS: &str = include_str!("firmware/folders.txt");

/// BIOS images are mapped below 4 GiB in units of this many bytes.
const BIOS_UNIT: usize = 64 << 10;
/// Largest BIOS image in bytes.
const BIOS_MAX: usize = 16 << 20;
/// Largest VGA BIOS in bytes: an option ROM says its size in one byte, in units of 512.
const VGA_MAX: usize = 255 * 512;

#[cfg(embedded_bios)]
const EMBEDDED_BIOS: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/bios-256k.bin")));
#[cfg(not(embedded_bios))]
const EMBEDDED_BIOS: Option<&[u8]> = None;
#[cfg(embedded_vga_bios)]
const EMBEDDED_VGA: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/vgabios-stdvga.bin")));
#[cfg(not(embedded_vga_bios))]
const EMBEDDED_VGA: Option<&[u8]> = None;

/// Where the person wants the firmware from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirmwareChoice {
    /// Folders to look in first (`-L`).
    pub folders: Vec<PathBuf>,
    /// Another BIOS (`-bios`): a path, or the name of a file in one of the folders.
    pub bios: Option<PathBuf>,
}

/// What the machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The BIOS: a multiple of 64 KiB, at most 16 MiB. It ends at 4 GiB, and its last 128 KiB also at 1 MiB.
    pub bios: Arc<[u8]>,
    /// The VGA BIOS, for the display adapter's expansion ROM.
    pub vga: Arc<[u8]>,
}

/// Why there is no firmware.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// No such file anywhere.
    #[error(
        "The firmware file “{file}” was not found. Install Debian's package “seabios” (apt install seabios), \
         or say where the file is with -L FOLDER or the variable HAKO_FIRMWARE. Looked in: {looked_in}"
    )]
    Missing {
        /// Its name.
        file: String,
        /// The folders, with commas.
        looked_in: String,
    },
    /// The file is there and cannot be read.
    #[error("The firmware “{}” cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host says.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("“{}” cannot be used as firmware: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Firmware {
    /// Finds and checks both files.
    ///
    /// # Errors
    /// Where one is missing, unreadable or of the wrong shape; the message says what to do.
    pub fn find(choice: &FirmwareChoice) -> Result<Self, FirmwareError> {
        let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf));
        let named = std::env::var_os("HAKO_FIRMWARE").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let mut folders = choice.folders.clone();
        folders.extend(named.into_iter().chain(beside).chain(FOLDERS.lines().map(PathBuf::from)));
        Self::find_in(&folders, choice.bios.as_deref(), EMBEDDED_BIOS, EMBEDDED_VGA)
    }

    fn find_in(
        folders: &[PathBuf],
        bios: Option<&Path>,
        embedded_bios: Option<&[u8]>,
        embedded_vga: Option<&[u8]>,
    ) -> Result<Self, FirmwareError> {
        let bios = match bios {
            Some(chosen) => read_chosen(chosen, folders)?,
            None => read(BIOS_FILE, folders, BIOS_MAX, embedded_bios)?,
        };
        check_bios(&bios)?;
        let vga = read(VGA_FILE, folders, VGA_MAX, embedded_vga)?;
        check_vga(&vga)?;
        Ok(Self { bios: bios.bytes, vga: vga.bytes })
    }
}

/// A file's bytes, and where they come from.
struct Image {
    path: PathBuf,
    bytes: Arc<[u8]>,
}

impl Image {
    fn unusable(&self, reason: String) -> FirmwareError {
        FirmwareError::Unusable { path: self.path.clone(), reason }
    }
}

/// The file `-bios` names: as a path, else in one of the folders.
fn read_chosen(chosen: &Path, folders: &[PathBuf]) -> Result<Image, FirmwareError> {
    let in_folders = folders.iter().map(|folder| folder.join(chosen));
    let found = std::iter::once(chosen.to_path_buf()).chain(in_folders).find(|path| path.exists());
    read_file(&found.unwrap_or_else(|| chosen.to_path_buf()), BIOS_MAX)
}

fn read(file: &str, folders: &[PathBuf], most: usize, embedded: Option<&[u8]>) -> Result<Image, FirmwareError> {
    if let Some(path) = folders.iter().map(|folder| folder.join(file)).find(|path| path.exists()) {
        return read_file(&path, most);
    }
    let bytes = embedded.ok_or_else(|| {
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        FirmwareError::Missing { file: file.to_owned(), looked_in: folders.join(", ") }
    })?;
    Ok(Image { path: PathBuf::from(format!("{file} (embedded)")), bytes: bytes.into() })
}

/// Reads at most `most` bytes of a regular file; a longer one is an error.
fn read_file(path: &Path, most: usize) -> Result<Image, FirmwareError> {
    let unreadable = |source| FirmwareError::Unreadable { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    let mut image = Image { path: path.to_path_buf(), bytes: Arc::new([]) };
    if !metadata.is_file() {
        return Err(image.unusable("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > most {
        return Err(image.unusable(format!("it has {} bytes, and at most {most} are possible", metadata.len())));
    }
    image.bytes = bytes.into();
    Ok(image)
}

fn check_bios(image: &Image) -> Result<(), FirmwareError> {
    let len = image.bytes.len();
    if len == 0 {
        return Err(image.unusable("it is empty".to_owned()));
    }
    if !len.is_multiple_of(BIOS_UNIT) {
        let reason = format!("it has {len} bytes, and a BIOS has a multiple of {BIOS_UNIT} (64 KiB). Is it cut short?");
        return Err(image.unusable(reason));
    }
    Ok(())
}

fn check_vga(image: &Image) -> Result<(), FirmwareError> {
    let [0x55, 0xaa, blocks, ..] = *image.bytes else {
        return Err(image.unusable("it does not start as an option ROM does (55 AA)".to_owned()));
    };
    let says = usize::from(blocks) * 512;
    if says == 0 || says > image.bytes.len() {
        let len = image.bytes.len();
        return Err(image.unusable(format!("it says that it has {says} bytes and has {len}. Is it cut short?")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BIOS: &[u8] = &[0; BIOS_UNIT];
    const VGA: &[u8; 512] = &{
        let mut rom = [0; 512];
        (rom[0], rom[1], rom[2]) = (0x55, 0xaa, 1);
        rom
    };

    /// A folder of its own for one test, removed at its end.
    pub(super) struct Folder(pub PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hako-firmware-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(super) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_first_folder_wins_and_the_embedded_copy_is_last() {
        let (first, second) = (Folder::new("first"), Folder::new("second"));
        first.file(VGA_FILE, VGA);
        second.file(BIOS_FILE, &vec![2; BIOS_UNIT]);
        second.file(VGA_FILE, b"not looked at");
        let folders = [first.0.clone(), second.0.clone()];
        let found = Firmware::find_in(&folders, None, Some(BIOS), None).unwrap();
        assert_eq!((found.bios[0], &found.vga[..]), (2, &VGA[..]));
        let embedded = Firmware::find_in(&[], None, Some(BIOS), Some(VGA)).unwrap();
        assert_eq!(&embedded.bios[..], BIOS);
        second.file("other.bin", &vec![3; 2 * BIOS_UNIT]);
        let chosen = Firmware::find_in(&folders, Some(Path::new("other.bin")), None, None).unwrap();
        assert_eq!(chosen.bios.len(), 2 * BIOS_UNIT);
    }

    #[test]
    fn messages_name_the_file_and_the_way_out() {
        let folder = Folder::new("bad");
        let try_bios = |bytes: &[u8]| {
            let path = folder.file("bios.bin", bytes);
            Firmware::find_in(&[], Some(&path), None, Some(VGA)).unwrap_err().to_string()
        };
        assert!(try_bios(&[]).contains("it is empty"));
        assert!(try_bios(&[0; 1000]).contains("cut short"));
        assert!(try_bios(&vec![0; BIOS_MAX + BIOS_UNIT]).contains("at most 16777216"));
        let missing =
            Firmware::find_in(std::slice::from_ref(&folder.0), None, None, Some(VGA)).unwrap_err().to_string();
        assert!(missing.contains("bios-256k.bin") && missing.contains("“seabios”"), "{missing}");
        let no_file = Firmware::find_in(&[], Some(Path::new("/no/such.bin")), None, None).unwrap_err().to_string();
        assert!(no_file.contains("/no/such.bin"), "{no_file}");
        let directory = Firmware::find_in(&[], Some(&folder.0), None, None).unwrap_err().to_string();
        assert!(directory.contains("not a file"), "{directory}");
        for bad in [&b""[..], b"\x55", b"MZ\x01", b"\x55\xaa\x02 cut", b"\x55\xaa\x00"] {
            folder.file(VGA_FILE, bad);
            let result = Firmware::find_in(std::slice::from_ref(&folder.0), None, Some(BIOS), None);
            assert!(matches!(result, Err(FirmwareError::Unusable { .. })), "{bad:?}");
        }
    }
}
