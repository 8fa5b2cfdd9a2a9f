//! Why a photo has no features ([`ImageError`]) and why a whole call failed ([`Error`]).

use std::path::PathBuf;

use crate::decode::Format;

/// The result of a call on the whole.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What decided that a photo has no features, and so whether another try may end otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageErrorKind {
    /// There was no photo: `None`, a SQL null.
    Missing,
    /// The bytes, as this version decodes them: another try ends alike.
    Image,
    /// The memory that was free at the time.
    Memory,
    /// The photo was listed, and deleted before it was read.
    Gone,
    /// The storage did not give the bytes.
    Storage,
}

impl ImageErrorKind {
    /// The kind in one word, as Python and the column `error_kind` have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Image => "image",
            Self::Memory => "memory",
            Self::Gone => "gone",
            Self::Storage => "storage",
        }
    }
}

/// Why one photo has no features.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The slot holds no bytes at all (`None`, a SQL null).
    #[error("no image (null)")]
    Missing,

    /// The image has zero bytes.
    #[error("empty: 0 bytes")]
    Empty,

    /// What has the photo's name is a pipe, a device or a folder.
    #[error("not a file")]
    NotAFile,

    /// The photo was listed and is gone.
    #[error("not read: no longer there")]
    Gone,

    /// The store did not give the photo.
    #[error("not read: {reason}")]
    NotRead {
        /// What the store said, or that it said nothing.
        reason: String,
    },

    /// The first bytes are those of no format that is read.
    #[error(
        "not a JPEG, PNG, WebP, GIF, BMP or TIFF image: {length} bytes that start with \"{start}\""
    )]
    UnknownFormat {
        /// The number of bytes.
        length: usize,
        /// The first bytes, with escapes for those that are no text.
        start: String,
    },

    /// The image ends before its data does.
    #[error("truncated {format}: {detail}")]
    Truncated {
        /// The format that the first bytes announce.
        format: Format,
        /// What was missing.
        detail: String,
    },

    /// Bytes follow the end of the image.
    #[error(
        "{count} bytes of trailing data after the end of the {format} image at byte {end} \
         (allow_trailing accepts them)"
    )]
    TrailingData {
        /// The format that the first bytes announce.
        format: Format,
        /// The number of bytes that belong to the image.
        end: usize,
        /// The number of bytes behind it.
        count: usize,
    },

    /// The header announces a width or a height of zero.
    #[error("zero-sized {format}: {width} x {height} pixels")]
    ZeroSized {
        /// The format that the first bytes announce.
        format: Format,
        /// The width that the header announces, in pixels.
        width: u32,
        /// The height that the header announces, in pixels.
        height: u32,
    },

    /// The header announces more pixels than the limit.
    #[error("too large: {width} x {height} pixels, the limit (max_pixels) is {max_pixels}")]
    TooManyPixels {
        /// The width that the header announces, in pixels.
        width: u32,
        /// The height that the header announces, in pixels.
        height: u32,
        /// The limit, in pixels.
        max_pixels: u64,
    },

    /// The pixels within the limit did not fit into memory.
    #[error("not enough memory for {width} x {height} pixels")]
    OutOfMemory {
        /// The width, in pixels.
        width: u32,
        /// The height, in pixels.
        height: u32,
    },

    /// A valid image of a kind that is not read.
    #[error("unsupported {format}: {detail}")]
    Unsupported {
        /// The format that the first bytes announce.
        format: Format,
        /// What is not supported.
        detail: String,
    },

    /// libjpeg-turbo refused the image or found its data damaged.
    #[error("can't decode JPEG: {}", without_prefix(.0))]
    Jpeg(#[source] turbojpeg::Error),

    /// The `image` crate refused the image.
    #[error("can't decode {format}: {source}")]
    Decode {
        /// The format that the first bytes announce.
        format: Format,
        /// The decoder's own reason.
        source: image::ImageError,
    },

    /// A decoder panicked: a defect of the decoder, contained to this photo.
    #[error("the {format} decoder failed on this image ({detail}); please report it")]
    Panicked {
        /// The format that the first bytes announce.
        format: Format,
        /// The panic's message.
        detail: String,
    },
}

