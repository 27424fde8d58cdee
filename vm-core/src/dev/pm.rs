//! PIIX4 power management and SMBus, function 3 (8086:7113).
//!
//! Intel 82371AB (PIIX4) data sheet (290562), chapter 7; ACPI specification 1.0, 4.7.
//!
//! | where | what |
//! |---|---|
//! | [`Pm::pm_base`] + 0x00–0x3F | PM1 status, enable and control, PM timer |
//! | [`Pm::smbus_base`] + 0x00–0x0F | SMBus host: there is nothing on the bus |
//! | 0xAFE0–0xAFE3 | general-purpose events (fixed; where SeaBIOS's tables put them) |
//! | 0xB2, 0xB3 | APM control and status |
//!
//! A command at port 0xB2 pulls SMI# where config 0x58 bit 25 (`APMC_EN`) and bit 0 of the global control register (`SMI_EN`) are
//! set. The two commands that switch ACPI on and off are carried out here: SeaBIOS leaves them to the board.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pci::{Identity, PciConfig, PciFunction, PciLayout, register};
use crate::bus::Width;
use crate::bus::clock::{Clock, Nanos, nanos_to_ticks, tick_deadline};
use crate::bus::irq::IrqLine;
use crate::bus::signals::{Signals, StopReason};
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// The frequency of the PM timer in hertz.
pub const TIMER_HERTZ: u64 = 3_579_545;

/// Ports that the PM block takes.
pub const PM_PORTS: u16 = 64;
/// Ports that the SMBus host takes.
pub const SMBUS_PORTS: u16 = 16;

/// Config: base of the PM ports.
const PMBA: u8 = 0x40;
/// Config: device activity B, whose bit 25 is `APMC_EN`.
const DEVACTB: u8 = 0x58;
/// In that: a command at port 0xB2 makes an SMI.
const APMC_EN: u32 = 1 << 25;
/// In the global status register: the operating system released the global lock; a command came.
const BIOS_STS: u16 = 1 << 0;
const APM_STS: u16 = 1 << 5;
/// In the global enable register: a release of the global lock makes an SMI.
const BIOS_EN: u16 = 1 << 1;
/// In the global control register: SMI# is driven at all.
const SMI_EN: u32 = 1 << 0;
/// In the same: the firmware releases the global lock (write only).
const BIOS_RLS: u32 = 1 << 1;
/// Config: bit 0 opens the PM ports.
const PMREGMISC: u8 = 0x80;
/// Config: base of the SMBus ports.
const SMBBA: u8 = 0x90;
/// Config: bit 0 opens the SMBus ports.
const SMBHSTCFG: u8 = 0xd2;

/// Commands at port 0xB2, as the firmware's ACPI tables name them.
const ACPI_ENABLE: u8 = 0xf1;
const ACPI_DISABLE: u8 = 0xf0;

bitflags::bitflags! {
    /// PM1 status and enable.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Pm1: u16 {
        /// The top bit of the timer changed.
        const TIMER = 1 << 0;
        /// A bus master asked for the bus.
        const BUS_MASTER = 1 << 4;
        /// The firmware released the global lock.
        const GLOBAL = 1 << 5;
        /// The power button was pressed.
        const POWER_BUTTON = 1 << 8;
        /// The real-time clock's alarm.
        const RTC = 1 << 10;
        /// The machine woke.
        const WAKE = 1 << 15;
    }
}

/// Bits of PM1 enable that exist.
const ENABLES: Pm1 = Pm1::TIMER.union(Pm1::GLOBAL).union(Pm1::POWER_BUTTON).union(Pm1::RTC);

/// PM1 control: events go to SCI.
const SCI_EN: u16 = 1 << 0;
/// PM1 control: the operating system releases the global lock (write only).
const GBL_RLS: u16 = 1 << 2;
/// PM1 control: go to sleep (write only).
const SLP_EN: u16 = 1 << 13;
/// PM1 control bits that are kept: SCI enable, bus master reload, sleep type.
const CONTROL_BITS: u16 = SCI_EN | 1 << 1 | 7 << 10;

