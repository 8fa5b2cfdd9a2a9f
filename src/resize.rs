//! RGB8 pixels to RGB8 pixels of another size, bit for bit as Pillow's bicubic does it.
//!
//! Pillow (`src/libImaging/Resample.c`) resamples the width first, rounds to 8 bits, and then
//! resamples the height. Each pass is a weighted sum of neighbouring pixels with fixed-point weights;
//! to shrink, it widens the kernel by the scale, so that every source pixel counts. The networks were
//! trained on photos prepared this way, and other pixels mean other features, so this module repeats
//! the same arithmetic to the last bit.

use pulp::{Arch, Simd, WithSimd};

/// Channels of a pixel.
pub const CHANNELS: usize = 3;

/// Fixed-point bits of a weight: 32 bits minus 8 for the pixel and 2 for the overshoot of the sum.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Reach of the bicubic kernel to each side, in pixels of the coarser grid.
const SUPPORT: f64 = 2.0;

/// The free parameter of the cubic convolution kernel (Keys, 1981). Pillow's -0.5 reproduces
/// parabolas.
const A: f64 = -0.5;

/// Maximum bytes between the two passes. No JPEG needs more for a target 224 pixels wide.
const MAX_NARROWED: usize = 64 << 20;

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

/// Resizes images, keeping its weights and its scratch rows between calls.
#[derive(Debug, Default)]
pub struct Resizer {
    arch: Arch,
    columns: Weights,
    rows: Weights,
    band: Vec<Column>,
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
            band,
            narrowed,
        } = self;
        columns.prepare(from.width, to.width);
        rows.prepare(from.height, to.height);
        match (from.width != to.width, from.height != to.height) {
            (false, false) => target.copy_from_slice(source),
            (true, false) => arch.dispatch(Columns {
                source,
                weights: columns,
                band,
                target,
            }),
            (false, true) => arch.dispatch(Rows {
                source,
                weights: rows,
                target,
            }),
            (true, true) if to.width * CHANNELS * from.height > MAX_NARROWED => {
                let rows_at_once = MAX_NARROWED / (to.width * CHANNELS);
                self.resize_in_parts(source, from, target, to, rows_at_once);
            }
            (true, true) => {
                narrowed.resize(to.width * CHANNELS * from.height, 0);
                arch.dispatch(Columns {
                    source,
                    weights: columns,
                    band,
                    target: narrowed,
                });
                arch.dispatch(Rows {
                    source: narrowed,
                    weights: rows,
                    target,
                });
            }
        }
    }

    /// Both passes for some rows of the source at a time: an image that is very tall, and narrower
    /// than the target, takes far more memory between the passes than its own pixels do. The sums
    /// are of integers, so their order changes nothing.
    fn resize_in_parts(
        &mut self,
        source: &[u8],
        from: Size,
        target: &mut [u8],
        to: Size,
        rows_at_once: usize,
    ) {
        let Self {
            arch,
            columns,
            rows,
            band,
            narrowed,
        } = self;
        let [source_stride, stride] = [from.width, to.width].map(|pixels| pixels * CHANNELS);
        let mut sums = vec![HALF; target.len()];
        let parts = source.chunks(rows_at_once * source_stride);
        for (part, first) in parts.zip((0_usize..).step_by(rows_at_once)) {
            let height = part.len() / source_stride;
            narrowed.resize(height * stride, 0);
            arch.dispatch(Columns {
                source: part,
                weights: columns,
                band,
                target: narrowed,
            });
            for ((start, weights), sums) in rows.iter().zip(sums.chunks_exact_mut(stride)) {
                let skipped = first.saturating_sub(start).min(weights.len());
                let begin = start.saturating_sub(first).min(height);
                let values = narrowed[begin * stride..].chunks_exact(stride);
                for (values, &weight) in values.zip(&weights[skipped..]) {
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum += i32::from(value) * weight;
                    }
                }
            }
        }
        for (byte, &sum) in target.iter_mut().zip(&sums) {
            *byte = to_pixel(sum);
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
    /// Photos of one set tend to share a size, so the weights of the last one are kept.
    fn prepare(&mut self, from: usize, to: usize) {
        if (self.from, self.to) == (from, to) {
            return;
        }
        // If this panics, the incomplete weights must not pass for those of an axis.
        (self.from, self.to) = (0, 0);
        self.windows.clear();
        self.values.clear();
        let scale = from as f64 / to as f64;
        let widening = scale.max(1.0);
        let reach = SUPPORT * widening;
        let mut kernel = Vec::new();
        for position in 0..to {
            let center = (position as f64 + 0.5) * scale;
            // Conversions to integers truncate towards zero, as in C.
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
        (self.from, self.to) = (from, to);
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

/// Half of the last bit that is kept, so that truncating rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

#[inline(always)]
fn to_pixel(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, u8::MAX.into()) as u8
}

#[inline(always)]
fn add_weighted<const N: usize>(sums: &mut [i32; N], values: &[u8], weight: i32) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += i32::from(value) * weight;
    }
}

