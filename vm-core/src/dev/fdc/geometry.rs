//! What disks look like, by the size of their images.

/// What a disk looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u8,
    /// Sides.
    pub heads: u8,
    /// Sectors of a track, from 1 on.
    pub sectors: u8,
    /// Data rates at which it can be read: bit n for rate code n (0: 500, 1: 300, 2: 250, 3: 1000 kbit/s).
    pub rates: u8,
    /// The drive that a PC has for it, as the CMOS names it. Disks of 3½ inches up to 1.44 MB share one, as in any PC of their time.
    pub drive_type: u8,
}

const HIGH: u8 = 1 << 0;
const DOUBLE: u8 = 1 << 1 | 1 << 2;
const EXTRA: u8 = 1 << 3;

/// Formats by size. Other sizes get the smallest format that holds them.
#[rustfmt::skip]
const FORMATS: [Geometry; 12] = [
    Geometry { cylinders: 40, heads: 1, sectors:  8, rates: DOUBLE, drive_type: 1 }, // 160 K
    Geometry { cylinders: 40, heads: 1, sectors:  9, rates: DOUBLE, drive_type: 1 }, // 180 K
    Geometry { cylinders: 40, heads: 2, sectors:  8, rates: DOUBLE, drive_type: 1 }, // 320 K
    Geometry { cylinders: 40, heads: 2, sectors:  9, rates: DOUBLE, drive_type: 1 }, // 360 K
    Geometry { cylinders: 80, heads: 2, sectors:  9, rates: DOUBLE, drive_type: 4 }, // 720 K
    Geometry { cylinders: 80, heads: 2, sectors: 10, rates: DOUBLE, drive_type: 4 }, // 800 K
    Geometry { cylinders: 80, heads: 2, sectors: 15, rates: HIGH,   drive_type: 2 }, // 1.2 M
    Geometry { cylinders: 80, heads: 2, sectors: 18, rates: HIGH,   drive_type: 4 }, // 1.44 M
    Geometry { cylinders: 80, heads: 2, sectors: 20, rates: HIGH,   drive_type: 4 }, // 1.6 M
    Geometry { cylinders: 80, heads: 2, sectors: 21, rates: HIGH,   drive_type: 4 }, // 1.68 M
    Geometry { cylinders: 82, heads: 2, sectors: 21, rates: HIGH,   drive_type: 4 }, // 1.72 M
    Geometry { cylinders: 80, heads: 2, sectors: 36, rates: EXTRA,  drive_type: 5 }, // 2.88 M
];

/// The 1.44 MB drive.
pub(super) const USUAL_TYPE: u8 = 4;
/// The last type that there is: the 2.88 MB drive.
pub(super) const LARGEST_TYPE: u8 = 5;

impl Geometry {
    /// The format of a disk with `sectors` sectors of 512 bytes. What is larger than 2.88 MB is cut there.
    pub fn of(sectors: u64) -> Self {
        // A boot floppy that was never filled up is a 1.44 MB one, unless its size is a format of its own.
        let exact = FORMATS.iter().find(|format| u64::from(format.total()) == sectors);
        let usual = FORMATS.iter().find(|format| {
            format.drive_type == USUAL_TYPE && format.rates == HIGH && u64::from(format.total()) >= sectors
        });
        *exact.or(usual).unwrap_or(&FORMATS[FORMATS.len() - 1])
    }

    /// The drive that this disk got in states that do not say which drive there is: one for 720 KB had a type of its own.
    pub fn former_drive_type(self) -> u8 {
        if self.rates == DOUBLE && self.cylinders == 80 { 3 } else { self.drive_type }
    }

    fn total(self) -> u32 {
        u32::from(self.cylinders) * u32::from(self.heads) * u32::from(self.sectors)
    }
}

/// Whether a drive of type `kind` can read a disk of this format: the head of a drive for less dense disks cannot.
///
/// # Errors
/// In words.
pub(super) fn check_drive(kind: u8, disk: Geometry) -> Result<(), String> {
    let (drive, fits) = match kind {
        1 => ("360 KB", disk.rates == DOUBLE && disk.cylinders == 40),
        3 => ("720 KB", disk.rates == DOUBLE),
        2 => ("1.2 MB", disk.rates != EXTRA),
        4 => ("1.44 MB", disk.rates != EXTRA),
        _ => ("2.88 MB", true),
    };
    if fits {
        return Ok(());
    }
    let size = disk.total() / 2;
    Err(format!(
        "this is a drive for disks of {drive}, and the disk has {size} KB: power the machine off and start it with this disk, \
         then its drive fits"
    ))
}
