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
//! The way of a photo: [`decode`] turns its bytes into RGB pixels, [`resize`] brings them to the
//! model's size, [`model`] runs the network. [`Featurizer`] does this for many photos on a stated
//! number of threads and keeps one error slot per photo. [`PathFeaturizer`] does it for photos that
//! [`storage`] reads meanwhile.

pub mod contract;
pub mod decode;
mod error;
mod featurizer;
mod fork;
pub mod model;
pub mod peak;
#[cfg(feature = "python")]
mod python;
pub mod resize;
pub mod storage;
mod stream;

pub use error::{Error, ImageError, ImageErrorKind, Result, StorageFault};
pub use featurizer::{Features, Featurizer, Options};
pub use stream::PathFeaturizer;
