//! RGB8 pixels to RGB8 pixels of another size, bit for bit as Pillow's bicubic does it.
//!
//! Pillow (`src/libImaging/Resample.c`) resamples the width first, rounds to 8 bits, and then the
//! height. A pass is a weighted sum over neighbouring pixels with fixed-point weights; when it
//! shrinks, the kernel widens with the scale, so that every source pixel counts. The networks were
//! trained on photos prepared this way, and other pixels mean other features, so this module
//! follows the same arithmetic to the last bit.

use pulp::Arch;

/// Channels of a pixel.
pub const CHANNELS: usize = 3;

/// Fixed-point bits of a weight: 32 bits less 8 for the pixel and 2 for the overshoot of the sum.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Reach of the bicubic kernel to each side, in pixels of the coarser grid.
const SUPPORT: f64 = 2.0;

/// Free parameter of the cubic convolution kernel (Keys, 1981): -0.5 reproduces parabolas, and is
/// what Pillow takes.
const A: f64 = -0.5;

/// Width and height of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// Bytes of an RGB8 image of this size.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.width * self.height * CHANNELS
    }
}

/// Resizes images, keeping its weights and its scratch row block between calls.
#[derive(Debug, Default)]
pub struct Resizer {
    arch: Arch,
    columns: Weights,
    rows: Weights,
    narrowed: Vec<u8>,
}

impl Resizer {
    /// Writes `source` (RGB8, row by row, of size `from`), resized to `to`, into `target`.
    ///
    /// # Panics
    /// If a slice is not of its size, or `from` has no pixel.
    pub fn resize_into(&mut self, source: &[u8], from: Size, target: &mut [u8], to: Size) {
        assert_eq!(source.len(), from.bytes(), "source pixels");
        assert_eq!(target.len(), to.bytes(), "target pixels");
        assert!(from.bytes() > 0, "an image has at least one pixel");
        let Self {
            arch,
            columns,
            rows,
            narrowed,
        } = self;
        let narrow = from.width != to.width;
        let shorten = from.height != to.height;
        columns.prepare(from.width, to.width);
        rows.prepare(from.height, to.height);
        match (narrow, shorten) {
            (false, false) => target.copy_from_slice(source),
            (true, false) => arch.dispatch(|| resample_columns(source, columns, target)),
            (false, true) => arch.dispatch(|| resample_rows(source, rows, target)),
            (true, true) => {
                narrowed.resize(
                    Size {
                        width: to.width,
                        ..from
                    }
                    .bytes(),
                    0,
                );
                arch.dispatch(|| {
                    resample_columns(source, columns, narrowed);
                    resample_rows(narrowed, rows, target);
                });
            }
        }
    }
}

/// For each target position along one axis: the first source position and the weights from there.
#[derive(Debug, Default)]
struct Weights {
    from: usize,
    to: usize,
    windows: Vec<Window>,
    values: Vec<i32>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    start: usize,
    values: usize,
    len: usize,
}

impl Weights {
    /// Photos of one set tend to share a size, so the last axis's weights are kept.
    fn prepare(&mut self, from: usize, to: usize) {
        if (self.from, self.to) == (from, to) {
            return;
        }
        (self.from, self.to) = (from, to);
        self.windows.clear();
        self.values.clear();
        let scale = from as f64 / to as f64;
        let widening = scale.max(1.0);
        let reach = SUPPORT * widening;
        let mut kernel = Vec::new();
        for position in 0..to {
            let center = (position as f64 + 0.5) * scale;
            // Conversions to integer cut towards zero, as C's do.
            let start = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            kernel.clear();
            kernel.extend(
                (start..end).map(|x| bicubic((x as f64 - center + 0.5) * widening.recip())),
            );
            let sum: f64 = kernel.iter().sum();
            let norm = if sum == 0.0 { 1.0 } else { sum };
            self.windows.push(Window {
                start,
                values: self.values.len(),
                len: end - start,
            });
            self.values
                .extend(kernel.iter().map(|weight| fixed_point(weight / norm)));
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.windows
            .iter()
            .map(|w| (w.start, &self.values[w.values..w.values + w.len]))
    }
}

fn bicubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION_BITS) + 0.5_f64.copysign(weight)) as i32
}

/// Half of the last kept bit, so that cutting rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_pixel(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, u8::MAX.into()) as u8
}

#[inline(always)]
fn resample_columns(source: &[u8], weights: &Weights, target: &mut [u8]) {
    let source_rows = source.chunks_exact(weights.from * CHANNELS);
    let target_rows = target.chunks_exact_mut(weights.to * CHANNELS);
    for (source, target) in source_rows.zip(target_rows) {
        let (source, _) = source.as_chunks::<CHANNELS>();
        let (target, _) = target.as_chunks_mut::<CHANNELS>();
        for (pixel, (start, weights)) in target.iter_mut().zip(weights.iter()) {
            let mut sums = [HALF; CHANNELS];
            for (from, weight) in source[start..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(from) {
                    *sum += i32::from(value) * weight;
                }
            }
            *pixel = sums.map(to_pixel);
        }
    }
}

/// Target bytes whose sums are kept in registers at once.
const LANES: usize = 32;

#[inline(always)]
fn resample_rows(source: &[u8], weights: &Weights, target: &mut [u8]) {
    let stride = source.len() / weights.from;
    for (row, (start, weights)) in target.chunks_exact_mut(stride).zip(weights.iter()) {
        let source = &source[start * stride..(start + weights.len()) * stride];
        let (blocks, rest) = row.as_chunks_mut::<LANES>();
        for (block, at) in blocks.iter_mut().zip((0..).step_by(LANES)) {
            let mut sums = [HALF; LANES];
            for (from, weight) in source.chunks_exact(stride).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(&from[at..at + LANES]) {
                    *sum += i32::from(value) * weight;
                }
            }
            *block = sums.map(to_pixel);
        }
        let at = stride - rest.len();
        for (byte, at) in rest.iter_mut().zip(at..) {
            let column = source.chunks_exact(stride).map(|row| row[at]);
            let sum: i32 = column
                .zip(weights)
                .map(|(value, w)| i32::from(value) * w)
                .sum();
            *byte = to_pixel(HALF + sum);
        }
    }
}
