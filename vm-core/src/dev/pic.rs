//! 8259A interrupt controllers: a pair in cascade, and the edge/level registers.
//!
//! Intel 8259A data sheet (231468-003); ELCR: 82371SB (PIIX3) data sheet, 2.5.1.
//!
//! | port | offset | what |
//! |---|---|---|
//! | 0x20, 0x21 | 0, 1 | master |
//! | 0xA0, 0xA1 | 2, 3 | slave, on the master's input 2 |
//! | 0x4D0, 0x4D1 | 4, 5 | ELCR: inputs triggered by level |

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::irq::{IrqLines, IrqRoutes};
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// The master's input that the slave drives.
const CASCADE: u8 = 2;

const ICW1: u8 = 1 << 4;
const ICW1_IC4: u8 = 1 << 0;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_LEVEL: u8 = 1 << 3;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const ICW4_SPECIAL_NESTED: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;

/// ELCR bits that exist: inputs 0, 1, 2, 8 and 13 are always triggered by edges.
const ELCR_BITS: [u8; 2] = [0xf8, 0xde];

/// What the next write to the odd port means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    /// The interrupt mask.
    #[default]
    Ocw1,
    /// The vector base.
    Icw2,
    /// The cascade.
    Icw3,
    /// The mode.
    Icw4,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// Interrupt request register.
    irr: u8,
    /// In-service register.
    isr: u8,
    /// Interrupt mask register.
    imr: u8,
    /// Requests from pulses that are already over.
    pulses: u8,
    /// Bits 3–7 of the vectors.
    base: u8,
    /// The input with the lowest priority.
    lowest: u8,
    elcr: u8,
    icw1: u8,
    icw4: u8,
    expect: Expect,
    special_mask: bool,
    rotate_on_auto_eoi: bool,
    read_isr: bool,
    poll: bool,
}

impl Chip {
    fn after_reset() -> Self {
        Self { lowest: 7, ..Self::default() }
    }

    /// Inputs that are triggered by level.
    fn level_triggered(&self) -> u8 {
        if self.icw1 & ICW1_LEVEL != 0 { 0xff } else { self.elcr }
    }

    /// Takes in the levels of the inputs, and which of them rose since the last time.
    fn sync(&mut self, level: u8, rose: u8) {
        let by_level = self.level_triggered();
        // An edge is a request for as long as its line stays up (data sheet, "Edge and level triggered modes").
        // A pulse that came and went between two looks is kept.
        self.pulses = (self.pulses | rose) & !level & !by_level;
        let by_edge = self.irr & (level | self.pulses) | rose;
        self.irr = level & by_level | by_edge & !by_level;
    }

    /// Position in the order of priorities, 0 the highest.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    /// The input of the highest priority in `bits`.
    fn first(&self, bits: u8) -> Option<u8> {
        (1..=8).map(|n| self.lowest.wrapping_add(n) & 7).find(|input| bits >> input & 1 != 0)
    }

    /// The input that INT is raised for. `nested`: input whose service does not keep back its own further requests.
    fn request(&self, nested: Option<u8>) -> Option<u8> {
        let wanted = self.first(self.irr & !self.imr)?;
        let mut serving = self.isr;
        if self.special_mask {
            serving &= !self.imr;
        }
        if let Some(input) = nested
            && self.icw4 & ICW4_SPECIAL_NESTED != 0
        {
            serving &= !(1 << input);
        }
        let free = self.first(serving).is_none_or(|input| self.rank(wanted) < self.rank(input));
        free.then_some(wanted)
    }

    /// The acknowledge cycle for `input`.
    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.level_triggered() & bit == 0 {
            self.irr &= !bit;
            self.pulses &= !bit;
        }
        if self.icw4 & ICW4_AUTO_EOI == 0 {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = input;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.write_icw1(value);
        } else if value & OCW3 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_icw1(&mut self, value: u8) {
        *self = Self {
            irr: self.irr & self.elcr,
            base: self.base,
            elcr: self.elcr,
            icw1: value,
            expect: Expect::Icw2,
            ..Self::after_reset()
        };
    }

