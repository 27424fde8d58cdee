//! `-serial`, `-monitor`, `-qmp`, `-debugcon`, `-chardev`: which bytes go where.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::Receiver;
use vm_core::chardev::{CharBackend, OpenError, Waker, mux, null::Null, stream, unix_socket};

use super::keyval::KeyVal;
use super::{CliError, refuse};

/// The far end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Bytes vanish.
    Null,
    /// The terminal.
    Stdio,
    /// A file that takes output.
    File(PathBuf),
    /// A listening socket.
    Server {
        path: PathBuf,
        /// The machine starts only when somebody has connected.
        wait: bool,
    },
    /// A socket of somebody who listens.
    Client { path: PathBuf, reconnect: Option<u64> },
}

/// What stands behind `-serial` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// There is no such line.
    None,
    /// One of its own; `true`: shared with a monitor (`mon:`).
    Own(Backend, bool),
    /// The `-chardev` with this id.
    Shared(String),
}

const BACKENDS: &str = "stdio, mon:stdio, file:PATH, unix:PATH,server=on,wait=off, chardev:ID, null and none";

impl Target {
    /// Parses the argument of `option`.
    pub fn parse(option: &str, text: &str) -> Result<Self, CliError> {
        let (shared, plain) = text.strip_prefix("mon:").map_or((false, text), |rest| (true, rest));
        let backend = match plain.split_once(':') {
            _ if plain == "none" && !shared => return Ok(Self::None),
            _ if plain == "null" => Backend::Null,
            _ if plain == "stdio" => Backend::Stdio,
            Some(("chardev", id)) if !shared => return Ok(Self::Shared(id.to_owned())),
            Some(("file", path)) if !path.is_empty() => Backend::File(path.into()),
            Some(("unix", rest)) => socket(option, rest)?,
            _ => return refuse(format!("{option} {text}: not supported; there are {BACKENDS}")),
        };
        Ok(Self::Own(backend, shared))
    }
}

fn socket(option: &str, text: &str) -> Result<Backend, CliError> {
    let mut pairs = KeyVal::parse(option, text, Some("path"))?;
    let backend = socket_of(&mut pairs)?;
    pairs.finish("path, server, wait, reconnect")?;
    Ok(backend)
}

fn socket_of(pairs: &mut KeyVal) -> Result<Backend, CliError> {
    let path = PathBuf::from(pairs.need("path")?);
    let server = pairs.switch("server")?.unwrap_or(false);
    let wait = pairs.switch("wait")?;
    let reconnect = pairs.number("reconnect")?.filter(|seconds| *seconds > 0);
    match (server, wait, reconnect) {
        (true, wait, None) => Ok(Backend::Server { path, wait: wait.unwrap_or(true) }),
        (true, _, Some(_)) => refuse("“reconnect” is for clients; a server always takes the next connection"),
        (false, Some(_), _) => refuse("“wait” is for servers; add server=on"),
        (false, None, reconnect) => Ok(Backend::Client { path, reconnect }),
    }
}

/// A `-chardev`: its id, its far end, and whether a serial line and a monitor share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chardev {
    pub id: String,
    pub backend: Backend,
    pub mux: bool,
}

impl Chardev {
    /// Parses `stdio,id=c0,mux=on` and the like.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let mut pairs = KeyVal::parse("-chardev", text, Some("backend"))?;
        let name = pairs.need("backend")?;
        let id = pairs.need("id")?;
        let mux = pairs.switch("mux")?.unwrap_or(false);
        let backend = match name.as_str() {
            "null" => Backend::Null,
            "stdio" => {
                // Ctrl-C follows from what uses it; the switch is taken as understood.
                pairs.switch("signal")?;
                Backend::Stdio
            }
            "file" => Backend::File(pairs.need("path")?.into()),
            "socket" => socket_of(&mut pairs)?,
            other => return refuse(format!("-chardev {other}: not supported; there are null, stdio, file and socket")),
        };
        pairs.finish("id, mux; of a file: path; of a socket: path, server, wait, reconnect")?;
        Ok(Self { id, backend, mux })
    }
}

