//! WebP: the container as libwebp's demuxer reads it, and the first frame by `image-webp`.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::bytes::{array, u16_le, u32_le};
use super::{DecodeOptions, Format, Picture, allocate, exif};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// `RIFF`, the length of the rest, `WEBP`.
const RIFF_HEADER: usize = 12;
/// Type and length of a chunk.
const CHUNK_HEADER: usize = 8;
/// Place, size, duration and flags of an animation's frame.
const FRAME_HEADER: usize = 16;

/// Flags of the extended header.
const ANIMATION: u8 = 0x02;
const XMP: u8 = 0x04;
const EXIF: u8 = 0x08;
const KNOWN: u8 = 0x3E;

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

/// The first frame, and its place on the canvas.
struct Frame<'a> {
    bitstream: Chunk<'a>,
    left: usize,
    top: usize,
    width: u32,
    height: u32,
}

impl Frame<'_> {
    fn size(&self) -> Size {
        Size {
            width: self.width as usize,
            height: self.height as usize,
        }
    }
}

struct Container<'a> {
    size: Size,
    frame: Frame<'a>,
    exif: Option<&'a [u8]>,
    xmp: Option<&'a [u8]>,
}

/// Decodes a WebP into RGB8 `pixels`; `scratch` receives pixels with alpha, which is dropped.
///
/// Around the first frame of an animation, the canvas is black. Only the bitstream of the frame goes
/// to the decoder, without the alpha channel that a lossy image has in a chunk of its own.
pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    scratch: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let Container {
        size,
        frame,
        exif,
        xmp,
    } = container(bytes, options)?;
    let file = simple(&frame.bitstream);
    let mut decoder = WebPDecoder::new(Cursor::new(&file)).map_err(failure)?;
    if frame.size() == size && !decoder.has_alpha() {
        allocate(pixels, size.bytes(), size)?;
        decoder.read_image(pixels).map_err(failure)?;
    } else {
        let length = decoder.output_buffer_size().unwrap_or(usize::MAX);
        allocate(scratch, length, size)?;
        decoder.read_image(scratch).map_err(failure)?;
        allocate(pixels, size.bytes(), size)?;
        let place = (frame.top * size.width + frame.left) * CHANNELS;
        let rows = pixels[place..].chunks_mut(size.width * CHANNELS);
        let channels = if decoder.has_alpha() { 4 } else { CHANNELS };
        let row = frame.width as usize * channels;
        for (target, source) in rows.zip(scratch.chunks_exact(row)) {
            let pixels = target.as_chunks_mut::<CHANNELS>().0.iter_mut();
            for (to, from) in pixels.zip(source.chunks_exact(channels)) {
                to.copy_from_slice(&from[..CHANNELS]);
            }
        }
    }
    Ok(Picture {
        size,
        orientation: exif::orientation(exif, xmp),
        warning: None,
    })
}

fn container<'a>(bytes: &'a [u8], options: &DecodeOptions) -> Result<Container<'a>, ImageError> {
    let riff = u32_le(bytes, 4).ok_or_else(cut)? as usize;
    let bytes = bytes.get(..CHUNK_HEADER + riff).ok_or_else(cut)?;
    let mut at = RIFF_HEADER;
    let first = chunk_at(bytes, &mut at)?;
    if first.kind != *b"VP8X" {
        let frame = frame(first)?;
        // Other chunks may follow, if they are complete.
        while at < bytes.len() {
            chunk_at(bytes, &mut at)?;
        }
        return Ok(Container {
            size: options.size(Format::WebP, frame.width, frame.height)?,
            frame,
            exif: None,
            xmp: None,
        });
    }
    let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = first
        .data
        .first_chunk()
        .ok_or_else(|| Format::WebP.damaged("its header is too short"))?;
    let width = 1 + u32::from_le_bytes([w0, w1, w2, 0]);
    let height = 1 + u32::from_le_bytes([h0, h1, h2, 0]);
    let size = options.size(Format::WebP, width, height)?;
    if flags & !KNOWN != 0 {
        return Err(Format::WebP.damaged("unknown flags"));
    }
    let (mut animated, mut place) = (false, None);
    let (mut first_frame, mut exif, mut xmp) = (None, None, None);
    while at < bytes.len() {
        let start = at + CHUNK_HEADER;
        let chunk = chunk_at(bytes, &mut at)?;
        match &chunk.kind {
            b"ANIM" => animated = true,
            b"ANMF" if animated => {
                let &[x0, x1, x2, y0, y1, y2, ..] = chunk
                    .data
                    .first_chunk::<FRAME_HEADER>()
                    .ok_or_else(|| Format::WebP.damaged("a frame is too short"))?;
                let double = |number| 2 * u32::from_le_bytes(number) as usize;
                place = Some((double([x0, x1, x2, 0]), double([y0, y1, y2, 0])));
                // The chunks of the frame are read like those outside.
                at = start + FRAME_HEADER;
            }
            b"ANMF" => return Err(Format::WebP.damaged("a frame before the animation")),
            b"VP8 " | b"VP8L" if first_frame.is_none() => {
                let animation = flags & ANIMATION != 0;
                let (left, top) = match place {
                    Some(place) if animation => place,
                    None if !animation => (0, 0),
                    _ => return Err(Format::WebP.damaged("a frame outside of the animation")),
                };
                let frame = Frame {
                    left,
                    top,
                    ..frame(chunk)?
                };
                let (right, bottom) = (left + frame.size().width, top + frame.size().height);
                let fits = if animation {
                    right <= size.width && bottom <= size.height
                } else {
                    frame.size() == size
                };
                if !fits {
                    return Err(Format::WebP.damaged("its frame does not fit its canvas"));
                }
                first_frame = Some(frame);
            }
            b"EXIF" if flags & EXIF != 0 => exif = exif.or(Some(chunk.data)),
            b"XMP " if flags & XMP != 0 => xmp = xmp.or(Some(chunk.data)),
            _ => {}
        }
    }
    Ok(Container {
        size,
        frame: first_frame.ok_or_else(|| Format::WebP.damaged("no frame"))?,
        exif,
        xmp,
    })
}

