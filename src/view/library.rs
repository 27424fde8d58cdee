//! Left: the machines, a card each.

use eframe::egui::{self, Role, Sense, WidgetInfo};

use crate::app::App;
use crate::theme::{self, Tone};
use crate::ui_command::UiCommand;
use crate::widget::button;

/// Width and height of a thumbnail.
const THUMBNAIL: egui::Vec2 = egui::vec2(64.0, 48.0);
const THUMBNAIL_FOLDED: egui::Vec2 = egui::vec2(40.0, 30.0);

impl App {
    pub(super) fn library_ui(&mut self, ui: &mut egui::Ui, folded: bool) {
        egui::Panel::bottom("new")
            .frame(egui::Frame::new().inner_margin(egui::Margin::symmetric(0, 4)))
            .show_separator_line(false)
            .show(ui, |ui| {
                let text = if folded { "+" } else { "+ New" };
                let button = egui::Button::new(text).min_size(egui::vec2(ui.available_width(), 32.0));
                let tooltip = button::with_shortcut(ui, UiCommand::NewMachine);
                if ui.add(button).on_hover_text(tooltip).accessible_name("New machine").clicked() {
                    self.wish(UiCommand::NewMachine);
                }
            });
        egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = theme::STEP;
            if !folded {
                ui.weak("Library");
            }
            let ids: Vec<String> = self.entries.iter().map(|entry| entry.id.clone()).collect();
            for id in ids {
                self.card_ui(ui, &id, folded);
            }
        });
    }

    fn card_ui(&mut self, ui: &mut egui::Ui, id: &str, folded: bool) {
        let Some(entry) = self.entry(id) else { return };
        let name = entry.name().to_owned();
        let status = self.status(id);
        let words = status.words();
        let selected = self.selected.as_deref() == Some(id);
        let thumbnail = if folded { THUMBNAIL_FOLDED } else { THUMBNAIL };
        let height = thumbnail.y + theme::STEP * 4.0;
        let (rect, response) = ui.allocate_exact_size(egui::vec2(ui.available_width(), height), Sense::click());
        response.widget_info(|| WidgetInfo::selected(Role::ListBoxOption, true, selected, format!("{name}, {words}")));
        if ui.is_rect_visible(rect) {
            let painter = ui.painter_at(rect);
            let back = if selected {
                Some(Tone::Selected)
            } else if response.hovered() {
                Some(Tone::Hover)
            } else {
                None
            };
            if let Some(tone) = back {
                painter.rect_filled(rect, theme::CORNER, theme::colour(ui, tone));
            }
            if response.has_focus() {
                painter.rect_stroke(
                    rect.shrink(1.0),
                    theme::CORNER,
                    ui.visuals().selection.stroke,
                    egui::StrokeKind::Inside,
                );
            }
            let at = egui::Rect::from_min_size(rect.min + egui::vec2(theme::STEP * 2.0, theme::STEP * 2.0), thumbnail);
            painter.rect_filled(at, 2, egui::Color32::BLACK);
            if let Some((texture, aspect)) = self.picture_of(ui.ctx(), id) {
                let dim = if self.sessions.contains_key(id) { 255 } else { 140 };
                painter.image(texture, fit(at, aspect), full_uv(), egui::Color32::from_gray(dim));
            }
            let dot = theme::colour(ui, status.tone());
            if folded {
                painter.circle_filled(at.right_bottom(), 5.0, dot);
            } else {
                let left = at.right() + theme::STEP * 2.0;
                let width = rect.right() - left - theme::STEP;
                let text = |text: &str, size: f32, colour| {
                    let mut job = egui::text::LayoutJob::simple_singleline(
                        text.to_owned(),
                        egui::FontId::proportional(size),
                        colour,
                    );
                    job.wrap = egui::text::TextWrapping::truncate_at_width(width);
                    ui.painter().layout_job(job)
                };
                let title = text(&name, theme::TYPE_BODY, ui.visuals().strong_text_color());
                painter.galley(egui::pos2(left, at.center().y - 18.0), title, egui::Color32::PLACEHOLDER);
                painter.circle_filled(egui::pos2(left + 4.0, at.center().y + 10.0), 4.0, dot);
                let state = text(&words, theme::TYPE_SMALL, dot);
                painter.galley(egui::pos2(left + 14.0, at.center().y + 2.0), state, egui::Color32::PLACEHOLDER);
            }
        }
        if response.clicked() || response.secondary_clicked() {
            self.selected = Some(id.to_owned());
        }
        if response.double_clicked() {
            let command = match self.primary(id) {
                UiCommand::Resume => UiCommand::Resume,
                _ => UiCommand::Start,
            };
            self.wish_for(command, id);
        }
        let response = response.on_hover_text(if folded {
            format!("{name}, {words}")
        } else {
            "Double-click starts or resumes; right-click has every action".into()
        });
        response.context_menu(|ui| {
            for command in [
                UiCommand::Start,
                UiCommand::Resume,
                UiCommand::SaveAndClose,
                UiCommand::Pause,
                UiCommand::Reset,
                UiCommand::PowerButton,
                UiCommand::PowerOff,
                UiCommand::DiscardState,
                UiCommand::TabSettings,
                UiCommand::ExportMachine,
                UiCommand::RemoveMachine,
            ] {
                if button::menu_row_ui(ui, command, self.available(command, id)) {
                    self.wish_for(command, id);
                }
            }
        });
    }

    /// The live picture of a machine, or its last one.
    pub(super) fn picture_of(&mut self, context: &egui::Context, id: &str) -> Option<(egui::TextureId, f32)> {
        if let Some(session) = self.sessions.get(id)
            && let (Some(texture), Some(frame)) = (&session.texture, &session.frame)
        {
            return Some((texture.id(), frame.aspect));
        }
        if let Some((texture, aspect)) = self.pictures.get(id) {
            return Some((texture.id(), *aspect));
        }
        let picture = self.entry(id)?.picture.as_ref()?;
        let size = [picture.width as usize, picture.height as usize];
        let image = egui::ColorImage::from_rgba_unmultiplied(size, &picture.rgba);
        let aspect = picture.aspect;
        let texture = context.load_texture("last picture", image, egui::TextureOptions::LINEAR);
        let texture_id = texture.id();
        self.pictures.insert(id.to_owned(), (texture, aspect));
        Some((texture_id, aspect))
    }
}

/// The whole of a texture.
pub(crate) fn full_uv() -> egui::Rect {
    egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0))
}

/// The largest rectangle of this shape in the middle of `space`.
pub(crate) fn fit(space: egui::Rect, aspect: f32) -> egui::Rect {
    let aspect = if aspect.is_finite() && aspect > 0.0 { aspect } else { 4.0 / 3.0 };
    let size = if space.width() / space.height() > aspect {
        egui::vec2(space.height() * aspect, space.height())
    } else {
        egui::vec2(space.width(), space.width() / aspect)
    };
    egui::Rect::from_center_size(space.center(), size)
}
