//! The tree of snapshots: a tile each, newest right, lines from parent to child, and “now” at the end of the line on top.

mod layout;

use eframe::egui::{self, Key, Role, Sense, WidgetInfo};

pub use layout::{Node, Place, places};

use crate::theme::{self, Tone};

/// A tile.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    /// What it was taken from: an index into the same list.
    pub parent: Option<usize>,
    /// A number that grows with time.
    pub at: u64,
    /// The first line.
    pub name: String,
    /// The second line: when, and how large.
    pub details: String,
    /// It was made by Hako itself, and may go again by itself.
    pub automatic: bool,
    /// The guest's screen of that moment, and its shape.
    pub picture: Option<(egui::TextureId, f32)>,
}

/// What a person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Selected this tile (`None`: now).
    Select(Option<usize>),
    /// Wants to go back to it: Enter, or a double click.
    Restore(usize),
}

const PICTURE: egui::Vec2 = egui::vec2(128.0, 96.0);
const TILE: egui::Vec2 = egui::vec2(PICTURE.x + 16.0, PICTURE.y + 56.0);
const GAP: egui::Vec2 = egui::vec2(28.0, 16.0);

/// Draws the tree. `present`: what now goes on from. `selected`: `None` is now.
pub fn snapshot_tree_ui(
    ui: &mut egui::Ui,
    tiles: &[Tile],
    present: Option<usize>,
    selected: Option<usize>,
    now: &Tile,
) -> Option<Action> {
    let nodes: Vec<Node> = tiles.iter().map(|tile| Node { parent: tile.parent, at: tile.at }).collect();
    let (places, now_place) = places(&nodes, present);
    let lanes = places.iter().map(|place| place.lane).max().unwrap_or(0) + 1;
    let columns = now_place.column + 1;
    let pitch = TILE + GAP;
    let mut action = None;
    let scroll = egui::ScrollArea::both().auto_shrink([false, true]).stick_to_right(true);
    scroll.show(ui, |ui| {
        let size = egui::vec2(columns as f32 * pitch.x, lanes as f32 * pitch.y);
        let (whole, _) = ui.allocate_exact_size(size, Sense::empty());
        let rect_of = |place: Place| {
            let offset = egui::vec2(place.column as f32 * pitch.x, place.lane as f32 * pitch.y) + GAP / 2.0;
            egui::Rect::from_min_size(whole.min + offset, TILE)
        };
        let line = egui::Stroke::new(2.0, theme::colour(ui, Tone::Hairline));
        let on_the_way = egui::Stroke::new(2.0, theme::colour(ui, Tone::Accent));
        for (index, tile) in tiles.iter().enumerate() {
            if let Some(parent) = tile.parent.filter(|&parent| parent < tiles.len() && parent != index) {
                connect(ui, rect_of(places[parent]), rect_of(places[index]), line);
            }
        }
        let mut walk = present.filter(|&index| index < tiles.len());
        let mut below = rect_of(now_place);
        // At most so many steps: a ring that was read from a disk ends too.
        for _ in 0..tiles.len() {
            let Some(index) = walk else { break };
            let rect = rect_of(places[index]);
            connect(ui, rect, below, on_the_way);
            below = rect;
            walk = tiles[index].parent.filter(|&parent| parent < tiles.len() && parent != index);
        }
        let mut order: Vec<usize> = (0..tiles.len()).collect();
        order.sort_by_key(|&index| places[index].column);
        for index in order {
            let response = tile_ui(ui, rect_of(places[index]), &tiles[index], selected == Some(index), false);
            if response.clicked() || response.gained_focus() {
                action = Some(Action::Select(Some(index)));
            }
            if response.double_clicked()
                || response.has_focus() && ui.input(|input| input.key_pressed(Key::Enter)) && selected == Some(index)
            {
                action = Some(Action::Restore(index));
            }
        }
        let response = tile_ui(ui, rect_of(now_place), now, selected.is_none(), true);
        if response.clicked() || response.gained_focus() {
            action = Some(Action::Select(None));
        }
    });
    action
}

fn connect(ui: &egui::Ui, from: egui::Rect, to: egui::Rect, stroke: egui::Stroke) {
    let height = egui::vec2(0.0, 8.0 + PICTURE.y / 2.0);
    let (start, end) = (from.right_top() + height, to.left_top() + height);
    if (start.y - end.y).abs() < 1.0 {
        ui.painter().line_segment([start, end], stroke);
        return;
    }
    // Down (or up) beside the parent, then along the lane of the child.
    let turn = start.x + GAP.x / 2.0;
    ui.painter().line(vec![start, egui::pos2(turn, start.y), egui::pos2(turn, end.y), end], stroke);
}

