//! The image file directory of a TIFF: its tags and their integers.

use crate::ImageError;
use crate::decode::Format;

/// The byte order of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// The unsigned integer that all of `bytes` form.
    fn integer(self, bytes: &[u8]) -> u64 {
        let digit = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, digit),
            Self::Big => bytes.iter().fold(0, digit),
        }
    }
}

/// The first directory of a file, whose tags are read in place: a file that announces many values
/// takes no memory for them.
pub(super) struct Directory<'a> {
    pub order: Order,
    /// Whether the file ends inside the directory.
    pub is_cut: bool,
    fields: Vec<(u16, Values<'a>)>,
}

/// The integers of a tag.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    bytes: &'a [u8],
    width: usize,
    order: Order,
}

impl Values<'_> {
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    pub fn get(&self, index: usize) -> Option<u64> {
        let bytes = self.bytes.chunks_exact(self.width).nth(index)?;
        Some(self.order.integer(bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let order = self.order;
        let values = self.bytes.chunks_exact(self.width);
        values.map(move |bytes| order.integer(bytes))
    }
}

/// The types of the fields whose values are integers, as Pillow reads them.
const INTEGERS: [u64; 6] = [3, 4, 8, 9, 13, 16];
const BYTES: [u64; 2] = [1, 7];
const RATIONAL: u64 = 5;

/// Bytes of a value of a type, if the type is known.
fn width(kind: u64) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 => 8,
        _ => return None,
    })
}

impl<'a> Directory<'a> {
    /// Reads the first directory of a file.
    pub fn first(file: &'a [u8]) -> Result<Self, ImageError> {
        Self::read(file).ok_or_else(cut)
    }

    /// Reads the tags as far as the file has them: as Pillow does, the tags after the first one
    /// whose values are outside the file are left out.
    fn read(file: &'a [u8]) -> Option<Self> {
        let order = match file.first()? {
            b'M' => Order::Big,
            _ => Order::Little,
        };
        let at = |start: u64, length: usize| {
            let start = usize::try_from(start).ok()?;
            file.get(start..start.checked_add(length)?)
        };
        let big = file.get(2..4)?.contains(&43);
        // The widths of an offset and of the number of tags, and the place of the first offset.
        let (word, counter, first) = if big { (8, 8, 8) } else { (4, 2, 4) };
        let mut next = order.integer(at(first, word)?);
        let tags = order.integer(at(next, counter)?);
        next += counter as u64;
        let mut fields = Vec::new();
        let mut is_cut = false;
        for _ in 0..tags {
            let Some(entry) = at(next, 4 + 2 * word) else {
                is_cut = true;
                break;
            };
            next += entry.len() as u64;
            let (head, place) = entry.split_at(4 + word);
            let tag = order.integer(&head[..2]) as u16;
            let kind = order.integer(&head[2..4]);
            let Some(width) = width(kind) else { continue };
            let length = usize::try_from(order.integer(&head[4..])).ok()?;
            let Some(length) = length.checked_mul(width) else {
                break;
            };
            let bytes = match place.get(..length) {
                Some(bytes) => bytes,
                None => match at(order.integer(place), length) {
                    Some(bytes) => bytes,
                    None => break,
                },
            };
            let width = match kind {
                _ if INTEGERS.contains(&kind) || BYTES.contains(&kind) => width,
                RATIONAL => 4,
                _ => continue,
            };
            if !bytes.is_empty() {
                let values = Values {
                    bytes,
                    width,
                    order,
                };
                fields.push((tag, values));
            }
        }
        Some(Self {
            order,
            is_cut,
            fields,
        })
    }

    /// The integers of a tag; the numerators and denominators of rational ones.
    pub fn values(&self, tag: u16) -> Option<Values<'a>> {
        let mut fields = self.fields.iter().rev();
        let (_, values) = fields.find(|(name, _)| *name == tag)?;
        Some(*values)
    }

    /// The first integer of a tag.
    pub fn value(&self, tag: u16) -> Option<u64> {
        self.values(tag)?.get(0)
    }

    /// The bytes of a tag.
    pub fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        self.values(tag).map(|values| values.bytes)
    }

    /// The rational numbers of a tag.
    pub fn rationals<const N: usize>(&self, tag: u16) -> Option<[f32; N]> {
        let values = self.values(tag)?;
        let mut numbers = [0.0; N];
        for (index, number) in numbers.iter_mut().enumerate() {
            let numerator = values.get(2 * index)? as f32;
            *number = numerator / values.get(2 * index + 1)? as f32;
        }
        Some(numbers)
    }
}

pub(super) fn cut() -> ImageError {
    Format::Tiff.truncated("it ends before its directory does")
}