    fn write_ocw2(&mut self, value: u8) {
        let input = value & 7;
        match value >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b001 => {
                self.end_first();
            }
            0b011 => self.isr &= !(1 << input),
            0b100 => self.rotate_on_auto_eoi = true,
            0b101 => {
                if let Some(ended) = self.end_first() {
                    self.lowest = ended;
                }
            }
            0b110 => self.lowest = input,
            0b111 => {
                self.isr &= !(1 << input);
                self.lowest = input;
            }
            _ => {}
        }
    }

    /// Non-specific end of interrupt: the input of the highest priority in service. The special mask mode hides
    /// masked ones from it.
    fn end_first(&mut self) -> Option<u8> {
        let hidden = if self.special_mask { self.imr } else { 0 };
        let input = self.first(self.isr & !hidden)?;
        self.isr &= !(1 << input);
        Some(input)
    }

    fn write_ocw3(&mut self, value: u8) {
        match value & 3 {
            2 => self.read_isr = false,
            3 => self.read_isr = true,
            _ => {}
        }
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        self.poll = value & 4 != 0;
    }

    fn write_data(&mut self, value: u8) {
        match self.expect {
            Expect::Ocw1 => self.imr = value,
            Expect::Icw2 => {
                self.base = value & 0xf8;
                self.expect = if self.icw1 & ICW1_SINGLE == 0 { Expect::Icw3 } else { self.after_icw3() };
            }
            // The cascade is wired on the board; the word changes nothing.
            Expect::Icw3 => self.expect = self.after_icw3(),
            Expect::Icw4 => {
                self.icw4 = value & 0x1f;
                self.expect = Expect::Ocw1;
            }
        }
    }

    fn after_icw3(&self) -> Expect {
        if self.icw1 & ICW1_IC4 != 0 { Expect::Icw4 } else { Expect::Ocw1 }
    }

    fn is_possible(&self, elcr_bits: u8) -> bool {
        self.lowest < 8 && self.base.trailing_zeros() >= 3 && self.elcr & !elcr_bits == 0 && self.icw4 <= 0x1f
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PicState {
    master: Chip,
    slave: Chip,
}

impl PicState {
    fn after_reset() -> Self {
        Self { master: Chip::after_reset(), slave: Chip::after_reset() }
    }
}

#[derive(Debug)]
struct PicWires {
    lines: Arc<IrqLines>,
    routes: IrqRoutes,
}

/// The registers of one controller, to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PicView {
    /// Interrupt request register.
    pub irr: u8,
    /// Interrupt mask register.
    pub imr: u8,
    /// In-service register.
    pub isr: u8,
    /// The input of the highest priority.
    pub highest: u8,
    /// The vector of input 0.
    pub base: u8,
    /// The even port shows the in-service register.
    pub read_isr: bool,
    /// Inputs triggered by level.
    pub elcr: u8,
    /// Special fully nested mode.
    pub special_nested: bool,
}

/// Both 8259As.
#[derive(Debug)]
pub struct Pic {
    state: PicState,
    wires: PicWires,
}

impl Pic {
    /// Controllers fed by lines 0–15 of `lines`, and by lines 16–19 as `routes` steers them. Input 2 is the cascade.
    pub fn new(lines: &Arc<IrqLines>, routes: &IrqRoutes) -> Self {
        let wires = PicWires { lines: Arc::clone(lines), routes: routes.clone() };
        Self { state: PicState::after_reset(), wires }
    }

    /// Takes in the interrupt lines. Call it before [`Pic::intr`] whenever attention was raised.
    pub fn sync(&mut self) {
        let level = self.wires.routes.apply(self.wires.lines.level()) & !(1 << CASCADE);
        let rose = self.wires.routes.apply(self.wires.lines.take_rose()) & !(1 << CASCADE);
        let [low, high] = level.to_le_bytes();
        let [low_rose, high_rose] = rose.to_le_bytes();
        self.state.slave.sync(high, high_rose);
        self.state.master.sync(low, low_rose);
        self.cascade();
    }

