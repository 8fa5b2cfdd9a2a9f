//! Small images of every format that is read, made by other encoders than the code under test.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};
use pomona::decode::Format;
use proptest::test_runner::{Config, RngSeed};
use turbojpeg::{Image, PixelFormat, Subsamp};

pub const FORMATS: [Format; 6] = [
    Format::Jpeg,
    Format::Png,
    Format::WebP,
    Format::Gif,
    Format::Bmp,
    Format::Tiff,
];

/// Of the cases that every run tries; `PROPTEST_RNG_SEED=N` tries others.
const SEED: u64 = 20;

/// As many cases, the same in every run: what passes goes on passing.
pub fn cases(number: u32) -> Config {
    let config = Config::with_cases(number);
    match config.rng_seed {
        RngSeed::Random => Config {
            rng_seed: RngSeed::Fixed(SEED),
            ..config
        },
        RngSeed::Fixed(_) => config,
    }
}

/// A gradient: neither flat nor noise, and different for each size.
pub fn pixels(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x * 7 + width, y * 11 + height, x * y + 3].map(|value| (value % 256) as u8))
    })
}

pub fn encoded(format: Format, width: u32, height: u32) -> Vec<u8> {
    encode(format, pixels(width, height))
}

pub fn encode(format: Format, image: RgbImage) -> Vec<u8> {
    let kind = match format {
        Format::Jpeg => return jpeg(&image),
        Format::Png => ImageFormat::Png,
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
        other => unreachable!("no sample of {other}"),
    };
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image)
        .write_to(&mut bytes, kind)
        .expect("encodes");
    bytes.into_inner()
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    const QUALITY: i32 = 90;
    let format = PixelFormat::RGB;
    let width = image.width() as usize;
    let image = Image {
        pixels: image.as_raw().as_slice(),
        width,
        pitch: width * format.size(),
        height: image.height() as usize,
        format,
    };
    let bytes = turbojpeg::compress(image, QUALITY, Subsamp::Sub2x2).expect("encodes");
    bytes.to_vec()
}
