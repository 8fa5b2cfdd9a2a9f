//! TIFF, as Pillow reads it: uncompressed images itself, compressed ones with libtiff.
//!
//! The tags are interpreted as Pillow does it, also where they contradict each other. Strips and
//! tiles are decompressed row by row, so that memory is needed for the pixels and a row only.

mod ccitt;
mod codec;
mod directory;
mod jpeg;
mod lab;
mod pixel;
mod ycbcr;

use std::mem;

use image::metadata::Orientation;

use self::ccitt::Scheme;
use self::codec::{Codec, Predictor, restore};
use self::directory::{Directory, Order, Values};
use self::jpeg::Components;
use self::pixel::{Converter, Integer, Pixel, Samples};
use super::{DecodeOptions, Format, Picture, allocate, clipped, jpeg as photo, turn_into};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// The tags that are read.
mod tag {
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS_PER_SAMPLE: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES_PER_PIXEL: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTE_COUNTS: u16 = 279;
    pub const PLANAR_CONFIGURATION: u16 = 284;
    pub const GROUP_3_OPTIONS: u16 = 292;
    pub const PREDICTOR: u16 = 317;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTE_COUNTS: u16 = 325;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const YCBCR_COEFFICIENTS: u16 = 529;
    pub const YCBCR_SUBSAMPLING: u16 = 530;
    pub const REFERENCE_BLACK_WHITE: u16 = 532;
}

/// How strips and tiles are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Fax(Scheme),
    Lzw,
    OldJpeg,
    Jpeg,
    Deflate,
    PackBits,
}

impl Compression {
    fn of(directory: &Directory) -> Result<Self, ImageError> {
        let name = match directory.value(tag::COMPRESSION).unwrap_or(1) {
            1 => return Ok(Self::None),
            2 => return Ok(Self::Fax(Scheme::Runs { align: 8 })),
            3 => {
                let options = directory.value(tag::GROUP_3_OPTIONS).unwrap_or(0);
                let mixed = options & 1 == 1;
                return Ok(Self::Fax(Scheme::Group3 { mixed }));
            }
            4 => return Ok(Self::Fax(Scheme::Group4)),
            5 => return Ok(Self::Lzw),
            6 => return Ok(Self::OldJpeg),
            7 => return Ok(Self::Jpeg),
            8 | 32946 => return Ok(Self::Deflate),
            32771 => return Ok(Self::Fax(Scheme::Runs { align: 16 })),
            32773 => return Ok(Self::PackBits),
            9 | 10 => "JBIG",
            32766 => "NeXT",
            32809 => "ThunderScan",
            34661 => "JBIG",
            34676 | 34677 => "SGI Log",
            34712 | 33003 | 33005 => "JPEG 2000",
            34887 => "LERC",
            34892 => "lossy JPEG (DNG)",
            34925 => "LZMA",
            50000 => "Zstandard",
            50001 => "WebP",
            50002 | 52546 => "JPEG XL",
            other => return Err(Format::Tiff.unsupported(format!("compression {other}"))),
        };
        Err(Format::Tiff.unsupported(format!("{name} compression")))
    }
}

/// Decodes the first image of a TIFF into RGB8 `pixels`, upright: as Pillow does, the orientation is
/// always applied.
pub(super) fn decode_into(
    bytes: &[u8],
    options: &DecodeOptions,
    scratch: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let directory = Directory::first(bytes)?;
    let mut image = Image::of(bytes, directory, options)?;
    let size = image.size;
    allocate(pixels, size.bytes(), size)?;
    image.decode_into(scratch, pixels)?;
    let orientation = image.directory.value(tag::ORIENTATION).unwrap_or(1);
    let orientation = u8::try_from(orientation)
        .ok()
        .and_then(Orientation::from_exif);
    let size = match orientation {
        None | Some(Orientation::NoTransforms) => size,
        Some(orientation) => {
            mem::swap(pixels, scratch);
            allocate(pixels, size.bytes(), size)?;
            turn_into(scratch, size, orientation, pixels)
        }
    };
    Ok(Picture {
        size,
        orientation: Orientation::NoTransforms,
        warning: image.warning(),
    })
}

