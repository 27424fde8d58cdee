//! QMP's commands for drives and media.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::QmpError;
use super::command::{Call, parameter};
use crate::config::ImageFormat;
use crate::runner::{BlockInfo, Command, CommandError, MediumAccess, MediumChange, Reply};

impl Call<'_> {
    fn blocks(&self) -> Result<Vec<BlockInfo>, QmpError> {
        match self.machine.call(Command::Blocks)? {
            Reply::Blocks(blocks) => Ok(blocks),
            _ => Ok(Vec::new()),
        }
    }

    /// The drive that `id` or `device` names.
    fn drive(&self) -> Result<BlockInfo, QmpError> {
        let name = self.arguments.optional_text("id")?.or(self.arguments.optional_text("device")?);
        let name = name.ok_or_else(|| parameter("id", "the name of a drive (see “query-block”)"))?;
        BlockInfo::named(&self.blocks()?, name).cloned().map_err(QmpError::no_device)
    }

    fn force(&self) -> Result<bool, QmpError> {
        Ok(self.arguments.flag("force")?.unwrap_or(false))
    }

    fn change(&mut self, drive: &BlockInfo, change: MediumChange) -> Result<Value, QmpError> {
        self.simple(Command::ChangeMedium { slot: drive.slot, change })
    }
}

pub(super) fn query_block(call: &mut Call<'_>) -> Result<Value, QmpError> {
    Ok(call.blocks()?.iter().map(block).collect())
}

fn block(info: &BlockInfo) -> Value {
    let mut value = json!({
        "device": info.name(),
        "type": "unknown",
        "locked": info.locked,
        "removable": info.is_removable(),
        "io-status": "ok",
    });
    if let Some(open) = info.tray_open {
        value["tray_open"] = json!(open);
    }
    if let Some(path) = &info.path {
        let path = path.to_string_lossy();
        let format = info.format.name();
        value["inserted"] = json!({
            "file": path,
            "ro": info.read_only,
            "drv": format,
            "image": { "filename": path, "format": format, "virtual-size": info.bytes },
        });
    }
    value
}

pub(super) fn eject(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let (drive, force) = (call.drive()?, call.force()?);
    call.change(&drive, MediumChange::Eject { force })
}

/// Where the guest has locked the tray, it is asked to let go, and that is success: `DEVICE_TRAY_MOVED` tells when it has.
pub(super) fn open_tray(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let (drive, force) = (call.drive()?, call.force()?);
    match call.machine.call(Command::ChangeMedium { slot: drive.slot, change: MediumChange::OpenTray { force } }) {
        Err(CommandError::Refused(_)) if drive.locked && !force => Ok(json!({})),
        result => result.map(|_| json!({})).map_err(QmpError::from),
    }
}

pub(super) fn close_tray(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let drive = call.drive()?;
    call.change(&drive, MediumChange::CloseTray)
}

pub(super) fn remove_medium(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let drive = call.drive()?;
    call.change(&drive, MediumChange::Remove)
}

pub(super) fn change_medium(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let (drive, force) = (call.drive()?, call.force()?);
    let path = PathBuf::from(call.arguments.text("filename")?);
    let format = match call.arguments.optional_text("format")? {
        None => None,
        Some(name) => Some(ImageFormat::from_name(name).ok_or_else(|| parameter("format", "“raw” or “qcow2”"))?),
    };
    let access = match call.arguments.optional_text("read-only-mode")? {
        None => MediumAccess::Retain,
        Some(name) => MediumAccess::from_name(name)
            .ok_or_else(|| parameter("read-only-mode", "“retain”, “read-only” or “read-write”"))?,
    };
    call.change(&drive, MediumChange::Insert { path, format, access, force })
}
