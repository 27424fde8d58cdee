//! From registers and video memory to a picture, drawing only what may look different.
//!
//! Video memory knows which of its pages somebody may have written ([`Vram::take_touched`]). Rows of the picture that read
//! from them are drawn anew ([`legacy`]: the VGA's own modes, [`linear`]: high resolutions) and compared with what was
//! there; a row that differs gets the number of the new picture.

mod legacy;
mod linear;

use std::sync::Arc;

use super::cp437;
use super::memory::{LEGACY_SIZE, Touched, Vram};
use super::registers::Registers;
use super::timing;
use super::vbe::Vbe;
use crate::bus::clock::Nanos;
use crate::frame::{Frame, TextScreen};

use legacy::Cursor;

/// Monitors of the day were 4:3, whatever the number of pixels.
const MONITOR_ASPECT: f32 = 4.0 / 3.0;

/// Frames that are kept to be used again: one in the slot, one that a window draws, one to write into.
const POOL: usize = 3;

/// What the last picture was drawn from, beside memory.
#[derive(Debug, PartialEq)]
struct Source {
    /// Only what can be seen ([`Registers::visible`]), without the cursor.
    registers: Registers,
    vbe: Vbe,
    cursor: Option<Cursor>,
    /// Cursor and blinking characters are in their dark phase.
    cursor_dark: bool,
    blinked: bool,
}

/// What may look different from the last picture.
#[derive(Debug)]
struct Changes {
    /// Everything.
    all: bool,
    /// Blinking characters.
    blink: bool,
    /// Where the cursor was and is, if that or its shape changed.
    cursors: [Option<Cursor>; 2],
}

/// Draws pictures and remembers the last one, so that unchanged ones cost little.
#[derive(Debug)]
pub struct Renderer {
    source: Option<Source>,
    /// The VGA's own memory as it was drawn.
    shadow: Vec<u8>,
    picture: Picture,
    pool: Vec<Arc<Frame>>,
    characters: [char; 256],
    by_guest: bool,
}

/// The picture as it grows; frames are copies of it.
#[derive(Debug, Default)]
struct Picture {
    /// The number of the picture being drawn.
    sequence: u64,
    width: u32,
    height: u32,
    aspect: f32,
    rgba: Vec<u8>,
    /// The picture in which each row last changed.
    changed: Vec<u64>,
    text: Option<TextScreen>,
    /// Something differs from the last picture.
    differs: bool,
    /// One row, being drawn.
    scratch: Vec<u8>,
}

impl Picture {
    /// Takes a size; a new one makes every row count as changed. True: the size is new.
    fn resize(&mut self, width: u32, height: u32, aspect: f32) -> bool {
        let same = (self.width, self.height) == (width, height) && self.aspect.to_bits() == aspect.to_bits();
        if !same {
            (self.width, self.height, self.aspect) = (width, height, aspect);
            let pitch = width as usize * 4;
            self.rgba.clear();
            self.rgba.resize(pitch * height as usize, 0);
            self.scratch.clear();
            self.scratch.resize(pitch, 0);
            self.changed.clear();
            self.changed.resize(height as usize, self.sequence);
            self.differs = true;
        }
        !same
    }

    /// Has row `y` drawn (four bytes a pixel) and keeps it where it differs.
    fn draw_row(&mut self, y: u32, draw: impl FnOnce(&mut [u8])) {
        draw(&mut self.scratch);
        let pitch = self.scratch.len();
        let Some(row) = self.rgba.get_mut(y as usize * pitch..(y as usize + 1) * pitch) else { return };
        if *row != self.scratch[..] {
            row.copy_from_slice(&self.scratch);
            if let Some(changed) = self.changed.get_mut(y as usize) {
                *changed = self.sequence;
            }
            self.differs = true;
        }
    }

    fn set_text(&mut self, text: Option<TextScreen>) {
        if self.text != text {
            self.text = text;
            self.differs = true;
        }
    }

    /// Brings `frame`, an older picture, up to this one. False: it has another size.
    fn update(&self, frame: &mut Frame) -> bool {
        if (frame.width, frame.height) != (self.width, self.height) {
            return false;
        }
        let pitch = self.width as usize * 4;
        let rows = frame.rgba.chunks_exact_mut(pitch).zip(self.rgba.chunks_exact(pitch)).zip(&self.changed);
        for ((to, from), &changed) in rows {
            if changed > frame.sequence {
                to.copy_from_slice(from);
            }
        }
        frame.changed.copy_from_slice(&self.changed);
        frame.sequence = self.sequence;
        frame.aspect = self.aspect;
        frame.text.clone_from(&self.text);
        true
    }

