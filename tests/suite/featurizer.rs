use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;

use pomona::decode::Format;
use pomona::{Error, Features, Featurizer, Options};
use proptest::prelude::*;

use crate::samples::{FORMATS, cases, encoded};

pub fn open(threads: usize, batch_size: usize) -> Featurizer {
    open_model("tiny.onnx", threads, batch_size)
}

pub fn open_model(name: &str, threads: usize, batch_size: usize) -> Featurizer {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let options = Options {
        threads: NonZeroUsize::new(threads).expect("not zero"),
        batch_size: NonZeroUsize::new(batch_size).expect("not zero"),
        ..Options::default()
    };
    Featurizer::open(
        root.join("tests/data").join(name),
        root.join("python/pomona/lib/libonnxruntime.so.1.24.4"),
        options,
    )
    .expect("a model that keeps the contract")
}

pub fn featurize(featurizer: &Featurizer, images: &[Option<&[u8]>]) -> Features {
    featurizer.featurize(images, &mut || false).expect("runs")
}

/// Whole, broken and missing images.
static IMAGES: LazyLock<Vec<Option<Vec<u8>>>> = LazyLock::new(|| {
    let whole = FORMATS
        .iter()
        .zip(5..)
        .map(|(&format, side)| encoded(format, side, 12));
    let cut = FORMATS.iter().map(|&format| {
        let mut bytes = encoded(format, 9, 9);
        bytes.truncate(bytes.len() / 2);
        bytes
    });
    let mut images: Vec<_> = whole.chain(cut).map(Some).collect();
    images.extend([None, Some(Vec::new()), Some(b"<html>".to_vec())]);
    images
});

pub type Row = (Vec<u32>, Option<String>);

/// Rows bit by bit, as NaN equals nothing, with their errors.
pub fn rows(features: &Features) -> Vec<Row> {
    let bits = features.matrix.rows().into_iter();
    let bits = bits.map(|row| row.iter().map(|value| value.to_bits()).collect());
    let errors = features.errors.iter();
    bits.zip(errors.map(|error| error.as_ref().map(ToString::to_string)))
        .collect()
}

/// Each image in a call of its own.
static ONE_BY_ONE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let featurizer = open(1, 1);
    let mut alone =
        |image: &Option<Vec<u8>>| rows(&featurize(&featurizer, &[image.as_deref()])).remove(0);
    IMAGES.iter().map(&mut alone).collect()
});

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn any_batch_on_any_threads_gives_the_rows_of_one_by_one(
        picks in prop::collection::vec(0..IMAGES.len(), 0..40),
        threads in 1..5_usize,
        batch_size in 1..12_usize,
        calls in 1..3_usize,
    ) {
        let images: Vec<_> = picks.iter().map(|&pick| IMAGES[pick].as_deref()).collect();
        let expected: Vec<_> = picks.iter().map(|&pick| ONE_BY_ONE[pick].clone()).collect();
        let featurizer = open(threads, batch_size);
        for _ in 0..calls {
            prop_assert_eq!(&rows(&featurize(&featurizer, &images)), &expected);
        }
    }
}

#[test]
fn whole_images_have_features_and_the_others_a_reason_and_nan() {
    for ((bits, error), image) in ONE_BY_ONE.iter().zip(IMAGES.iter()) {
        let values: Vec<_> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        match error {
            None => assert!(values.iter().all(|value| value.is_finite()), "{image:?}"),
            Some(_) => assert!(values.iter().all(|value| value.is_nan()), "{image:?}"),
        }
    }
    let whole = ONE_BY_ONE.iter().filter(|(_, error)| error.is_none());
    assert_eq!(whole.count(), FORMATS.len());
}

#[test]
fn an_interrupted_call_says_so_and_the_next_one_works() {
    let photo = encoded(Format::Png, 8, 8);
    let images = vec![Some(&photo[..]); 100];
    for threads in [1, 3] {
        let featurizer = open(threads, 4);
        // Other threads may leave the asking one nothing to do, but not for ever.
        let error = (0..)
            .find_map(|_| featurizer.featurize(&images, &mut || true).err())
            .expect("an endless search ends with something");
        assert!(matches!(error, Error::Interrupted), "{error:?}");
        assert_eq!(featurize(&featurizer, &images).matrix.nrows(), 100);
    }
}

#[test]
fn a_call_asks_before_each_image_and_never_again_once_it_is_told_to_stop() {
    let photo = encoded(Format::Png, 8, 8);
    let images = vec![Some(&photo[..]); 100];
    let mut asked = 0;
    let result = open(1, 4).featurize(&images, &mut || {
        asked += 1;
        asked == 51
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert_eq!(asked, 51);
}

#[test]
fn more_threads_than_images_are_no_harm() {
    let photo = encoded(Format::Jpeg, 8, 8);
    let one = featurize(&open(1, 8), &[Some(&photo)]);
    let same = featurize(&open(16, 8), &[Some(&photo)]);
    assert_eq!(rows(&one), rows(&same));
}

#[test]
fn callers_on_several_threads_take_turns() {
    let featurizer = open(2, 3);
    let images: Vec<_> = IMAGES.iter().map(Option::as_deref).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(rows(&featurize(&featurizer, &images)), *ONE_BY_ONE);
                }
            });
        }
    });
}
