//! Buttons of actions.

use eframe::egui::{self, RichText};

use crate::theme::{self, Tone};
use crate::ui_command::UiCommand;

/// Labels of menus, with room for the arrow.
pub const MENU_KEYS: &str = "Keys    ";
/// The same.
pub const MENU_DRIVES: &str = "Drives    ";
/// The same.
pub const MENU_MORE: &str = "More    ";

/// Draws the arrow of a menu over the end of its button (the fonts have no such letter).
pub fn arrow_ui(ui: &egui::Ui, response: &egui::Response) {
    let colour = ui.style().interact(response).text_color();
    let colour = if ui.is_enabled() { colour } else { colour.gamma_multiply(ui.visuals().disabled_alpha) };
    let at = response.rect.right_center() - egui::vec2(theme::STEP * 3.5, 0.0);
    let points = [egui::vec2(-4.0, -2.0), egui::vec2(4.0, -2.0), egui::vec2(0.0, 3.0)].map(|offset| at + offset);
    ui.painter().add(egui::Shape::convex_polygon(points.to_vec(), colour, egui::Stroke::NONE));
}

/// The one button in the accent colour.
pub fn primary_ui(ui: &mut egui::Ui, text: &str) -> egui::Response {
    let button = primary(ui, text);
    let response = ui.add(button);
    focus_ring(ui, &response);
    response
}

fn primary(ui: &egui::Ui, text: &str) -> egui::Button<'static> {
    let colour = theme::colour(ui, Tone::OnAccent);
    egui::Button::new(RichText::new(text).color(colour).strong())
        .fill(theme::colour(ui, Tone::Accent))
        .min_size(egui::vec2(0.0, theme::STEP * 8.0))
        .wrap_mode(egui::TextWrapMode::Extend)
}

/// The accent colour cannot be seen on the accent colour: the ring goes around.
fn focus_ring(ui: &egui::Ui, response: &egui::Response) {
    if response.has_focus() {
        let stroke = egui::Stroke::new(2.0, ui.visuals().strong_text_color());
        ui.painter().rect_stroke(response.rect.expand(1.0), theme::CORNER, stroke, egui::StrokeKind::Outside);
    }
}

/// The button of an action; disabled, with the reason as its tooltip, where `available` says no.
pub fn command_ui(ui: &mut egui::Ui, command: UiCommand, primary: bool, available: Result<(), &str>) -> bool {
    let button = if primary {
        self::primary(ui, command.text())
    } else {
        egui::Button::new(command.text()).wrap_mode(egui::TextWrapMode::Extend)
    };
    let response = ui.add_enabled(available.is_ok(), button);
    if primary {
        focus_ring(ui, &response);
    }
    let tooltip = with_shortcut(ui, command);
    match available {
        Ok(()) => response.on_hover_text(tooltip).clicked(),
        Err(reason) => {
            response.on_disabled_hover_text(reason);
            false
        }
    }
}

/// The row of an action in a menu.
pub fn menu_row_ui(ui: &mut egui::Ui, command: UiCommand, available: Result<(), &str>) -> bool {
    menu_row_named_ui(ui, command, command.text(), available)
}

/// The same under a shorter name, where the menu says what it is about.
pub fn menu_row_named_ui(ui: &mut egui::Ui, command: UiCommand, name: &str, available: Result<(), &str>) -> bool {
    let mut button = egui::Button::new(name);
    if let Some(shortcut) = command.shortcut() {
        button = button.shortcut_text(ui.ctx().format_shortcut(&shortcut));
    }
    let response = ui.add_enabled(available.is_ok(), button);
    let clicked = match available {
        Ok(()) => response.on_hover_text(command.tooltip()).clicked(),
        Err(reason) => {
            response.on_disabled_hover_text(reason);
            false
        }
    };
    if clicked {
        ui.close();
    }
    clicked
}

/// The tooltip of an action with its keys.
pub fn with_shortcut(ui: &egui::Ui, command: UiCommand) -> String {
    match command.shortcut() {
        Some(shortcut) => format!("{} ({})", command.tooltip(), ui.ctx().format_shortcut(&shortcut)),
        None => command.tooltip().to_owned(),
    }
}
