//! Multiboot images: Multiboot Specification 0.6.96.
//!
//! The image is entered in 32-bit protected mode with EAX = 0x2BADB002 and EBX at the boot information. The memory map in
//! it is the BIOS's own: the option ROM asks INT 15h, AX = E820h, and fills in map, `mem_lower` and `mem_upper`.
//!
//! | address | what |
//! |---|---|
//! | 0x8000 | boot information |
//! | 0x8100 | memory map, at most 40 entries |
//! | 0x8500, 0x8600 | VBE information, where the image asks for a graphics mode |
//! | 0x8800–0xFFFF | table of modules, then strings |

use std::path::Path;

use super::kernel::{FileBytes, KernelError, Memory, Plan, Stream};
use super::option_rom::{Fill, MAX_FILLS, Mode, Start};
use crate::config::KernelConfig;

const MAGIC: u32 = 0x1bad_b002;
/// The header lies within the first so many bytes.
const SEARCH: usize = 8192;

/// Header flag: information about memory is wanted (it is always given), and modules on pages (they always are).
const FLAGS_MET: u32 = 0b011;
/// Header flag: a video mode is asked for.
const FLAG_VIDEO: u32 = 1 << 2;
/// Header flag: the address fields are valid.
const FLAG_ADDRESSES: u32 = 1 << 16;

/// Where the boot information is, and its length.
pub(super) const INFO: u32 = 0x8000;
const INFO_LEN: usize = 116;
/// Where the memory map is.
const MAP: u32 = 0x8100;
/// Module table and strings.
const DATA: u32 = 0x8800;
const DATA_END: u32 = 0x1_0000;
/// Low memory that an image may use: above our data, below the BIOS's.
const LOW: std::ops::Range<u64> = 0x1_0000..0x9_0000;
const HIGH: u64 = 0x10_0000;

/// What the information says is valid: memory, command line, modules, map, loader name, framebuffer.
const INFO_FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9 | 1 << 12;
const LOADER: &str = "Hako";
const MAX_MODULES: usize = 64;

/// Offsets in the boot information.
mod info {
    pub const FLAGS: usize = 0;
    pub const CMDLINE: usize = 16;
    pub const MODS_COUNT: usize = 20;
    pub const MODS_ADDR: usize = 24;
    pub const MMAP_ADDR: usize = 48;
    pub const BOOT_LOADER_NAME: usize = 64;
    pub const FRAMEBUFFER_ADDR: usize = 88;
    pub const FRAMEBUFFER_PITCH: usize = 96;
    pub const FRAMEBUFFER_WIDTH: usize = 100;
    pub const FRAMEBUFFER_HEIGHT: usize = 104;
    pub const FRAMEBUFFER_BPP: usize = 108;
}

/// Where in `bytes` the multiboot header is: aligned to four, with a checksum that fits.
pub(super) fn find_header(bytes: &[u8]) -> Option<usize> {
    let head = &bytes[..bytes.len().min(SEARCH)];
    let dword = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (0..head.len().saturating_sub(11)).step_by(4).find(|at| {
        let [magic, flags, checksum] = [0, 4, 8].map(|field| dword(&head[at + field..]));
        magic == MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0
    })
}

/// Pieces of the image, what is to be zeroed, and where it is entered.
#[derive(Debug, Default)]
struct Image<'a> {
    pieces: Vec<(u32, &'a [u8])>,
    fills: Vec<Fill>,
    entry: u32,
    /// First address above all of it.
    end: u64,
}

impl<'a> Image<'a> {
    /// Adds `bytes` at `address` and zeros after them up to `len` bytes.
    fn add(&mut self, address: u64, bytes: &'a [u8], len: u64, memory: Memory) -> Result<(), String> {
        let len = len.max(bytes.len() as u64);
        let end = address.saturating_add(len);
        if !(address >= HIGH && end <= memory.top || address >= LOW.start && end <= LOW.end) {
            return Err(format!(
                "a part of it belongs to {address:#x}–{end:#x}, where this machine with {} MiB has no free memory",
                memory.mib()
            ));
        }
        self.pieces.push((address as u32, bytes));
        let zeros = len - bytes.len() as u64;
        if zeros != 0 {
            self.fills.push(Fill { address: (address + bytes.len() as u64) as u32, len: zeros as u32 });
        }
        if self.fills.len() > MAX_FILLS {
            return Err(format!("it has more than {MAX_FILLS} parts to be zeroed"));
        }
        self.end = self.end.max(end);
        Ok(())
    }
}

