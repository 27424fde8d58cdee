//! The guest's screen, or what the machine is while it is off.

use eframe::egui::{self, Role, Sense, WidgetInfo};
use vm_core::runner::{Command, RunState};

use super::library::{fit, full_uv};
use crate::app::{App, Status, Tab, local_time};
use crate::grab::Area;
use crate::library::{Entry, Machine, Presence};
use crate::session::Banner;
use crate::theme::{self, Tone};
use crate::ui_command::UiCommand;
use crate::widget::banner::banner_ui;
use crate::widget::{button, progress};

/// How long the hint of full screen is shown.
const HINT_SECONDS: f64 = 4.0;

impl App {
    pub(super) fn screen_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let stage = if self.full_screen { egui::Color32::BLACK } else { theme::colour(ui, Tone::Stage) };
        ui.painter().rect_filled(ui.max_rect(), 0, stage);
        if self.sessions.contains_key(id) {
            self.banners_ui(ui, id);
            self.guest_ui(ui, id);
        } else {
            self.off_ui(ui, id);
        }
    }

    fn banners_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let saving = session.state == RunState::Saving;
        if session.banners.is_empty() && !saving {
            return;
        }
        let banners = session.banners.clone();
        let progress = session.progress;
        egui::Frame::new().inner_margin(8).show(ui, |ui| {
            if saving {
                let (done, all) = progress.unwrap_or((0, 1));
                ui.horizontal(|ui| {
                    let text = format!("Saving: {} of {} MiB", done >> 20, all >> 20);
                    ui.add(progress::bar((done, all), text).desired_width(420.0));
                    if ui.button("Cancel").clicked() {
                        self.cancel_save(id);
                    }
                });
            }
            for banner in banners {
                match &banner {
                    Banner::TripleFault => {
                        let words = "The guest crashed so that its processor shut down (a triple fault). The machine is whole; only a reset goes on.";
                        match banner_ui(ui, "The guest's processor has shut down", words, &["Reset", "Power off…"]) {
                            Some(0) => self.send(id, Command::Reset),
                            Some(_) => self.wish(UiCommand::PowerOff),
                            None => {}
                        }
                    }
                    Banner::DiskError(words) => {
                        let steps = ["Try again", "Save & Close"];
                        match banner_ui(ui, "A disk of the host failed; the guest waits", words, &steps) {
                            Some(0) => self.send(id, Command::Resume),
                            Some(_) => self.wish(UiCommand::SaveAndClose),
                            None => {}
                        }
                    }
                    Banner::PoweredOff => {
                        let words = "The guest has switched itself off.";
                        match banner_ui(ui, "", words, &["Reset", "Power off…"]) {
                            Some(0) => self.send(id, Command::Reset),
                            Some(_) => self.wish(UiCommand::PowerOff),
                            None => {}
                        }
                    }
                    Banner::SaveFailed(words) => {
                        let steps = ["Save again", "Go on without saving"];
                        match banner_ui(ui, "It could not be saved; nothing is lost and the machine is paused", words, &steps) {
                            Some(0) => {
                                self.forget(id, &banner);
                                self.wish(UiCommand::SaveAndClose);
                            }
                            Some(_) => {
                                self.forget(id, &banner);
                                self.send(id, Command::Resume);
                            }
                            None => {}
                        }
                    }
                    Banner::Damaged(words) => {
                        let steps = ["Snapshots", "Power off…"];
                        match banner_ui(ui, "The guest's memory could not be loaded; it stands still", words, &steps) {
                            Some(0) => self.tab = Tab::Snapshots,
                            Some(_) => self.wish(UiCommand::PowerOff),
                            None => {}
                        }
                    }
                    Banner::Notice(words) => {
                        if banner_ui(ui, "", words, &["Dismiss"]).is_some() {
                            self.forget(id, &banner);
                        }
                    }
                }
            }
        });
    }

    fn send(&self, id: &str, command: Command) {
        if let Some(session) = self.sessions.get(id) {
            session.handle.send(command);
        }
    }

    fn forget(&mut self, id: &str, banner: &Banner) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.banners.retain(|other| other != banner);
        }
    }

    fn guest_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let one_to_one = self.preferences.one_to_one;
        let full_screen = self.full_screen;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let (Some(texture), Some(frame)) =
            (session.texture.as_ref().map(egui::TextureHandle::id), session.frame.clone())
        else {
            ui.centered_and_justified(|ui| ui.weak("The screen is dark."));
            return;
        };
        let natural = egui::vec2(frame.width as f32, frame.height as f32) / ui.ctx().pixels_per_point();
        let space = ui.available_rect_before_wrap();
        let space = if full_screen { space } else { space.shrink(theme::STEP * 2.0) };
        if space.width() < 1.0 || space.height() < 1.0 {
            return;
        }
        if one_to_one {
            session.set_sharp(true);
            let clicked = egui::ScrollArea::both()
                .auto_shrink(false)
                .show(ui, |ui| {
                    let inner = egui::vec2(natural.x.max(ui.available_width()), natural.y.max(ui.available_height()));
                    let (whole, _) = ui.allocate_exact_size(inner, Sense::empty());
                    let rect = egui::Rect::from_center_size(whole.center(), natural);
                    self.picture_ui(ui, id, texture, rect)
                })
                .inner;
            self.after_click(ui, id, clicked);
        } else {
            let rect = fit(space, frame.aspect);
            let scale = rect.size() / natural;
            let whole = |scale: f32| (scale - scale.round()).abs() < 0.01 && scale >= 0.99;
            session.set_sharp(whole(scale.x) && whole(scale.y));
            let clicked = self.picture_ui(ui, id, texture, rect);
            self.after_click(ui, id, clicked);
        }
    }

    /// Draws the picture with its hairline; says whether and how it was clicked.
    fn picture_ui(&self, ui: &mut egui::Ui, id: &str, texture: egui::TextureId, rect: egui::Rect) -> bool {
        let running = self.status(id) == Status::Running;
        let tint = if running { egui::Color32::WHITE } else { egui::Color32::from_gray(170) };
        ui.painter().image(texture, rect, full_uv(), tint);
        let has_keyboard = self.grab.borrow().keyboard() == Some(id);
        let line = if has_keyboard { Tone::Accent } else { Tone::Hairline };
        let stroke = egui::Stroke::new(1.0, theme::colour(ui, line));
        if self.full_screen {
            self.full_screen_hint_ui(ui, has_keyboard);
        } else {
            ui.painter().rect_stroke(rect, 0, stroke, egui::StrokeKind::Outside);
        }
        let response = ui.interact(rect, ui.scope_id().with("guest"), Sense::click());
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, "Guest's screen"));
        self.screen_rect.set(Some(rect));
        self.tell_grab_where(ui, rect);
        if response.has_focus() {
            ui.painter().rect_stroke(rect, 0, ui.visuals().selection.stroke, egui::StrokeKind::Outside);
        }
        response.clicked()
    }

    /// The guest that takes places of the pointer needs to know where its picture is, in pixels of the window.
    fn tell_grab_where(&self, ui: &egui::Ui, rect: egui::Rect) {
        let scale = f64::from(ui.ctx().pixels_per_point());
        let seen = rect.intersect(ui.clip_rect());
        let area = (seen.width() >= 1.0 && seen.height() >= 1.0).then(|| Area {
            left: f64::from(rect.left()) * scale,
            top: f64::from(rect.top()) * scale,
            width: f64::from(rect.width()) * scale,
            height: f64::from(rect.height()) * scale,
        });
        self.grab.borrow_mut().set_picture(area);
    }

    /// In full screen there is no status line: how to get out is said for a moment.
    fn full_screen_hint_ui(&self, ui: &egui::Ui, has_keyboard: bool) {
        let words =
            if has_keyboard { "Ctrl-Alt gives the keyboard back" } else { "F11 leaves full screen; a click types" };
        let id = egui::Id::unique("full screen hint");
        let now = ui.input(|input| input.time);
        let since = ui.data_mut(|data| {
            let seen = data.get_temp_mut_or_insert_with(id, || (has_keyboard, now));
            // Shown again when what it says changes, and when full screen begins anew.
            if seen.0 != has_keyboard || now - seen.1 > HINT_SECONDS && self.hint_wanted.take() {
                *seen = (has_keyboard, now);
            }
            now - seen.1
        });
        if since < HINT_SECONDS {
            let at = ui.max_rect().center_top() + egui::vec2(0.0, theme::STEP * 6.0);
            let font = egui::FontId::proportional(theme::TYPE_BODY);
            let galley = ui.painter().layout_no_wrap(words.to_owned(), font, ui.visuals().strong_text_color());
            let rect = egui::Rect::from_center_size(at, galley.size()).expand2(egui::vec2(12.0, 8.0));
            ui.painter().rect_filled(rect, theme::CORNER, ui.visuals().panel_fill);
            ui.painter().galley(rect.min + egui::vec2(12.0, 8.0), galley, egui::Color32::PLACEHOLDER);
            ui.ctx().request_repaint_after(std::time::Duration::from_millis(250));
        }
    }

    fn after_click(&mut self, ui: &egui::Ui, id: &str, clicked: bool) {
        if clicked {
            // Enter on the focused screen gives the keyboard only.
            let by_pointer = ui.input(|input| input.pointer.any_released());
            let context = ui.ctx().clone();
            self.give_keyboard(id, by_pointer, &context);
            if by_pointer {
                self.grab.borrow_mut().click_too();
            }
        }
    }

    fn off_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let space = ui.max_rect().shrink(theme::STEP * 2.0);
        if let Some((texture, aspect)) = self.picture_of(ui.ctx(), id) {
            let rect = fit(space, aspect);
            let dim = if ui.visuals().dark_mode { 70 } else { 90 };
            ui.painter().image(texture, rect, full_uv(), egui::Color32::from_gray(dim));
        }
        let Some(entry) = self.entry(id) else { return };
        let name = entry.name().to_owned();
        let trouble = entry.trouble().cloned().or_else(|| self.troubles.get(id).cloned());
        let readable = entry.machine.is_ok();
        let lines = entry.machine.as_ref().map(describe).unwrap_or_default();
        let saved = entry.saved.is_some();
        let note = left_words(entry);
        let status = self.status(id);
        ui.vertical_centered(|ui| {
            ui.add_space((ui.available_height() * 0.22).clamp(8.0, 200.0));
            egui::Frame::popup(ui.style()).inner_margin(20).show(ui, |ui| {
                ui.set_width((ui.available_width() - 40.0).min(440.0));
                ui.vertical(|ui| {
                    ui.heading(&name);
                    ui.horizontal(|ui| {
                        crate::widget::state_dot::dot_ui(ui, status.tone(), true);
                        ui.label(status.words());
                    });
                    if let Some(trouble) = &trouble {
                        ui.add_space(4.0);
                        ui.colored_label(theme::colour(ui, Tone::Attention), &trouble.what);
                        ui.label(&trouble.next);
                    }
                    if let Some(note) = &note {
                        ui.add_space(4.0);
                        ui.label(note);
                    }
                    ui.add_space(4.0);
                    for line in &lines {
                        ui.weak(line);
                    }
                    ui.add_space(8.0);
                    ui.horizontal_wrapped(|ui| {
                        let primary = self.primary(id);
                        if button::command_ui(ui, primary, true, self.available(primary, id)) {
                            self.wish(primary);
                        }
                        if trouble.is_some() {
                            if ui.button("Look again").on_hover_text(UiCommand::LookAgain.tooltip()).clicked() {
                                self.wish(UiCommand::LookAgain);
                            }
                            if readable && ui.button("Settings").clicked() {
                                self.tab = Tab::Settings;
                            }
                        }
                        if saved && ui.button(UiCommand::DiscardState.text()).clicked() {
                            self.wish(UiCommand::DiscardState);
                        }
                    });
                });
            });
        });
    }
}

