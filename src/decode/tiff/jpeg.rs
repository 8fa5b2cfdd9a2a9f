//! The JPEG streams in strips and tiles, decoded by libjpeg-turbo as libtiff does it.

use turbojpeg::{Decompressor, Image, PixelFormat};

use crate::ImageError;
use crate::decode::{Format, jpeg as photo};
use crate::resize::Size;

/// How the components of a stream are converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Components {
    /// One component.
    One,
    /// Three, as they are.
    Three,
    /// Luminance and chrominances, to RGB.
    YCbCr,
    /// Four, as they are.
    Four,
}

/// A complete JPEG of the tables that all streams of a file share and of one of them.
///
/// An Adobe marker in front, the only one, makes libjpeg take the components for what the tags of
/// the TIFF say.
fn complete(tables: &[u8], stream: &[u8], components: Components) -> Vec<u8> {
    const ADOBE: [u8; 15] = *b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0";
    let mut jpeg = Vec::with_capacity(tables.len() + stream.len() + 32);
    jpeg.extend(photo::START);
    jpeg.extend(ADOBE);
    jpeg.push(u8::from(components == Components::YCbCr));
    let tables = tables.strip_prefix(&photo::START).unwrap_or(tables);
    let tables = tables.strip_suffix(&photo::END).unwrap_or(tables);
    for part in [tables, stream.strip_prefix(&photo::START).unwrap_or(stream)] {
        copy(part, &mut jpeg);
    }
    jpeg
}

/// Copies marker segments without those of applications, and everything from the first scan on.
fn copy(mut bytes: &[u8], jpeg: &mut Vec<u8>) {
    while let &[0xFF, marker, high, low, ..] = bytes
        && marker != photo::START_OF_SCAN
    {
        let length = 2 + usize::from(u16::from_be_bytes([high, low]));
        let Some((segment, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        if !matches!(marker, photo::APP0..=photo::APP15) {
            jpeg.extend_from_slice(segment);
        }
        bytes = rest;
    }
    jpeg.extend_from_slice(bytes);
}

/// Decodes a stream into rows of `size`, of which it may lack some on the right and at the bottom.
/// Returns libjpeg's warning, if it had to make up pixels. `pixels` is the number of pixels of the
/// whole image.
pub(super) fn decode_into(
    tables: &[u8],
    stream: &[u8],
    components: Components,
    size: Size,
    pixels: usize,
    target: &mut [u8],
) -> Result<Option<String>, ImageError> {
    let jpeg = complete(tables, stream, components);
    let fail = |error| of_tiff(photo::failure(error));
    let mut turbo = Decompressor::new().map_err(fail)?;
    let header = turbo.read_header(&jpeg).map_err(fail)?;
    if header.width > size.width || header.height > size.height {
        return Err(Format::Tiff.damaged("a JPEG stream that is larger than its strip or tile"));
    }
    let output = match components {
        Components::One => PixelFormat::GRAY,
        Components::Three | Components::YCbCr => PixelFormat::RGB,
        Components::Four => PixelFormat::CMYK,
    };
    let expected = output.size();
    let found = match header.colorspace {
        turbojpeg::Colorspace::Gray => 1,
        turbojpeg::Colorspace::CMYK | turbojpeg::Colorspace::YCCK => 4,
        _ => 3,
    };
    if found != expected {
        return Err(Format::Tiff.unsupported(format!(
            "a JPEG stream of {found} components for {expected} samples"
        )));
    }
    turbo
        .set_scan_limit(photo::scan_limit(pixels))
        .map_err(fail)?;
    let image = Image {
        pixels: target,
        width: header.width,
        pitch: size.width * expected,
        height: header.height,
        format: output,
    };
    let warning = match turbo.decompress(&jpeg, image) {
        Ok(()) => None,
        Err(error) => Some(photo::warning(error).map_err(of_tiff)?),
    };
    let is_harmless = |warning: &String| HARMLESS.iter().any(|part| warning.contains(part));
    Ok(warning.filter(|warning| !is_harmless(warning)))
}

/// The warnings of libjpeg that leave every pixel as it was meant.
const HARMLESS: [&str; 3] = [
    "extraneous bytes before marker",
    "Inconsistent progression sequence",
    "Invalid SOS parameters for sequential JPEG",
];

/// An error of the JPEG decoder, as one of a TIFF.
fn of_tiff(error: ImageError) -> ImageError {
    match error {
        ImageError::Decode { source, .. } => ImageError::Decode {
            format: Format::Tiff,
            source,
        },
        error => error,
    }
}
