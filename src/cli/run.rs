//! `hako run`: one machine, from its command line to its exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use vm_core::bus::signals::{Signals, StopReason};
use vm_core::chardev::{CharBackend, Waker, terminal};
use vm_core::config::{DriveKind, DriveSlot, KernelConfig, MachineConfig};
use vm_core::cpu::block::log::CodeLog;
use vm_core::debug::{monitor, qmp};
use vm_core::firmware::FirmwareChoice;
use vm_core::runner::event::EndReason;
use vm_core::runner::{Command, Event, RunState, SnapshotEvent, StartOptions, VmHandle, start};
use vm_core::snapshot::tree::{SnapshotId, SnapshotTree};

use super::asleep;
use super::chardev::{Attended, Backend, Target, open, open_attended, open_shared};
use super::drive::{DriveRequest, place};
use super::options::{self, Display, Request};
use super::{CliError, refuse};

/// How long the last bytes of lines and servers may take to leave.
const LINGER: Duration = Duration::from_secs(4);

/// Runs a machine until it ends.
pub fn run(arguments: &[String]) -> Result<ExitCode, CliError> {
    let request = options::parse(arguments)?;
    if request.help {
        print!("{}", options::help());
        return Ok(ExitCode::SUCCESS);
    }
    log_to_stderr();
    let code = carry_out(request);
    terminal::restore();
    code
}

/// What goes wrong inside is told on standard error; `HAKO_LOG=debug` tells more.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HAKO_LOG").unwrap_or_else(|_| {
        // Nothing is said under this name but where -d or the monitor's “log” asks for it.
        format!("warn,{}=info", CodeLog::TARGET).into()
    });
    // The manager may have set one up already.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().try_init();
}