impl ImageError {
    /// What decided it.
    #[must_use]
    pub fn kind(&self) -> ImageErrorKind {
        match self {
            Self::Missing => ImageErrorKind::Missing,
            Self::OutOfMemory { .. } => ImageErrorKind::Memory,
            Self::Gone => ImageErrorKind::Gone,
            Self::NotAFile | Self::NotRead { .. } => ImageErrorKind::Storage,
            Self::Empty
            | Self::UnknownFormat { .. }
            | Self::Truncated { .. }
            | Self::TrailingData { .. }
            | Self::ZeroSized { .. }
            | Self::TooManyPixels { .. }
            | Self::Unsupported { .. }
            | Self::Jpeg(_)
            | Self::Decode { .. }
            | Self::Panicked { .. } => ImageErrorKind::Image,
        }
    }
}

/// libjpeg-turbo's message without the wrapper's prefix.
fn without_prefix(error: &turbojpeg::Error) -> String {
    match error {
        turbojpeg::Error::TurboJpegError(message) => message.clone(),
        other => other.to_string(),
    }
}

/// Why a call failed on the whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that can't be used.
    #[error("{name} must be {expected}, not {found}")]
    InvalidOption {
        /// The option.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        found: String,
    },

    /// The model file can't be read.
    #[error("can't read the model {}: {source}", path.display())]
    ReadModel {
        /// The model file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// The model file is not an ONNX file, or only a part of one.
    #[error("{} is not a complete ONNX model: {source}", path.display())]
    NotOnnx {
        /// The model file.
        path: PathBuf,
        /// Where reading it as ONNX failed.
        source: prost::DecodeError,
    },

    /// The model does not keep the contract.
    #[error(
        "{} breaks the model contract: {part} must be {expected}, found {found} \
         (`pomona model convert` makes models that keep it)",
        path.display()
    )]
    Contract {
        /// The model file.
        path: PathBuf,
        /// The part of the contract.
        part: &'static str,
        /// What the contract asks for.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },

    /// The bundled ONNX Runtime can't be loaded.
    #[error("can't load ONNX Runtime: {0}")]
    LoadRuntime(#[from] ort::LoadDynamicError),

    /// ONNX Runtime was loaded and did not start.
    #[error("can't start ONNX Runtime: {0}")]
    StartRuntime(#[source] ort::Error),

    /// ONNX Runtime refused the model or failed while it ran.
    #[error("ONNX Runtime failed on {}: {source}", path.display())]
    Runtime {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's reason.
        source: ort::Error,
    },

    /// Another thread was in the middle of a batch when this process was forked.
    #[error(
        "this process was forked while another thread was featurizing, so this Featurizer can't \
         be used here: make a new one in the child process"
    )]
    ForkedWhileBusy,

    /// A path that can't be read from here.
    #[error("can't read {path}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The store is at fault, and would be with every other photo.
    #[error(transparent)]
    Storage(#[from] StorageFault),

    /// The threads that read photos can't be started.
    #[error("can't start the threads that read photos: {0}")]
    StartReading(#[source] std::io::Error),

    /// The process was forked after photos had been submitted.
    #[error(
        "this process was forked after photos had been submitted, so they can't be had here: make \
         a new PathFeaturizer in the child process"
    )]
    ForkedWhileReading,

    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Why a store gives no photos: what happened, where, at which path, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("can't {task} {place}: {reason} (at {path}): {remedy}")]
pub struct StorageFault {
    /// What could not be done: `read photos from`, `list`.
    pub task: &'static str,
    /// The store, with its endpoint.
    pub place: String,
    /// What happened.
    pub reason: String,
    /// The photo or folder that it happened to first.
    pub path: String,
    /// What to do.
    pub remedy: &'static str,
}
