//! What comes before a photo changes nothing: whatever is kept between photos, buffers, sessions,
//! connections, threads, each photo has the pixels, the features and the error that it has alone.

use std::fs;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use image::{Rgb, RgbImage};
use pomona::decode::{DecodeMode, DecodeOptions, Decoded, Decoder, Format, Notes};
use pomona::resize::{Resizer, Size};
use pomona::storage::{ReadOptions, Settings};
use pomona::{Error, PathFeaturizer};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::featurizer::{Row, featurize, open, open_model, rows};
use crate::odd::{SPECIMENS, photo};
use crate::paths::{Reply, Server, next, s3};
use crate::samples::{cases, encode};

/// Beyond all photos here, so that no damaged size is slow.
const MAX_PIXELS: u64 = 1 << 16;
const TARGET: Size = Size {
    width: 12,
    height: 10,
};

/// The pixels of a photo, its size, its notes and its resized pixels, or the error.
type Pixels = Result<(Vec<u8>, Size, Notes, Vec<u8>), String>;

fn prepare(decoder: &mut Decoder, resizer: &mut Resizer, photo: &[u8]) -> Pixels {
    let Decoded {
        pixels,
        size,
        notes,
    } = decoder
        .decode(photo, Some(TARGET))
        .map_err(|error| error.to_string())?;
    let mut resized = vec![0; TARGET.bytes()];
    resizer.resize_into(pixels, size, &mut resized, TARGET);
    Ok((pixels.to_vec(), size, notes, resized))
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_decoder_that_was_used_gives_what_a_new_one_gives(
        photos in prop::collection::vec(photo(), 2..8),
        apply_exif in any::<bool>(),
        strict in any::<bool>(),
        mode in select(vec![DecodeMode::Exact, DecodeMode::Fast]),
    ) {
        let options = DecodeOptions { max_pixels: MAX_PIXELS, apply_exif, strict, mode };
        let mut decoder = Decoder::new(options);
        let mut resizer = Resizer::default();
        for (number, photo) in photos.iter().enumerate() {
            let used = prepare(&mut decoder, &mut resizer, photo);
            let alone = prepare(&mut Decoder::new(options), &mut Resizer::default(), photo);
            prop_assert!(used == alone, "photo {number}: {:?} and {:?}", used.err(), alone.err());
        }
    }
}

/// Photos of every kind, and the row that each of them has alone, from a featurizer of its own.
static POOL: LazyLock<Vec<(Vec<u8>, Row)>> = LazyLock::new(|| {
    const DRAWN: usize = 120;
    let mut runner = TestRunner::new(cases(1));
    let drawn = (0..DRAWN).map(|_| photo().new_tree(&mut runner).expect("a photo").current());
    let photos = SPECIMENS.iter().cloned().chain(drawn);
    let alone = photos.map(|photo| {
        let row = rows(&featurize(&open(1, 1), &[Some(&photo)])).remove(0);
        (photo, row)
    });
    let pool: Vec<_> = alone.collect();
    let refused = pool
        .iter()
        .filter(|(_, (_, error))| error.is_some())
        .count();
    assert!(
        refused > 30 && pool.len() - refused > 60,
        "{refused} of {}",
        pool.len()
    );
    pool
});

fn picks(most: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..POOL.len(), 1..=most)
}

fn expected(picks: &[usize]) -> Vec<Row> {
    picks.iter().map(|&pick| POOL[pick].1.clone()).collect()
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn every_call_of_a_featurizer_gives_each_photo_the_row_that_it_has_alone(
        calls in prop::collection::vec(picks(24), 1..4),
        threads in 1..5_usize,
        batch_size in 1..65_usize,
    ) {
        let featurizer = open(threads, batch_size);
        for picks in calls {
            let images: Vec<_> = picks.iter().map(|&pick| Some(&POOL[pick].0[..])).collect();
            prop_assert_eq!(rows(&featurize(&featurizer, &images)), expected(&picks));
        }
    }
}

/// The photos of the pool as files.
static FILES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sequences");
    fs::create_dir_all(&folder).expect("a folder");
    let write = |(number, (photo, _)): (usize, &(Vec<u8>, Row))| {
        let path = folder.join(format!("{number}.jpg"));
        fs::write(&path, photo).expect("writes");
        path.display().to_string()
    };
    POOL.iter().enumerate().map(write).collect()
});

/// A server of the pool that, before it gives a photo, may do what goes wrong with servers: cut it,
/// answer with more than it announced, refuse.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::start(|key, times| {
        let (number, trouble) = key.split_once('-').expect("a number and what goes wrong");
        let photo = POOL[number.parse::<usize>().expect("a number")].0.clone();
        let half = photo.len() / 2;
        match (trouble, times % 2) {
            ("cut", 1) => Reply::Cut(photo, half),
            ("longer", 1) => Reply::Longer(
                photo,
                b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\nBM0".to_vec(),
            ),
            ("busy", 1) => Reply::Refusal(503, "SlowDown"),
            ("gone", _) => Reply::Refusal(404, "NoSuchKey"),
            ("forbidden", _) => Reply::Refusal(403, "AccessDenied"),
            _ => Reply::Whole(photo),
        }
    })
});
const TROUBLES: [&str; 6] = ["cut", "longer", "busy", "gone", "none", "none"];

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_step_of_paths_gives_each_photo_the_row_that_it_has_alone(
        steps in prop::collection::vec(picks(16), 1..4),
        threads in 1..5_usize,
        batch_size in 1..65_usize,
        concurrency in 1..9_usize,
        troubles in prop::option::of(prop::collection::vec(0..TROUBLES.len(), 64)),
    ) {
        let limits = ReadOptions {
            concurrency: NonZeroUsize::new(concurrency).expect("not zero"),
            ..ReadOptions::default()
        };
        let settings = match troubles {
            Some(_) => SERVER.settings(),
            None => Settings::default(),
        };
        let featurizer = Arc::new(open(threads, batch_size));
        let mut stream = PathFeaturizer::new(featurizer, settings, limits).expect("starts");
        let mut expected_steps = Vec::new();
        let mut number = 0;
        for picks in &steps {
            let mut rows = expected(picks);
            let mut paths = Vec::new();
            for (row, &pick) in rows.iter_mut().zip(picks) {
                let path = match &troubles {
                    None => FILES[pick].clone(),
                    Some(troubles) => {
                        let trouble = TROUBLES[troubles[number]];
                        if trouble == "gone" {
                            *row = (nothing(row), Some("not read: no longer there".to_owned()));
                        }
                        s3(format!("{pick}-{trouble}")).expect("a path")
                    }
                };
                number += 1;
                paths.push(Some(path));
            }
            stream.submit(paths).expect("submits");
            expected_steps.push(rows);
        }
        for rows_expected in expected_steps {
            prop_assert_eq!(rows(&next(&mut stream).expect("runs")), rows_expected);
        }
    }
}

