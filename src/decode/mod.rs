//! Encoded bytes to RGB8 pixels, within limits.
//!
//! The reference is Pillow 12: `Image.open(file).convert("RGB")`. JPEG goes through libjpeg-turbo, as
//! in Pillow, which gives the same pixels bit for bit; the other formats have decoders in Rust, which
//! read what Pillow reads. Sizes are checked before memory is allocated, and a decoder's panic costs
//! one photo, not the process.

mod av1;
mod bmp;
mod bytes;
mod exif;
mod gif;
mod heif;
#[cfg(feature = "heic")]
mod hevc;
mod indexed;
mod jpeg;
mod png;
mod tiff;
mod webp;
mod yuv;

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::allocation::try_zeroed_vec;
use image::metadata::Orientation;

use crate::ImageError;
use crate::foreign::{is_text, recognized};
use crate::resize::{CHANNELS, Size};

pub use crate::format::Format;

/// Pillow's decompression-bomb error limit: twice its `MAX_IMAGE_PIXELS` of a quarter of a GiB at
/// three bytes a pixel.
pub const DEFAULT_MAX_PIXELS: u64 = 2 * (1024 * 1024 * 1024 / 4 / 3);

/// Pixels of the longest side that is read. Such sides take memory and time in the resize that their
/// number of pixels does not show: 32 bytes for each pixel of a side. A JPEG has up to 65,535.
pub const MAX_SIDE: u32 = 1 << 20;

/// Larger buffers are freed and not kept for the next photo. A photo of 40 megapixels fits.
const MAX_KEPT: usize = 128 << 20;

/// How images are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Images of more pixels are refused before memory is allocated for them.
    pub max_pixels: u64,
    /// Whether to apply the EXIF orientation. The reference pipeline ignores it.
    pub apply_exif: bool,
    /// Whether an image whose [`Notes`] would have a warning is an error instead.
    pub strict: bool,
    /// Whether every pixel is decoded.
    pub mode: DecodeMode,
}

/// Whether every pixel of an image is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecodeMode {
    /// Every pixel is decoded, as the reference pipeline does.
    #[default]
    Exact,
    /// JPEGs that are much larger than the target size are decoded at 1/2, 1/4 or 1/8 of their
    /// size, and progressive ones at 1/4 or 1/8 without the scans that refine details.
    Fast,
}

/// A decoded image.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// RGB8 pixels, row by row.
    pub pixels: &'a [u8],
    /// Width and height.
    pub size: Size,
    /// What the user should know about the image.
    pub notes: Notes,
}

/// What the user should know about an image that was decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Why the pixels may not be those of the original photo: a part of the file is damaged or
    /// missing, or its values do not fit into 8 bits.
    pub warning: Option<String>,
    /// The EXIF orientation, 2 to 8, of an image that was not turned accordingly, because
    /// [`DecodeOptions::apply_exif`] is false.
    pub orientation: Option<u8>,
}

/// What the decoder of a format returns beside the pixels.
struct Picture {
    size: Size,
    /// The EXIF orientation, which is not applied yet.
    orientation: Orientation,
    warning: Option<String>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: DEFAULT_MAX_PIXELS,
            apply_exif: false,
            strict: false,
            mode: DecodeMode::Exact,
        }
    }
}

/// Decodes images, each from a clean state: between calls a decoder keeps the memory of its buffers,
/// and nothing of their contents.
#[derive(Default)]
pub struct Decoder {
    options: DecodeOptions,
    pixels: Vec<u8>,
    /// Pixels in another form than RGB8, or before they are turned.
    scratch: Vec<u8>,
}

