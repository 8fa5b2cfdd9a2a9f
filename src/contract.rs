//! What a model file promises, read without ONNX Runtime.
//!
//! A model is one ONNX file: input `images`, uint8 `[n, height, width, 3]`; output `features`,
//! float32 `[n, d]`; metadata `pomona.name`, `pomona.resize`, `pomona.source`, `pomona.license`.
//! Parsing the few messages of the format that carry this takes milliseconds and starts nothing, so a
//! broken model is an error where it is opened and not on the first batch.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::resize::{CHANNELS, Size};
use crate::{Error, Result};

/// Name of the model's input.
pub const INPUT: &str = "images";
/// Name of the model's output.
pub const OUTPUT: &str = "features";

const NAME: &str = "pomona.name";
const RESIZE: &str = "pomona.resize";
const METADATA: [&str; 4] = [NAME, RESIZE, "pomona.source", "pomona.license"];
const BICUBIC: &str = "bicubic";

/// Sides, in pixels, and numbers of features whose buffers surely fit into memory.
const SIDES: RangeInclusive<usize> = 1..=4096;
const DIMS: RangeInclusive<usize> = 1..=1 << 20;

/// A model's promises.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The model file.
    pub path: PathBuf,
    /// The model's name (`pomona.name`).
    pub name: String,
    /// The size of its input images.
    pub size: Size,
    /// The number of features of an image.
    pub dim: usize,
    /// The file's metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Contract {
    /// Reads and checks the promises of the model file at `path`.
    ///
    /// # Errors
    /// [`Error::ReadModel`], [`Error::NotOnnx`], or [`Error::Contract`] for the first part that is
    /// broken.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(Error::ReadModel { path, source }),
        };
        match onnx::Model::decode(bytes.as_slice()) {
            Ok(model) => Self::check(path, model),
            Err(source) => Err(Error::NotOnnx { path, source }),
        }
    }

    fn check(path: PathBuf, model: onnx::Model) -> Result<Self> {
        let onnx::Model { graph, metadata } = model;
        let onnx::Graph {
            inputs,
            outputs,
            initializers,
        } = graph.unwrap_or_default();
        let metadata: BTreeMap<_, _> = metadata
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect();

        // The first versions of the format list the weights among the inputs.
        let weights: Vec<_> = initializers.into_iter().map(|weight| weight.name).collect();
        let inputs: Vec<_> = inputs
            .into_iter()
            .filter(|input| !weights.contains(&input.name))
            .collect();

        let size = match only(&inputs, INPUT)
            .and_then(|input| input.dims(onnx::UINT8))
            .as_deref()
        {
            Some(&[None, Some(height), Some(width), Some(CHANNELS)])
                if SIDES.contains(&height) && SIDES.contains(&width) =>
            {
                Size { width, height }
            }
            _ => {
                let expected = "uint8 images[n, height, width, 3]";
                return Err(broken(&path, "the input", expected, describe(&inputs)));
            }
        };
        let dim = match only(&outputs, OUTPUT)
            .and_then(|output| output.dims(onnx::FLOAT))
            .as_deref()
        {
            Some(&[None, Some(dim)]) if DIMS.contains(&dim) => dim,
            _ => {
                let expected = "float32 features[n, d]";
                return Err(broken(&path, "the output", expected, describe(&outputs)));
            }
        };
        for key in METADATA {
            if metadata.get(key).is_none_or(String::is_empty) {
                return Err(broken(&path, key, "in the metadata", "nothing".to_owned()));
            }
        }
        if metadata[RESIZE] != BICUBIC {
            return Err(broken(&path, RESIZE, BICUBIC, metadata[RESIZE].clone()));
        }
        let name = metadata[NAME].clone();
        Ok(Self {
            path,
            name,
            size,
            dim,
            metadata,
        })
    }
}

fn only<'a>(values: &'a [onnx::ValueInfo], name: &str) -> Option<&'a onnx::ValueInfo> {
    match values {
        [value] if value.name == name => Some(value),
        _ => None,
    }
}

fn broken(path: &Path, part: &'static str, expected: &'static str, found: String) -> Error {
    Error::Contract {
        path: path.to_owned(),
        part,
        expected,
        found,
    }
}

fn describe(values: &[onnx::ValueInfo]) -> String {
    if values.is_empty() {
        return "nothing".to_owned();
    }
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The messages of `onnx.proto` that carry the contract; all other fields are skipped.
mod onnx {
    use std::fmt;

    use prost::{Message, Oneof};

    /// `TensorProto.DataType.FLOAT`.
    pub(super) const FLOAT: i32 = 1;
    /// `TensorProto.DataType.UINT8`.
    pub(super) const UINT8: i32 = 2;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Model {
        #[prost(message, tag = "7")]
        pub(super) graph: Option<Graph>,
        #[prost(message, repeated, tag = "14")]
        pub(super) metadata: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Entry {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Graph {
        #[prost(message, repeated, tag = "5")]
        pub(super) initializers: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub(super) inputs: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub(super) outputs: Vec<ValueInfo>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Tensor {
        #[prost(string, tag = "8")]
        pub(super) name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ValueInfo {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, tag = "2")]
        r#type: Option<Type>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Type {
        #[prost(message, tag = "1")]
        tensor: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct TensorType {
        #[prost(int32, tag = "1")]
        element: i32,
        #[prost(message, tag = "2")]
        shape: Option<Shape>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Shape {
        #[prost(message, repeated, tag = "1")]
        dims: Vec<Dim>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Dim {
        #[prost(oneof = "Extent", tags = "1, 2")]
        extent: Option<Extent>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    enum Extent {
        #[prost(int64, tag = "1")]
        Value(i64),
        #[prost(string, tag = "2")]
        Name(String),
    }

    impl ValueInfo {
        /// The extents (none where it is open) of a tensor of this element type.
        pub(super) fn dims(&self, element: i32) -> Option<Vec<Option<usize>>> {
            let tensor = self.r#type.as_ref()?.tensor.as_ref()?;
            let dims = &tensor.shape.as_ref()?.dims;
            (tensor.element == element).then(|| dims.iter().map(Dim::fixed).collect())
        }
    }

    impl Dim {
        fn fixed(&self) -> Option<usize> {
            match self.extent {
                Some(Extent::Value(value)) => usize::try_from(value).ok(),
                Some(Extent::Name(_)) | None => None,
            }
        }
    }

    impl fmt::Display for ValueInfo {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Some(tensor) = self.r#type.as_ref().and_then(|of| of.tensor.as_ref()) else {
                return write!(f, "{} (no tensor)", self.name);
            };
            match tensor.element {
                FLOAT => write!(f, "float32 ")?,
                UINT8 => write!(f, "uint8 ")?,
                other => write!(f, "ONNX type {other} ")?,
            }
            let Some(shape) = &tensor.shape else {
                return write!(f, "{} of unknown shape", self.name);
            };
            let dims: Vec<_> = shape.dims.iter().map(ToString::to_string).collect();
            write!(f, "{}[{}]", self.name, dims.join(", "))
        }
    }

    impl fmt::Display for Dim {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match &self.extent {
                Some(Extent::Value(value)) => write!(f, "{value}"),
                Some(Extent::Name(name)) => f.write_str(name),
                None => f.write_str("?"),
            }
        }
    }
}
