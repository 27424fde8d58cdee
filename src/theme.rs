//! Colours, sizes and spacing: the only place that names them.

use eframe::egui::{self, Color32, CornerRadius, FontFamily, FontId, Margin, Stroke, TextStyle, Theme};

/// Corners of everything that has them.
pub const CORNER: u8 = 6;
/// The step of all spacing.
pub const STEP: f32 = 4.0;
/// Width of the library with names, and folded to pictures.
pub const LIBRARY_WIDTH: f32 = 224.0;
/// Width of the library when the window is narrow.
pub const LIBRARY_FOLDED: f32 = 64.0;
/// A window narrower than this folds the library.
pub const FOLD_BELOW: f32 = 760.0;
/// The three sizes of type.
pub const TYPE_SMALL: f32 = 12.0;
/// Body text.
pub const TYPE_BODY: f32 = 14.0;
/// Titles.
pub const TYPE_TITLE: f32 = 20.0;

/// What a colour is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The machine works, the action is the one.
    Accent,
    /// On the accent colour.
    OnAccent,
    /// It runs.
    Running,
    /// It waits for the person.
    Paused,
    /// It sleeps in a saved state.
    Saved,
    /// It is off.
    Off,
    /// It needs a look.
    Attention,
    /// Behind a calm message.
    Banner,
    /// The hairline around the guest's screen.
    Hairline,
    /// Behind a selected card.
    Selected,
    /// Behind cards under the pointer.
    Hover,
    /// Around the guest's screen.
    Stage,
}

/// The colour for a purpose in the present theme.
pub fn colour(ui: &egui::Ui, tone: Tone) -> Color32 {
    of(ui.visuals().dark_mode, tone)
}

fn of(dark: bool, tone: Tone) -> Color32 {
    let (in_dark, in_light) = match tone {
        Tone::Accent => (0x4c8dff, 0x1f5fd0),
        Tone::OnAccent => (0x06122b, 0xffffff),
        Tone::Running => (0x5fc27e, 0x126832),
        Tone::Paused => (0xe0b040, 0x7a5500),
        Tone::Saved => (0x7fb2ff, 0x1a52b8),
        Tone::Off => (0xa3a9b1, 0x5a606a),
        Tone::Attention => (0xff8a70, 0xa82c17),
        Tone::Banner => (0x33302a, 0xfff3d6),
        Tone::Hairline => (0x3c4148, 0xc3c8cf),
        Tone::Selected => (0x2b3648, 0xdbe7fb),
        Tone::Hover => (0x282c32, 0xe9ecf1),
        Tone::Stage => (0x17191c, 0xe4e7eb),
    };
    rgb(if dark { in_dark } else { in_light })
}

const fn rgb(value: u32) -> Color32 {
    Color32::from_rgb((value >> 16) as u8, (value >> 8) as u8, value as u8)
}

/// Gives both themes their looks.
pub fn install(context: &egui::Context) {
    for theme in [Theme::Dark, Theme::Light] {
        context.style_mut_of(theme, |style| style_of(style, theme == Theme::Dark));
    }
}