    /// The slave's INT is the master's input 2; it counts for as long as it is up, however that input is triggered.
    fn cascade(&mut self) {
        let state = &mut self.state;
        if state.slave.request(None).is_some() {
            state.master.irr |= 1 << CASCADE;
        } else {
            state.master.irr &= !(1 << CASCADE);
        }
        let open = |chip: &Chip| u32::from(chip.irr & !chip.imr);
        let slave = if state.master.imr & 1 << CASCADE == 0 { open(&state.slave) } else { 0 };
        let inputs = slave << 8 | open(&state.master) & !(1 << CASCADE);
        self.wires.lines.set_pending(self.wires.routes.lines_of_inputs(inputs));
    }

    /// The registers now: master, slave. Nothing changes by looking.
    pub fn view(&self) -> [PicView; 2] {
        [&self.state.master, &self.state.slave].map(|chip| PicView {
            irr: chip.irr,
            imr: chip.imr,
            isr: chip.isr,
            highest: chip.lowest.wrapping_add(1) & 7,
            base: chip.base,
            read_isr: chip.read_isr,
            elcr: chip.elcr,
            special_nested: chip.icw4 & ICW4_SPECIAL_NESTED != 0,
        })
    }

    /// The level of INT, the processor's INTR pin.
    pub fn intr(&self) -> bool {
        self.state.master.request(Some(CASCADE)).is_some()
    }

    /// The interrupt-acknowledge cycle: the vector. Where the request is gone, that of input 7 (spurious).
    pub fn acknowledge(&mut self) -> u8 {
        self.sync();
        let vector = match self.state.master.request(Some(CASCADE)) {
            Some(CASCADE) => {
                self.state.master.acknowledge(CASCADE);
                let slave = &mut self.state.slave;
                let input = slave.request(None);
                if let Some(input) = input {
                    slave.acknowledge(input);
                }
                slave.base | input.unwrap_or(7)
            }
            Some(input) => {
                self.state.master.acknowledge(input);
                self.state.master.base | input
            }
            None => self.state.master.base | 7,
        };
        self.cascade();
        vector
    }

    /// Reads the register at `offset` (0–5).
    pub fn read(&mut self, offset: u16) -> u8 {
        self.sync();
        match offset {
            0 => self.read_command(true),
            1 => self.read_data(true),
            2 => self.read_command(false),
            3 => self.read_data(false),
            4 => self.state.master.elcr,
            5 => self.state.slave.elcr,
            _ => 0xff,
        }
    }

    /// Writes the register at `offset` (0–5).
    pub fn write(&mut self, offset: u16, value: u8) {
        self.sync();
        match offset {
            0 => self.state.master.write_command(value),
            1 => self.state.master.write_data(value),
            2 => self.state.slave.write_command(value),
            3 => self.state.slave.write_data(value),
            4 => self.state.master.elcr = value & ELCR_BITS[0],
            5 => self.state.slave.elcr = value & ELCR_BITS[1],
            _ => {}
        }
        self.sync();
    }

    fn chip(&mut self, master: bool) -> &mut Chip {
        if master { &mut self.state.master } else { &mut self.state.slave }
    }

    fn read_command(&mut self, master: bool) -> u8 {
        if self.chip(master).poll {
            return self.poll(master);
        }
        let chip = self.chip(master);
        if chip.read_isr { chip.isr } else { chip.irr }
    }

    fn read_data(&mut self, master: bool) -> u8 {
        if self.chip(master).poll {
            return self.poll(master);
        }
        self.chip(master).imr
    }

