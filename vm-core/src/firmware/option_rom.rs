//! The option ROM that starts a kernel once SeaBIOS is done.
//!
//! BIOS Boot Specification 1.01 (a "boot entry vector" device in a PnP header); fw_cfg's DMA interface at ports 0x514 and
//! 0x518. SeaBIOS finds the ROM among the files of fw_cfg, calls its initialization (which does nothing) and, when its turn
//! to boot comes, its boot entry vector. The code there:
//! 1. looks through fw_cfg's directory for the stream of pieces ([`super::kernel::STREAM_FILE`]) and selects it;
//! 2. reads a descriptor, hands it back to fw_cfg to have the piece moved, and so on;
//! 3. enters Linux in real mode; or, for multiboot, asks the BIOS for the memory map, sets a graphics mode where one is
//!    wanted, switches to protected mode, zeroes what is to be zeroed and enters the image.
//!
//! | memory | what |
//! |---|---|
//! | 0x600 | DMA descriptor of our own |
//! | 0x620 | descriptor out of the stream |
//! | 0x630 | number of files in the directory |
//! | 0x640 | GDTR, and at 0x648 the far pointer into protected mode |
//! | 0x650 | entry of the directory |
//! | 0x8000 | boot information, see [`super::multiboot`] |
//!
//! The machine code is ours, written as rows of bytes and what they mean; a test disassembles each row.

use super::kernel::STREAM_FILE;

/// Where the code starts in the ROM, and where it runs in 32-bit mode.
const CODE_AT: usize = 0x40;
#[cfg(test)]
const PROTECTED_AT: usize = 0x2c9;
/// The PnP header.
const PNP_AT: usize = 0x20;
const PNP_LEN: usize = 0x20;

/// What the code reads beside itself.
mod parameter {
    /// Name of the stream, with a zero at its end.
    pub const NAME: usize = 0x320;
    /// 0 Linux, 1 multiboot.
    pub const KIND: usize = 0x358;
    /// Linux: segment of the setup code, then its stack pointer, 16 bits each.
    pub const SEGMENT: usize = 0x35a;
    /// Multiboot: where the image is entered.
    pub const ENTRY: usize = 0x360;
    /// Multiboot: width, height, depth, 16 bits each; depth 0: none is asked for.
    pub const MODE: usize = 0x364;
    /// Segment descriptors: none, flat code, flat data.
    pub const GDT: usize = 0x370;
    /// What to say when the stream is not there, with a zero at its end.
    pub const MESSAGE: usize = 0x388;
    /// Multiboot: what is to be zeroed: address and length, 32 bits each; length 0 is the end.
    pub const FILLS: usize = 0x3e0;
}

/// Most areas to be zeroed.
pub(super) const MAX_FILLS: usize = 64;
/// Size of the ROM: all of the above in units of 512 bytes.
const ROM_LEN: usize = (parameter::FILLS + 8 * (MAX_FILLS + 1)).next_multiple_of(512);

const MESSAGE: &[u8] = b"\r\nHako: the kernel could not be read from fw_cfg.\r\n\0";
const NAME: &str = "Hako direct start\0";
/// Flat 4 GiB segments: code readable, data writable, 32 bits.
const GDT: [u64; 3] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Memory that is to be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub address: u32,
    pub len: u32,
}

/// A graphics mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub width: u16,
    pub height: u16,
    pub depth: u16,
}

/// How the kernel is entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Linux: in real mode at `segment` + 0x20, offset 0, with `stack` in SP and `segment` in all others.
    Linux {
        /// Segment of the setup code.
        segment: u16,
        /// Its first stack pointer.
        stack: u16,
    },
    /// Multiboot: in protected mode.
    Multiboot {
        /// Physical address.
        entry: u32,
        /// What is to be zero; at most [`MAX_FILLS`].
        fills: Vec<Fill>,
        /// The graphics mode to set.
        mode: Option<Mode>,
    },
}

