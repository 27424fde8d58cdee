//! The Insight tab: figures of the running machine.

use eframe::egui;
use vm_core::runner::Statistics;

use crate::app::App;
use crate::library::{Accelerator, Place};

impl App {
    pub(super) fn insight_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        ui.heading("Insight");
        let Some(session) = self.sessions.get(id) else {
            ui.weak("Figures appear here while the machine is on.");
            return;
        };
        let figures = session.statistics;
        let mut rows = vec![
            ("Speed while it works", format!("{:.1} million instructions a second", figures.mips)),
            ("Engine", figures.engine.map_or("", Accelerator::label).to_owned()),
            ("Instructions executed", grouped(figures.instructions)),
            ("Guest time since power-on", format!("{:.1} s", figures.guest_time as f64 / 1e9)),
            ("Latest timer tick was late by", format!("{:.3} ms", figures.timer_lateness as f64 / 1e6)),
        ];
        if let Some(frame) = &session.frame {
            let kind = if frame.text.is_some() { "text" } else { "graphics" };
            rows.push((
                "Screen",
                format!("{} × {}, {kind}, picture {}", frame.width, frame.height, grouped(frame.sequence)),
            ));
        }
        for (place, requests) in Place::ALL.into_iter().zip(figures.disk_requests) {
            if requests > 0 {
                rows.push((place.label(), format!("{} requests", grouped(requests))));
            }
        }
        rows.extend(engine_rows(&figures));
        egui::Grid::new("figures").num_columns(2).striped(true).spacing([24.0, 8.0]).show(ui, |ui| {
            for (name, value) in rows {
                ui.label(name);
                ui.monospace(value);
                ui.end_row();
            }
        });
    }
}

/// What the engine does.
fn engine_rows(figures: &Statistics) -> Vec<(&'static str, String)> {
    let code = figures.code;
    let (exits, leaves) = (code.exits, code.leaves);
    let mut rows = vec![
        ("Blocks translated", format!("{}, with {} instructions", grouped(code.blocks), grouped(code.instructions))),
        (
            "Translations dropped",
            format!(
                "{} overwritten, {} the oldest, everything {} times",
                grouped(code.killed),
                grouped(code.aged),
                grouped(code.flushes)
            ),
        ),
        ("Turns of the engine", grouped(code.dispatches)),
        ("Exceptions, interrupts", format!("{}, {}", grouped(code.faults), grouped(code.interrupts))),
        (
            "Came back for",
            format!(
                "end of a slice {}, attention {}, halt {}",
                grouped(exits.budget),
                grouped(exits.attention),
                grouped(exits.halted)
            ),
        ),
        ("TLB misses", grouped(figures.tlb_misses)),
        ("Interpreter", format!("{:.0} million instructions a second", code.interpreter.mips())),
    ];
    if figures.engine.is_some_and(|engine| engine != Accelerator::Interpreter) {
        let nanos = code.native_nanos as f64 / code.native_instructions.max(1) as f64;
        rows.extend([
            ("Native code", format!("{:.0} million instructions a second", code.native.mips())),
            (
                "Native code made",
                format!(
                    "{} blocks, {} KiB, {:.0} ms ({nanos:.0} ns an instruction)",
                    grouped(code.native_blocks),
                    grouped(code.native_bytes / 1024),
                    code.native_nanos as f64 / 1e6
                ),
            ),
            (
                "Native code left",
                format!(
                    "by a way {}, at an indirect jump {}, for an op {}",
                    grouped(leaves.way),
                    grouped(leaves.jump),
                    grouped(leaves.op)
                ),
            ),
            ("Ops it left to the interpreter", grouped(code.native_calls)),
        ]);
    }
    if figures.engine == Some(Accelerator::Cranelift) {
        let text = format!(
            "{}, {} KiB, {:.0} ms; {} instructions executed",
            grouped(code.regions),
            grouped(code.region_bytes / 1024),
            code.region_nanos as f64 / 1e6,
            grouped(code.region_executed)
        );
        rows.push(("Loops compiled", text));
    }
    rows
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_grouped() {
        assert_eq!(super::grouped(7), "7");
        assert_eq!(super::grouped(1_234_567), "1,234,567");
        assert_eq!(super::grouped(100_000), "100,000");
    }
}
