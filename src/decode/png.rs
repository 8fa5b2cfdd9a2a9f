//! PNG, as Pillow's `PngImagePlugin` reads it; of an animation, its first frame.

use std::borrow::Cow;

use fdeflate::Decompressor;
use image::metadata::Orientation;

use super::bytes::{array, u32_be};
use super::indexed::{Palette, from_rgb, index_at};
use super::{DecodeOptions, Format, Picture, allocate, clipped, exif};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

const SIGNATURE: usize = 8;
/// Bytes of a chunk's length, which precedes its type, and of the checksum after its data.
const LENGTH: usize = 4;
const CHECKSUM: usize = 4;

/// The part of the canvas that has pixels: all of it, or less in an animation's first frame.
#[derive(Clone, Copy)]
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Color {
    Grey,
    Rgb,
    Indexed,
    GreyAlpha,
    RgbAlpha,
}

#[derive(Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    depth: usize,
    color: Color,
    interlaced: bool,
}

#[derive(Default)]
struct Metadata<'a> {
    header: Option<Header>,
    palette: &'a [u8],
    /// Width, height, left and top of the first frame of an animation.
    frame: Option<[u32; 4]>,
    exif: Option<Cow<'a, [u8]>>,
    /// EXIF as a text of hexadecimal digits, as ImageMagick wrote it.
    exif_text: Option<Cow<'a, [u8]>>,
    xmp: Option<Cow<'a, [u8]>>,
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    /// Whether the file ends within the data.
    cut: bool,
    /// Offset of the checksum.
    end: usize,
}

/// Decodes a PNG into RGB8 `pixels`; `rows` receives the decompressed data.
pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    rows: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let mut metadata = Metadata::default();
    let first = read_metadata(bytes, &mut metadata)?;
    let header = metadata
        .header
        .ok_or_else(|| Format::Png.damaged("no header"))?;
    let size = options.size(Format::Png, header.width, header.height)?;
    let frame = frame(size, metadata.frame)?;
    let passes = passes(&header, frame);
    let length = passes.iter().map(Pass::bytes).sum();
    // In one byte more, the decompressor meets the end of the data, and with it their checksum.
    allocate(rows, length + 1, size)?;
    let (written, last) = decompress(bytes, first, rows)?;
    if written < length && !ends_with_a_row(&passes, written) {
        return Err(Format::Png.truncated("its pixels end early"));
    }
    read_metadata_after(bytes, &last, &mut metadata)?;

    allocate(pixels, size.bytes(), size)?;
    let mut converter = Converter::new(&header, metadata.palette);
    if header.color == Color::Indexed {
        // Pixels that the file lacks have the first colour.
        pixels.as_chunks_mut().0.fill(converter.palette[0]);
    }
    let mut rows = &mut rows[..written.min(length)];
    for pass in &passes {
        let (own, rest) = rows.split_at_mut(pass.bytes().min(rows.len()));
        pass.unfilter(own, &header)?;
        for (row, y) in own.chunks_exact(1 + pass.row).zip(pass.ys()) {
            let start = (y * size.width + pass.left) * CHANNELS;
            let end = (y * size.width + frame.left + frame.width) * CHANNELS;
            converter.convert_into(&row[1..], pass.step, &mut pixels[start..end]);
        }
        rows = rest;
    }
    let warning = if written < length {
        Some("its data end early, and a part of the picture is missing".to_owned())
    } else {
        converter.clipped.then(|| clipped("16-bit grey"))
    };
    Ok(Picture {
        size,
        orientation: metadata.orientation(),
        warning,
    })
}