fn carry_out(mut request: Request) -> Result<ExitCode, CliError> {
    let display = display(&request)?;
    let config = config(&mut request)?;
    let (quit, asked_to_quit) = unbounded();
    catch_signals(quit.clone())?;
    let signals = Arc::new(Signals::new());
    let (drained, all_drained) = bounded(0);
    let lines = Lines::open(&request, &signals, &quit, &drained)?;
    drop(drained);
    let Lines { serial, debug_ports, monitors, qmps } = lines;
    // Somebody who can say “cont” or “system_reset”.
    let attended = display == Display::Window || !monitors.is_empty() || !qmps.is_empty();
    let states = states_folder(&config.name);
    let (snapshot, resume_from) = match request.load.as_deref() {
        None => (None, None),
        Some(name) => start_from(name, states.as_deref())?,
    };
    asleep::look(&config, resume_from.as_deref(), request.discard)?;
    let state = asleep::folder(&config).or_else(|| states.as_ref().map(|states| states.join("state")));
    let options = StartOptions {
        signals,
        firmware: firmware(&request),
        serial,
        debug_ports,
        resume_from,
        state,
        // Nothing runs before every server listens to its events.
        paused: true,
        home: states.clone(),
        snapshot,
        states,
        ..StartOptions::default()
    };
    let title = config.name.clone();
    if config.second.is_some() {
        eprintln!("hako: two engines are compared; nothing that the guest writes stays on its disks");
    }
    let machine = start(config, options).map_err(|error| CliError(format!("the machine's thread: {error}")))?;
    let events = machine.events();
    let mut servers: Vec<JoinHandle<()>> = Vec::new();
    for Attended { backend, bell } in monitors {
        servers.push(monitor::serve::start(backend, bell, machine.clone()).map_err(thread_error)?);
    }
    for Attended { backend, bell } in qmps {
        servers.push(qmp::start(backend, bell, machine.clone()).map_err(thread_error)?);
    }
    quit_when_asked(asked_to_quit, machine.clone())?;
    if let Some(items) = &request.log_items {
        machine.send(Command::Monitor(format!("log {items} {}", request.log_ranges)));
    }
    if !request.paused {
        machine.send(Command::Resume);
    }
    let reason = match display {
        Display::None => watch(&machine, &events, attended),
        Display::Window => in_window(&machine, events, &title)?,
    };
    if let EndReason::Saved(folder) = &reason {
        eprintln!("hako: saved; -loadvm {} goes on from there", folder.display());
    }
    drop(machine);
    linger(&all_drained, servers);
    Ok(exit_code(&reason))
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn thread_error(error: std::io::Error) -> CliError {
    CliError(format!("a thread could not be started: {error}"))
}

fn display(request: &Request) -> Result<Display, CliError> {
    match (request.display, request.nographic) {
        (Some(Display::Window), true) => refuse("-nographic and -display window exclude each other"),
        (_, true) => Ok(Display::None),
        (Some(display), false) => Ok(display),
        (None, false) => Ok(Display::Window),
    }
}

/// The hardware.
fn config(request: &mut Request) -> Result<MachineConfig, CliError> {
    let mut drives = place(&request.drives, request.temporary)?;
    if !request.nodefaults {
        for (slot, kind) in [(DriveSlot::Floppy(0), DriveKind::Floppy), (DriveSlot::Ide(2), DriveKind::Cd)] {
            if drives.iter().all(|drive| drive.slot != slot) {
                let empty = DriveRequest {
                    slot: Some(slot),
                    kind,
                    path: None,
                    format: None,
                    read_only: false,
                    temporary: None,
                };
                drives.extend(place(&[empty], false)?);
            }
        }
        drives.sort_by_key(|drive| drive.slot);
    }
    let kernel = match (request.kernel.take(), &request.initrd, &request.append) {
        (Some(kernel), initrd, append) => {
            Some(KernelConfig { kernel, initrd: initrd.clone(), append: append.clone().unwrap_or_default() })
        }
        (None, Some(_), _) => return refuse("-initrd is for a kernel: -kernel is missing"),
        (None, None, Some(_)) => return refuse("-append is for a kernel: -kernel is missing"),
        (None, None, None) => None,
    };
    Ok(MachineConfig { drives, kernel, ..std::mem::take(&mut request.config) })
}

fn firmware(request: &Request) -> FirmwareChoice {
    FirmwareChoice { folders: request.firmware_folder.iter().cloned().collect(), bios: request.bios.clone() }
}

/// Where `savevm` of machines of this name puts its states.
fn states_folder(name: &str) -> Option<PathBuf> {
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_ ".contains(c) { c } else { '_' }).collect();
    let data = match std::env::var_os("HAKO_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => directories::ProjectDirs::from("", "", "hako")?.data_dir().to_owned(),
    };
    Some(data.join("states").join(safe))
}

/// What `-loadvm` means: a snapshot of this machine, else the folder of a state.
fn start_from(name: &str, states: Option<&Path>) -> Result<(Option<SnapshotId>, Option<PathBuf>), CliError> {
    if let Some(home) = states {
        let tree = SnapshotTree::read(home).map_err(|error| CliError(error.to_string()))?;
        if let Some(found) = tree.find(name) {
            return Ok((Some(found.id), None));
        }
    }
    state_folder(name, states).map(|folder| (None, Some(folder)))
}

/// The folder of a state: a path with a slash in it, or a name.
fn state_folder(name: &str, states: Option<&Path>) -> Result<PathBuf, CliError> {
    let folder = match states {
        _ if name.contains('/') => PathBuf::from(name),
        Some(states) => states.join(name),
        None => return refuse(format!("-loadvm {name}: there is no home folder to look in; give the state's folder")),
    };
    if folder.is_dir() {
        Ok(folder)
    } else {
        refuse(format!("-loadvm {name}: there is no saved state in {}", folder.display()))
    }
}

/// A backend that tells when it has been dropped, with all that it held written.
struct Drained {
    inner: Box<dyn CharBackend>,
    /// Dropped after `inner`.
    _told: Sender<()>,
}

impl CharBackend for Drained {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.inner.write(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        self.inner.read(into)
    }

    fn connection(&self) -> u64 {
        self.inner.connection()
    }
}

/// What a far end is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Serial(usize),
    Debug(u16),
    Monitor,
    Qmp,
}

/// All lines of a machine, opened.
struct Lines {
    serial: Vec<Option<Box<dyn CharBackend>>>,
    debug_ports: Vec<(u16, Box<dyn CharBackend>)>,
    monitors: Vec<Attended>,
    qmps: Vec<Attended>,
}

