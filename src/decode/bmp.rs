//! BMP, as the `BmpImagePlugin` of Pillow 12 reads it. Pillow 13 reads literal runs of an odd number
//! of 4-bit pixels differently.

use image::metadata::Orientation;

use super::bytes::{array, u16_le, u32_le};
use super::indexed::{BLACK, Palette, grey_ramp, index_at, paint};
use super::{DecodeOptions, Format, Picture, allocate};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

const FILE_HEADER: usize = 14;
/// The header of OS/2 1.x, whose palette has three bytes a colour.
const CORE_HEADER: usize = 12;
const HEADERS: [usize; 7] = [CORE_HEADER, 40, 52, 56, 64, 108, 124];

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;
const JPEG: u32 = 4;
const PNG: u32 = 5;

/// Masks of red, green, blue and alpha, and the bytes of red, green and blue that they select.
const LAYOUTS_32: [([u32; 4], [usize; CHANNELS]); 8] = [
    ([0x00FF_0000, 0xFF00, 0xFF, 0], [2, 1, 0]),
    ([0xFF00_0000, 0x00FF_0000, 0xFF00, 0], [3, 2, 1]),
    ([0xFF00_0000, 0xFF00, 0xFF, 0], [3, 1, 0]),
    ([0xFF00_0000, 0x00FF_0000, 0xFF00, 0xFF], [3, 2, 1]),
    ([0xFF, 0xFF00, 0x00FF_0000, 0xFF00_0000], [0, 1, 2]),
    ([0x00FF_0000, 0xFF00, 0xFF, 0xFF00_0000], [2, 1, 0]),
    ([0xFF00_0000, 0xFF00, 0xFF, 0x00FF_0000], [3, 1, 0]),
    ([0, 0, 0, 0], BGR),
];
const BGR: [usize; CHANNELS] = [2, 1, 0];
const MASKS_24: [u32; CHANNELS] = [0x00FF_0000, 0xFF00, 0xFF];
const MASKS_565: [u32; CHANNELS] = [0xF800, 0x07E0, 0x1F];
const MASKS_555: [u32; CHANNELS] = [0x7C00, 0x03E0, 0x1F];

/// How a row of pixels is stored.
enum Layout {
    /// Indices of a palette; so many bits for each.
    Indexed { bits: usize, palette: Box<Palette> },
    /// Five or six bits for each channel in two bytes.
    Packed { green_bits: u32 },
    /// A byte for each channel, at these places of a pixel.
    Bytes {
        step: usize,
        places: [usize; CHANNELS],
    },
}

struct Header {
    size: Size,
    top_down: bool,
    bits: u16,
    compression: u32,
    layout: Layout,
    /// Offset of the pixels.
    offset: usize,
}

pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    scratch: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let header = header(bytes, options)?;
    match header.compression {
        RLE4 | RLE8 => runs_into(bytes, &header, scratch, pixels)?,
        _ => rows_into(bytes, &header, pixels)?,
    }
    Ok(Picture {
        size: header.size,
        orientation: Orientation::NoTransforms,
        warning: None,
    })
}

fn header(bytes: &[u8], options: &DecodeOptions) -> Result<Header, ImageError> {
    let cut = || Format::Bmp.truncated("it ends within its header");
    let offset = u32_le(bytes, 10).ok_or_else(cut)? as usize;
    let length = u32_le(bytes, FILE_HEADER).ok_or_else(cut)? as usize;
    if !HEADERS.contains(&length) {
        return Err(Format::Bmp.unsupported(format!("a header of {length} bytes")));
    }
    let mut at = FILE_HEADER + length;
    let info = bytes.get(FILE_HEADER..at).ok_or_else(cut)?;
    let long = |at| u32_le(info, at).ok_or_else(cut);
    let short = |at| u16_le(info, at).ok_or_else(cut);

    let core = length == CORE_HEADER;
    let (width, height, top_down, bits, compression, colors);
    if core {
        (width, height, top_down) = (short(4)?.into(), short(6)?.into(), false);
        (bits, compression, colors) = (short(10)?, RAW, 0);
    } else {
        // Only a height of fewer than 2^24 rows is recognised as negative.
        top_down = info[11] == u8::MAX;
        width = long(4)?;
        height = if top_down {
            long(8)?.wrapping_neg()
        } else {
            long(8)?
        };
        (bits, compression, colors) = (short(14)?, long(16)?, long(32)?);
    }
    let size = options.size(Format::Bmp, width, height)?;

    let layout = match (bits, compression) {
        (_, JPEG) => return Err(Format::Bmp.unsupported("JPEG compression")),
        (_, PNG) => return Err(Format::Bmp.unsupported("PNG compression")),
        (1 | 4 | 8, RAW | RLE8 | RLE4) => None,
        (16, RAW) => Some(Layout::Packed { green_bits: 5 }),
        (24, RAW) => Some(Layout::Bytes {
            step: 3,
            places: BGR,
        }),
        (32, RAW) => Some(Layout::Bytes {
            step: 4,
            places: BGR,
        }),
        (16 | 24 | 32, BITFIELDS) => {
            let masks = masks(bytes, length, &mut at).ok_or_else(cut)?;
            let layout = layout_of(bits, masks).ok_or_else(|| {
                Format::Bmp.unsupported(format!("{bits} bits with masks {masks:X?}"))
            })?;
            Some(layout)
        }
        _ => {
            return Err(
                Format::Bmp.unsupported(format!("{bits} bits with compression {compression}"))
            );
        }
    };
    let Some(layout) = layout else {
        let width = if core { 3 } else { 4 };
        let colors = match colors {
            0 => 1 << bits,
            colors => colors as usize,
        };
        if colors > MAX_COLORS {
            return Err(Format::Bmp.unsupported(format!("a palette of {colors} colours")));
        }
        let length = width * colors;
        let table = &bytes[at..bytes.len().min(at + length)];
        // An offset that forgets the palette.
        let forgotten = offset == at;
        let offset = match offset {
            0 => at + table.len(),
            _ if forgotten => at + length,
            offset => offset,
        };
        let layout = indexed(bits.into(), table, width, colors)?;
        return Ok(Header {
            size,
            top_down,
            bits,
            compression,
            layout,
            offset,
        });
    };
    Ok(Header {
        size,
        top_down,
        bits,
        compression,
        layout,
        offset: if offset == 0 { at } else { offset },
    })
}

