//! The layers of a network as steps on buffers.

use std::mem;

use multiversion::multiversion;
use multiversion::target::match_target;

use super::avx2;
use super::graph::{Convolution, Graph, Layer, Operand, Units};
use super::layout::{Layout, Maps, MapsMut, Margin};
use super::weights::{Depthwise, Matrix};

/// A map in one of the buffers.
#[derive(Debug, Clone, Copy)]
struct Place {
    buffer: usize,
    layout: Layout,
}

#[derive(Debug)]
enum Step {
    Windows(Windows),
    Matrix(Matrix),
    Depthwise(Depthwise),
    Sum(Sum),
}

/// Copies the windows of a convolution: each becomes a pixel, a row of a matrix.
#[derive(Debug)]
struct Windows {
    kernel: [usize; 2],
    strides: [usize; 2],
    /// Top and left.
    pads: [usize; 2],
    /// What is read outside the map.
    zero: u8,
}

/// The sum of two maps: `round(a * ratios[0] + (b * ratios[1] + offset))`, in fused steps, as ONNX
/// Runtime rounds them.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) ratios: [f32; 2],
    pub(super) offset: f32,
}

/// A step, the maps it reads, and that which it writes.
#[derive(Debug)]
struct Instruction {
    step: Step,
    /// The second is another one only for a sum.
    inputs: [Place; 2],
    output: Place,
    /// The value of the output's margin.
    zero: u8,
}

/// A compiled network with its buffers.
#[derive(Debug)]
pub(super) struct Program {
    /// Bytes of an input image.
    image: usize,
    instructions: Vec<Instruction>,
    features: (Place, Units),
    /// Bytes of each buffer for an image. The first is the input, which is elsewhere.
    sizes: Vec<usize>,
    buffers: Vec<Vec<u8>>,
    /// Of the widest matrix.
    scratch: Vec<i32>,
}

/// The buffer of the input images.
const IMAGES: usize = 0;

impl Program {
    /// Compiles the network; None if it has a depthwise convolution without a kernel.
    pub(super) fn new(graph: &Graph) -> Option<Self> {
        let mut compiler = Compiler::new(graph);
        let mut features = None;
        for (number, layer) in graph.layers.iter().enumerate() {
            match layer {
                Layer::Convolution(convolution, output) => {
                    compiler.convolution(convolution, *output)?;
                }
                Layer::Sum(operands, output) => compiler.sum(*operands, *output),
                Layer::Mean(input) => features = Some((compiler.place(input.map), input.units)),
            }
            compiler.release(number);
        }
        Some(Self {
            image: compiler.layouts[0].bytes,
            instructions: compiler.instructions,
            features: features?,
            buffers: vec![Vec::new(); compiler.sizes.len()],
            sizes: compiler.sizes,
            scratch: vec![0; compiler.scratch],
        })
    }

    /// The number of features.
    pub(super) fn dim(&self) -> usize {
        self.features.0.layout.channels
    }

    /// Computes the features of `images` (uint8 `[n, height, width, 3]`), `[n, dim]`.
    pub(super) fn run_into(&mut self, images: &[u8], features: &mut [f32]) {
        let count = images.len() / self.image;
        for (buffer, size) in self.buffers.iter_mut().zip(&self.sizes) {
            buffer.resize(count * size, 0);
        }
        for Instruction {
            step,
            inputs,
            output: Place { buffer, layout },
            zero,
        } in &self.instructions
        {
            // The output is in no input's buffer, so it can leave the list meanwhile.
            let mut bytes = mem::take(&mut self.buffers[*buffer]);
            layout.fill_margin(&mut bytes[..count * layout.bytes], *zero);
            run(Call {
                step,
                inputs: inputs.map(|place| Maps {
                    bytes: match place.buffer {
                        IMAGES => images,
                        other => &self.buffers[other],
                    },
                    layout: place.layout,
                }),
                output: MapsMut {
                    bytes: &mut bytes,
                    layout: *layout,
                    count,
                },
                scratch: &mut self.scratch,
            });
            self.buffers[*buffer] = bytes;
        }
        let (place, units) = self.features;
        let maps = Maps {
            bytes: &self.buffers[place.buffer],
            layout: place.layout,
        };
        means(maps, units, features);
    }
}

/// A step on the maps of some images.
struct Call<'a> {
    step: &'a Step,
    inputs: [Maps<'a>; 2],
    output: MapsMut<'a>,
    scratch: &'a mut [i32],
}

