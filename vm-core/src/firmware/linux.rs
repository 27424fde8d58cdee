//! Linux by its x86 boot protocol, versions 2.00 to 2.15: Documentation/arch/x86/boot.rst of the kernel.
//!
//! The kernel is entered at its 16-bit setup code, which asks the BIOS for memory map and display itself.
//!
//! | address | what |
//! |---|---|
//! | 0x10000 (0x90000 before 2.02, or where the kernel is loaded low) | setup code, its stack and heap, then the command line |
//! | 0x100000 (0x10000 where it is loaded low) | the kernel proper |
//! | as high as kernel and memory allow | initial RAM disk |

use std::path::Path;

use super::kernel::{FileBytes, KernelError, Memory, Plan, Stream};
use super::option_rom::Start;
use crate::config::KernelConfig;

/// Offsets in the setup header.
mod field {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const VID_MODE: usize = 0x1fa;
    pub const CMD_LINE_MAGIC: usize = 0x20;
    pub const CMD_LINE_OFFSET: usize = 0x22;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const HEAP_END_PTR: usize = 0x224;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const INITRD_ADDR_MAX: usize = 0x22c;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// `HdrS`.
const MAGIC: u32 = 0x5372_6448;
/// The header's part of the first sectors that must be there.
const HEADER_END: usize = 0x264;
/// loadflags: the kernel proper belongs at 1 MiB.
const LOADED_HIGH: u8 = 0x01;
/// loadflags: `heap_end_ptr` is valid.
const CAN_USE_HEAP: u8 = 0x80;
/// The loader has no number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// Marks a command line of protocols before 2.02.
const OLD_CMD_LINE_MAGIC: u16 = 0xa33f;

const HIGH: u32 = 0x10_0000;
const LOW: u32 = 0x1_0000;
/// The setup code's segment starts here, and its command line so far above.
const NEW_LAYOUT: Layout = Layout { real: 0x1_0000, heap_end: 0xe000, setup_max: 0xc000 };
const OLD_LAYOUT: Layout = Layout { real: 0x9_0000, heap_end: 0x9800, setup_max: 0x8000 };

struct Layout {
    real: u32,
    heap_end: u16,
    setup_max: usize,
}

/// Whether these bytes are a Linux kernel with a setup header.
pub(super) fn recognise(bytes: &[u8]) -> bool {
    bytes.get(field::HEADER..field::HEADER + 4) == Some(&MAGIC.to_le_bytes())
}

/// Where everything goes.
pub(super) fn plan(kernel: &FileBytes, config: &KernelConfig, memory: Memory) -> Result<Plan, KernelError> {
    let cut_short = || kernel.unusable("it is cut short: the file ends before the kernel does");
    let version = kernel.word(field::VERSION);
    if version < 0x200 {
        return Err(
            kernel.unusable(format!("it speaks version {version:#x} of the boot protocol; 2.00 is the oldest known"))
        );
    }
    let setup_len = match kernel.bytes.get(field::SETUP_SECTS) {
        Some(0) | None => 5 * 512,
        Some(sectors) => (usize::from(*sectors) + 1) * 512,
    };
    if kernel.bytes.len() <= setup_len || kernel.bytes.len() < HEADER_END {
        return Err(cut_short());
    }
    let (setup, proper) = kernel.bytes.split_at(setup_len);
    let says = u64::from(kernel.dword(field::SYSSIZE)) * 16;
    if version >= 0x204 && (proper.len() as u64) + 15 < says {
        return Err(cut_short());
    }
    let flags = kernel.bytes[field::LOADFLAGS];
    let is_high = flags & LOADED_HIGH != 0;
    let layout = if is_high && version >= 0x202 { NEW_LAYOUT } else { OLD_LAYOUT };
    if setup_len > layout.setup_max {
        return Err(kernel.unusable(format!("its setup code has {setup_len} bytes, more than there is room for")));
    }
    let end = check_room(kernel, version, is_high, proper.len() as u64, memory)?;
    let initrd = match &config.initrd {
        Some(path) => Some(FileBytes::read(Path::new(path), memory.top)?),
        None => None,
    };
    let initrd_at = match &initrd {
        Some(initrd) => place_initrd(kernel, initrd, version, end, config, memory)?,
        None => 0,
    };
    let most = if version >= 0x206 { kernel.dword(field::CMDLINE_SIZE).min(0x1000) as usize } else { 255 };
    if config.append.len() > most {
        let len = config.append.len();
        return Err(kernel.unusable(format!("its command line has {len} bytes, and this kernel takes {most}")));
    }

    let mut setup = setup.to_vec();
    setup.resize(setup.len().max(HEADER_END), 0);
    let mut put = |at: usize, bytes: &[u8]| setup[at..at + bytes.len()].copy_from_slice(bytes);
    put(field::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    if let Some(mode) = video_mode(&config.append) {
        put(field::VID_MODE, &mode.to_le_bytes());
    }
    if version >= 0x201 {
        put(field::LOADFLAGS, &[flags | CAN_USE_HEAP]);
        put(field::HEAP_END_PTR, &(layout.heap_end - 0x200).to_le_bytes());
    }
    let cmd_line = layout.real + u32::from(layout.heap_end);
    if version >= 0x202 {
        put(field::CMD_LINE_PTR, &cmd_line.to_le_bytes());
    } else {
        put(field::CMD_LINE_MAGIC, &OLD_CMD_LINE_MAGIC.to_le_bytes());
        put(field::CMD_LINE_OFFSET, &layout.heap_end.to_le_bytes());
    }
    if let Some(initrd) = &initrd {
        put(field::RAMDISK_IMAGE, &initrd_at.to_le_bytes());
        put(field::RAMDISK_SIZE, &(initrd.bytes.len() as u32).to_le_bytes());
    }

    let mut stream = Stream::default();
    stream.piece(layout.real, &setup);
    stream.piece(cmd_line, format!("{}\0", config.append).as_bytes());
    stream.piece(if is_high { HIGH } else { LOW }, proper);
    if let Some(initrd) = &initrd {
        stream.piece(initrd_at, &initrd.bytes);
    }
    Ok(Plan { stream, start: Start::Linux { segment: (layout.real >> 4) as u16, stack: layout.heap_end } })
}

/// Checks that the kernel fits; the address up to which it uses memory before it knows about the initial RAM disk.
fn check_room(kernel: &FileBytes, version: u16, is_high: bool, len: u64, memory: Memory) -> Result<u64, KernelError> {
    if !is_high {
        let room = u64::from(OLD_LAYOUT.real - LOW);
        if len > room {
            return Err(kernel.unusable(format!("it is a kernel for low memory with {len} bytes; at most {room} fit")));
        }
        return Ok(u64::from(HIGH));
    }
    let loaded = u64::from(HIGH) + len;
    let unpacked = if version >= 0x20a {
        let preferred =
            u64::from(kernel.dword(field::PREF_ADDRESS)) | u64::from(kernel.dword(field::PREF_ADDRESS + 4)) << 32;
        preferred.saturating_add(u64::from(kernel.dword(field::INIT_SIZE)))
    } else {
        loaded
    };
    let needed = loaded.max(unpacked);
    if needed > memory.top {
        let mib = needed.div_ceil(1 << 20).saturating_add(1);
        return Err(kernel.unusable(format!("it needs {mib} MiB of memory, and the machine has {}", memory.mib())));
    }
    Ok(needed)
}

/// As high as the kernel allows, on a page of its own.
fn place_initrd(
    kernel: &FileBytes,
    initrd: &FileBytes,
    version: u16,
    kernel_end: u64,
    config: &KernelConfig,
    memory: Memory,
) -> Result<u32, KernelError> {
    let highest = if version >= 0x203 { kernel.dword(field::INITRD_ADDR_MAX) } else { 0x37ff_ffff };
    let told = memory_limit(&config.append).unwrap_or(u64::MAX);
    let limit = (u64::from(highest) + 1).min(memory.top).min(told);
    let at = limit.saturating_sub(initrd.bytes.len() as u64) & !0xfff;
    if at < kernel_end {
        let reason = format!(
            "as an initial RAM disk of {} MiB it does not fit beside the kernel into {} MiB",
            (initrd.bytes.len() as u64).div_ceil(1 << 20),
            limit >> 20
        );
        return Err(initrd.unusable(reason));
    }
    Ok(at as u32)
}

/// The last `name=` on a command line.
fn option<'a>(append: &'a str, name: &str) -> Option<&'a str> {
    append.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)).next_back()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `vga=`, which is the loader's to understand.
