//! The QEMU Machine Protocol: JSON commands in, JSON answers and events out.
//!
//! Source: QEMU, "QEMU Machine Protocol Specification". A server has a thread of its own, which is where commands wait for the
//! machine. A peer is not trusted: what it sends is bounded, and while it does not read its answers it is not read either.

pub mod command;
pub mod jobs;
mod media;
pub mod notice;
pub mod wire;

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, select};
use serde_json::{Value, json};

use crate::chardev::CharBackend;
use crate::runner::{Event, RunState, VmHandle};
use notice::Notices;
use wire::{Inbox, Message};

/// Answers that wait for the peer to read at most, in bytes; more events are dropped.
const MAX_OUTBOX: usize = 1024 * 1024;
/// How long the last answers may take to leave.
const LINGER: Duration = Duration::from_secs(2);

/// What a peer reads on an error: a class and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QmpError {
    class: &'static str,
    text: String,
}

impl QmpError {
    /// An error of the class for everything.
    pub fn generic(text: impl Into<String>) -> Self {
        Self { class: "GenericError", text: text.into() }
    }

    /// There is no such device.
    pub fn no_device(text: impl Into<String>) -> Self {
        Self { class: "DeviceNotFound", text: text.into() }
    }

    /// The command is not there (or not now).
    pub fn not_found(text: impl Into<String>) -> Self {
        Self { class: "CommandNotFound", text: text.into() }
    }
}

/// Serves `backend` on a thread called `qmp` until the machine ends. `bell` rings whenever the backend has something.
///
/// # Errors
/// Where the host has no thread left.
pub fn start(backend: Box<dyn CharBackend>, bell: Receiver<()>, machine: VmHandle) -> io::Result<JoinHandle<()>> {
    let events = machine.events();
    let notices = Notices { stopped: machine.state() != RunState::Running, ..Notices::default() };
    std::thread::Builder::new().name("qmp".to_owned()).spawn(move || {
        Server {
            backend,
            bell,
            machine,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            session: Session::default(),
            notices,
        }
        .run(&events);
    })
}

/// What is remembered of one connection.
#[derive(Debug, Default)]
struct Session {
    connection: u64,
    /// `qmp_capabilities` has been said.
    negotiated: bool,
    /// Pointer buttons that this peer holds.
    buttons: u8,
    /// Where it has put the pointer.
    place: Option<(u16, u16)>,
}

struct Server {
    backend: Box<dyn CharBackend>,
    bell: Receiver<()>,
    machine: VmHandle,
    inbox: Inbox,
    outbox: Vec<u8>,
    session: Session,
    notices: Notices,
}

impl Server {
    fn run(&mut self, events: &Receiver<Event>) {
        loop {
            self.serve();
            // The end may have come before the events were asked for.
            if events.is_empty() && matches!(self.machine.state(), RunState::Ended(_)) {
                self.tell(&Event::State(self.machine.state()));
                break;
            }
            select! {
                recv(self.bell) -> ring => if ring.is_err() { return },
                recv(events) -> event => {
                    let Ok(event) = event else { break };
                    self.tell(&event);
                    if matches!(event, Event::State(RunState::Ended(_))) {
                        break;
                    }
                }
            }
        }
        self.linger();
    }

    /// Gets the last answers out.
    fn linger(&mut self) {
        let until = std::time::Instant::now() + LINGER;
        while self.flush() > 0 && self.bell.recv_deadline(until).is_ok() {}
    }

    /// Takes and answers all that has come.
    fn serve(&mut self) {
        self.greet();
        loop {
            if self.flush() > 0 {
                // The bell rings once the peer has read.
                return;
            }
            let mut buffer = [0; 4096];
            let count = self.backend.read_from(self.session.connection, &mut buffer);
            if count == 0 {
                return;
            }
            for message in self.inbox.take_in(&buffer[..count]) {
                self.answer(message);
            }
        }
    }