/// The first image of a file.
struct Image<'a> {
    file: &'a [u8],
    directory: Directory<'a>,
    size: Size,
    samples: Samples,
    compression: Compression,
    is_planar: bool,
    /// The size of a tile, or of a strip other than the last.
    chunk: Size,
    is_tiled: bool,
    offsets: Values<'a>,
    counts: Option<Values<'a>>,
    converter: Converter,
    /// What is wrong with the picture.
    damage: Option<String>,
}

/// The part of the image that a strip or tile has.
#[derive(Clone, Copy)]
struct Part {
    /// Its place in the list of strips or tiles, of which each plane has its own.
    index: usize,
    plane: usize,
    left: usize,
    top: usize,
    /// Without what is beyond the right and the lower side of the image.
    width: usize,
    height: usize,
}

/// Rows that are longer than this are refused.
const MAX_ROW: usize = 64 << 20;
/// Pixels of tiles that may be outside the image, if they are more than thrice those of the image:
/// they take time too.
const MAX_PADDING: usize = 1 << 24;

impl<'a> Image<'a> {
    fn of(
        file: &'a [u8],
        directory: Directory<'a>,
        options: &DecodeOptions,
    ) -> Result<Self, ImageError> {
        let dimension = |name| {
            let value = directory.value(name);
            let value =
                value.ok_or_else(|| Format::Tiff.damaged("it has no width or no height"))?;
            u32::try_from(value)
                .map_err(|_| Format::Tiff.damaged("its width or height is not a number"))
        };
        let size = options.size(
            Format::Tiff,
            dimension(tag::WIDTH)?,
            dimension(tag::HEIGHT)?,
        )?;
        let compression = Compression::of(&directory)?;
        if directory.is_cut && compression != Compression::None {
            return Err(directory::cut());
        }
        let is_planar = directory.value(tag::PLANAR_CONFIGURATION) == Some(2);
        let samples = Samples::of(&directory, compression == Compression::OldJpeg, is_planar)?;
        let pixel = samples.pixel(compression == Compression::None)?;
        let side = |name| {
            let side = directory
                .value(name)
                .and_then(|side| u32::try_from(side).ok());
            side.filter(|&side| side > 0).map(|side| side as usize)
        };
        let (strips, tiles) = (
            directory.values(tag::STRIP_OFFSETS),
            directory.values(tag::TILE_OFFSETS),
        );
        let (is_tiled, offsets, counts, chunk) = match (strips, tiles) {
            (strips, Some(tiles)) if strips.is_none() || compression != Compression::None => {
                let width = side(tag::TILE_WIDTH);
                let (Some(width), Some(height)) = (width, side(tag::TILE_HEIGHT)) else {
                    return Err(Format::Tiff.damaged("it has tiles without a size"));
                };
                (true, tiles, tag::TILE_BYTE_COUNTS, Size { width, height })
            }
            (Some(strips), _) => {
                let height = match directory.value(tag::ROWS_PER_STRIP) {
                    Some(0) => return Err(Format::Tiff.damaged("it has strips of zero rows")),
                    Some(rows) => size.height.min(rows.try_into().unwrap_or(usize::MAX)),
                    None => size.height,
                };
                let width = size.width;
                (
                    false,
                    strips,
                    tag::STRIP_BYTE_COUNTS,
                    Size { width, height },
                )
            }
            _ => return Err(Format::Tiff.damaged("it has neither strips nor tiles")),
        };
        let padded = |length: usize, side: usize| length.checked_next_multiple_of(side);
        let area = padded(size.width, chunk.width)
            .zip(padded(size.height, chunk.height))
            .and_then(|(width, height)| width.checked_mul(height));
        let limit = (size.width * size.height)
            .saturating_mul(4)
            .saturating_add(MAX_PADDING);
        if is_tiled && area.is_none_or(|area| area > limit) {
            return Err(Format::Tiff.unsupported(format!(
                "tiles of {} x {} pixels for an image of {} x {}",
                chunk.width, chunk.height, size.width, size.height
            )));
        }
        let counts = directory.values(counts);
        let damage = directory
            .is_cut
            .then(|| "the file ends inside its directory: tags are missing".to_owned());
        let palette = match pixel {
            Pixel::Palette { .. } | Pixel::PaletteExtra => {
                let map = directory.values(tag::COLOR_MAP);
                let map =
                    map.ok_or_else(|| Format::Tiff.damaged("it has a palette without colours"))?;
                Some(pixel::palette(map))
            }
            _ => None,
        };
        Ok(Self {
            file,
            directory,
            size,
            samples,
            compression,
            is_planar,
            chunk,
            is_tiled,
            offsets,
            counts,
            converter: Converter {
                pixel,
                palette,
                lab: (pixel == Pixel::Lab).then(lab::Transform::new),
                is_clipped: false,
            },
            damage,
        })
    }