fn video_mode(append: &str) -> Option<u16> {
    match option(append, "vga=")? {
        "normal" => Some(0xffff),
        "ext" => Some(0xfffe),
        "ask" => Some(0xfffd),
        mode => number(mode).and_then(|mode| u16::try_from(mode).ok()),
    }
}

/// `mem=` in bytes: the initial RAM disk must be below.
fn memory_limit(append: &str) -> Option<u64> {
    let text = option(append, "mem=")?;
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::kernel;
    use crate::firmware::tests::Folder;

    /// A kernel of `version` with 8 sectors of setup and 20,000 bytes of kernel proper.
    fn image(version: u16) -> Vec<u8> {
        let mut bytes = vec![0; 9 * 512];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(field::SETUP_SECTS, &[8]);
        put(field::SYSSIZE, &1250_u32.to_le_bytes());
        put(field::HEADER, b"HdrS");
        put(field::VERSION, &version.to_le_bytes());
        put(field::LOADFLAGS, &[LOADED_HIGH]);
        put(field::INITRD_ADDR_MAX, &0x37ff_ffff_u32.to_le_bytes());
        put(field::CMDLINE_SIZE, &2047_u32.to_le_bytes());
        put(field::PREF_ADDRESS, &0x100_0000_u64.to_le_bytes());
        put(field::INIT_SIZE, &0x80_0000_u32.to_le_bytes());
        bytes.resize(9 * 512 + 20_000, 0x77);
        bytes
    }

    fn try_plan(bytes: Vec<u8>, config: &KernelConfig, mib: u64) -> Result<Plan, KernelError> {
        let memory = Memory { bytes: mib << 20, top: (mib - 1) << 20 };
        plan(&FileBytes { path: "vmlinuz".into(), bytes }, config, memory)
    }

    #[test]
    fn everything_lies_where_the_protocol_wants_it() {
        let folder = Folder::new("linux");
        let initrd = folder.file("initrd.gz", &[0x11; 5000]).display().to_string();
        let config = KernelConfig { initrd: Some(initrd), append: "quiet vga=0x317".into(), ..KernelConfig::default() };
        let plan = try_plan(image(0x20f), &config, 64).unwrap();
        assert_eq!(plan.start, Start::Linux { segment: 0x1000, stack: 0xe000 });
        let pieces = plan.stream.pieces();
        let places: Vec<(u32, usize)> = pieces.iter().map(|(at, bytes)| (*at, bytes.len())).collect();
        assert_eq!(places, [(0x10000, 4608), (0x1e000, 16), (0x100000, 20_000), (0x3ef_e000, 5000)]);
        let setup = FileBytes { path: "setup".into(), bytes: pieces[0].1.to_vec() };
        assert_eq!(setup.bytes[field::TYPE_OF_LOADER], 0xff);
        assert_eq!(setup.bytes[field::LOADFLAGS], 0x81);
        assert_eq!(setup.word(field::HEAP_END_PTR), 0xde00);
        assert_eq!(setup.word(field::VID_MODE), 0x317);
        assert_eq!(setup.dword(field::CMD_LINE_PTR), 0x1e000);
        assert_eq!((setup.dword(field::RAMDISK_IMAGE), setup.dword(field::RAMDISK_SIZE)), (0x3ef_e000, 5000));
        assert_eq!(pieces[1].1, b"quiet vga=0x317\0");
        let limited = KernelConfig { append: "mem=48M".into(), ..config };
        let plan = try_plan(image(0x20f), &limited, 64).unwrap();
        assert_eq!(plan.stream.pieces()[3].0, (48 << 20) - 8192);
    }

    #[test]
    fn an_old_kernel_is_at_0x90000_with_its_command_line_in_the_same_segment() {
        let plan = try_plan(image(0x201), &KernelConfig::default(), 4).unwrap();
        assert_eq!(plan.start, Start::Linux { segment: 0x9000, stack: 0x9800 });
        let pieces = plan.stream.pieces();
        assert_eq!((pieces[0].0, pieces[1].0, pieces[2].0), (0x90000, 0x99800, 0x100000));
        assert_eq!(pieces[0].1[0x20..0x24], [0x3f, 0xa3, 0x00, 0x98]);
        let mut low = image(0x200);
        low[field::LOADFLAGS] = 0;
        assert_eq!(try_plan(low, &KernelConfig::default(), 4).unwrap().stream.pieces()[2].0, 0x10000);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let refuse = |bytes: Vec<u8>, append: &str, mib: u64| {
            let config = KernelConfig { append: append.into(), ..KernelConfig::default() };
            try_plan(bytes, &config, mib).unwrap_err().to_string()
        };
        let cut = image(0x20f)[..10_000].to_vec();
        assert!(refuse(cut, "", 64).contains("cut short"));
        assert!(refuse(image(0x20f)[..0x206].to_vec(), "", 64).contains("boot protocol"));
        assert!(refuse(image(0x20f)[..0x210].to_vec(), "", 64).contains("cut short"));
        assert!(refuse(image(0x20f), "", 16).contains("needs 25 MiB of memory, and the machine has 16"));
        assert!(refuse(image(0x20f), &"x".repeat(2048), 64).contains("takes 2047"));
        let mut setup = image(0x20f);
        setup[field::SETUP_SECTS] = 255;
        setup.resize(1 << 20, 0);
        assert!(refuse(setup, "", 64).contains("setup code has 131072 bytes"));
        let folder = Folder::new("initrd");
        let initrd = Some(folder.file("initrd.gz", &vec![0; 8 << 20]).display().to_string());
        let config = KernelConfig { initrd, ..KernelConfig::default() };
        let error = try_plan(image(0x20f), &config, 26).unwrap_err().to_string();
        assert!(error.contains("initrd.gz") && error.contains("8 MiB"), "{error}");
        assert!(kernel::load(&config, 26 << 20).is_err());
    }

    #[test]
    fn no_damage_to_the_header_breaks_it() {
        let good = image(0x20f);
        for at in 0x1f0..HEADER_END {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = try_plan(bytes, &KernelConfig::default(), 32);
            }
        }
    }
}
