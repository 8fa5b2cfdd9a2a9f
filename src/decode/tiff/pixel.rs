//! The samples of a pixel, and their conversion to RGB8 as Pillow does it.

use super::directory::{Directory, Order, Values};
use super::{lab, tag};
use crate::ImageError;
use crate::decode::Format;
use crate::decode::indexed::{Palette, grey_ramp};
use crate::decode::jpeg::printed;
use crate::resize::CHANNELS;

/// The meaning of the samples of a pixel, one variant for each way to convert them to RGB8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pixel {
    /// Grey of 1, 2, 4 or 8 bits.
    Grey { bits: u8, inverted: bool },
    /// An index into the colour map of 1, 2, 4 or 8 bits.
    Palette { bits: u8 },
    /// An index of 8 bits with another sample, which is dropped.
    PaletteExtra,
    /// Grey of 8 bits with alpha, which is dropped.
    GreyAlpha,
    /// Integers, which are clipped at 0 and 255.
    Integer { kind: Integer, order: Order },
    /// Floats of 32 bits, which are clipped at 0 and 255.
    Float { order: Order },
    /// RGB of 8 or 16 bits with so many samples; the first extra one is an alpha with which the
    /// colour was multiplied if `is_associated`.
    Color {
        bits: u8,
        samples: u8,
        is_associated: bool,
    },
    /// CMYK of 8 or 16 bits with so many samples.
    Ink { bits: u8, samples: u8 },
    /// CIE L*a*b* of 8 bits; a* and b* are signed.
    Lab,
    /// Luminance and two chrominances of 8 bits.
    YCbCr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    /// Two in three bytes.
    Unsigned12,
    Unsigned16,
    Signed16,
    /// Pillow reads unsigned numbers of 32 bits as signed, too.
    Signed32,
}

/// The tags that decide what the samples of a pixel mean.
#[derive(Debug)]
pub(super) struct Samples {
    pub photometric: u64,
    pub format: u64,
    pub is_reversed: bool,
    pub bits: Vec<u64>,
    pub extra: Vec<u64>,
    pub order: Order,
}

mod photometric {
    pub const WHITE_IS_ZERO: u64 = 0;
    pub const BLACK_IS_ZERO: u64 = 1;
    pub const RGB: u64 = 2;
    pub const PALETTE: u64 = 3;
    pub const CMYK: u64 = 5;
    pub const YCBCR: u64 = 6;
    pub const LAB: u64 = 8;
}

const UNSIGNED: u64 = 1;
const SIGNED: u64 = 2;
const FLOAT: u64 = 3;

/// More samples than Pillow accepts in a pixel.
const MAX_SAMPLES: usize = 6;

impl Samples {
    /// Reads the tags, with Pillow's defaults for those that are missing or inconsistent.
    pub fn of(
        directory: &Directory,
        is_old_jpeg: bool,
        is_planar: bool,
    ) -> Result<Self, ImageError> {
        let photometric = if is_old_jpeg {
            photometric::YCBCR
        } else {
            directory
                .value(tag::PHOTOMETRIC)
                .unwrap_or(photometric::WHITE_IS_ZERO)
        };
        let list = |name, default: &[u64]| {
            let values = directory.values(name);
            values.map_or(default.to_vec(), |values| {
                values.iter().take(MAX_SAMPLES + 1).collect()
            })
        };
        let formats = list(tag::SAMPLE_FORMAT, &[UNSIGNED]);
        let [format, others @ ..] = &*formats else {
            return Err(Format::Tiff.unsupported("no sample format"));
        };
        if others.iter().any(|other| other != format) {
            return Err(Format::Tiff.unsupported("samples of different formats"));
        }
        let mut bits = list(tag::BITS_PER_SAMPLE, &[1]);
        let mut extra = list(tag::EXTRA_SAMPLES, &[]);
        let default = if is_old_jpeg { 3 } else { 1 };
        let count = directory.value(tag::SAMPLES_PER_PIXEL).unwrap_or(default);
        let mut count = usize::try_from(count).unwrap_or(usize::MAX);
        if is_planar && extra.iter().max() == Some(&0) {
            // The planes of unspecified samples come last and are not read.
            bits.truncate(bits.len().saturating_sub(extra.len()));
            count = count.saturating_sub(extra.len());
            extra.clear();
        }
        if count > MAX_SAMPLES {
            return Err(Format::Tiff.unsupported(format!("{count} samples in a pixel")));
        }
        if count < bits.len() {
            bits.truncate(count);
        } else if let [all] = *bits {
            bits.resize(count, all);
        }
        if bits.len() != count {
            return Err(
                Format::Tiff.unsupported(format!("{count} samples of {} depths", bits.len()))
            );
        }
        Ok(Self {
            photometric,
            format: *format,
            is_reversed: directory.value(tag::FILL_ORDER) == Some(2),
            bits,
            extra,
            order: directory.order,
        })
    }