/// The bits of a row without features, of the same length.
fn nothing(row: &Row) -> Vec<u32> {
    vec![f32::NAN.to_bits(); row.0.len()]
}

/// Reads two whole photos by their paths and compares their rows.
fn still_reads(stream: &mut PathFeaturizer) {
    let whole: Vec<_> = POOL
        .iter()
        .zip(FILES.iter())
        .filter(|((_, (_, error)), _)| error.is_none())
        .take(2)
        .collect();
    let paths = whole
        .iter()
        .map(|(_, path)| Some((*path).clone()))
        .collect();
    stream.submit(paths).expect("submits");
    let found = rows(&next(stream).expect("an earlier call changes nothing"));
    let expected: Vec<_> = whole.iter().map(|((_, row), _)| row.clone()).collect();
    assert_eq!(found, expected);
}

#[test]
fn paths_are_read_as_before_after_a_call_that_failed_or_was_interrupted() {
    let server = Server::start(|key, _| match key {
        "forbidden" => Reply::Refusal(403, "InvalidAccessKeyId"),
        _ => Reply::Silence,
    });
    let featurizer = Arc::new(open(2, 2));
    let mut stream =
        PathFeaturizer::new(featurizer, server.settings(), ReadOptions::default()).expect("starts");
    for round in 0..60 {
        let mut paths: Vec<_> = (0..20)
            .map(|number| s3(format!("silent-{number}")))
            .collect();
        paths.extend(FILES.iter().take(20).cloned().map(Some));
        match round % 3 {
            0 => {
                stream.submit(paths).expect("submits");
                let error = stream.next(&mut || true).expect_err("interrupted");
                assert!(matches!(error, Error::Interrupted), "{error:?}");
            }
            1 => {
                paths.push(s3("forbidden"));
                stream.submit(paths).expect("submits");
                let error = stream.next(&mut || false).expect_err("wrong keys");
                assert!(matches!(error, Error::Storage(_)), "{error:?}");
            }
            _ => {
                paths.push(Some("hdfs://namenode/1.jpg".to_owned()));
                stream.submit(paths).expect("submits");
                let error = stream.next(&mut || false).expect_err("no path to read");
                assert!(matches!(error, Error::Path { .. }), "{error:?}");
            }
        }
        assert!(matches!(stream.next(&mut || false), Ok(None)));
        still_reads(&mut stream);
    }
}

#[test]
fn a_call_that_panics_changes_no_later_one() {
    let images: Vec<_> = POOL.iter().map(|(photo, _)| Some(&photo[..])).collect();
    let everything: Vec<_> = POOL.iter().map(|(_, row)| row.clone()).collect();
    for threads in 1..4 {
        let featurizer = Arc::new(open(threads, 2));
        let mut stream = PathFeaturizer::new(
            Arc::clone(&featurizer),
            Settings::default(),
            ReadOptions::default(),
        )
        .expect("starts");
        for _ in 0..10 {
            let call = || featurizer.featurize(&images, &mut || panic!("asked"));
            catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
            assert_eq!(rows(&featurize(&featurizer, &images)), everything);

            stream
                .submit(FILES.iter().cloned().map(Some).collect())
                .expect("submits");
            let call = || stream.next(&mut || panic!("asked"));
            catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
            assert!(matches!(stream.next(&mut || false), Ok(None)));
            still_reads(&mut stream);
        }
    }
}

#[test]
fn a_run_of_the_model_that_fails_changes_no_later_one() {
    // `picky.onnx` fails on white.
    let grey = |level| encode(Format::Png, RgbImage::from_pixel(8, 8, Rgb([level; 3])));
    let white = grey(u8::MAX);
    let good: Vec<_> = (0..9).map(|number| grey(20 * number)).collect();
    let good: Vec<_> = good.iter().map(|photo| Some(&photo[..])).collect();
    let alone = rows(&featurize(&open_model("picky.onnx", 1, 2), &good));
    for threads in 1..4 {
        let featurizer = open_model("picky.onnx", threads, 2);
        for bad in 0..good.len() {
            let mut images = good.clone();
            images[bad] = Some(&white);
            let error = featurizer
                .featurize(&images, &mut || false)
                .expect_err("white");
            assert!(matches!(error, Error::Runtime { .. }), "{error:?}");
            assert_eq!(rows(&featurize(&featurizer, &good)), alone);
        }
    }
}
