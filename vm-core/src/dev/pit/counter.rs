//! One of the three counters: everything about it is a function of the tick at which it was loaded, and of now.

use serde::{Deserialize, Serialize};

use super::LEAST_SPACING;

/// Which bytes of a count the guest reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Bytes {
    Low,
    High,
    LowHigh,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    /// 0–5.
    pub mode: u8,
    bcd: bool,
    bytes: Bytes,
    pub gate: bool,
    /// The count in use, 1–0x10000.
    pub count: u32,
    /// A count that takes effect later: at the end of the (half) period, or at the next trigger.
    next: Option<u32>,
    /// Tick at which `next` takes effect; `None`: at the next trigger.
    pub next_at: Option<u64>,
    /// A count has been written since the control word.
    loaded: bool,
    /// Tick from which it counts; `None`: it stands.
    pub origin: Option<u64>,
    /// Ticks counted before `origin`.
    before: u64,
    /// Rising edges of the output since `origin` that were passed on.
    pub passed: u64,
    /// Rising edges that happened before the last change of count and were not passed on yet.
    pub left: u64,
    /// The low byte of a two-byte count that is being written.
    low: Option<u8>,
    /// The next byte read of a two-byte count is the high one.
    read_high: bool,
    latch: Option<u16>,
    pub status: Option<u8>,
}

impl Counter {
    pub fn after_reset() -> Self {
        Self {
            mode: 3,
            bcd: false,
            bytes: Bytes::LowHigh,
            gate: true,
            count: 0x10000,
            next: None,
            next_at: None,
            loaded: false,
            origin: None,
            before: 0,
            passed: 0,
            left: 0,
            low: None,
            read_high: false,
            latch: None,
            status: None,
        }
    }

    pub fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Ticks counted since the load.
    fn elapsed(&self, tick: u64) -> u64 {
        self.before.saturating_add(self.origin.map_or(0, |origin| tick.saturating_sub(origin)))
    }

    /// Ticks for which mode 3 is high in a period of `count`.
    fn high_part(count: u32) -> u64 {
        u64::from(count.div_ceil(2))
    }

    /// Brings in a count whose time has come. At most one can wait.
    pub fn settle(&mut self, tick: u64) {
        let (Some(next), Some(at)) = (self.next, self.next_at) else { return };
        if tick < at {
            return;
        }
        let (edges, high) = (self.edges(at), self.output(at));
        self.left = self.left.saturating_add(edges.saturating_sub(self.passed));
        self.load(next, at);
        if self.mode == 3 && !high {
            // The new count starts with the low half (data sheet, mode 3).
            self.before = Self::high_part(next);
        }
    }

    /// Starts over with `count` at `tick`.
    fn load(&mut self, count: u32, tick: u64) {
        self.count = count;
        self.next = None;
        self.next_at = None;
        self.before = 0;
        self.passed = 0;
        self.origin = Some(tick);
    }

    /// The level of OUT.
    pub fn output(&self, tick: u64) -> bool {
        let elapsed = self.elapsed(tick);
        let count = u64::from(self.count);
        if !self.loaded || (self.origin.is_none() && self.is_periodic()) {
            return self.mode != 0;
        }
        match self.mode {
            0 => elapsed >= count,
            // Before its first trigger a one-shot stands high.
            1 => self.origin.is_none() || elapsed >= count,
            2 => elapsed % count != count - 1 || count == 1,
            3 => elapsed % count < Self::high_part(self.count),
            _ => self.origin.is_none() && elapsed == 0 || elapsed != count,
        }
    }

    /// Rising edges of OUT since the load.
    pub fn edges(&self, tick: u64) -> u64 {
        let elapsed = self.elapsed(tick);
        let count = u64::from(self.count);
        if !self.loaded {
            return 0;
        }
        match self.mode {
            0 | 1 => u64::from(self.origin.is_some() && elapsed >= count),
            2 | 3 => elapsed / count,
            _ => u64::from(self.origin.is_some() && elapsed > count),
        }
    }

    /// The tick of the next rising edge after those passed on.
    pub fn next_edge(&self) -> Option<u64> {
        let origin = self.origin.filter(|_| self.loaded)?;
        let count = u64::from(self.count);
        let at = match self.mode {
            0 | 1 => (self.passed == 0).then_some(count),
            // Faster than the least spacing, edges come in bunches.
            2 | 3 => Some(self.passed.saturating_add(LEAST_SPACING.div_ceil(count)).saturating_mul(count)),
            _ => (self.passed == 0).then_some(count + 1),
        }?;
        Some(origin.saturating_add(at.saturating_sub(self.before)))
    }

    /// The counting element as the guest reads it.
    fn value(&self, tick: u64) -> u16 {
        let modulus = if self.bcd { 10_000 } else { 0x10000 };
        let elapsed = self.elapsed(tick);
        let count = u64::from(self.count);
        let value = match self.mode {
            2 => count - elapsed % count,
            3 => {
                let (phase, high) = (elapsed % count, Self::high_part(self.count));
                let phase = if phase < high { phase } else { phase - high };
                (count & !1).saturating_sub(2 * phase)
            }
            // The others count on through zero.
            _ => (count + modulus - elapsed % modulus) % modulus,
        } % modulus;
        if self.bcd { to_bcd(value as u16) } else { value as u16 }
    }

