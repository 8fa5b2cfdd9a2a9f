//! The messages of `onnx.proto` that carry a model's contract and its layers; other fields are skipped.

use std::fmt;

use prost::bytes::Bytes;
use prost::{Message, Oneof};

/// `TensorProto.DataType.FLOAT`.
pub(crate) const FLOAT: i32 = 1;
/// `TensorProto.DataType.UINT8`.
pub(crate) const UINT8: i32 = 2;
/// `TensorProto.DataType.INT8`.
pub(crate) const INT8: i32 = 3;
/// `TensorProto.DataType.INT32`.
pub(crate) const INT32: i32 = 6;
/// `TensorProto.DataType.INT64`.
pub(crate) const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(message, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(string, tag = "4")]
    pub(crate) operator: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub(crate) domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, tag = "3")]
    pub(crate) integer: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) string: Bytes,
    #[prost(int64, repeated, tag = "8")]
    pub(crate) integers: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) element: i32,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    /// The values, little-endian, unless the file holds them in another field.
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
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
    pub(crate) fn dims(&self, element: i32) -> Option<Vec<Option<usize>>> {
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
