//! CIE L*a*b* to sRGB, as Pillow converts it with Little CMS.

use std::cmp::Reverse;

use crate::resize::CHANNELS;

/// Nodes of the table in each direction, as Little CMS chooses them for 8-bit samples.
const NODES: usize = 33;
const LAST: usize = NODES - 1;

/// XYZ of the white point D50, to which both colour spaces are adapted.
const WHITE: [f32; CHANNELS] = [0.9642, 1.0, 0.8249];

/// XYZ to linear sRGB, adapted to D50.
const TO_LINEAR: [[f32; CHANNELS]; CHANNELS] = [
    [3.133_856_4, -1.616_866_8, -0.490_614_77],
    [-0.978_768_6, 1.916_141_6, 0.033_454_12],
    [0.071_945_17, -0.228_991_28, 1.405_242_7],
];

/// A table of sRGB colours between which Little CMS interpolates.
///
/// An exact conversion would differ from Pillow's by up to 50 levels for saturated colours.
pub(super) struct Transform {
    table: Vec<[f32; CHANNELS]>,
}

impl Transform {
    pub fn new() -> Self {
        let nodes = (0..NODES * NODES * NODES).map(|index| {
            let place = [
                index / (NODES * NODES),
                index / NODES % NODES,
                index % NODES,
            ];
            let [lightness, a, b] = place.map(|node| node as f32 / LAST as f32);
            let range = 65535.0 / 257.0;
            srgb([100.0 * lightness, a * range - 128.0, b * range - 128.0])
        });
        Self {
            table: nodes.collect(),
        }
    }

    /// Interpolates in the tetrahedron of a cell of the table.
    pub fn rgb(&self, [lightness, a, b]: [u8; CHANNELS]) -> [u8; CHANNELS] {
        let steps = [NODES * NODES, NODES, 1];
        let mut node = 0;
        // The part of the way to the next node in each direction.
        let mut ways = [(0, 0); CHANNELS];
        for ((way, step), sample) in ways
            .iter_mut()
            .zip(steps)
            .zip([lightness, a ^ 128, b ^ 128])
        {
            let place = usize::from(sample) * LAST;
            node += place / 255 * step;
            *way = (place % 255, step);
        }
        ways.sort_by_key(|&(part, _)| Reverse(part));
        let mut color = self.table[node];
        let mut from = color;
        for (part, step) in ways {
            if part > 0 {
                node += step;
            }
            let to = self.table[node];
            for channel in 0..CHANNELS {
                color[channel] += (to[channel] - from[channel]) * part as f32 / 255.0;
            }
            from = to;
        }
        color.map(|value| value.round() as u8)
    }
}

/// The sRGB colour, of 0 to 255, of a L*a*b* colour.
fn srgb([lightness, a, b]: [f32; CHANNELS]) -> [f32; CHANNELS] {
    let y = (lightness + 16.0) / 116.0;
    let mut xyz = [y + a / 500.0, y, y - b / 200.0];
    for (value, white) in xyz.iter_mut().zip(WHITE) {
        *value = white
            * if *value > 24.0 / 116.0 {
                value.powi(3)
            } else {
                108.0 / 841.0 * (*value - 16.0 / 116.0)
            };
    }
    TO_LINEAR.map(|row| {
        let linear: f32 = row
            .iter()
            .zip(xyz)
            .map(|(factor, value)| factor * value)
            .sum();
        let value = if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        };
        255.0 * value.clamp(0.0, 1.0)
    })
}