/// The ROM for one start.
pub(super) fn build(start: &Start) -> Vec<u8> {
    let mut rom = vec![0; ROM_LEN];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    // Signature, length, RETF as initialization; then where the PnP header is.
    put(0, &[0x55, 0xaa, (ROM_LEN / 512) as u8, 0xcb]);
    put(0x1a, &(PNP_AT as u16).to_le_bytes());
    put(PNP_AT, b"$PnP\x01\x02");
    // Product name, behind the code's parameters; device type "mass storage"; boot entry vector.
    put(PNP_AT + 0x10, &(parameter::MESSAGE as u16 + MESSAGE.len() as u16).to_le_bytes());
    put(PNP_AT + 0x1a, &(CODE_AT as u16).to_le_bytes());
    put(CODE_AT, &code());
    put(parameter::NAME, STREAM_FILE.as_bytes());
    put(parameter::MESSAGE, MESSAGE);
    put(parameter::MESSAGE + MESSAGE.len(), NAME.as_bytes());
    for (index, descriptor) in GDT.iter().enumerate() {
        put(parameter::GDT + 8 * index, &descriptor.to_le_bytes());
    }
    match start {
        Start::Linux { segment, stack } => {
            put(parameter::SEGMENT, &segment.to_le_bytes());
            put(parameter::SEGMENT + 2, &stack.to_le_bytes());
        }
        Start::Multiboot { entry, fills, mode } => {
            put(parameter::KIND, &[1]);
            put(parameter::ENTRY, &entry.to_le_bytes());
            let mode = mode.map_or([0; 3], |mode| [mode.width, mode.height, mode.depth]);
            for (index, value) in mode.iter().enumerate() {
                put(parameter::MODE + 2 * index, &value.to_le_bytes());
            }
            for (index, fill) in fills.iter().take(MAX_FILLS).enumerate() {
                put(parameter::FILLS + 8 * index, &fill.address.to_le_bytes());
                put(parameter::FILLS + 8 * index + 4, &fill.len.to_le_bytes());
            }
        }
    }
    // Both checksums bring the sum of their bytes to 0.
    rom[PNP_AT + 9] = checksum(&rom[PNP_AT..PNP_AT + PNP_LEN]);
    rom[ROM_LEN - 1] = checksum(&rom);
    rom
}

/// What must be added to `bytes` for a sum of 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

fn code() -> Vec<u8> {
    CODE.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect()
}

