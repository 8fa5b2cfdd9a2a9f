//! Luma and chroma planes to RGB8, as libheif and libavif convert them.

use std::iter;

use crate::resize::{CHANNELS, Size};

/// The planes of a picture, 8 to 16 bits a sample.
#[derive(Debug, Default)]
pub(super) struct Planes {
    pub luma: Plane,
    /// Cb and Cr; none in a grey picture.
    pub chroma: Option<[Plane; 2]>,
    /// Bits of a sample.
    pub depth: u32,
    /// The colour that the container announces, or else the coded picture.
    pub color: Color,
}

#[derive(Debug, Default)]
pub(super) struct Plane {
    pub samples: Vec<u16>,
    pub width: usize,
    pub height: usize,
}

/// How samples stand for colours: code points of ITU-T H.273.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Color {
    pub matrix: u16,
    pub full_range: bool,
}

/// The reference whose rounding, and whose way to widen chroma planes, is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// libheif: the nearest chroma sample.
    Libheif,
    /// libavif with libyuv: linear between chroma samples, which lie amid luma samples.
    Libavif,
}

impl Default for Color {
    fn default() -> Self {
        Self {
            matrix: UNSPECIFIED,
            full_range: false,
        }
    }
}

const IDENTITY: u16 = 0;
const UNSPECIFIED: u16 = 2;

/// Fractional bits of the factors.
const FRACTION: u32 = 16;
const ONE: f64 = (1 << FRACTION) as f64;
const HALF: i32 = 1 << (FRACTION - 1);

/// The factors from samples, less their offsets, to RGB8.
struct Factors {
    luma_offset: i32,
    chroma_offset: i32,
    luma: i32,
    cr_to_red: i32,
    cb_to_green: i32,
    cr_to_green: i32,
    cb_to_blue: i32,
}

impl Factors {
    /// None for matrices that are not supported.
    fn new(color: Color, depth: u32, reference: Reference) -> Option<Self> {
        let (red, blue) = match color.matrix {
            1 => (0.2126, 0.0722),
            UNSPECIFIED | 5 | 6 => (0.299, 0.114),
            4 => (0.30, 0.11),
            7 => (0.212, 0.087),
            9 => (0.2627, 0.0593),
            _ => return None,
        };
        let green = 1.0 - red - blue;
        let (luma, chroma) = color.scales(depth, reference);
        let fixed = |factor: f64| (factor * ONE).round() as i32;
        let (from_cr, from_cb) = (2.0 * (1.0 - red) * chroma, 2.0 * (1.0 - blue) * chroma);
        Some(Self {
            luma_offset: color.luma_offset(depth),
            chroma_offset: 1 << (depth - 1),
            luma: fixed(luma),
            cr_to_red: fixed(from_cr),
            cb_to_green: fixed(from_cb * blue / green),
            cr_to_green: fixed(from_cr * red / green),
            cb_to_blue: fixed(from_cb),
        })
    }

    fn rgb(&self, luma: u16, cb: u16, cr: u16) -> [u8; CHANNELS] {
        let luma = (i32::from(luma) - self.luma_offset) * self.luma + HALF;
        let cb = i32::from(cb) - self.chroma_offset;
        let cr = i32::from(cr) - self.chroma_offset;
        [
            clipped(luma + cr * self.cr_to_red),
            clipped(luma - cb * self.cb_to_green - cr * self.cr_to_green),
            clipped(luma + cb * self.cb_to_blue),
        ]
    }
}

fn clipped(value: i32) -> u8 {
    (value >> FRACTION).clamp(0, u8::MAX.into()) as u8
}

impl Color {
    fn luma_offset(self, depth: u32) -> i32 {
        if self.full_range {
            0
        } else {
            16 << (depth - 8)
        }
    }

    /// The factors from luma and chroma samples to 255.
    fn scales(self, depth: u32, reference: Reference) -> (f64, f64) {
        let unit = f64::from(1_u32 << (depth - 8));
        match (self.full_range, reference) {
            (true, _) => {
                let scale = 255.0 / (256.0 * unit - 1.0);
                (scale, scale)
            }
            (false, Reference::Libheif) => (1.1689 / unit, 1.1429 / unit),
            (false, Reference::Libavif) => (255.0 / 219.0 / unit, 255.0 / 224.0 / unit),
        }
    }
}

impl Planes {
    /// Planes of this kind for an image of another size.
    pub fn canvas(&self, size: Size) -> Self {
        let plane = |plane: &Plane| {
            let (half_width, half_height) = plane.halves(&self.luma);
            Plane::new(
                size.width.div_ceil(1 + usize::from(half_width)),
                size.height.div_ceil(1 + usize::from(half_height)),
            )
        };
        Self {
            luma: Plane::new(size.width, size.height),
            chroma: self.chroma.as_ref().map(|[cb, cr]| [plane(cb), plane(cr)]),
            ..*self
        }
    }

    /// Copies as much of a tile as fits with its top left corner at a place; false if it is of
    /// another kind, or its corner lies amid chroma samples.
    pub fn paste(&mut self, tile: &Self, left: usize, top: usize) -> bool {
        if (self.depth, self.color) != (tile.depth, tile.color) {
            return false;
        }
        let mut planes = vec![(&tile.luma, left, top)];
        match (&self.chroma, &tile.chroma) {
            (Some(to), Some(from)) => {
                for (to, from) in to.iter().zip(from) {
                    let (half_width, half_height) = from.halves(&tile.luma);
                    let uneven = |half: bool, at: usize| half && !at.is_multiple_of(2);
                    if to.halves(&self.luma) != (half_width, half_height)
                        || uneven(half_width, left)
                        || uneven(half_height, top)
                    {
                        return false;
                    }
                    let left = left >> u32::from(half_width);
                    planes.push((from, left, top >> u32::from(half_height)));
                }
            }
            (None, None) => {}
            _ => return false,
        }
        let targets = iter::once(&mut self.luma).chain(self.chroma.iter_mut().flatten());
        for (to, (from, left, top)) in targets.zip(planes) {
            to.paste(from, left, top);
        }
        true
    }

