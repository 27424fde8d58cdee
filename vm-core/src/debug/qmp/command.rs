//! QMP's commands, one row each.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::notice::Notices;
use super::{QmpError, jobs, media};
use crate::bus::signals::StopReason;
use crate::debug::monitor::{DEFAULT_HOLD_MS, MAX_HOLD_MS, key_numbered};
use crate::debug::screendump::{self, Format};
use crate::frame::Frame;
use crate::input::{AbsolutePointerEvent, Key, KeyEvent, PointerEvent};
use crate::runner::{Command, CommandError, Reply, RunState, VmHandle};

/// Most keys in one `send-key` and most events in one `input-send-event`.
const MAX_EVENTS: usize = 256;
/// The protocol's number for the right and the lower edge.
const ABSOLUTE_MAX: u64 = 0x7fff;

/// A command: its name, the arguments that it knows, and how it runs.
pub struct Row {
    name: &'static str,
    arguments: &'static [&'static str],
    pub(super) run: fn(&mut Call<'_>) -> Result<Value, QmpError>,
}

/// A command under way.
pub(in crate::debug::qmp) struct Call<'a> {
    pub machine: &'a VmHandle,
    pub arguments: Arguments,
    pub buttons: &'a mut u8,
    pub place: &'a mut Option<(u16, u16)>,
    pub notices: &'a mut Notices,
}

#[rustfmt::skip]
const COMMANDS: &[Row] = &[
    Row { name: "blockdev-change-medium", arguments: &["device", "id", "filename", "format", "force", "read-only-mode"], run: media::change_medium },
    Row { name: "blockdev-close-tray",   arguments: &["device", "id"],                             run: media::close_tray },
    Row { name: "blockdev-open-tray",    arguments: &["device", "id", "force"],                    run: media::open_tray },
    Row { name: "blockdev-remove-medium", arguments: &["id"],                                      run: media::remove_medium },
    Row { name: "cont",                  arguments: &[],                                           run: |call| call.simple(Command::Resume) },
    Row { name: "eject",                 arguments: &["device", "id", "force"],                    run: media::eject },
    Row { name: "human-monitor-command", arguments: &["command-line", "cpu-index"],                run: human_monitor_command },
    Row { name: "input-send-event",      arguments: &["device", "head", "events"],                 run: input_send_event },
    Row { name: "job-cancel",            arguments: &["id"],                                       run: jobs::cancel },
    Row { name: "job-dismiss",           arguments: &["id"],                                       run: jobs::dismiss },
    Row { name: "qmp_capabilities",      arguments: &["enable"],                                   run: |_| Ok(json!({})) },
    Row { name: "query-block",           arguments: &[],                                           run: media::query_block },
    Row { name: "query-commands",        arguments: &[],                                           run: |_| Ok(COMMANDS.iter().map(|row| json!({ "name": row.name })).collect()) },
    Row { name: "query-jobs",            arguments: &[],                                           run: jobs::query },
    Row { name: "query-status",          arguments: &[],                                           run: query_status },
    Row { name: "query-version",         arguments: &[],                                           run: |_| Ok(version()) },
    Row { name: "quit",                  arguments: &[],                                           run: quit },
    Row { name: "screendump",            arguments: &["filename", "format", "device", "head"],     run: screendump },
    Row { name: "send-key",              arguments: &["keys", "hold-time"],                        run: send_key },
    Row { name: "snapshot-delete",       arguments: &["job-id", "tag", "devices"],                 run: jobs::delete },
    Row { name: "snapshot-load",         arguments: &["job-id", "tag", "vmstate", "devices"],      run: jobs::load },
    Row { name: "snapshot-save",         arguments: &["job-id", "tag", "vmstate", "devices"],      run: jobs::save },
    Row { name: "stop",                  arguments: &[],                                           run: |call| call.simple(Command::Pause) },
    Row { name: "system_powerdown",      arguments: &[],                                           run: |call| call.simple(Command::PowerButton) },
    Row { name: "system_reset",          arguments: &[],                                           run: system_reset },
    Row { name: "x-save-and-close",      arguments: &["folder"],                                   run: save_and_close },
    Row { name: "x-screen-text",         arguments: &[],                                           run: screen_text },
];

/// The row of the command called `name`.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    COMMANDS.iter().find(|row| row.name == name)
}

/// Our version in QMP's shape.
pub(super) fn version() -> Value {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    json!({
        "qemu": {
            "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
            "micro": part(env!("CARGO_PKG_VERSION_PATCH")),
        },
        "package": concat!("hako-", env!("CARGO_PKG_VERSION")),
    })
}

/// A command's arguments, all of them known ones.
pub(in crate::debug::qmp) struct Arguments(Map<String, Value>);

impl Arguments {
    pub fn new(row: &Row, arguments: Map<String, Value>) -> Result<Self, QmpError> {
        match arguments.keys().find(|key| !row.arguments.contains(&key.as_str())) {
            Some(key) => Err(QmpError::generic(format!("Parameter '{key}' is unexpected"))),
            None => Ok(Self(arguments)),
        }
    }