/// The code, from [`CODE_AT`] on: the bytes of an instruction, and the instruction.
#[rustfmt::skip]
const CODE: &[(&[u8], &str)] = &[
    // 0x40 start: our own stack at 0:0x7c00, all segments 0
    (&[0xfa], "cli"),
    (&[0xfc], "cld"),
    (&[0x31, 0xc0], "xor ax,ax"),
    (&[0x8e, 0xd0], "mov ss,ax"),
    (&[0xbc, 0x00, 0x7c], "mov sp,0x7c00"),
    (&[0x8e, 0xd8], "mov ds,ax"),
    (&[0x8e, 0xc0], "mov es,ax"),
    (&[0xfb], "sti"),
    (&[0x66, 0xb8, 0x0a, 0x00, 0x19, 0x00], "mov eax,0x19000a"),
    (&[0x66, 0xb9, 0x04, 0x00, 0x00, 0x00], "mov ecx,4"),
    (&[0x66, 0xbf, 0x30, 0x06, 0x00, 0x00], "mov edi,0x630"),
    (&[0xe8, 0x77, 0x00], "call 0xda"),
    (&[0x66, 0x8b, 0x2e, 0x30, 0x06], "mov ebp,[0x630]"),
    (&[0x66, 0x0f, 0xcd], "bswap ebp"),
    // 0x6b entry: the next entry of the directory, until none is left
    (&[0x66, 0x83, 0xed, 0x01], "sub ebp,1"),
    (&[0x0f, 0x82, 0xb0, 0x00], "jb 0x123"),
    (&[0x66, 0xb8, 0x02, 0x00, 0x00, 0x00], "mov eax,2"),
    (&[0x66, 0xb9, 0x40, 0x00, 0x00, 0x00], "mov ecx,0x40"),
    (&[0x66, 0xbf, 0x50, 0x06, 0x00, 0x00], "mov edi,0x650"),
    (&[0xe8, 0x52, 0x00], "call 0xda"),
    (&[0xbe, 0x20, 0x03], "mov si,0x320"),
    (&[0xbf, 0x58, 0x06], "mov di,0x658"),
    // 0x8e compare its name with ours
    (&[0x2e, 0x8a, 0x04], "mov al,cs:[si]"),
    (&[0x3a, 0x05], "cmp al,[di]"),
    (&[0x75, 0xd6], "jne short 0x6b"),
    (&[0x46], "inc si"),
    (&[0x47], "inc di"),
    (&[0x84, 0xc0], "test al,al"),
    (&[0x75, 0xf3], "jne short 0x8e"),
    (&[0x66, 0x0f, 0xb7, 0x06, 0x54, 0x06], "movzx eax,word ptr [0x654]"),
    (&[0x86, 0xc4], "xchg ah,al"),
    (&[0x66, 0xc1, 0xe0, 0x10], "shl eax,0x10"),
    (&[0xb0, 0x08], "mov al,8"),
    (&[0x66, 0x31, 0xc9], "xor ecx,ecx"),
    (&[0x66, 0x31, 0xff], "xor edi,edi"),
    (&[0xe8, 0x28, 0x00], "call 0xda"),
    // 0xb2 piece: a descriptor out of the stream goes back to fw_cfg as it is; zeros end it
    (&[0x66, 0xb8, 0x02, 0x00, 0x00, 0x00], "mov eax,2"),
    (&[0x66, 0xb9, 0x10, 0x00, 0x00, 0x00], "mov ecx,0x10"),
    (&[0x66, 0xbf, 0x20, 0x06, 0x00, 0x00], "mov edi,0x620"),
    (&[0xe8, 0x13, 0x00], "call 0xda"),
    (&[0x66, 0x83, 0x3e, 0x20, 0x06, 0x00], "cmp dword ptr [0x620],0"),
    (&[0x74, 0x6b], "je short 0x13a"),
    (&[0x66, 0xbe, 0x20, 0x06, 0x00, 0x00], "mov esi,0x620"),
    (&[0xe8, 0x28, 0x00], "call 0x100"),
    (&[0xeb, 0xd8], "jmp short 0xb2"),
    // 0xda dma: control in EAX, length in ECX, address in EDI
    (&[0x66, 0x0f, 0xc8], "bswap eax"),
    (&[0x66, 0xa3, 0x00, 0x06], "mov [0x600],eax"),
    (&[0x66, 0x0f, 0xc9], "bswap ecx"),
    (&[0x66, 0x89, 0x0e, 0x04, 0x06], "mov [0x604],ecx"),
    (&[0x66, 0xc7, 0x06, 0x08, 0x06, 0x00, 0x00, 0x00, 0x00], "mov dword ptr [0x608],0"),
    (&[0x66, 0x0f, 0xcf], "bswap edi"),
    (&[0x66, 0x89, 0x3e, 0x0c, 0x06], "mov [0x60c],edi"),
    (&[0x66, 0xbe, 0x00, 0x06, 0x00, 0x00], "mov esi,0x600"),
    // 0x100 go: the descriptor at ESI, its address big-endian; wait until only an error bit can be left
    (&[0x66, 0x31, 0xc0], "xor eax,eax"),
    (&[0xba, 0x14, 0x05], "mov dx,0x514"),
    (&[0x66, 0xef], "out dx,eax"),
    (&[0x66, 0x89, 0xf0], "mov eax,esi"),
    (&[0x66, 0x0f, 0xc8], "bswap eax"),
    (&[0xba, 0x18, 0x05], "mov dx,0x518"),
    (&[0x66, 0xef], "out dx,eax"),
    (&[0x66, 0x8b, 0x04], "mov eax,[si]"),
    (&[0x66, 0x0f, 0xc8], "bswap eax"),
    (&[0x66, 0x85, 0xc0], "test eax,eax"),
    (&[0x74, 0x1b], "je short 0x139"),
    (&[0xa8, 0x01], "test al,1"),
    (&[0x74, 0xf1], "je short 0x113"),
    (&[0x58], "pop ax"),
    // 0x123 fail: say so, and let the BIOS try the next device
    (&[0xbe, 0x88, 0x03], "mov si,0x388"),
    (&[0xbb, 0x07, 0x00], "mov bx,7"),
    (&[0x2e, 0x8a, 0x04], "mov al,cs:[si]"),
    (&[0x46], "inc si"),
    (&[0xb4, 0x0e], "mov ah,0xe"),
    (&[0xcd, 0x10], "int 0x10"),
    (&[0x2e, 0x80, 0x3c, 0x00], "cmp byte ptr cs:[si],0"),
    (&[0x75, 0xf2], "jne short 0x129"),
    (&[0xcd, 0x18], "int 0x18"),
    (&[0xc3], "ret"),
    // 0x13a loaded: Linux is entered 0x200 bytes into its setup code, interrupts off
    (&[0x2e, 0x80, 0x3e, 0x58, 0x03, 0x00], "cmp byte ptr cs:[0x358],0"),
    (&[0x75, 0x1b], "jne short 0x15d"),
    (&[0xfa], "cli"),
    (&[0x2e, 0xa1, 0x5a, 0x03], "mov ax,cs:[0x35a]"),
    (&[0x8e, 0xd8], "mov ds,ax"),
    (&[0x8e, 0xc0], "mov es,ax"),
    (&[0x8e, 0xe0], "mov fs,ax"),
    (&[0x8e, 0xe8], "mov gs,ax"),
    (&[0x8e, 0xd0], "mov ss,ax"),
    (&[0x2e, 0x8b, 0x26, 0x5c, 0x03], "mov sp,cs:[0x35c]"),
    (&[0x83, 0xc0, 0x20], "add ax,0x20"),
    (&[0x50], "push ax"),
    (&[0x6a, 0x00], "push 0"),
    (&[0xcb], "ret far"),
    // 0x15d multiboot: ask the BIOS for memory below 640 KiB …
    (&[0xcd, 0x12], "int 0x12"),
    (&[0x66, 0x0f, 0xb7, 0xc0], "movzx eax,ax"),
    (&[0x66, 0xa3, 0x04, 0x80], "mov [0x8004],eax"),
    (&[0x66, 0x31, 0xdb], "xor ebx,ebx"),
    (&[0xbf, 0x04, 0x81], "mov di,0x8104"),
    // 0x16d … and for the memory map; the entry at 1 MiB gives mem_upper
    (&[0x66, 0xb8, 0x20, 0xe8, 0x00, 0x00], "mov eax,0xe820"),
    (&[0x66, 0xba, 0x50, 0x41, 0x4d, 0x53], "mov edx,0x534d4150"),
    (&[0x66, 0xb9, 0x14, 0x00, 0x00, 0x00], "mov ecx,0x14"),
    (&[0xcd, 0x15], "int 0x15"),
    (&[0x72, 0x39], "jb short 0x1bc"),
    (&[0x66, 0x3d, 0x50, 0x41, 0x4d, 0x53], "cmp eax,0x534d4150"),
    (&[0x75, 0x31], "jne short 0x1bc"),
    (&[0x66, 0xc7, 0x45, 0xfc, 0x14, 0x00, 0x00, 0x00], "mov dword ptr [di-4],0x14"),
    (&[0x66, 0x81, 0x3d, 0x00, 0x00, 0x10, 0x00], "cmp dword ptr [di],0x100000"),
    (&[0x75, 0x12], "jne short 0x1ae"),
    (&[0x80, 0x7d, 0x10, 0x01], "cmp byte ptr [di+0x10],1"),
    (&[0x75, 0x0c], "jne short 0x1ae"),
    (&[0x66, 0x8b, 0x45, 0x08], "mov eax,[di+8]"),
    (&[0x66, 0xc1, 0xe8, 0x0a], "shr eax,0xa"),
    (&[0x66, 0xa3, 0x08, 0x80], "mov [0x8008],eax"),
    (&[0x83, 0xc7, 0x18], "add di,0x18"),
    (&[0x81, 0xff, 0xc4, 0x84], "cmp di,0x84c4"),
    (&[0x73, 0x05], "jae short 0x1bc"),
    (&[0x66, 0x85, 0xdb], "test ebx,ebx"),
    (&[0x75, 0xb1], "jne short 0x16d"),
    // 0x1bc mapped: how long the map is; then the graphics mode, where one is asked for
    (&[0x81, 0xef, 0x04, 0x81], "sub di,0x8104"),
    (&[0x89, 0x3e, 0x2c, 0x80], "mov [0x802c],di"),
    (&[0x2e, 0x83, 0x3e, 0x68, 0x03, 0x00], "cmp word ptr cs:[0x368],0"),
    (&[0x0f, 0x84, 0xbb, 0x00], "je 0x289"),
    (&[0x66, 0xc7, 0x06, 0x00, 0x86, 0x56, 0x42, 0x45, 0x32], "mov dword ptr [0x8600],0x32454256"),
    (&[0xbf, 0x00, 0x86], "mov di,0x8600"),
    (&[0xb8, 0x00, 0x4f], "mov ax,0x4f00"),
    (&[0xcd, 0x10], "int 0x10"),
    (&[0x83, 0xf8, 0x4f], "cmp ax,0x4f"),
    (&[0x0f, 0x85, 0xa3, 0x00], "jne 0x289"),
    (&[0x0f, 0xb4, 0x36, 0x0e, 0x86], "lfs si,[0x860e]"),
    // 0x1eb mode: the next of the list, until width, height and depth fit and it has a linear framebuffer
    (&[0x64, 0x8b, 0x0c], "mov cx,fs:[si]"),
    (&[0x83, 0xc6, 0x02], "add si,2"),
    (&[0x83, 0xf9, 0xff], "cmp cx,0xffff"),
    (&[0x0f, 0x84, 0x91, 0x00], "je 0x289"),
    (&[0xbf, 0x00, 0x85], "mov di,0x8500"),
    (&[0xb8, 0x01, 0x4f], "mov ax,0x4f01"),
    (&[0xcd, 0x10], "int 0x10"),
    (&[0x83, 0xf8, 0x4f], "cmp ax,0x4f"),
    (&[0x75, 0xe6], "jne short 0x1eb"),
    (&[0xf6, 0x06, 0x00, 0x85, 0x80], "test byte ptr [0x8500],0x80"),
    (&[0x74, 0xdf], "je short 0x1eb"),
    (&[0xa1, 0x12, 0x85], "mov ax,[0x8512]"),
    (&[0x2e, 0x3b, 0x06, 0x64, 0x03], "cmp ax,cs:[0x364]"),
    (&[0x75, 0xd5], "jne short 0x1eb"),
    (&[0xa1, 0x14, 0x85], "mov ax,[0x8514]"),
    (&[0x2e, 0x3b, 0x06, 0x66, 0x03], "cmp ax,cs:[0x366]"),
    (&[0x75, 0xcb], "jne short 0x1eb"),
    (&[0xa0, 0x19, 0x85], "mov al,[0x8519]"),
    (&[0x2e, 0x3a, 0x06, 0x68, 0x03], "cmp al,cs:[0x368]"),
    (&[0x75, 0xc1], "jne short 0x1eb"),
    (&[0x89, 0xcb], "mov bx,cx"),
    (&[0x80, 0xcf, 0x40], "or bh,0x40"),
    (&[0xb8, 0x02, 0x4f], "mov ax,0x4f02"),
    (&[0xcd, 0x10], "int 0x10"),
    (&[0x83, 0xf8, 0x4f], "cmp ax,0x4f"),
    (&[0x75, 0x50], "jne short 0x289"),
    (&[0x89, 0x0e, 0x50, 0x80], "mov [0x8050],cx"),
    (&[0xc7, 0x06, 0x48, 0x80, 0x00, 0x86], "mov word ptr [0x8048],0x8600"),
    (&[0xc7, 0x06, 0x4c, 0x80, 0x00, 0x85], "mov word ptr [0x804c],0x8500"),
    (&[0x81, 0x0e, 0x00, 0x80, 0x00, 0x08], "or word ptr [0x8000],0x800"),
    (&[0x66, 0xa1, 0x28, 0x85], "mov eax,[0x8528]"),
    (&[0x66, 0xa3, 0x58, 0x80], "mov [0x8058],eax"),
    (&[0xa1, 0x10, 0x85], "mov ax,[0x8510]"),
    (&[0xa3, 0x60, 0x80], "mov [0x8060],ax"),
    (&[0xa1, 0x12, 0x85], "mov ax,[0x8512]"),
    (&[0xa3, 0x64, 0x80], "mov [0x8064],ax"),
    (&[0xa1, 0x14, 0x85], "mov ax,[0x8514]"),
    (&[0xa3, 0x68, 0x80], "mov [0x8068],ax"),
    (&[0xb4, 0x01], "mov ah,1"),
    (&[0xa0, 0x19, 0x85], "mov al,[0x8519]"),
    (&[0xa3, 0x6c, 0x80], "mov [0x806c],ax"),
    (&[0xa1, 0x1f, 0x85], "mov ax,[0x851f]"),
    (&[0x86, 0xc4], "xchg ah,al"),
    (&[0xa3, 0x6e, 0x80], "mov [0x806e],ax"),
    (&[0xa1, 0x21, 0x85], "mov ax,[0x8521]"),
    (&[0x86, 0xc4], "xchg ah,al"),
    (&[0xa3, 0x70, 0x80], "mov [0x8070],ax"),
    (&[0xa1, 0x23, 0x85], "mov ax,[0x8523]"),
    (&[0x86, 0xc4], "xchg ah,al"),
    (&[0xa3, 0x72, 0x80], "mov [0x8072],ax"),
    // 0x289 enter: protected mode; our code does not know its address before now
    (&[0xfa], "cli"),
    (&[0x66, 0x31, 0xed], "xor ebp,ebp"),
    (&[0x8c, 0xcd], "mov bp,cs"),
    (&[0x66, 0xc1, 0xe5, 0x04], "shl ebp,4"),
    (&[0xc7, 0x06, 0x40, 0x06, 0x17, 0x00], "mov word ptr [0x640],0x17"),
    (&[0x66, 0x67, 0x8d, 0x85, 0x70, 0x03, 0x00, 0x00], "lea eax,[ebp+0x370]"),
    (&[0x66, 0xa3, 0x42, 0x06], "mov [0x642],eax"),
    (&[0x0f, 0x01, 0x16, 0x40, 0x06], "lgdt [0x640]"),
    (&[0x66, 0x67, 0x8d, 0x85, 0xc9, 0x02, 0x00, 0x00], "lea eax,[ebp+0x2c9]"),
    (&[0x66, 0xa3, 0x48, 0x06], "mov [0x648],eax"),
    (&[0xc7, 0x06, 0x4c, 0x06, 0x08, 0x00], "mov word ptr [0x64c],8"),
    (&[0x0f, 0x20, 0xc0], "mov eax,cr0"),
    (&[0x0c, 0x01], "or al,1"),
    (&[0x0f, 0x22, 0xc0], "mov cr0,eax"),
    (&[0x66, 0xff, 0x2e, 0x48, 0x06], "jmp far fword ptr [0x648]"),
    // 0x2c9 protected: flat segments
    (&[0xb8, 0x10, 0x00, 0x00, 0x00], "mov eax,0x10"),
    (&[0x8e, 0xd8], "mov ds,ax"),
    (&[0x8e, 0xc0], "mov es,ax"),
    (&[0x8e, 0xe0], "mov fs,ax"),
    (&[0x8e, 0xe8], "mov gs,ax"),
    (&[0x8e, 0xd0], "mov ss,ax"),
    (&[0xbc, 0x00, 0x7c, 0x00, 0x00], "mov esp,0x7c00"),
    (&[0x8d, 0xb5, 0xe0, 0x03, 0x00, 0x00], "lea esi,[ebp+0x3e0]"),
    // 0x2e3 fill: zero what the image wants zeroed
    (&[0xad], "lodsd [esi]"),
    (&[0x89, 0xc7], "mov edi,eax"),
    (&[0xad], "lodsd [esi]"),
    (&[0x89, 0xc1], "mov ecx,eax"),
    (&[0x85, 0xc9], "test ecx,ecx"),
    (&[0x74, 0x06], "je short 0x2f3"),
    (&[0x31, 0xc0], "xor eax,eax"),
    (&[0xf3, 0xaa], "rep stosb [edi]"),
    (&[0xeb, 0xf0], "jmp short 0x2e3"),
    // 0x2f3 run: as the multiboot specification wants it
    (&[0xb8, 0x02, 0xb0, 0xad, 0x2b], "mov eax,0x2badb002"),
    (&[0xbb, 0x00, 0x80, 0x00, 0x00], "mov ebx,0x8000"),
    (&[0xff, 0xa5, 0x60, 0x03, 0x00, 0x00], "jmp dword ptr [ebp+0x360]"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    #[test]
    fn each_row_is_the_instruction_that_it_says() {
        let mut formatter = IntelFormatter::new();
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        let mut at = CODE_AT;
        let mut starts = Vec::new();
        for (bytes, meaning) in CODE {
            starts.push(at);
            let bits = if at >= PROTECTED_AT { 32 } else { 16 };
            let mut decoder = Decoder::with_ip(bits, bytes, at as u64, DecoderOptions::NONE);
            let instruction = decoder.decode();
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            assert_eq!((text.as_str(), instruction.len()), (*meaning, bytes.len()), "at {at:#x}");
            at += bytes.len();
        }
        assert!(at <= parameter::NAME, "the code ends at {at:#x}");
        assert!(starts.contains(&PROTECTED_AT));
        for (bytes, meaning) in CODE {
            if let Some(target) = meaning.strip_prefix('j').and_then(|rest| rest.split("short 0x").nth(1)) {
                let target = usize::from_str_radix(target, 16).unwrap();
                assert!(starts.contains(&target), "{meaning} ({bytes:02x?})");
            }
        }
    }

    #[test]
    fn headers_and_parameters_are_where_the_bios_and_the_code_look() {
        let fills = vec![Fill { address: 0x12_3456, len: 7 }; MAX_FILLS];
        let mode = Some(Mode { width: 800, height: 600, depth: 32 });
        for start in
            [Start::Linux { segment: 0x1000, stack: 0xe000 }, Start::Multiboot { entry: 0x10_0000, fills, mode }]
        {
            let rom = build(&start);
            assert_eq!(rom.len(), usize::from(rom[2]) * 512);
            assert_eq!(checksum(&rom), 0);
            assert_eq!(checksum(&rom[PNP_AT..PNP_AT + PNP_LEN]), 0);
            assert_eq!(&rom[usize::from(rom[0x1a])..][..4], b"$PnP");
            assert!(STREAM_FILE.len() < parameter::KIND - parameter::NAME);
            assert!(parameter::MESSAGE + MESSAGE.len() + NAME.len() <= parameter::FILLS);
            assert_eq!(rom[ROM_LEN - 9..ROM_LEN - 1], [0; 8], "the list of fills has its end");
        }
    }
}
