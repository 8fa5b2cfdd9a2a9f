//! PNG, WebP, GIF, BMP and TIFF by the `image` crate.

use std::io::{self, Cursor};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{DecodeOptions, Format, check_room, make_room};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// What a decoder may take beyond the pixels and a copy of them: metadata, palettes, compressor
/// state. Before the size is known it may take no more than this.
const OVERHEAD: u64 = 64 << 20;

pub(super) fn decode_into(
    format: Format,
    bytes: &[u8],
    options: &DecodeOptions,
    pixels: &mut Vec<u8>,
) -> Result<(Size, Option<Orientation>), ImageError> {
    let fail = |source| failure(format, source);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), codec(format));
    reader.limits(up_to(OVERHEAD));
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    let size = options.size(format, width, height)?;
    let decoded = decoder.total_bytes();
    check_room(decoded, size)?;
    let work = decoded.saturating_mul(2).saturating_add(OVERHEAD);
    decoder.set_limits(up_to(work)).map_err(fail)?;
    let orientation = if options.apply_exif {
        decoder.orientation().ok()
    } else {
        None
    };
    let image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    make_room(pixels, size.bytes(), size)?;
    convert_into(format, &image, pixels)?;
    Ok((size, orientation))
}

fn up_to(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

fn codec(format: Format) -> ImageFormat {
    match format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
    }
}

fn failure(format: Format, source: image::ImageError) -> ImageError {
    match source {
        image::ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated {
                format,
                detail: error.to_string(),
            }
        }
        image::ImageError::Unsupported(error) => ImageError::Unsupported {
            format,
            detail: error.to_string(),
        },
        source => ImageError::Decode { format, source },
    }
}

/// As Pillow's `convert("RGB")`: grey to all three channels, alpha dropped and not blended, of 16
/// bits the upper 8; but plain grey of 16 bits is cut off at 255.
fn convert_into(format: Format, image: &DynamicImage, pixels: &mut [u8]) -> Result<(), ImageError> {
    match image {
        DynamicImage::ImageRgb8(image) => pixels.copy_from_slice(image),
        DynamicImage::ImageLuma8(image) => map_into(image, pixels, |&[grey]| [grey; CHANNELS]),
        DynamicImage::ImageLumaA8(image) => map_into(image, pixels, |&[grey, _]| [grey; CHANNELS]),
        DynamicImage::ImageRgba8(image) => map_into(image, pixels, |&[r, g, b, _]| [r, g, b]),
        DynamicImage::ImageLuma16(image) => {
            map_into(image, pixels, |&[grey]| {
                [grey.min(u8::MAX.into()) as u8; CHANNELS]
            });
        }
        DynamicImage::ImageLumaA16(image) => {
            map_into(image, pixels, |&[grey, _]| [upper(grey); CHANNELS]);
        }
        DynamicImage::ImageRgb16(image) => map_into(image, pixels, |&rgb| rgb.map(upper)),
        DynamicImage::ImageRgba16(image) => {
            map_into(image, pixels, |&[r, g, b, _]| [r, g, b].map(upper));
        }
        other => {
            let detail = format!("pixels of type {:?}", other.color());
            return Err(ImageError::Unsupported { format, detail });
        }
    }
    Ok(())
}

fn map_into<T, const N: usize>(
    source: &[T],
    target: &mut [u8],
    convert: impl Fn(&[T; N]) -> [u8; CHANNELS],
) {
    let (source, _) = source.as_chunks::<N>();
    let (target, _) = target.as_chunks_mut::<CHANNELS>();
    for (to, from) in target.iter_mut().zip(source) {
        *to = convert(from);
    }
}

fn upper(value: u16) -> u8 {
    (value >> 8) as u8
}
