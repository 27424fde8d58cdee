//! `info pic` and `info lapic`: the interrupt controllers' registers, in the layout that users of QEMU's monitor know.

use std::fmt::Write as _;

use crate::dev::apic::{Delivery, LocalApicView};
use crate::dev::ioapic::{INPUTS, IoApicView};
use crate::dev::pic::PicView;
use crate::machine::interrupts::InterruptControllers;

/// Bits of a redirection or local table entry.
const LOGICAL: u64 = 1 << 11;
const PENDING: u64 = 1 << 12;
const ACTIVE_LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const PERIODIC: u64 = 1 << 17;

/// Spurious vector register: the APIC is on.
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// The 8259s and the I/O APIC.
pub(super) fn pic_in_words(controllers: &InterruptControllers) -> String {
    let mut text = io_apic_in_words(&controllers.io_apic);
    for (number, pic) in controllers.pics.iter().enumerate() {
        let PicView { irr, imr, isr, highest, base, read_isr, elcr, special_nested } = *pic;
        let (read_isr, special_nested) = (u8::from(read_isr), u8::from(special_nested));
        let _ = writeln!(
            text,
            "pic{number}: irr={irr:02x} imr={imr:02x} isr={isr:02x} hprio={highest} irq_base={base:02x} rr_sel={read_isr} \
             elcr={elcr:02x} fnm={special_nested}"
        );
    }
    text
}

fn io_apic_in_words(apic: &IoApicView) -> String {
    let mut text = format!("ioapic0: id=0x{:02x} sel=0x{:02x}\n", apic.id, apic.index);
    for (input, entry) in apic.redirection.into_iter().enumerate() {
        let mode = if entry & LOGICAL == 0 { "physical" } else { "logical" };
        let (destination, vector) = (entry >> 56, entry as u8);
        let _ = writeln!(
            text,
            "  pin {input:<2} 0x{entry:016x} dest={destination:<3} vec={vector:<3} {} {} {mode}",
            trigger(entry),
            delivery(entry)
        );
    }
    let inputs = |is_set: &dyn Fn(usize) -> bool| (0..INPUTS).filter(|input| is_set(*input)).collect::<Vec<_>>();
    let _ = writeln!(text, "  asserted   {}", list(&inputs(&|input| apic.asserted >> input & 1 != 0)));
    let _ = writeln!(text, "  Remote IRR {}", list(&inputs(&|input| apic.redirection[input] & REMOTE_IRR != 0)));
    text
}

