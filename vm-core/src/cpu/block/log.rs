//! Translations written down: guest instructions, micro-ops and host code of a range of addresses.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};

use crate::cpu::uop::Uop;

/// What is written down when code is translated, as QEMU's `-d` and `-dfilter` name it. It goes to the log under the target
/// [`CodeLog::TARGET`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeLog {
    /// Guest instructions (`in_asm`).
    pub guest: bool,
    /// Micro-ops (`op`).
    pub ops: bool,
    /// What Cranelift compiles, and its code (`clif`).
    pub clif: bool,
    /// Host code (`out_asm`).
    pub host: bool,
    /// Offsets in CS at which logged blocks begin; none: all.
    pub ranges: Vec<RangeInclusive<u32>>,
}

impl CodeLog {
    /// The log's target.
    pub const TARGET: &str = "translation";

    /// Reads `in_asm,op,out_asm` (or `none`) and, perhaps empty, `0x1000..0x1fff,0x8000+0x100`: with the end, or a length.
    ///
    /// # Errors
    /// Names what was not understood.
    pub fn parse(items: &str, ranges: &str) -> Result<Self, String> {
        let mut log = Self::default();
        for item in items.split(',') {
            match item.trim() {
                "in_asm" => log.guest = true,
                "op" => log.ops = true,
                "clif" => log.clif = true,
                "out_asm" => log.host = true,
                "none" => log = Self::default(),
                other => return Err(format!("{other}: not logged; in_asm, op, clif, out_asm and none are")),
            }
        }
        for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            log.ranges
                .push(parse_range(range).ok_or_else(|| {
                    format!("{range}: not a range of addresses; 0x1000..0x1fff and 0x1000+0x100 are")
                })?);
        }
        Ok(log)
    }

    /// Whether anything is written down of a block that begins at `eip`.
    pub(in crate::cpu) fn wants(&self, eip: u32) -> bool {
        (self.guest || self.ops || self.clif || self.host)
            && (self.ranges.is_empty() || self.ranges.iter().any(|range| range.contains(&eip)))
    }

    /// Writes down a block that was lifted.
    pub(super) fn lifted(&self, bitness: u32, eip: u32, code: &[u8], ops: &[Uop]) {
        let mut text = format!("block {eip:08x}, {} bytes\n", code.len());
        if self.guest {
            text.push_str(&disassembled(bitness, u64::from(eip), code));
        }
        if self.ops {
            text.push_str(&ops_in_words(ops));
        }
        if self.guest || self.ops {
            tracing::info!(target: CodeLog::TARGET, "{text}");
        }
    }

    /// Writes down a region, as Cranelift gets it or as the host's code.
    #[allow(dead_code, reason = "not every build compiles regions")]
    pub(in crate::cpu) fn region(eip: u32, text: &str) {
        tracing::info!(target: CodeLog::TARGET, "region of block {eip:08x}\n{text}");
    }

    /// Writes down native code.
    pub(in crate::cpu) fn native(&self, eip: u32, at: u64, code: &[u8]) {
        if self.host {
            let code_text = disassembled(64, at, code);
            tracing::info!(target: CodeLog::TARGET, "native code of block {eip:08x}, {} bytes\n{code_text}", code.len());
        }
    }
}

fn parse_range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| {
        let text = text.trim();
        match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    if let Some((start, end)) = text.split_once("..") {
        let (start, end) = (number(start)?, number(end)?);
        return (start <= end).then_some(start..=end);
    }
    let (start, length) = text.split_once('+').map_or((text, "1"), |parts| parts);
    let (start, length) = (number(start)?, number(length)?);
    (length > 0).then(|| start..=start.saturating_add(length - 1))
}

/// Instructions, a line each.
pub(in crate::cpu) fn disassembled(bitness: u32, at: u64, code: &[u8]) -> String {
    let mut formatter = IntelFormatter::new();
    Decoder::with_ip(bitness, code, at, DecoderOptions::NONE).iter().fold(String::new(), |mut text, insn| {
        let _ = write!(text, "  {:08x}  ", insn.ip());
        formatter.format(&insn, &mut text);
        text.push('\n');
        text
    })
}

/// Micro-ops, a line each.
pub(in crate::cpu) fn ops_in_words(ops: &[Uop]) -> String {
    ops.iter().fold(String::new(), |mut text, op| {
        let _ = writeln!(text, "    {op}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_log_is_said_as_qemu_has_it() {
        let log = CodeLog::parse("in_asm,op", "0x1000..0x1fff,0x8000+0x10, 7").unwrap();
        assert!(log.guest && log.ops && !log.host);
        assert_eq!(log.ranges, [0x1000..=0x1fff, 0x8000..=0x800f, 7..=7]);
        assert!(log.wants(0x1fff) && !log.wants(0x2000) && log.wants(0x800f));
        assert!(CodeLog::parse("out_asm", "").unwrap().wants(5));
        assert!(!CodeLog::parse("none", "").unwrap().wants(5));
        for (items, ranges, word) in
            [("cpu", "", "cpu"), ("op", "2..1", "2..1"), ("op", "x", "x"), ("op", "1+0", "1+0")]
        {
            assert!(CodeLog::parse(items, ranges).unwrap_err().contains(word));
        }
    }
}
