//! Encoded bytes to RGB8 pixels, within limits.
//!
//! The reference is Pillow: `Image.open(file).convert("RGB")`. JPEG goes through libjpeg-turbo,
//! which gives Pillow's pixels bit for bit; the other formats through the `image` crate. Sizes are
//! checked before memory is taken for them, and a decoder's panic costs one photo, not the process.

mod extent;
mod jpeg;
mod still;

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// Pillow's decompression-bomb error limit: twice its `MAX_IMAGE_PIXELS` of a quarter of a GiB at
/// three bytes a pixel.
pub const DEFAULT_MAX_PIXELS: u64 = 2 * (1024 * 1024 * 1024 / 4 / 3);

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JPEG, of any colour space, sequential or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// WebP, lossy or lossless; the first frame of an animation.
    WebP,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; the first image.
    Tiff,
}

impl Format {
    /// The format that the first bytes announce.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'B', b'M', ..] => Some(Self::Bmp),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(Self::Tiff),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        })
    }
}

/// How images are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Images of more pixels are refused before memory is taken for them.
    pub max_pixels: u64,
    /// Whether an EXIF orientation turns the image. The reference pipeline ignores it.
    pub apply_exif: bool,
    /// Whether bytes behind the end of the image are accepted.
    pub allow_trailing: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: DEFAULT_MAX_PIXELS,
            apply_exif: false,
            allow_trailing: false,
        }
    }
}

/// Decodes images, each from a clean state: between calls it keeps the memory of its buffers, and
/// nothing of what was in them.
#[derive(Default)]
pub struct Decoder {
    options: DecodeOptions,
    inks: Vec<u8>,
    pixels: Vec<u8>,
}

impl Decoder {
    /// A decoder; it takes no memory before the first image.
    #[must_use]
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// The RGB8 pixels of an encoded image, row by row, and its size. They stay until the next call.
    ///
    /// # Errors
    /// [`ImageError`] says why there are none.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(&[u8], Size), ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let format = Format::of(bytes).ok_or_else(|| unknown(bytes))?;
        let decoded = panic::catch_unwind(AssertUnwindSafe(|| self.decode_as(format, bytes)));
        let size = decoded.unwrap_or_else(|panic| {
            Err(ImageError::Panicked {
                format,
                detail: message(&*panic),
            })
        })?;
        Ok((&self.pixels, size))
    }

    fn decode_as(&mut self, format: Format, bytes: &[u8]) -> Result<Size, ImageError> {
        let Self {
            options,
            inks,
            pixels,
        } = self;
        let bytes = extent::checked(format, bytes, options.allow_trailing)?;
        let (size, orientation) = match format {
            Format::Jpeg => jpeg::decode_into(bytes, options, inks, pixels)?,
            _ => still::decode_into(format, bytes, options, pixels)?,
        };
        Ok(match orientation {
            Some(orientation) => turn(pixels, size, orientation),
            None => size,
        })
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
    /// The size that a header announces, where it is within the limits.
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
        Ok(Size {
            width: width as usize,
            height: height as usize,
        })
    }
}

/// Makes room for `len` bytes, keeping what the vector has taken before.
pub(crate) fn make_room(pixels: &mut Vec<u8>, len: usize, size: Size) -> Result<(), ImageError> {
    pixels.clear();
    pixels
        .try_reserve_exact(len)
        .map_err(|_| out_of_memory(size))?;
    pixels.resize(len, 0);
    Ok(())
}

/// Tells whether `len` bytes can be had, for code that ends the process where they can't.
fn check_room(len: u64, size: Size) -> Result<(), ImageError> {
    let len = usize::try_from(len).map_err(|_| out_of_memory(size))?;
    Vec::<u8>::new()
        .try_reserve_exact(len)
        .map_err(|_| out_of_memory(size))
}

fn out_of_memory(size: Size) -> ImageError {
    let Size { width, height } = size;
    ImageError::OutOfMemory {
        width: width as u32,
        height: height as u32,
    }
}

/// Turns RGB8 pixels as an EXIF orientation says, and returns their new size.
fn turn(pixels: &mut Vec<u8>, size: Size, orientation: Orientation) -> Size {
    let rows = std::mem::take(pixels);
    let Some(image) = RgbImage::from_raw(size.width as u32, size.height as u32, rows) else {
        unreachable!("{CHANNELS} bytes a pixel")
    };
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    let size = Size {
        width: image.width() as usize,
        height: image.height() as usize,
    };
    *pixels = image.into_bytes();
    size
}

/// How many of the first bytes an error shows.
const SHOWN: usize = 16;

fn unknown(bytes: &[u8]) -> ImageError {
    let start = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    ImageError::UnknownFormat {
        length: bytes.len(),
        start,
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
