//! Weights in the order in which the kernels read them.

use super::graph::{Convolution, Units};

/// Channels that a kernel computes at once: two registers of eight 32-bit sums.
pub(super) const BLOCK: usize = 16;

/// Which channels of a block are in the first register, and which in the second. Packing two
/// registers to 8 bits interleaves their halves, so this order gives the channels in theirs.
const REGISTERS: [[usize; 8]; 2] = [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]];

/// A register of 16-bit weights: two for each of its eight channels.
pub(super) type Pairs = [i16; 16];

/// Convolution of all channels, as a product of matrices: each pixel is a row of `depth` bytes.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) depth: usize,
    pub(super) channels: usize,
    /// `[block][pair of the depth][register]`; 0 beyond the channels and the depth.
    pub(super) weights: Vec<Pairs>,
    pub(super) rounding: Rounding,
}

/// Convolution of each channel alone.
#[derive(Debug)]
pub(super) struct Depthwise {
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    /// Top and left.
    pub(super) pads: [usize; 2],
    /// The first channel of each block. The last block may overlap the one before.
    pub(super) starts: Vec<usize>,
    /// `[block][pair of the kernel's pixels][register]`; 0 beyond the kernel.
    pub(super) weights: Vec<Pairs>,
    pub(super) rounding: Rounding,
}

/// From sums of products to uint8: `round((sum + bias) * scale) + zero`.
#[derive(Debug)]
pub(super) struct Rounding {
    /// `[block][register]`. It includes the zero point of the input, so the sum is of the bytes.
    pub(super) bias: Vec<[i32; 8]>,
    /// `[block][register]`, float32: the scales of input and weights divided by that of the output.
    pub(super) scale: Vec<[f32; 8]>,
    pub(super) zero: u8,
}

impl Matrix {
    /// The depth has the order of the bytes: rows, columns and channels of the kernel's window.
    pub(super) fn new(convolution: &Convolution, output: Units) -> Self {
        let depth = convolution.products();
        let filters = convolution.filters;
        let [rows, columns] = convolution.kernel;
        let (pixels, inputs) = (rows * columns, depth / (rows * columns));
        let weight = |filter: usize, place: usize| {
            let (pixel, input) = (place / inputs, place % inputs);
            let is_there = filter < filters && place < depth;
            is_there.then(|| convolution.weights[(filter * inputs + input) * pixels + pixel])
        };
        let starts: Vec<_> = (0..filters).step_by(BLOCK).collect();
        Self {
            depth,
            channels: filters,
            weights: pairs(&starts, depth, weight),
            rounding: Rounding::new(convolution, output, &starts),
        }
    }
}

impl Depthwise {
    /// None if there are fewer channels than the kernel computes at once.
    pub(super) fn new(convolution: &Convolution, output: Units) -> Option<Self> {
        let taps = convolution.products();
        let channels = convolution.filters;
        let last = channels.checked_sub(BLOCK)?;
        let mut starts: Vec<_> = (0..=last).step_by(BLOCK).collect();
        if !channels.is_multiple_of(BLOCK) {
            starts.push(last);
        }
        let weight = |channel: usize, tap: usize| {
            (tap < taps).then(|| convolution.weights[channel * taps + tap])
        };
        let [top, left, ..] = convolution.pads;
        Some(Self {
            kernel: convolution.kernel,
            strides: convolution.strides,
            pads: [top, left],
            weights: pairs(&starts, taps, weight),
            rounding: Rounding::new(convolution, output, &starts),
            starts,
        })
    }
}

/// The weights of blocks of channels, two of the `products` of a sum at a time.
fn pairs(
    starts: &[usize],
    products: usize,
    weight: impl Fn(usize, usize) -> Option<i8>,
) -> Vec<Pairs> {
    let mut all = Vec::with_capacity(starts.len() * products.div_ceil(2) * REGISTERS.len());
    for start in starts {
        for first in (0..products).step_by(2) {
            all.extend(REGISTERS.map(|channels| {
                std::array::from_fn(|at| {
                    let channel = start + channels[at / 2];
                    weight(channel, first + at % 2).map_or(0, i16::from)
                })
            }));
        }
    }
    all
}

impl Rounding {
    fn new(convolution: &Convolution, output: Units, starts: &[usize]) -> Self {
        let input = convolution.input.units;
        let filters = convolution.weights.chunks_exact(convolution.products());
        let bias = filters.zip(&convolution.bias).map(|(weights, bias)| {
            let sum: i32 = weights.iter().copied().map(i32::from).sum();
            bias.wrapping_sub(i32::from(input.zero) * sum)
        });
        // In the order of ONNX Runtime, for the same rounding.
        let scales = convolution.scales.iter();
        let scale = scales.map(|scale| input.scale * scale / output.scale);
        Self {
            bias: registers(&bias.collect::<Vec<_>>(), starts),
            scale: registers(&scale.collect::<Vec<_>>(), starts),
            zero: output.zero,
        }
    }
}

/// Values of the channels in the order of the registers; 0 beyond the channels.
fn registers<T: Copy + Default>(values: &[T], starts: &[usize]) -> Vec<[T; 8]> {
    let of = |channel: usize| values.get(channel).copied().unwrap_or_default();
    starts
        .iter()
        .flat_map(|start| REGISTERS.map(|channels| channels.map(|channel| of(start + channel))))
        .collect()
}