/// Reads the chunks up to the first one with pixels, and returns that. Their checksums must be
/// right.
fn read_metadata<'a>(
    bytes: &'a [u8],
    metadata: &mut Metadata<'a>,
) -> Result<Chunk<'a>, ImageError> {
    let mut at = SIGNATURE;
    loop {
        let chunk = chunk_at(bytes, at)
            .ok_or_else(|| Format::Png.truncated("it ends before its pixels"))?
            .ok_or_else(|| Format::Png.damaged("not a chunk"))?;
        let kind = chunk.kind.escape_ascii();
        match &chunk.kind {
            b"IDAT" | b"fdAT" => return Ok(chunk),
            b"IEND" => return Err(Format::Png.damaged("no pixels")),
            _ if chunk.cut => {
                return Err(Format::Png.truncated(format!("it ends within its {kind} chunk")));
            }
            _ => {}
        }
        let checksum = crc32fast::hash(&bytes[at + LENGTH..chunk.end]);
        if u32_be(bytes, chunk.end) != Some(checksum) {
            return Err(Format::Png.damaged(format!("wrong checksum of its {kind} chunk")));
        }
        metadata.read(&chunk)?;
        at = chunk.end + CHECKSUM;
    }
}

/// Reads the chunks after the one that completes the pixels. A missing end is harmless.
fn read_metadata_after<'a>(
    bytes: &'a [u8],
    last: &Chunk<'_>,
    metadata: &mut Metadata<'a>,
) -> Result<(), ImageError> {
    let mut at = last.end + CHECKSUM;
    while let Some(Some(chunk)) = chunk_at(bytes, at) {
        if matches!(&chunk.kind, b"IEND" | b"fcTL") {
            break;
        }
        if chunk.cut {
            let kind = chunk.kind.escape_ascii();
            return Err(Format::Png.truncated(format!("it ends within its {kind} chunk")));
        }
        metadata.read_about(&chunk);
        at = chunk.end + CHECKSUM;
    }
    Ok(())
}

/// The chunk at an offset. `None` at the end of the file, `Some(None)` if its type is not one.
fn chunk_at(bytes: &[u8], at: usize) -> Option<Option<Chunk<'_>>> {
    let length = u32_be(bytes, at)? as usize;
    let kind: [u8; 4] = array(bytes, at + LENGTH)?;
    let in_a_type = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if !kind.iter().all(in_a_type) {
        return Some(None);
    }
    let start = at + LENGTH + kind.len();
    let end = bytes.len().min(start + length);
    Some(Some(Chunk {
        kind,
        data: &bytes[start..end],
        cut: end < start + length,
        end,
    }))
}

impl<'a> Metadata<'a> {
    fn read(&mut self, chunk: &Chunk<'a>) -> Result<(), ImageError> {
        let data = chunk.data;
        match &chunk.kind {
            b"IHDR" => self.header = Some(header(data)?),
            b"PLTE" => self.palette = data,
            b"fcTL" => {
                let Some([0, width, height, left, top]) = numbers(data) else {
                    return Err(Format::Png.damaged("the first frame of its animation"));
                };
                self.frame = Some([width, height, left, top]);
            }
            _ => self.read_about(chunk),
        }
        Ok(())
    }

    /// Reads what a chunk says about the picture. It may follow the pixels.
    fn read_about(&mut self, chunk: &Chunk<'a>) {
        const XMP: &[u8] = b"XML:com.adobe.xmp\0";
        const EXIF: &[u8] = b"Raw profile type exif\0";
        match &chunk.kind {
            b"eXIf" => self.exif = Some(Cow::Borrowed(chunk.data)),
            kind @ (b"tEXt" | b"zTXt" | b"iTXt") => {
                if let Some(rest) = chunk.data.strip_prefix(XMP) {
                    self.xmp = text(*kind, rest);
                } else if let Some(rest) = chunk.data.strip_prefix(EXIF) {
                    self.exif_text = text(*kind, rest);
                }
            }
            _ => {}
        }
    }

    fn orientation(&self) -> Orientation {
        let from_text = self.exif_text.as_deref().map(from_hexadecimal);
        let exif = self.exif.as_deref().or(from_text.as_deref());
        exif::orientation(exif, self.xmp.as_deref())
    }
}

fn numbers<const N: usize>(data: &[u8]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = u32_be(data, at * size_of::<u32>())?;
    }
    Some(numbers)
}