    pub fn text(&self, name: &str) -> Result<&str, QmpError> {
        self.0.get(name).and_then(Value::as_str).ok_or_else(|| parameter(name, "a string"))
    }

    /// A string that may be left out.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&str>, QmpError> {
        self.0.get(name).map(|value| value.as_str().ok_or_else(|| parameter(name, "a string"))).transpose()
    }

    /// A truth value that may be left out.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, QmpError> {
        self.0.get(name).map(|value| value.as_bool().ok_or_else(|| parameter(name, "a boolean"))).transpose()
    }

    fn list(&self, name: &str) -> Result<&[Value], QmpError> {
        let list = self.0.get(name).and_then(Value::as_array).ok_or_else(|| parameter(name, "a list"))?;
        if list.len() > MAX_EVENTS {
            return Err(QmpError::generic(format!("Parameter '{name}' has more than {MAX_EVENTS} members")));
        }
        Ok(list)
    }
}

pub(super) fn parameter(name: &str, expected: &str) -> QmpError {
    QmpError::generic(format!("Invalid parameter '{name}', expected {expected}"))
}

impl From<CommandError> for QmpError {
    fn from(error: CommandError) -> Self {
        Self::generic(error.to_string())
    }
}

impl Call<'_> {
    pub(super) fn simple(&mut self, command: Command) -> Result<Value, QmpError> {
        self.machine.call(command)?;
        Ok(json!({}))
    }

    fn screen(&self) -> Result<Arc<Frame>, QmpError> {
        match self.machine.call(Command::Screen)? {
            Reply::Screen(Some(frame)) => Ok(frame),
            _ => Err(QmpError::generic("the machine shows no picture")),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "rows of the table have one type")]
fn quit(call: &mut Call<'_>) -> Result<Value, QmpError> {
    call.notices.quit_asked = true;
    // Not waited for: the answer leaves before the machine has ended.
    call.machine.send(Command::PowerOff);
    Ok(json!({}))
}

fn system_reset(call: &mut Call<'_>) -> Result<Value, QmpError> {
    call.notices.reset_asked = true;
    call.simple(Command::Reset)
}