    pub fn status_byte(&self, tick: u64) -> u8 {
        let bytes = match self.bytes {
            Bytes::Low => 0x10,
            Bytes::High => 0x20,
            Bytes::LowHigh => 0x30,
        };
        // Null count: what was written has not reached the counting element.
        let null = !self.loaded || self.next.is_some() || self.origin.is_some_and(|origin| tick < origin);
        u8::from(self.output(tick)) << 7 | u8::from(null) << 6 | bytes | self.mode << 1 | u8::from(self.bcd)
    }

    pub fn write_control(&mut self, value: u8) {
        let mode = value >> 1 & 7;
        *self = Self {
            mode: if mode > 5 { mode & 3 } else { mode },
            bcd: value & 1 != 0,
            bytes: match value >> 4 & 3 {
                1 => Bytes::Low,
                2 => Bytes::High,
                _ => Bytes::LowHigh,
            },
            gate: self.gate,
            ..Self::after_reset()
        };
    }

    pub fn write_count(&mut self, value: u8, tick: u64) {
        let raw = match (self.bytes, self.low) {
            (Bytes::Low, _) => u16::from(value),
            (Bytes::High, _) => u16::from(value) << 8,
            (Bytes::LowHigh, None) => {
                self.low = Some(value);
                if self.mode == 0 {
                    // The first byte stops the counting and drops the output at once.
                    self.loaded = false;
                    self.origin = None;
                    self.before = 0;
                    self.passed = 0;
                }
                return;
            }
            (Bytes::LowHigh, Some(low)) => {
                self.low = None;
                u16::from(value) << 8 | u16::from(low)
            }
        };
        let count = self.count_of(raw);
        // The count moves to the counting element with the next clock.
        let start = tick.saturating_add(1);
        match self.mode {
            1 | 5 => {
                self.next = Some(count);
                self.next_at = None;
                self.loaded = true;
            }
            2 | 3 if self.loaded => match self.origin {
                Some(_) => {
                    self.next = Some(count);
                    self.next_at = Some(self.period_end(tick));
                }
                None => self.count = count,
            },
            _ => {
                self.loaded = true;
                self.load(count, start);
                if !self.gate {
                    self.origin = None;
                }
            }
        }
    }

    /// The tick at which the running period (mode 2) or half period (mode 3) ends.
    fn period_end(&self, tick: u64) -> u64 {
        let count = u64::from(self.count);
        let phase = self.elapsed(tick) % count;
        let high = Self::high_part(self.count);
        let end = if self.mode == 3 && phase < high { high } else { count };
        let start = self.origin.map_or(tick, |origin| origin.max(tick));
        start.saturating_add(end - phase)
    }

    fn count_of(&self, raw: u16) -> u32 {
        if self.bcd {
            let digits = (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(raw >> (4 * digit) & 15));
            // Digits above 9 are not defined; anything that stays in range will do.
            if digits == 0 { 10_000 } else { digits.min(10_000) }
        } else if raw == 0 {
            0x10000
        } else {
            u32::from(raw)
        }
    }

    pub fn latch_count(&mut self, tick: u64) {
        if self.latch.is_none() {
            self.latch = Some(self.value(tick));
            self.read_high = false;
        }
    }

    pub fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let [low, high] = self.latch.unwrap_or_else(|| self.value(tick)).to_le_bytes();
        let (byte, last) = match self.bytes {
            Bytes::Low => (low, true),
            Bytes::High => (high, true),
            Bytes::LowHigh if self.read_high => (high, true),
            Bytes::LowHigh => (low, false),
        };
        self.read_high = !last;
        if last {
            self.latch = None;
        }
        byte
    }

    pub fn set_gate(&mut self, gate: bool, tick: u64) {
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        self.gate = gate;
        if !self.loaded {
            return;
        }
        match self.mode {
            0 | 4 if falls => {
                self.before = self.elapsed(tick);
                self.origin = None;
            }
            0 | 4 if rises => self.origin = Some(tick),
            2 | 3 if falls => {
                self.before = self.elapsed(tick) % u64::from(self.count);
                self.passed = 0;
                self.origin = None;
                self.next_at = None;
            }
            1 | 2 | 3 | 5 if rises => self.load(self.next.unwrap_or(self.count), tick.saturating_add(1)),
            _ => {}
        }
    }

    pub fn is_possible(&self) -> bool {
        self.mode <= 5
            && (1..=0x10000).contains(&self.count)
            && self.next.is_none_or(|next| (1..=0x10000).contains(&next))
            && (self.next.is_some() || self.next_at.is_none())
    }
}

fn to_bcd(value: u16) -> u16 {
    (value % 10) | ((value / 10 % 10) << 4) | (value / 100 % 10) << 8 | (value / 1000 % 10) << 12
}