    /// The meaning of the samples, if Pillow knows it. `is_raw` says that they are not compressed.
    pub fn pixel(&self, is_raw: bool) -> Result<Pixel, ImageError> {
        let pixel = self
            .known()
            .ok_or_else(|| Format::Tiff.unsupported(self.description()))?;
        // libtiff gives its samples in the machine's order. Pillow takes signed numbers and floats
        // for big-endian ones nevertheless.
        Ok(match pixel {
            Pixel::Integer {
                kind: kind @ Integer::Unsigned16,
                ..
            } if !is_raw => Pixel::Integer {
                kind,
                order: Order::Little,
            },
            pixel => pixel,
        })
    }

    /// The number of samples of the photometric interpretation, and of those that are named beside.
    pub fn expected(&self) -> usize {
        let color = match self.photometric {
            photometric::RGB | photometric::YCBCR | photometric::LAB => 3,
            photometric::CMYK => 4,
            _ => 1,
        };
        color + self.extra.len()
    }

    fn known(&self) -> Option<Pixel> {
        use photometric::{BLACK_IS_ZERO, CMYK, LAB, PALETTE, RGB, WHITE_IS_ZERO, YCBCR};
        let order = self.order;
        let is_little = order == Order::Little;
        let integer = |kind| Some(Pixel::Integer { kind, order });
        let (bits, extra) = (&*self.bits, &*self.extra);
        match (self.photometric, self.format, bits, extra) {
            (WHITE_IS_ZERO | BLACK_IS_ZERO, UNSIGNED, &[bits @ (1 | 2 | 4 | 8)], []) => {
                Some(Pixel::Grey {
                    bits: bits as u8,
                    inverted: self.photometric == WHITE_IS_ZERO,
                })
            }
            (PALETTE, UNSIGNED, &[bits @ (1 | 2 | 4 | 8)], []) => {
                Some(Pixel::Palette { bits: bits as u8 })
            }
            (BLACK_IS_ZERO, UNSIGNED, [16], []) if !self.is_reversed || is_little => {
                integer(Integer::Unsigned16)
            }
            (RGB, UNSIGNED, [8, 8, 8], []) => Some(color(8, 3, extra)),
            _ if self.is_reversed => None,
            (YCBCR, UNSIGNED, [8], []) | (BLACK_IS_ZERO, SIGNED, [8], []) => Some(Pixel::Grey {
                bits: 8,
                inverted: false,
            }),
            (BLACK_IS_ZERO, UNSIGNED, [12], []) if is_little => integer(Integer::Unsigned12),
            (WHITE_IS_ZERO, UNSIGNED, [16], []) if is_little => integer(Integer::Unsigned16),
            (BLACK_IS_ZERO, SIGNED, [16], []) => integer(Integer::Signed16),
            (BLACK_IS_ZERO, SIGNED, [32], []) => integer(Integer::Signed32),
            (BLACK_IS_ZERO, UNSIGNED, [32], []) if is_little => integer(Integer::Signed32),
            (WHITE_IS_ZERO | BLACK_IS_ZERO, FLOAT, [32], []) => Some(Pixel::Float { order }),
            (BLACK_IS_ZERO, UNSIGNED, [8, 8], [2]) => Some(Pixel::GreyAlpha),
            (PALETTE, UNSIGNED, [8, 8], [0 | 2]) => Some(Pixel::PaletteExtra),
            (RGB, UNSIGNED, [8, 8, 8, 8], [] | [0 | 1 | 2 | 999])
            | (RGB, UNSIGNED, [8, 8, 8, 8, 8], [0..=2, 0])
            | (RGB, UNSIGNED, [8, 8, 8, 8, 8, 8], [0..=2, 0, 0]) => {
                Some(color(8, bits.len(), extra))
            }
            (RGB, UNSIGNED, [16, 16, 16], []) | (RGB, UNSIGNED, [16, 16, 16, 16], [] | [0..=2]) => {
                Some(color(16, bits.len(), extra))
            }
            (CMYK, UNSIGNED, [8, 8, 8, 8], [])
            | (CMYK, UNSIGNED, [8, 8, 8, 8, 8], [0])
            | (CMYK, UNSIGNED, [8, 8, 8, 8, 8, 8], [0, 0]) => Some(Pixel::Ink {
                bits: 8,
                samples: bits.len() as u8,
            }),
            (CMYK, UNSIGNED, [16, 16, 16, 16], []) => Some(Pixel::Ink {
                bits: 16,
                samples: 4,
            }),
            (YCBCR, UNSIGNED, [8, 8, 8], []) => Some(Pixel::YCbCr),
            (LAB, UNSIGNED, [8, 8, 8], []) => Some(Pixel::Lab),
            _ => None,
        }
    }

