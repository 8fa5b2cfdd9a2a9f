//! Kernels for AVX2 and FMA: products of pairs of 16-bit integers, added up in 32 bits.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_packus_epi16, _mm_unpackhi_epi64, _mm256_add_epi32,
    _mm256_adds_epi16, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16,
    _mm256_cvtepu8_epi32, _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_madd_epi16, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_permute4x64_epi64,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_unpackhi_epi16,
    _mm256_unpacklo_epi16,
};

use bytemuck::cast;

use super::layout::{Maps, MapsMut};
use super::program::Sum;
use super::weights::{BLOCK, Depthwise, Matrix, Pairs, Rounding};

/// The kernels of depthwise convolutions, height and width.
pub(super) const KERNELS: [[usize; 2]; 2] = [[3, 3], [5, 5]];

/// Rows of a matrix whose sums are in registers at once: two registers each, of 16.
const TILE: usize = 6;
/// Rows that a block of weights is used for before the next one is fetched.
const ROWS: usize = 8 * TILE;

/// Bytes of a block of channels.
type Bytes = [u8; BLOCK];

/// The scratch space of [`multiply`].
pub(super) fn scratch_of(matrix: &Matrix) -> usize {
    ROWS * matrix.depth.div_ceil(2)
}

/// Multiplies each pixel with a matrix.
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply(matrix: &Matrix, input: Maps<'_>, output: MapsMut<'_>, scratch: &mut [i32]) {
    let (from, to) = (input.layout, output.layout);
    let pairs = matrix.depth.div_ceil(2);
    let mut targets = [0; ROWS];
    let mut filled = 0;
    for image in 0..output.count {
        for y in 0..from.height {
            for x in 0..from.width {
                let pixel = &input.bytes[from.pixel(image, y, x)..][..matrix.depth];
                widen(pixel, &mut scratch[filled * pairs..][..pairs]);
                targets[filled] = to.pixel(image, y, x);
                filled += 1;
                if filled == ROWS {
                    multiply_rows(matrix, scratch, &targets, output.bytes);
                    filled = 0;
                }
            }
        }
    }
    multiply_rows(matrix, scratch, &targets[..filled], output.bytes);
}

/// Writes bytes as pairs of 16-bit integers; the last is 0 if their number is odd.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn widen(bytes: &[u8], pairs: &mut [i32]) {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let (whole, last) = pairs.split_at_mut(blocks.len() * BLOCK / 2);
    for (block, pairs) in blocks.iter().zip(whole.as_chunks_mut::<{ BLOCK / 2 }>().0) {
        *pairs = cast(_mm256_cvtepu8_epi16(cast(*block)));
    }
    for (bytes, pair) in rest.chunks(2).zip(last) {
        let second = bytes.get(1).copied().unwrap_or_default();
        *pair = i32::from(bytes[0]) | i32::from(second) << 16;
    }
}

/// Multiplies the rows, and writes their products where the targets say.
#[target_feature(enable = "avx2,fma")]
fn multiply_rows(matrix: &Matrix, rows: &[i32], targets: &[usize], output: &mut [u8]) {
    let pairs = matrix.depth.div_ceil(2);
    for (block, weights) in matrix.weights.chunks_exact(2 * pairs).enumerate() {
        let first = block * BLOCK;
        let width = (matrix.channels - first).min(BLOCK);
        let (weights, _) = weights.as_chunks();
        let tiles = rows.chunks_exact(TILE * pairs).zip(targets.chunks(TILE));
        for (rows, targets) in tiles {
            let tile = multiply_tile(rows, weights, &matrix.rounding, block);
            for (bytes, target) in tile.iter().zip(targets) {
                let target = &mut output[target + first..][..width];
                match <&mut Bytes>::try_from(&mut *target) {
                    Ok(target) => *target = *bytes,
                    Err(_) => target.copy_from_slice(&bytes[..width]),
                }
            }
        }
    }
}

/// Multiplies [`TILE`] rows with the weights of a block of channels. Rows that nobody needs cost less
/// than another kernel for fewer.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_tile(
    rows: &[i32],
    weights: &[[Pairs; 2]],
    rounding: &Rounding,
    block: usize,
) -> [Bytes; TILE] {
    let (r0, rows) = rows.split_at(weights.len());
    let (r1, rows) = rows.split_at(weights.len());
    let (r2, rows) = rows.split_at(weights.len());
    let (r3, rows) = rows.split_at(weights.len());
    let (r4, r5) = rows.split_at(weights.len());
    let mut sums = [start(rounding, block); TILE];
    // Iterators of equal lengths are checked once, and indices would be in each step.
    let rows = r0.iter().zip(r1).zip(r2).zip(r3).zip(r4).zip(r5);
    for (weights, (((((r0, r1), r2), r3), r4), r5)) in weights.iter().zip(rows) {
        let weights = [cast(weights[0]), cast(weights[1])];
        for (sums, pair) in sums.iter_mut().zip([r0, r1, r2, r3, r4, r5]) {
            let pair = _mm256_set1_epi32(*pair);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
            }
        }
    }
    let mut tile = [[0; BLOCK]; TILE];
    for (bytes, sums) in tile.iter_mut().zip(sums) {
        *bytes = round(sums, rounding, block);
    }
    tile
}

/// Convolves each channel of the maps alone.
#[target_feature(enable = "avx2,fma")]
pub(super) fn convolve(depthwise: &Depthwise, input: Maps<'_>, output: MapsMut<'_>) {
    match depthwise.kernel {
        [3, 3] => convolve_pairs::<5>(depthwise, input, output),
        [5, 5] => convolve_pairs::<13>(depthwise, input, output),
        other => unreachable!("{other:?} is none of KERNELS"),
    }
}

