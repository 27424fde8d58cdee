//! All commands, by name.

use eframe::egui::{self, Key};

use super::Dialog;
use crate::app::App;
use crate::ui_command::UiCommand;

impl App {
    pub(super) fn palette_ui(&mut self, context: &egui::Context, mut query: String, mut at: usize) -> Option<Dialog> {
        let id = self.selected.clone().unwrap_or_default();
        let wanted = query.to_lowercase();
        let mut rows: Vec<UiCommand> = UiCommand::ALL
            .into_iter()
            .filter(|command| *command != UiCommand::Palette && self.offered(*command, &id))
            .filter(|command| command.text().to_lowercase().contains(&wanted))
            .collect();
        rows.sort_by_key(|command| self.available(*command, &id).is_err());
        let (down, up, enter) = context.input_mut(|input| {
            (
                input.consume_key(egui::Modifiers::NONE, Key::ArrowDown),
                input.consume_key(egui::Modifiers::NONE, Key::ArrowUp),
                input.consume_key(egui::Modifiers::NONE, Key::Enter),
            )
        });
        at = (at + usize::from(down)).saturating_sub(usize::from(up)).min(rows.len().saturating_sub(1));
        let mut chosen = if enter { rows.get(at).copied() } else { None };
        let modal = egui::Modal::new(egui::Id::unique("palette")).frame(super::frame(context)).show(context, |ui| {
            ui.set_width(460.0_f32.min(context.content_rect().width() - 40.0));
            let field = egui::TextEdit::singleline(&mut query)
                .hint_text("What do you want to do?")
                .desired_width(f32::INFINITY);
            let response = ui.add(field).accessible_name("Find a command");
            response.request_focus();
            if response.changed() {
                at = 0;
            }
            egui::ScrollArea::vertical().max_height(360.0).show(ui, |ui| {
                for (index, command) in rows.iter().enumerate() {
                    let available = self.available(*command, &id);
                    let mut row = egui::Button::selectable(index == at, command.text())
                        .min_size(egui::vec2(ui.available_width(), 0.0));
                    if let Some(shortcut) = command.shortcut() {
                        row = row.shortcut_text(ui.ctx().format_shortcut(&shortcut));
                    }
                    let response = ui.add_enabled(available.is_ok(), row);
                    if index == at && (down || up) {
                        response.scroll_to_me(None);
                    }
                    if let Err(reason) = available {
                        response.on_disabled_hover_text(reason);
                    } else if response.on_hover_text(command.tooltip()).clicked() {
                        chosen = Some(*command);
                    }
                }
            });
        });
        if let Some(command) = chosen {
            self.wish(command);
            return None;
        }
        if modal.should_close() { None } else { Some(Dialog::Palette { query, at }) }
    }
}
