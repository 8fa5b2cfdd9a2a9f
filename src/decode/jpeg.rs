//! JPEG, decoded by libjpeg-turbo.

use std::collections::BTreeMap;
use std::iter;
use std::ops::RangeInclusive;

use image::metadata::Orientation;
use memchr::{memchr, memmem};
use turbojpeg::{Colorspace, Image, PixelFormat, ScalingFactor};

use super::{DecodeMode, DecodeOptions, Format, Picture, allocate, exif};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// More scans than any encoder writes: a small file with very many would take minutes.
const MAX_SCANS: usize = 500;
/// Scans that an encoder may write, accepted for every size.
const MIN_SCANS: usize = 32;
/// Pixels of all scans together, if there are more than [`MIN_SCANS`]: some seconds, during which
/// the call can't be interrupted.
const MAX_SCANNED_PIXELS: usize = 3_000_000_000;

pub(super) const START: [u8; 2] = [0xFF, 0xD8];
pub(super) const END: [u8; 2] = [0xFF, END_OF_IMAGE];
const START_OF_FRAME: [u8; 13] = [
    0xC0,
    0xC1,
    PROGRESSIVE,
    0xC3,
    0xC5,
    0xC6,
    0xC7,
    0xC9,
    ARITHMETIC_PROGRESSIVE,
    0xCB,
    0xCD,
    0xCE,
    0xCF,
];
const PROGRESSIVE: u8 = 0xC2;
const ARITHMETIC_PROGRESSIVE: u8 = 0xCA;
const END_OF_IMAGE: u8 = 0xD9;
pub(super) const START_OF_SCAN: u8 = 0xDA;
pub(super) const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP14: u8 = 0xEE;
pub(super) const APP15: u8 = 0xEF;
const COMMENT: u8 = 0xFE;
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

struct Segment<'a> {
    marker: u8,
    payload: &'a [u8],
    start: usize,
    end: usize,
}

/// The header of a scan.
struct Scan<'a> {
    /// Identifier and tables of each component.
    components: &'a [[u8; 2]],
    first_coefficient: u8,
    last_coefficient: u8,
    /// Whether it adds a bit to coefficients that an earlier scan has given.
    refines: bool,
    /// Lowest bits of the coefficients that later scans give.
    lacking_bits: u8,
}

impl<'a> Segment<'a> {
    fn scan(&self) -> Option<Scan<'a>> {
        if self.marker != START_OF_SCAN {
            return None;
        }
        let (&count, rest) = self.payload.split_first()?;
        let (components, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[first_coefficient, last_coefficient, approximation] = rest.first_chunk()?;
        Some(Scan {
            components: components.as_chunks().0,
            first_coefficient,
            last_coefficient,
            refines: approximation >> 4 != 0,
            lacking_bits: approximation & 0x0F,
        })
    }
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
                        start: prefix,
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
                        start: prefix,
                        end: at,
                    });
                }
            }
        }
        None
    })
}

/// What a frame header says.
struct Frame<'a> {
    marker: u8,
    width: u16,
    height: u16,
    /// Identifier, sampling and table of each component.
    components: &'a [[u8; 3]],
}

fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let header = segments(bytes).find(|segment| START_OF_FRAME.contains(&segment.marker))?;
    match header.payload {
        [_precision, h1, h0, w1, w0, _count, components @ ..] => Some(Frame {
            marker: header.marker,
            width: u16::from_be_bytes([*w1, *w0]),
            height: u16::from_be_bytes([*h1, *h0]),
            components: components.as_chunks().0,
        }),
        _ => None,
    }
}

/// Decodes a JPEG into RGB8 `pixels`; `inks` receives the four channels of CMYK.
///
/// libjpeg reports only the first of its warnings, which may be harmless and hide others. A JPEG
/// with a warning is therefore decoded again without everything that can't change a pixel: the
/// warning that remains is about the picture.
pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    target: Option<Size>,
    inks: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let target = target.filter(|_| options.mode == DecodeMode::Fast);
    let complete = has_every_scan(bytes);
    let orientation = orientation(bytes);
    let coarse = target.and_then(|target| without_refinements(bytes, target));
    let bytes = coarse.as_deref().unwrap_or(bytes);
    let mut decode = |bytes: &[u8]| decode_once(bytes, options, target, inks, pixels);
    let (size, warning) = match decode(bytes)? {
        (Some(size), None) => (size, None),
        _ => {
            let ended = has_end(bytes);
            let filled = match without_zeros(bytes).filter(|_| !ended) {
                Some(cut) => {
                    let (_, warning) = decode(&bare(cut, ended))?;
                    warning.is_some_and(|warning| is_about_pixels(&warning))
                }
                None => false,
            };
            let (size, warning) = decode(&bare(bytes, ended))?;
            let size = size.ok_or_else(|| Format::Jpeg.truncated("it ends before its picture"))?;
            let warning = warning.filter(|warning| is_about_pixels(warning));
            if !ended && (warning.is_some() || !complete) {
                return Err(Format::Jpeg.truncated("it ends before the end of its picture"));
            }
            let zeros = filled.then(|| "zeros take the place of the last ones".to_owned());
            (size, warning.or(zeros))
        }
    };
    let scans = (!complete).then(|| "scans are missing".to_owned());
    let warning = warning.or(scans);
    Ok(Picture {
        size,
        orientation,
        warning: warning.map(|warning| damage(&warning)),
    })
}