    /// Why the pixels may not be those of the photo.
    fn warning(self) -> Option<String> {
        let grey = match self.converter.pixel {
            Pixel::Float { .. } => "floating-point grey",
            Pixel::Integer {
                kind: Integer::Signed32,
                ..
            } => "32-bit grey",
            _ => "16-bit grey",
        };
        let is_clipped = self.converter.is_clipped;
        self.damage.or_else(|| is_clipped.then(|| clipped(grey)))
    }

    fn decode_into(&mut self, scratch: &mut Vec<u8>, pixels: &mut [u8]) -> Result<(), ImageError> {
        let planes = match self.converter.pixel {
            _ if !self.is_planar => 1,
            Pixel::Color { samples, .. } | Pixel::Ink { samples, .. } => samples.into(),
            Pixel::Lab | Pixel::YCbCr => 3,
            Pixel::GreyAlpha | Pixel::PaletteExtra => 2,
            _ => 1,
        };
        if planes > 1 {
            // Their upper bytes together, as if they were stored so.
            let length = self.size.width * self.size.height * planes;
            allocate(scratch, length, self.size)?;
        }
        let gathered = &mut scratch[..];
        match self.compression {
            Compression::None => self.copy(planes, gathered, pixels)?,
            Compression::OldJpeg => {
                return Err(Format::Tiff.unsupported("old-style JPEG compression"));
            }
            _ if planes == 1 && self.converter.pixel == Pixel::YCbCr => match self.compression {
                Compression::Jpeg => {
                    self.converter.pixel = Pixel::Color {
                        bits: 8,
                        samples: 3,
                        is_associated: false,
                    };
                    self.decompress(planes, true, gathered, pixels)?;
                }
                _ => self.decompress_blocks(pixels)?,
            },
            _ => self.decompress(planes, false, gathered, pixels)?,
        }
        if planes > 1 {
            self.merge(planes, gathered, pixels);
        }
        Ok(())
    }

    /// Converts the samples of all planes.
    fn merge(&mut self, planes: usize, gathered: &[u8], pixels: &mut [u8]) {
        if self.converter.pixel == Pixel::YCbCr {
            let conversion = ycbcr::Conversion::of(&self.directory);
            pixel::map_into(gathered, pixels, |&[luma, cb, cr]| {
                conversion.rgb(luma, cb, cr)
            });
            return;
        }
        match &mut self.converter.pixel {
            Pixel::Color { bits, .. } | Pixel::Ink { bits, .. } => *bits = 8,
            _ => {}
        }
        let rows = pixels.chunks_exact_mut(self.size.width * CHANNELS);
        for (row, source) in rows.zip(gathered.chunks_exact(self.size.width * planes)) {
            self.converter.row(source, row);
        }
    }

    /// The strips or tiles from the top to the bottom.
    fn parts(&self, planes: usize) -> impl Iterator<Item = Part> + use<> {
        let (size, chunk) = (self.size, self.chunk);
        let across = size.width.div_ceil(chunk.width);
        let down = size.height.div_ceil(chunk.height);
        (0..down).flat_map(move |row| {
            (0..planes).flat_map(move |plane| {
                (0..across).map(move |column| {
                    let (left, top) = (column * chunk.width, row * chunk.height);
                    Part {
                        index: (plane * down + row) * across + column,
                        plane,
                        left,
                        top,
                        width: chunk.width.min(size.width - left),
                        height: chunk.height.min(size.height - top),
                    }
                })
            })
        })
    }

