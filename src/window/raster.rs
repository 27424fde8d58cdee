//! Paints egui's triangles into a picture in memory, for a window that has no painter of egui's own.

use std::collections::HashMap;

use eframe::egui::{Color32, Rect, TextureId, TexturesDelta};
use eframe::epaint::{ClippedPrimitive, ColorImage, ImageData, Mesh, Primitive, Vertex};

/// Parts of a pixel that corners are rounded to: whole numbers, so that triangles with a common side never share a pixel and never
/// leave one out.
const PARTS: f32 = 256.0;

/// Pictures that triangles are cut from.
#[derive(Default)]
pub struct Raster {
    textures: HashMap<TextureId, ColorImage>,
}

/// A picture of RGBA bytes, row after row.
pub struct Canvas<'a> {
    /// `width` × `height` × 4 bytes.
    pub rgba: &'a mut [u8],
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl Raster {
    /// Takes over what egui says has changed in its pictures.
    pub fn update(&mut self, delta: &TexturesDelta) {
        for (&id, changes) in &delta.set {
            for change in changes {
                let ImageData::Color(image) = &change.image;
                match change.pos {
                    None => {
                        self.textures.insert(id, (**image).clone());
                    }
                    Some(at) => {
                        if let Some(whole) = self.textures.get_mut(&id) {
                            put(whole, at, image);
                        }
                    }
                }
            }
        }
    }

    /// Drops the pictures that egui needs no more; to be called when what it drew with them is painted.
    pub fn free(&mut self, delta: &TexturesDelta) {
        for id in &delta.free {
            self.textures.remove(id);
        }
    }

    /// Paints over what the picture shows.
    pub fn paint(&self, canvas: &mut Canvas<'_>, primitives: &[ClippedPrimitive], pixels_per_point: f32) {
        for ClippedPrimitive { clip_rect, primitive } in primitives {
            // Callbacks are for painters on a GPU; no widget of ours has one.
            let Primitive::Mesh(mesh) = primitive else { continue };
            let Some(texture) = self.textures.get(&mesh.texture_id) else { continue };
            paint_mesh(canvas, mesh, texture, *clip_rect * pixels_per_point, pixels_per_point);
        }
    }
}

/// Writes a part of a picture.
fn put(whole: &mut ColorImage, [left, top]: [usize; 2], part: &ColorImage) {
    let [width, height] = part.size;
    let across = whole.size[0];
    for row in 0..height {
        let to = (top + row) * across + left;
        let from = row * width;
        if let (Some(to), Some(from)) = (whole.pixels.get_mut(to..to + width), part.pixels.get(from..from + width)) {
            to.copy_from_slice(from);
        }
    }
}

fn paint_mesh(canvas: &mut Canvas<'_>, mesh: &Mesh, texture: &ColorImage, clip: Rect, pixels_per_point: f32) {
    let edge = |at: f32, end: u32| at.round().clamp(0.0, end as f32) as i64;
    let columns = edge(clip.min.x, canvas.width)..edge(clip.max.x, canvas.width);
    let rows = edge(clip.min.y, canvas.height)..edge(clip.max.y, canvas.height);
    for corners in mesh.indices.chunks_exact(3) {
        let corner = |index: usize| mesh.vertices.get(corners[index] as usize);
        if let (Some(a), Some(b), Some(c)) = (corner(0), corner(1), corner(2)) {
            let triangle = Triangle::new([a, b, c], pixels_per_point);
            triangle.paint(canvas, texture, &columns, &rows);
        }
    }
}

/// A triangle whose corners go clockwise on the picture.
struct Triangle<'a> {
    corners: [&'a Vertex; 3],
    /// In [`PARTS`] of a pixel.
    at: [(i64, i64); 3],
}