    /// Writes the top left of the picture, `size` large, as RGB8; false if the colour matrix isn't
    /// supported.
    ///
    /// The luma plane is at least `size` large, and the chroma planes as large as the luma plane or
    /// half as wide or high, rounded up. With `smooth`, chroma samples of 4:2:0 are widened linearly
    /// even if the reference takes the nearest.
    pub fn write_rgb(
        &self,
        reference: Reference,
        smooth: bool,
        size: Size,
        pixels: &mut [u8],
    ) -> bool {
        let (pixels, _) = pixels.as_chunks_mut::<CHANNELS>();
        let rows = pixels.chunks_exact_mut(size.width).enumerate();
        let Some([cb, cr]) = &self.chroma else {
            let (scale, _) = self.color.scales(self.depth, reference);
            let offset = self.color.luma_offset(self.depth);
            let scale = (scale * ONE).round() as i32;
            for (y, row) in rows {
                for (pixel, &luma) in row.iter_mut().zip(self.luma.row(y)) {
                    *pixel = [clipped((i32::from(luma) - offset) * scale + HALF); CHANNELS];
                }
            }
            return true;
        };
        if self.color.matrix == IDENTITY {
            // As in libheif and libavif, only without subsampling, and whatever the range.
            if cb.halves(&self.luma) != (false, false) {
                return false;
            }
            let unit = self.depth - 8;
            for (y, row) in rows {
                let samples = self.luma.row(y).iter().zip(cb.row(y)).zip(cr.row(y));
                for (pixel, ((&green, &blue), &red)) in row.iter_mut().zip(samples) {
                    *pixel = [red, green, blue].map(|sample| (sample >> unit) as u8);
                }
            }
            return true;
        }
        let Some(factors) = Factors::new(self.color, self.depth, reference) else {
            return false;
        };
        let (mut blues, mut reds) = (vec![0; size.width], vec![0; size.width]);
        let quarter = cb.halves(&self.luma) == (true, true);
        let nearest = reference == Reference::Libheif && !(smooth && quarter);
        // For 4:2:0, libheif cuts the chroma samples to 8 bits first.
        let cut = match reference {
            Reference::Libheif if quarter => self.depth - 8,
            _ => 0,
        };
        for (y, row) in rows {
            for (plane, widened) in [(cb, &mut blues), (cr, &mut reds)] {
                if nearest {
                    plane.nearest(y, cut, &self.luma, widened);
                } else {
                    plane.linear(y, &self.luma, widened);
                }
            }
            let samples = self.luma.row(y).iter().zip(&blues).zip(&reds);
            for (pixel, ((&luma, &cb), &cr)) in row.iter_mut().zip(samples) {
                *pixel = factors.rgb(luma, cb, cr);
            }
        }
        true
    }
}

impl Plane {
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            samples: vec![0; width * height],
            width,
            height,
        }
    }

    /// Whether it is half as wide and half as high as its luma plane.
    fn halves(&self, luma: &Self) -> (bool, bool) {
        (self.width < luma.width, self.height < luma.height)
    }

    pub fn row(&self, y: usize) -> &[u16] {
        &self.samples[y * self.width..(y + 1) * self.width]
    }

    fn paste(&mut self, tile: &Self, left: usize, top: usize) {
        let width = tile.width.min(self.width.saturating_sub(left));
        let height = tile.height.min(self.height.saturating_sub(top));
        for y in 0..height {
            let start = (top + y) * self.width + left;
            self.samples[start..start + width].copy_from_slice(&tile.row(y)[..width]);
        }
    }

    /// The chroma samples nearest to a row of the luma plane, without their lowest bits.
    fn nearest(&self, y: usize, cut: u32, luma: &Self, widened: &mut [u16]) {
        let (half_width, half_height) = self.halves(luma);
        let row = self.row(y >> u32::from(half_height));
        let shift = u32::from(half_width);
        for (x, sample) in widened.iter_mut().enumerate() {
            *sample = row[x >> shift] >> cut << cut;
        }
    }

    /// The chroma samples for a row of the luma plane, linear between those that are known.
    fn linear(&self, y: usize, luma: &Self, widened: &mut [u16]) {
        let halves = self.halves(luma);
        let near = if halves.1 { y / 2 } else { y };
        if halves == (false, false) {
            widened.copy_from_slice(&self.row(near)[..widened.len()]);
            return;
        }
        // Of two neighbours, the nearer counts three quarters.
        let neighbour = |at: usize, end: usize| {
            let other = if at.is_multiple_of(2) {
                (at / 2).saturating_sub(1)
            } else {
                at / 2 + 1
            };
            other.min(end - 1)
        };
        let far = if halves.1 {
            neighbour(y, self.height)
        } else {
            near
        };
        let (near, far) = (self.row(near), self.row(far));
        let blend = |x: usize| 3 * u32::from(near[x]) + u32::from(far[x]);
        // libyuv takes the last sample as it is.
        let last = widened.len() - 1;
        for (x, sample) in widened.iter_mut().enumerate() {
            let (at, other) = if halves.0 && x < last {
                (x / 2, neighbour(x, self.width))
            } else if halves.0 {
                (x / 2, x / 2)
            } else {
                (x, x)
            };
            *sample = ((3 * blend(at) + blend(other) + 8) >> 4) as u16;
        }
    }
}
