//! A display of the test's own, with a window manager, keyboard and mouse, and eyes that read the guest's letters.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::files::Folder;
use crate::guest::{Guest, HAKO, PATIENCE, wait_until, word};

/// Cells of the text modes.
const CELL: (usize, usize) = (9, 16);
/// What the guest's letters are drawn with on a black ground.
const INK: [u8; 3] = [0xaa; 3];

/// Colours of the dark look, as `src/theme.rs` has them.
pub mod theme {
    pub const ACCENT: [u8; 3] = [0x4c, 0x8d, 0xff];
    pub const ATTENTION: [u8; 3] = [0xff, 0x8a, 0x70];
    pub const BANNER: [u8; 3] = [0x33, 0x30, 0x2a];
    pub const BUTTON: [u8; 3] = [0x30, 0x35, 0x3c];
    pub const FIELD: [u8; 3] = [0x16, 0x18, 0x1b];
}

/// Rows of the picture of a character, bit 0 left.
type Glyph = [u16; CELL.1];

/// The shapes of all printable characters, as the machine itself draws them on the screen of a tiny guest.
fn glyphs() -> &'static HashMap<char, Glyph> {
    static GLYPHS: OnceLock<HashMap<char, Glyph>> = OnceLock::new();
    GLYPHS.get_or_init(|| {
        // mov ax, 3; int 0x10; mov al, ' '; 1: mov ah, 0x0e; mov bx, 7; push ax; int 0x10; pop ax; inc al; cmp al, 0x7f; jne 1b;
        // cli; hlt
        let code = [
            0xb8, 3, 0, 0xcd, 0x10, 0xb0, b' ', 0xb4, 0x0e, 0xbb, 7, 0, 0x50, 0xcd, 0x10, 0x58, 0xfe, 0xc0, 0x3c, 0x7f,
            0x75, 0xf1, 0xfa, 0xf4,
        ];
        let folder = Folder::new("glyphs");
        let mut image = vec![0; 1_474_560];
        image[..code.len()].copy_from_slice(&code);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        let image = folder.write("glyphs.img", &image);
        let mut guest = Guest::start_in(folder, &["-m", "16", "-fda", word(&image)]);
        guest.wait_for_screen("all characters", |lines| lines.len() > 1 && lines[1].ends_with("xyz{|}~"));
        let (width, _, pixels) = guest.picture();
        guest.quit();
        let glyph = |index: usize| {
            let (x, y) = (index % 80 * CELL.0, index / 80 * CELL.1);
            std::array::from_fn(|row| {
                let lit = |column: &usize| pixels[((y + row) * width as usize + x + column) * 3] > 0x55;
                (0..CELL.0).filter(lit).fold(0, |bits, column| bits | 1 << column)
            })
        };
        (' '..='~').enumerate().map(|(index, character)| (character, glyph(index))).collect()
    })
}

/// A picture of the display.
pub struct Picture {
    width: usize,
    height: usize,
    /// Whether a pixel has the ink's colour, or the ground's; neither: something else.
    ink: Vec<Option<bool>>,
    rgb: Vec<u8>,
}

impl Picture {
    fn of(pixels: (u32, u32, Vec<u8>)) -> Self {
        let (width, height, rgb) = pixels;
        let close = |pixel: &[u8], to: [u8; 3]| pixel.iter().zip(to).all(|(a, b)| a.abs_diff(b) < 12);
        let ink = rgb
            .chunks(3)
            .map(|pixel| if close(pixel, INK) { Some(true) } else { close(pixel, [0; 3]).then_some(false) })
            .collect();
        Self { width: width as usize, height: height as usize, ink, rgb }
    }

    /// Pixels in the ink's colour.
    pub fn lit(&self) -> usize {
        self.ink.iter().filter(|ink| **ink == Some(true)).count()
    }

