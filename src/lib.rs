//! Encoded photos in, feature vectors out.
//!
//! ```no_run
//! use pomona::{Featurizer, Options};
//!
//! let featurizer = Featurizer::open("mobilenet_v2.onnx", "libonnxruntime.so", Options::default())?;
//! let photo = std::fs::read("apple.jpg").expect("a photo");
//! let features = featurizer.featurize(&[Some(&photo)], &mut || false)?;
//! assert_eq!(features.matrix.dim(), (1, featurizer.contract().dim));
//! # Ok::<(), pomona::Error>(())
//! ```
//!
//! [`decode`] turns the bytes of a photo into RGB pixels, [`resize`] scales them to the model's
//! input size, and [`model`] runs the network. [`Featurizer`] does this for many photos on a given
//! number of threads, with an error slot for each photo. [`PathFeaturizer`] does it for photos that
//! [`storage`] reads in the background.

pub mod contract;
mod crew;
pub mod decode;
mod error;
mod featurizer;
mod foreign;
mod fork;
mod format;
mod int8;
pub mod model;
mod onnx;
mod paths;
pub mod peak;
#[cfg(feature = "python")]
mod python;
pub mod resize;
pub mod storage;

pub use error::{Error, ImageError, ImageErrorKind, Result, StorageFault};
pub use featurizer::{Features, Featurizer, Options};
pub use paths::PathFeaturizer;
