//! One headless machine: `hako run` with QMP, logs and patience.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::files::Folder;
use crate::qmp::{Qmp, Refusal};

/// How long anything may take; a loaded machine of two processors is slow.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// Pause between two looks.
pub const LOOK: Duration = Duration::from_millis(50);

/// The program under test.
pub const HAKO: &str = env!("CARGO_BIN_EXE_hako");

/// Looks again and again until `look` sees it.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// The keys of a character on a US keyboard.
pub fn keys_of(character: char) -> Vec<&'static str> {
    const PLAIN: &[(char, &str)] = &[
        (' ', "spc"),
        ('\n', "ret"),
        ('-', "minus"),
        ('=', "equal"),
        ('[', "bracket_left"),
        (']', "bracket_right"),
        (';', "semicolon"),
        ('\'', "apostrophe"),
        ('`', "grave_accent"),
        ('\\', "backslash"),
        (',', "comma"),
        ('.', "dot"),
        ('/', "slash"),
        ('\t', "tab"),
    ];
    const SHIFTED: &[(char, &str)] = &[
        ('!', "1"),
        ('@', "2"),
        ('#', "3"),
        ('$', "4"),
        ('%', "5"),
        ('^', "6"),
        ('&', "7"),
        ('*', "8"),
        ('(', "9"),
        (')', "0"),
        ('_', "minus"),
        ('+', "equal"),
        (':', "semicolon"),
        ('"', "apostrophe"),
        ('|', "backslash"),
        ('<', "comma"),
        ('>', "dot"),
        ('?', "slash"),
        ('~', "grave_accent"),
        ('{', "bracket_left"),
        ('}', "bracket_right"),
    ];
    const LETTERS: &str = "0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z";
    let lower = character.to_ascii_lowercase();
    if let Some(name) = LETTERS.split(' ').find(|name| name.chars().eq([lower])) {
        return if character.is_ascii_uppercase() { vec!["shift", name] } else { vec![name] };
    }
    if let Some((_, name)) = PLAIN.iter().find(|(known, _)| *known == character) {
        return vec![name];
    }
    let (_, name) = SHIFTED.iter().find(|(known, _)| *known == character).expect("a character of a US keyboard");
    vec!["shift", name]
}

/// `HAKO_ACCEL` chooses the engine of all machines whose test does not: `interp`, `jit`, `diff=interp,jit`.
fn accelerator(arguments: &[&str]) -> Vec<String> {
    match std::env::var("HAKO_ACCEL") {
        Ok(chosen) if !arguments.contains(&"-accel") => vec!["-accel".to_owned(), chosen],
        _ => Vec::new(),
    }
}

pub struct Guest {
    child: Option<Child>,
    qmp: Option<Qmp>,
    pub folder: Folder,
    /// How long the screen and the end may take.
    pub patience: Duration,
    /// Words on standard error after which there is nothing to wait for.
    pub hopeless: Option<&'static str>,
}