impl Lines {
    fn open(
        request: &Request,
        signals: &Arc<Signals>,
        quit: &Sender<()>,
        drained: &Sender<()>,
    ) -> Result<Self, CliError> {
        let mut lines = Self { serial: Vec::new(), debug_ports: Vec::new(), monitors: Vec::new(), qmps: Vec::new() };
        let machine = Waker::machine(Arc::clone(signals));
        let tracked = |inner| -> Box<dyn CharBackend> { Box::new(Drained { inner, _told: drained.clone() }) };
        let quit = quit.clone();
        let quit = Waker::new(move || {
            // Nobody hears it any more once the machine has ended.
            let _ = quit.send(());
        });
        for (backend, shared, uses) in wanted(request)? {
            match (&uses[..], shared) {
                ([Use::Serial(number)], true) | ([Use::Serial(number), Use::Monitor], _) => {
                    let (serial, monitor) = open_shared(&backend, machine.clone(), quit.clone())?;
                    lines.set_serial(*number, tracked(serial));
                    lines.monitors.push(monitor);
                }
                ([Use::Serial(number)], false) => {
                    lines.set_serial(*number, tracked(open(&backend, true, machine.clone())?));
                }
                ([Use::Debug(port)], false) => {
                    lines.debug_ports.push((*port, tracked(open(&backend, true, machine.clone())?)));
                }
                ([Use::Monitor], _) => lines.monitors.push(open_attended(&backend, true)?),
                ([Use::Qmp], _) => lines.qmps.push(open_attended(&backend, true)?),
                ([], _) => {}
                _ => return refuse("one far end serves one line, or (mon:, mux=on) a serial line and the monitor"),
            }
        }
        Ok(lines)
    }

    fn set_serial(&mut self, number: usize, backend: Box<dyn CharBackend>) {
        while self.serial.len() <= number {
            self.serial.push(None);
        }
        self.serial[number] = Some(backend);
    }
}

/// Each far end with what it is for; `true`: a monitor shares it.
fn wanted(request: &Request) -> Result<Vec<(Backend, bool, Vec<Use>)>, CliError> {
    let mut all: Vec<(Target, Use)> = Vec::new();
    all.extend(request.serials.iter().cloned().enumerate().map(|(number, target)| (target, Use::Serial(number))));
    if request.nographic && request.serials.is_empty() {
        let shared = request.monitors.is_empty();
        all.push((Target::Own(Backend::Stdio, shared), Use::Serial(0)));
    }
    all.extend(request.debug_ports.iter().cloned().map(|(port, target)| (target, Use::Debug(port))));
    all.extend(request.monitors.iter().cloned().map(|target| (target, Use::Monitor)));
    all.extend(request.qmps.iter().cloned().map(|target| (target, Use::Qmp)));

    let mut wanted: Vec<(Backend, bool, Vec<Use>)> = Vec::new();
    let mut by_id: Vec<Vec<Use>> = vec![Vec::new(); request.chardevs.len()];
    for (target, purpose) in all {
        match target {
            Target::None => {}
            Target::Own(backend, shared) => wanted.push((backend, shared, vec![purpose])),
            Target::Shared(id) => {
                let index = request.chardevs.iter().position(|chardev| chardev.id == id);
                let Some(index) = index else {
                    return refuse(format!("chardev {id}: there is no -chardev with this id"));
                };
                by_id[index].push(purpose);
            }
        }
    }
    for (chardev, uses) in request.chardevs.iter().zip(by_id) {
        if uses.len() > 1 && !chardev.mux {
            return refuse(format!("chardev {}: used twice; add mux=on to share it", chardev.id));
        }
        wanted.push((chardev.backend.clone(), false, uses));
    }
    Ok(wanted)
}

/// Ctrl-C and SIGTERM ask; a second one does not wait for the answer.
#[cfg(unix)]
fn catch_signals(quit: Sender<()>) -> Result<(), CliError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let failed = |error| CliError(format!("signals cannot be caught: {error}"));
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed)?;
    let catch = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 || quit.send(()).is_err() {
                terminal::restore();
                std::process::exit(128 + signal);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(catch).map_err(thread_error)?;
    Ok(())
}

fn quit_when_asked(asked: Receiver<()>, machine: VmHandle) -> Result<(), CliError> {
    let quit = move || {
        if asked.recv().is_ok() {
            machine.send(Command::PowerOff);
            // Kept open: whoever asks again is heard.
            while asked.recv().is_ok() {}
        }
    };
    std::thread::Builder::new().name("quit".to_owned()).spawn(quit).map_err(thread_error)?;
    Ok(())
}

/// Waits for the end and says what happens on the way. A machine that stops where nobody could make it go on is ended.
fn watch(machine: &VmHandle, events: &Receiver<Event>, attended: bool) -> EndReason {
    loop {
        // The end may have come before anybody listened.
        if let RunState::Ended(reason) = machine.state() {
            return reason;
        }
        let Ok(event) = events.recv_timeout(Duration::from_millis(500)) else { continue };
        tell(&event, attended);
        match event {
            Event::State(RunState::Stopped(
                StopReason::TripleFault
                | StopReason::DiskError(_)
                | StopReason::Damaged(_)
                | StopReason::EnginesDiffer(_),
            )) if !attended => {
                machine.send(Command::PowerOff);
                return EndReason::Failed(String::new());
            }
            Event::State(RunState::Ended(reason)) => return reason,
            _ => {}
        }
    }
}