/// Sleep types (PIIX4 7.2.3): 0 is soft off, 1 suspend to RAM, 2 suspend to disk (the tables of this board).
const SLEEP_SOFT_OFF: u16 = 0;
const SLEEP_SUSPEND_DISK: u16 = 2;

/// SMBus host status: no device answered.
const SMBUS_DEVICE_ERROR: u8 = 1 << 2;
/// SMBus host status bits that are write-one-to-clear.
const SMBUS_STATUS: u8 = 0x1e;
/// SMBus host control: start.
const SMBUS_START: u8 = 1 << 6;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PmState {
    config: PciConfig,
    status: Pm1,
    enable: Pm1,
    control: u16,
    /// Changes of the timer's top bit that are accounted for.
    timer_changes: u64,
    /// The level of the clock's interrupt when it was last looked at.
    #[serde(default)]
    rtc_line: bool,
    gpe_status: u16,
    gpe_enable: u16,
    #[serde(default)]
    global_status: u16,
    #[serde(default)]
    global_enable: u16,
    #[serde(default)]
    global_control: u32,
    apm_control: u8,
    apm_status: u8,
    /// SMBus host registers by offset; 0 is the status.
    smbus: [u8; 8],
}

#[derive(Debug)]
struct PmWires {
    layout: PciLayout,
    sci: IrqLine,
    /// Driven by the clock chip: an alarm is a wake event.
    rtc: IrqLine,
    clock: Clock,
    signals: Arc<Signals>,
}

/// Power management, function 01.3.
#[derive(Debug)]
pub struct Pm {
    state: PmState,
    wires: PmWires,
}

impl Pm {
    /// Power management that drives `sci` (IRQ 9) and hears the clock chip's `rtc` (IRQ 8).
    pub fn new(sci: IrqLine, rtc: IrqLine, clock: Clock, signals: &Arc<Signals>) -> Self {
        let layout = PciLayout::new(Identity { vendor: 0x8086, device: 0x7113, revision: 3, class: 0x068000 })
            .value(register::STATUS, &[0x80, 0x02])
            .value(register::COMMAND, &[0x00, 0x00])
            .writable(register::COMMAND, &[0x01])
            .interrupt_pin(1)
            .value(PMBA, &[0x01])
            .writable(PMBA, &[0xc0, 0xff])
            // Count, general-purpose input, activity and resource registers: kept, of no effect.
            .writable(0x44, &[0xff; 20])
            .writable(DEVACTB, &[0xff; 4])
            .writable(0x5c, &[0xff; 32])
            .writable(PMREGMISC, &[0x01])
            .value(SMBBA, &[0x01])
            .writable(SMBBA, &[0xf0, 0xff])
            .writable(SMBHSTCFG, &[0x0f, 0xff, 0xff, 0xff])
            .value(0xd6, &[0x00]);
        let wires = PmWires { layout, sci, rtc, clock, signals: Arc::clone(signals) };
        Self { state: Self::after_reset(&wires), wires }
    }

    fn after_reset(wires: &PmWires) -> PmState {
        PmState {
            config: wires.layout.reset(),
            status: Pm1::empty(),
            enable: Pm1::empty(),
            control: 0,
            timer_changes: timer_changes(wires.clock.now()),
            rtc_line: wires.rtc.is_high(),
            gpe_status: 0,
            gpe_enable: 0,
            global_status: 0,
            global_enable: 0,
            global_control: 0,
            apm_control: 0,
            apm_status: 0,
            smbus: [0; 8],
        }
    }

    /// First of the [`PM_PORTS`] PM ports; `None`: closed. It changes with writes to configuration space.
    pub fn pm_base(&self) -> Option<u16> {
        let base = self.state.config.read(PMBA, Width::Word) as u16 & 0xffc0;
        (self.state.config.byte(PMREGMISC) & 1 != 0 && base != 0).then_some(base)
    }