fn human_monitor_command(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let line = call.arguments.text("command-line")?.to_owned();
    match call.machine.call(Command::Monitor(line)) {
        Ok(Reply::Text(text)) => Ok(json!(text)),
        Ok(_) => Ok(json!("")),
        // QEMU's monitor prints its errors; so do we.
        Err(CommandError::Refused(text)) => Ok(json!(format!("Error: {text}\r\n"))),
        Err(gone @ CommandError::Gone) => Err(gone.into()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "rows of the table have one type")]
fn query_status(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let state = call.machine.state();
    let status = match &state {
        RunState::Starting => "prelaunch",
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Saving => "save-vm",
        RunState::Stopped(StopReason::TripleFault) => "guest-panicked",
        RunState::Stopped(StopReason::DiskError(_)) => "io-error",
        RunState::Stopped(StopReason::Damaged(_) | StopReason::EnginesDiffer(_)) => "internal-error",
        RunState::Stopped(StopReason::PowerOff | StopReason::DebugExit(_)) | RunState::Ended(_) => "shutdown",
    };
    Ok(json!({ "status": status, "running": state == RunState::Running, "singlestep": false }))
}

fn screendump(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let path = PathBuf::from(call.arguments.text("filename")?);
    let format = match call.arguments.0.get("format") {
        None => Format::Ppm,
        Some(name) => name.as_str().and_then(Format::from_name).ok_or_else(|| parameter("format", "“ppm” or “png”"))?,
    };
    screendump::write(&*call.screen()?, &path, format).map_err(QmpError::generic)?;
    Ok(json!({}))
}

/// Stop, save, quit as one action; the answer comes once the state is on stable storage.
fn save_and_close(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let folder = call.arguments.optional_text("folder")?.map(PathBuf::from);
    call.simple(Command::SaveAndClose(folder))
}

fn screen_text(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let frame = call.screen()?;
    match &frame.text {
        Some(text) => Ok(json!({ "lines": text.lines, "cursor": text.cursor })),
        None => Err(QmpError::generic(format!(
            "the screen is in a graphics mode of {} × {}, without text",
            frame.width, frame.height
        ))),
    }
}

/// A `KeyValue`: `{"type": "qcode", "data": "a"}` or `{"type": "number", "data": 30}`.
fn key(value: &Value) -> Result<Key, QmpError> {
    let data = &value["data"];
    let key = match value["type"].as_str() {
        Some("qcode") => {
            data.as_str().and_then(|name| Key::from_qcode(if name == "asterisk" { "kp_multiply" } else { name }))
        }
        Some("number") => data.as_u64().and_then(|number| key_numbered(u16::try_from(number).ok()?)),
        _ => return Err(QmpError::generic("a key has the type “qcode” or “number”")),
    };
    key.ok_or_else(|| QmpError::generic(format!("no key is called {data}")))
}

fn send_key(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let keys = call.arguments.list("keys")?.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let hold_ms = match call.arguments.0.get("hold-time") {
        None => DEFAULT_HOLD_MS,
        Some(time) => time
            .as_u64()
            .and_then(|time| u32::try_from(time).ok())
            .filter(|time| *time <= MAX_HOLD_MS)
            .ok_or_else(|| parameter("hold-time", "milliseconds, at most 10000"))?,
    };
    call.simple(Command::SendKeys { keys, hold_ms })
}

/// What a list of events does to the pointer until it is sent.
struct Pointer {
    motion: PointerEvent,
    /// Where it is, while the guest takes places and this peer has said one.
    place: Option<(u16, u16)>,
    changed: bool,
}

impl Pointer {
    /// What has come so far as a command; buttons stay.
    fn command(&mut self) -> Command {
        let motion = PointerEvent { buttons: self.motion.buttons, ..PointerEvent::default() };
        let PointerEvent { dx, dy, wheel, buttons } = std::mem::replace(&mut self.motion, motion);
        self.changed = false;
        match self.place {
            Some((x, y)) => Command::AbsolutePointer(AbsolutePointerEvent { x, y, wheel, buttons }),
            None => Command::Pointer(PointerEvent { dx, dy, wheel, buttons }),
        }
    }

    fn button(&mut self, data: &Value) -> Result<(), QmpError> {
        let down = data["down"].as_bool().ok_or_else(|| parameter("down", "a boolean"))?;
        let (bit, wheel) = match data["button"].as_str().ok_or_else(|| parameter("button", "a string"))? {
            "left" => (1 << 0, 0),
            "right" => (1 << 1, 0),
            "middle" => (1 << 2, 0),
            "side" => (1 << 3, 0),
            "extra" => (1 << 4, 0),
            "wheel-up" => (0, -1),
            "wheel-down" => (0, 1),
            other => return Err(QmpError::generic(format!("the mouse has no button “{other}”"))),
        };
        let buttons = self.motion.buttons;
        self.motion.buttons = if down { buttons | bit } else { buttons & !bit };
        self.motion.wheel = if down { wheel } else { 0 };
        Ok(())
    }

    fn relative(&mut self, data: &Value) -> Result<(), QmpError> {
        let value = data["value"].as_i64().and_then(|value| i32::try_from(value).ok());
        let value = value.ok_or_else(|| parameter("value", "a 32-bit number"))?;
        self.place = None;
        self.changed |= value != 0;
        match data["axis"].as_str() {
            Some("x") => self.motion.dx = self.motion.dx.saturating_add(value),
            Some("y") => self.motion.dy = self.motion.dy.saturating_add(value),
            _ => return Err(parameter("axis", "“x” or “y”")),
        }
        Ok(())
    }

    /// The protocol counts from 0 to 32767.
    fn absolute(&mut self, data: &Value) -> Result<(), QmpError> {
        let value = data["value"].as_u64().filter(|value| *value <= ABSOLUTE_MAX);
        let value = value.ok_or_else(|| parameter("value", "a number from 0 to 32767"))?;
        let at = (value * u64::from(u16::MAX) / ABSOLUTE_MAX) as u16;
        let (x, y) = self.place.unwrap_or_default();
        self.place = match data["axis"].as_str() {
            Some("x") => Some((at, y)),
            Some("y") => Some((x, at)),
            _ => return Err(parameter("axis", "“x” or “y”")),
        };
        self.changed = true;
        Ok(())
    }
}

/// What `input-send-event` leads to; all events are looked at before the first is sent.
fn input_send_event(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let takes_places = call.machine.takes_absolute_pointer();
    let mut pointer = Pointer {
        motion: PointerEvent { buttons: *call.buttons, ..PointerEvent::default() },
        place: call.place.filter(|_| takes_places),
        changed: false,
    };
    let mut commands = Vec::new();
    for event in call.arguments.list("events")? {
        let data = &event["data"];
        match event["type"].as_str() {
            Some("key") => {
                let down = data["down"].as_bool().ok_or_else(|| parameter("down", "a boolean"))?;
                commands.push(Command::Key(KeyEvent { key: key(&data["key"])?, down }));
            }
            Some("btn") => {
                pointer.button(data)?;
                // Presses and releases in one list must not merge.
                commands.push(pointer.command());
            }
            Some("rel") => pointer.relative(data)?,
            Some("abs") if takes_places => pointer.absolute(data)?,
            Some("abs") => {
                return Err(QmpError::generic(
                    "the guest takes no absolute positions now (it has no driver for VMware's pointer, or has not \
                     started it): send relative motion (type “rel”)",
                ));
            }
            _ => return Err(parameter("type", "“key”, “btn”, “rel” or “abs”")),
        }
    }
    if pointer.changed {
        commands.push(pointer.command());
    }
    *call.buttons = pointer.motion.buttons;
    *call.place = pointer.place;
    for command in commands {
        call.machine.call(command)?;
    }
    Ok(json!({}))
}
