//! PNG, WebP, GIF, BMP and TIFF by the `image` crate.

use std::io::{self, Cursor};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{DecodeOptions, Format, Picture, allocate};
use crate::ImageError;
use crate::resize::CHANNELS;

/// Memory that a decoder may use beyond the pixels and a copy of them: metadata, palettes, the state
/// of the decompressor. Before the size is known it may use no more than this.
const OVERHEAD: u64 = 64 << 20;

/// Decodes an image into RGB8 `pixels`; `scratch` receives the pixels of other types.
pub(super) fn decode_into(
    format: Format,
    bytes: &[u8],
    options: &DecodeOptions,
    scratch: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let fail = |source| failure(format, source);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), codec(format));
    reader.limits(up_to(OVERHEAD));
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    let size = options.size(format, width, height)?;
    let decoded = decoder.total_bytes();
    let work = decoded.saturating_mul(2).saturating_add(OVERHEAD);
    decoder.set_limits(up_to(work)).map_err(fail)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    allocate(pixels, size.bytes(), size)?;
    match decoder.color_type() {
        ColorType::Rgb8 => decoder.read_image(pixels).map_err(fail)?,
        color => {
            let length = usize::try_from(decoded).unwrap_or(usize::MAX);
            allocate(scratch, length, size)?;
            decoder.read_image(scratch).map_err(fail)?;
            convert_into(format, color, scratch, pixels)?;
        }
    }
    Ok(Picture {
        size,
        orientation,
        warning: None,
    })
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
        // Never: these have a module of their own.
        Format::Heic | Format::Avif => ImageFormat::Avif,
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
        source => ImageError::Decode {
            format,
            source: source.into(),
        },
    }
}

/// As Pillow's `convert("RGB")`: grey is repeated in all three channels, alpha is dropped and not
/// blended, and of 16 bits the upper 8 are kept, except for grey without alpha, which is clipped at
/// 255.
fn convert_into(
    format: Format,
    color: ColorType,
    source: &[u8],
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    match color {
        ColorType::L8 => map_into(source, pixels, |&[grey]| [grey; CHANNELS]),
        ColorType::La8 => map_into(source, pixels, |&[grey, _]| [grey; CHANNELS]),
        ColorType::Rgba8 => map_into(source, pixels, |&[r, g, b, _]| [r, g, b]),
        ColorType::L16 => map_into(source, pixels, |&grey| {
            [u16::from_ne_bytes(grey).min(u8::MAX.into()) as u8; CHANNELS]
        }),
        ColorType::La16 => map_into(source, pixels, |&[grey, grey2, _, _]| {
            [upper([grey, grey2]); CHANNELS]
        }),
        ColorType::Rgb16 => map_into(source, pixels, |&[r, r2, g, g2, b, b2]| {
            [[r, r2], [g, g2], [b, b2]].map(upper)
        }),
        ColorType::Rgba16 => map_into(source, pixels, |&[r, r2, g, g2, b, b2, _, _]| {
            [[r, r2], [g, g2], [b, b2]].map(upper)
        }),
        other => {
            let detail = format!("pixels of type {other:?}");
            return Err(ImageError::Unsupported { format, detail });
        }
    }
    Ok(())
}

fn map_into<const N: usize>(
    source: &[u8],
    target: &mut [u8],
    convert: impl Fn(&[u8; N]) -> [u8; CHANNELS],
) {
    let (source, _) = source.as_chunks::<N>();
    let (target, _) = target.as_chunks_mut::<CHANNELS>();
    for (to, from) in target.iter_mut().zip(source) {
        *to = convert(from);
    }
}

/// The upper byte of a 16-bit value, which decoders give in the machine's byte order.
fn upper(value: [u8; 2]) -> u8 {
    (u16::from_ne_bytes(value) >> 8) as u8
}
