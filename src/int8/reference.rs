//! The layers of a network in plain loops, as the tests expect them.

use proptest::prelude::*;

use super::graph::{Convolution, Graph, Layer, Map, Operand, Units};

/// The features of one image.
pub(super) fn features(graph: &Graph, image: &[u8]) -> Vec<f32> {
    let mut maps = vec![Vec::new(); graph.maps.len()];
    maps[0] = image.to_vec();
    for layer in &graph.layers {
        match layer {
            Layer::Convolution(convolution, output) => {
                let input = &maps[graph.maps[convolution.input.map].bytes_of];
                maps[output.map] = convolve(graph, convolution, output, input);
            }
            Layer::Sum([a, b], output) => {
                let [zero_a, zero_b, zero] = [a, b, output].map(|one| f32::from(one.units.zero));
                let [a_scale, b_scale] = [a, b].map(|one| one.units.scale / output.units.scale);
                let offset = zero - a_scale.mul_add(zero_a, b_scale * zero_b);
                let pairs = maps[a.map].iter().zip(&maps[b.map]);
                let sums = pairs.map(|(&a, &b)| {
                    let sum = f32::from(a).mul_add(a_scale, f32::from(b).mul_add(b_scale, offset));
                    sum.round_ties_even().clamp(0.0, 255.0) as u8
                });
                maps[output.map] = sums.collect();
            }
            Layer::Mean(Operand { map, units }) => {
                let Map { channels, .. } = graph.maps[*map];
                let pixels = maps[graph.maps[*map].bytes_of].chunks_exact(channels);
                let count = pixels.len() as f64;
                return (0..channels)
                    .map(|channel| {
                        let values = pixels.clone().map(|pixel| f64::from(pixel[channel]));
                        let mean = values.sum::<f64>() / count - f64::from(units.zero);
                        (mean * f64::from(units.scale)) as f32
                    })
                    .collect();
            }
        }
    }
    unreachable!("a network ends with the mean");
}

fn convolve(graph: &Graph, layer: &Convolution, output: &Operand, input: &[u8]) -> Vec<u8> {
    let from = graph.maps[layer.input.map];
    let to = graph.maps[output.map];
    let [rows, columns] = layer.kernel;
    let inputs = layer.products() / (rows * columns);
    let zero = i64::from(layer.input.units.zero);
    let mut result = Vec::new();
    for y in 0..to.height {
        for x in 0..to.width {
            for filter in 0..layer.filters {
                let mut sum = i64::from(layer.bias[filter]);
                for row in 0..rows {
                    for column in 0..columns {
                        let y = (y * layer.strides[0] + row).wrapping_sub(layer.pads[0]);
                        let x = (x * layer.strides[1] + column).wrapping_sub(layer.pads[1]);
                        if y >= from.height || x >= from.width {
                            continue;
                        }
                        for depth in 0..inputs {
                            let channel = if layer.is_depthwise { filter } else { depth };
                            let byte = input[(y * from.width + x) * from.channels + channel];
                            let at = ((filter * inputs + depth) * rows + row) * columns + column;
                            sum += (i64::from(byte) - zero) * i64::from(layer.weights[at]);
                        }
                    }
                }
                let scale = layer.input.units.scale * layer.scales[filter] / output.units.scale;
                let value = (sum as f32 * scale).round_ties_even() + f32::from(output.units.zero);
                result.push(value.clamp(0.0, 255.0) as u8);
            }
        }
    }
    result
}