    /// The samples in words, for an error.
    fn description(&self) -> String {
        let color = match self.photometric {
            photometric::WHITE_IS_ZERO | photometric::BLACK_IS_ZERO => "grey".to_owned(),
            photometric::RGB => "RGB".to_owned(),
            photometric::PALETTE => "palette".to_owned(),
            4 => "transparency mask".to_owned(),
            photometric::CMYK => "CMYK".to_owned(),
            photometric::YCBCR => "YCbCr".to_owned(),
            photometric::LAB => "CIE L*a*b*".to_owned(),
            9 => "ICC L*a*b*".to_owned(),
            10 => "ITU L*a*b*".to_owned(),
            32803 => "colour filter array".to_owned(),
            32844 | 32845 => "LogLuv".to_owned(),
            34892 => "linear raw".to_owned(),
            other => format!("photometric interpretation {other}"),
        };
        let format = match self.format {
            UNSIGNED => "unsigned integers",
            SIGNED => "signed integers",
            FLOAT => "floats",
            4 => "untyped samples",
            5 | 6 => "complex numbers",
            _ => "samples of an unknown format",
        };
        let bits: Vec<_> = self.bits.iter().map(u64::to_string).collect();
        let bits = bits.join(", ");
        let reversed = if self.is_reversed {
            ", bits reversed"
        } else {
            ""
        };
        format!("{color} of {format} of {bits} bits{reversed}")
    }
}

fn color(bits: u8, samples: usize, extra: &[u64]) -> Pixel {
    Pixel::Color {
        bits,
        samples: samples as u8,
        is_associated: extra.first() == Some(&1),
    }
}

/// The upper bytes of a colour map, which has all values of red first, then green, then blue.
/// Entries that it does not have are grey, as in Pillow.
pub(super) fn palette(map: Values) -> Box<Palette> {
    let mut palette = grey_ramp();
    let entries = map.len() / CHANNELS;
    for channel in 0..CHANNELS {
        let values = map.iter().skip(channel * entries).take(entries);
        for (color, value) in palette.iter_mut().zip(values) {
            color[channel] = (value >> 8) as u8;
        }
    }
    palette
}

/// Converts rows of samples to RGB8.
pub(super) struct Converter {
    pub pixel: Pixel,
    pub palette: Option<Box<Palette>>,
    /// Whether a number was larger than 255, and so was clipped.
    pub is_clipped: bool,
    pub lab: Option<lab::Transform>,
}

impl Pixel {
    /// Bits of a pixel whose samples are stored together.
    pub fn bits(self) -> usize {
        match self {
            Self::Grey { bits, .. } | Self::Palette { bits } => bits.into(),
            Self::PaletteExtra | Self::GreyAlpha => 16,
            Self::Integer { kind, .. } => match kind {
                Integer::Unsigned12 => 12,
                Integer::Unsigned16 | Integer::Signed16 => 16,
                Integer::Signed32 => 32,
            },
            Self::Float { .. } => 32,
            Self::Color { bits, samples, .. } | Self::Ink { bits, samples } => {
                usize::from(bits) * usize::from(samples)
            }
            Self::Lab | Self::YCbCr => 24,
        }
    }
}

