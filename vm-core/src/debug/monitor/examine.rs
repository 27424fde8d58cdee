//! `x` and `xp`: memory as numbers, characters or instructions.

use std::fmt::Write as _;

use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};

use super::MonitorTarget;

/// Most bytes that one command shows.
const MAX_BYTES: usize = 64 * 1024;
/// Bytes of numbers on a line.
const LINE: usize = 16;
/// Longest instruction.
const MAX_INSTRUCTION: usize = 15;

/// Which addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// After the page tables.
    Physical,
    /// Before them.
    Linear,
}

/// `/COUNT FORMAT SIZE`, all optional.
struct Shape {
    count: usize,
    format: char,
    size: usize,
}

impl Shape {
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, letters) = text.split_at(digits);
        let count = if count.is_empty() { 1 } else { count.parse().unwrap_or(usize::MAX) };
        let mut shape = Self { count, format: 'x', size: 4 };
        for letter in letters.chars() {
            match letter {
                'x' | 'd' | 'u' | 'o' | 'c' | 'i' => shape.format = letter,
                'b' => shape.size = 1,
                'h' => shape.size = 2,
                'w' => shape.size = 4,
                'g' => shape.size = 8,
                other => return Err(format!("{other}: not a format (x d u o c i) or a size (b h w g)")),
            }
        }
        if shape.format == 'c' {
            shape.size = 1;
        }
        let unit = if shape.format == 'i' { MAX_INSTRUCTION } else { shape.size };
        if shape.count.saturating_mul(unit) > MAX_BYTES {
            return Err(format!("at most {} of these are shown at once", MAX_BYTES / unit));
        }
        Ok(shape)
    }
}

/// Carries out `[/FORMAT] ADDRESS`.
///
/// # Errors
/// Names what was not understood, or the address with no memory.
pub fn examine(arguments: &str, machine: &mut dyn MonitorTarget, space: Space) -> Result<String, String> {
    let (shape, address) = match arguments.strip_prefix('/') {
        Some(rest) => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        None => ("", arguments),
    };
    let shape = Shape::parse(shape)?;
    let address = evaluate(address, machine)?;
    match shape.format {
        'i' => instructions(address, shape.count, machine, space),
        _ => numbers(address, &shape, machine, space),
    }
}

fn read(machine: &mut dyn MonitorTarget, space: Space, address: u64, into: &mut [u8]) -> bool {
    match space {
        Space::Physical => machine.read_physical(address, into),
        Space::Linear => machine.read_linear(address, into),
    }
}

fn numbers(start: u64, shape: &Shape, machine: &mut dyn MonitorTarget, space: Space) -> Result<String, String> {
    let mut text = String::new();
    for index in 0..shape.count {
        let offset = index * shape.size;
        let address = start.wrapping_add(offset as u64);
        if offset.is_multiple_of(LINE) {
            let _ = write!(text, "{}{address:08x}:", if index > 0 { "\n" } else { "" });
        }
        let mut bytes = [0; 8];
        if !read(machine, space, address, &mut bytes[..shape.size]) {
            return Err(format!("{address:08x}: there is no memory"));
        }
        let value = u64::from_le_bytes(bytes);
        let unused = 64 - 8 * shape.size as u32;
        let _ = match shape.format {
            'd' => write!(text, " {}", ((value << unused) as i64) >> unused),
            'u' => write!(text, " {value}"),
            'o' => write!(text, " 0{value:o}"),
            'c' => write!(text, " '{}'", (value as u8).escape_ascii()),
            _ => write!(text, " 0x{value:0width$x}", width = 2 * shape.size),
        };
    }
    text.push('\n');
    Ok(text)
}

fn instructions(start: u64, count: usize, machine: &mut dyn MonitorTarget, space: Space) -> Result<String, String> {
    let mut text = String::new();
    let mut formatter = IntelFormatter::new();
    let mut address = start;
    for _ in 0..count {
        let mut bytes = [0; MAX_INSTRUCTION];
        // The last instruction before a hole is shorter than the longest.
        let there = (1..=MAX_INSTRUCTION).rev().find(|n| read(machine, space, address, &mut bytes[..*n]));
        let there = there.ok_or_else(|| format!("{address:08x}: there is no memory"))?;
        let mut decoder = Decoder::with_ip(machine.code_bits(), &bytes[..there], address, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let mut words = String::new();
        formatter.format(&instruction, &mut words);
        let mut dump = String::new();
        for byte in &bytes[..instruction.len().clamp(1, there)] {
            let _ = write!(dump, "{byte:02x}");
        }
        let _ = writeln!(text, "{address:08x}:  {dump:<20} {words}");
        address = address.wrapping_add(instruction.len().max(1) as u64);
    }
    Ok(text)
}

/// Numbers and `$registers` joined by `+`, `-` and `*` (which binds tighter).
fn evaluate(text: &str, machine: &mut dyn MonitorTarget) -> Result<u64, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("an address is missing".to_owned());
    }
    let mut sum = 0_u64;
    for (sign, term) in signed_terms(text) {
        let mut product = 1_u64;
        for factor in term.split('*') {
            product = product.wrapping_mul(value(factor.trim(), machine)?);
        }
        sum = if sign == '-' { sum.wrapping_sub(product) } else { sum.wrapping_add(product) };
    }
    Ok(sum)
}

fn signed_terms(text: &str) -> impl Iterator<Item = (char, &str)> {
    let mut sign = '+';
    text.split_inclusive(['+', '-']).map(move |piece| {
        let this = sign;
        let term = piece.trim_end_matches(['+', '-']);
        sign = piece[term.len()..].chars().next().unwrap_or('+');
        (this, term)
    })
}

fn value(text: &str, machine: &mut dyn MonitorTarget) -> Result<u64, String> {
    if let Some(name) = text.strip_prefix('$') {
        return machine.register(name).ok_or_else(|| format!("${name}: no such register"));
    }
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("{text}: not a number"))
}