impl Guest {
    /// Starts a machine with these arguments beside QMP, no window and a log of the firmware.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_in(Folder::new(name), arguments)
    }

    /// The same, with a folder that is there already.
    pub fn start_in(folder: Folder, arguments: &[&str]) -> Self {
        let mut guest = Self { child: None, qmp: None, folder, patience: PATIENCE, hopeless: None };
        guest.launch(arguments);
        guest
    }

    /// Starts the machine (again) in the same folder.
    pub fn launch(&mut self, arguments: &[&str]) {
        let socket = self.folder.join("qmp");
        let errors = std::fs::File::create(self.folder.join("stderr")).unwrap();
        let child = Command::new(HAKO)
            .args(["run", "-display", "none", "-nic", "none", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .args(["-device", "isa-debugcon,iobase=0x402,chardev=firmware", "-chardev"])
            .arg(format!("file,id=firmware,path={}", self.folder.join("firmware.log").display()))
            .args(accelerator(arguments))
            .args(arguments)
            .env("HAKO_DATA", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("hako starts");
        self.child = Some(child);
        self.qmp = None;
        let until = Instant::now() + PATIENCE;
        while self.qmp.is_none() {
            if let Some(status) = self.status() {
                panic!("hako ended with {status}: {}", self.errors());
            }
            assert!(Instant::now() < until, "QMP does not come up: {}", self.errors());
            self.qmp = Qmp::connect(&socket, PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn qmp(&mut self) -> &mut Qmp {
        self.qmp.as_mut().expect("a machine that runs")
    }

    /// A command that has to succeed.
    #[expect(clippy::needless_pass_by_value, reason = "callers write it as a literal")]
    pub fn command(&mut self, name: &str, arguments: Value) -> Value {
        match self.qmp().command(name, &arguments) {
            Ok(value) => value,
            Err(refusal) => panic!("{name} {arguments}: {refusal:?}\n{}", self.story()),
        }
    }

    /// A line to the monitor and what it prints.
    pub fn monitor(&mut self, line: &str) -> String {
        let value = self.command("human-monitor-command", json!({ "command-line": line }));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// The process of the machine.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("a machine that runs").id()
    }

    /// How often its threads have gone to sleep so far.
    pub fn sleeps(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process())).expect("its threads");
        let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
            // A thread may end meanwhile.
            let status = std::fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
        };
        threads.filter_map(of_thread).sum()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// What hako said on standard error.
    pub fn errors(&self) -> String {
        self.log("stderr")
    }

    /// A file of the machine's folder.
    pub fn log(&self, name: &str) -> String {
        std::fs::read(self.folder.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The characters on the screen; `None` in a graphics mode, and before there is a picture.
    pub fn text(&mut self) -> Option<Vec<String>> {
        match self.qmp().command("x-screen-text", &json!({})) {
            Ok(value) => {
                let lines = value["lines"].as_array()?;
                Some(lines.iter().map(|line| line.as_str().unwrap_or_default().trim_end().to_owned()).collect())
            }
            Err(Refusal::Error(_)) => None,
            Err(Refusal::Gone) => panic!("the machine has ended: {}", self.story()),
        }
    }

    /// Waits until the screen satisfies `wanted`.
    pub fn wait_for_screen(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let until = Instant::now() + self.patience;
        loop {
            if let Some(lines) = self.text().filter(|lines| wanted(lines)) {
                return lines;
            }
            if let Some(status) = self.status() {
                panic!("hako ended with {status} before {what}\n{}", self.story());
            }
            let hopeless = self.hopeless.is_some_and(|words| self.errors().contains(words));
            assert!(!hopeless && Instant::now() < until, "waited in vain for {what}\n{}", self.story());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until some line has `needle` in it.
    pub fn wait_for(&mut self, needle: &str) -> Vec<String> {
        self.wait_for_screen(&format!("“{needle}” on the screen"), |lines| {
            lines.iter().any(|line| line.contains(needle))
        })
    }

    /// Presses keys together: `ctrl-alt-delete`.
    pub fn press(&mut self, keys: &str) {
        let keys: Vec<_> = keys.split('-').collect();
        self.press_all(&keys);
    }

    fn press_all(&mut self, keys: &[&str]) {
        let keys: Vec<_> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.command("send-key", json!({ "keys": keys, "hold-time": 20 }));
    }

    /// One key down or up.
    pub fn key(&mut self, key: &str, down: bool) {
        let data = json!({ "down": down, "key": { "type": "qcode", "data": key } });
        self.command("input-send-event", json!({ "events": [{ "type": "key", "data": data }] }));
    }

    /// Types text, as fast as the machine takes it.
    pub fn type_text(&mut self, text: &str) {
        for character in text.chars() {
            self.press_all(&keys_of(character));
        }
    }

    /// The picture: width, height and pixels of red, green and blue.
    pub fn picture(&mut self) -> (u32, u32, Vec<u8>) {
        let path = self.folder.join("screen.png");
        self.command("screendump", json!({ "filename": path, "format": "png" }));
        read_png(&path)
    }

    /// Waits for the end and returns the exit code.
    pub fn ended(&mut self) -> i32 {
        let until = Instant::now() + self.patience;
        loop {
            if let Some(status) = self.status() {
                return status.code().unwrap_or_else(|| panic!("hako was killed: {status}\n{}", self.errors()));
            }
            assert!(Instant::now() < until, "the machine does not end\n{}", self.story());
            std::thread::sleep(LOOK);
        }
    }

    /// Pulls the plug and waits for the end.
    pub fn quit(&mut self) {
        // On a busy host the answer may be lost with the process.
        match self.qmp().command("quit", &json!({})) {
            Ok(_) | Err(Refusal::Gone) => {}
            Err(refusal) => panic!("quit: {refusal:?}\n{}", self.story()),
        }
        assert_eq!(self.ended(), 0, "{}", self.errors());
    }

    /// Ends the process as a crash of the host does. Gives the events that it had told of.
    pub fn kill(&mut self) -> Vec<Value> {
        let mut child = self.child.take().expect("a machine that runs");
        child.kill().unwrap();
        child.wait().unwrap();
        self.qmp.take().map_or_else(Vec::new, |mut qmp| qmp.last_events())
    }

    /// Ends the process as a person with Ctrl-C does.
    pub fn interrupt(&mut self) {
        crate::files::tool("kill", &["-INT", &self.process().to_string()]);
    }

    /// All that helps to understand a failure.
    fn story(&mut self) -> String {
        let mut story = String::new();
        let _ = writeln!(story, "--- standard error\n{}", self.errors());
        let firmware = self.log("firmware.log");
        let tail: Vec<_> = firmware.lines().rev().take(30).collect();
        let _ = writeln!(story, "--- firmware (its last lines)");
        for line in tail.iter().rev() {
            let _ = writeln!(story, "{line}");
        }
        let Some(qmp) = self.qmp.as_mut() else { return story };
        if let Ok(text) = qmp.command("x-screen-text", &json!({})) {
            let _ = writeln!(story, "--- screen");
            for line in text["lines"].as_array().into_iter().flatten() {
                let _ = writeln!(story, "│{}", line.as_str().unwrap_or_default().trim_end());
            }
        }
        for line in ["info status", "info registers", "x/8i $eip"] {
            if let Ok(text) = qmp.command("human-monitor-command", &json!({ "command-line": line })) {
                let _ = writeln!(story, "--- {line}\n{}", text.as_str().unwrap_or_default());
            }
        }
        let _ = writeln!(story, "--- the machine's folder: {}", self.folder.path().display());
        story
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Width, height and pixels of red, green and blue.
pub fn read_png(path: &Path) -> (u32, u32, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let samples = info.color_type.samples();
    let rgb = pixels[..info.buffer_size()]
        .chunks(samples)
        .flat_map(|pixel| if samples < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] })
        .collect();
    (info.width, info.height, rgb)
}

/// Arguments as paths and words.
pub fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The program `tests/guests/SOURCE`, as a file called `name`.
pub fn assemble_as(folder: &Folder, source: &str, name: &str) -> PathBuf {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/");
    let program = folder.join(name);
    // Folders of nasm end with a slash.
    let include = format!("-I{}/", guests.display());
    crate::files::tool("nasm", &["-f", "bin", &include, "-o", word(&program), word(&guests.join(source))]);
    program
}

/// A 1.44 MB floppy that boots the program `tests/guests/SOURCE`.
pub fn assemble(folder: &Folder, source: &str) -> PathBuf {
    let image = assemble_as(folder, source, "boot.img");
    std::fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(1_474_560).unwrap();
    image
}

/// Runs `hako` with arguments that have to make it end by itself: exit code and standard error.
pub fn run_to_end(arguments: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(HAKO)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hako starts");
    let until = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            panic!("hako {arguments:?} does not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}
