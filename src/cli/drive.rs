//! `-fda`, `-hda`, `-cdrom`, `-drive`: drives and their slots.

use std::path::PathBuf;

use vm_core::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat};

use super::keyval::KeyVal;
use super::{CliError, refuse};

/// A drive as it was asked for; where it says no slot, the first free one of its kind is taken at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveRequest {
    pub slot: Option<DriveSlot>,
    pub kind: DriveKind,
    pub path: Option<PathBuf>,
    /// `None`: found out by looking.
    pub format: Option<ImageFormat>,
    pub read_only: bool,
    pub temporary: Option<bool>,
}

impl DriveRequest {
    /// A drive in a fixed slot: `-hda FILE`.
    pub fn fixed(slot: DriveSlot, kind: DriveKind, path: &str) -> Self {
        let read_only = kind == DriveKind::Cd;
        Self { slot: Some(slot), kind, path: Some(path.into()), format: None, read_only, temporary: None }
    }

    /// `-drive file=…,if=…`.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let mut pairs = KeyVal::parse("-drive", text, None)?;
        let path = pairs.take("file").filter(|path| !path.is_empty()).map(PathBuf::from);
        let index = pairs.number::<u8>("index")?;
        let bus = pairs.number::<u8>("bus")?;
        let unit = pairs.number::<u8>("unit")?;
        let media = pairs.take("media");
        let floppy = match pairs.take("if").as_deref() {
            None | Some("ide") => false,
            Some("floppy") => true,
            Some(other) => return refuse(format!("-drive if={other}: not supported; there are ide and floppy")),
        };
        let kind = match (floppy, media.as_deref()) {
            (true, None | Some("disk")) => DriveKind::Floppy,
            (false, None | Some("disk")) => DriveKind::Disk,
            (false, Some("cdrom")) => DriveKind::Cd,
            (_, Some(other)) => {
                return refuse(format!("-drive media={other}: not supported here; there are disk and cdrom"));
            }
        };
        let format = pairs.take("format").map(|name| match ImageFormat::from_name(&name) {
            Some(format) => Ok(format),
            None => refuse(format!("-drive format={name}: not supported; there are raw and qcow2")),
        });
        let format = format.transpose()?;
        let read_only = pairs.switch("readonly")?.or(pairs.switch("read-only")?).unwrap_or(kind == DriveKind::Cd);
        let temporary = pairs.switch("snapshot")?;
        // The name is for monitors; ours come from the slot.
        pairs.take("id");
        pairs.finish("file, if, index, bus, unit, media, format, snapshot, readonly, id")?;
        let number = match (index, bus, unit) {
            (Some(index), None, None) => Some(index),
            (None, None, None) => None,
            (None, bus, unit) => {
                let (bus, unit) = (bus.unwrap_or(0), unit.unwrap_or(0));
                if bus > 1 || unit > 1 {
                    return refuse(format!("-drive bus={bus},unit={unit}: there are two buses of two units"));
                }
                Some(if floppy { unit } else { bus * 2 + unit })
            }
            _ => return refuse("-drive: “index” goes without “bus” and “unit”"),
        };
        let slot = match number {
            None => None,
            Some(number) if floppy && number < 2 => Some(DriveSlot::Floppy(number)),
            Some(number) if !floppy && number < 4 => Some(DriveSlot::Ide(number)),
            Some(number) => return refuse(format!("-drive index={number}: there is no such drive")),
        };
        Ok(Self { slot, kind, path, format, read_only, temporary })
    }
}

/// Puts every drive into its slot. `temporary`: `-snapshot` was given.
pub fn place(requests: &[DriveRequest], temporary: bool) -> Result<Vec<DriveConfig>, CliError> {
    let mut drives: Vec<DriveConfig> = Vec::new();
    let (fixed, free): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.slot.is_some());
    for request in fixed.into_iter().chain(free) {
        let candidates: Vec<DriveSlot> = match (request.slot, request.kind) {
            (Some(slot), _) => vec![slot],
            (None, DriveKind::Floppy) => (0..2).map(DriveSlot::Floppy).collect(),
            // A CD goes where `-cdrom` puts it, if that is free.
            (None, DriveKind::Cd) => [2, 3, 1, 0].map(DriveSlot::Ide).to_vec(),
            (None, DriveKind::Disk) => (0..4).map(DriveSlot::Ide).collect(),
        };
        let slot = candidates.iter().find(|slot| drives.iter().all(|drive| drive.slot != **slot));
        let Some(slot) = slot else {
            return refuse(match candidates[..] {
                [DriveSlot::Ide(number)] => format!(
                    "two drives are to sit in the same place (IDE drive {number}, which is {})",
                    if number == 2 { "-hdc and -cdrom".to_owned() } else { format!("-hd{}", (b'a' + number) as char) }
                ),
                [DriveSlot::Floppy(number)] => format!("two drives are to be floppy drive {}", (b'A' + number) as char),
                _ => "no place is left for another drive: there are two floppy and four IDE drives".to_owned(),
            });
        };
        drives.push(DriveConfig {
            slot: *slot,
            kind: request.kind,
            path: request.path.clone(),
            format: request.format,
            read_only: request.read_only,
            temporary: request.temporary.unwrap_or(temporary),
        });
    }
    drives.sort_by_key(|drive| drive.slot);
    Ok(drives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_find_their_slots() {
        let requests = [
            DriveRequest::parse("file=a.img,format=raw,snapshot=on").unwrap(),
            DriveRequest::parse("file=b.iso,media=cdrom").unwrap(),
            DriveRequest::fixed(DriveSlot::Ide(0), DriveKind::Disk, "c.img"),
            DriveRequest::parse("if=floppy,file=d.img,readonly=on").unwrap(),
            DriveRequest::parse("file=e.img,bus=1,unit=1").unwrap(),
        ];
        let drives = place(&requests, false).unwrap();
        assert_eq!((drives[1].format, drives[2].format), (None, Some(ImageFormat::Raw)));
        let seen: Vec<_> = drives
            .iter()
            .map(|drive| (drive.slot, drive.path.as_ref().unwrap().to_str().unwrap(), drive.read_only, drive.temporary))
            .collect();
        assert_eq!(
            seen,
            [
                (DriveSlot::Floppy(0), "d.img", true, false),
                (DriveSlot::Ide(0), "c.img", false, false),
                (DriveSlot::Ide(1), "a.img", false, true),
                (DriveSlot::Ide(2), "b.iso", true, false),
                (DriveSlot::Ide(3), "e.img", false, false),
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, word) in [
            ("file=a,if=virtio", "virtio"),
            ("file=a,format=vmdk", "vmdk"),
            ("file=a,index=4", "index=4"),
            ("file=a,if=floppy,index=2", "index=2"),
            ("file=a,cache=none", "cache"),
            ("file=a,snapshot=perhaps", "perhaps"),
        ] {
            let error = DriveRequest::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let twice = [
            DriveRequest::fixed(DriveSlot::Ide(2), DriveKind::Disk, "a"),
            DriveRequest::fixed(DriveSlot::Ide(2), DriveKind::Cd, "b"),
        ];
        assert!(place(&twice, false).unwrap_err().to_string().contains("-cdrom"));
    }
}