impl Decoder {
    /// A decoder; it allocates no memory before the first image.
    #[must_use]
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Decodes an image, which the caller will resize to `target`, if that is known.
    ///
    /// # Errors
    /// [`ImageError`] says why the image can't be decoded.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        target: Option<Size>,
    ) -> Result<Decoded<'_>, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let format = Format::of(bytes).ok_or_else(|| unknown(bytes))?;
        for buffer in [&mut self.pixels, &mut self.scratch] {
            if buffer.capacity() > MAX_KEPT {
                *buffer = Vec::new();
            }
        }
        let (size, notes) = contained(format, || self.decode_as(format, bytes, target))?;
        Ok(Decoded {
            pixels: &self.pixels,
            size,
            notes,
        })
    }

    fn decode_as(
        &mut self,
        format: Format,
        bytes: &[u8],
        target: Option<Size>,
    ) -> Result<(Size, Notes), ImageError> {
        let Self {
            options,
            pixels,
            scratch,
        } = self;
        let Picture {
            size,
            orientation,
            warning,
        } = match format {
            Format::Jpeg => jpeg::decode_into(bytes, options, target, scratch, pixels)?,
            Format::Png => png::decode_into(bytes, options, scratch, pixels)?,
            Format::WebP => webp::decode_into(bytes, options, scratch, pixels)?,
            Format::Gif => gif::decode_into(bytes, options, scratch, pixels)?,
            Format::Bmp => bmp::decode_into(bytes, options, scratch, pixels)?,
            Format::Tiff => tiff::decode_into(bytes, options, scratch, pixels)?,
            Format::Heic | Format::Avif => {
                heif::decode_into(format, bytes, options, scratch, pixels)?
            }
        };
        let mut notes = match warning {
            Some(warning) if options.strict => {
                return Err(ImageError::Refused { format, warning });
            }
            warning => Notes {
                warning,
                orientation: None,
            },
        };
        if orientation == Orientation::NoTransforms {
            return Ok((size, notes));
        }
        if !options.apply_exif {
            notes.orientation = Some(orientation.to_exif());
            return Ok((size, notes));
        }
        mem::swap(pixels, scratch);
        allocate(pixels, size.bytes(), size)?;
        Ok((turn_into(scratch, size, orientation, pixels), notes))
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl DecodeOptions {
    /// The size that a header announces, if it is within the limits.
    fn size(&self, format: Format, width: u32, height: u32) -> Result<Size, ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::ZeroSized {
                format,
                width,
                height,
            });
        }
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(ImageError::TooManyPixels {
                width,
                height,
                max_pixels: self.max_pixels,
            });
        }
        if width.max(height) > MAX_SIDE {
            return Err(ImageError::TooLong { width, height });
        }
        Ok(Size {
            width: width as usize,
            height: height as usize,
        })
    }
}

impl Format {
    /// The error of an image that ends before its data does.
    fn truncated(self, detail: impl Into<String>) -> ImageError {
        ImageError::Truncated {
            format: self,
            detail: detail.into(),
        }
    }

    /// The error of an image that a decoder refuses.
    fn damaged(self, reason: impl Into<Box<dyn Error + Send + Sync>>) -> ImageError {
        ImageError::Decode {
            format: self,
            source: reason.into(),
        }
    }

    /// The error of a valid image of a kind that is not read.
    fn unsupported(self, detail: impl Into<String>) -> ImageError {
        ImageError::Unsupported {
            format: self,
            detail: detail.into(),
        }
    }
}

/// The warning of an image whose grey levels do not fit into 8 bits.
fn clipped(grey: &str) -> String {
    format!("{grey} levels above 255 are clipped to 255, as in Pillow")
}

/// Makes a buffer one of `length` zeros, in the memory that it already has if that suffices.
///
/// New memory comes zeroed from the system, page by page as it is written, so a small file that
/// announces a large image costs little.
pub(crate) fn allocate(buffer: &mut Vec<u8>, length: usize, size: Size) -> Result<(), ImageError> {
    buffer.clear();
    if length <= buffer.capacity() {
        buffer.resize(length, 0);
        return Ok(());
    }
    *buffer = Vec::new();
    *buffer = try_zeroed_vec(length).map_err(|()| ImageError::OutOfMemory {
        width: size.width as u32,
        height: size.height as u32,
    })?;
    Ok(())
}

/// Writes RGB8 pixels as an EXIF orientation turns them, and returns their new size.
fn turn_into(source: &[u8], size: Size, orientation: Orientation, target: &mut [u8]) -> Size {
    use Orientation as Turn;
    let Size { width, height } = size;
    let (down, last) = (width as isize, (width * height - 1) as isize);
    let (right_end, bottom_start) = (down - 1, last - (down - 1));
    // The source pixel of the first target pixel, and the steps in the source that are one step to
    // the right and one step down in the target.
    let across = Size {
        width: height,
        height: width,
    };
    let (first, to_right, to_below, turned) = match orientation {
        Turn::NoTransforms => (0, 1, down, size),
        Turn::FlipHorizontal => (right_end, -1, down, size),
        Turn::Rotate180 => (last, -1, -down, size),
        Turn::FlipVertical => (bottom_start, 1, -down, size),
        Turn::Rotate90FlipH => (0, down, 1, across),
        Turn::Rotate90 => (bottom_start, -down, 1, across),
        Turn::Rotate270FlipH => (last, -down, -1, across),
        Turn::Rotate270 => (right_end, down, -1, across),
    };
    let (source, _) = source.as_chunks::<CHANNELS>();
    let (target, _) = target.as_chunks_mut::<CHANNELS>();
    for (row, start) in target.chunks_mut(turned.width).zip(0..) {
        for (pixel, step) in row.iter_mut().zip(0..) {
            *pixel = source[(first + start * to_below + step * to_right) as usize];
        }
    }
    turned
}