    /// Copies uncompressed samples as Pillow does, which does not look at the byte counts, and gives
    /// every strip or tile that the file does not list the value zero.
    fn copy(
        &mut self,
        planes: usize,
        gathered: &mut [u8],
        pixels: &mut [u8],
    ) -> Result<(), ImageError> {
        // Of separate planes, Pillow reads one byte for each sample whatever its depth, and the bits
        // in the usual order.
        let mut is_reversed = self.samples.is_reversed;
        let refused = || Format::Tiff.unsupported("these samples in uncompressed planes");
        if self.is_planar {
            is_reversed = false;
            self.converter.pixel = match self.converter.pixel {
                Pixel::Grey { bits, .. } => Pixel::Grey {
                    bits: if bits == 1 { 1 } else { 8 },
                    inverted: false,
                },
                Pixel::Palette { .. } => Pixel::Palette { bits: 8 },
                Pixel::Integer {
                    kind: kind @ Integer::Signed32,
                    ..
                } => Pixel::Integer {
                    kind,
                    order: Order::Little,
                },
                Pixel::Float { .. } => Pixel::Float {
                    order: Order::Little,
                },
                pixel @ (Pixel::Lab
                | Pixel::Ink { samples: 4, .. }
                | Pixel::Color {
                    samples: 3 | 4,
                    is_associated: false,
                    ..
                }) => pixel,
                _ => return Err(refused()),
            };
        } else if self.converter.pixel == Pixel::YCbCr {
            return Err(Format::Tiff.unsupported("uncompressed YCbCr"));
        }
        let pixel = self.converter.pixel;
        let bits = if planes > 1 { 8 } else { pixel.bits() };
        let swapped = planes == 1
            && self.samples.order == Order::Big
            && matches!(
                pixel,
                Pixel::Color { bits: 16, .. } | Pixel::Ink { bits: 16, .. }
            );
        let depth: u64 = self.samples.bits.iter().sum();
        let stride = self.chunk.width.saturating_mul(depth as usize) / 8;
        let stride = if self.is_planar {
            stride / self.samples.expected()
        } else {
            stride
        };
        let is_single = self.chunk == self.size && planes == 1;
        let mut line = Vec::new();
        for part in self.parts(planes) {
            let index = if is_single {
                self.offsets.len() - 1
            } else {
                part.index
            };
            let Some(offset) = self.offsets.get(index) else {
                self.damage = Some("strips or tiles are missing and black".to_owned());
                continue;
            };
            let length = (part.width * bits).div_ceil(8);
            let is_cut = part.left + self.chunk.width > self.size.width;
            let step = if is_cut && stride > 0 { stride } else { length };
            if step < length {
                return Err(Format::Tiff.damaged("its tiles are smaller than their samples"));
            }
            for row in 0..part.height {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let start = start.saturating_add(row.saturating_mul(step));
                let source = self.file.get(start..start.saturating_add(length));
                let source = source.ok_or_else(|| incomplete(part.index))?;
                if is_reversed || swapped {
                    line.clear();
                    line.extend_from_slice(source);
                    if is_reversed {
                        line.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
                    } else {
                        line.chunks_exact_mut(2).for_each(<[u8]>::reverse);
                    }
                    self.place(part, row, planes, &line, 1, gathered, pixels);
                } else {
                    self.place(part, row, planes, source, 1, gathered, pixels);
                }
            }
        }
        Ok(())
    }

    /// Puts a row of samples at its place: converted, or the last bytes of `width` bytes each with
    /// those of other planes.
    #[expect(clippy::too_many_arguments)]
    fn place(
        &mut self,
        part: Part,
        row: usize,
        planes: usize,
        source: &[u8],
        width: usize,
        gathered: &mut [u8],
        pixels: &mut [u8],
    ) {
        let start = (part.top + row) * self.size.width + part.left;
        if planes == 1 {
            let target = &mut pixels[start * CHANNELS..][..part.width * CHANNELS];
            self.converter.row(source, target);
            return;
        }
        // Pillow takes a* and b* in planes for unsigned numbers.
        let is_signed = self.converter.pixel == Pixel::Lab && part.plane > 0;
        let sign = if is_signed { 0x80 } else { 0 };
        let target = gathered[start * planes..].chunks_exact_mut(planes);
        let samples = source.chunks_exact(width).take(part.width);
        for (pixel, sample) in target.zip(samples) {
            pixel[part.plane] = sample[width - 1] ^ sign;
        }
    }