    /// First of the [`SMBUS_PORTS`] SMBus ports; `None`: closed.
    pub fn smbus_base(&self) -> Option<u16> {
        let base = self.state.config.read(SMBBA, Width::Word) as u16 & 0xfff0;
        (self.state.config.byte(SMBHSTCFG) & 1 != 0 && base != 0).then_some(base)
    }

    /// The 24 bits of the PM timer.
    fn timer(&self) -> u32 {
        nanos_to_ticks(self.wires.clock.now(), TIMER_HERTZ) as u32 & 0xff_ffff
    }

    /// Reads PM port `offset` (0–63). Reads inside a register give its part.
    pub fn read(&mut self, offset: u16, width: Width) -> u32 {
        self.note_events(self.wires.clock.now());
        let register = match offset & 0x3c {
            0x00 => u32::from(self.state.enable.bits()) << 16 | u32::from(self.state.status.bits()),
            0x04 => u32::from(self.state.control),
            0x08 => self.timer(),
            0x0c => u32::from(self.state.gpe_enable) << 16 | u32::from(self.state.gpe_status),
            0x18 => u32::from(self.state.global_status),
            0x20 => u32::from(self.state.global_enable),
            0x28 => self.state.global_control,
            _ => 0,
        };
        register >> (8 * (offset & 3)) & width.mask() as u32
    }

    /// Writes PM port `offset` (0–63).
    pub fn write(&mut self, offset: u16, width: Width, value: u32) {
        self.note_events(self.wires.clock.now());
        for n in 0..width.bytes().min(4) as u16 {
            let byte = (value >> (8 * n)) as u8;
            let at = (offset + n) & 0x3f;
            let shifted = u16::from(byte) << (8 * (at & 1));
            let keep = 0xff00_u16 >> (8 * (at & 1));
            match at & 0x3e {
                0x00 => self.state.status &= !Pm1::from_bits_truncate(shifted),
                0x02 => {
                    let bits = self.state.enable.bits() & keep | shifted;
                    self.state.enable = Pm1::from_bits_truncate(bits) & ENABLES;
                }
                0x04 => self.write_control(self.state.control & keep | shifted),
                0x0c => self.state.gpe_status &= !shifted,
                0x0e => self.state.gpe_enable = self.state.gpe_enable & keep | shifted,
                0x18 => self.state.global_status &= !shifted,
                0x20 => self.state.global_enable = self.state.global_enable & keep | shifted,
                0x28 | 0x2a => {
                    let place = 8 * (at & 3);
                    let control = self.state.global_control & !(0xff << place) | u32::from(byte) << place;
                    self.state.global_control = control & !BIOS_RLS;
                    if control & BIOS_RLS != 0 {
                        self.state.status |= Pm1::GLOBAL;
                    }
                }
                _ => {}
            }
        }
        self.drive();
    }

    fn write_control(&mut self, value: u16) {
        // On this chip the guest switches SCI_EN like any other bit.
        self.state.control = value & CONTROL_BITS;
        if value & GBL_RLS != 0 {
            self.state.global_status |= BIOS_STS;
            if self.state.global_enable & BIOS_EN != 0 && self.state.global_control & SMI_EN != 0 {
                self.wires.signals.request_smi();
            }
        }
        if value & SLP_EN != 0 {
            match value >> 10 & 7 {
                SLEEP_SOFT_OFF | SLEEP_SUSPEND_DISK => self.wires.signals.request_stop(StopReason::PowerOff),
                // Lighter sleeps end at once.
                _ => self.state.status |= Pm1::WAKE,
            }
        }
    }

    /// Reads general-purpose event port 0xAFE0 + `offset` (0–3): two bytes of status, two of enable.
    pub fn read_gpe(&self, offset: u16) -> u8 {
        let register = if offset & 2 == 0 { self.state.gpe_status } else { self.state.gpe_enable };
        register.to_le_bytes()[usize::from(offset & 1)]
    }

