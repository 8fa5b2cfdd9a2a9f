//! Reads the layers of a quantized network from ONNX.
//!
//! Tensors held in 8 bits stand between `QuantizeLinear` and `DequantizeLinear`; what is between two
//! of them is one layer. ONNX lists dimensions channels first, but `Transpose` at the start and the
//! end of each such part says so, and no byte moves: maps are channels last in memory throughout.

use std::collections::HashMap;

use prost::bytes::Bytes;

use crate::contract::{INPUT, OUTPUT};
use crate::onnx;
use crate::resize::{CHANNELS, Size};

/// Sums of products have 32 bits. With fewer products than this, none overflows.
const MAX_PRODUCTS: usize = 1 << 15;
/// The largest bias: what is left of 32 bits.
const MAX_BIAS: i32 = 1 << 30;

const TO_CHANNELS_FIRST: [i64; 4] = [0, 3, 1, 2];
const TO_CHANNELS_LAST: [i64; 4] = [0, 2, 3, 1];

/// A network whose maps are held in 8 bits.
#[derive(Debug)]
pub(super) struct Graph {
    /// The first map is the input.
    pub(super) maps: Vec<Map>,
    pub(super) layers: Vec<Layer>,
}

/// The size of a map, uint8 `[height, width, channels]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    /// The map whose bytes these are: this one, or one that a `Reshape` gives other columns.
    pub(super) bytes_of: usize,
}

impl Map {
    /// Adds a map with bytes of its own to the list, and returns its place there.
    pub(super) fn add_to(
        maps: &mut Vec<Self>,
        height: usize,
        width: usize,
        channels: usize,
    ) -> usize {
        let bytes_of = maps.len();
        maps.push(Self {
            height,
            width,
            channels,
            bytes_of,
        });
        bytes_of
    }
}

/// How uint8 represents real numbers: `scale * (value - zero)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    pub(super) scale: f32,
    pub(super) zero: u8,
}

/// A map, by its place in the list, with its units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand {
    pub(super) map: usize,
    pub(super) units: Units,
}

#[derive(Debug)]
pub(super) enum Layer {
    Convolution(Convolution, Operand),
    /// The sum of two maps of the same size.
    Sum([Operand; 2], Operand),
    /// The mean of each channel, in float32: the features.
    Mean(Operand),
}

/// A convolution of all channels, or of each channel alone.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    pub(super) input: Operand,
    /// int8 `[filters, input channels or 1, height, width]`.
    pub(super) weights: Vec<i8>,
    pub(super) filters: usize,
    pub(super) kernel: [usize; 2],
    pub(super) is_depthwise: bool,
    /// In units of input times weight.
    pub(super) bias: Vec<i32>,
    /// Of each filter's weights.
    pub(super) scales: Vec<f32>,
    pub(super) strides: [usize; 2],
    /// Top, left, bottom, right.
    pub(super) pads: [usize; 4],
}

impl Convolution {
    /// Products in each sum.
    pub(super) fn products(&self) -> usize {
        self.weights.len() / self.filters
    }
}

/// What a name stands for.
enum Tensor<'a> {
    /// In 8 bits; whether ONNX lists its channels first.
    Held {
        map: usize,
        channels_first: bool,
    },
    Dequantized(Operand),
    /// A constant, and the scales of its first dimension.
    Constant(&'a onnx::Tensor, Vec<f32>),
    Convolution(Convolution),
    Sum([Operand; 2]),
    Mean(Operand),
}

impl Graph {
    /// Reads the graph for images of this size; None if it has anything else than such layers.
    pub(super) fn read(graph: &onnx::Graph, size: Size) -> Option<Self> {
        let constants = graph.initializers.iter();
        let mut reader = Reader {
            constants: constants.map(|one| (one.name.as_str(), one)).collect(),
            tensors: HashMap::new(),
            maps: Vec::new(),
            layers: Vec::new(),
        };
        let images = Map::add_to(&mut reader.maps, size.height, size.width, CHANNELS);
        reader.tensors.insert(
            INPUT,
            Tensor::Held {
                map: images,
                channels_first: false,
            },
        );
        for node in &graph.nodes {
            if !node.domain.is_empty() {
                return None;
            }
            let tensor = reader.read(node)?;
            reader.tensors.insert(node.outputs.first()?, tensor);
        }
        let Some(Tensor::Mean(features)) = reader.tensors.get(OUTPUT) else {
            return None;
        };
        reader.layers.push(Layer::Mean(*features));
        Some(Self {
            maps: reader.maps,
            layers: reader.layers,
        })
    }
}

