use pomona::ImageError;
use pomona::decode::{DecodeMode, DecodeOptions, Decoder, Notes};
use pomona::resize::Size;
use proptest::prelude::*;
use proptest::sample::Index;
use turbojpeg::{Compressor, Image, PixelFormat};

use crate::samples::{cases, pixels};

const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

fn encoded(width: u32, height: u32, progressive: bool) -> Vec<u8> {
    let image = pixels(width, height);
    let mut compressor = Compressor::new().expect("a compressor");
    compressor
        .set_progressive(progressive)
        .expect("progressive");
    let image = Image {
        pixels: image.as_raw().as_slice(),
        width: width as usize,
        pitch: width as usize * PixelFormat::RGB.size(),
        height: height as usize,
        format: PixelFormat::RGB,
    };
    let bytes = compressor.compress_to_vec(image).expect("encodes");
    assert!(bytes.ends_with(&END_OF_IMAGE));
    bytes
}

fn strictly(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let options = DecodeOptions {
        strict: true,
        ..DecodeOptions::default()
    };
    let mut decoder = Decoder::new(options);
    let decoded = decoder.decode(bytes, None)?;
    assert_eq!(decoded.notes, Notes::default());
    Ok(decoded.pixels.to_vec())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_end_marker_may_be_missing_and_nothing_before_it(
        width in 1..70_u32,
        height in 1..70_u32,
        progressive in any::<bool>(),
        cut in any::<Index>(),
    ) {
        let whole = encoded(width, height, progressive);
        let expected = strictly(&whole).expect("decodes");
        let scans = whole.len() - END_OF_IMAGE.len();
        for kept in [scans, scans + 1] {
            prop_assert_eq!(&strictly(&whole[..kept]).expect("decodes"), &expected);
        }
        for kept in [scans - 1, scans - 2, cut.index(scans)] {
            let error = Decoder::default().decode(&whole[..kept], None).map(|decoded| decoded.notes);
            prop_assert!(error.is_err(), "{kept} of {} bytes: {error:?}", whole.len());
        }
    }
}

#[test]
fn a_progressive_jpeg_without_its_last_scans_is_truncated() {
    let whole = encoded(40, 30, true);
    let scans: Vec<_> = (0..whole.len())
        .filter(|&at| whole[at..].starts_with(&[0xFF, 0xDA]))
        .collect();
    assert!(scans.len() > 4, "{} scans", scans.len());
    for &end in &scans[1..] {
        // The tables of a scan precede it; without the scan they mean nothing.
        let mut decoder = Decoder::default();
        let error = decoder.decode(&whole[..end], None);
        let error = error.expect_err("scans are missing").to_string();
        assert_eq!(
            error,
            "truncated JPEG: it ends before the end of its picture"
        );
    }
}

#[test]
fn damage_before_the_end_is_a_warning_that_strict_refuses() {
    let mut bytes = encoded(64, 64, false);
    let middle = bytes.len() * 2 / 3;
    bytes[middle..middle + 2].copy_from_slice(&[0xFF, 0xD9]);
    let mut decoder = Decoder::default();
    let decoded = decoder.decode(&bytes, None).expect("decodes");
    let warning = "parts of the picture are damaged or missing (premature end of data segment)";
    assert_eq!(decoded.notes.warning.as_deref(), Some(warning));
    let error = strictly(&bytes).expect_err("strict");
    assert_eq!(
        error.to_string(),
        format!("JPEG: {warning} (strict=False accepts it)")
    );
}

/// The size that a JPEG is decoded to in fast mode.
fn fast(width: u32, height: u32, target: Option<Size>) -> (usize, usize) {
    let options = DecodeOptions {
        mode: DecodeMode::Fast,
        ..DecodeOptions::default()
    };
    let mut decoder = Decoder::new(options);
    let bytes = encoded(width, height, false);
    let decoded = decoder.decode(&bytes, target).expect("decodes");
    (decoded.size.width, decoded.size.height)
}

#[test]
fn fast_mode_keeps_at_least_twice_the_target() {
    let target = Some(Size {
        width: 32,
        height: 24,
    });
    for (from, to) in [
        ((100, 100), (100, 100)),
        ((126, 400), (126, 400)),
        ((127, 400), (64, 200)),
        ((250, 257), (125, 129)),
        ((256, 256), (64, 64)),
        ((509, 600), (64, 75)),
        ((2000, 900), (250, 113)),
        ((2000, 500), (500, 125)),
    ] {
        assert_eq!(fast(from.0, from.1, target), to, "{from:?}");
    }
    assert_eq!(fast(2000, 900, None), (2000, 900));
}
