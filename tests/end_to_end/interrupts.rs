//! What Linux makes of the machine's interrupt controllers, timers and power management.

use std::time::Duration;

use serde_json::json;

use crate::files::Folder;
use crate::guest::{Guest, PATIENCE, wait_until};
use crate::linux::Linux;
use crate::linux::serial::Line;

/// Linux at the shell on its serial line.
struct Shell {
    guest: Guest,
    line: Line,
}

impl Shell {
    fn start(name: &str, append: &str) -> Self {
        let append = format!("console=ttyS0 {append}");
        let linux = Linux { append: &append, ..Linux::default() };
        let (guest, line) = linux.start_to_shell(Folder::new(name), PATIENCE);
        Self { guest, line }
    }

    /// What a command prints.
    fn say(&mut self, command: &str) -> String {
        self.line.send(&format!("{command}\n"));
        let text = self.line.wait_for("\nguest# ");
        text.split_once('\n').map_or(String::new(), |(_, answer)| answer.to_owned())
    }

    /// The guest resets the machine and comes to its shell again.
    fn reboot(&mut self) {
        self.line.send("reboot\n");
        self.line.wait_for("Linux version");
        self.line.wait_for("Run /init");
        self.line.wait_for("guest# ");
    }

    /// How often an interrupt has come, and who says so.
    fn interrupts(&mut self, name: &str) -> (u64, String) {
        let table = self.say("cat /proc/interrupts");
        let row = table.lines().find(|row| row.contains(name)).unwrap_or_else(|| panic!("no {name} in\n{table}"));
        let count = row.split_whitespace().nth(1).and_then(|count| count.parse().ok());
        (count.unwrap_or_else(|| panic!("no count in {row}")), row.to_owned())
    }
}

#[test]
fn linux_takes_interrupts_from_the_apics_and_time_from_every_source() {
    let mut linux = Shell::start("apic", "");
    let (timer, row) = linux.interrupts("timer");
    assert!(timer > 0 && row.contains("IO-APIC"), "{row}");
    for name in ["ttyS0", "i8042", "rtc0"] {
        let (_, row) = linux.interrupts(name);
        assert!(row.contains("IO-APIC"), "{row}");
    }
    let (local, _) = linux.interrupts("LOC:");
    std::thread::sleep(Duration::from_secs(1));
    assert!(linux.interrupts("LOC:").0 > local, "the local APIC's timer ticks");
    for name in ["ERR:", "MIS:"] {
        assert_eq!(linux.interrupts(name).0, 0);
    }
    // The monitor shows the same controllers.
    let registers = linux.guest.monitor("info lapic");
    assert!(registers.contains("APIC enabled") && registers.contains("LVTT "), "{registers}");
    let registers = linux.guest.monitor("info pic");
    let pin = |number: &str| registers.lines().find(|line| line.starts_with(&format!("  pin {number:<2} "))).unwrap();
    assert!(
        !pin("4").contains("masked") && pin("3").contains("masked"),
        "the serial line's input is open: {registers}"
    );
    assert!(registers.contains("pic0: ") && registers.contains("irq_base=30"), "{registers}");
    let sources = linux.say("cat /sys/devices/system/clocksource/clocksource0/available_clocksource");
    for source in ["tsc", "hpet", "acpi_pm"] {
        assert!(sources.contains(source), "{sources}");
    }
    // The power button makes an event.
    let (before, row) = linux.interrupts("acpi");
    assert!(row.contains("fasteoi"), "by level: {row}");
    // This kernel has its driver for the button in a module: switch the event on in PM1 enable, as that would.
    linux.say("printf '\\001' | dd of=/dev/port bs=1 seek=$((0xb003))");
    linux.guest.command("system_powerdown", json!({}));
    wait_until("the power button's interrupt", || (linux.interrupts("acpi").0 > before).then_some(()));
    // The clock's alarm wakes it from idle sleep: with ACPI that is an event of the power management.
    let clock = "/sys/firmware/acpi/interrupts/ff_rt_clk";
    assert!(linux.say(&format!("cat {clock}")).trim_start().starts_with('0'));
    linux.say("echo +2 >/sys/class/rtc/rtc0/wakealarm; echo freeze >/sys/power/state");
    let said = linux.say(&format!("cat {clock}"));
    assert!(said.trim_start().starts_with('1'), "it was not the alarm that woke it: {said}");
    // A guest's reset comes back to the shell, and power-off is the end.
    linux.reboot();
    linux.line.send("poweroff\n");
    assert_eq!(linux.guest.ended(), 0, "{}", linux.guest.errors());
}

#[test]
fn an_idle_guest_wakes_the_host_seldom_and_misses_no_tick() {
    // This kernel ticks 250 times a second, whether there is something to do or not.
    let mut linux = Shell::start("idle", "");
    let mut look = || {
        let (ticks, _) = linux.interrupts("LOC:");
        let uptime = linux.say("cat /proc/uptime");
        let seconds: f64 = uptime.split_whitespace().next().and_then(|text| text.parse().ok()).expect("an uptime");
        (ticks, seconds, linux.guest.sleeps())
    };
    let (ticks_before, seconds_before, _) = look();
    std::thread::sleep(Duration::from_secs(1));
    let (_, _, sleeps_before) = look();
    std::thread::sleep(Duration::from_secs(5));
    let (ticks, seconds, sleeps) = look();
    let (ticks, seconds) = ((ticks - ticks_before) as f64, seconds - seconds_before);
    assert!(ticks > seconds * 240.0, "{ticks} ticks in {seconds} s");
    assert!(((sleeps - sleeps_before) as f64) < ticks / 3.0, "{sleeps_before} to {sleeps} sleeps for {ticks} ticks");
    linux.guest.quit();
}

#[test]
fn linux_does_without_the_io_apic() {
    let mut linux = Shell::start("noapic", "noapic");
    let (timer, row) = linux.interrupts("timer");
    assert!(timer > 0 && row.contains("XT-PIC"), "{row}");
    assert!(linux.interrupts("LOC:").0 > 0, "the local APIC is there");
    linux.line.send("poweroff\n");
    assert_eq!(linux.guest.ended(), 0, "{}", linux.guest.errors());
}

#[test]
fn linux_does_without_any_apic_and_without_acpi() {
    let mut linux = Shell::start("nolapic", "nolapic acpi=off");
    let (timer, row) = linux.interrupts("timer");
    assert!(row.contains("XT-PIC"), "{row}");
    std::thread::sleep(Duration::from_secs(1));
    assert!(linux.interrupts("timer").0 > timer, "the PC's own timer ticks");
    // Without ACPI it resets by way of the keyboard controller.
    linux.reboot();
    linux.guest.quit();
}
