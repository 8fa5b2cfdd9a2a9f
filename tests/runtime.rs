//! What a whole process shares: the library of ONNX Runtime, which stays once it is loaded, and the
//! panic hook. So these tests run in a process of their own.

use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pomona::decode::Decoder;
use pomona::{Error, Featurizer, ImageError, Options};

#[test]
fn a_missing_runtime_is_an_error_of_the_first_batch_and_no_earlier() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let model = root.join("tests/data/tiny.onnx");
    for library in ["nowhere.so", "tests/data/tiny.onnx"] {
        let featurizer = Featurizer::open(&model, root.join(library), Options::default())
            .expect("nothing is loaded yet");
        let photo = b"BM\x3A\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\
            \x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\x04\x00\x00\x00\
            \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x00";
        let error = featurizer
            .featurize(&[Some(photo)], &mut || false)
            .expect_err("no library");
        assert!(matches!(error, Error::LoadRuntime(_)), "{error:?}");
        assert!(error.to_string().contains(library), "{error}");
    }
}

#[test]
fn a_panic_of_a_decoder_is_not_reported_and_every_other_one_is() {
    let reported = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reported);
    panic::set_hook(Box::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let photo = root.join("tests/data/odd/tiff_tiled_planar.tif");
    let photo = std::fs::read(photo).expect("the specimen");
    for round in 1..3 {
        let error = Decoder::default()
            .decode(&photo, None)
            .expect_err("it panics");
        assert!(matches!(error, ImageError::Panicked { .. }), "{error}");
        panic::catch_unwind(|| panic!("of the caller")).expect_err("it panics");
        assert_eq!(reported.load(Ordering::SeqCst), round);
    }
    drop(panic::take_hook());
}