fn style_of(style: &mut egui::Style, dark: bool) {
    style.text_styles = [
        (TextStyle::Heading, FontId::new(TYPE_TITLE, FontFamily::Proportional)),
        (TextStyle::Body, FontId::new(TYPE_BODY, FontFamily::Proportional)),
        (TextStyle::Button, FontId::new(TYPE_BODY, FontFamily::Proportional)),
        (TextStyle::Monospace, FontId::new(TYPE_BODY, FontFamily::Monospace)),
        (TextStyle::Small, FontId::new(TYPE_SMALL, FontFamily::Proportional)),
    ]
    .into();
    style.spacing.item_spacing = egui::vec2(STEP * 2.0, STEP * 2.0);
    style.spacing.button_padding = egui::vec2(STEP * 3.0, STEP * 1.5);
    style.spacing.interact_size.y = STEP * 7.0;
    style.spacing.window_margin = Margin::same(20);
    style.spacing.menu_margin = Margin::same(8);
    style.animation_time = 0.08;
    let visuals = &mut style.visuals;
    let (panel, field, text, weak, button, hover, active, line) = if dark {
        (0x1f2226, 0x16181b, 0xe6e8eb, 0xa9b0b9, 0x30353c, 0x3a4049, 0x454c57, 0x3c4148)
    } else {
        (0xf6f7f9, 0xffffff, 0x1d2126, 0x565d66, 0xe3e7ec, 0xd7dce3, 0xc9d0d9, 0xc3c8cf)
    };
    visuals.panel_fill = rgb(panel);
    visuals.window_fill = rgb(panel);
    visuals.extreme_bg_color = rgb(field);
    visuals.faint_bg_color = rgb(if dark { 0x24282d } else { 0xeef0f3 });
    visuals.weak_text_color = Some(rgb(weak));
    visuals.window_stroke = Stroke::new(1.0, rgb(line));
    visuals.window_corner_radius = CornerRadius::same(CORNER);
    visuals.menu_corner_radius = CornerRadius::same(CORNER);
    visuals.warn_fg_color = of(dark, Tone::Paused);
    visuals.error_fg_color = of(dark, Tone::Attention);
    visuals.hyperlink_color = of(dark, Tone::Accent);
    visuals.selection.bg_fill = rgb(if dark { 0x2c3d5c } else { 0xd3e2fb });
    visuals.selection.stroke = Stroke::new(2.0, rgb(if dark { 0xa9c8ff } else { 0x1a52b8 }));
    visuals.disabled_alpha = 0.6;
    let widgets = &mut visuals.widgets;
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, rgb(line));
    for (widget, fill) in [
        (&mut widgets.noninteractive, panel),
        (&mut widgets.inactive, button),
        (&mut widgets.hovered, hover),
        (&mut widgets.active, active),
        (&mut widgets.open, active),
    ] {
        widget.corner_radius = CornerRadius::same(CORNER);
        widget.fg_stroke = Stroke::new(1.0, rgb(text));
        widget.bg_fill = rgb(fill);
        widget.weak_bg_fill = rgb(fill);
        widget.expansion = 0.0;
    }
    // The focus ring: keyboard focus draws a widget as "active".
    widgets.active.bg_stroke = Stroke::new(2.0, of(dark, Tone::Accent));
    widgets.hovered.bg_stroke = Stroke::new(1.0, rgb(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: Color32) -> f32 {
        let linear = |byte: u8| {
            let value = f32::from(byte) / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(colour.r()) + 0.7152 * linear(colour.g()) + 0.0722 * linear(colour.b())
    }

    fn contrast(a: Color32, b: Color32) -> f32 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_has_contrast_in_both_themes() {
        for (dark, theme) in [(true, Theme::Dark), (false, Theme::Light)] {
            let context = egui::Context::default();
            install(&context);
            let visuals = context.style_of(theme).visuals.clone();
            let mut pairs = vec![
                (of(dark, Tone::OnAccent), of(dark, Tone::Accent)),
                (visuals.text_color(), of(dark, Tone::Banner)),
                (visuals.text_color(), of(dark, Tone::Selected)),
                (visuals.text_color(), visuals.widgets.inactive.weak_bg_fill),
                (visuals.selection.stroke.color, visuals.selection.bg_fill),
                (visuals.text_color(), visuals.selection.bg_fill),
                (visuals.weak_text_color(), visuals.panel_fill),
                (visuals.weak_text_color(), of(dark, Tone::Selected)),
            ];
            for tone in [Tone::Running, Tone::Paused, Tone::Saved, Tone::Off, Tone::Attention] {
                pairs.push((of(dark, tone), visuals.panel_fill));
                pairs.push((of(dark, tone), of(dark, Tone::Selected)));
            }
            for (front, back) in pairs {
                assert!(contrast(front, back) >= 4.5, "{front:?} on {back:?} in {theme:?}: {}", contrast(front, back));
            }
        }
    }
}