/// The pixels of the kernel, which is as high as it is wide, are multiplied in `PAIRS` pairs.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn convolve_pairs<const PAIRS: usize>(depthwise: &Depthwise, input: Maps<'_>, output: MapsMut<'_>) {
    let Depthwise {
        kernel: [_, columns],
        strides: [down, across],
        pads: [top, left],
        ref starts,
        ref weights,
        ref rounding,
    } = *depthwise;
    let (from, to) = (input.layout, output.layout);
    let channels = from.channels;
    // Of the pixels of each pair; the last pixel of an odd number is read twice, and counts once.
    let mut offsets = [[0; 2]; PAIRS];
    for (at, offset) in offsets.as_flattened_mut().iter_mut().enumerate() {
        let tap = at.min(columns * columns - 1);
        *offset = tap / columns * from.stride + tap % columns * channels;
    }
    let (weights, _) = weights.as_chunks::<2>();
    let (weights, _) = weights.as_chunks::<PAIRS>();
    for image in 0..output.count {
        for y in 0..to.height {
            // In the margin, whose value is the zero point, if the window begins outside.
            let row = from.pixel(image, y * down, 0) - top * from.stride - left * channels;
            let target = to.pixel(image, y, 0);
            for (block, (&first, weights)) in starts.iter().zip(weights).enumerate() {
                let window = &input.bytes[row + first..];
                let target = &mut output.bytes[target..][..to.row()];
                for (x, target) in target.chunks_exact_mut(channels).enumerate() {
                    let window = &window[x * across * channels..];
                    let mut sums = start(rounding, block);
                    for (&[even, odd], weights) in offsets.iter().zip(weights) {
                        let (even, odd) = (tap(window, even), tap(window, odd));
                        let low = _mm256_unpacklo_epi16(even, odd);
                        let high = _mm256_unpackhi_epi16(even, odd);
                        let low = _mm256_madd_epi16(low, cast(weights[0]));
                        let high = _mm256_madd_epi16(high, cast(weights[1]));
                        sums = [
                            _mm256_add_epi32(sums[0], low),
                            _mm256_add_epi32(sums[1], high),
                        ];
                    }
                    target[first..][..BLOCK].copy_from_slice(&round(sums, rounding, block));
                }
            }
        }
    }
}

/// A pixel of a window, as 16-bit integers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tap(window: &[u8], offset: usize) -> __m256i {
    let bytes: Bytes = *window[offset..].first_chunk().expect("within the margin");
    _mm256_cvtepu8_epi16(cast(bytes))
}

/// The sums of a block of channels before its first product.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn start(rounding: &Rounding, block: usize) -> [__m256i; 2] {
    [
        cast(rounding.bias[2 * block]),
        cast(rounding.bias[2 * block + 1]),
    ]
}

/// From the sums of a block of channels to bytes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn round(sums: [__m256i; 2], rounding: &Rounding, block: usize) -> Bytes {
    let most = _mm256_set1_ps(f32::from(u8::MAX - rounding.zero));
    let values = [0, 1].map(|register| {
        let scale: __m256 = cast(rounding.scale[2 * block + register]);
        let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[register]), scale);
        // Numbers beyond 32 bits become the smallest integer: right for those below, so only those
        // above are cut off here. Packing does the rest.
        _mm256_cvtps_epi32(_mm256_min_ps(value, most))
    });
    let zero = _mm256_set1_epi16(i16::from(rounding.zero));
    pack(_mm256_adds_epi16(
        _mm256_packs_epi32(values[0], values[1]),
        zero,
    ))
}

/// 16-bit integers to bytes, within 0 to 255.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pack(words: __m256i) -> Bytes {
    let [low, high] = [
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words),
    ];
    cast(_mm_packus_epi16(low, high))
}

/// Adds the maps of each image.
#[target_feature(enable = "avx2,fma")]
pub(super) fn add(sum: &Sum, inputs: [Maps<'_>; 2], output: MapsMut<'_>) {
    let to = output.layout;
    for image in 0..output.count {
        for y in 0..to.height {
            let [a, b] = inputs.map(|Maps { bytes, layout }| {
                bytes[layout.pixel(image, y, 0)..][..to.row()].chunks(BLOCK)
            });
            let target = &mut output.bytes[to.pixel(image, y, 0)..][..to.row()];
            for ((a, b), target) in a.zip(b).zip(target.chunks_mut(BLOCK)) {
                if let (Ok(a), Ok(b)) = (a.try_into(), b.try_into()) {
                    target.copy_from_slice(&add_block(sum, a, b));
                } else {
                    let mut blocks = [[0; BLOCK]; 2];
                    blocks[0][..a.len()].copy_from_slice(a);
                    blocks[1][..b.len()].copy_from_slice(b);
                    let added = add_block(sum, blocks[0], blocks[1]);
                    target.copy_from_slice(&added[..target.len()]);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_block(sum: &Sum, a: Bytes, b: Bytes) -> Bytes {
    let ratios = sum.ratios.map(|ratio| _mm256_set1_ps(ratio));
    let offset = _mm256_set1_ps(sum.offset);
    let [a, b] = [a, b].map(cast::<_, __m128i>);
    let halves = [[a, b], [a, b].map(|bytes| _mm_unpackhi_epi64(bytes, bytes))].map(|both| {
        let [a, b] = both.map(|bytes| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
        let b = _mm256_fmadd_ps(b, ratios[1], offset);
        _mm256_cvtps_epi32(_mm256_fmadd_ps(a, ratios[0], b))
    });
    let words = _mm256_packs_epi32(halves[0], halves[1]);
    pack(_mm256_permute4x64_epi64::<0b11_01_10_00>(words))
}
