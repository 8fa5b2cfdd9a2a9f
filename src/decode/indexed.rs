//! Pixels that are indices of a palette.

use std::array;

use crate::resize::CHANNELS;

/// A colour for each index. Indices beyond the file's palette are [`BLACK`].
pub(super) type Palette = [[u8; CHANNELS]; 256];

pub(super) const BLACK: [u8; CHANNELS] = [0; CHANNELS];

pub(super) fn grey_ramp() -> Box<Palette> {
    Box::new(array::from_fn(|level| [level as u8; CHANNELS]))
}

/// The palette of a table of red, green and blue.
pub(super) fn from_rgb(table: &[u8]) -> Box<Palette> {
    let mut palette = Box::new([BLACK; 256]);
    for (color, entry) in palette.iter_mut().zip(table.as_chunks().0) {
        *color = *entry;
    }
    palette
}

/// The index at `x` in a row whose indices have 1, 2, 4 or 8 bits, the first in the upper bits.
pub(super) fn index_at(row: &[u8], bits: usize, x: usize) -> usize {
    let bit = x * bits;
    let shift = 8 - bits - bit % 8;
    usize::from(row[bit / 8] >> shift) & ((1 << bits) - 1)
}

pub(super) fn paint(indices: &[u8], palette: &Palette, pixels: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<CHANNELS>();
    for (pixel, &index) in pixels.iter_mut().zip(indices) {
        *pixel = palette[usize::from(index)];
    }
}
