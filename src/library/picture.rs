//! The last picture of a machine, as a PNG file beside its definition.

use std::io::BufWriter;
use std::path::Path;

use vm_core::frame::Frame;

/// A picture of a guest's screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Width over height as it should be shown.
    pub aspect: f32,
    /// Red, green, blue, 255: four bytes a pixel.
    pub rgba: Vec<u8>,
}

/// More than any guest's screen has.
const MOST_PIXELS: u64 = 4096 * 4096;

impl From<&Frame> for Picture {
    fn from(frame: &Frame) -> Self {
        Self { width: frame.width, height: frame.height, aspect: frame.aspect, rgba: frame.rgba.clone() }
    }
}

impl Picture {
    /// Writes it to `path`. The shape of a pixel goes into the file too.
    ///
    /// # Errors
    /// What the host or the encoder says.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(BufWriter::new(&mut bytes), self.width, self.height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        // A pixel is (aspect × height / width) as wide as high: pixels per unit are the other way round.
        let shape = self.aspect * self.height as f32 / self.width.max(1) as f32;
        encoder.set_pixel_dims(Some(png::PixelDimensions {
            xppu: 10_000,
            yppu: (10_000.0 * shape) as u32,
            unit: png::Unit::Unspecified,
        }));
        encoder.write_header()?.write_image_data(&self.rgba)?;
        super::write_atomically(path, &bytes)?;
        Ok(())
    }

    /// Reads it; `None` where there is none, or none that we understand (it is only a picture).
    pub fn read(path: &Path) -> Option<Self> {
        let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).ok()?));
        decoder.set_transformations(
            png::Transformations::EXPAND | png::Transformations::ALPHA | png::Transformations::STRIP_16,
        );
        let mut reader = decoder.read_info().ok()?;
        let (width, height) = (reader.info().width, reader.info().height);
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MOST_PIXELS {
            return None;
        }
        let shape = reader.info().pixel_dims.map_or(1.0, |dims| dims.yppu as f32 / dims.xppu.max(1) as f32);
        let mut rgba = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut rgba).ok()?;
        if info.color_type != png::ColorType::Rgba || rgba.len() != width as usize * height as usize * 4 {
            return None;
        }
        let aspect = (shape * width as f32 / height as f32).clamp(0.1, 10.0);
        Some(Self { width, height, aspect, rgba })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape() {
        let path = std::env::temp_dir().join(format!("hako-picture-{}.png", std::process::id()));
        let rgba = (0..720 * 400).flat_map(|at| [at as u8, (at >> 8) as u8, 7, 255]).collect();
        let picture = Picture { width: 720, height: 400, aspect: 4.0 / 3.0, rgba };
        picture.write(&path).unwrap();
        let again = Picture::read(&path).unwrap();
        assert!((again.aspect - 4.0 / 3.0).abs() < 0.001);
        assert_eq!(again.rgba, picture.rgba);
        std::fs::write(&path, "no picture").unwrap();
        assert_eq!(Picture::read(&path), None);
        std::fs::remove_file(&path).unwrap();
    }
}
