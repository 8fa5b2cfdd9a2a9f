//! HEIC and AVIF against Pillow's pixels, which `make_specimens.py` beside the photos writes.

use std::fs;
use std::path::PathBuf;

use pomona::ImageError;
use pomona::decode::{DecodeOptions, Decoder, Format};
use pomona::resize::Size;

/// Files in `tests/data/heif`, and the EXIF orientations that they have.
const PHOTOS: [(&str, Option<u8>); 9] = [
    ("plain.heic", None),
    ("turned.heic", None),
    ("ten_bits.heic", None),
    ("grey.heic", None),
    ("grid.heic", None),
    ("plain.avif", None),
    ("turned.avif", Some(6)),
    ("grey.avif", None),
    ("grid.avif", None),
];
/// Levels by which a pixel may differ from the reference's.
const TOLERANCE: u8 = 2;

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/heif");
    fs::read(folder.join(name)).expect("a specimen")
}

fn photos() -> impl Iterator<Item = (&'static str, Vec<u8>, Option<u8>)> {
    let photos = PHOTOS.iter();
    photos
        .filter(|(name, _)| cfg!(feature = "heic") || name.ends_with(".avif"))
        .map(|&(name, orientation)| (name, read(name), orientation))
}

/// The size that the Pillow of the reference reads, and its pixels.
fn expected(name: &str) -> (Size, Vec<u8>) {
    let png = image::load_from_memory(&read(&format!("{name}.png"))).expect("a PNG");
    let size = Size {
        width: png.width() as usize,
        height: png.height() as usize,
    };
    (size, png.into_rgb8().into_raw())
}

#[test]
fn pixels_are_those_of_the_reference() {
    let mut decoder = Decoder::default();
    for (name, bytes, orientation) in photos() {
        let decoded = decoder.decode(&bytes, None).expect(name);
        let (size, pixels) = expected(name);
        assert_eq!(decoded.size, size, "{name}");
        assert_eq!(decoded.notes.orientation, orientation, "{name}");
        assert_eq!(decoded.notes.warning, None, "{name}");
        let pairs = decoded.pixels.iter().zip(&pixels);
        let differences = pairs.map(|(one, other)| one.abs_diff(*other));
        assert!(differences.max() <= Some(TOLERANCE), "{name}");
    }
}

#[test]
fn an_avif_is_turned_if_asked_for() {
    let bytes = read("turned.avif");
    let mut decoder = Decoder::new(DecodeOptions {
        apply_exif: true,
        ..DecodeOptions::default()
    });
    let upright = decoder.decode(&bytes, None).expect("decodes");
    let (Size { width, height }, _) = expected("turned.avif");
    let turned = Size {
        width: height,
        height: width,
    };
    assert_eq!((upright.size, upright.notes.orientation), (turned, None));
}

#[test]
fn the_content_counts_and_not_the_major_brand() {
    let mut bytes = read("plain.avif");
    bytes[8..12].copy_from_slice(b"mif1");
    assert_eq!(Format::of(&bytes), Some(Format::Avif));
    assert!(Decoder::default().decode(&bytes, None).is_ok());
}

#[test]
fn a_photo_cut_anywhere_is_an_error() {
    let mut decoder = Decoder::default();
    // pillow-heif leaves the tiles out that are missing.
    for (name, bytes, _) in photos().filter(|&(name, ..)| name != "grid.heic") {
        for kept in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let refused = decoder.decode(&bytes[..kept], None).is_err();
            assert!(refused, "{name}: {kept} of {} bytes", bytes.len());
        }
    }
}

#[cfg(feature = "heic")]
#[test]
fn a_heic_without_its_last_tiles_has_a_warning() {
    let mut bytes = read("grid.heic");
    bytes.truncate(bytes.len() - 1);
    let mut decoder = Decoder::default();
    let decoded = decoder.decode(&bytes, None).expect("decodes");
    assert_eq!(decoded.size, expected("grid.heic").0);
    let warning = decoded.notes.warning.expect("a warning");
    assert!(
        warning.ends_with("1 of 4 tiles of the image are missing"),
        "{warning}"
    );
    // No luma and no chroma, as libheif leaves them.
    let [.., red, green, blue] = decoded.pixels else {
        panic!("no pixels");
    };
    assert_eq!((*red, *green, *blue), (0, 135, 0));
    let mut strict = Decoder::new(DecodeOptions {
        strict: true,
        ..DecodeOptions::default()
    });
    assert!(strict.decode(&bytes, None).is_err());
    bytes.truncate(bytes.len() / 3);
    assert!(decoder.decode(&bytes, None).is_err());
}

#[test]
fn bytes_after_the_end_are_accepted() {
    for (name, bytes, _) in photos() {
        let longer = [&bytes[..], b"<html>"].concat();
        assert!(Decoder::default().decode(&longer, None).is_ok(), "{name}");
    }
}

#[test]
fn the_announced_size_is_checked_first() {
    for (name, mut bytes, _) in photos() {
        let mut at = 0;
        while let Some(start) = memchr::memmem::find(&bytes[at..], b"ispe") {
            at += start + 8;
            bytes[at..at + 8].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
        }
        let refused = Decoder::default().decode(&bytes, None).expect_err(name);
        assert!(
            matches!(refused, ImageError::TooManyPixels { width: 0xFFFF, .. }),
            "{name}: {refused}"
        );
    }
}

#[test]
fn the_limit_counts_pixels_and_includes_itself() {
    // The encoder of the other HEIC photos pads them to 64 x 64 pixels, which counts.
    let exact = |name: &str| name.starts_with("grid") || name.ends_with(".avif");
    for (name, bytes, _) in photos().filter(|&(name, ..)| exact(name)) {
        let (Size { width, height }, _) = expected(name);
        for (max_pixels, accepted) in [(width * height, true), (width * height - 1, false)] {
            let mut decoder = Decoder::new(DecodeOptions {
                max_pixels: max_pixels as u64,
                ..DecodeOptions::default()
            });
            let decoded = decoder.decode(&bytes, None);
            assert_eq!(decoded.is_ok(), accepted, "{name}");
        }
    }
}

#[cfg(not(feature = "heic"))]
#[test]
fn a_build_without_the_decoder_says_so() {
    let refused = Decoder::default().decode(&read("plain.heic"), None);
    let message = refused.expect_err("no decoder").to_string();
    assert!(
        message.contains("this build has no HEIC decoder"),
        "{message}"
    );
}
