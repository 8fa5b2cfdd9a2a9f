//! The first frame of a GIF, as Pillow's `GifImagePlugin` reads it.

use image::metadata::Orientation;

use super::bytes::{array, u16_le};
use super::indexed::{Palette, from_rgb, grey_ramp, paint};
use super::{DecodeOptions, Format, Picture, allocate};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

const SCREEN: usize = 6 + 7;
const TRAILER: u8 = 0x3B;
const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2C;
const DESCRIPTOR: usize = 9;
const GRAPHIC_CONTROL: u8 = 0xF9;
const COMMENT: u8 = 0xFE;

struct Frame<'a> {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    interlaced: bool,
    palette: Box<Palette>,
    /// The transparent index.
    transparent: Option<u8>,
    /// Bits of a pixel in the compressed data.
    bits: u8,
    /// Sub-blocks, and what follows them.
    data: &'a [u8],
}

/// Decodes the first frame, on a canvas that is large enough for it. The rest of the canvas has the
/// transparent colour, or the first one of the palette.
pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    indices: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let frame = first_frame(bytes)
        .ok_or_else(|| Format::Gif.truncated("it ends before its first frame"))?;
    let screen = |at| u16_le(bytes, at).unwrap_or_default().into();
    let width = usize::max(screen(6), frame.left + frame.width);
    let height = usize::max(screen(8), frame.top + frame.height);
    let size = options.size(Format::Gif, width as u32, height as u32)?;
    if frame.width == 0 || frame.height == 0 {
        return Err(ImageError::ZeroSized {
            format: Format::Gif,
            width: frame.width as u32,
            height: frame.height as u32,
        });
    }
    allocate(indices, width * height, size)?;
    if let Some(index) = frame.transparent {
        indices.fill(index);
    }
    frame.decompress_into(indices, size)?;
    allocate(pixels, size.bytes(), size)?;
    paint(indices, &frame.palette, pixels);
    Ok(Picture {
        size,
        orientation: Orientation::NoTransforms,
        warning: None,
    })
}

/// Skips bytes that are not blocks, as Pillow does.
fn first_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    const SCREEN_FLAGS: usize = 10;
    const TRANSPARENT: u8 = 0x01;
    const INTERLACED: u8 = 0x40;
    let mut at = SCREEN;
    let global = color_table(bytes, *bytes.get(SCREEN_FLAGS)?, &mut at)?;
    let mut transparent = None;
    loop {
        let block = *bytes.get(at)?;
        at += 1;
        match block {
            TRAILER => return None,
            EXTENSION => {
                let kind = *bytes.get(at)?;
                let control = sub_block(bytes, at + 1);
                if let (GRAPHIC_CONTROL, Some([flags, _, _, index, ..])) = (kind, control)
                    && flags & TRANSPARENT != 0
                {
                    transparent = Some(*index);
                }
                at = after_sub_blocks(bytes, at + 1);
                // As in Pillow, an empty extension swallows the sub-blocks after it.
                if control == Some(&[]) && kind != COMMENT {
                    at = after_sub_blocks(bytes, at);
                }
            }
            IMAGE => {
                let descriptor: [u8; DESCRIPTOR] = array(bytes, at)?;
                at += DESCRIPTOR;
                let [left, top, width, height] = [0, 2, 4, 6]
                    .map(|at| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]).into());
                let flags = descriptor[DESCRIPTOR - 1];
                let local = color_table(bytes, flags, &mut at)?;
                let bits = *bytes.get(at)?;
                return Some(Frame {
                    left,
                    top,
                    width,
                    height,
                    interlaced: flags & INTERLACED != 0,
                    palette: palette([local, global]),
                    transparent,
                    bits,
                    data: &bytes[at + 1..],
                });
            }
            _ => {}
        }
    }
}

/// The colour table at `at`, which is then after it, if the flags announce one.
fn color_table<'a>(bytes: &'a [u8], flags: u8, at: &mut usize) -> Option<Option<&'a [u8]>> {
    const PRESENT: u8 = 0x80;
    const SIZE: u8 = 0x07;
    if flags & PRESENT == 0 {
        return Some(None);
    }
    let table = bytes.get(*at..*at + (CHANNELS << ((flags & SIZE) + 1)))?;
    *at += table.len();
    Some(Some(table))
}

/// The palette of the first table that is not just the levels of grey; without one, these levels.
fn palette(tables: [Option<&[u8]>; 2]) -> Box<Palette> {
    let grey = grey_ramp();
    let mut tables = tables.into_iter().flatten();
    let table = tables.find(|table| *table != &grey.as_flattened()[..table.len()]);
    table.map_or(grey, from_rgb)
}

/// The sub-block at `at`; none if it is the empty one that ends a sequence, or cut short.
fn sub_block(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(*bytes.get(at)?);
    bytes.get(at + 1..at + 1 + length)
}

fn after_sub_blocks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = sub_block(bytes, at) {
        at += 1 + block.len();
        if block.is_empty() {
            return at;
        }
    }
    bytes.len()
}

