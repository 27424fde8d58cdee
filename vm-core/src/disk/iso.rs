//! What a CD image may look like.
//!
//! An ISO image is the 2,048 data bytes of each block, one after the other, so that it is a plain image. A `.bin` of
//! a `.bin`/`.cue` pair holds whole blocks of 2,352 bytes, each with a synchronisation pattern (ECMA-130, 14.1).

use std::path::Path;

use super::MediumError;

const SYNC: [u8; 12] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];

/// Refuses what cannot be served as a CD, by the first sector of the image.
///
/// # Errors
/// Where the image holds raw blocks.
pub fn check(path: &Path, start: &[u8]) -> Result<(), MediumError> {
    if start.starts_with(&SYNC) {
        return Err(MediumError::Format {
            path: path.to_owned(),
            format: "an image of raw CD blocks of 2,352 bytes (.bin of a .bin/.cue pair)",
            advice: "make an ISO of it first, for example with bchunk",
        });
    }
    Ok(())
}
