//! A path that can be typed or chosen.

use eframe::egui;

/// Draws the field with its button; true when the person wants the desktop's file chooser.
pub fn path_field_ui(ui: &mut egui::Ui, name: &str, path: &mut String, hint: &str) -> bool {
    field_ui(ui, name, path, hint, false)
}

/// The same, as the first field of something just opened: it gets the focus where `fresh`.
pub fn first_path_field_ui(ui: &mut egui::Ui, name: &str, path: &mut String, hint: &str, fresh: bool) -> bool {
    field_ui(ui, name, path, hint, fresh)
}

fn field_ui(ui: &mut egui::Ui, name: &str, path: &mut String, hint: &str, fresh: bool) -> bool {
    let mut choose = false;
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 100.0).max(120.0);
        let field = ui.add(egui::TextEdit::singleline(path).hint_text(hint).desired_width(width)).accessible_name(name);
        if fresh {
            field.request_focus();
        }
        choose = ui.button("Choose…").accessible_name(format!("Choose {name}")).clicked();
    });
    choose
}