    /// Writes general-purpose event port 0xAFE0 + `offset` (0–3).
    pub fn write_gpe(&mut self, offset: u16, value: u8) {
        let shifted = u16::from(value) << (8 * (offset & 1));
        let keep = 0xff00_u16 >> (8 * (offset & 1));
        if offset & 2 == 0 {
            self.state.gpe_status &= !shifted;
        } else {
            self.state.gpe_enable = self.state.gpe_enable & keep | shifted;
        }
        self.drive();
    }

    /// Reads port 0xB2 + `offset` (0–1).
    pub fn read_apm(&self, offset: u16) -> u8 {
        if offset & 1 == 0 { self.state.apm_control } else { self.state.apm_status }
    }

    /// Writes port 0xB2 + `offset` (0–1). A write to the first may pull SMI#.
    pub fn write_apm(&mut self, offset: u16, value: u8) {
        if offset & 1 != 0 {
            self.state.apm_status = value;
            return;
        }
        self.state.apm_control = value;
        match value {
            ACPI_ENABLE => self.state.control |= SCI_EN,
            ACPI_DISABLE => self.state.control &= !SCI_EN,
            _ => self.make_smi(),
        }
        self.drive();
    }

    fn make_smi(&mut self) {
        if self.state.config.read(DEVACTB, Width::Dword) & APMC_EN == 0 {
            return;
        }
        self.state.global_status |= APM_STS;
        if self.state.global_control & SMI_EN != 0 {
            self.wires.signals.request_smi();
        }
    }

    /// Reads SMBus port `offset` (0–15).
    pub fn read_smbus(&self, offset: u16) -> u8 {
        self.state.smbus.get(usize::from(offset)).copied().unwrap_or(0)
    }

    /// Writes SMBus port `offset` (0–15). A started transfer ends with a device error: nothing answers.
    pub fn write_smbus(&mut self, offset: u16, value: u8) {
        match offset {
            0 => self.state.smbus[0] &= !(value & SMBUS_STATUS),
            2 => {
                self.state.smbus[2] = value & !SMBUS_START;
                if value & SMBUS_START != 0 {
                    self.state.smbus[0] |= SMBUS_DEVICE_ERROR;
                }
            }
            3..=7 => self.state.smbus[usize::from(offset)] = value,
            _ => {}
        }
    }

    /// Presses the power button. Says whether the guest has asked to hear of it; where not, it will hardly react.
    pub fn power_button(&mut self) -> bool {
        self.state.status |= Pm1::POWER_BUTTON;
        self.drive();
        self.state.control & SCI_EN != 0 && self.state.enable.contains(Pm1::POWER_BUTTON)
    }

    /// Takes in what has happened up to `now`: the timer's top bit, the clock's interrupt.
    fn note_events(&mut self, now: Nanos) {
        let before = self.state.status;
        let changes = timer_changes(now);
        if changes > self.state.timer_changes {
            self.state.timer_changes = changes;
            self.state.status |= Pm1::TIMER;
        }
        let rtc = self.wires.rtc.is_high();
        if rtc && !self.state.rtc_line {
            self.state.status |= Pm1::RTC;
        }
        self.state.rtc_line = rtc;
        if self.state.status != before {
            self.drive();
        }
    }

    fn sci(&self) -> bool {
        let state = &self.state;
        state.control & SCI_EN != 0
            && (state.status.intersects(state.enable) || state.gpe_status & state.gpe_enable != 0)
    }

    fn drive(&self) {
        self.wires.sci.set(self.sci());
    }
}

/// How often the top bit (23) of the timer has changed by `now`.
fn timer_changes(now: Nanos) -> u64 {
    nanos_to_ticks(now, TIMER_HERTZ) >> 23
}

impl PciFunction for Pm {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.state.config.write(&self.wires.layout, offset, width, value);
    }
}

