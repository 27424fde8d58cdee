//! A QMP client.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub struct Qmp {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    pub events: VecDeque<Value>,
}

/// A command that was refused, or a connection that ended.
#[derive(Clone, Debug)]
pub enum Refusal {
    Error(String),
    Gone,
}

impl Qmp {
    /// Connects and negotiates; `None` while nobody listens.
    pub fn connect(path: &Path, patience: Duration) -> Option<Self> {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut qmp = Self { stream, reader, events: VecDeque::new() };
        let greeting = qmp.read().ok()?;
        assert!(greeting["QMP"]["version"]["qemu"].is_object(), "{greeting}");
        qmp.command("qmp_capabilities", &json!({})).ok()?;
        Some(qmp)
    }

    fn read(&mut self) -> Result<Value, Refusal> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(Refusal::Gone),
            // A process that is killed may end in the middle of a line.
            Ok(_) if !line.ends_with('\n') => Err(Refusal::Gone),
            Ok(_) => Ok(serde_json::from_str(&line).unwrap_or_else(|error| panic!("QMP said {line:?}: {error}"))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("QMP does not answer"),
            Err(_) => Err(Refusal::Gone),
        }
    }

    /// Sends a command and waits for its answer; events on the way are kept.
    pub fn command(&mut self, name: &str, arguments: &Value) -> Result<Value, Refusal> {
        let line = json!({ "execute": name, "arguments": arguments }).to_string();
        self.raw(&line)
    }

    /// Sends a command and does not wait.
    pub fn send(&mut self, name: &str, arguments: &Value) -> Result<(), Refusal> {
        let line = json!({ "execute": name, "arguments": arguments }).to_string() + "\n";
        self.stream.write_all(line.as_bytes()).map_err(|_| Refusal::Gone)
    }

    /// Sends bytes as they are and waits for an answer.
    pub fn raw(&mut self, line: &str) -> Result<Value, Refusal> {
        self.stream
            .write_all(line.as_bytes())
            .and_then(|()| self.stream.write_all(b"\n"))
            .map_err(|_| Refusal::Gone)?;
        loop {
            let mut value = self.read()?;
            if value.get("event").is_some() {
                self.events.push_back(value);
            } else if let Some(error) = value.get("error") {
                return Err(Refusal::Error(error["desc"].as_str().unwrap_or_default().to_owned()));
            } else {
                return Ok(value["return"].take());
            }
        }
    }

    /// All events that have come, up to the end of a connection that has ended.
    pub fn last_events(&mut self) -> Vec<Value> {
        while let Ok(value) = self.read() {
            self.events.push_back(value);
        }
        self.events.drain(..).filter(|value| value.get("event").is_some()).collect()
    }

    /// Waits for an event of this name.
    pub fn event(&mut self, name: &str, patience: Duration) -> Value {
        let until = Instant::now() + patience;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return self.events.remove(at).unwrap();
            }
            assert!(Instant::now() < until, "the event {name} did not come; there were {:?}", self.events);
            match self.read() {
                Ok(value) => self.events.push_back(value),
                Err(refusal) => panic!("{refusal:?} before the event {name}; there were {:?}", self.events),
            }
        }
    }
}