/// Runs a step. Networks are compiled on CPUs with AVX2 and FMA only.
#[multiversion(targets("x86_64+avx2+fma"))]
fn run(call: Call<'_>) {
    match_target! {
        "x86_64+avx2+fma" => match call.step {
            Step::Windows(windows) => windows.copy(call.inputs[0], call.output),
            Step::Matrix(matrix) => {
                avx2::multiply(matrix, call.inputs[0], call.output, call.scratch);
            }
            Step::Depthwise(depthwise) => avx2::convolve(depthwise, call.inputs[0], call.output),
            Step::Sum(sum) => avx2::add(sum, call.inputs, call.output),
        },
        _ => unreachable!("no kernel for {:?}", call.output.layout),
    }
}

impl Windows {
    fn copy(&self, input: Maps<'_>, output: MapsMut<'_>) {
        let (from, to) = (input.layout, output.layout);
        let [rows, columns] = self.kernel;
        let [down, across] = self.strides;
        let [top, left] = self.pads.map(usize::cast_signed);
        let span = columns * from.channels;
        let (row, channels) = (from.row().cast_signed(), from.channels.cast_signed());
        for image in 0..output.count {
            for y in 0..to.height {
                for x in 0..to.width {
                    let window = &mut output.bytes[to.pixel(image, y, x)..][..rows * span];
                    for (at, target) in window.chunks_exact_mut(span).enumerate() {
                        let y = (y * down + at).cast_signed() - top;
                        if y < 0 || y >= from.height.cast_signed() {
                            target.fill(self.zero);
                            continue;
                        }
                        let source = &input.bytes[from.pixel(image, y.cast_unsigned(), 0)..];
                        // In bytes of the row. The window may begin before it, and end after it.
                        let start = ((x * across).cast_signed() - left) * channels;
                        let end = start + span.cast_signed();
                        let [first, last] = [start, end].map(|at| at.clamp(0, row));
                        if (first, last) != (start, end) {
                            target.fill(self.zero);
                        }
                        if first < last {
                            let skipped = (first - start).cast_unsigned();
                            let source = &source[first.cast_unsigned()..last.cast_unsigned()];
                            target[skipped..][..source.len()].copy_from_slice(source);
                        }
                    }
                }
            }
        }
    }
}

/// The mean of each channel over the pixels of each image.
fn means(input: Maps<'_>, units: Units, features: &mut [f32]) {
    let from = input.layout;
    let mut sums = vec![0_u64; from.channels];
    let pixels = from.height * from.width;
    let zeros = f64::from(units.zero) * pixels as f64;
    for (image, features) in features.chunks_exact_mut(from.channels).enumerate() {
        sums.fill(0);
        for y in 0..from.height {
            for x in 0..from.width {
                let pixel = &input.bytes[from.pixel(image, y, x)..][..from.channels];
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += u64::from(value);
                }
            }
        }
        for (feature, &sum) in features.iter_mut().zip(&sums) {
            let mean = (sum as f64 - zeros) * f64::from(units.scale) / pixels as f64;
            *feature = mean as f32;
        }
    }
}

/// Turns layers into instructions and gives their maps buffers, which later maps use again.
struct Compiler {
    /// Of each map.
    layouts: Vec<Layout>,
    /// The map that has the bytes of each map.
    bytes_of: Vec<usize>,
    /// The last layer that reads the bytes of each map.
    last_reader: Vec<usize>,
    /// The buffer of each map's bytes, while it has one.
    buffer_of: Vec<Option<usize>>,
    /// What fills the margin of each map.
    margin_of: Vec<u8>,
    sizes: Vec<usize>,
    free: Vec<usize>,
    scratch: usize,
    instructions: Vec<Instruction>,
}

