//! EFLAGS. Arithmetic flags may be kept lazily; this is the only way to them.

/// Carry flag.
pub const CF: u32 = 1 << 0;
/// Reads as one.
pub const FIXED: u32 = 1 << 1;
/// Parity of the low byte.
pub const PF: u32 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u32 = 1 << 4;
/// Zero.
pub const ZF: u32 = 1 << 6;
/// Sign.
pub const SF: u32 = 1 << 7;
/// Single step.
pub const TF: u32 = 1 << 8;
/// Interrupts enabled.
pub const IF: u32 = 1 << 9;
/// Strings go down.
pub const DF: u32 = 1 << 10;
/// Signed overflow.
pub const OF: u32 = 1 << 11;
/// I/O privilege level, two bits.
pub const IOPL: u32 = 3 << 12;
/// Nested task.
pub const NT: u32 = 1 << 14;
/// Resume: no instruction breakpoint on the next instruction.
pub const RF: u32 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u32 = 1 << 17;
/// Alignment check.
pub const AC: u32 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u32 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u32 = 1 << 20;
/// CPUID can be used.
pub const ID: u32 = 1 << 21;
/// The six arithmetic flags.
pub const ARITHMETIC: u32 = CF | PF | AF | ZF | SF | OF;

/// The flags register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flags {
    value: u32,
}

impl Flags {
    /// EFLAGS after reset.
    pub const RESET: Self = Self { value: FIXED };

    /// The whole register, as PUSHFD shows it (VM and RF included).
    #[inline]
    pub fn get(&self) -> u32 {
        self.value
    }

    /// Replaces the whole register; bit 1 stays set, undefined bits clear.
    #[inline]
    pub fn set(&mut self, value: u32) {
        self.value = value & 0x003f_7fd5 | FIXED;
    }

    /// Replaces the bits of `mask` by those of `value`.
    #[inline]
    pub fn update(&mut self, mask: u32, value: u32) {
        self.set(self.get() & !mask | value & mask);
    }

    /// Whether any bit of `mask` is set. For bits outside [`ARITHMETIC`] this costs one test.
    #[inline]
    pub fn has(&self, mask: u32) -> bool {
        self.get() & mask != 0
    }
}
