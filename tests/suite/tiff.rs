//! TIFFs whose tags announce more than the file has: refused before memory or time is spent.

use std::time::Duration;

use pomona::ImageError;
use pomona::decode::{DecodeOptions, Decoder};
use rustix::time::{ClockId, clock_gettime};

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_COUNTS: u16 = 279;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_COUNTS: u16 = 325;

/// A grey TIFF of 8 bits with one strip, whose tags are replaced by `tags` or added to.
fn tiff(tags: &[(u16, u32)]) -> Vec<u8> {
    let mut all = vec![
        (WIDTH, 8),
        (HEIGHT, 8),
        (BITS, 8),
        (COMPRESSION, 1),
        (PHOTOMETRIC, 1),
        (STRIP_OFFSETS, 8),
        (SAMPLES, 1),
        (STRIP_COUNTS, 64),
    ];
    for &(tag, value) in tags {
        all.retain(|&(other, _)| other != tag);
        all.push((tag, value));
    }
    all.sort_unstable();
    let mut bytes = b"II\x2A\0\x48\0\0\0".to_vec();
    bytes.extend([100; 64]);
    bytes.extend((all.len() as u16).to_le_bytes());
    for (tag, value) in all {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(4u16.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let decoded = decoder.decode(bytes, None)?;
    Ok(decoded.pixels.to_vec())
}

#[test]
fn a_strip_is_read() {
    let pixels = decode(&tiff(&[])).expect("decodes");
    assert_eq!(pixels, [100; 8 * 8 * 3]);
}

#[test]
fn sizes_beyond_the_limits_are_refused() {
    for (width, height) in [(1 << 20, 1 << 20), (u32::MAX, 1), (20_000, 20_000)] {
        let error = decode(&tiff(&[(WIDTH, width), (HEIGHT, height)])).expect_err("too large");
        assert!(error.to_string().starts_with("too large"), "{error}");
    }
    let error = decode(&tiff(&[(WIDTH, 0)])).expect_err("no pixels");
    assert!(matches!(error, ImageError::ZeroSized { .. }), "{error}");
}

#[test]
fn tiles_far_larger_than_the_image_are_refused() {
    for compression in [1, 5, 7, 8, 32773] {
        for (width, height) in [
            (u32::MAX, u32::MAX),
            (1 << 31, 1),
            (1, 1 << 31),
            (8192, 8192),
        ] {
            let bytes = tiff(&[
                (COMPRESSION, compression),
                (TILE_WIDTH, width),
                (TILE_HEIGHT, height),
                (TILE_OFFSETS, 8),
                (TILE_COUNTS, 64),
            ]);
            let without_strips: Vec<_> = replaced(bytes, STRIP_OFFSETS);
            let error = decode(&without_strips).expect_err("too large");
            assert!(
                matches!(error, ImageError::Unsupported { .. }),
                "{compression}: {error}"
            );
        }
    }
}

/// Gives a tag a number that has no meaning.
fn replaced(mut bytes: Vec<u8>, tag: u16) -> Vec<u8> {
    let entries = &mut bytes[74..];
    let entry = entries
        .chunks_exact_mut(12)
        .find(|entry| entry[..2] == tag.to_le_bytes());
    entry.expect("the tag")[..2].copy_from_slice(&65_000u16.to_le_bytes());
    bytes
}

/// The processor time of this thread. That of the clock grows with whatever else the machine does.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time that has passed")
}

#[test]
fn a_large_image_with_little_data_takes_no_time() {
    for compression in [1, 2, 3, 4, 5, 7, 8, 32771, 32773] {
        let bits = if matches!(compression, 2..=4 | 32771) {
            1
        } else {
            8
        };
        let bytes = tiff(&[
            (WIDTH, 13_000),
            (HEIGHT, 13_000),
            (BITS, bits),
            (COMPRESSION, compression),
            (ROWS_PER_STRIP, u32::MAX),
        ]);
        let start = processor_time();
        let decoded = decode(&bytes);
        assert!(decoded.is_err() || compression == 4, "{compression}");
        let taken = processor_time() - start;
        assert!(taken < Duration::from_secs(5), "{compression}: {taken:?}");
    }
}

#[test]
fn many_values_outside_the_file_take_no_memory() {
    let mut bytes = tiff(&[]);
    // The number of values of the first tags.
    for entry in bytes[74..].chunks_exact_mut(12).take(5) {
        entry[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    }
    assert!(decode(&bytes).is_err());
}
