//! QMP's commands, one row each.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::notice::Notices;
use super::{QmpError, media};
use crate::bus::signals::StopReason;
use crate::debug::monitor::{DEFAULT_HOLD_MS, MAX_HOLD_MS, key_numbered};
use crate::debug::screendump::{self, Format};
use crate::frame::Frame;
use crate::input::{Key, KeyEvent, PointerEvent};
use crate::runner::{Command, CommandError, Reply, RunState, VmHandle};

/// Most keys in one `send-key` and most events in one `input-send-event`.
const MAX_EVENTS: usize = 256;

/// A command: its name, the arguments that it knows, and how it runs.
pub struct Row {
    name: &'static str,
    arguments: &'static [&'static str],
    pub(super) run: fn(&mut Call<'_>) -> Result<Value, QmpError>,
}

/// A command under way.
pub(super) struct Call<'a> {
    pub machine: &'a VmHandle,
    pub arguments: Arguments,
    pub buttons: &'a mut u8,
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
    Row { name: "qmp_capabilities",      arguments: &["enable"],                                   run: |_| Ok(json!({})) },
    Row { name: "query-block",           arguments: &[],                                           run: media::query_block },
    Row { name: "query-commands",        arguments: &[],                                           run: |_| Ok(COMMANDS.iter().map(|row| json!({ "name": row.name })).collect()) },
    Row { name: "query-status",          arguments: &[],                                           run: query_status },
    Row { name: "query-version",         arguments: &[],                                           run: |_| Ok(version()) },
    Row { name: "quit",                  arguments: &[],                                           run: quit },
    Row { name: "screendump",            arguments: &["filename", "format", "device", "head"],     run: screendump },
    Row { name: "send-key",              arguments: &["keys", "hold-time"],                        run: send_key },
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
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    pub fn new(row: &Row, arguments: Map<String, Value>) -> Result<Self, QmpError> {
        match arguments.keys().find(|key| !row.arguments.contains(&key.as_str())) {
            Some(key) => Err(QmpError::generic(format!("Parameter '{key}' is unexpected"))),
            None => Ok(Self(arguments)),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, QmpError> {
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
    let folder = PathBuf::from(call.arguments.text("folder")?);
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

/// What `input-send-event` leads to; all events are looked at before the first is sent.
fn input_send_event(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let mut buttons = *call.buttons;
    let mut commands = Vec::new();
    let mut motion = PointerEvent { buttons, ..PointerEvent::default() };
    for event in call.arguments.list("events")? {
        let data = &event["data"];
        match event["type"].as_str() {
            Some("key") => {
                let down = data["down"].as_bool().ok_or_else(|| parameter("down", "a boolean"))?;
                commands.push(Command::Key(KeyEvent { key: key(&data["key"])?, down }));
            }
            Some("btn") => {
                let down = data["down"].as_bool().ok_or_else(|| parameter("down", "a boolean"))?;
                let name = data["button"].as_str().ok_or_else(|| parameter("button", "a string"))?;
                let (bit, wheel) = match name {
                    "left" => (1, 0),
                    "right" => (2, 0),
                    "middle" => (4, 0),
                    "wheel-up" => (0, -1),
                    "wheel-down" => (0, 1),
                    other => return Err(QmpError::generic(format!("the mouse has no button “{other}”"))),
                };
                buttons = if down { buttons | bit } else { buttons & !bit };
                motion.buttons = buttons;
                motion.wheel = if down { wheel } else { 0 };
                // Presses and releases in one list must not merge.
                commands.push(Command::Pointer(std::mem::replace(
                    &mut motion,
                    PointerEvent { buttons, ..PointerEvent::default() },
                )));
            }
            Some("rel") => {
                let value = data["value"].as_i64().and_then(|value| i32::try_from(value).ok());
                let value = value.ok_or_else(|| parameter("value", "a 32-bit number"))?;
                match data["axis"].as_str() {
                    Some("x") => motion.dx = motion.dx.saturating_add(value),
                    Some("y") => motion.dy = motion.dy.saturating_add(value),
                    _ => return Err(parameter("axis", "“x” or “y”")),
                }
            }
            Some("abs") => {
                return Err(QmpError::generic(
                    "there is no absolute pointer yet: the machine has a PS/2 mouse, which takes relative motion (type “rel”)",
                ));
            }
            _ => return Err(parameter("type", "“key”, “btn” or “rel”")),
        }
    }
    if motion.dx != 0 || motion.dy != 0 {
        commands.push(Command::Pointer(motion));
    }
    *call.buttons = buttons;
    for command in commands {
        call.machine.call(command)?;
    }
    Ok(json!({}))
}