/// Networks with every kind of layer: a first convolution, an inverted residual, a mean.
pub(super) fn graphs() -> impl Strategy<Value = Graph> {
    let sizes = (1_usize..12, 1_usize..12, 16_usize..50, 1_usize..40);
    let window = (
        1_usize..4,
        1_usize..4,
        1_usize..3,
        1_usize..3,
        any::<[u8; 4]>(),
    );
    let depthwise = (any::<bool>(), 1_usize..3, any::<[u8; 4]>());
    (sizes, window, depthwise, any::<u64>()).prop_map(
        |((height, width, wide, narrow), window, (is_large, stride, pads), seed)| {
            let mut made = Maker {
                maps: vec![Map {
                    height,
                    width,
                    channels: 3,
                    bytes_of: 0,
                }],
                layers: Vec::new(),
                state: seed,
            };
            let (rows, columns, down, across, padded) = window;
            let kernel = [rows.min(height), columns.min(width)];
            let pads = (
                padded.map(|pad| usize::from(pad % 4)),
                pads.map(|pad| usize::from(pad % 3)),
            );
            let image = made.operand(0);
            let first = made.convolution(image, narrow, kernel, [down, across], pads.0, false);
            let expanded = made.convolution(first, wide, [1, 1], [1, 1], [0; 4], false);
            let size: usize = if is_large { 5 } else { 3 };
            let Map { height, width, .. } = made.maps[expanded.map];
            // Enough that the kernel fits into the smallest map.
            let around =
                |pad: usize, side: usize| pad.max(size.saturating_sub(side + 1).div_ceil(2) + 1);
            let [top, left, bottom, right] = pads.1;
            let pads = [
                around(top, height),
                around(left, width),
                around(bottom, height),
                around(right, width),
            ];
            let spread = made.convolution(expanded, wide, [size; 2], [stride; 2], pads, true);
            let projected = made.convolution(spread, narrow, [1, 1], [1, 1], [0; 4], false);
            let again = made.convolution(projected, narrow, [1, 1], [1, 1], [0; 4], false);
            let Map { height, width, .. } = made.maps[again.map];
            let sum = made.add(height, width, narrow);
            made.layers.push(Layer::Sum([projected, again], sum));
            made.layers.push(Layer::Mean(sum));
            Graph {
                maps: made.maps,
                layers: made.layers,
            }
        },
    )
}

struct Maker {
    maps: Vec<Map>,
    layers: Vec<Layer>,
    state: u64,
}

impl Maker {
    /// A number below `end`, from a linear congruential generator (Knuth's MMIX).
    fn below(&mut self, end: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % end
    }

    fn units(&mut self) -> Units {
        Units {
            scale: 0.01 + self.below(1000) as f32 / 10_000.0,
            zero: self.below(256) as u8,
        }
    }

    fn operand(&mut self, map: usize) -> Operand {
        let units = self.units();
        Operand { map, units }
    }

    fn add(&mut self, height: usize, width: usize, channels: usize) -> Operand {
        let map = Map::add_to(&mut self.maps, height, width, channels);
        self.operand(map)
    }

    fn convolution(
        &mut self,
        input: Operand,
        filters: usize,
        kernel: [usize; 2],
        strides: [usize; 2],
        pads: [usize; 4],
        is_depthwise: bool,
    ) -> Operand {
        let from = self.maps[input.map];
        let [top, left, bottom, right] = pads;
        let height = (from.height + top + bottom - kernel[0]) / strides[0] + 1;
        let width = (from.width + left + right - kernel[1]) / strides[1] + 1;
        let inputs = if is_depthwise { 1 } else { from.channels };
        let products = inputs * kernel[0] * kernel[1];
        let weights = (0..filters * products)
            .map(|_| self.below(256) as u8)
            .collect::<Vec<_>>();
        let bias = (0..filters)
            .map(|_| self.below(2000) as i32 - 1000)
            .collect();
        // Most results are within 0 to 255, and some are not.
        let scales = (0..filters)
            .map(|_| (1 + self.below(40)) as f32 / 5000.0)
            .collect();
        let output = self.add(height, width, filters);
        self.layers.push(Layer::Convolution(
            Convolution {
                input,
                weights: weights.iter().map(|byte| byte.cast_signed()).collect(),
                filters,
                kernel,
                is_depthwise,
                bias,
                scales,
                strides,
                pads,
            },
            output,
        ));
        output
    }
}
