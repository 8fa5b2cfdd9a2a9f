//! CCITT fax compression: modified Huffman, Group 3 and Group 4, by the code tables of `fax`.

use std::mem;

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

/// How the rows of a fax are separated and coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Runs, each row from a boundary of so many bits.
    Runs { align: usize },
    /// Runs after an end-of-line code, followed by a bit that says whether the row is coded by its
    /// difference from the one above if `mixed`.
    Group3 { mixed: bool },
    /// Differences from the row above.
    Group4,
}

/// Decodes a fax row by row.
pub(super) struct Fax<'a> {
    scheme: Scheme,
    width: usize,
    bits: Bits<'a>,
    /// The columns at which the colour changes in the row above and in the present one; the first
    /// is the start of black.
    above: Vec<usize>,
    row: Vec<usize>,
    /// Whether the data end, or a code is invalid: as libtiff does, the rest of the row stays
    /// white and decoding goes on.
    pub damaged: bool,
}

/// Zero bits of an end-of-line code; no other code starts with so many.
const EOL_ZEROS: u8 = 11;

impl<'a> Fax<'a> {
    pub fn new(scheme: Scheme, width: usize, bytes: &'a [u8]) -> Self {
        Self {
            scheme,
            width,
            bits: Bits { bytes, at: 0 },
            above: Vec::new(),
            row: Vec::new(),
            damaged: false,
        }
    }

    /// Decodes a row into bits, of which black is one. Returns whether the data had it.
    pub fn row(&mut self, target: &mut [u8]) -> bool {
        self.row.clear();
        let decoded = !self.bits.is_empty() && self.changes();
        for run in self.row.chunks(2) {
            let end = run.get(1).copied().unwrap_or(self.width);
            fill(target, run[0], end.min(self.width));
        }
        mem::swap(&mut self.row, &mut self.above);
        decoded
    }

    /// Finds the columns at which the colour of the next row changes.
    fn changes(&mut self) -> bool {
        let valid = match self.scheme {
            Scheme::Runs { align } => {
                let valid = self.runs();
                self.bits.align(align);
                valid
            }
            Scheme::Group3 { mixed } => {
                if !self.bits.end_of_line() {
                    return false;
                }
                let one_dimensional = !mixed || self.bits.take();
                if one_dimensional {
                    self.runs()
                } else {
                    self.differences()
                }
            }
            Scheme::Group4 => self.differences(),
        };
        if !valid {
            self.damaged = true;
        }
        valid || !self.bits.is_empty()
    }

    /// A row of runs, white first.
    fn runs(&mut self) -> bool {
        let mut column = 0;
        let mut is_black = false;
        while column < self.width {
            let Some(length) = self.bits.run(is_black) else {
                return false;
            };
            column += length;
            if !self.push(column) {
                return false;
            }
            is_black = !is_black;
        }
        true
    }

    /// Adds a change to the row, unless it has more than any row of its width: runs of length zero
    /// would fill the memory.
    fn push(&mut self, column: usize) -> bool {
        self.row.push(column);
        self.row.len() <= 2 * self.width + 2
    }

    /// A row of differences from the one above (ITU-T T.6).
    fn differences(&mut self) -> bool {
        // The column up to which the row is known, and the place in the row above of the first
        // change that can be right of it.
        let mut known = None;
        let mut place: usize = 0;
        let mut is_black = false;
        while known.unwrap_or(0) < self.width {
            let start = known.unwrap_or(0);
            let right = |&change: &usize| known.is_none_or(|known| change > known);
            while place > 0 && right(&self.above[place - 1]) {
                place -= 1;
            }
            while self.above.get(place).is_some_and(|change| !right(change)) {
                place += 1;
            }
            if place % 2 != usize::from(is_black) {
                place += 1;
            }
            let change = |place: usize| self.above.get(place).copied().unwrap_or(self.width);
            match mode::decode(&mut self.bits) {
                Some(Mode::Pass) => known = Some(change(place + 1)),
                Some(Mode::Vertical(delta)) => {
                    let column = change(place).saturating_add_signed(delta.into());
                    let column = column.clamp(start, self.width);
                    if !self.push(column) {
                        return false;
                    }
                    known = Some(column);
                    is_black = !is_black;
                }
                Some(Mode::Horizontal) => {
                    let mut column = start;
                    for color in [is_black, !is_black] {
                        let Some(length) = self.bits.run(color) else {
                            return false;
                        };
                        column += length;
                        if !self.push(column) {
                            return false;
                        }
                    }
                    known = Some(column);
                }
                Some(Mode::Extension | Mode::EOF) | None => return false,
            }
            place = place.min(self.above.len());
        }
        true
    }
}

/// Sets the bits from a column to another.
fn fill(row: &mut [u8], start: usize, end: usize) {
    if start >= end {
        return;
    }
    let (first, last) = (start / 8, (end - 1) / 8);
    let head = 0xFF >> (start % 8);
    let tail = 0xFF << (7 - (end - 1) % 8);
    if first == last {
        row[first] |= head & tail;
    } else {
        row[first] |= head;
        row[first + 1..last].fill(0xFF);
        row[last] |= tail;
    }
}

/// The bits of a fax, followed by zeros, which no row consists of.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn is_empty(&self) -> bool {
        self.at >= 8 * self.bytes.len()
    }

    fn take(&mut self) -> bool {
        let bit = self.peek(1) == Some(1);
        self.at += 1;
        bit
    }

    fn align(&mut self, bits: usize) {
        self.at = self.at.next_multiple_of(bits);
    }

    /// Skips everything up to and including the next end-of-line code.
    fn end_of_line(&mut self) -> bool {
        while self.peek(EOL_ZEROS) != Some(0) {
            self.at += 1;
        }
        while !self.is_empty() {
            if self.take() {
                return true;
            }
        }
        false
    }

    /// The length of a run: any number of make-up codes, then a terminating code.
    fn run(&mut self, is_black: bool) -> Option<usize> {
        let mut length = 0;
        loop {
            if self.is_empty() || self.peek(EOL_ZEROS) == Some(0) {
                return None;
            }
            let code = if is_black {
                black::decode(self)?
            } else {
                white::decode(self)?
            };
            length += usize::from(code);
            if code < 64 {
                return Some(length);
            }
        }
    }
}

impl BitReader for Bits<'_> {
    type Error = ();

    fn peek(&self, bits: u8) -> Option<u16> {
        let start = self.at / 8;
        let byte = |index| u32::from(self.bytes.get(start + index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        let shift = 24u32.checked_sub((self.at % 8) as u32 + u32::from(bits))?;
        Some((word >> shift & ((1 << bits) - 1)) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), ()> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        ((8 - self.at % 8) % 8) as u8
    }
}