/// What a warning of libjpeg about the picture means to the user.
pub(super) fn damage(warning: &str) -> String {
    let detail = warning.trim_start_matches("Corrupt JPEG data: ");
    format!("parts of the picture are damaged or missing ({detail})")
}

/// Whether a warning about a [`bare`] JPEG means that pixels are made up. Two do not: bytes between
/// the last scan and the end marker belong to neither, and the file ends too early only in a segment
/// after the scans, for in a scan libjpeg warns of the end of the data first.
fn is_about_pixels(warning: &str) -> bool {
    const BEFORE_THE_END: &str = "extraneous bytes before marker 0xd9";
    const IN_A_SEGMENT: &str = "Premature end of JPEG file";
    ![BEFORE_THE_END, IN_A_SEGMENT]
        .iter()
        .any(|harmless| warning.ends_with(harmless))
}

/// Decodes with one decompressor, and returns the size and libjpeg's first warning. After a warning
/// in the header there is no size.
///
/// No state of libjpeg-turbo outlives the photo. A decompressor that is used again keeps the tables
/// of the previous photo, with which it decodes a photo that has no tables; and after an error in a
/// header it stays in that header and refuses every photo that follows. A new decompressor costs
/// less than 1 % of the time of a photo of 100x100 pixels, as `benches/decompressor.rs` measures.
fn decode_once(
    bytes: &[u8],
    options: &DecodeOptions,
    target: Option<Size>,
    inks: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<(Option<Size>, Option<String>), ImageError> {
    // Before libjpeg allocates any memory.
    if let Some(Frame { width, height, .. }) = frame(bytes) {
        options.size(Format::Jpeg, width.into(), height.into())?;
    }
    let mut turbo = turbojpeg::Decompressor::new().map_err(failure)?;
    let header = match turbo.read_header(bytes) {
        Ok(header) => header,
        Err(error) => return Ok((None, Some(warning(error)?))),
    };
    // Even of scaled pixels, libjpeg reads all coefficients.
    let full = options.size(Format::Jpeg, header.width as u32, header.height as u32)?;
    let limit = scan_limit(full.width * full.height);
    turbo.set_scan_limit(limit).map_err(failure)?;

    let scaling = match target {
        Some(target) if !header.is_lossless => scaling(full, target),
        _ => ScalingFactor::ONE,
    };
    turbo.set_scaling_factor(scaling).map_err(failure)?;
    let size = Size {
        width: scaling.scale(full.width),
        height: scaling.scale(full.height),
    };
    allocate(pixels, size.bytes(), size)?;
    let cmyk = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let (format, buffer) = if cmyk {
        allocate(inks, size.width * size.height * INKS, size)?;
        (PixelFormat::CMYK, &mut *inks)
    } else {
        (PixelFormat::RGB, &mut *pixels)
    };
    let image = Image {
        pixels: &mut buffer[..],
        width: size.width,
        pitch: size.width * format.size(),
        height: size.height,
        format,
    };
    let warned = match turbo.decompress(bytes, image) {
        Ok(()) => None,
        Err(error) => Some(warning(error)?),
    };
    if cmyk {
        print_into(inks, pixels);
    }
    Ok((Some(size), warned))
}

/// The number of scans that an image of so many pixels may have.
pub(super) fn scan_limit(pixels: usize) -> u32 {
    (MAX_SCANNED_PIXELS / pixels).clamp(MIN_SCANS, MAX_SCANS) as u32
}

/// The smallest of the scales that Pillow's `draft` uses at which an image is still twice as large
/// as the target in both directions.
fn scaling(full: Size, target: Size) -> ScalingFactor {
    // An orientation that is applied later may exchange the sides.
    let side = 2 * target.width.max(target.height);
    let scales = [8, 4, 2].map(|denominator| ScalingFactor::new(1, denominator));
    let large_enough =
        |scaling: &ScalingFactor| scaling.scale(full.width).min(scaling.scale(full.height)) >= side;
    scales
        .into_iter()
        .find(large_enough)
        .unwrap_or(ScalingFactor::ONE)
}

/// A copy of a progressive JPEG without the scans that only add the lowest bits of coefficients
/// other than the mean of a block, if it is decoded at a quarter of its size or less. `None` where
/// there are none.
///
/// These scans take about half of the decoding time, and at such a scale their bits change pixels
/// by less than half a level in the mean. Damage in them remains unnoticed.
fn without_refinements(bytes: &[u8], target: Size) -> Option<Vec<u8>> {
    let Frame {
        marker: PROGRESSIVE | ARITHMETIC_PROGRESSIVE,
        width,
        height,
        ..
    } = frame(bytes)?
    else {
        return None;
    };
    let full = Size {
        width: width.into(),
        height: height.into(),
    };
    let scaling = scaling(full, target);
    if [ScalingFactor::ONE, ScalingFactor::ONE_HALF].contains(&scaling) || !has_end(bytes) {
        return None;
    }
    let mut coarse = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    let mut skipping = false;
    for segment in segments(bytes) {
        if !skipping {
            coarse.extend(&bytes[copied..segment.start]);
        }
        copied = segment.start;
        let refines = |scan: Scan| scan.refines && scan.first_coefficient > 0;
        skipping = segment.scan().is_some_and(refines);
    }
    coarse.extend(&bytes[copied..]);
    (coarse.len() < bytes.len()).then_some(coarse)
}

/// The warnings of libjpeg, after which it continues, as Pillow does.
const WARNINGS: [&str; 11] = [
    "Unknown Adobe color transform code",
    "Corrupt JPEG data: bad arithmetic code",
    "Inconsistent progression sequence",
    "extraneous bytes before marker",
    "Corrupt JPEG data: premature end of data segment",
    "Corrupt JPEG data: bad Huffman code",
    "Warning: unknown JFIF revision number",
    "Premature end of JPEG file",
    "Corrupt JPEG data: found marker",
    "Invalid SOS parameters for sequential JPEG",
    "Corrupt JPEG data: bad ICC marker",
];

/// The message of libjpeg on the frame header of JPEG-LS.
const JPEG_LS_FRAME: &str = "Unsupported marker type 0xf7";

/// The warning that turbojpeg returned as an error, or the error if libjpeg gave up.
pub(super) fn warning(error: turbojpeg::Error) -> Result<String, ImageError> {
    match error {
        turbojpeg::Error::TurboJpegError(message)
            if WARNINGS.iter().any(|warning| message.contains(warning)) =>
        {
            Ok(message)
        }
        // The size of a JPEG that has no frame.
        turbojpeg::Error::IntegerOverflow(_) => {
            Err(Format::Jpeg.truncated("it ends before its picture"))
        }
        error => Err(failure(error)),
    }
}

/// The decoder's message without the prefix of its Rust wrapper.
pub(super) fn failure(error: turbojpeg::Error) -> ImageError {
    match error {
        turbojpeg::Error::TurboJpegError(message) if message.contains(JPEG_LS_FRAME) => {
            Format::Jpeg.unsupported("JPEG-LS, another format with the same first bytes")
        }
        turbojpeg::Error::TurboJpegError(message) => Format::Jpeg.damaged(message),
        other => Format::Jpeg.damaged(other),
    }
}

/// A copy of a JPEG without what can't change a pixel: metadata and bytes between the segments
/// before the first scan. It has an end marker in any case.
///
/// Two application segments say how colours are stored. Where libjpeg does not know their values,
/// the copy has those that libjpeg assumes then.
fn bare(bytes: &[u8], ended: bool) -> Vec<u8> {
    const JFIF: &[u8] = b"JFIF\0";
    const MAJOR_REVISION: usize = 5;
    const ADOBE: &[u8] = b"Adobe";
    const TRANSFORM: usize = 11;
    const YCC: u8 = 1;
    const YCCK: u8 = 2;
    let assumed = match frame(bytes) {
        Some(Frame { components, .. }) if components.len() == INKS => YCCK,
        _ => YCC,
    };
    let mut bare = Vec::with_capacity(bytes.len() + END.len());
    bare.extend(START);
    let mut copied = START.len();
    for segment in segments(bytes).take_while(|segment| segment.marker != END_OF_IMAGE) {
        let Segment {
            marker,
            payload,
            end,
            ..
        } = segment;
        copied = end;
        let mut payload = payload.to_vec();
        match marker {
            APP0 if payload.starts_with(JFIF) && payload.len() > MAJOR_REVISION => {
                payload[MAJOR_REVISION] = 1;
            }
            APP14 if payload.starts_with(ADOBE) && payload.len() > TRANSFORM => {
                payload[TRANSFORM] = if payload[TRANSFORM] == 0 { 0 } else { assumed };
            }
            APP0..=APP15 | COMMENT => continue,
            _ => {}
        }
        bare.extend([0xFF, marker]);
        bare.extend((payload.len() as u16 + 2).to_be_bytes());
        bare.extend(payload);
        if marker == START_OF_SCAN {
            break;
        }
    }
    bare.extend(&bytes[copied..]);
    if !ended {
        bare.extend(END);
    }
    bare
}

/// Whether an end marker follows the header of the first scan. Damage in a scan may look like a
/// segment that contains the end marker, so any place counts.
fn has_end(bytes: &[u8]) -> bool {
    let mut segments = segments(bytes);
    let scan = segments.find(|segment| segment.marker == START_OF_SCAN);
    scan.is_some_and(|scan| memmem::find(&bytes[scan.end..], &END).is_some())
}

/// The bytes without the zeros at their end, if there are more than a scan's data is likely to end
/// with. An interrupted copy of a photo may be filled with zeros to the full length of the photo,
/// and libjpeg decodes zeros too.
fn without_zeros(bytes: &[u8]) -> Option<&[u8]> {
    const LIKELY: usize = 16;
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    (zeros > LIKELY).then(|| &bytes[..bytes.len() - zeros + LIKELY])
}

/// Whether the scans give every component, and of a progressive JPEG all bits of all coefficients.
fn has_every_scan(bytes: &[u8]) -> bool {
    const COEFFICIENTS: usize = 64;
    let Some(Frame {
        marker, components, ..
    }) = frame(bytes)
    else {
        return true;
    };
    let progressive = matches!(marker, PROGRESSIVE | ARITHMETIC_PROGRESSIVE);
    let mut lacking_bits: BTreeMap<_, _> = components
        .iter()
        .map(|&[component, ..]| (component, [u8::MAX; COEFFICIENTS]))
        .collect();
    // The scans of a sequential JPEG are mostly one, and the iteration ends before its data.
    segments(bytes)
        .filter_map(|segment| segment.scan())
        .any(|scan| {
            let (coefficients, lacking) = if progressive {
                let last = scan.last_coefficient.into();
                (scan.first_coefficient.into()..=last, scan.lacking_bits)
            } else {
                (0..=COEFFICIENTS - 1, 0)
            };
            for [component, _tables] in scan.components {
                let bits = lacking_bits.get_mut(component);
                let bits = bits
                    .and_then(|bits| bits.get_mut::<RangeInclusive<usize>>(coefficients.clone()));
                if let Some(bits) = bits {
                    bits.fill(lacking);
                }
            }
            lacking_bits.values().flatten().all(|&bits| bits == 0)
        })
}

fn orientation(bytes: &[u8]) -> Orientation {
    let header = segments(bytes).take_while(|segment| segment.marker != START_OF_SCAN);
    let (mut exif, mut xmp) = (None, None);
    for segment in header.filter(|segment| segment.marker == APP1) {
        exif = exif.or_else(|| segment.payload.strip_prefix(EXIF));
        xmp = xmp.or_else(|| segment.payload.strip_prefix(XMP));
    }
    exif::orientation(exif, xmp)
}

/// Channels of a CMYK pixel.
const INKS: usize = 4;

/// Converts CMYK to RGB as Pillow does. By Adobe's convention, a JPEG stores its inks inverted.
fn print_into(inks: &[u8], pixels: &mut [u8]) {
    let (inks, _) = inks.as_chunks::<INKS>();
    let (pixels, _) = pixels.as_chunks_mut::<CHANNELS>();
    for (pixel, &[c, m, y, k]) in pixels.iter_mut().zip(inks) {
        *pixel = printed([c, m, y].map(|ink| u8::MAX - ink), k);
    }
}

/// The colour of three inks on paper to which black ink has left so much light.
pub(super) fn printed(inks: [u8; CHANNELS], light: u8) -> [u8; CHANNELS] {
    inks.map(|ink| light - scale(ink, light))
}

/// `a * b / 255`, rounded, in integers.
fn scale(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}
