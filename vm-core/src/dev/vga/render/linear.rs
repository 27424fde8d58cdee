//! High resolutions: rows of video memory, converted.

use super::{Palette, Renderer, Source, Touched, Vram, planar_pixel};
use crate::dev::vga::vbe::VRAM_SIZE;

impl Renderer {
    /// Draws the rows of a high resolution whose memory was touched, or `all`.
    pub(super) fn draw_high(&mut self, source: &Source, vram: &Vram, touched: &Touched, all: bool) {
        let vbe = &source.vbe;
        let (width, height, depth) = vbe.mode();
        let aspect = f32::from(width) / f32::from(height);
        let all = self.picture.resize(u32::from(width), u32::from(height), aspect) || all;
        self.picture.set_text(None);
        let width = usize::from(width);
        let row_bytes = match vbe.pixel_bytes() {
            0 => width.div_ceil(8) * 4,
            bytes => width * bytes,
        };
        if !all && touched.is_empty() {
            return;
        }
        let shown = source.registers.attribute.palette_is_shown();
        let palette = (shown && depth <= 8).then(|| Palette::new(&source.registers, vbe, depth == 4, shown));
        for y in 0..u32::from(height) {
            // Rows that lie beyond the end of memory wrap around, as its address lines do.
            let start = (vbe.start() + y as usize * vbe.pitch()) % VRAM_SIZE;
            if !all && !touched.any(start..start + row_bytes) {
                continue;
            }
            self.picture.draw_row(y, |rgba| match vram.bytes().get(start..start + row_bytes) {
                Some(row) if shown => convert_row(depth, row, palette.as_ref(), rgba),
                _ => rgba.as_chunks_mut::<4>().0.fill([0, 0, 0, 255]),
            });
        }
    }
}

/// One row of a high resolution in colours.
fn convert_row(depth: u16, row: &[u8], palette: Option<&Palette>, rgba: &mut [u8]) {
    let pixels = rgba.as_chunks_mut::<4>().0.iter_mut();
    let five = |value: u16| (value << 3 & 0xf8 | value >> 2 & 7) as u8;
    match (depth, palette) {
        (4, Some(palette)) => {
            let (words, _) = row.as_chunks::<4>();
            for (n, pixel) in (0_u32..).zip(pixels) {
                let planes = words.get(n as usize / 8).copied().unwrap_or_default();
                *pixel = palette.0[usize::from(planar_pixel(planes, n % 8))];
            }
        }
        (8, Some(palette)) => pixels.zip(row).for_each(|(pixel, &from)| *pixel = palette.0[usize::from(from)]),
        (15, _) => {
            for (pixel, from) in pixels.zip(row.as_chunks::<2>().0) {
                let value = u16::from_le_bytes(*from);
                *pixel = [five(value >> 10), five(value >> 5), five(value), 255];
            }
        }
        (16, _) => {
            for (pixel, from) in pixels.zip(row.as_chunks::<2>().0) {
                let value = u16::from_le_bytes(*from);
                let green = (value >> 3 & 0xfc | value >> 9 & 3) as u8;
                *pixel = [five(value >> 11), green, five(value), 255];
            }
        }
        (24, _) => {
            pixels.zip(row.as_chunks::<3>().0).for_each(|(pixel, from)| *pixel = [from[2], from[1], from[0], 255]);
        }
        _ => pixels.zip(row.as_chunks::<4>().0).for_each(|(pixel, from)| *pixel = [from[2], from[1], from[0], 255]),
    }
}