    fn to_frame(&self) -> Frame {
        Frame {
            sequence: self.sequence,
            width: self.width,
            height: self.height,
            aspect: self.aspect,
            rgba: self.rgba.clone(),
            changed: self.changed.clone(),
            text: self.text.clone(),
        }
    }
}

impl Renderer {
    /// A renderer that has drawn nothing yet.
    pub fn new() -> Self {
        Self {
            source: None,
            shadow: vec![0; LEGACY_SIZE],
            picture: Picture::default(),
            pool: Vec::new(),
            characters: cp437::table(),
            by_guest: false,
        }
    }

    /// Whether the guest had a hand in the last picture, or only the hardware's own blinking.
    pub fn is_by_guest(&self) -> bool {
        self.by_guest
    }

    /// Makes the next picture count as new (after a reset or a restore).
    pub fn forget(&mut self) {
        self.source = None;
    }

    /// The picture at `now`, where it differs from the last one.
    pub fn render(&mut self, registers: &Registers, vbe: &Vbe, vram: &Vram, now: Nanos) -> Option<Arc<Frame>> {
        let mut touched = vram.take_touched();
        let high = vbe.is_on();
        let (cursor_dark, blinked) = if high { (false, false) } else { phases(registers, now) };
        let source = Source {
            registers: registers.visible(),
            vbe: vbe.visible(),
            cursor: Cursor::of(registers).filter(|_| !high),
            cursor_dark,
            blinked,
        };
        let last = self.source.take();
        let same = last.as_ref().is_some_and(|last| (&last.registers, &last.vbe) == (&source.registers, &source.vbe));
        if !same {
            // Between other modes the copy of memory was not kept up to date.
            touched = Touched::ALL;
        }
        let before = last.as_ref().map(|last| (last.cursor, last.cursor_dark));
        let cursor_same = before == Some((source.cursor, cursor_dark));
        let before = before.and_then(|(cursor, _)| cursor);
        self.by_guest = !touched.is_empty() || before != source.cursor;
        let changes = Changes {
            all: !same,
            blink: last.as_ref().is_some_and(|last| last.blinked != blinked),
            cursors: if cursor_same { [None; 2] } else { [before, source.cursor] },
        };
        self.picture.sequence += 1;
        self.picture.differs = last.is_none();
        if high {
            self.draw_high(&source, vram, &touched, changes.all);
        } else {
            self.draw_legacy(&source, vram, &touched, changes);
        }
        self.source = Some(source);
        if self.picture.differs {
            Some(self.publish())
        } else {
            self.picture.sequence -= 1;
            None
        }
    }

    /// A frame of the picture: an old one that nobody looks at any more, brought up to date, or a new one.
    fn publish(&mut self) -> Arc<Frame> {
        let picture = &self.picture;
        self.pool.retain(|frame| (frame.width, frame.height) == (picture.width, picture.height));
        let free = |frame: &mut Arc<Frame>| Arc::get_mut(frame).is_some_and(|frame| picture.update(frame));
        let frame = match self.pool.iter_mut().position(free) {
            Some(index) => self.pool.remove(index),
            None => Arc::new(picture.to_frame()),
        };
        if self.pool.len() == POOL {
            self.pool.remove(0);
        }
        self.pool.push(Arc::clone(&frame));
        frame
    }
}

/// Whether cursor and blinking characters are in their dark phase: 8 frames on and 8 off, 16 and 16.
fn phases(registers: &Registers, now: Nanos) -> (bool, bool) {
    let frames = timing::frames(registers, now);
    (frames >> 3 & 1 != 0, frames >> 4 & 1 != 0)
}

/// Pixel `n` (0 is leftmost) of eight in four planes.
fn planar_pixel(planes: [u8; 4], n: u32) -> u8 {
    let bit = |plane: usize| planes[plane] >> (7 - (n & 7)) & 1;
    bit(0) | bit(1) << 1 | bit(2) << 2 | bit(3) << 3
}

/// What each pixel value shows as.
struct Palette([[u8; 4]; 256]);

impl Palette {
    /// `through_attribute`: values are 4 bits and pass the attribute controller; `shown`: the screen is on.
    fn new(registers: &Registers, vbe: &Vbe, through_attribute: bool, shown: bool) -> Self {
        let mut colors = [[0, 0, 0, 255]; 256];
        if shown {
            for (value, color) in (0..=255_u8).zip(&mut colors) {
                let index = if through_attribute { registers.attribute.dac_index(value) } else { value };
                *color = registers.dac.rgba(index, vbe.wide_dac());
            }
        }
        Self(colors)
    }
}

#[cfg(test)]
mod tests;