    /// The leftmost column with a pixel of this colour.
    pub fn column_of(&self, colour: [u8; 3]) -> Option<usize> {
        let close = |pixel: &[u8]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 12);
        self.rgb.chunks(3).enumerate().filter(|(_, pixel)| close(pixel)).map(|(index, _)| index % self.width).min()
    }

    /// The first place, in reading order, from which `size` pixels are all of this colour.
    pub fn area_of(&self, colour: [u8; 3], from: (usize, usize), size: (usize, usize)) -> Option<(usize, usize)> {
        let close = |x: usize, y: usize| {
            let at = (y * self.width + x) * 3;
            self.rgb[at..at + 3].iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 4)
        };
        (from.1..self.height.saturating_sub(size.1)).find_map(|y| {
            (from.0..self.width.saturating_sub(size.0))
                .find(|&x| (0..size.1).all(|dy| (0..size.0).all(|dx| close(x + dx, y + dy))))
                .map(|x| (x, y))
        })
    }

    /// Where `text` stands in the guest's letters, grey on black, one pixel of the guest for each pixel of the display.
    pub fn find(&self, text: &str) -> Option<(usize, usize)> {
        let shapes: Vec<Glyph> = text.chars().map(|character| glyphs()[&character]).collect();
        let wanted: Vec<(usize, usize, bool)> = shapes
            .iter()
            .enumerate()
            .flat_map(|(number, glyph)| {
                glyph.iter().enumerate().flat_map(move |(row, bits)| {
                    (0..CELL.0).map(move |column| (number * CELL.0 + column, row, bits >> column & 1 != 0))
                })
            })
            .collect();
        // Lit pixels first: most places fail at once.
        let (lit, dark): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(.., lit)| *lit);
        let order: Vec<_> = lit.into_iter().chain(dark).collect();
        let (wide, high) = (text.chars().count() * CELL.0, CELL.1);
        for y in 0..(self.height + 1).saturating_sub(high) {
            for x in 0..(self.width + 1).saturating_sub(wide) {
                if order.iter().all(|(dx, dy, lit)| self.ink[(y + dy) * self.width + x + dx] == Some(*lit)) {
                    return Some((x, y));
                }
            }
        }
        None
    }
}

pub struct Desktop {
    server: Child,
    manager: Child,
    programs: Vec<Child>,
    display: String,
    /// Takes commands for mouse and keys on its standard input.
    hand: Child,
    screen: Screen,
    pub folder: Folder,
}

/// The display's own memory, a file in the format of xwd: a look costs nothing and waits for nobody.
struct Screen {
    file: File,
    /// Where pixels begin, and bytes from row to row.
    start: u64,
    pitch: usize,
    width: usize,
    height: usize,
}

impl Screen {
    fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0).unwrap();
        let word = |index: usize| u32::from_be_bytes(header[index * 4..index * 4 + 4].try_into().unwrap()) as usize;
        assert_eq!((word(1), word(11)), (7, 32), "xwd's version and bits of a pixel");
        let (colours, bytes_of_a_colour) = (word(19), 12);
        Self {
            file,
            start: (word(0) + colours * bytes_of_a_colour) as u64,
            pitch: word(12),
            width: word(4),
            height: word(5),
        }
    }

    /// Red, green and blue of the pixels of a rectangle, row by row.
    fn part(&self, (x, y): (usize, usize), (width, height): (usize, usize)) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(width * height * 3);
        let mut row = vec![0; width * 4];
        for y in y..y + height {
            self.file.read_exact_at(&mut row, self.start + (y * self.pitch + x * 4) as u64).unwrap();
            rgb.extend(row.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
        }
        rgb
    }
}

