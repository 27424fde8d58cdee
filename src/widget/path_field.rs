//! A path that can be typed or chosen.

use eframe::egui;

/// Draws the field with its button; true when the person wants the desktop's file chooser.
pub fn path_field_ui(ui: &mut egui::Ui, name: &str, path: &mut String, hint: &str) -> bool {
    let mut choose = false;
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 100.0).max(120.0);
        ui.add(egui::TextEdit::singleline(path).hint_text(hint).desired_width(width)).accessible_name(name);
        choose = ui.button("Choose…").accessible_name(format!("Choose {name}")).clicked();
    });
    choose
}