    /// Says hello to somebody new.
    fn greet(&mut self) {
        let connection = self.backend.connection();
        // What somebody who has left sent last is still carried out.
        if connection == self.session.connection || connection == 0 {
            return;
        }
        self.session = Session { connection, ..Session::default() };
        self.inbox = Inbox::default();
        self.outbox.clear();
        self.say(&json!({ "QMP": { "version": command::version(), "capabilities": [] } }));
    }

    fn answer(&mut self, message: Message) {
        let (result, id) = match message {
            Message::Value(value) => {
                let id = value.get("id").cloned();
                (self.execute(value), id)
            }
            Message::Malformed(text) => (Err(QmpError::generic(text)), None),
        };
        let mut answer = match result {
            Ok(value) => json!({ "return": value }),
            Err(error) => json!({ "error": { "class": error.class, "desc": error.text } }),
        };
        if let Some(id) = id {
            answer["id"] = id;
        }
        self.say(&answer);
        let pending = std::mem::take(&mut self.notices.jobs.pending);
        self.tell_all(pending);
    }

    fn execute(&mut self, message: Value) -> Result<Value, QmpError> {
        let Value::Object(mut message) = message else {
            return Err(QmpError::generic("QMP input must be a JSON object"));
        };
        let Some(Value::String(name)) = message.remove("execute") else {
            return Err(QmpError::generic("QMP input lacks the member “execute”, a command's name"));
        };
        let arguments = message.remove("arguments");
        if let Some(extra) = message.keys().find(|key| *key != "id") {
            return Err(QmpError::generic(format!("QMP input member “{extra}” is unexpected")));
        }
        let arguments = match arguments {
            None => serde_json::Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err(QmpError::generic("QMP input member “arguments” must be an object")),
        };
        let row = command::find(&name);
        match (self.session.negotiated, name.as_str()) {
            (false, "qmp_capabilities") => {
                let wanted = arguments.get("enable").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
                if wanted {
                    return Err(QmpError::generic("no capability is available"));
                }
                self.session.negotiated = true;
                Ok(json!({}))
            }
            (false, _) => Err(QmpError::not_found(format!(
                "Expecting capabilities negotiation with “qmp_capabilities” before “{name}”"
            ))),
            (true, "qmp_capabilities") => {
                Err(QmpError::not_found("Capabilities negotiation is already complete, command ignored"))
            }
            (true, _) => {
                let row = row.ok_or_else(|| QmpError::not_found(format!("The command {name} has not been found")))?;
                let mut call = command::Call {
                    machine: &self.machine,
                    arguments: command::Arguments::new(row, arguments)?,
                    buttons: &mut self.session.buttons,
                    place: &mut self.session.place,
                    notices: &mut self.notices,
                };
                (row.run)(&mut call)
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        let notices = self.notices.of(event);
        self.tell_all(notices);
    }

    fn tell_all(&mut self, notices: Vec<Value>) {
        for mut notice in notices {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            notice["timestamp"] = json!({ "seconds": now.as_secs(), "microseconds": now.subsec_micros() });
            if self.session.negotiated && self.outbox.len() < MAX_OUTBOX {
                self.say(&notice);
            }
        }
    }

    fn say(&mut self, value: &Value) {
        self.outbox.extend(value.to_string().as_bytes());
        self.outbox.extend(b"\r\n");
        self.flush();
    }

    /// Hands on as much as the backend takes; how many bytes are left.
    fn flush(&mut self) -> usize {
        let taken = self.backend.write_to(self.session.connection, &self.outbox);
        self.outbox.drain(..taken);
        self.outbox.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::bus::signals::Signals;
    use crate::chardev::{Waker, memory};
    use crate::config::{DriveKind, DriveSlot, ImageFormat};
    use crate::frame::{Frame, FrameSlot, TextScreen};
    use crate::runner::event::EndReason;
    use crate::runner::handle::{Request, Shared};
    use crate::runner::{BlockInfo, Command, CommandError, Reply, Statistics};

    /// A peer of a QMP server whose machine is a thread that notes what it is asked.
    struct Peer {
        pipe: memory::MemoryPeer,
        come: VecDeque<Value>,
        bytes: Vec<u8>,
        asked: Arc<Mutex<Vec<String>>>,
        shared: Arc<Shared>,
        server: JoinHandle<()>,
    }

    fn answer(command: &Command) -> Result<Reply, CommandError> {
        match command {
            Command::Monitor(line) if line == "info status" => Ok(Reply::Text("VM status: running\n".to_owned())),
            Command::Monitor(line) => Err(CommandError::Refused(format!("{line}: no such command"))),
            Command::Screen => Ok(Reply::Screen(Some(Arc::new(Frame {
                sequence: 1,
                width: 1,
                height: 1,
                aspect: 1.0,
                rgba: vec![1, 2, 3, 255],
                changed: vec![1],
                text: Some(TextScreen { lines: vec!["A:\\>".to_owned()], cursor: Some((4, 0)) }),
            })))),
            Command::Blocks => Ok(Reply::Blocks(vec![BlockInfo {
                slot: DriveSlot::Floppy(0),
                kind: DriveKind::Floppy,
                path: Some(PathBuf::from("/tmp/a.img")),
                read_only: false,
                temporary: false,
                bytes: 1_474_560,
                format: ImageFormat::Raw,
                tray_open: None,
                locked: false,
            }])),
            _ => Ok(Reply::Done),
        }
    }

    impl Peer {
        fn new() -> Self {
            let (requests, asked) = crossbeam_channel::unbounded::<Request>();
            let shared = Arc::new(Shared {
                signals: Arc::new(Signals::new()),
                frame: FrameSlot::default(),
                state: Mutex::new(RunState::Running),
                statistics: Mutex::new(Statistics::default()),
                absolute_pointer: AtomicBool::new(false),
                cancel_save: AtomicBool::new(false),
                listeners: Mutex::default(),
            });
            let log = Arc::new(Mutex::new(Vec::new()));
            let (machine_shared, machine_log) = (Arc::clone(&shared), Arc::clone(&log));
            std::thread::spawn(move || {
                let tell = |event: &Event| {
                    for listener in &*machine_shared.listeners.lock().unwrap() {
                        let _ = listener.send(event.clone());
                    }
                };
                for request in asked {
                    machine_log.lock().unwrap().push(format!("{:?}", request.command));
                    match request.command {
                        Command::Pause => tell(&Event::State(RunState::Paused)),
                        Command::Resume => tell(&Event::State(RunState::Running)),
                        Command::Reset => tell(&Event::Reset),
                        Command::AbsolutePointer(_) => machine_shared.absolute_pointer.store(false, Ordering::Relaxed),
                        Command::PowerOff => tell(&Event::State(RunState::Ended(EndReason::PowerOff))),
                        _ => {}
                    }
                    if let Some(reply) = request.reply {
                        let _ = reply.send(answer(&request.command));
                    }
                }
            });
            let (waker, bell) = Waker::bell();
            let (backend, pipe) = memory::pipe(waker);
            let server = start(Box::new(backend), bell, VmHandle { requests, shared: Arc::clone(&shared) }).unwrap();
            pipe.send(b"");
            Self { pipe, come: VecDeque::new(), bytes: Vec::new(), asked: log, shared, server }
        }

        fn next(&mut self) -> Value {
            for _ in 0..2000 {
                if let Some(value) = self.come.pop_front() {
                    return value;
                }
                self.bytes.extend(self.pipe.received());
                while let Some(end) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                    let line: Vec<u8> = self.bytes.drain(..end + 2).collect();
                    self.come.push_back(serde_json::from_slice(&line).unwrap());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            panic!("no answer");
        }

        fn say(&mut self, line: &str) -> Value {
            self.pipe.send(line.as_bytes());
            self.next()
        }

        fn ready() -> Self {
            let mut peer = Self::new();
            assert!(peer.next()["QMP"]["version"]["qemu"]["major"].is_u64());
            assert_eq!(peer.say(r#"{"execute": "qmp_capabilities"}"#), json!({"return": {}}));
            peer
        }
    }

    #[test]
    fn capabilities_come_first_and_only_once() {
        let mut peer = Peer::new();
        assert!(peer.next()["QMP"]["capabilities"].is_array());
        assert_eq!(peer.say(r#"{"execute": "query-status"}"#)["error"]["class"], "CommandNotFound");
        assert_eq!(peer.say(r#"{"execute": "qmp_capabilities", "id": 7}"#), json!({"return": {}, "id": 7}));
        assert_eq!(peer.say(r#"{"execute": "qmp_capabilities"}"#)["error"]["class"], "CommandNotFound");
        assert_eq!(peer.say(r#"{"execute": "query-status"}"#)["return"]["status"], "running");
    }

    #[test]
    fn commands_reach_the_machine_and_answer() {
        let mut peer = Peer::ready();
        let text = peer.say(r#"{"execute": "x-screen-text"}"#);
        assert_eq!(text["return"]["lines"][0], "A:\\>");
        let block = peer.say(r#"{"execute": "query-block"}"#);
        assert_eq!(block["return"][0]["inserted"]["image"]["virtual-size"], 1_474_560);
        let hmp =
            |line: &str| json!({"execute": "human-monitor-command", "arguments": {"command-line": line}}).to_string();
        assert_eq!(peer.say(&hmp("info status"))["return"], "VM status: running\n");
        assert!(peer.say(&hmp("bogus"))["return"].as_str().unwrap().contains("bogus"));
        peer.asked.lock().unwrap().clear();
        let keys = r#"{"execute": "send-key", "arguments": {"hold-time": 5, "keys":
            [{"type": "qcode", "data": "ctrl"}, {"type": "number", "data": 30}]}}"#;
        assert_eq!(peer.say(keys), json!({"return": {}}));
        let events = r#"{"execute": "input-send-event", "arguments": {"events": [
            {"type": "rel", "data": {"axis": "x", "value": 3}}, {"type": "rel", "data": {"axis": "y", "value": -4}},
            {"type": "btn", "data": {"button": "left", "down": true}}, {"type": "btn", "data": {"button": "left", "down": false}},
            {"type": "key", "data": {"down": true, "key": {"type": "qcode", "data": "up"}}}]}}"#;
        assert_eq!(peer.say(events), json!({"return": {}}));
        assert_eq!(
            *peer.asked.lock().unwrap(),
            [
                "SendKeys { keys: [ControlLeft, A], hold_ms: 5 }",
                "Pointer(PointerEvent { dx: 3, dy: -4, wheel: 0, buttons: 1 })",
                "Pointer(PointerEvent { dx: 0, dy: 0, wheel: 0, buttons: 0 })",
                "Key(KeyEvent { key: ArrowUp, down: true })",
            ]
        );
    }

    #[test]
    fn places_of_the_pointer_reach_a_guest_that_takes_them() {
        let mut peer = Peer::ready();
        peer.shared.absolute_pointer.store(true, Ordering::Relaxed);
        let events = r#"{"execute": "input-send-event", "arguments": {"events": [
            {"type": "abs", "data": {"axis": "x", "value": 32767}}, {"type": "abs", "data": {"axis": "y", "value": 0}},
            {"type": "btn", "data": {"button": "side", "down": true}}]}}"#;
        assert_eq!(peer.say(events), json!({"return": {}}));
        assert_eq!(
            *peer.asked.lock().unwrap(),
            ["AbsolutePointer(AbsolutePointerEvent { x: 65535, y: 0, wheel: 0, buttons: 8 })"]
        );
        // Its driver has gone.
        assert!(peer.say(events)["error"]["desc"].as_str().unwrap().contains("absolute"));
    }

    #[test]
    fn media_are_changed_by_the_name_of_their_drive() {
        let mut peer = Peer::ready();
        let block = peer.say(r#"{"execute": "query-block"}"#)["return"][0].clone();
        assert_eq!(
            (&block["removable"], &block["locked"], &block["inserted"]["drv"]),
            (&json!(true), &json!(false), &json!("raw"))
        );
        assert!(block.get("tray_open").is_none(), "a floppy drive has no tray");
        peer.asked.lock().unwrap().clear();
        for line in [
            r#"{"execute": "eject", "arguments": {"device": "floppy0", "force": true}}"#,
            r#"{"execute": "blockdev-change-medium", "arguments": {"id": "floppy0", "filename": "/tmp/b.img",
                "format": "raw", "read-only-mode": "read-only"}}"#,
            r#"{"execute": "blockdev-remove-medium", "arguments": {"id": "floppy0"}}"#,
        ] {
            assert_eq!(peer.say(line), json!({"return": {}}), "{line}");
        }
        let asked = peer.asked.lock().unwrap().clone();
        let changes: Vec<_> = asked.iter().filter(|line| *line != "Blocks").collect();
        assert_eq!(
            changes,
            [
                "ChangeMedium { slot: Floppy(0), change: Eject { force: true } }",
                "ChangeMedium { slot: Floppy(0), change: Insert { path: \"/tmp/b.img\", format: Some(Raw), access: ReadOnly, force: false } }",
                "ChangeMedium { slot: Floppy(0), change: Remove }",
            ]
        );
        let unknown = peer.say(r#"{"execute": "eject", "arguments": {"device": "ide1-cd0"}}"#);
        assert_eq!(unknown["error"]["class"], "DeviceNotFound");
        assert!(unknown["error"]["desc"].as_str().unwrap().contains("floppy0"), "{unknown}");
        let format = r#"{"execute": "blockdev-change-medium", "arguments": {"id": "floppy0", "filename": "x", "format": "vmdk"}}"#;
        assert!(peer.say(format)["error"]["desc"].as_str().unwrap().contains("qcow2"));
    }

    #[test]
    fn bad_requests_are_answered_in_words() {
        let mut peer = Peer::ready();
        for (line, word) in [
            ("[]", "object"),
            ("{\"execute\": \n, }\n", "syntax"),
            (r#"{"execute": "nope"}"#, "nope"),
            (r#"{"execute": "stop", "arguments": {"now": 1}}"#, "now"),
            (r#"{"execute": "stop", "more": 1}"#, "more"),
            (r#"{"execute": "send-key", "arguments": {"keys": [{"type": "qcode", "data": "hyper"}]}}"#, "hyper"),
            (
                r#"{"execute": "screendump", "arguments": {"filename": "/nonexistent/x.png", "format": "png"}}"#,
                "/nonexistent",
            ),
            (r#"{"execute": "input-send-event", "arguments": {"events": [{"type": "abs", "data": {}}]}}"#, "absolute"),
        ] {
            let answer = peer.say(line);
            assert!(answer["error"]["desc"].as_str().is_some_and(|text| text.contains(word)), "{line}: {answer}");
        }
    }

    #[test]
    fn events_come_with_the_time_and_the_end_is_told() {
        let mut peer = Peer::ready();
        peer.pipe.send(br#"{"execute": "stop"}{"execute": "cont"}{"execute": "system_reset"}"#);
        let mut events = Vec::new();
        for _ in 0..6 {
            let value = peer.next();
            if let Some(event) = value["event"].as_str() {
                assert!(value["timestamp"]["seconds"].as_u64().unwrap() > 1_600_000_000);
                events.push(event.to_owned());
            }
        }
        assert_eq!(events, ["STOP", "RESUME", "RESET"]);
        assert_eq!(peer.say(r#"{"execute": "quit"}"#), json!({"return": {}}));
        let end = peer.next();
        assert_eq!((&end["event"], &end["data"]["reason"]), (&json!("SHUTDOWN"), &json!("host-qmp-quit")));
        peer.server.join().unwrap();
    }
}