impl Desktop {
    /// A fresh display with a window manager.
    pub fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        // Without -noreset the display starts anew, and refuses for a moment, whenever its last client goes.
        // On a busy host a key may be down long enough to be repeated; nobody here means that.
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp", "-noreset"])
            .args(["-ardelay", "600000", "-fbdir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb starts (packaging/test.sh installs it)");
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        assert!(!number.trim().is_empty(), "Xvfb gives no display");
        let display = format!(":{}", number.trim());
        // A window that asks to be mapped while the window manager is still starting may never be.
        let ready = folder.join("window-manager-is-ready");
        let manager = Command::new("openbox")
            .args(["--sm-disable", "--startup", &format!("touch '{}'", ready.display())])
            .env("DISPLAY", &display)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openbox starts (packaging/test.sh installs it)");
        wait_until("the window manager", || ready.exists().then_some(()));
        let hand = Command::new("xdotool")
            .arg("-")
            .env("DISPLAY", &display)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("xdotool runs (packaging/test.sh installs it)");
        let screen = Screen::open(&folder.join("Xvfb_screen0"));
        let mut desktop = Self { server, manager, programs: Vec::new(), display, hand, screen, folder };
        // The pointer's picture is part of the display's: out of the way.
        desktop.hand("mousemove 1279 899");
        // The first key from this hand gives the display another map of keys, for which the window manager takes its own
        // keys (Alt-F4) anew; one pressed meanwhile would be the window's. What it is asked behind it, it does behind it.
        desktop.press("shift");
        desktop.xdotool(&["set_num_desktops", "2"]);
        wait_until("the window manager's keys", || {
            (desktop.xdotool(&["get_num_desktops"]).trim() == "2").then_some(())
        });
        desktop
    }

    /// The library's folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Writes a machine into the library, and preferences that select it and show guests pixel by pixel.
    pub fn machine(&self, id: &str, fields: &str) {
        let folder = self.data().join("machines").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("(\n    version: 1,\n    name: \"{id}\",\n    memory_mib: 64,\n{fields})\n");
        std::fs::write(folder.join("machine.ron"), text).unwrap();
        self.prefer(Some(id));
    }

    /// Shows guests pixel by pixel and selects a machine.
    pub fn prefer(&self, selected: Option<&str>) {
        std::fs::create_dir_all(self.data()).unwrap();
        let selected = selected.map_or("None".to_owned(), |id| format!("Some({id:?})"));
        let text = format!("(dark: Some(true), one_to_one: true, selected: {selected})");
        std::fs::write(self.data().join("preferences.ron"), text).unwrap();
    }

    /// Starts hako, with more variables of the environment, and waits for nothing. Says its process.
    pub fn launch(&mut self, arguments: &[&str], guests: &Path, variables: &[(&str, &str)]) -> u32 {
        let errors = File::create(self.folder.join("stderr")).unwrap();
        let child = Command::new(HAKO)
            .args(arguments)
            .env("DISPLAY", &self.display)
            .env_remove("WAYLAND_DISPLAY")
            .env("HAKO_DATA", self.data())
            .env("HAKO_GUESTS", guests)
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            // A desktop without portals: whatever the tests run on has no say.
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let pid = child.id();
        self.programs.push(child);
        pid
    }

