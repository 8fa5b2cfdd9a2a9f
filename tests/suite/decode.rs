use image::RgbImage;
use pomona::ImageError;
use pomona::decode::{DecodeOptions, Decoded, Decoder, Format, MAX_SIDE};
use pomona::resize::Size;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::samples::{FORMATS, cases, encode, encoded, pixels};

/// The first bytes that announce each format, up to where its headers begin.
const STARTS: [&[u8]; 7] = [
    b"\xFF\xD8\xFF\xE0\x00\x04",
    b"\x89PNG\r\n\x1A\n\x00\x00\x00\x0DIHDR\x00\x00",
    b"RIFF\x40\x00\x00\x00WEBPVP8 ",
    b"GIF89a\x08\x00\x08\x00",
    b"BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00",
    b"II\x2A\x00\x08\x00\x00\x00\x04\x00",
    b"MM\x00\x2A\x00\x00\x00\x08\x00\x04",
];

const MAX_PIXELS: u64 = 1 << 16;

fn decoder() -> Decoder {
    Decoder::new(DecodeOptions {
        max_pixels: MAX_PIXELS,
        apply_exif: true,
        ..DecodeOptions::default()
    })
}

fn all_of(decoder: &mut Decoder, bytes: &[u8]) -> Vec<u8> {
    let decoded = decoder.decode(bytes, None).expect("decodes");
    decoded.pixels.to_vec()
}

/// Decodes bytes that may be anything, and checks what every answer keeps.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    match decoder().decode(bytes, None) {
        Ok(Decoded { pixels, size, .. }) => {
            prop_assert!(size.width as u64 * size.height as u64 <= MAX_PIXELS);
            prop_assert_eq!(pixels.len(), size.bytes());
            prop_assert!(size.bytes() > 0);
        }
        // Contained, but a defect all the same.
        Err(error @ ImageError::Panicked { .. }) => prop_assert!(false, "{error}"),
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn any_bytes_give_an_error_or_an_image_within_the_limit(
        start in prop_oneof![Just(&b""[..]), select(&STARTS[..])],
        rest in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        survives(&[start, &rest].concat())?;
    }

    #[test]
    fn a_damaged_image_gives_an_error_or_an_image_within_the_limit(
        format in select(&FORMATS[..]),
        width in 1..40_u32,
        height in 1..40_u32,
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut bytes = encoded(format, width, height);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes)?;
    }

    #[test]
    fn an_image_cut_anywhere_is_an_error(
        format in select(&FORMATS[..]),
        width in 1..40_u32,
        height in 1..40_u32,
        cut in any::<Index>(),
    ) {
        let whole = encoded(format, width, height);
        // What follows the last pixel is not needed: the end of a TIFF's directory, the end marker of
        // a JPEG, the trailer of a GIF and the bytes before it that end its data, the end of a BMP's
        // last row, and of a PNG the IEND chunk and the checksums before it.
        let needed = whole.len()
            - match format {
                Format::Tiff => 4,
                Format::Jpeg => 2,
                Format::Gif => 4,
                Format::Bmp => 3,
                Format::Png => 12 + 4 + 4 + 2,
                _ => 0,
            };
        // The last bytes are where a container has least to say about what is missing.
        let last = needed.saturating_sub(8)..needed;
        for kept in last.chain([cut.index(needed)]) {
            // Pillow reads a TIFF without its last tags.
            let refused = match decoder().decode(&whole[..kept], None) {
                Ok(decoded) => format == Format::Tiff && decoded.notes.warning.is_some(),
                Err(_) => true,
            };
            prop_assert!(refused, "{format}: {kept} of {} bytes", whole.len());
        }
    }
}

#[test]
fn lossless_formats_give_the_pixels_that_went_in() {
    for format in [Format::Png, Format::WebP, Format::Bmp, Format::Tiff] {
        let bytes = encoded(format, 37, 21);
        let mut decoder = decoder();
        let Decoded {
            pixels: decoded,
            size,
            ..
        } = decoder.decode(&bytes, None).expect("decodes");
        assert_eq!(
            size,
            Size {
                width: 37,
                height: 21
            },
            "{format}"
        );
        assert!(decoded == pixels(37, 21).as_raw(), "{format}");
    }
}

#[test]
fn bytes_after_the_end_are_accepted() {
    let options = DecodeOptions {
        strict: true,
        ..DecodeOptions::default()
    };
    for format in FORMATS {
        let whole = encoded(format, 16, 16);
        let longer = [&whole[..], b"<html>"].concat();
        let expected = all_of(&mut decoder(), &whole);
        assert!(
            all_of(&mut Decoder::new(options), &longer) == expected,
            "{format}"
        );
    }
}