/// More colours than this are refused; more than 256 only if they are not all grey.
const MAX_COLORS: usize = 1 << 16;

/// The layout of indices. A palette that is all grey is ignored, and with it the number of bits of
/// an index.
fn indexed(bits: usize, table: &[u8], width: usize, colors: usize) -> Result<Layout, ImageError> {
    let level = |index: usize| match (colors, index) {
        (2, 1) => u8::MAX,
        _ => index as u8,
    };
    let grey = (0..colors).all(|index| {
        let color = table.get(index * width..index * width + CHANNELS);
        color == Some(&[level(index); CHANNELS])
    });
    if grey {
        let mut palette = grey_ramp();
        palette[1] = [level(1); CHANNELS];
        let bits = if colors == 2 { 1 } else { 8 };
        return Ok(Layout::Indexed { bits, palette });
    }
    let mut palette = Box::new([BLACK; 256]);
    let entries = table.chunks_exact(width);
    if entries.len() > palette.len() {
        return Err(Format::Bmp.unsupported(format!("a palette of {colors} colours")));
    }
    for (color, entry) in palette.iter_mut().zip(entries) {
        *color = [entry[2], entry[1], entry[0]];
    }
    Ok(Layout::Indexed { bits, palette })
}

/// The masks, which are a part of the longer headers and follow the others.
fn masks(bytes: &[u8], length: usize, at: &mut usize) -> Option<[u32; 4]> {
    const MASKS: usize = FILE_HEADER + 40;
    let color = [0, 4, 8].map(|step| u32_le(bytes, MASKS + step));
    let alpha = if length >= 56 {
        u32_le(bytes, MASKS + 12)?
    } else {
        0
    };
    if length < 52 {
        *at += 12;
    }
    Some([color[0]?, color[1]?, color[2]?, alpha])
}

fn layout_of(bits: u16, masks: [u32; 4]) -> Option<Layout> {
    let color = [masks[0], masks[1], masks[2]];
    match bits {
        16 if color == MASKS_565 => Some(Layout::Packed { green_bits: 6 }),
        16 if color == MASKS_555 => Some(Layout::Packed { green_bits: 5 }),
        24 if color == MASKS_24 => Some(Layout::Bytes {
            step: 3,
            places: BGR,
        }),
        32 => {
            let (_, places) = LAYOUTS_32.iter().find(|(known, _)| *known == masks)?;
            Some(Layout::Bytes {
                step: 4,
                places: *places,
            })
        }
        _ => None,
    }
}

impl Layout {
    fn bits(&self) -> usize {
        match self {
            Self::Indexed { bits, .. } => *bits,
            Self::Packed { .. } => 16,
            Self::Bytes { step, .. } => 8 * step,
        }
    }

    fn row_into(&self, source: &[u8], target: &mut [u8]) {
        let (target, _) = target.as_chunks_mut::<CHANNELS>();
        match self {
            Self::Indexed { bits, palette } => {
                for (x, pixel) in target.iter_mut().enumerate() {
                    *pixel = palette[index_at(source, *bits, x)];
                }
            }
            Self::Packed { green_bits } => {
                for (pixel, &packed) in target.iter_mut().zip(source.as_chunks().0) {
                    *pixel = unpacked(u16::from_le_bytes(packed).into(), *green_bits);
                }
            }
            Self::Bytes { step, places } => {
                for (pixel, from) in target.iter_mut().zip(source.chunks_exact(*step)) {
                    *pixel = places.map(|place| from[place]);
                }
            }
        }
    }
}

