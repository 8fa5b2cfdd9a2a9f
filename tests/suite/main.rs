//! The core without Python: one binary, so that it is linked once.

mod contract;
mod decode;
mod featurizer;
mod heif;
mod jpeg;
mod odd;
mod paths;
mod resize;
mod samples;
mod sequences;
mod tiff;