/// The local APIC.
///
/// # Errors
/// Where there is none, or it is switched off.
pub(super) fn local_apic_in_words(controllers: &InterruptControllers) -> Result<String, String> {
    let apic = controllers.local_apic.as_ref();
    let apic = apic.ok_or("this processor has no local APIC, or its guest has disabled it")?;
    let LocalApicView { spurious, errors, command: [low, high], timer: (initial, current, divisor), .. } = *apic;
    let mut text = String::new();
    for &(name, entry) in &apic.table {
        let entry = u64::from(entry);
        let kind = match name {
            "LVTT" if entry & PERIODIC != 0 => "periodic",
            "LVTT" => "one-shot",
            "LVTERR" => "fixed",
            _ => delivery(entry),
        };
        let _ = writeln!(text, "{name:<8} 0x{entry:08x} {} {kind} (vec {})", trigger(entry), entry as u8);
    }
    let _ = writeln!(text, "Timer    divide by {divisor}, initial_count = {initial} current_count = {current}");
    let on = if spurious & SOFTWARE_ENABLE == 0 { "disabled" } else { "enabled" };
    let _ = writeln!(text, "SPIV     0x{spurious:08x} APIC {on}, spurious vec {}", spurious as u8);
    let _ = writeln!(text, "ICR      0x{high:08x}{low:08x}");
    let _ = writeln!(text, "ESR      0x{errors:08x}");
    for (name, vectors) in [("ISR", &apic.in_service), ("IRR", &apic.requests)] {
        let words: Vec<_> =
            vectors.iter().map(|&(vector, level)| format!("{vector}{}", if level { " (level)" } else { "" })).collect();
        let _ = writeln!(text, "{name:<8} {}", list(&words));
    }
    let LocalApicView { id, task_priority: tpr, processor_priority: ppr, logical_destination: ldr, .. } = *apic;
    let dfr = apic.destination_format;
    let _ = writeln!(text, "ID 0x{id:02x} TPR 0x{tpr:02x} PPR 0x{ppr:02x} DFR 0x{dfr:08x} LDR 0x{ldr:02x}");
    Ok(text)
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "(none)".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn trigger(entry: u64) -> String {
    let polarity = if entry & ACTIVE_LOW == 0 { "active-hi" } else { "active-lo" };
    let trigger = if entry & LEVEL == 0 { "edge " } else { "level" };
    let masked = if entry & MASKED == 0 { "      " } else { "masked" };
    format!("{polarity} {trigger} {masked}{}", if entry & PENDING == 0 { "" } else { " pending" })
}

fn delivery(entry: u64) -> &'static str {
    match Delivery::from_bits(entry as u32) {
        Delivery::Fixed => "fixed",
        Delivery::LowestPriority => "lowest",
        Delivery::Smi => "SMI",
        Delivery::Nmi => "NMI",
        Delivery::Init => "INIT",
        Delivery::StartUp => "SIPI",
        Delivery::ExtInt => "ExtINT",
        Delivery::Reserved => "reserved",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn controllers() -> InterruptControllers {
        let mut redirection = [MASKED; INPUTS];
        redirection[1] = 0x31;
        redirection[11] = 3 << 56 | REMOTE_IRR | LEVEL | ACTIVE_LOW | LOGICAL | 1 << 8 | 0x59;
        let master = PicView { irr: 1, imr: 0xfa, isr: 2, base: 8, ..PicView::default() };
        InterruptControllers {
            pics: [master, PicView { base: 0x70, elcr: 0x0c, highest: 3, special_nested: true, ..PicView::default() }],
            io_apic: IoApicView { id: 0, index: 0x27, asserted: 1 << 11 | 1 << 2, redirection },
            local_apic: Some(LocalApicView {
                spurious: 0x1ff,
                table: vec![("LVTT", 0x200ec), ("LVT0", 0x1_0700), ("LVT1", 0x400)],
                timer: (6250, 17, 16),
                in_service: vec![(0x31, false), (0x59, true)],
                destination_format: u32::MAX,
                ..LocalApicView::default()
            }),
        }
    }

    #[test]
    fn the_8259s_and_the_io_apic_show_their_registers() {
        let text = pic_in_words(&controllers());
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        has("pic0: irr=01 imr=fa isr=02 hprio=0 irq_base=08 rr_sel=0 elcr=00 fnm=0");
        has("pic1: irr=00 imr=00 isr=00 hprio=3 irq_base=70 rr_sel=0 elcr=0c fnm=1");
        has("  pin 1  0x0000000000000031 dest=0   vec=49  active-hi edge         fixed physical");
        has("  pin 2  0x0000000000010000 dest=0   vec=0   active-hi edge  masked fixed physical");
        has("  pin 11 0x030000000000e959 dest=3   vec=89  active-lo level        lowest logical");
        has("  asserted   2 11");
        has("  Remote IRR 11");
    }

    #[test]
    fn the_local_apic_shows_its_table_timer_and_vectors_or_says_that_it_is_not_there() {
        let mut controllers = controllers();
        let text = local_apic_in_words(&controllers).unwrap();
        for line in [
            "LVTT     0x000200ec active-hi edge         periodic (vec 236)",
            "LVT0     0x00010700 active-hi edge  masked ExtINT (vec 0)",
            "LVT1     0x00000400 active-hi edge         NMI (vec 0)",
            "Timer    divide by 16, initial_count = 6250 current_count = 17",
            "SPIV     0x000001ff APIC enabled, spurious vec 255",
            "ISR      49 89 (level)",
            "IRR      (none)",
            "ID 0x00 TPR 0x00 PPR 0x00 DFR 0xffffffff LDR 0x00",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        controllers.local_apic = None;
        assert!(local_apic_in_words(&controllers).unwrap_err().contains("no local APIC"));
    }
}