/// Scales the channels of a 16-bit pixel to 8 bits, rounded down.
fn unpacked(packed: u32, green_bits: u32) -> [u8; CHANNELS] {
    const BITS: u32 = 5;
    let scaled = |shift: u32, bits: u32| {
        let max = (1 << bits) - 1;
        (((packed >> shift) & max) * u32::from(u8::MAX) / max) as u8
    };
    [
        scaled(BITS + green_bits, BITS),
        scaled(BITS, green_bits),
        scaled(0, BITS),
    ]
}

/// Uncompressed rows, each padded to four bytes; the padding of the last row may be missing.
fn rows_into(bytes: &[u8], header: &Header, pixels: &mut Vec<u8>) -> Result<(), ImageError> {
    let Size { width, height } = header.size;
    let stride = (width * usize::from(header.bits)).div_ceil(32) * 4;
    let row = (width * header.layout.bits()).div_ceil(8);
    if row > stride {
        return Err(Format::Bmp.unsupported(format!("a grey palette with {} bits", header.bits)));
    }
    let needed = (height - 1) * stride + row;
    let data = bytes.get(header.offset..).unwrap_or_default();
    if data.len() < needed {
        return Err(Format::Bmp.truncated(format!("{} of {needed} bytes of pixels", data.len())));
    }
    allocate(pixels, header.size.bytes(), header.size)?;
    for (y, target) in pixels.chunks_exact_mut(width * CHANNELS).enumerate() {
        let y = if header.top_down { y } else { height - 1 - y };
        header
            .layout
            .row_into(&data[y * stride..y * stride + row], target);
    }
    Ok(())
}

/// Run-length encoded indices.
fn runs_into(
    bytes: &[u8],
    header: &Header,
    indices: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<(), ImageError> {
    let palette = match &header.layout {
        Layout::Indexed { bits, palette } if *bits != 1 || header.bits == 1 => palette,
        _ => return Err(Format::Bmp.unsupported("runs of two grey levels")),
    };
    let size = header.size;
    let total = size.width * size.height;
    allocate(indices, total, size)?;
    let written = runs(bytes, header, indices);
    if written < total {
        return Err(
            Format::Bmp.truncated(format!("its runs end after {written} of {total} pixels"))
        );
    }
    allocate(pixels, size.bytes(), size)?;
    let row = size.width;
    let targets = pixels.chunks_exact_mut(row * CHANNELS);
    if header.top_down {
        for (source, target) in indices.chunks_exact(row).zip(targets) {
            paint(source, palette, target);
        }
    } else {
        for (source, target) in indices.chunks_exact(row).rev().zip(targets) {
            paint(source, palette, target);
        }
    }
    Ok(())
}

/// Writes runs into `indices`, which are zeros, and returns the number of indices that they cover.
///
/// Pixels are counted and not placed: a run that is longer than its row is cut to the row, but a row
/// of literal pixels that is too long continues in the next one.
fn runs(bytes: &[u8], header: &Header, indices: &mut [u8]) -> usize {
    const END_OF_LINE: u8 = 0;
    const END_OF_BITMAP: u8 = 1;
    const DELTA: u8 = 2;
    let nibbles = |byte: u8| [byte >> 4, byte & 0x0F];
    let (rle4, width) = (header.compression == RLE4, header.size.width);
    let (mut at, mut written, mut x) = (header.offset, 0, 0_usize);
    while written < indices.len() {
        let Some([count, value]) = array(bytes, at) else {
            break;
        };
        at += 2;
        let rest = &mut indices[written..];
        match (count, value) {
            (0, END_OF_LINE) => {
                written = written.next_multiple_of(width);
                x = 0;
            }
            (0, END_OF_BITMAP) => break,
            (0, DELTA) => {
                let Some([right, up]) = array(bytes, at) else {
                    break;
                };
                at += 2;
                written += usize::from(right) + usize::from(up) * width;
                x = written % width;
            }
            (0, count) => {
                let count = usize::from(count);
                let length = if rle4 { count / 2 } else { count };
                let literal = &bytes[at.min(bytes.len())..bytes.len().min(at + length)];
                let covered = if rle4 {
                    let pixels = literal.iter().flat_map(|&byte| nibbles(byte));
                    for (index, pixel) in rest.iter_mut().zip(pixels) {
                        *index = pixel;
                    }
                    2 * literal.len()
                } else {
                    let fits = rest.len().min(literal.len());
                    rest[..fits].copy_from_slice(&literal[..fits]);
                    literal.len()
                };
                written += covered;
                if literal.len() < length {
                    break;
                }
                x += count;
                // Padded to an even offset in the file.
                at = (at + length).next_multiple_of(2);
            }
            (count, value) => {
                let count = usize::from(count).min(width.saturating_sub(x));
                let pixels = if rle4 { nibbles(value) } else { [value; 2] };
                for (index, pixel) in rest.iter_mut().zip(pixels.iter().cycle()).take(count) {
                    *index = *pixel;
                }
                written += count;
                x += count;
            }
        }
    }
    written.min(indices.len())
}
