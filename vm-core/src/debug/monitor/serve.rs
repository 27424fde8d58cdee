//! A person at a terminal or socket, with the monitor's prompt.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use super::MAX_LINE;
use crate::chardev::CharBackend;
use crate::runner::{Command, Event, Reply, RunState, VmHandle};

const PROMPT: &str = "(hako) ";

/// Serves `backend` on a thread of its own, until the machine ends. `bell` rings whenever the backend has something.
///
/// # Errors
/// Where the host has no thread left.
pub fn start(backend: Box<dyn CharBackend>, bell: Receiver<()>, machine: VmHandle) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("monitor".to_owned()).spawn(move || {
        Session { backend, bell, machine, line: Vec::new(), greeted: 0 }.run();
    })
}

struct Session {
    backend: Box<dyn CharBackend>,
    bell: Receiver<()>,
    machine: VmHandle,
    line: Vec<u8>,
    /// The connection that has seen the prompt.
    greeted: u64,
}

impl Session {
    fn run(&mut self) {
        let events = self.machine.events();
        loop {
            self.serve();
            if matches!(self.machine.state(), RunState::Ended(_)) {
                return;
            }
            select! {
                recv(self.bell) -> ring => if ring.is_err() { return },
                recv(events) -> event => match event {
                    Ok(Event::State(RunState::Ended(_))) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    }

    /// Takes all that has been typed.
    fn serve(&mut self) {
        let connection = self.backend.connection();
        if connection != self.greeted && connection != 0 {
            self.greeted = connection;
            self.line.clear();
            self.say(&format!("Hako {} monitor: “help” lists the commands\n{PROMPT}", env!("CARGO_PKG_VERSION")));
        }
        let mut buffer = [0; 256];
        loop {
            let count = self.backend.read_from(self.greeted, &mut buffer);
            if count == 0 {
                return;
            }
            for byte in &buffer[..count] {
                self.key(*byte);
            }
        }
    }

    fn key(&mut self, byte: u8) {
        match byte {
            b'\r' | b'\n' => {
                let line = std::mem::take(&mut self.line);
                self.say("\n");
                self.execute(&String::from_utf8_lossy(&line));
                self.say(PROMPT);
            }
            0x08 | 0x7f if self.line.pop().is_some() => self.say("\x08 \x08"),
            // Ctrl-U: the whole line.
            0x15 => {
                let back = "\x08 \x08".repeat(self.line.len());
                self.line.clear();
                self.say(&back);
            }
            b' '..=0x7e | 0x80.. if self.line.len() < MAX_LINE => {
                self.line.push(byte);
                self.send(&[byte]);
            }
            _ => {}
        }
    }

    fn execute(&mut self, line: &str) {
        match self.machine.call(Command::Monitor(line.to_owned())) {
            Ok(Reply::Text(text)) => self.say(&text),
            Ok(_) => {}
            Err(error) => self.say(&format!("Error: {error}\n")),
        }
    }

    /// Prints text; a raw terminal and a plain socket both want "\r\n".
    fn say(&mut self, text: &str) {
        self.send(text.replace('\n', "\r\n").as_bytes());
    }

    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.backend.write_to(self.greeted, bytes);
            bytes = &bytes[taken..];
            // A full terminal rings when there is room; nobody waits for a machine that has ended.
            if !bytes.is_empty()
                && self.bell.recv_timeout(Duration::from_secs(1)).is_err()
                && matches!(self.machine.state(), RunState::Ended(_))
            {
                return;
            }
        }
    }
}