/// The text of a chunk, whose keyword precedes `rest`.
fn text(kind: [u8; 4], rest: &[u8]) -> Option<Cow<'_, [u8]>> {
    /// As many bytes as Pillow decompresses.
    const MAX: usize = 1 << 20;
    let (compressed, data) = match &kind {
        b"tEXt" => (false, rest),
        b"zTXt" => (true, rest.get(1..)?),
        _ => {
            // Language and translated keyword precede the text.
            let mut parts = rest.get(2..)?.splitn(3, |&byte| byte == 0);
            (rest[0] != 0, parts.nth(2)?)
        }
    };
    if !compressed {
        return Some(Cow::Borrowed(data));
    }
    fdeflate::decompress_to_vec_bounded(data, MAX)
        .ok()
        .map(Cow::Owned)
}

/// The bytes of a text of hexadecimal digits, which follow a line with the name and one with the
/// number of bytes.
fn from_hexadecimal(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|&byte| byte == b'\n').skip(3).flatten();
    let digits = lines.filter_map(|&byte| char::from(byte).to_digit(16));
    let digits: Vec<_> = digits.map(|digit| digit as u8).collect();
    let (pairs, _) = digits.as_chunks();
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

fn header(data: &[u8]) -> Result<Header, ImageError> {
    let Some(
        &[
            w3,
            w2,
            w1,
            w0,
            h3,
            h2,
            h1,
            h0,
            depth,
            color,
            _compression,
            filter,
            interlaced,
        ],
    ) = data.first_chunk()
    else {
        return Err(Format::Png.damaged("a header that is too short"));
    };
    let color = match (depth, color) {
        (1 | 2 | 4 | 8 | 16, 0) => Color::Grey,
        (8 | 16, 2) => Color::Rgb,
        (1 | 2 | 4 | 8, 3) => Color::Indexed,
        (8 | 16, 4) => Color::GreyAlpha,
        (8 | 16, 6) => Color::RgbAlpha,
        _ => return Err(Format::Png.damaged(format!("colour type {color} with {depth} bits"))),
    };
    if filter != 0 {
        return Err(Format::Png.damaged(format!("filter method {filter}")));
    }
    Ok(Header {
        width: u32::from_be_bytes([w3, w2, w1, w0]),
        height: u32::from_be_bytes([h3, h2, h1, h0]),
        depth: depth.into(),
        color,
        interlaced: interlaced != 0,
    })
}

impl Header {
    fn pixel_bits(&self) -> usize {
        self.depth
            * match self.color {
                Color::Grey | Color::Indexed => 1,
                Color::GreyAlpha => 2,
                Color::Rgb => 3,
                Color::RgbAlpha => 4,
            }
    }
}

fn frame(size: Size, place: Option<[u32; 4]>) -> Result<Frame, ImageError> {
    let Some(place) = place else {
        return Ok(Frame {
            left: 0,
            top: 0,
            width: size.width,
            height: size.height,
        });
    };
    let [width, height, left, top] = place.map(|number| number as usize);
    if width == 0 || height == 0 || left + width > size.width || top + height > size.height {
        return Err(Format::Png.damaged("a frame outside of the picture"));
    }
    Ok(Frame {
        left,
        top,
        width,
        height,
    })
}

/// One of the seven passes of an interlaced image, or all rows of another.
struct Pass {
    /// Bytes of a row, without its filter.
    row: usize,
    rows: usize,
    /// Place of the first pixel, and the steps to the next one.
    left: usize,
    top: usize,
    step: usize,
    down: usize,
}

fn passes(header: &Header, frame: Frame) -> Vec<Pass> {
    /// First column, first row, and the steps to the next of each.
    const ADAM7: [[usize; 4]; 7] = [
        [0, 0, 8, 8],
        [4, 0, 8, 8],
        [0, 4, 4, 8],
        [2, 0, 4, 4],
        [0, 2, 2, 4],
        [1, 0, 2, 2],
        [0, 1, 1, 2],
    ];
    const ONE: [[usize; 4]; 1] = [[0, 0, 1, 1]];
    let passes: &[_] = if header.interlaced { &ADAM7 } else { &ONE };
    let pass = |&[left, top, step, down]: &[usize; 4]| {
        let columns = frame.width.saturating_sub(left).div_ceil(step);
        let rows = frame.height.saturating_sub(top).div_ceil(down);
        (columns > 0 && rows > 0).then_some(Pass {
            row: (columns * header.pixel_bits()).div_ceil(8),
            rows,
            left: frame.left + left,
            top: frame.top + top,
            step,
            down,
        })
    };
    passes.iter().filter_map(pass).collect()
}