    /// Starts hako and waits for its window, which then has the keyboard.
    pub fn start(&mut self, arguments: &[&str], guests: &Path) {
        let pid = self.launch(arguments, guests, &[]).to_string();
        let window = wait_until("hako's window", || {
            if let Some(status) = self.programs.last_mut().unwrap().try_wait().unwrap() {
                panic!("hako ended with {status}: {}", self.errors());
            }
            let output = self.xdotool(&["search", "--onlyvisible", "--pid", &pid]);
            output.lines().last().filter(|line| !line.is_empty()).map(str::to_owned)
        });
        wait_until("the window to have the keyboard", || {
            self.xdotool(&["windowactivate", &window]);
            (self.xdotool(&["getactivewindow"]).trim() == window).then_some(())
        });
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    pub fn xdotool(&self, arguments: &[&str]) -> String {
        let output = Command::new("xdotool").args(arguments).env("DISPLAY", &self.display).output();
        let output = output.expect("xdotool runs (packaging/test.sh installs it)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys together, in X's names: `ctrl+Return`.
    pub fn press(&self, keys: &str) {
        self.xdotool(&["key", keys]);
    }

    /// One key down or up.
    pub fn key(&self, key: &str, down: bool) {
        self.xdotool(&[if down { "keydown" } else { "keyup" }, key]);
    }

    /// Types text.
    pub fn type_text(&self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.press("Return");
            }
            if !line.is_empty() {
                self.xdotool(&["type", "--delay", "30", line]);
            }
        }
    }

    /// A command of xdotool, done at once: `mousemove 10 20`, `click 1`.
    pub fn hand(&mut self, command: &str) {
        writeln!(self.hand.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Clicks at a place of the display.
    pub fn click(&mut self, (x, y): (usize, usize)) {
        self.hand(&format!("mousemove {x} {y} click 1"));
    }

    /// Waits until a machine of the library was closed in order.
    pub fn wait_for_end(&self, id: &str) {
        let running = self.data().join("machines").join(id).join("running.ron");
        wait_until("the machine to be closed", || (std::fs::metadata(&running).ok()?.len() == 0).then_some(()));
    }

    /// The display's name, for other programs.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// The process started last.
    pub fn process(&self) -> u32 {
        self.programs.last().unwrap().id()
    }

    /// Kills the process started last, as a crash does.
    pub fn kill(&mut self) {
        let program = self.programs.last_mut().unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
    }

    /// The place of the window's upper left corner on the display.
    pub fn corner(&self) -> (usize, usize) {
        let told = self.xdotool(&["getactivewindow", "getwindowgeometry", "--shell"]);
        let number = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {told}"))
        };
        (number("X="), number("Y="))
    }

    /// One pixel of the display.
    pub fn pixel(&self, at: (usize, usize)) -> [u8; 3] {
        self.screen.part(at, (1, 1)).try_into().unwrap()
    }

    /// What is on the display, as a file.
    pub fn dump(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        let (width, height) = (self.screen.width, self.screen.height);
        let file = std::io::BufWriter::new(File::create(&path).unwrap());
        let mut encoder = png::Encoder::new(file, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&self.screen.part((0, 0), (width, height))).unwrap();
        writer.finish().unwrap();
        path
    }

    pub fn picture(&self) -> Picture {
        let (width, height) = (self.screen.width, self.screen.height);
        Picture::of((width as u32, height as u32, self.screen.part((0, 0), (width, height))))
    }

    /// Waits until `text` stands in the guest's picture, and says where.
    pub fn wait_for(&self, text: &str) -> (usize, usize) {
        self.wait_for_picture(&format!("“{text}” in the window"), |picture| picture.find(text))
    }

    /// Waits until the window shows what came so far: its picture stands still for less than a caret's blink. Text that is in the same
    /// frame as a click into another field belongs to neither.
    pub fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        let (mut last, mut same) = (self.picture(), 0);
        while same < 4 {
            assert!(Instant::now() < until, "the window does not come to rest: {}", self.dump("display.png").display());
            std::thread::sleep(Duration::from_millis(100));
            let now = self.picture();
            same = if now.rgb == last.rgb { same + 1 } else { 0 };
            last = now;
        }
    }

    pub fn wait_for_picture<T>(&self, what: &str, look: impl Fn(&Picture) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look(&self.picture()) {
                return seen;
            }
            assert!(
                Instant::now() <= until,
                "waited in vain for {what}; the display: {}\n{}",
                self.dump("display.png").display(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the program started last has ended, and says its exit code.
    pub fn ended(&mut self) -> i32 {
        wait_until("hako to end", || self.programs.last_mut().unwrap().try_wait().unwrap())
            .code()
            .expect("an exit code")
    }

    /// Keeps a picture of the display for the README where `HAKO_PICTURES` names a folder.
    pub fn keep(&self, name: &str) {
        if let Some(folder) = std::env::var_os("HAKO_PICTURES") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy(self.dump(name), PathBuf::from(folder).join(name)).unwrap();
        }
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in self.programs.iter_mut().chain([&mut self.hand, &mut self.manager, &mut self.server]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