struct Reader<'a> {
    constants: HashMap<&'a str, &'a onnx::Tensor>,
    tensors: HashMap<&'a str, Tensor<'a>>,
    maps: Vec<Map>,
    layers: Vec<Layer>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, node: &'a onnx::Node) -> Option<Tensor<'a>> {
        match node.operator.as_str() {
            "Reshape" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "DequantizeLinear" => self.dequantize(node),
            "QuantizeLinear" => self.quantize(node),
            "Conv" => self.convolution(node),
            "Add" => Some(Tensor::Sum([
                self.operand(node, 0)?,
                self.operand(node, 1)?,
            ])),
            "GlobalAveragePool" => Some(Tensor::Mean(self.operand(node, 0)?)),
            "Flatten" if integer(node, "axis").unwrap_or(1) == 1 => match self.tensor(node, 0)? {
                Tensor::Mean(operand) => Some(Tensor::Mean(*operand)),
                _ => None,
            },
            _ => None,
        }
    }

    fn tensor(&self, node: &'a onnx::Node, input: usize) -> Option<&Tensor<'a>> {
        self.tensors.get(node.inputs.get(input)?.as_str())
    }

    fn constant(&self, node: &'a onnx::Node, input: usize) -> Option<&'a onnx::Tensor> {
        self.constants
            .get(node.inputs.get(input)?.as_str())
            .copied()
    }

    fn operand(&self, node: &'a onnx::Node, input: usize) -> Option<Operand> {
        match self.tensor(node, input)? {
            Tensor::Dequantized(operand) => Some(*operand),
            _ => None,
        }
    }

    /// Other columns of the same rows.
    fn reshape(&mut self, node: &'a onnx::Node) -> Option<Tensor<'a>> {
        let &Tensor::Held {
            map,
            channels_first: false,
        } = self.tensor(node, 0)?
        else {
            return None;
        };
        let dims = integers_of(self.constant(node, 1)?)?;
        let &[0, height, width, channels] = dims.as_slice() else {
            return None;
        };
        let [height, width, channels] = [height, width, channels].map(usize::try_from);
        let (height, width, channels) = (height.ok()?, width.ok()?, channels.ok()?);
        let old = self.maps[map];
        if height != old.height || width.checked_mul(channels)? != old.width * old.channels {
            return None;
        }
        self.maps.push(Map {
            height,
            width,
            channels,
            bytes_of: old.bytes_of,
        });
        Some(Tensor::Held {
            map: self.maps.len() - 1,
            channels_first: false,
        })
    }

    fn transpose(&self, node: &'a onnx::Node) -> Option<Tensor<'a>> {
        let &Tensor::Held {
            map,
            channels_first,
        } = self.tensor(node, 0)?
        else {
            return None;
        };
        let expected = if channels_first {
            TO_CHANNELS_LAST
        } else {
            TO_CHANNELS_FIRST
        };
        (integers(node, "perm")? == expected).then_some(Tensor::Held {
            map,
            channels_first: !channels_first,
        })
    }

    fn dequantize(&self, node: &'a onnx::Node) -> Option<Tensor<'a>> {
        if let Some(constant) = self.constant(node, 0) {
            let zeros = self.constant(node, 2)?;
            let is_symmetric = zeros.element == constant.element
                && zeros.raw.iter().all(|&byte| byte == 0)
                && integer(node, "axis") == Some(0);
            let scales = floats_of(self.constant(node, 1)?)?;
            return is_symmetric.then_some(Tensor::Constant(constant, scales));
        }
        match *self.tensor(node, 0)? {
            Tensor::Held {
                map,
                channels_first: true,
            } => Some(Tensor::Dequantized(Operand {
                map,
                units: self.units(node)?,
            })),
            _ => None,
        }
    }

    /// Ends a layer: its output is a new map.
    fn quantize(&mut self, node: &'a onnx::Node) -> Option<Tensor<'a>> {
        let units = self.units(node)?;
        let map = match self.tensor(node, 0)? {
            Tensor::Convolution(convolution) => {
                let convolution = convolution.clone();
                let Map { height, width, .. } = self.maps[convolution.input.map];
                let [top, left, bottom, right] = convolution.pads;
                let [rows, columns] = convolution.kernel;
                let [down, across] = convolution.strides;
                let height = (height + top + bottom).checked_sub(rows)? / down + 1;
                let width = (width + left + right).checked_sub(columns)? / across + 1;
                let map = Map::add_to(&mut self.maps, height, width, convolution.filters);
                let layer = Layer::Convolution(convolution, Operand { map, units });
                self.layers.push(layer);
                map
            }
            Tensor::Sum(operands) => {
                let operands = *operands;
                let [a, b] = operands.map(|operand| self.maps[operand.map]);
                if (a.height, a.width, a.channels) != (b.height, b.width, b.channels) {
                    return None;
                }
                let map = Map::add_to(&mut self.maps, a.height, a.width, a.channels);
                self.layers
                    .push(Layer::Sum(operands, Operand { map, units }));
                map
            }
            _ => return None,
        };
        Some(Tensor::Held {
            map,
            channels_first: true,
        })
    }

    fn convolution(&self, node: &'a onnx::Node) -> Option<Tensor<'a>> {
        let input = self.operand(node, 0)?;
        let Tensor::Constant(weights, scales) = self.tensor(node, 1)? else {
            return None;
        };
        let Tensor::Constant(bias, _) = self.tensor(node, 2)? else {
            return None;
        };
        let &[filters, depth, rows, columns] = sizes_of(weights)?.as_slice() else {
            return None;
        };
        let channels = self.maps[input.map].channels;
        let group = usize::try_from(integer(node, "group").unwrap_or(1)).ok()?;
        let is_depthwise = group > 1;
        let strides = small(integers(node, "strides").unwrap_or(&[1, 1]))?;
        let pads = small(integers(node, "pads").unwrap_or(&[0; 4]))?;
        let bias = int32_of(bias)?;
        let is_plain = (is_depthwise && group == channels && filters == channels && depth == 1)
            || (!is_depthwise && depth == channels);
        let is_complete = bias.len() == filters && scales.len() == filters && filters > 0;
        let fits = depth * rows * columns < MAX_PRODUCTS
            && bias.iter().all(|bias| bias.abs() <= MAX_BIAS)
            && weights.element == onnx::INT8
            && strides.iter().all(|&stride| stride > 0)
            && rows * columns > 0;
        let has_pads = text(node, "auto_pad").is_none_or(|pad| pad == "NOTSET");
        let is_dense = integers(node, "dilations").is_none_or(|dilations| dilations == [1, 1]);
        if !(is_plain && is_complete && fits && has_pads && is_dense) {
            return None;
        }
        Some(Tensor::Convolution(Convolution {
            input,
            weights: weights.raw.iter().map(|&byte| byte.cast_signed()).collect(),
            filters,
            kernel: [rows, columns],
            is_depthwise,
            bias,
            scales: scales.clone(),
            strides,
            pads,
        }))
    }

    fn units(&self, node: &'a onnx::Node) -> Option<Units> {
        let scale = floats_of(self.constant(node, 1)?)?;
        let zero = self.constant(node, 2)?;
        match (scale.as_slice(), zero.element, &zero.raw[..]) {
            (&[scale], onnx::UINT8, &[zero]) => Some(Units { scale, zero }),
            _ => None,
        }
    }
}

fn attribute<'a>(node: &'a onnx::Node, name: &str) -> Option<&'a onnx::Attribute> {
    node.attributes.iter().find(|one| one.name == name)
}

fn integer(node: &onnx::Node, name: &str) -> Option<i64> {
    attribute(node, name).map(|one| one.integer)
}

fn integers<'a>(node: &'a onnx::Node, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|one| one.integers.as_slice())
}

fn text<'a>(node: &'a onnx::Node, name: &str) -> Option<&'a str> {
    std::str::from_utf8(&attribute(node, name)?.string).ok()
}

