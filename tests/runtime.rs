//! The library of ONNX Runtime stays once it is loaded, so this test has a process of its own.

use std::path::PathBuf;

use pomona::{Error, Featurizer, Options};

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
