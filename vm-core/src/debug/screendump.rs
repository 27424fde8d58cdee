//! The guest's picture as a file.

use std::path::Path;

use crate::frame::Frame;

/// How the file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Portable pixmap, binary (P6).
    #[default]
    Ppm,
    /// Portable network graphics.
    Png,
}

impl Format {
    /// The format called `name` (`ppm`, `png`).
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ppm" => Some(Self::Ppm),
            "png" => Some(Self::Png),
            _ => None,
        }
    }
}

fn rgb(frame: &Frame) -> Vec<u8> {
    frame.rgba.as_chunks::<4>().0.iter().flat_map(|[red, green, blue, _]| [*red, *green, *blue]).collect()
}

/// The file's bytes.
///
/// # Errors
/// Where the frame has no pixels or not as many as it says.
pub fn encode(frame: &Frame, format: Format) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match format {
        Format::Ppm => {
            bytes.extend(format!("P6\n{} {}\n255\n", frame.width, frame.height).as_bytes());
            bytes.extend(rgb(frame));
        }
        Format::Png => {
            let mut encoder = png::Encoder::new(&mut bytes, frame.width, frame.height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_compression(png::Compression::Fast);
            let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
            writer.write_image_data(&rgb(frame)).map_err(|error| error.to_string())?;
            writer.finish().map_err(|error| error.to_string())?;
        }
    }
    Ok(bytes)
}

/// Writes the picture to `path`.
///
/// # Errors
/// In words, naming the file.
pub fn write(frame: &Frame, path: &Path, format: Format) -> Result<(), String> {
    let bytes = encode(frame, format)?;
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_hold_the_pixels() {
        let frame = Frame {
            sequence: 1,
            width: 2,
            height: 1,
            aspect: 2.0,
            rgba: vec![1, 2, 3, 255, 4, 5, 6, 255],
            ..Frame::default()
        };
        assert_eq!(encode(&frame, Format::Ppm).unwrap(), b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06");
        let png = encode(&frame, Format::Png).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = [0; 6];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [1, 2, 3, 4, 5, 6]);
        assert!(encode(&Frame { width: 0, height: 0, rgba: Vec::new(), ..frame }, Format::Png).is_err());
    }
}