#[test]
fn the_limit_counts_pixels_and_includes_itself() {
    for format in FORMATS {
        let bytes = encoded(format, 20, 10);
        let at_most = |max_pixels| {
            let options = DecodeOptions {
                max_pixels,
                ..DecodeOptions::default()
            };
            Decoder::new(options)
                .decode(&bytes, None)
                .map(|decoded| decoded.size)
        };
        assert_eq!(
            at_most(200).expect("decodes"),
            Size {
                width: 20,
                height: 10
            }
        );
        let error = at_most(199).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "too large: 20 x 10 pixels, the limit (max_pixels) is 199",
            "{format}"
        );
    }
}

#[test]
fn a_side_that_no_photo_has_is_refused_in_advance() {
    for (width, height) in [(1, MAX_SIDE + 1), (MAX_SIDE + 1, 1)] {
        let mut decoder = Decoder::default();
        let bytes = encode(Format::Png, RgbImage::new(width, height));
        let error = decoder.decode(&bytes, None);
        let expected =
            format!("too long: {width} x {height} pixels, the limit is 1048576 wide and high");
        assert_eq!(error.expect_err("too long").to_string(), expected);
    }
}

#[test]
fn a_decoder_goes_on_as_new_behind_a_broken_image() {
    let mut used = decoder();
    for format in FORMATS {
        let whole = encoded(format, 33, 9);
        let expected = all_of(&mut decoder(), &whole);
        used.decode(&whole[..whole.len() / 2], None)
            .expect_err("cut in half");
        assert!(all_of(&mut used, &whole) == expected, "{format}");
    }
}

#[test]
fn a_format_that_is_not_read_is_named() {
    let cases: [(&[u8], &str); 28] = [
        (b"\xFF\x0A\xFA\x7F\x01", "it is JPEG XL"),
        (
            b"\0\0\0\x0CJXL \r\n\x87\n\0\0\0\x14ftypjxl ",
            "it is JPEG XL",
        ),
        (
            b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14ftypjp2 ",
            "it is JPEG 2000",
        ),
        (b"\xFF\x4F\xFF\x51\x00\x2F", "it is JPEG 2000"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "it is a Canon RAW"),
        (b"FUJIFILMCCD-RAW 0201", "it is a Fujifilm RAW"),
        (b"IIRO\x08\0\0\0", "it is an Olympus RAW"),
        (b"IIU\0\x08\0\0\0", "it is a Panasonic RAW"),
        (b"FOVb\0\0\x02\0", "it is a Sigma RAW"),
        (b"8BPS\0\x01", "it is a Photoshop document"),
        (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0", "it is an icon"),
        (
            b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
            "it is an AppleDouble file",
        ),
        (b"%PDF-1.4", "it is a PDF document"),
        (b"PK\x03\x04\x14\0", "it is a ZIP archive"),
        (
            b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2",
            "it is an MP4 video",
        ),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "it is a QuickTime video"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "it is a Git LFS pointer",
        ),
        (b"\n <!DOCTYPE html><html>", "it is an HTML page"),
        (b"\xEF\xBB\xBF<html lang=\"en\">", "it is an HTML page"),
        (
            b"<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC \"\">",
            "it is an HTML page",
        ),
        (
            b"<svg xmlns=\"http://www.w3.org/2000/svg\">",
            "it is an SVG drawing",
        ),
        (
            b"<?xml version=\"1.0\"?>\n<!-- a page <p> -->\n<svg>",
            "it is an SVG drawing",
        ),
        (
            b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied",
            "it is an error message",
        ),
        (b"<?xml version=\"1.0\"?><urlset>", "it is an XML document"),
        (&[0; 100], "it is only zero bytes"),
        (b"{\"error\": 404}", "14 bytes of text that start with"),
        ("déjà vu".as_bytes(), "9 bytes of text that start with"),
        (b"\x00\x01\x02\x03", "4 bytes that start with \"\\x00\\x01"),
    ];
    for (bytes, expected) in cases {
        let error = decoder().decode(bytes, None).expect_err(expected);
        let start = "not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF image: ";
        let text = error.to_string();
        let detail = text.strip_prefix(start).unwrap_or(&text);
        assert!(detail.starts_with(expected), "{bytes:?}: {text}");
    }
}

#[test]
fn jpeg_ls_is_named() {
    let photo = include_bytes!("../data/odd/jpegls_f7.jpg");
    let error = decoder().decode(photo, None).expect_err("another format");
    assert!(
        error.to_string().starts_with("unsupported JPEG: JPEG-LS"),
        "{error}"
    );
}