impl Converter {
    /// Converts a row to as many pixels as `target` has.
    pub fn row(&mut self, source: &[u8], target: &mut [u8]) {
        let clipped = &mut self.is_clipped;
        match self.pixel {
            Pixel::Grey { bits, inverted } => {
                let invert = if inverted { 0xFF } else { 0 };
                let scale = 0xFF / (0xFF >> (8 - bits)) as u8;
                unpack(source, bits, target, |value| {
                    [(value * scale) ^ invert; CHANNELS]
                });
            }
            Pixel::Palette { bits } => {
                if let Some(palette) = &self.palette {
                    unpack(source, bits, target, |index| palette[usize::from(index)]);
                }
            }
            Pixel::PaletteExtra => {
                if let Some(palette) = &self.palette {
                    map_into(source, target, |&[index, _]| palette[usize::from(index)]);
                }
            }
            Pixel::GreyAlpha => map_into(source, target, |&[grey, _]| [grey; CHANNELS]),
            Pixel::Integer { kind, order } => match kind {
                Integer::Unsigned12 => {
                    let (target, _) = target.as_chunks_mut::<CHANNELS>();
                    for (index, pixel) in target.iter_mut().enumerate() {
                        let at = index / 2 * 3;
                        let value = if index % 2 == 0 {
                            i32::from(source[at]) << 4 | i32::from(source[at + 1]) >> 4
                        } else {
                            i32::from(source[at + 1] & 0x0F) << 8 | i32::from(source[at + 2])
                        };
                        *pixel = grey(value, clipped);
                    }
                }
                Integer::Unsigned16 => map_into(source, target, |&bytes| {
                    grey(u16::from_le_bytes(little(bytes, order)).into(), clipped)
                }),
                Integer::Signed16 => map_into(source, target, |&bytes| {
                    grey(i16::from_le_bytes(little(bytes, order)).into(), clipped)
                }),
                Integer::Signed32 => map_into(source, target, |&bytes| {
                    grey(i32::from_le_bytes(little(bytes, order)), clipped)
                }),
            },
            Pixel::Float { order } => map_into(source, target, |&bytes| {
                let value = f32::from_le_bytes(little(bytes, order));
                grey(value as i32, clipped)
            }),
            Pixel::Color {
                bits,
                samples,
                is_associated,
            } => match (bits, samples, is_associated) {
                (8, 3, _) => target.copy_from_slice(&source[..target.len()]),
                (8, samples, false) => every(samples.into(), source, target, |pixel| {
                    [pixel[0], pixel[1], pixel[2]]
                }),
                (8, samples, true) => every(samples.into(), source, target, |pixel| {
                    divided([pixel[0], pixel[1], pixel[2]], pixel[3])
                }),
                // Samples of 16 bits, of which the upper byte is kept.
                (_, samples, false) => every(2 * usize::from(samples), source, target, |pixel| {
                    [pixel[1], pixel[3], pixel[5]]
                }),
                (_, samples, true) => every(2 * usize::from(samples), source, target, |pixel| {
                    divided([pixel[1], pixel[3], pixel[5]], pixel[7])
                }),
            },
            Pixel::Ink { bits: 8, samples } => every(samples.into(), source, target, |pixel| {
                printed([pixel[0], pixel[1], pixel[2]], u8::MAX - pixel[3])
            }),
            Pixel::Ink { .. } => map_into(source, target, |&[_, c, _, m, _, y, _, k]| {
                printed([c, m, y], u8::MAX - k)
            }),
            Pixel::Lab => {
                if let Some(transform) = &self.lab {
                    map_into(source, target, |&lab| transform.rgb(lab));
                }
            }
            // These are converted in blocks.
            Pixel::YCbCr => {}
        }
    }
}

pub(super) fn map_into<const N: usize>(
    source: &[u8],
    target: &mut [u8],
    mut convert: impl FnMut(&[u8; N]) -> [u8; CHANNELS],
) {
    let (source, _) = source.as_chunks::<N>();
    let (target, _) = target.as_chunks_mut::<CHANNELS>();
    for (to, from) in target.iter_mut().zip(source) {
        *to = convert(from);
    }
}

fn every(
    samples: usize,
    source: &[u8],
    target: &mut [u8],
    convert: impl Fn(&[u8]) -> [u8; CHANNELS],
) {
    let (target, _) = target.as_chunks_mut::<CHANNELS>();
    for (to, from) in target.iter_mut().zip(source.chunks_exact(samples)) {
        *to = convert(from);
    }
}

/// Converts samples of 1, 2, 4 or 8 bits.
fn unpack(source: &[u8], bits: u8, target: &mut [u8], convert: impl Fn(u8) -> [u8; CHANNELS]) {
    let (target, _) = target.as_chunks_mut::<CHANNELS>();
    if bits == 8 {
        for (to, from) in target.iter_mut().zip(source) {
            *to = convert(*from);
        }
        return;
    }
    let samples = usize::from(8 / bits);
    for (pixels, byte) in target.chunks_mut(samples).zip(source) {
        for (index, pixel) in (1..).zip(pixels) {
            *pixel = convert(byte >> (8 - bits * index) & (0xFF >> (8 - bits)));
        }
    }
}

fn little<const N: usize>(mut bytes: [u8; N], order: Order) -> [u8; N] {
    if order == Order::Big {
        bytes.reverse();
    }
    bytes
}

fn grey(value: i32, clipped: &mut bool) -> [u8; CHANNELS] {
    *clipped |= value > u8::MAX.into();
    [value.clamp(0, u8::MAX.into()) as u8; CHANNELS]
}

/// A colour that was multiplied with its alpha.
fn divided(color: [u8; CHANNELS], alpha: u8) -> [u8; CHANNELS] {
    match u32::from(alpha) {
        0 => [0; CHANNELS],
        alpha => color.map(|value| (u32::from(value) * 255 / alpha).min(255) as u8),
    }
}