/// Bytes of an unknown format that an error shows.
const SHOWN: usize = 16;

fn unknown(bytes: &[u8]) -> ImageError {
    if let Some(name) = recognized(bytes) {
        return ImageError::UnknownFormat {
            detail: format!("it is {name}"),
        };
    }
    let length = bytes.len();
    let contents = if is_text(bytes) {
        "bytes of text"
    } else {
        "bytes"
    };
    let start = bytes[..length.min(SHOWN)].escape_ascii();
    ImageError::UnknownFormat {
        detail: format!("{length} {contents} that start with \"{start}\""),
    }
}

thread_local! {
    /// Whether this thread is in a decoder whose panics are contained.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Turns a panic of a decoder into an error of the photo, without the message on stderr.
fn contained<T>(
    format: Format,
    decode: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    static HOOKED: AtomicBool = AtomicBool::new(false);
    // Not a `Once`, for which a child that is forked meanwhile would wait forever.
    if !HOOKED.swap(true, Ordering::Relaxed) {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                report(panic);
            }
        }));
    }
    CONTAINED.set(true);
    let decoded = panic::catch_unwind(AssertUnwindSafe(decode));
    CONTAINED.set(false);
    decoded.unwrap_or_else(|panic| {
        Err(ImageError::Panicked {
            format,
            detail: message(&*panic),
        })
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;
    use std::sync::atomic::AtomicUsize;

    use image::{DynamicImage, RgbImage};

    use super::*;

    /// Set in the process in which a test runs alone, because it replaces the panic hook.
    const ALONE: &str = "POMONA_TEST_ALONE";

    #[test]
    fn a_panic_of_a_decoder_is_not_reported_and_every_other_one_is() {
        if env::var_os(ALONE).is_none() {
            let name = "decode::tests::a_panic_of_a_decoder_is_not_reported_and_every_other_one_is";
            let program = env::current_exe().expect("this program");
            let mut alone = Command::new(program);
            let ended = alone.args(["--exact", name]).env(ALONE, "1").output();
            let ended = ended.expect("it starts");
            let shown = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success(), "{shown}");
            assert!(shown.contains("1 passed"), "{shown}");
            return;
        }
        static REPORTED: AtomicUsize = AtomicUsize::new(0);
        panic::set_hook(Box::new(|_| {
            REPORTED.fetch_add(1, Ordering::SeqCst);
        }));
        let rounds = [1, 2].map(|_| {
            let decoded = contained::<()>(Format::Tiff, || panic!("of the decoder"));
            let before = REPORTED.load(Ordering::SeqCst);
            let caller = panic::catch_unwind(|| panic!("of the caller"));
            (decoded, before, caller, REPORTED.load(Ordering::SeqCst))
        });
        drop(panic::take_hook());
        for (round, (decoded, before, caller, after)) in rounds.into_iter().enumerate() {
            let error = decoded.expect_err("it panics").to_string();
            assert!(error.contains("(of the decoder)"), "{error}");
            assert!(caller.is_err());
            assert_eq!((before, after), (round, round + 1));
        }
    }

    #[test]
    fn every_orientation_turns_as_the_image_crate_does() {
        for (width, height) in [(1, 1), (1, 4), (5, 1), (2, 2), (3, 5), (6, 4)] {
            let pixels: Vec<_> = (0..width * height * CHANNELS as u32)
                .map(|at| at as u8)
                .collect();
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).expect("an orientation");
                let image = RgbImage::from_raw(width, height, pixels.clone());
                let mut expected = DynamicImage::from(image.expect("its pixels"));
                expected.apply_orientation(orientation);
                let size = Size {
                    width: width as usize,
                    height: height as usize,
                };
                let mut turned = vec![0; pixels.len()];
                let size = turn_into(&pixels, size, orientation, &mut turned);
                let found = (size.width as u32, size.height as u32);
                assert_eq!(
                    found,
                    (expected.width(), expected.height()),
                    "{orientation:?}"
                );
                assert_eq!(turned, expected.into_bytes(), "{orientation:?}");
            }
        }
    }
}
