//! Why a photo has no features ([`ImageError`]) and why a call failed ([`Error`]).

use std::error::Error as StdError;
use std::path::PathBuf;

use crate::decode::MAX_SIDE;
use crate::format::Format;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an [`ImageError`], and so whether another try can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageErrorKind {
    /// There was no photo: `None`, a SQL null.
    Missing,
    /// The bytes: this version can't decode them, however often it tries.
    Image,
    /// Too little free memory at the time.
    Memory,
    /// The photo was listed, and deleted before it was read.
    Gone,
    /// The storage did not return the bytes.
    Storage,
}

impl ImageErrorKind {
    /// The kind in one word, as in Python and in the column `error_kind`.
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

    /// The path is that of a pipe, a device or a folder.
    #[error("not a file")]
    NotAFile,

    /// The photo was listed and no longer exists.
    #[error("not read: no longer there")]
    Gone,

    /// The storage did not return the photo.
    #[error("not read: {reason}")]
    NotRead {
        /// What the storage answered, or that it did not answer.
        reason: String,
    },

    /// The first bytes are those of no supported format.
    #[error("not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF image: {detail}")]
    UnknownFormat {
        /// The name of the format if it is known, and otherwise the number of bytes and the first
        /// of them.
        detail: String,
    },

    /// The image ends before its data does.
    #[error("truncated {format}: {detail}")]
    Truncated {
        /// The format that the first bytes announce.
        format: Format,
        /// What is missing.
        detail: String,
    },

    /// The image can be decoded, and has a warning that strict decoding does not accept.
    #[error("{format}: {warning} (strict=False accepts it)")]
    Refused {
        /// The format that the first bytes announce.
        format: Format,
        /// The warning that the image would have had otherwise.
        warning: String,
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

    /// The header announces a side that no photo has.
    #[error("too long: {width} x {height} pixels, the limit is {MAX_SIDE} wide and high")]
    TooLong {
        /// The width that the header announces, in pixels.
        width: u32,
        /// The height that the header announces, in pixels.
        height: u32,
    },

    /// The memory for the pixels, whose number is within the limit, could not be allocated.
    #[error("not enough memory for {width} x {height} pixels")]
    OutOfMemory {
        /// The width, in pixels.
        width: u32,
        /// The height, in pixels.
        height: u32,
    },

    /// A valid image of a kind that is not supported.
    #[error("unsupported {format}: {detail}")]
    Unsupported {
        /// The format that the first bytes announce.
        format: Format,
        /// What is not supported.
        detail: String,
    },

    /// The decoder refused the image or found its data damaged.
    #[error("can't decode {format}: {source}")]
    Decode {
        /// The format that the first bytes announce.
        format: Format,
        /// The decoder's reason.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A decoder panicked: a bug of the decoder, contained to this photo.
    #[error("the {format} decoder failed on this image ({detail}); please report it")]
    Panicked {
        /// The format that the first bytes announce.
        format: Format,
        /// The panic's message.
        detail: String,
    },
}

impl ImageError {
    /// The cause of the error.
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
            | Self::Refused { .. }
            | Self::ZeroSized { .. }
            | Self::TooManyPixels { .. }
            | Self::TooLong { .. }
            | Self::Unsupported { .. }
            | Self::Decode { .. }
            | Self::Panicked { .. } => ImageErrorKind::Image,
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has an invalid value.
    #[error("{name} must be {expected}, not {found}")]
    InvalidOption {
        /// The option.
        name: &'static str,
        /// The values that are valid.
        expected: &'static str,
        /// The value.
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
        /// The reason of the ONNX parser.
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

    /// The threads of a call can't be started.
    #[error("can't start the threads that featurize: {0}")]
    StartThreads(#[source] rayon::ThreadPoolBuildError),

    /// The thread that reads photos can't be started.
    #[error("can't start the thread that reads photos: {0}")]
    StartReading(#[source] std::io::Error),

    /// Another thread was in a call when this process was forked.
    #[error(
        "this process was forked while another thread was featurizing, so this Featurizer can't \
         be used here: make a new one in the child process"
    )]
    ForkedWhileBusy,

    /// Another thread was starting something that a process has only once when this process was
    /// forked. Nothing can finish that here.
    #[error(
        "this process was forked while another thread was starting {0}, so nothing can use it \
         here: fork another child process, before the first photo or after it"
    )]
    ForkedWhileStarting(&'static str),

    /// The process was forked after the [`PathFeaturizer`](crate::PathFeaturizer) was made.
    #[error(
        "this PathFeaturizer was made before this process was forked and can't be used here: make \
         a new PathFeaturizer in the child process"
    )]
    ForkedWhileReading,

    /// A path that can't be read.
    #[error("can't read {path}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The store is at fault: it would fail for every other photo as well.
    #[error(transparent)]
    Storage(#[from] StorageFault),

    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Why a store can't be used: what happened, where, at which path, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("can't {task} {place}: {reason} (at {path}): {remedy}")]
pub struct StorageFault {
    /// The task that failed: `read photos from`, `list`.
    pub task: &'static str,
    /// The store, with its endpoint.
    pub place: String,
    /// What happened.
    pub reason: String,
    /// The first photo or folder that it happened to.
    pub path: String,
    /// What to do.
    pub remedy: &'static str,
}