    /// The poll command: the read is the acknowledge cycle.
    fn poll(&mut self, master: bool) -> u8 {
        let chip = self.chip(master);
        chip.poll = false;
        let request = chip.request(master.then_some(CASCADE));
        let Some(input) = request else {
            return 7;
        };
        chip.acknowledge(input);
        self.cascade();
        0x80 | input
    }

    /// Request, in-service and mask registers of both chips, slave in the high byte: for the monitor.
    pub fn registers(&self) -> (u16, u16, u16) {
        let join =
            |field: fn(&Chip) -> u8| u16::from(field(&self.state.slave)) << 8 | u16::from(field(&self.state.master));
        (join(|chip| chip.irr), join(|chip| chip.isr), join(|chip| chip.imr))
    }
}

impl Device for Pic {
    fn name(&self) -> &'static str {
        "pic"
    }

    fn reset(&mut self) {
        self.state = PicState::after_reset();
        self.wires.lines.take_rose();
        self.sync();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: PicState = section.decode(self.name(), 1)?;
        if !state.master.is_possible(ELCR_BITS[0]) || !state.slave.is_possible(ELCR_BITS[1]) {
            return Err(LoadError::invalid(self.name(), "a register has bits that do not exist"));
        }
        self.state = state;
        // Edges from before are not of this state.
        self.wires.lines.take_rose();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::irq::{FIRST_PIRQ, IrqLine};
    use crate::bus::signals::Signals;
    use crate::dev::suite;

    struct Bench {
        pic: Pic,
        lines: Arc<IrqLines>,
        routes: IrqRoutes,
        signals: Arc<Signals>,
    }

    impl Bench {
        /// Set up as a PC's firmware does: vectors 8 and 0x70, nothing masked.
        fn new() -> Self {
            let (lines, routes) = (Arc::new(IrqLines::default()), IrqRoutes::default());
            let mut pic = Pic::new(&lines, &routes);
            for (offset, value) in
                [(0, 0x11), (1, 0x08), (1, 0x04), (1, 0x01), (2, 0x11), (3, 0x70), (3, 0x02), (3, 0x01)]
            {
                pic.write(offset, value);
            }
            Self { pic, lines, routes, signals: Arc::new(Signals::new()) }
        }

        fn set(&mut self, line: u32, high: bool) {
            IrqLine::new(&self.lines, &self.signals, line).set(high);
            self.pic.sync();
        }

        fn pulse(&mut self, line: u32) {
            self.set(line, false);
            self.set(line, true);
        }

        fn take(&mut self) -> Option<u8> {
            self.pic.intr().then(|| self.pic.acknowledge())
        }
    }

    #[test]
    fn priorities_nest_and_end_of_interrupt_lets_the_next_through() {
        let mut bench = Bench::new();
        bench.set(4, true);
        bench.set(1, true);
        assert_eq!(bench.take(), Some(9));
        assert_eq!(bench.take(), None, "input 4 waits for input 1");
        bench.set(0, true);
        assert_eq!(bench.take(), Some(8), "a higher one interrupts");
        bench.pic.write(0, 0x20);
        assert_eq!(bench.take(), None);
        bench.pic.write(0, 0x20);
        assert_eq!(bench.take(), Some(12));
        bench.pic.write(0, 0x64);
        bench.pic.write(0, 0x0b);
        assert_eq!(bench.pic.read(0), 0);
        assert_eq!(bench.take(), None, "lines that stay up make no second edge");
        bench.pulse(4);
        assert_eq!(bench.take(), Some(12));
    }

    #[test]
    fn the_slave_comes_through_input_two_and_both_need_an_end() {
        let mut bench = Bench::new();
        bench.set(8, true);
        bench.set(3, true);
        assert_eq!(bench.take(), Some(0x70));
        assert_eq!(bench.take(), None);
        bench.pic.write(0, 0x20);
        assert_eq!(bench.take(), Some(11));
        bench.pic.write(0, 0x20);
        bench.pulse(12);
        assert_eq!(bench.take(), None, "the slave still serves its input 0");
        bench.pic.write(2, 0x20);
        assert_eq!(bench.take(), Some(0x74));
    }

    #[test]
    fn a_request_that_goes_away_is_spurious() {
        let mut bench = Bench::new();
        bench.set(1, true);
        bench.set(1, false);
        assert!(!bench.pic.intr());
        assert_eq!(bench.pic.acknowledge(), 15);
        bench.pic.write(0, 0x0b);
        assert_eq!(bench.pic.read(0), 0, "no in-service bit for it");
        bench.set(10, true);
        assert!(bench.pic.intr());
        IrqLine::new(&bench.lines, &bench.signals, 10).set(false);
        assert_eq!(bench.pic.acknowledge(), 15, "gone before the acknowledge cycle");
        let line = IrqLine::new(&bench.lines, &bench.signals, 5);
        line.set(true);
        line.set(false);
        bench.pic.sync();
        assert!(line.is_pending());
        assert_eq!(bench.take(), Some(13), "a pulse between two looks is kept");
        assert!(!line.is_pending());
    }

    #[test]
    fn level_inputs_ask_again_until_the_line_falls() {
        let mut bench = Bench::new();
        bench.routes.set([Some(11), None, None, None]);
        bench.pic.write(5, 0xff);
        assert_eq!(bench.pic.read(5), 0xde);
        bench.set(FIRST_PIRQ, true);
        assert_eq!(bench.take(), Some(0x73));
        bench.pic.write(2, 0x20);
        bench.pic.write(0, 0x20);
        assert_eq!(bench.take(), Some(0x73));
        bench.set(FIRST_PIRQ, false);
        bench.pic.write(2, 0x20);
        bench.pic.write(0, 0x20);
        assert_eq!(bench.take(), None);
    }

    #[test]
    fn masks_rotation_auto_end_special_mask_and_poll() {
        let mut bench = Bench::new();
        bench.pic.write(1, 0x02);
        bench.set(1, true);
        assert_eq!(bench.take(), None);
        bench.pic.write(1, 0);
        assert_eq!(bench.take(), Some(9), "the request waited behind its mask");
        bench.pic.write(0, 0xa0);
        bench.pulse(1);
        bench.set(7, true);
        assert_eq!(bench.take(), Some(15), "input 1 has the lowest priority now");
        // Special mask mode: 7 in service and masked does not keep 1 back.
        bench.pic.write(1, 0x80);
        bench.pic.write(0, 0x68);
        assert_eq!(bench.take(), Some(9));
        bench.pic.write(0, 0x20);
        bench.pic.write(0, 0x0b);
        assert_eq!(bench.pic.read(0), 0x80, "a masked one is hidden from the non-specific end");
        // Poll.
        bench.pic.write(0, 0x48);
        bench.pic.write(0, 0xc7);
        bench.pic.write(0, 0x67);
        bench.set(0, true);
        bench.pic.write(0, 0x0c);
        assert_eq!(bench.pic.read(0), 0x80);
        bench.pic.write(0, 0x20);
        bench.pic.write(0, 0x0c);
        assert_eq!(bench.pic.read(0), 0x07);
        // Auto end of interrupt.
        for (offset, value) in [(0, 0x11), (1, 0x40), (1, 4), (1, 3)] {
            bench.pic.write(offset, value);
        }
        bench.pulse(6);
        assert_eq!(bench.take(), Some(0x46));
        bench.pulse(6);
        assert_eq!(bench.take(), Some(0x46));
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(
            || Bench::new().pic,
            |pic| {
                pic.write(1, 0x5a);
                pic.write(4, 0xff);
            },
        );
        suite::hammer(Bench::new().pic, 20_000, |pic, random, _| {
            pic.write(random.below(8) as u16, random.next() as u8);
            pic.read(random.below(8) as u16);
            if pic.intr() {
                pic.acknowledge();
            }
        });
    }
}
