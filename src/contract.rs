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
use prost::bytes::Bytes;

use crate::onnx;
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
        match onnx::Model::decode(Bytes::from(bytes)) {
            Ok(model) => Self::check(path, model),
            Err(source) => Err(Error::NotOnnx { path, source }),
        }
    }

    fn check(path: PathBuf, model: onnx::Model) -> Result<Self> {
        let onnx::Model { graph, metadata } = model;
        let onnx::Graph {
            nodes: _,
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