impl Device for Pm {
    fn name(&self) -> &'static str {
        "pm"
    }

    fn reset(&mut self) {
        self.state = Self::after_reset(&self.wires);
        self.drive();
    }

    fn next_event(&self) -> Option<Nanos> {
        let wanted = self.state.enable.contains(Pm1::TIMER) && !self.state.status.contains(Pm1::TIMER);
        wanted.then(|| tick_deadline(self.state.timer_changes.saturating_add(1).min(1 << 40) << 23, TIMER_HERTZ))
    }

    fn advance(&mut self, now: Nanos) {
        self.note_events(now);
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: PmState = section.decode(self.name(), 1)?;
        self.wires.layout.check(&state.config).map_err(|reason| LoadError::invalid(self.name(), reason))?;
        if state.control & !CONTROL_BITS != 0 || !ENABLES.contains(state.enable) {
            return Err(LoadError::invalid(self.name(), "PM1 control or enable has bits that do not exist"));
        }
        self.state = state;
        self.wires.sci.restore(self.sci());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::clock::SECOND;
    use crate::bus::irq::IrqLines;
    use crate::dev::suite;

    fn pm() -> (Pm, Clock, Arc<IrqLines>, Arc<Signals>) {
        let (clock, lines, signals) = (Clock::manual(), Arc::new(IrqLines::default()), Arc::new(Signals::new()));
        let irq = |number| IrqLine::new(&lines, &signals, number);
        (Pm::new(irq(9), irq(8), clock.clone(), &signals), clock, lines, signals)
    }

    #[test]
    fn firmware_finds_what_it_looks_for() {
        let (mut pm, ..) = pm();
        assert_eq!(pm.config_read(0, Width::Dword), 0x7113_8086);
        assert_eq!(pm.pm_base(), None);
        pm.config_write(0x40, Width::Dword, 0x601);
        pm.config_write(0x80, Width::Byte, 1);
        pm.config_write(0x90, Width::Dword, 0x701);
        pm.config_write(0xd2, Width::Byte, 9);
        assert_eq!((pm.pm_base(), pm.smbus_base()), (Some(0x600), Some(0x700)));
        pm.write_smbus(2, 0x48);
        assert_eq!(pm.read_smbus(0), SMBUS_DEVICE_ERROR);
        pm.write_smbus(0, 0xff);
        assert_eq!(pm.read_smbus(0), 0);
    }

    #[test]
    fn the_power_button_asks_and_soft_off_switches_off() {
        let (mut pm, _, lines, signals) = pm();
        assert!(!pm.power_button());
        assert_eq!(lines.level(), 0);
        pm.write(0, Width::Word, 0xffff);
        pm.write_apm(0, ACPI_ENABLE);
        assert_eq!(pm.read(4, Width::Word), 1);
        pm.write(2, Width::Word, 0x0120);
        assert!(pm.power_button());
        assert_eq!(lines.level(), 1 << 9);
        pm.write(1, Width::Byte, 1);
        assert_eq!(lines.level(), 0);
        pm.write(4, Width::Word, 0x0401);
        pm.write(4, Width::Word, 0x2401);
        assert_eq!(signals.take_stop(), None, "suspend to RAM wakes at once");
        assert_eq!(pm.read(0, Width::Dword), 0x0120_8000);
        pm.write(4, Width::Word, 0x2001);
        assert_eq!(signals.take_stop(), Some(StopReason::PowerOff));
    }

    #[test]
    fn the_clocks_interrupt_is_an_event_each_time_it_rises() {
        let (mut pm, _, lines, signals) = pm();
        let rtc = IrqLine::new(&lines, &signals, 8);
        pm.write_apm(0, ACPI_ENABLE);
        pm.write(2, Width::Word, u32::from(Pm1::RTC.bits()));
        rtc.set(true);
        pm.advance(0);
        assert_eq!(lines.level(), 1 << 8 | 1 << 9);
        // Cleared, it is not set again by a line that merely stays up; nor by a restored one.
        pm.write(0, Width::Word, u32::from(Pm1::RTC.bits()));
        let saved = pm.save();
        pm.load(&saved).unwrap();
        pm.advance(0);
        assert_eq!((lines.level(), pm.read(0, Width::Word)), (1 << 8, 0));
        rtc.set(false);
        pm.advance(0);
        rtc.set(true);
        assert_eq!(pm.read(0, Width::Word), u32::from(Pm1::RTC.bits()));
    }

    #[test]
    fn a_command_pulls_smi_where_both_enables_are_set() {
        let (mut pm, _, _, signals) = pm();
        pm.write_apm(0, 0x42);
        pm.write(0x28, Width::Dword, SMI_EN);
        pm.write_apm(0, 0x42);
        assert!(!signals.take_smi());
        assert_eq!(pm.read(0x18, Width::Word), 0);
        pm.config_write(0x58, Width::Dword, APMC_EN);
        pm.write_apm(0, ACPI_ENABLE);
        assert!(!signals.take_smi(), "the board's own");
        pm.write_apm(0, 0x42);
        assert!(signals.take_smi());
        assert_eq!((pm.read_apm(0), pm.read(0x18, Width::Word)), (0x42, u32::from(APM_STS)));
        pm.write(0x18, Width::Word, 0xffff);
        pm.write(0x28, Width::Byte, 0);
        pm.write_apm(0, 0x42);
        assert!(!signals.take_smi());
        assert_eq!(pm.read(0x18, Width::Word), u32::from(APM_STS));
    }

    #[test]
    fn each_side_tells_the_other_of_the_global_lock() {
        let (mut pm, _, lines, signals) = pm();
        pm.write(4, Width::Word, u32::from(GBL_RLS | SCI_EN));
        assert_eq!((pm.read(0x18, Width::Word), pm.read(4, Width::Word)), (u32::from(BIOS_STS), u32::from(SCI_EN)));
        assert!(!signals.take_smi());
        pm.write(0x20, Width::Word, u32::from(BIOS_EN));
        pm.write(0x28, Width::Dword, SMI_EN);
        pm.write(4, Width::Word, u32::from(GBL_RLS | SCI_EN));
        assert!(signals.take_smi());
        pm.write(2, Width::Word, u32::from(Pm1::GLOBAL.bits()));
        pm.write(0x28, Width::Byte, SMI_EN | BIOS_RLS);
        assert_eq!((lines.level(), pm.read(0x28, Width::Dword)), (1 << 9, SMI_EN));
    }

    #[test]
    fn the_timer_runs_at_its_rate_and_tells_of_its_top_bit() {
        let (mut pm, clock, lines, _) = pm();
        clock.set(SECOND);
        assert_eq!(pm.read(8, Width::Dword), 3_579_545);
        pm.write_apm(0, ACPI_ENABLE);
        pm.write(2, Width::Word, 1);
        let at = pm.next_event().expect("an overflow to come");
        clock.set(at - 1);
        pm.advance(at - 1);
        assert_eq!(lines.level(), 0);
        clock.set(at);
        pm.advance(at);
        assert_eq!(lines.level(), 1 << 9);
        assert_eq!(pm.read(8, Width::Dword), 0x80_0000);
        assert_eq!(pm.next_event(), None);
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(
            || pm().0,
            |pm| {
                pm.config_write(0x40, Width::Dword, 0xb001);
                pm.write(2, Width::Word, 0x0100);
                pm.power_button();
            },
        );
        let (pm, clock, ..) = pm();
        suite::hammer(pm, 20_000, |pm, random, now| {
            clock.set(now);
            let width = [Width::Byte, Width::Word, Width::Dword][random.below(3) as usize];
            pm.write(random.below(64) as u16, width, random.next() as u32);
            pm.read(random.below(64) as u16, width);
            pm.write_gpe(random.below(4) as u16, random.next() as u8);
            pm.write_apm(random.below(2) as u16, random.next() as u8);
            pm.write_smbus(random.below(16) as u16, random.next() as u8);
            pm.read_smbus(random.below(20) as u16);
            pm.config_write(random.next() as u8, width, random.next() as u32);
        });
    }
}