/// What it means that a machine was not closed when it was last on, and what is safe now.
fn left_words(entry: &Entry) -> Option<String> {
    let Presence::Left(left) = entry.presence else { return None };
    let since = local_time(left.since);
    let writes = entry.machine.as_ref().is_ok_and(Machine::writes_to_media);
    let mut words = format!(
        "It was {} at {since} and never closed: Hako or the computer ended under it. ",
        if left.resumed { "resumed" } else { "switched on" }
    );
    words.push_str(match (entry.saved.is_some(), writes) {
        (false, _) => "For the guest it was as if the plug had been pulled; what it had written is on its disks.",
        (true, false) => {
            "Resume goes back to the saved state once more. No disk of it can have gone on since, so that is safe."
        }
        (true, true) => {
            "Resume goes back to the saved state once more, if its disks are still as they were then. If the guest has written \
             to one since, Resume says which and changes nothing."
        }
    });
    Some(words)
}

/// What a machine is, a line each.
fn describe(machine: &crate::library::Machine) -> Vec<String> {
    let engine = machine.accelerator.label();
    let mut lines = vec![format!("{} MiB of memory, {} processor, {engine}", machine.memory_mib, machine.processor)];
    let shorten = |path: &std::path::Path| {
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    };
    for drive in &machine.drives {
        let what = match drive.kind() {
            vm_core::config::DriveKind::Disk => "Disk",
            vm_core::config::DriveKind::Cd => "CD",
            vm_core::config::DriveKind::Floppy => "Floppy",
        };
        let medium = drive.path.as_deref().map_or_else(|| "empty".to_owned(), shorten);
        lines.push(format!("{what} ({}): {medium}", drive.place.name()));
    }
    if let Some(kernel) = &machine.kernel {
        lines.push(format!("Kernel: {}", shorten(kernel)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use egui_kittest::kittest::Queryable as _;

    use crate::library::{Drive, Hold, Library, Machine, Place};
    use crate::view::tests::{data, manager};

    /// What the window says of a machine that was left behind.
    fn left(test: &str, saved: bool, writes: bool, words: &str) {
        let data = data(test);
        let library = Library::new(data.clone());
        let mut machine = Machine { name: "One".into(), ..Machine::default() };
        std::fs::write(data.join("a.img"), [0; 512]).unwrap();
        let drive = Drive { read_only: !writes, ..Drive::new(Place::FloppyA, false, Some(data.join("a.img"))) };
        machine.set_drive(Place::FloppyA, Some(drive));
        let id = library.create(&machine).unwrap();
        let folder = library.folder(&id);
        if saved {
            std::fs::create_dir(folder.join("state")).unwrap();
            std::fs::write(folder.join("state/state.ron"), "").unwrap();
        }
        drop(Hold::take(&folder, saved).unwrap());
        let harness = manager(data.clone());
        assert!(harness.query_by_label_contains(words).is_some(), "{words}");
        std::fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn a_machine_that_was_left_behind_says_what_is_safe() {
        left("left-off", false, true, "as if the plug had been pulled");
        left("left-safe", true, false, "so that is safe");
        left("left-writes", true, true, "Resume says which and changes nothing");
    }

    #[test]
    fn a_machine_of_another_window_is_not_started_here() {
        let data = data("elsewhere");
        let library = Library::new(data.clone());
        let id = library.create(&Machine { name: "One".into(), ..Machine::default() }).unwrap();
        let hold = Hold::take(&library.folder(&id), false).unwrap();
        let harness = manager(data.clone());
        harness.get_by_label("One, on in another window");
        assert!(harness.state().as_ref().unwrap().available(crate::ui_command::UiCommand::Start, &id).is_err());
        hold.close();
        std::fs::remove_dir_all(data).unwrap();
    }
}