/// Where everything goes.
pub(super) fn plan(
    kernel: &FileBytes,
    header: usize,
    config: &KernelConfig,
    memory: Memory,
) -> Result<Plan, KernelError> {
    let unusable = |reason: String| kernel.unusable(reason);
    let flags = kernel.dword(header + 4);
    let unknown = flags & 0xffff & !(FLAGS_MET | FLAG_VIDEO);
    if unknown != 0 {
        return Err(unusable(format!("its multiboot header asks for something unknown (flags {unknown:#x})")));
    }
    let image = if flags & FLAG_ADDRESSES != 0 { by_addresses(kernel, header, memory) } else { by_elf(kernel, memory) };
    let image = image.map_err(unusable)?;
    let modules = read_modules(config, &image, memory)?;

    let mut data = Data::new(modules.len());
    let command_line = format!("{} {}", kernel.path.display(), config.append);
    let command_line = data.string(command_line.trim_end()).map_err(unusable)?;
    let name = data.string(LOADER).map_err(unusable)?;
    let mut stream = Stream::default();
    for (address, bytes) in &image.pieces {
        stream.piece(*address, bytes);
    }
    for (index, module) in modules.iter().enumerate() {
        stream.piece(module.address, &module.file.bytes);
        let text = data.string(&module.text).map_err(unusable)?;
        data.module(index, module.address, module.address + module.file.bytes.len() as u32, text);
    }

    let mut bytes = [0; INFO_LEN];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(info::FLAGS, INFO_FLAGS);
    put(info::CMDLINE, command_line);
    put(info::MODS_COUNT, modules.len() as u32);
    put(info::MODS_ADDR, DATA);
    put(info::MMAP_ADDR, MAP);
    put(info::BOOT_LOADER_NAME, name);
    // 80 × 25 characters at 0xB8000; the ROM replaces it where it sets a graphics mode. Type 2 is text.
    put(info::FRAMEBUFFER_ADDR, 0xb8000);
    put(info::FRAMEBUFFER_PITCH, 160);
    put(info::FRAMEBUFFER_WIDTH, 80);
    put(info::FRAMEBUFFER_HEIGHT, 25);
    put(info::FRAMEBUFFER_BPP, 0x0210);
    stream.piece(INFO, &bytes);
    stream.piece(DATA, &data.bytes);
    let mode = if flags & FLAG_VIDEO != 0 { video_mode(kernel, header) } else { None };
    Ok(Plan { stream, start: Start::Multiboot { entry: image.entry, fills: image.fills, mode } })
}

/// The image as the header's address fields describe it.
fn by_addresses(kernel: &FileBytes, header: usize, memory: Memory) -> Result<Image<'_>, String> {
    let [header_addr, load_addr, load_end, bss_end, entry] = [12, 16, 20, 24, 28].map(|at| kernel.dword(header + at));
    if header + 32 > kernel.bytes.len() {
        return Err("it is cut short: its multiboot header ends before its address fields".to_owned());
    }
    let absurd = || "the addresses in its multiboot header contradict each other".to_owned();
    let before = header_addr.checked_sub(load_addr).ok_or_else(absurd)?;
    let start = header.checked_sub(before as usize).ok_or_else(absurd)?;
    let present = &kernel.bytes[start..];
    let len = match load_end {
        0 => present.len(),
        end => end.checked_sub(load_addr).ok_or_else(absurd)? as usize,
    };
    let bytes = present
        .get(..len)
        .ok_or_else(|| format!("it is cut short: {len} bytes are to be loaded, and the file has {}", present.len()))?;
    let total = match bss_end {
        0 => len as u64,
        end => u64::from(end.checked_sub(load_addr).ok_or_else(absurd)?),
    };
    let mut image = Image { entry, ..Image::default() };
    image.add(u64::from(load_addr), bytes, total, memory)?;
    Ok(image)
}

/// The loadable segments of a 32-bit ELF file.
fn by_elf(kernel: &FileBytes, memory: Memory) -> Result<Image<'_>, String> {
    match kernel.bytes.get(..20) {
        Some([0x7f, b'E', b'L', b'F', 1, 1, ..]) if kernel.word(18) == 3 => {}
        Some([0x7f, b'E', b'L', b'F', 2, ..]) => {
            return Err("it is a 64-bit ELF file, and multiboot starts 32-bit ones only".to_owned());
        }
        Some([0x7f, b'E', b'L', b'F', ..]) => return Err("it is an ELF file for another processor".to_owned()),
        _ => return Err("its multiboot header has no address fields, and it is not an ELF file".to_owned()),
    }
    let (entry, table) = (kernel.dword(24), kernel.dword(28) as usize);
    let (size, count) = (usize::from(kernel.word(42)), usize::from(kernel.word(44)));
    if size < 32 || table.saturating_add(size * count) > kernel.bytes.len() {
        return Err("it is cut short or damaged: its table of segments is not in the file".to_owned());
    }
    let mut image = Image { entry, ..Image::default() };
    let mut entered = false;
    for header in (0..count).map(|index| table + index * size) {
        let [kind, offset, virtual_address, physical, in_file, in_memory] =
            [0, 4, 8, 12, 16, 20].map(|at| kernel.dword(header + at));
        // 1: a segment to be loaded.
        if kind != 1 || in_memory == 0 {
            continue;
        }
        let from = offset as usize;
        let bytes = kernel.bytes.get(from..from.saturating_add(in_file as usize)).ok_or_else(|| {
            format!("it is cut short: a segment of {in_file} bytes at offset {offset} is not all in the file")
        })?;
        image.add(u64::from(physical), bytes, u64::from(in_memory), memory)?;
        // The entry point is a virtual address; what counts without paging is the physical one.
        let inside = entry.wrapping_sub(virtual_address);
        if !entered && inside < in_memory {
            image.entry = physical.wrapping_add(inside);
            entered = true;
        }
    }
    if image.pieces.is_empty() {
        return Err("it has no segment to be loaded".to_owned());
    }
    Ok(image)
}