/// Whether so many bytes are complete rows, at least one.
fn ends_with_a_row(passes: &[Pass], mut written: usize) -> bool {
    for pass in passes {
        if written <= pass.bytes() {
            return written > 0 && written.is_multiple_of(1 + pass.row);
        }
        written -= pass.bytes();
    }
    false
}

/// Decompresses the data of the chunk and those that follow it. Returns the number of bytes and the
/// chunk with the last of them.
fn decompress<'a>(
    bytes: &'a [u8],
    first: Chunk<'a>,
    rows: &mut [u8],
) -> Result<(usize, Chunk<'a>), ImageError> {
    /// Precedes the data in an `fdAT` chunk.
    const SEQUENCE_NUMBER: usize = 4;
    let mut decompressor = Decompressor::new();
    let mut written = 0;
    let mut chunk = first;
    loop {
        let mut data = match &chunk.kind {
            b"fdAT" => chunk.data.get(SEQUENCE_NUMBER..).unwrap_or_default(),
            _ => chunk.data,
        };
        while !data.is_empty() && written < rows.len() && !decompressor.is_done() {
            let (read, output) = decompressor
                .read(data, rows, written, false)
                .map_err(|error| Format::Png.damaged(format!("{error:?}")))?;
            data = &data[read..];
            written += output;
        }
        // The last byte of `rows` belongs to no row.
        if written + 1 >= rows.len() || decompressor.is_done() {
            return Ok((written, chunk));
        }
        chunk = match chunk_at(bytes, chunk.end + CHECKSUM) {
            Some(Some(next)) if matches!(&next.kind, b"IDAT" | b"fdAT") => next,
            _ => return Err(Format::Png.truncated("its pixels end early")),
        };
    }
}

impl Pass {
    fn bytes(&self) -> usize {
        self.rows * (1 + self.row)
    }

    fn ys(&self) -> impl Iterator<Item = usize> {
        (self.top..).step_by(self.down).take(self.rows)
    }

    /// Undoes the filters of the rows, in place.
    fn unfilter(&self, rows: &mut [u8], header: &Header) -> Result<(), ImageError> {
        let unfilter = match header.pixel_bits().div_ceil(8) {
            1 => unfilter::<1>,
            2 => unfilter::<2>,
            3 => unfilter::<3>,
            4 => unfilter::<4>,
            6 => unfilter::<6>,
            _ => unfilter::<8>,
        };
        let zeros = vec![0; self.row];
        let mut previous = &zeros[..];
        for row in rows.chunks_exact_mut(1 + self.row) {
            let (filter, row) = row.split_at_mut(1);
            unfilter(filter[0], previous, row)?;
            previous = row;
        }
        Ok(())
    }
}

/// Undoes the filter of a row whose pixels have `N` bytes.
fn unfilter<const N: usize>(filter: u8, previous: &[u8], row: &mut [u8]) -> Result<(), ImageError> {
    let (pixels, _) = row.as_chunks_mut::<N>();
    let above = previous.as_chunks::<N>().0;
    let mut left = [0; N];
    let mut above_left = [0; N];
    match filter {
        0 => {}
        1 => {
            for pixel in pixels {
                for at in 0..N {
                    pixel[at] = pixel[at].wrapping_add(left[at]);
                }
                left = *pixel;
            }
        }
        2 => {
            for (byte, above) in row.iter_mut().zip(previous) {
                *byte = byte.wrapping_add(*above);
            }
        }
        3 => {
            for (pixel, above) in pixels.iter_mut().zip(above) {
                for at in 0..N {
                    let mean = left[at].midpoint(above[at]);
                    pixel[at] = pixel[at].wrapping_add(mean);
                }
                left = *pixel;
            }
        }
        4 => {
            for (pixel, above) in pixels.iter_mut().zip(above) {
                for at in 0..N {
                    let nearest = paeth(left[at], above[at], above_left[at]);
                    pixel[at] = pixel[at].wrapping_add(nearest);
                }
                (left, above_left) = (*pixel, *above);
            }
        }
        _ => return Err(Format::Png.damaged(format!("filter {filter}"))),
    }
    Ok(())
}

