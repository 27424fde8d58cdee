//! 82371SB (PIIX3) ISA bridge: steering of PCI interrupts, and the reset control port.
//!
//! Intel 82371SB data sheet (290550), 2.2 and 2.5.7.
//!
//! | register, port | what |
//! |---|---|
//! | config 0x60–0x63 | route of PIRQA#–PIRQD# |
//! | 0xCF9 | reset control |

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pci::{Identity, PciConfig, PciFunction, PciLayout, register};
use crate::bus::Width;
use crate::bus::irq::IrqRoutes;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// First of the four PIRQ route registers.
const PIRQ_ROUTE: u8 = 0x60;
/// Bit 7 of a route: steered nowhere.
const ROUTE_NONE: u8 = 1 << 7;
/// Inputs that a PIRQ can be steered to: 3–7, 9–12, 14, 15.
const ROUTABLE: u16 = 0xdef8;

/// Reset control, bit 2 (`RCPU`): its rise is a reset.
const RESET_CPU: u8 = 1 << 2;
/// Bit 1 (`SRST`): of the whole system, not only of the processor.
const RESET_SYSTEM: u8 = 1 << 1;
/// Reset control bits that are kept.
const RESET_BITS: u8 = RESET_CPU | RESET_SYSTEM;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piix3State {
    config: PciConfig,
    reset_control: u8,
}

#[derive(Debug)]
struct Piix3Wires {
    layout: PciLayout,
    routes: IrqRoutes,
    signals: Arc<Signals>,
}

/// The ISA bridge, function 01.0.
#[derive(Debug)]
pub struct Piix3 {
    state: Piix3State,
    wires: Piix3Wires,
}

impl Piix3 {
    /// A bridge that steers with `routes` and asks `signals` for resets.
    pub fn new(routes: &IrqRoutes, signals: &Arc<Signals>) -> Self {
        let layout = PciLayout::new(Identity { vendor: 0x8086, device: 0x7000, revision: 0, class: 0x060100 })
            .multifunction()
            .value(register::COMMAND, &[0x07])
            .writable(register::COMMAND, &[0x08, 0x01])
            .value(register::STATUS, &[0x80, 0x02])
            .writable(register::CACHE_LINE, &[0])
            .writable(register::LATENCY, &[0])
            .writable(register::INTERRUPT_LINE, &[0])
            // I/O recovery, X-bus chip select, top of memory, miscellaneous status, motherboard IRQs: kept, of no effect.
            .value(0x4c, &[0x4d])
            .writable(0x4c, &[0xff])
            .value(0x4e, &[0x03, 0x00])
            .writable(0x4e, &[0xff, 0x01])
            .value(PIRQ_ROUTE, &[ROUTE_NONE; 4])
            .writable(PIRQ_ROUTE, &[0x8f; 4])
            .value(0x69, &[0x02, 0x00])
            .writable(0x69, &[0xfe, 0xff])
            .value(0x70, &[0x80, 0x80])
            .writable(0x70, &[0xef, 0xef])
            .value(0x76, &[0x0c, 0x0c])
            .writable(0x76, &[0x8f, 0x8f])
            .writable(0x82, &[0x0f])
            .value(0xa0, &[0x08])
            .writable(0xa0, &[0x1f, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0, 0x01]);
        let wires = Piix3Wires { layout, routes: routes.clone(), signals: Arc::clone(signals) };
        let mut bridge = Self { state: Piix3State { config: wires.layout.reset(), reset_control: 0 }, wires };
        bridge.steer();
        bridge
    }

    /// The interrupt line number (16–19) that `INTx`# of `device` hangs on: `pin` 1 is INTA# … 4 INTD#. The slots are rotated, as
    /// firmware for this board expects.
    pub fn pirq_line(device: u8, pin: u8) -> u32 {
        crate::bus::irq::FIRST_PIRQ + u32::from(device.wrapping_sub(1).wrapping_add(pin.wrapping_sub(1)) & 3)
    }

