//! Photos to run among each other: whole ones of every format, odd ones, and JPEGs whose headers
//! are damaged in every way that a generator can name.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;

use crate::samples::{FORMATS, encoded};

/// The odd photos of `tests/data/odd`, sorted by their names.
pub static SPECIMENS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let entries = fs::read_dir(folder()).expect("the specimens");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let photos: Vec<_> = paths
        .iter()
        .map(|path| fs::read(path).expect("reads"))
        .collect();
    assert!(photos.len() > 40, "{} specimens", photos.len());
    photos
});

static HEIF: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let names = ["grey.avif", "grid.avif", "grey.heic", "grid.heic"];
    let paths = names.map(|name| root.join("tests/data/heif").join(name));
    paths.map(|path| fs::read(path).expect("reads")).to_vec()
});

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/odd")
}

fn specimen(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).expect("the specimen")
}

/// JPEGs whose headers have different segments: with one table and with several, with Huffman
/// tables of their own, progressive, of four inks.
static WHOLE_JPEGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut jpegs = vec![encoded(FORMATS[0], 33, 18)];
    jpegs.extend(["optimized.jpg", "prog.jpg", "ycck.jpg", "exif_orient6.jpg"].map(specimen));
    jpegs
});

/// What may happen to a segment of a header.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Missing,
    Doubled,
    Swapped,
    /// Only so many bytes of its content are there, and its length says so.
    Cut(usize),
    /// Its length is off by so many bytes.
    Length(i32),
    /// A byte of its content is another.
    Byte(usize, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Missing),
        Just(Damage::Doubled),
        Just(Damage::Swapped),
        (0..80_usize).prop_map(Damage::Cut),
        (-40..40_i32).prop_map(Damage::Length),
        (0..80_usize, any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
    ]
}

/// The segments up to the first scan, its own included, and the rest.
fn split(jpeg: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    const START_OF_SCAN: u8 = 0xDA;
    let mut segments = Vec::new();
    let mut at = 2;
    loop {
        let length = u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]);
        let end = at + 2 + usize::from(length);
        segments.push(jpeg[at..end].to_vec());
        if jpeg[at + 1] == START_OF_SCAN {
            return (segments, jpeg[end..].to_vec());
        }
        at = end;
    }
}

fn with_damage(jpeg: &[u8], damages: &[(usize, Damage)]) -> Vec<u8> {
    let (mut segments, rest) = split(jpeg);
    for &(pick, damage) in damages {
        if segments.is_empty() {
            break;
        }
        let at = pick % segments.len();
        let segment = &mut segments[at];
        match damage {
            Damage::Missing => drop(segments.remove(at)),
            Damage::Doubled => {
                let again = segment.clone();
                segments.insert(at, again);
            }
            Damage::Swapped => {
                let other = (at + 1) % segments.len();
                segments.swap(at, other);
            }
            Damage::Cut(kept) => {
                segment.truncate(4 + kept);
                let length = segment.len() as u16 - 2;
                segment[2..4].copy_from_slice(&length.to_be_bytes());
            }
            Damage::Length(by) => {
                let length = i32::from(u16::from_be_bytes([segment[2], segment[3]]));
                let length = (length + by).clamp(0, u16::MAX.into()) as u16;
                segment[2..4].copy_from_slice(&length.to_be_bytes());
            }
            Damage::Byte(place, value) => {
                let place = 4 + place % (segment.len() - 4).max(1);
                if let Some(byte) = segment.get_mut(place) {
                    *byte = value;
                }
            }
        }
    }
    [&jpeg[..2], &segments.concat(), &rest].concat()
}

fn jpeg_with_damaged_header() -> impl Strategy<Value = Vec<u8>> {
    let damages = prop::collection::vec((0..32_usize, damage()), 1..4);
    (select(&WHOLE_JPEGS[..]), damages).prop_map(|(jpeg, damages)| with_damage(&jpeg, &damages))
}

fn whole() -> impl Strategy<Value = Vec<u8>> {
    (select(&FORMATS[..]), 1..48_u32, 1..48_u32)
        .prop_map(|(format, width, height)| encoded(format, width, height))
}

fn cut() -> impl Strategy<Value = Vec<u8>> {
    (whole(), any::<prop::sample::Index>()).prop_map(|(mut photo, at)| {
        photo.truncate(at.index(photo.len()));
        photo
    })
}

/// HEIC and AVIF photos; in some, bytes are others.
fn heif() -> impl Strategy<Value = Vec<u8>> {
    let damages = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (select(&HEIF[..]), damages).prop_map(|(mut photo, damages)| {
        for (at, value) in damages {
            let at = at.index(photo.len());
            photo[at] = value;
        }
        photo
    })
}

/// Any photo, whole or not.
pub fn photo() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => heif(),
        3 => whole(),
        3 => jpeg_with_damaged_header(),
        3 => select(&SPECIMENS[..]),
        1 => cut(),
        1 => select(&WHOLE_JPEGS[..]),
    ]
}
