//! The Insight tab: figures of the running machine.

use eframe::egui;

use crate::app::App;
use crate::library::Place;

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
            ("Engine", "interpreter".to_owned()),
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
        egui::Grid::new("figures").num_columns(2).striped(true).spacing([24.0, 8.0]).show(ui, |ui| {
            for (name, value) in rows {
                ui.label(name);
                ui.monospace(value);
                ui.end_row();
            }
        });
    }
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
