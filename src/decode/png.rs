//! PNG, as Pillow's `PngImagePlugin` reads it; of an animation, its first frame.

use std::str;

use fdeflate::Decompressor;

use super::bytes::{array, u16_be, u32_be};
use super::indexed::{BLACK, Palette, from_rgb, index_at};
use super::{DecodeOptions, Format, Picture, allocate, exif};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

const SIGNATURE: usize = 8;
/// Length and type of a chunk, which precede its data, and the checksum after them.
const CHUNK_HEADER: usize = 4 + 4;
const CHECKSUM: usize = 4;

/// A part of the canvas: all of it, or that of an animation's first frame.
#[derive(Clone, Copy)]
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

#[derive(Clone, Copy)]
enum Color {
    Grey,
    Rgb,
    Indexed,
    GreyAlpha,
    RgbAlpha,
}

struct Header {
    width: u32,
    height: u32,
    depth: usize,
    color: Color,
    interlaced: bool,
}

/// What precedes the pixels, and what describes them.
#[derive(Default)]
struct Metadata<'a> {
    header: Option<Header>,
    palette: Option<&'a [u8]>,
    frame: Option<[u32; 4]>,
    frames: u32,
    exif: Option<&'a [u8]>,
    xmp: Option<&'a [u8]>,
}

struct Chunk<'a> {
    kind: [u8; 4],
    /// The data, all of them only if the file is not cut.
    data: &'a [u8],
    cut: bool,
    /// Offset of the checksum.
    end: usize,
}

pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    rows: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let mut metadata = Metadata::default();
    let mut at = SIGNATURE;
    let first = loop {
        let chunk = chunk(bytes, at)?.ok_or_else(|| truncated("it ends before its pixels"))?;
        match &chunk.kind {
            b"IDAT" | b"fdAT" => break chunk,
            b"IEND" => return Err(broken("no pixels")),
            _ => {}
        }
        let kind = chunk.kind.escape_ascii();
        if chunk.cut {
            return Err(truncated(&format!("it ends within its {kind} chunk")));
        }
        let checksum = u32_be(bytes, chunk.end);
        if checksum != Some(crc32fast::hash(&bytes[at + 4..chunk.end])) {
            return Err(broken(&format!("the checksum of its {kind} chunk is wrong")));
        }
        metadata.note(&chunk)?;
        at = chunk.end + CHECKSUM;
    };
    let header = metadata.header.as_ref().ok_or_else(|| broken("no header"))?;
    let size = options.size(Format::Png, header.width, header.height)?;
    let frame = frame(size, metadata.frame)?;

    let passes = passes(header.interlaced, frame, header.pixel_bits());
    let length = passes.iter().map(Pass::bytes).sum();
    // One byte more, because only there the decompressor meets the end of the data.
    allocate(rows, length + 1, size)?;
    let (written, last) = decompress(bytes, first, rows)?;
    let complete = written >= length;
    if !complete && !ends_with_a_row(&passes, written) {
        return Err(truncated("its pixels end early"));
    }
    metadata.note_rest(bytes, &last)?;

    allocate(pixels, size.bytes(), size)?;
    let mut canvas = Canvas { pixels, width: size.width, frame };
    let mut converter = Converter::new(header_of(&metadata)?, metadata.palette);
    let mut rows = &mut rows[..written.min(length)];
    for pass in &passes {
        rows = pass.unfilter_into(rows, header_of(&metadata)?, &mut converter, &mut canvas)?;
    }
    let warning = if complete {
        converter.clipped.then(|| CLIPPED.to_owned())
    } else {
        Some("the rest of the picture is black, because its data end early".to_owned())
    };
    Ok(Picture {
        size,
        orientation: exif::orientation(metadata.exif, metadata.xmp),
        warning,
    })
}