/// Strides or pads, which are small.
fn small<const N: usize>(values: &[i64]) -> Option<[usize; N]> {
    let values: Option<Vec<usize>> = values
        .iter()
        .map(|&value| u8::try_from(value).ok().map(usize::from))
        .collect();
    values?.try_into().ok()
}

/// The dimensions of a tensor of 8 bits that holds as many values.
fn sizes_of(tensor: &onnx::Tensor) -> Option<Vec<usize>> {
    let dims: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect();
    let dims = dims?;
    let values = dims
        .iter()
        .try_fold(1_usize, |all, &dim| all.checked_mul(dim))?;
    (values == tensor.raw.len()).then_some(dims)
}

fn floats_of(tensor: &onnx::Tensor) -> Option<Vec<f32>> {
    (tensor.element == onnx::FLOAT).then(|| values(&tensor.raw, f32::from_le_bytes))
}

fn int32_of(tensor: &onnx::Tensor) -> Option<Vec<i32>> {
    (tensor.element == onnx::INT32).then(|| values(&tensor.raw, i32::from_le_bytes))
}

fn integers_of(tensor: &onnx::Tensor) -> Option<Vec<i64>> {
    (tensor.element == onnx::INT64).then(|| values(&tensor.raw, i64::from_le_bytes))
}

fn values<const N: usize, T>(raw: &Bytes, value: fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks().0.iter().copied().map(value).collect()
}