fn tell(event: &Event, attended: bool) {
    let next = |advice: &str| if attended { format!("; {advice}") } else { String::new() };
    match event {
        Event::State(RunState::Stopped(StopReason::TripleFault)) => {
            eprintln!(
                "hako: the processor has shut down (triple fault){}",
                next("“system_reset” starts it again, “quit” ends it")
            );
        }
        Event::State(RunState::Stopped(StopReason::Damaged(text) | StopReason::EnginesDiffer(text))) => {
            eprintln!("hako: {text}");
        }
        Event::Snapshot(SnapshotEvent::Failed { text, .. }) => eprintln!("hako: {text}"),
        Event::State(RunState::Stopped(StopReason::DiskError(text))) => {
            eprintln!("hako: {text}{}", next("“cont” tries again"));
        }
        Event::SaveFailed(text) | Event::Notice(text) => eprintln!("hako: {text}"),
        _ => {}
    }
}

/// Shows the machine in a window of its own.
fn in_window(machine: &VmHandle, events: Receiver<Event>, title: &str) -> Result<EndReason, CliError> {
    let watched = machine.clone();
    let watcher = std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(move || watch(&watched, &events, true))
        .map_err(thread_error)?;
    if let Err(error) = crate::window::run(machine, title) {
        machine.send(Command::PowerOff);
        let _ = watcher.join();
        return refuse(format!("{error:#}"));
    }
    machine.send(Command::PowerOff);
    Ok(watcher.join().unwrap_or(EndReason::PowerOff))
}

/// Waits for the last bytes of lines and servers, but not for ever.
fn linger(all_drained: &Receiver<()>, servers: Vec<JoinHandle<()>>) {
    let until = Instant::now() + LINGER;
    // Comes back when the last sender is gone.
    let _ = all_drained.recv_deadline(until);
    for server in servers {
        while !server.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn exit_code(reason: &EndReason) -> ExitCode {
    match reason {
        EndReason::PowerOff | EndReason::NoReboot | EndReason::Saved(_) => ExitCode::SUCCESS,
        EndReason::DebugExit(value) => ExitCode::from(((value << 1) | 1) as u8),
        EndReason::Failed(text) => {
            if !text.is_empty() {
                eprintln!("hako: {text}");
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn empty_drives_are_there_unless_told_not_to() {
        let slots =
            |line| config(&mut request(line)).unwrap().drives.iter().map(|drive| drive.slot).collect::<Vec<_>>();
        assert_eq!(slots("-hda x"), [DriveSlot::Floppy(0), DriveSlot::Ide(0), DriveSlot::Ide(2)]);
        assert_eq!(slots("-hda x -nodefaults"), [DriveSlot::Ide(0)]);
        assert!(config(&mut request("-append quiet")).unwrap_err().to_string().contains("-kernel"));
    }

    #[test]
    fn lines_are_shared_only_where_asked() {
        let uses = |line| wanted(&request(line));
        assert_eq!(uses("-nographic").unwrap(), [(Backend::Stdio, true, vec![Use::Serial(0)])]);
        assert_eq!(uses("-nographic -monitor none").unwrap(), [(Backend::Stdio, false, vec![Use::Serial(0)])]);
        let chardev = "-chardev stdio,id=c,mux=on -serial chardev:c -mon chardev=c";
        assert_eq!(uses(chardev).unwrap(), [(Backend::Stdio, false, vec![Use::Serial(0), Use::Monitor])]);
        assert!(
            uses("-chardev stdio,id=c -serial chardev:c -mon chardev=c").unwrap_err().to_string().contains("mux=on")
        );
        assert!(uses("-serial chardev:x").unwrap_err().to_string().contains('x'));
    }

    #[test]
    fn debug_exit_leaves_with_an_odd_code() {
        assert_eq!(exit_code(&EndReason::DebugExit(0)), ExitCode::from(1));
        assert_eq!(exit_code(&EndReason::DebugExit(0x10)), ExitCode::from(0x21));
        assert_eq!(exit_code(&EndReason::PowerOff), ExitCode::SUCCESS);
    }
}