/// The graphics mode that the header asks for; fields that are 0 leave the choice to us.
fn video_mode(kernel: &FileBytes, header: usize) -> Option<Mode> {
    let [kind, width, height, depth] = [32, 36, 40, 44].map(|at| kernel.dword(header + at));
    // 0: linear graphics; 1: text, which is what the screen is in already.
    if kind != 0 {
        return None;
    }
    let (width, height) = if width == 0 || height == 0 { (1024, 768) } else { (width, height) };
    let field = |value: u32| u16::try_from(value).ok();
    Some(Mode { width: field(width)?, height: field(height)?, depth: if depth == 0 { 32 } else { field(depth)? } })
}

/// A module with its place and its string.
struct Module {
    file: FileBytes,
    text: String,
    address: u32,
}

/// Splits a list at commas; two commas stand for one.
fn split_list(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(character);
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

/// Reads the modules and puts them, each on a page of its own, above the image.
fn read_modules(config: &KernelConfig, image: &Image<'_>, memory: Memory) -> Result<Vec<Module>, KernelError> {
    let mut modules = Vec::new();
    let mut at = image.end.max(HIGH);
    for text in split_list(config.initrd.as_deref().unwrap_or_default()) {
        // A file's name may have a space in it; arguments follow after one.
        let name = if Path::new(&text).exists() { &text } else { text.split(' ').next().unwrap_or(&text) };
        let file = FileBytes::read(Path::new(name), memory.top)?;
        at = at.next_multiple_of(4096);
        let end = at + file.bytes.len() as u64;
        if end > memory.top || modules.len() == MAX_MODULES {
            let reason = format!("as module {} it does not fit into {} MiB", modules.len() + 1, memory.mib());
            return Err(file.unusable(reason));
        }
        modules.push(Module { file, text, address: at as u32 });
        at = end;
    }
    Ok(modules)
}

/// The table of modules and all strings, for memory from [`DATA`] on.
struct Data {
    bytes: Vec<u8>,
}

impl Data {
    const ENTRY: usize = 16;

    fn new(modules: usize) -> Self {
        Self { bytes: vec![0; modules * Self::ENTRY] }
    }

    /// Adds a string; its address.
    fn string(&mut self, text: &str) -> Result<u32, String> {
        let address = DATA + self.bytes.len() as u32;
        if text.len() >= (DATA_END - address) as usize {
            return Err("its command line and those of its modules are too long".to_owned());
        }
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(address)
    }

    fn module(&mut self, index: usize, start: u32, end: u32, text: u32) {
        let entry = &mut self.bytes[index * Self::ENTRY..][..12];
        for (field, value) in entry.chunks_exact_mut(4).zip([start, end, text]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::tests::Folder;

    const MEMORY: Memory = Memory { bytes: 16 << 20, top: 15 << 20 };

    fn dwords(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn header(flags: u32, rest: &[u32]) -> Vec<u8> {
        let mut values = vec![MAGIC, flags, 0_u32.wrapping_sub(MAGIC.wrapping_add(flags))];
        values.extend(rest);
        dwords(&values)
    }

    /// An ELF file with one segment: 0xC0100000 virtual, 1 MiB physical, 0x100 bytes of file, 0x300 of memory.
    fn elf() -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0];
        bytes.extend(dwords(&[1, 0xc010_0010, 52, 0, 0, 0x0020_0034, 1, 0]));
        bytes.extend(dwords(&[1, 0x80, 0xc010_0000, 0x10_0000, 0x100, 0x300, 7, 4096]));
        bytes.resize(0x80, 0);
        bytes.extend(header(3, &[]));
        bytes.resize(0x180, 0x90);
        bytes
    }

    fn try_plan(bytes: Vec<u8>, config: &KernelConfig) -> Result<Plan, KernelError> {
        let kernel = FileBytes { path: "game.bin".into(), bytes };
        let header = find_header(&kernel.bytes).expect("a header");
        plan(&kernel, header, config, MEMORY)
    }

    #[test]
    fn an_elf_image_with_modules_gets_its_information() {
        let folder = Folder::new("modules");
        let (a, b) = (folder.file("a.mod", &[1; 5000]), folder.file("b, c.mod", &[2; 10]));
        let list = format!("{} one two,{}", a.display(), b.display().to_string().replace(',', ",,"));
        let config = KernelConfig { initrd: Some(list), append: "-v".into(), ..KernelConfig::default() };
        let plan = try_plan(elf(), &config).unwrap();
        let fills = vec![Fill { address: 0x10_0100, len: 0x200 }];
        assert_eq!(plan.start, Start::Multiboot { entry: 0x10_0010, fills, mode: None });
        let pieces = plan.stream.pieces();
        let places: Vec<(u32, usize)> = pieces[..4].iter().map(|(at, bytes)| (*at, bytes.len())).collect();
        assert_eq!(places, [(0x10_0000, 0x100), (0x10_1000, 5000), (0x10_3000, 10), (INFO, INFO_LEN)]);
        let information = FileBytes { path: "info".into(), bytes: pieces[3].1.to_vec() };
        let data = FileBytes { path: "data".into(), bytes: pieces[4].1.to_vec() };
        let text = |address: u32| {
            let from = &data.bytes[(address - DATA) as usize..];
            String::from_utf8(from.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
        };
        assert_eq!(text(information.dword(info::CMDLINE)), "game.bin -v");
        assert_eq!(text(information.dword(info::BOOT_LOADER_NAME)), "Hako");
        assert_eq!((information.dword(info::MODS_COUNT), information.dword(info::MODS_ADDR)), (2, DATA));
        assert_eq!((data.dword(0), data.dword(4)), (0x10_1000, 0x10_1000 + 5000));
        assert_eq!(text(data.dword(8)), format!("{} one two", a.display()));
        assert_eq!(text(data.dword(24)), b.display().to_string());
    }

    #[test]
    fn address_fields_and_video_mode_are_followed() {
        let mut bytes = vec![0xcc; 64];
        bytes.extend(header(0x1_0007, &[0x20_0040, 0x20_0000, 0x20_0080, 0x20_1000, 0x20_0060, 0, 640, 480, 32]));
        bytes.resize(200, 0xcc);
        let plan = try_plan(bytes.clone(), &KernelConfig::default()).unwrap();
        let fills = vec![Fill { address: 0x20_0080, len: 0xf80 }];
        let mode = Some(Mode { width: 640, height: 480, depth: 32 });
        assert_eq!(plan.start, Start::Multiboot { entry: 0x20_0060, fills, mode });
        assert_eq!(plan.stream.pieces()[0], (0x20_0000, &bytes[..128]));
    }

    #[test]
    fn damaged_images_are_refused_in_words() {
        let refuse = |bytes: Vec<u8>| try_plan(bytes, &KernelConfig::default()).unwrap_err().to_string();
        let with = |at: usize, value: u32| {
            let mut bytes = elf();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        assert!(refuse(with(4, 0x0102)).contains("64-bit ELF"));
        assert!(refuse(with(4, 0x0201)).contains("another processor"));
        assert!(refuse(with(28, 0xffff_fff0)).contains("table of segments"));
        assert!(refuse(with(52 + 4, 0xffff_ff00)).contains("cut short"));
        assert!(refuse(with(52 + 12, 0xa_0000)).contains("no free memory"));
        assert!(refuse(with(52 + 12, 0x8000)).contains("no free memory"));
        assert!(refuse(with(52 + 20, 0xffff_ffff)).contains("16 MiB"));
        assert!(refuse(with(52, 2)).contains("no segment"));
        assert!(refuse(header(0x10, &[])).contains("unknown"));
        assert!(refuse(header(3, &[])).contains("not an ELF file"));
        assert!(refuse(header(0x1_0000, &[])).contains("cut short"));
        assert!(refuse(header(0x1_0000, &[0, 0x10_0000, 0, 0, 0])).contains("contradict"));
        assert!(refuse(header(0x1_0000, &[0x10_0000, 0x10_0000, 0x20_0000, 0, 0])).contains("cut short"));
        let good = elf();
        for at in 0..0xa0 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let kernel = FileBytes { path: "game.bin".into(), bytes };
                if let Some(header) = find_header(&kernel.bytes) {
                    let _ = plan(&kernel, header, &KernelConfig::default(), MEMORY);
                }
            }
        }
        assert_eq!(find_header(&[]), None);
        assert_eq!(find_header(&MAGIC.to_le_bytes()), None);
    }

    #[test]
    fn lists_split_at_single_commas() {
        assert_eq!(split_list("a,b c,,d,,,e,"), ["a", "b c,d,", "e"]);
        assert!(split_list("").is_empty());
    }
}
