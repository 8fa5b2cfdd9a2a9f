//! The compression of strips and tiles, decoded row by row.

use flate2::{Decompress, FlushDecompress};
use weezl::LzwStatus;

use super::ccitt::{Fax, Scheme};
use super::directory::Order;

/// The decompressor of a strip or tile.
pub(super) enum Codec<'a> {
    Lzw(Stream<'a, weezl::decode::Decoder>),
    Deflate(Stream<'a, Decompress>),
    PackBits(PackBits<'a>),
    Fax(Fax<'a>),
    /// Rows that are already decoded.
    Rows(&'a [u8]),
}

/// Compressed bytes of which the first were consumed.
pub(super) struct Stream<'a, D> {
    decoder: D,
    bytes: &'a [u8],
}

/// Runs of equal bytes and of literal ones.
pub(super) struct PackBits<'a> {
    bytes: &'a [u8],
    run: Run,
}

enum Run {
    Literal(usize),
    Repeat(u8, usize),
}

impl<'a> Codec<'a> {
    pub fn lzw(bytes: &'a [u8]) -> Self {
        // libtiff 3.5 and earlier wrote the codes from the other end of a byte.
        let is_old = matches!(bytes, [0, second, ..] if second & 1 == 1);
        let settings = if is_old {
            weezl::decode::Configuration::new(weezl::BitOrder::Lsb, 8)
        } else {
            weezl::decode::Configuration::with_tiff_size_switch(weezl::BitOrder::Msb, 8)
        };
        let decoder = settings.with_yield_on_full_buffer(true).build();
        Self::Lzw(Stream { decoder, bytes })
    }

    pub fn deflate(bytes: &'a [u8]) -> Self {
        let decoder = Decompress::new(true);
        Self::Deflate(Stream { decoder, bytes })
    }

    pub fn pack_bits(bytes: &'a [u8]) -> Self {
        let run = Run::Literal(0);
        Self::PackBits(PackBits { bytes, run })
    }

    pub fn fax(scheme: Scheme, width: usize, bytes: &'a [u8]) -> Self {
        Self::Fax(Fax::new(scheme, width, bytes))
    }

    /// Decodes a row into `target`, which is zeroed. Returns whether the data had all of it.
    pub fn row(&mut self, target: &mut [u8]) -> bool {
        match self {
            Self::Lzw(stream) => stream.row(target),
            Self::Deflate(stream) => stream.row(target),
            Self::PackBits(runs) => runs.row(target),
            Self::Fax(fax) => fax.row(target),
            Self::Rows(bytes) => match bytes.split_at_checked(target.len()) {
                Some((row, rest)) => {
                    target.copy_from_slice(row);
                    *bytes = rest;
                    true
                }
                None => false,
            },
        }
    }

    /// Whether rows were decoded from invalid codes.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Fax(fax) if fax.damaged)
    }
}

impl Stream<'_, weezl::decode::Decoder> {
    fn row(&mut self, mut target: &mut [u8]) -> bool {
        while !target.is_empty() {
            let step = self.decoder.decode_bytes(self.bytes, target);
            self.bytes = &self.bytes[step.consumed_in..];
            target = &mut target[step.consumed_out..];
            match step.status {
                Ok(LzwStatus::Ok) => {}
                _ => return target.is_empty(),
            }
        }
        true
    }
}

impl Stream<'_, Decompress> {
    /// As libtiff does, this ignores what follows the last row, the checksum too.
    fn row(&mut self, mut target: &mut [u8]) -> bool {
        while !target.is_empty() {
            let (read, written) = (self.decoder.total_in(), self.decoder.total_out());
            let flush = FlushDecompress::None;
            let status = self.decoder.decompress(self.bytes, target, flush);
            let consumed = (self.decoder.total_in() - read) as usize;
            let produced = (self.decoder.total_out() - written) as usize;
            self.bytes = &self.bytes[consumed..];
            target = &mut target[produced..];
            if status.is_err() || consumed + produced == 0 {
                return target.is_empty();
            }
        }
        true
    }
}

impl PackBits<'_> {
    fn row(&mut self, mut target: &mut [u8]) -> bool {
        while !target.is_empty() {
            let done = match &mut self.run {
                Run::Literal(0) | Run::Repeat(_, 0) => {
                    let Some((&header, rest)) = self.bytes.split_first() else {
                        return false;
                    };
                    self.bytes = rest;
                    match header as i8 {
                        -128 => {}
                        length @ 0.. => self.run = Run::Literal(length as usize + 1),
                        negative => {
                            let Some((&value, rest)) = self.bytes.split_first() else {
                                return false;
                            };
                            self.bytes = rest;
                            let length = 1 + usize::from(negative.unsigned_abs());
                            self.run = Run::Repeat(value, length);
                        }
                    }
                    0
                }
                Run::Literal(left) => {
                    let length = (*left).min(target.len());
                    let Some((literal, rest)) = self.bytes.split_at_checked(length) else {
                        return false;
                    };
                    target[..length].copy_from_slice(literal);
                    self.bytes = rest;
                    *left -= length;
                    length
                }
                Run::Repeat(value, left) => {
                    let length = (*left).min(target.len());
                    target[..length].fill(*value);
                    *left -= length;
                    length
                }
            };
            target = &mut target[done..];
        }
        true
    }
}

/// How samples were replaced by differences before they were compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Differences of samples from those of the pixel on the left.
    Horizontal,
    /// Differences of the bytes of floats, the most significant bytes of all samples first.
    Float,
}

/// Undoes the predictor of a row and gives samples of more than 8 bits the little-endian order.
pub(super) fn restore(
    row: &mut [u8],
    predictor: Predictor,
    order: Order,
    bits: usize,
    samples: usize,
    scratch: &mut Vec<u8>,
) {
    if predictor == Predictor::Float {
        for at in samples..row.len() {
            row[at] = row[at].wrapping_add(row[at - samples]);
        }
        let width = bits / 8;
        let count = row.len() / width;
        scratch.clear();
        scratch.extend_from_slice(row);
        for (index, sample) in row.chunks_exact_mut(width).enumerate() {
            for (byte, target) in sample.iter_mut().rev().enumerate() {
                *target = scratch[byte * count + index];
            }
        }
        return;
    }
    if order == Order::Big && matches!(bits, 16 | 32) {
        row.chunks_exact_mut(bits / 8).for_each(<[u8]>::reverse);
    }
    if predictor == Predictor::Horizontal {
        match bits {
            16 => accumulate(row, samples, |a: [u8; 2], b| {
                u16::from_le_bytes(a)
                    .wrapping_add(u16::from_le_bytes(b))
                    .to_le_bytes()
            }),
            32 => accumulate(row, samples, |a: [u8; 4], b| {
                u32::from_le_bytes(a)
                    .wrapping_add(u32::from_le_bytes(b))
                    .to_le_bytes()
            }),
            _ => accumulate(row, samples, |a: [u8; 1], b| [a[0].wrapping_add(b[0])]),
        }
    }
}

fn accumulate<const N: usize>(
    row: &mut [u8],
    samples: usize,
    add: impl Fn([u8; N], [u8; N]) -> [u8; N],
) {
    let (values, _) = row.as_chunks_mut::<N>();
    for at in samples..values.len() {
        values[at] = add(values[at], values[at - samples]);
    }
}