impl Frame<'_> {
    /// Writes the indices of the frame into those of the canvas.
    fn decompress_into(&self, canvas: &mut [u8], canvas_size: Size) -> Result<(), ImageError> {
        let mut rows = self.rows();
        let mut place = |y: usize| {
            let start = (self.top + y) * canvas_size.width + self.left;
            start..start + self.width
        };
        let mut row = rows.next().map(&mut place).unwrap_or_default();
        let mut codes = Codes::new(self.bits, self.data)?;
        loop {
            let mut string = codes.next_string()?;
            while !string.is_empty() {
                let (head, tail) = string.split_at(string.len().min(row.len()));
                canvas[row.start..row.start + head.len()].copy_from_slice(head);
                row.start += head.len();
                string = tail;
                if row.is_empty() {
                    match rows.next() {
                        Some(y) => row = place(y),
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    /// The rows in the order in which they are stored.
    fn rows(&self) -> impl Iterator<Item = usize> + use<> {
        const PASSES: [(usize, usize); 4] = [(0, 8), (4, 8), (2, 4), (1, 2)];
        const ONE_PASS: [(usize, usize); 1] = [(0, 1)];
        let height = self.height;
        let passes: &[_] = if self.interlaced { &PASSES } else { &ONE_PASS };
        let rows = passes
            .iter()
            .flat_map(move |&(first, step)| (first..height).step_by(step));
        rows.fuse()
    }
}

/// The most codes of a table, whose codes then have 12 bits.
const CODES: usize = 1 << 12;
const MAX_BITS: u8 = 12;

/// The strings of pixels that LZW codes stand for.
struct Codes<'a> {
    data: &'a [u8],
    /// Bytes left in the sub-block.
    block: usize,
    buffer: u32,
    buffered: u32,
    start_bits: u32,
    code_bits: u32,
    clear: usize,
    next: usize,
    /// The last code, unless a clear code came after it.
    last: Option<usize>,
    /// The first pixel of the last string.
    first: u8,
    /// The last pixel of each code's string, and the code of the string before it, which is less
    /// than the code itself.
    suffixes: Box<[u8; CODES]>,
    prefixes: Box<[u16; CODES]>,
    /// A string, which is written from its end.
    string: Box<[u8; CODES]>,
}

impl<'a> Codes<'a> {
    fn new(bits: u8, data: &'a [u8]) -> Result<Self, ImageError> {
        if bits > MAX_BITS {
            return Err(Format::Gif.damaged("codes of too many bits"));
        }
        let bits = u32::from(bits);
        let clear = 1 << bits;
        Ok(Self {
            data,
            block: 0,
            buffer: 0,
            buffered: 0,
            start_bits: bits + 1,
            code_bits: bits + 1,
            clear,
            next: clear + 2,
            last: None,
            first: 0,
            suffixes: Box::new([0; CODES]),
            prefixes: Box::new([0; CODES]),
            string: Box::new([0; CODES]),
        })
    }

    fn next_code(&mut self) -> Result<usize, ImageError> {
        while self.buffered < self.code_bits {
            if self.block == 0 {
                // Only complete sub-blocks are decoded. An empty one does not end the data.
                self.block = sub_block(self.data, 0).ok_or_else(cut)?.len();
                self.data = &self.data[1..];
                continue;
            }
            let (&byte, rest) = self.data.split_first().ok_or_else(cut)?;
            self.data = rest;
            self.block -= 1;
            self.buffer |= u32::from(byte) << self.buffered;
            self.buffered += u8::BITS;
        }
        let code = self.buffer & ((1 << self.code_bits) - 1);
        self.buffer >>= self.code_bits;
        self.buffered -= self.code_bits;
        Ok(code as usize)
    }

    /// The pixels of the next code that stands for some.
    fn next_string(&mut self) -> Result<&[u8], ImageError> {
        let code = loop {
            let code = self.next_code()?;
            if code == self.clear + 1 {
                return Err(cut());
            }
            if code != self.clear {
                break code;
            }
            self.code_bits = self.start_bits;
            self.next = self.clear + 2;
            self.last = None;
        };
        let mut at = CODES;
        let Some(last) = self.last.replace(code) else {
            if code > self.clear {
                return Err(Format::Gif.damaged("an unknown code after a clear code"));
            }
            self.first = code as u8;
            self.string[at - 1] = self.first;
            return Ok(&self.string[at - 1..]);
        };
        if code > self.next {
            return Err(Format::Gif.damaged("an unknown code"));
        }
        let mut prefix = code;
        if code == self.next {
            at -= 1;
            self.string[at] = self.first;
            prefix = last;
        }
        while prefix >= self.clear {
            if prefix >= CODES {
                return Err(Format::Gif.damaged("a code of too many bits"));
            }
            at -= 1;
            self.string[at] = self.suffixes[prefix];
            prefix = self.prefixes[prefix].into();
        }
        self.first = prefix as u8;
        if self.next < CODES {
            self.suffixes[self.next] = self.first;
            self.prefixes[self.next] = last as u16;
            if self.next == (1 << self.code_bits) - 1 && self.code_bits < MAX_BITS.into() {
                self.code_bits += 1;
            }
            self.next += 1;
        }
        at -= 1;
        self.string[at] = self.first;
        Ok(&self.string[at..])
    }
}

fn cut() -> ImageError {
    Format::Gif.truncated("its first frame ends before its last pixel")
}