fn tile_ui(ui: &egui::Ui, rect: egui::Rect, tile: &Tile, selected: bool, now: bool) -> egui::Response {
    let id = ui.scope_id().with(("tile", tile.at, &tile.name, now));
    let response = ui.interact(rect, id, Sense::click());
    response.widget_info(|| {
        WidgetInfo::selected(Role::ListBoxOption, true, selected, format!("{}, {}", tile.name, tile.details))
    });
    if !ui.is_rect_visible(rect) {
        return response;
    }
    let painter = ui.painter();
    let back = if selected {
        Tone::Selected
    } else if response.hovered() {
        Tone::Hover
    } else {
        Tone::Stage
    };
    painter.rect_filled(rect, theme::CORNER, theme::colour(ui, back));
    if response.has_focus() {
        painter.rect_stroke(rect, theme::CORNER, ui.visuals().selection.stroke, egui::StrokeKind::Inside);
    }
    let picture = egui::Rect::from_min_size(rect.min + egui::vec2(8.0, 8.0), PICTURE);
    painter.rect_filled(picture, 2, egui::Color32::BLACK);
    if let Some((texture, aspect)) = tile.picture {
        let uv = crate::view::full_uv();
        painter.image(texture, crate::view::fit(picture, aspect), uv, egui::Color32::WHITE);
    }
    let text = |text: &str, size: f32, colour| {
        let font = egui::FontId::proportional(size);
        let mut job = egui::text::LayoutJob::simple_singleline(text.to_owned(), font, colour);
        job.wrap = egui::text::TextWrapping::truncate_at_width(PICTURE.x);
        painter.layout_job(job)
    };
    let colour = if now { theme::colour(ui, Tone::Running) } else { ui.visuals().strong_text_color() };
    let name = text(&tile.name, theme::TYPE_BODY, if tile.automatic { ui.visuals().weak_text_color() } else { colour });
    painter.galley(picture.left_bottom() + egui::vec2(0.0, 6.0), name, egui::Color32::PLACEHOLDER);
    let details = text(&tile.details, theme::TYPE_SMALL, ui.visuals().weak_text_color());
    painter.galley(picture.left_bottom() + egui::vec2(0.0, 26.0), details, egui::Color32::PLACEHOLDER);
    response
}

#[cfg(test)]
mod tests {
    use egui_kittest::Harness;
    use egui_kittest::kittest::Queryable;

    use super::*;

    #[derive(Default)]
    struct State {
        selected: Option<usize>,
        actions: Vec<Action>,
    }

    fn tree() -> Harness<'static, State> {
        let tile =
            |name: &str, at, parent| Tile { name: name.into(), at, parent, details: "12:00".into(), ..Tile::default() };
        let tiles = vec![tile("First", 1, None), tile("Second", 2, Some(0)), tile("Aside", 3, Some(0))];
        let now = Tile { name: "now".into(), at: u64::MAX, ..Tile::default() };
        Harness::builder().with_size([900.0, 500.0]).build_ui_state(
            move |ui, state: &mut State| {
                theme::install(ui.ctx());
                if let Some(action) = snapshot_tree_ui(ui, &tiles, Some(1), state.selected, &now) {
                    if let Action::Select(index) = action {
                        state.selected = index;
                    }
                    state.actions.push(action);
                }
            },
            State::default(),
        )
    }

    #[test]
    fn tiles_are_selected_by_clicks_and_restored_by_the_keyboard() {
        let mut harness = tree();
        harness.get_by_label("Aside, 12:00").click();
        harness.run_steps(2);
        assert_eq!(harness.state().selected, Some(2));
        // Tab goes from tile to tile in the order of time, and Enter goes back to the one that is seen selected.
        harness.get_by_label("First, 12:00").focus();
        harness.run_steps(2);
        assert_eq!(harness.state().selected, Some(0));
        harness.key_press(Key::Tab);
        harness.run_steps(2);
        assert_eq!(harness.state().selected, Some(1));
        harness.key_press(Key::Enter);
        harness.run_steps(2);
        assert_eq!(harness.state().actions.last(), Some(&Action::Restore(1)));
    }
}