/// The chunk at an offset, which is then after it and its padding.
fn chunk_at<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Chunk<'a>, ImageError> {
    let kind = array(bytes, *at).ok_or_else(cut)?;
    let length = u32_le(bytes, *at + kind.len()).ok_or_else(cut)? as usize;
    let start = *at + CHUNK_HEADER;
    let data = bytes.get(start..start + length).ok_or_else(cut)?;
    *at = start + length.next_multiple_of(2);
    Ok(Chunk { kind, data })
}

/// A frame of the size that its bitstream announces.
fn frame(bitstream: Chunk<'_>) -> Result<Frame<'_>, ImageError> {
    let data = bitstream.data;
    let size = match &bitstream.kind {
        b"VP8 " => lossy_size(data),
        b"VP8L" => lossless_size(data),
        _ => return Err(Format::WebP.damaged("no frame")),
    };
    let (width, height) = size.ok_or_else(|| Format::WebP.damaged("the header of its frame"))?;
    Ok(Frame {
        bitstream,
        left: 0,
        top: 0,
        width,
        height,
    })
}

fn lossy_size(data: &[u8]) -> Option<(u32, u32)> {
    const SIDE: u16 = 0x3FFF;
    let [b0, b1, b2, 0x9D, 0x01, 0x2A] = array(data, 0)? else {
        return None;
    };
    let tag = u32::from_le_bytes([b0, b1, b2, 0]);
    let (key_frame, profile, shown, first_partition) =
        (tag & 1 == 0, tag >> 1 & 7, tag >> 4 & 1 == 1, tag >> 5);
    let valid = key_frame && profile <= 3 && shown && (first_partition as usize) < data.len();
    let [width, height] = [6, 8].map(|at| u16_le(data, at).map(|side| u32::from(side & SIDE)));
    valid.then_some((width?, height?))
}

fn lossless_size(data: &[u8]) -> Option<(u32, u32)> {
    const SIDE: u32 = 0x3FFF;
    let (&0x2F, rest) = data.split_first()? else {
        return None;
    };
    let header = u32_le(rest, 0)?;
    (header >> 29 == 0).then_some((1 + (header & SIDE), 1 + (header >> 14 & SIDE)))
}

/// A file with nothing but a bitstream.
fn simple(bitstream: &Chunk<'_>) -> Vec<u8> {
    let Chunk { kind, data } = bitstream;
    let padded = data.len().next_multiple_of(2);
    let length = |number: usize| (number as u32).to_le_bytes();
    let mut file = Vec::with_capacity(RIFF_HEADER + CHUNK_HEADER + padded);
    file.extend(b"RIFF");
    file.extend(length(4 + CHUNK_HEADER + padded));
    file.extend(b"WEBP");
    file.extend(kind);
    file.extend(length(data.len()));
    file.extend(*data);
    file.resize(RIFF_HEADER + CHUNK_HEADER + padded, 0);
    file
}

fn cut() -> ImageError {
    Format::WebP.truncated("shorter than its headers say")
}

fn failure(error: image_webp::DecodingError) -> ImageError {
    Format::WebP.damaged(error)
}