/// Rows that the pass over the width processes at once: their pixels of one column, three channels
/// each, fill all lanes but one of two vector registers.
const BAND: usize = 5;

/// The pixels of one column in the rows of a band.
type Column = [u8; 16];

/// The pass over the width. [`Arch`] compiles a pass once for each instruction set.
struct Columns<'a> {
    source: &'a [u8],
    weights: &'a Weights,
    band: &'a mut Vec<Column>,
    target: &'a mut [u8],
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            source,
            weights,
            band,
            target,
        } = self;
        let [from, to] = [weights.from, weights.to].map(|pixels| pixels * CHANNELS);
        band.resize(weights.from, Column::default());
        for (source, target) in source.chunks(BAND * from).zip(target.chunks_mut(BAND * to)) {
            for (row, lane) in source.chunks_exact(from).zip((0..).step_by(CHANNELS)) {
                let (pixels, _) = row.as_chunks::<CHANNELS>();
                for (column, pixel) in band.iter_mut().zip(pixels) {
                    column[lane..lane + CHANNELS].copy_from_slice(pixel);
                }
            }
            for ((start, weights), at) in weights.iter().zip((0..).step_by(CHANNELS)) {
                let mut sums = [HALF; 16];
                for (column, &weight) in band[start..].iter().zip(weights) {
                    add_weighted(&mut sums, column, weight);
                }
                let bytes = sums.map(to_pixel);
                for (row, pixel) in target
                    .chunks_exact_mut(to)
                    .zip(bytes.chunks_exact(CHANNELS))
                {
                    row[at..at + CHANNELS].copy_from_slice(pixel);
                }
            }
        }
    }
}

/// Target bytes whose sums are kept in registers at once.
const LANES: usize = 32;

/// The pass over the height.
struct Rows<'a> {
    source: &'a [u8],
    weights: &'a Weights,
    target: &'a mut [u8],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            source,
            weights,
            target,
        } = self;
        let stride = source.len() / weights.from;
        for (row, (start, weights)) in target.chunks_exact_mut(stride).zip(weights.iter()) {
            let source = &source[start * stride..(start + weights.len()) * stride];
            let (blocks, rest) = row.as_chunks_mut::<LANES>();
            for (index, block) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; LANES];
                for (from, &weight) in source.chunks_exact(stride).zip(weights) {
                    add_weighted(&mut sums, &from[index * LANES..][..LANES], weight);
                }
                for (byte, &sum) in block.iter_mut().zip(&sums) {
                    *byte = to_pixel(sum);
                }
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_of_any_height_give_the_same_pixels(
            width in 1..20_usize, height in 1..80_usize,
            to_width in 1..20_usize, to_height in 1..20_usize,
            rows_at_once in 1..90_usize, seed in any::<u8>(),
        ) {
            let [from, to] = [(width, height), (to_width, to_height)]
                .map(|(width, height)| Size { width, height });
            prop_assume!(from.width != to.width && from.height != to.height);
            let source: Vec<_> = (0..from.bytes())
                .map(|at| (at * at * 31 + at * usize::from(seed)) as u8)
                .collect();
            let [mut whole, mut in_parts] = [vec![0; to.bytes()], vec![0; to.bytes()]];
            let mut resizer = Resizer::default();
            resizer.resize_into(&source, from, &mut whole, to);
            resizer.resize_in_parts(&source, from, &mut in_parts, to, rows_at_once);
            prop_assert_eq!(whole, in_parts);
        }
    }
}
