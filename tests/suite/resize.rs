use pomona::resize::{CHANNELS, Resizer, Size};
use proptest::prelude::*;

use crate::samples::cases;

const LONGEST: usize = 64;

fn resized(resizer: &mut Resizer, source: &[u8], from: Size, to: Size) -> Vec<u8> {
    let mut target = vec![0; to.bytes()];
    resizer.resize_into(source, from, &mut target, to);
    target
}

#[test]
fn one_colour_stays_that_colour_from_any_side_to_any_side() {
    let mut resizer = Resizer::default();
    for value in [0, 1, 127, 254, 255] {
        for from in 1..=LONGEST {
            for to in 1..=LONGEST {
                // The other side runs the other way, so that one call grows and shrinks.
                let (from, to) = (
                    Size {
                        width: from,
                        height: LONGEST + 1 - from,
                    },
                    Size {
                        width: to,
                        height: LONGEST + 1 - to,
                    },
                );
                let target = resized(&mut resizer, &vec![value; from.bytes()], from, to);
                assert!(
                    target.iter().all(|&pixel| pixel == value),
                    "{value}: {from:?} to {to:?}"
                );
            }
        }
    }
}

#[test]
fn the_same_size_is_a_copy() {
    let mut resizer = Resizer::default();
    for width in 1..=LONGEST {
        for height in 1..=LONGEST {
            let size = Size { width, height };
            let source: Vec<u8> = (0..size.bytes()).map(|i| (i * 31 % 256) as u8).collect();
            assert_eq!(
                resized(&mut resizer, &source, size, size),
                source,
                "{size:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "source pixels")]
fn pixels_of_another_size_are_a_mistake_of_the_caller() {
    let size = Size {
        width: 2,
        height: 2,
    };
    resized(&mut Resizer::default(), &[0; 3], size, size);
}

fn sizes() -> impl Strategy<Value = Size> {
    (1..=LONGEST, 1..=LONGEST).prop_map(|(width, height)| Size { width, height })
}

fn images() -> impl Strategy<Value = (Size, Vec<u8>)> {
    sizes().prop_flat_map(|size| (Just(size), prop::collection::vec(any::<u8>(), size.bytes())))
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_used_resizer_gives_what_a_new_one_gives(
        (first, before) in images(), (from, source) in images(), to in sizes(),
    ) {
        let mut used = Resizer::default();
        resized(&mut used, &before, first, to);
        prop_assert_eq!(
            resized(&mut used, &source, from, to),
            resized(&mut Resizer::default(), &source, from, to)
        );
    }

    #[test]
    fn width_then_height_in_two_calls_is_the_same_as_one((from, source) in images(), to in sizes()) {
        let mut resizer = Resizer::default();
        let between = Size { width: to.width, ..from };
        let narrowed = resized(&mut resizer, &source, from, between);
        prop_assert_eq!(
            resized(&mut resizer, &narrowed, between, to),
            resized(&mut resizer, &source, from, to)
        );
    }

    #[test]
    fn the_bicubic_formula_in_floating_point_agrees_to_one_level(
        (from, source) in images(), to in 1..=LONGEST,
    ) {
        let to = Size { width: to, ..from };
        let target = resized(&mut Resizer::default(), &source, from, to);
        for (row, (source, target)) in source
            .chunks(from.width * CHANNELS)
            .zip(target.chunks(to.width * CHANNELS))
            .enumerate()
        {
            for (at, &pixel) in target.iter().enumerate() {
                let (x, channel) = (at / CHANNELS, at % CHANNELS);
                let line: Vec<f64> = source.iter().skip(channel).step_by(CHANNELS).map(|&v| v.into()).collect();
                let expected = interpolated(&line, to.width, x).clamp(0.0, 255.0);
                prop_assert!((f64::from(pixel) - expected).abs() <= 1.0, "row {} column {}: {} and {}", row, x, pixel, expected);
            }
        }
    }
}

/// Position `x` of `line` stretched to `to` values, by Keys' kernel with a = -1/2.
fn interpolated(line: &[f64], to: usize, x: usize) -> f64 {
    let scale = line.len() as f64 / to as f64;
    let center = (x as f64 + 0.5) * scale;
    let weight = |at: usize| {
        let distance = ((at as f64 + 0.5 - center) / scale.max(1.0)).abs();
        match distance {
            d if d < 1.0 => 1.5 * d.powi(3) - 2.5 * d.powi(2) + 1.0,
            d if d < 2.0 => -0.5 * d.powi(3) + 2.5 * d.powi(2) - 4.0 * d + 2.0,
            _ => 0.0,
        }
    };
    let total: f64 = (0..line.len()).map(weight).sum();
    let sum: f64 = line
        .iter()
        .enumerate()
        .map(|(at, value)| value * weight(at))
        .sum();
    sum / total
}
