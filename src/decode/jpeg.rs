//! JPEG, decoded by libjpeg-turbo.

use std::iter;

use image::metadata::Orientation;
use memchr::memchr;
use turbojpeg::{Colorspace, DecompressHeader, Image, PixelFormat};

use super::{DecodeOptions, Format, Picture, allocate};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// More scans than any encoder writes: a small file with very many would take minutes.
const MAX_SCANS: usize = 500;
/// Scans that an encoder may write, accepted for every size.
const MIN_SCANS: usize = 32;
/// Pixels of all scans together, if there are more than [`MIN_SCANS`]: some seconds, during which
/// the call can't be interrupted.
const MAX_SCANNED_PIXELS: usize = 3_000_000_000;

const START_OF_FRAME: [u8; 13] = [
    0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF,
];
const END_OF_IMAGE: u8 = 0xD9;
const APP1: u8 = 0xE1;
const APP2: u8 = 0xE2;
const EXIF: &[u8] = b"Exif\0\0";
const MULTI_PICTURE: &[u8] = b"MPF\0";

/// The end of a JPEG: after its end-of-image marker, or the end of the file if it announces that
/// other pictures follow (CIPA DC-007, as phones write them).
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    let mut pictures = false;
    segments(bytes).find_map(|segment| {
        pictures |= segment.marker == APP2 && segment.payload.starts_with(MULTI_PICTURE);
        let end = if pictures { bytes.len() } else { segment.end };
        (segment.marker == END_OF_IMAGE).then_some(end)
    })
}

struct Segment<'a> {
    marker: u8,
    payload: &'a [u8],
    end: usize,
}

/// The marker segments up to the end-of-image marker or to the first one that is cut short.
fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 0;
    let mut ended = false;
    iter::from_fn(move || {
        while !ended {
            let prefix = at + memchr(0xFF, &bytes[at..])?;
            let marker = *bytes.get(prefix + 1)?;
            match marker {
                // A fill byte.
                0xFF => at = prefix + 1,
                // In the data of a scan a stuffed zero or a restart, elsewhere a bare marker.
                0x00 | 0x01 | 0xD0..=0xD8 => at = prefix + 2,
                END_OF_IMAGE => {
                    ended = true;
                    return Some(Segment {
                        marker,
                        payload: &[],
                        end: prefix + 2,
                    });
                }
                _ => {
                    let start = prefix + 2;
                    let length: [u8; 2] = bytes.get(start..start + 2)?.try_into().ok()?;
                    let end = start + usize::from(u16::from_be_bytes(length));
                    at = end.max(start + 2);
                    let payload = bytes.get(start + 2..at)?;
                    return Some(Segment {
                        marker,
                        payload,
                        end: at,
                    });
                }
            }
        }
        None
    })
}

/// Decodes a JPEG into RGB8 `pixels`; `inks` receives the four channels of CMYK.
///
/// No state of libjpeg-turbo outlives the photo. A decompressor that is used again keeps the tables
/// of the previous photo, with which it decodes a photo that has no tables; and after an error in a
/// header it stays in that header and refuses every photo that follows. A new decompressor costs
/// less than 1 % of the time of a photo of 100x100 pixels, as `benches/decompressor.rs` measures.
pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    _target: Option<Size>,
    inks: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    if let Some((width, height)) = frame(bytes) {
        options.size(Format::Jpeg, width, height)?;
    }
    let mut turbo = turbojpeg::Decompressor::new().map_err(failure)?;
    let header = turbo.read_header(bytes).map_err(failure)?;
    let DecompressHeader {
        width,
        height,
        colorspace,
        ..
    } = header;
    let size = options.size(Format::Jpeg, width as u32, height as u32)?;
    allocate(pixels, size.bytes(), size)?;
    let scans = MAX_SCANNED_PIXELS / (size.width * size.height);
    let limited = turbo.set_scan_limit(scans.clamp(MIN_SCANS, MAX_SCANS) as u32);
    limited.map_err(failure)?;
    if matches!(colorspace, Colorspace::CMYK | Colorspace::YCCK) {
        allocate(inks, size.width * size.height * INKS, size)?;
        decompress(&mut turbo, bytes, size, PixelFormat::CMYK, inks)?;
        print_into(inks, pixels);
    } else {
        decompress(&mut turbo, bytes, size, PixelFormat::RGB, pixels)?;
    }
    Ok(Picture {
        size,
        orientation: orientation(bytes).unwrap_or(Orientation::NoTransforms),
        warning: None,
    })
}

fn decompress(
    turbo: &mut turbojpeg::Decompressor,
    bytes: &[u8],
    size: Size,
    format: PixelFormat,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    let Size { width, height } = size;
    let image = Image {
        pixels,
        width,
        pitch: width * format.size(),
        height,
        format,
    };
    match turbo.decompress(bytes, image) {
        Err(error) if !is_harmless(&error) => Err(failure(error)),
        _ => Ok(()),
    }
}

/// libjpeg's warnings that leave every pixel as the encoder meant it. The other warnings mean that
/// the data are damaged: libjpeg continues with made-up pixels, whose features look like any other.
const HARMLESS: [&str; 6] = [
    "extraneous bytes before marker",
    "bad ICC marker",
    "Unknown Adobe color transform code",
    "Inconsistent progression sequence",
    "Invalid SOS parameters for sequential JPEG",
    "unknown JFIF revision number",
];

/// The decoder's message without the prefix of its Rust wrapper.
fn failure(error: turbojpeg::Error) -> ImageError {
    ImageError::Decode {
        format: Format::Jpeg,
        source: match error {
            turbojpeg::Error::TurboJpegError(message) => message.into(),
            other => other.into(),
        },
    }
}

fn is_harmless(error: &turbojpeg::Error) -> bool {
    match error {
        turbojpeg::Error::TurboJpegError(message) => {
            HARMLESS.iter().any(|warning| message.contains(warning))
        }
        _ => false,
    }
}

/// Width and height in the frame header, read before libjpeg allocates any memory.
fn frame(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = segments(bytes).find(|segment| START_OF_FRAME.contains(&segment.marker))?;
    match header.payload {
        &[_precision, h1, h0, w1, w0, ..] => Some((
            u16::from_be_bytes([w1, w0]).into(),
            u16::from_be_bytes([h1, h0]).into(),
        )),
        _ => None,
    }
}

fn orientation(bytes: &[u8]) -> Option<Orientation> {
    let mut payloads = segments(bytes).filter(|segment| segment.marker == APP1);
    let exif = payloads.find_map(|segment| segment.payload.strip_prefix(EXIF))?;
    Orientation::from_exif_chunk(exif)
}

/// Channels of a CMYK pixel.
const INKS: usize = 4;

/// Converts CMYK to RGB as Pillow does. By Adobe's convention, a JPEG stores its inks inverted.
fn print_into(inks: &[u8], pixels: &mut [u8]) {
    let (inks, _) = inks.as_chunks::<INKS>();
    let (pixels, _) = pixels.as_chunks_mut::<CHANNELS>();
    for (pixel, &[c, m, y, k]) in pixels.iter_mut().zip(inks) {
        *pixel = [c, m, y].map(|ink| k - scale(u8::MAX - ink, k));
    }
}

/// `a * b / 255`, rounded, in integers.
fn scale(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}