impl Compiler {
    fn new(graph: &Graph) -> Self {
        let maps = &graph.maps;
        let mut margins: Vec<Margin> = vec![[0; 4]; maps.len()];
        let mut last_reader = vec![0; maps.len()];
        for (number, layer) in graph.layers.iter().enumerate() {
            match layer {
                Layer::Convolution(convolution, _) => {
                    let map = maps[convolution.input.map];
                    last_reader[map.bytes_of] = number;
                    if convolution.is_depthwise {
                        let [top, left, bottom, right] = convolution.pads;
                        let needed = [top, left * map.channels, bottom, right * map.channels];
                        for (margin, needed) in margins[map.bytes_of].iter_mut().zip(needed) {
                            *margin = needed.max(*margin);
                        }
                    }
                }
                Layer::Sum(operands, _) => {
                    for operand in operands {
                        last_reader[maps[operand.map].bytes_of] = number;
                    }
                }
                Layer::Mean(operand) => last_reader[maps[operand.map].bytes_of] = number,
            }
        }
        // The images are somebody else's, and have no margin.
        margins[0] = [0; 4];
        let mut buffer_of = vec![None; maps.len()];
        buffer_of[0] = Some(IMAGES);
        Self {
            layouts: maps
                .iter()
                .map(|map| Layout::new(map, margins[map.bytes_of]))
                .collect(),
            bytes_of: maps.iter().map(|map| map.bytes_of).collect(),
            last_reader,
            buffer_of,
            margin_of: vec![0; maps.len()],
            sizes: vec![0],
            free: Vec::new(),
            scratch: 0,
            instructions: Vec::new(),
        }
    }

    fn place(&self, map: usize) -> Place {
        Place {
            buffer: self.buffer_of[self.bytes_of[map]].expect("a layer before has written the map"),
            layout: self.layouts[map],
        }
    }

    /// Takes the buffer that was last released, which the cache may still hold.
    fn take(&mut self, layout: Layout) -> Place {
        let buffer = self.free.pop().unwrap_or(self.sizes.len());
        self.sizes.resize(self.sizes.len().max(buffer + 1), 0);
        self.sizes[buffer] = self.sizes[buffer].max(layout.bytes);
        Place { buffer, layout }
    }

    fn write(&mut self, output: Operand) -> Place {
        let place = self.take(self.layouts[output.map]);
        self.buffer_of[output.map] = Some(place.buffer);
        self.margin_of[output.map] = output.units.zero;
        place
    }

    fn convolution(&mut self, convolution: &Convolution, output: Operand) -> Option<()> {
        let mut input = self.place(convolution.input.map);
        let mut copied = None;
        let [top, left, ..] = convolution.pads;
        let (kernel, strides, pads) = (convolution.kernel, convolution.strides, [top, left]);
        let zero = convolution.input.units.zero;
        let step = if convolution.is_depthwise {
            // What is outside the map counts as its zero point.
            let bytes_of = self.bytes_of[convolution.input.map];
            let has_margin = bytes_of != 0 && self.margin_of[bytes_of] == zero;
            if !has_margin || !avx2::KERNELS.contains(&kernel) {
                return None;
            }
            Step::Depthwise(Depthwise::new(convolution, output.units)?)
        } else {
            let is_pointwise = (kernel, strides, convolution.pads) == ([1, 1], [1, 1], [0; 4]);
            if !is_pointwise {
                let matrix = self.layouts[output.map].with_pixels(convolution.products());
                let windows = self.take(matrix);
                self.instructions.push(Instruction {
                    step: Step::Windows(Windows {
                        kernel,
                        strides,
                        pads,
                        zero,
                    }),
                    inputs: [input; 2],
                    output: windows,
                    zero,
                });
                input = windows;
                copied = Some(windows.buffer);
            }
            let matrix = Matrix::new(convolution, output.units);
            self.scratch = self.scratch.max(avx2::scratch_of(&matrix));
            Step::Matrix(matrix)
        };
        let place = self.write(output);
        // Only now: the output must not have the buffer of its input.
        self.free.extend(copied);
        self.instructions.push(Instruction {
            step,
            inputs: [input; 2],
            output: place,
            zero: output.units.zero,
        });
        Some(())
    }

    fn sum(&mut self, operands: [Operand; 2], output: Operand) {
        let [a, b] = operands.map(|operand| operand.units);
        // In the order of ONNX Runtime, for the same rounding.
        let ratios = [a, b].map(|units| units.scale / output.units.scale);
        let zeros = ratios[0].mul_add(f32::from(a.zero), ratios[1] * f32::from(b.zero));
        let offset = f32::from(output.units.zero) - zeros;
        let inputs = operands.map(|operand| self.place(operand.map));
        let place = self.write(output);
        self.instructions.push(Instruction {
            step: Step::Sum(Sum { ratios, offset }),
            inputs,
            output: place,
            zero: output.units.zero,
        });
    }

    /// Releases the buffers that no layer after this one reads.
    fn release(&mut self, layer: usize) {
        for (map, buffer) in self.buffer_of.iter_mut().enumerate().skip(1) {
            if self.last_reader[map] == layer {
                self.free.extend(buffer.take());
            }
        }
    }
}