/// The neighbour that is nearest to `left + above - above_left`.
///
/// The nearest one is found by comparisons with a threshold instead of by distances, which compilers
/// turn into code without branches: the smaller of `left` and `above` at and above it, the larger at
/// and below it, and `above_left` in between.
fn paeth(left: u8, above: u8, above_left: u8) -> u8 {
    let [a, b, c] = [left, above, above_left].map(i16::from);
    let threshold = 3 * c - (a + b);
    let (low, high) = (a.min(b), a.max(b));
    let nearest = if high <= threshold { low } else { c };
    let nearest = if threshold <= low { high } else { nearest };
    nearest as u8
}

/// Converts rows to RGB8 as Pillow's `convert("RGB")`: grey is repeated in all three channels, alpha
/// is dropped and not blended, and of 16 bits the upper 8 are kept, except for grey without alpha,
/// which is clipped at 255.
struct Converter {
    header: Header,
    palette: Box<Palette>,
    /// Whether a level was clipped.
    clipped: bool,
}

impl Converter {
    fn new(header: &Header, table: &[u8]) -> Self {
        let mut palette = from_rgb(table);
        if header.color == Color::Grey && header.depth <= 8 {
            let max = (1 << header.depth) - 1;
            for (level, color) in palette[..=max].iter_mut().enumerate() {
                *color = [(level * usize::from(u8::MAX) / max) as u8; CHANNELS];
            }
        }
        Self {
            header: *header,
            palette,
            clipped: false,
        }
    }

    /// Writes the pixels of a row into every `step`-th pixel of the target.
    fn convert_into(&mut self, row: &[u8], step: usize, target: &mut [u8]) {
        let Header { color, depth, .. } = self.header;
        let targets = target
            .as_chunks_mut::<CHANNELS>()
            .0
            .iter_mut()
            .step_by(step);
        if depth < 8 {
            for (x, to) in targets.enumerate() {
                *to = self.palette[index_at(row, depth, x)];
            }
            return;
        }
        let pixels = targets.zip(row.chunks_exact(self.header.pixel_bits() / 8));
        match (color, depth) {
            (Color::Grey, 16) => {
                for (to, from) in pixels {
                    self.clipped |= from[0] > 0;
                    *to = [if from[0] > 0 { u8::MAX } else { from[1] }; CHANNELS];
                }
            }
            (Color::Grey | Color::Indexed, _) => {
                pixels.for_each(|(to, from)| *to = self.palette[usize::from(from[0])]);
            }
            (Color::GreyAlpha, _) => pixels.for_each(|(to, from)| *to = [from[0]; CHANNELS]),
            (Color::Rgb | Color::RgbAlpha, 8) => {
                pixels.for_each(|(to, from)| *to = [from[0], from[1], from[2]]);
            }
            (Color::Rgb | Color::RgbAlpha, _) => {
                pixels.for_each(|(to, from)| *to = [from[0], from[2], from[4]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paeth_is_the_neighbour_at_the_smallest_distance() {
        let levels = [0, 1, 2, 3, 60, 61, 100, 127, 128, 200, 253, 254, 255];
        for left in levels {
            for above in levels {
                for above_left in levels {
                    let estimate = i16::from(left) + i16::from(above) - i16::from(above_left);
                    let nearest = [left, above, above_left]
                        .into_iter()
                        .min_by_key(|&near| (estimate - i16::from(near)).abs());
                    assert_eq!(Some(paeth(left, above, above_left)), nearest);
                }
            }
        }
    }
}