impl<'a> Triangle<'a> {
    fn new(corners: [&'a Vertex; 3], pixels_per_point: f32) -> Self {
        let place = |vertex: &Vertex| {
            let part = |at: f32| (at * pixels_per_point * PARTS).round().clamp(-1e9, 1e9) as i64;
            (part(vertex.pos.x), part(vertex.pos.y))
        };
        let [a, b, c] = corners;
        let clockwise = side(place(a), place(b), place(c)) >= 0;
        let corners = if clockwise { [a, b, c] } else { [a, c, b] };
        Self { corners, at: corners.map(place) }
    }

    fn paint(
        &self,
        canvas: &mut Canvas<'_>,
        texture: &ColorImage,
        columns: &std::ops::Range<i64>,
        rows: &std::ops::Range<i64>,
    ) {
        let [a, b, c] = self.at;
        let area = side(a, b, c);
        if area == 0 {
            return;
        }
        let (parts, half) = (PARTS as i64, PARTS as i64 / 2);
        let range = |of: fn((i64, i64)) -> i64, within: &std::ops::Range<i64>| {
            let (least, most) = (of(a).min(of(b)).min(of(c)), of(a).max(of(b)).max(of(c)));
            least.div_euclid(parts).max(within.start)..(most.div_euclid(parts) + 1).min(within.end)
        };
        // A pixel whose middle lies on a side belongs to the triangle below or right of it.
        let owns = |from: (i64, i64), to: (i64, i64)| to.1 < from.1 || (to.1 == from.1 && to.0 > from.0);
        let bias = [(b, c), (c, a), (a, b)].map(|(from, to)| i64::from(!owns(from, to)));
        let [first, second, third] = self.corners;
        let plain = (first.color == second.color && second.color == third.color)
            && (first.uv == second.uv && second.uv == third.uv);
        let whole = plain.then(|| self.colour(texture, [1.0, 0.0, 0.0]));
        for y in range(|at| at.1, rows) {
            for x in range(|at| at.0, columns) {
                let middle = (x * parts + half, y * parts + half);
                let weights = [side(b, c, middle), side(c, a, middle), side(a, b, middle)];
                if weights.iter().zip(bias).any(|(&weight, bias)| weight < bias) {
                    continue;
                }
                let colour =
                    whole.unwrap_or_else(|| self.colour(texture, weights.map(|weight| weight as f32 / area as f32)));
                let start = (y as usize * canvas.width as usize + x as usize) * 4;
                if let Some(pixel) = canvas.rgba.get_mut(start..start + 4) {
                    blend(pixel, colour);
                }
            }
        }
    }

    /// The colour where the corners have these weights, of 1 in all.
    fn colour(&self, texture: &ColorImage, weights: [f32; 3]) -> [u8; 4] {
        let mix = |of: &dyn Fn(&Vertex) -> f32| -> f32 {
            self.corners.iter().zip(weights).map(|(corner, weight)| of(corner) * weight).sum()
        };
        let [across, down] = texture.size;
        let texel = |at: f32, size: usize| ((at * size as f32) as usize).min(size.saturating_sub(1));
        let (u, v) = (texel(mix(&|corner| corner.uv.x), across), texel(mix(&|corner| corner.uv.y), down));
        let texel = texture.pixels.get(v * across + u).copied().unwrap_or(Color32::TRANSPARENT).to_array();
        std::array::from_fn(|channel| {
            let tint = mix(&|corner| corner.color.to_array()[channel].into());
            (tint * f32::from(texel[channel]) / 255.0).round() as u8
        })
    }
}

/// Twice the area of the triangle; positive where `at` is on the right of the way from `from` to `to`, down being positive.
fn side(from: (i64, i64), to: (i64, i64), at: (i64, i64)) -> i64 {
    (to.0 - from.0) * (at.1 - from.1) - (to.1 - from.1) * (at.0 - from.0)
}

/// Lays a colour, its channels multiplied with its alpha, over an opaque pixel.
fn blend(pixel: &mut [u8], colour: [u8; 4]) {
    let through = 255 - u32::from(colour[3]);
    for (under, over) in pixel.iter_mut().zip(colour).take(3) {
        *under = (u32::from(over) + (u32::from(*under) * through + 127) / 255).min(255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::{self, pos2, vec2};

    fn texture() -> ColorImage {
        ColorImage::filled([2, 2], Color32::WHITE)
    }

    #[test]
    fn triangles_with_a_common_side_cover_each_pixel_once() {
        // Fans around a point, with corners that lie on no pixel's edge.
        let half = Color32::from_rgba_premultiplied(64, 64, 64, 128);
        for step in 0..40u32 {
            let middle = pos2(7.0 + step as f32 * 0.11, 9.0 - step as f32 * 0.17);
            let corners = [pos2(0.0, 0.0), pos2(16.0, 0.0), pos2(16.0, 16.0), pos2(0.0, 16.0)];
            let mut mesh = Mesh::default();
            for at in corners.iter().chain([&middle]) {
                mesh.colored_vertex(*at, half);
            }
            for side in 0..4 {
                mesh.add_triangle(side, (side + 1) % 4, 4);
            }
            let mut rgba = vec![0; 16 * 16 * 4];
            let mut canvas = Canvas { rgba: &mut rgba, width: 16, height: 16 };
            paint_mesh(&mut canvas, &mesh, &texture(), Rect::EVERYTHING, 1.0);
            assert!(rgba.chunks(4).all(|pixel| pixel[..3] == [64, 64, 64]), "step {step}");
        }
    }

    #[test]
    fn nothing_is_painted_beside_the_picture_or_the_part_that_may_be() {
        let mut mesh = Mesh::default();
        mesh.add_colored_rect(Rect::from_min_size(pos2(-50.0, -50.0), vec2(200.0, 200.0)), Color32::RED);
        let mut rgba = vec![0; 8 * 8 * 4];
        let mut canvas = Canvas { rgba: &mut rgba, width: 8, height: 8 };
        paint_mesh(&mut canvas, &mesh, &texture(), Rect::from_min_max(pos2(2.0, 3.0), pos2(90.0, 5.0)), 1.0);
        let red = rgba.chunks(4).filter(|pixel| pixel[0] == 255).count();
        assert_eq!(red, 6 * 2);
        let broken = Rect::from_min_max(pos2(f32::NAN, 0.0), pos2(f32::INFINITY, 5.0));
        paint_mesh(&mut Canvas { rgba: &mut rgba, width: 8, height: 8 }, &mesh, &texture(), broken, 1.0);
    }

    #[test]
    fn a_page_of_egui_is_painted() {
        let context = egui::Context::default();
        let mut raster = Raster::default();
        let screen = Rect::from_min_size(pos2(0.0, 0.0), vec2(120.0, 60.0));
        let input = egui::RawInput { screen_rect: Some(screen), ..egui::RawInput::default() };
        let output = context.run_ui(input, |ui| {
            ui.label("Save");
        });
        raster.update(&output.textures_delta);
        let primitives = context.tessellate(output.shapes, output.pixels_per_point);
        let mut rgba = vec![0; 120 * 60 * 4];
        raster.paint(&mut Canvas { rgba: &mut rgba, width: 120, height: 60 }, &primitives, output.pixels_per_point);
        let lit = rgba.chunks(4).filter(|pixel| pixel[0] > 100).count();
        assert!((20..600).contains(&lit), "{lit} pixels of a word");
    }
}
