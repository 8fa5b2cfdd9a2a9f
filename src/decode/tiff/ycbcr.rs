//! Luminance and chrominance to RGB, in the integers of libtiff.

use std::array;

use super::directory::Directory;
use super::tag;
use crate::resize::CHANNELS;

/// The tables of a conversion.
pub(super) struct Conversion {
    luma: [i32; 256],
    cr_red: [i32; 256],
    cb_blue: [i32; 256],
    cr_green: [i32; 256],
    cb_green: [i32; 256],
}

/// Bits after the binary point of a factor.
const SHIFT: u32 = 16;
const HALF: i32 = 1 << (SHIFT - 1);

impl Conversion {
    pub fn of(directory: &Directory) -> Self {
        let weights = directory.rationals(tag::YCBCR_COEFFICIENTS);
        let [red, green, blue] = weights.unwrap_or([0.299, 0.587, 0.114]);
        let range = directory.rationals(tag::REFERENCE_BLACK_WHITE);
        let [black, white, cb_black, cb_white, cr_black, cr_white] =
            range.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        let fixed = |factor: f32| (f64::from(factor.clamp(0.0, 2.0)) * 65536.0 + 0.5) as i32;
        let (red_factor, blue_factor) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let (cr_red, cb_blue) = (fixed(red_factor), fixed(blue_factor));
        let cr_green = -fixed(red * red_factor / green);
        let cb_green = -fixed(blue * blue_factor / green);
        // The number that a code stands for, given those of black and white.
        let value = |code: i32, black: f32, white: f32, range: f32| {
            let width = if white == black { 1.0 } else { white - black };
            let value = (code - black as i32) as f32 * range / width;
            (value as i32).clamp(-128 * 32, 128 * 32)
        };
        let chroma = |code: usize, black, white| {
            value(code as i32 - 128, black - 128.0, white - 128.0, 127.0)
        };
        let cr = |code| chroma(code, cr_black, cr_white);
        let cb = |code| chroma(code, cb_black, cb_white);
        Self {
            luma: array::from_fn(|code| value(code as i32, black, white, 255.0)),
            cr_red: array::from_fn(|code| (cr_red * cr(code) + HALF) >> SHIFT),
            cb_blue: array::from_fn(|code| (cb_blue * cb(code) + HALF) >> SHIFT),
            cr_green: array::from_fn(|code| cr_green * cr(code)),
            cb_green: array::from_fn(|code| cb_green * cb(code) + HALF),
        }
    }

    pub fn rgb(&self, luma: u8, cb: u8, cr: u8) -> [u8; CHANNELS] {
        let [luma, cb, cr] = [luma, cb, cr].map(usize::from);
        let luma = self.luma[luma];
        let green = (self.cb_green[cb] + self.cr_green[cr]) >> SHIFT;
        [
            luma + self.cr_red[cr],
            luma + green,
            luma + self.cb_blue[cb],
        ]
        .map(|value| value.clamp(0, 255) as u8)
    }
}