    /// The compressed bytes of a strip or tile.
    fn compressed(&self, index: usize) -> Result<&'a [u8], ImageError> {
        let missing = || incomplete(index);
        let start = self.offsets.get(index).ok_or_else(missing)?;
        let start = usize::try_from(start).map_err(|_| missing())?;
        let rest = self.file.get(start..).ok_or_else(missing)?;
        let counts = self
            .counts
            .ok_or_else(|| Format::Tiff.damaged("it has no byte counts"))?;
        let length = match counts.get(index).ok_or_else(missing)? {
            // libtiff estimates it.
            0 if self.offsets.len() == 1 => rest.len() as u64,
            0 => return Err(missing()),
            length => length,
        };
        let length = usize::try_from(length).map_err(|_| missing())?;
        rest.get(..length).ok_or_else(missing)
    }

    /// Decompresses strips or tiles. `to_rgb` says that JPEG streams are YCbCr.
    fn decompress(
        &mut self,
        planes: usize,
        to_rgb: bool,
        gathered: &mut [u8],
        pixels: &mut [u8],
    ) -> Result<(), ImageError> {
        let bits = self.samples.bits[0] as usize;
        let samples = if self.is_planar {
            1
        } else {
            self.samples.bits.len()
        };
        let length = (self.chunk.width.saturating_mul(samples * bits)).div_ceil(8);
        if length > MAX_ROW {
            return Err(Format::Tiff.unsupported(format!("rows of {length} bytes")));
        }
        if let Pixel::Color {
            samples: 4,
            is_associated,
            ..
        } = &mut self.converter.pixel
        {
            // libtiff takes a fourth sample without a meaning for an unspecified one, and Pillow
            // takes that for an alpha with which the colour was multiplied.
            *is_associated |= planes > 1 && self.samples.extra.is_empty();
        }
        let is_fax = matches!(self.compression, Compression::Fax(_));
        if is_fax && (samples, bits) != (1, 1) {
            return Err(Format::Tiff.unsupported("fax compression of more than 1 bit"));
        }
        if self.compression == Compression::Jpeg && bits != 8 {
            return Err(Format::Tiff.unsupported(format!("JPEG compression of {bits} bits")));
        }
        let predictor = self.predictor(bits)?;
        let order = self.samples.order;
        let width = bits.div_ceil(8);
        let (mut line, mut scratch) = (vec![0; length], Vec::new());
        for part in self.parts(planes) {
            let bytes = self.compressed(part.index)?;
            let mut buffer = Vec::new();
            let mut codec = self.codec(bytes, part, samples, to_rgb, &mut buffer)?;
            for row in 0..part.height {
                line.fill(0);
                if !codec.row(&mut line) {
                    if self.compression != Compression::Fax(Scheme::Group4) {
                        return Err(incomplete(part.index));
                    }
                    self.damage =
                        Some("rows at the end of a strip are missing and white".to_owned());
                }
                restore(&mut line, predictor, order, bits, samples, &mut scratch);
                self.place(part, row, planes, &line, width, gathered, pixels);
            }
            if codec.is_damaged() && self.damage.is_none() {
                self.damage =
                    Some("parts of the picture are damaged (invalid fax codes)".to_owned());
            }
        }
        Ok(())
    }

    fn predictor(&self, bits: usize) -> Result<Predictor, ImageError> {
        if !matches!(self.compression, Compression::Lzw | Compression::Deflate) {
            return Ok(Predictor::None);
        }
        match self.directory.value(tag::PREDICTOR).unwrap_or(1) {
            1 => Ok(Predictor::None),
            2 if matches!(bits, 8 | 16 | 32) => Ok(Predictor::Horizontal),
            3 if matches!(self.converter.pixel, Pixel::Float { .. }) => Ok(Predictor::Float),
            2 => Err(Format::Tiff.unsupported(format!("a predictor for {bits} bits"))),
            3 => Err(Format::Tiff.unsupported("a predictor of floats for integers")),
            other => Err(Format::Tiff.unsupported(format!("predictor {other}"))),
        }
    }

    /// The decompressor of a strip or tile. `buffer` receives bytes with their bits reversed, or the
    /// rows of a JPEG stream.
    fn codec<'b>(
        &mut self,
        bytes: &'b [u8],
        part: Part,
        samples: usize,
        to_rgb: bool,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Codec<'b>, ImageError> {
        if self.compression == Compression::Jpeg {
            let components = match samples {
                1 => Components::One,
                3 if to_rgb => Components::YCbCr,
                3 => Components::Three,
                4 => Components::Four,
                _ => {
                    return Err(
                        Format::Tiff.unsupported(format!("JPEG compression of {samples} samples"))
                    );
                }
            };
            let size = Size {
                width: self.chunk.width,
                height: if self.is_tiled {
                    self.chunk.height
                } else {
                    part.height
                },
            };
            allocate(buffer, size.width * size.height * samples, self.size)?;
            let tables = self.directory.bytes(tag::JPEG_TABLES).unwrap_or_default();
            let pixels = self.size.width * self.size.height;
            let warning = jpeg::decode_into(tables, bytes, components, size, pixels, buffer)?;
            if let Some(warning) = warning {
                self.damage = Some(photo::damage(&warning));
            }
            return Ok(Codec::Rows(buffer));
        }
        let bytes = if self.samples.is_reversed {
            buffer.extend(bytes.iter().map(|byte| byte.reverse_bits()));
            &buffer[..]
        } else {
            bytes
        };
        Ok(match self.compression {
            Compression::Lzw => Codec::lzw(bytes),
            Compression::Deflate => Codec::deflate(bytes),
            Compression::PackBits => Codec::pack_bits(bytes),
            Compression::Fax(scheme) => Codec::fax(scheme, self.chunk.width, bytes),
            Compression::None | Compression::Jpeg | Compression::OldJpeg => Codec::Rows(bytes),
        })
    }

    /// Decompresses YCbCr whose chrominance is stored once for a block of pixels, after their
    /// luminances.
    fn decompress_blocks(&mut self, pixels: &mut [u8]) -> Result<(), ImageError> {
        let sampling = self.directory.values(tag::YCBCR_SUBSAMPLING);
        let sampling = sampling.map_or((Some(2), Some(2)), |values| (values.get(0), values.get(1)));
        let (across, down) = match sampling {
            (Some(across @ (1 | 2 | 4)), Some(down @ (1 | 2 | 4)))
                if across >= down || across == 1 && down == 2 =>
            {
                (across as usize, down as usize)
            }
            _ => return Err(Format::Tiff.unsupported("this subsampling of YCbCr")),
        };
        if self.predictor(8)? != Predictor::None {
            return Err(Format::Tiff.unsupported("a predictor for YCbCr"));
        }
        let conversion = ycbcr::Conversion::of(&self.directory);
        let block = across * down + 2;
        let length = self.chunk.width.div_ceil(across).saturating_mul(block);
        if length > MAX_ROW {
            return Err(Format::Tiff.unsupported(format!("rows of {length} bytes")));
        }
        let mut line = vec![0; length];
        for part in self.parts(1) {
            let bytes = self.compressed(part.index)?;
            let mut buffer = Vec::new();
            let mut codec = self.codec(bytes, part, 3, false, &mut buffer)?;
            for top in (0..part.height).step_by(down) {
                if !codec.row(&mut line) {
                    return Err(incomplete(part.index));
                }
                for row in top..part.height.min(top + down) {
                    let start = (part.top + row) * self.size.width + part.left;
                    let target = &mut pixels[start * CHANNELS..][..part.width * CHANNELS];
                    let (target, _) = target.as_chunks_mut::<CHANNELS>();
                    let blocks = line.chunks_exact(block);
                    for (target, block) in target.chunks_mut(across).zip(blocks) {
                        let (lumas, chroma) = block.split_at(block.len() - 2);
                        let lumas = &lumas[(row - top) * across..];
                        for (pixel, &luma) in target.iter_mut().zip(lumas) {
                            *pixel = conversion.rgb(luma, chroma[0], chroma[1]);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn incomplete(index: usize) -> ImageError {
    Format::Tiff.truncated(format!("strip or tile {index} is incomplete"))
}