/// Opens the far end. `signal_keys`: Ctrl-C at the terminal ends the program.
pub fn open(backend: &Backend, signal_keys: bool, waker: Waker) -> Result<Box<dyn CharBackend>, CliError> {
    let opened = || -> Result<Box<dyn CharBackend>, OpenError> {
        Ok(match backend {
            Backend::Null => Box::new(Null),
            Backend::Stdio => Box::new(stream::stdio(signal_keys, waker)?),
            Backend::File(path) => Box::new(stream::file(path, waker)?),
            Backend::Server { path, wait } => {
                if *wait {
                    eprintln!("hako: waiting for a connection on {}", path.display());
                }
                Box::new(unix_socket::server(path, *wait, waker)?)
            }
            Backend::Client { path, reconnect } => {
                Box::new(unix_socket::client(path, reconnect.map(Duration::from_secs), waker)?)
            }
        })
    };
    opened().map_err(|error| CliError(error.to_string()))
}

/// A line with somebody who waits for it on a thread.
pub struct Attended {
    pub backend: Box<dyn CharBackend>,
    pub bell: Receiver<()>,
}

/// Opens the far end for a monitor or QMP server.
pub fn open_attended(backend: &Backend, signal_keys: bool) -> Result<Attended, CliError> {
    let (waker, bell) = Waker::bell();
    Ok(Attended { backend: open(backend, signal_keys, waker)?, bell })
}

/// Opens the far end for a serial line (which `machine` wakes) and a monitor; `quit` hears Ctrl-A x.
pub fn open_shared(
    backend: &Backend,
    machine: Waker,
    quit: Waker,
) -> Result<(Box<dyn CharBackend>, Attended), CliError> {
    let (ring, bell) = Waker::bell();
    let terminal = open(backend, false, machine.clone().and(ring.clone()))?;
    let (serial, monitor) = mux::share(terminal, machine, ring, quit);
    Ok((Box::new(serial), Attended { backend: Box::new(monitor), bell }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(backend: Backend) -> Target {
        Target::Own(backend, false)
    }

    #[test]
    fn every_spelling_leads_to_its_backend() {
        let parse = |text| Target::parse("-serial", text).unwrap();
        let server = |wait| own(Backend::Server { path: "/tmp/s".into(), wait });
        assert_eq!(parse("none"), Target::None);
        assert_eq!(parse("null"), own(Backend::Null));
        assert_eq!(parse("mon:stdio"), Target::Own(Backend::Stdio, true));
        assert_eq!(parse("file:/tmp/log"), own(Backend::File("/tmp/log".into())));
        assert_eq!(parse("unix:/tmp/s,server=on,wait=off"), server(false));
        assert_eq!(parse("unix:/tmp/s,server,nowait"), server(false));
        assert_eq!(parse("unix:/tmp/s,server"), server(true));
        assert_eq!(parse("unix:/tmp/s"), own(Backend::Client { path: "/tmp/s".into(), reconnect: None }));
        assert_eq!(parse("chardev:c0"), Target::Shared("c0".to_owned()));
        let chardev = Chardev::parse("socket,id=q,path=/tmp/s,server=on,wait=off").unwrap();
        assert_eq!(chardev.backend, Backend::Server { path: "/tmp/s".into(), wait: false });
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, word) in [
            ("vc", "vc"),
            ("pty", "pty"),
            ("tcp::4444,server=on", "tcp"),
            ("unix:/tmp/s,telnet=on", "telnet"),
            ("unix:,server=maybe", "maybe"),
            ("unix:/tmp/s,wait=off", "server=on"),
            ("file:", "file:"),
        ] {
            let error = Target::parse("-serial", text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(Chardev::parse("pipe,id=x,path=/tmp/p").unwrap_err().to_string().contains("pipe"));
        assert!(Chardev::parse("stdio").unwrap_err().to_string().contains("id="));
    }
}