    fn steer(&mut self) {
        let config = &self.state.config;
        self.wires.routes.set(std::array::from_fn(|n| {
            let route = config.byte(PIRQ_ROUTE + n as u8);
            let input = route & 15;
            (route & ROUTE_NONE == 0 && ROUTABLE >> input & 1 != 0).then_some(input)
        }));
        // A line may have come to an input, or have left it.
        self.wires.signals.raise();
    }

    /// Reads port 0xCF9.
    pub fn read_reset_control(&self) -> u8 {
        self.state.reset_control
    }

    /// Writes port 0xCF9: a rise of bit 2 is a hard reset where bit 1 is set, else a soft one, which pulses the processor's INIT#.
    pub fn write_reset_control(&mut self, value: u8) {
        let rises = value & !self.state.reset_control & RESET_CPU != 0;
        self.state.reset_control = value & RESET_BITS;
        if rises && value & RESET_SYSTEM != 0 {
            self.wires.signals.request_reset();
        } else if rises {
            self.wires.signals.request_init();
        }
    }
}

impl PciFunction for Piix3 {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        let before = self.state.config.read(PIRQ_ROUTE, Width::Dword);
        self.state.config.write(&self.wires.layout, offset, width, value);
        if self.state.config.read(PIRQ_ROUTE, Width::Dword) != before {
            self.steer();
        }
    }
}

impl Device for Piix3 {
    fn name(&self) -> &'static str {
        "piix3"
    }

    fn reset(&mut self) {
        self.state = Piix3State { config: self.wires.layout.reset(), reset_control: 0 };
        self.steer();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: Piix3State = section.decode(self.name(), 1)?;
        self.wires.layout.check(&state.config).map_err(|reason| LoadError::invalid(self.name(), reason))?;
        if state.reset_control & !RESET_BITS != 0 {
            return Err(LoadError::invalid(self.name(), "the reset control has bits that do not exist"));
        }
        self.state = state;
        self.steer();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::suite;

    #[test]
    fn pirqs_go_where_they_are_steered() {
        let (routes, signals) = (IrqRoutes::default(), Arc::new(Signals::new()));
        let mut bridge = Piix3::new(&routes, &signals);
        assert_eq!(bridge.config_read(0x0e, Width::Byte), 0x80, "several functions");
        assert_eq!(routes.apply(0xf_0002), 2);
        bridge.config_write(0x60, Width::Dword, 0x800d_0b0a);
        assert_eq!(routes.apply(0x1_0000), 1 << 10);
        assert_eq!(routes.apply(0xf_0002), 1 << 10 | 1 << 11 | 2, "13 cannot be reached");
        assert_eq!(Piix3::pirq_line(1, 4), 19);
        assert_eq!(Piix3::pirq_line(3, 1), 18);
    }

    #[test]
    fn the_reset_control_resets_on_a_rise() {
        let signals = Arc::new(Signals::new());
        let mut bridge = Piix3::new(&IrqRoutes::default(), &signals);
        bridge.write_reset_control(0x02);
        assert!(!signals.take_reset());
        bridge.write_reset_control(0x06);
        assert!(signals.take_reset());
        bridge.write_reset_control(0x06);
        assert!(!signals.take_reset());
        bridge.write_reset_control(0x00);
        bridge.write_reset_control(0x04);
        assert!(signals.take_init() && !signals.take_reset(), "a soft reset is the processor's alone");
    }

    #[test]
    fn any_guest_and_any_file() {
        let make = || Piix3::new(&IrqRoutes::default(), &Arc::new(Signals::new()));
        suite::check(make, |bridge| bridge.config_write(0x60, Width::Dword, 0x0b0a_0905));
        suite::hammer(make(), 10_000, |bridge, random, _| {
            bridge.config_write(random.next() as u8, Width::Dword, random.next() as u32);
            bridge.config_read(random.next() as u8, Width::Word);
            bridge.write_reset_control(random.next() as u8);
        });
    }
}
