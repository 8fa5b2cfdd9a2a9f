use std::fs;
use std::path::PathBuf;

use pomona::Error;
use pomona::contract::Contract;
use pomona::resize::Size;

/// What a model file says about itself, as its `onnx.proto` messages.
#[derive(Clone)]
struct Model {
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    weights: Vec<&'static str>,
    metadata: Vec<(&'static str, &'static str)>,
}

#[derive(Clone)]
struct Value {
    name: &'static str,
    element: u64,
    dims: Option<Vec<Dim>>,
}

#[derive(Clone, Copy)]
enum Dim {
    Of(i64),
    Named(&'static str),
}

use Dim::{Named, Of};

const FLOAT: u64 = 1;
const UINT8: u64 = 2;
const DOUBLE: u64 = 11;

fn value(name: &'static str, element: u64, dims: &[Dim]) -> Value {
    Value {
        name,
        element,
        dims: Some(dims.to_vec()),
    }
}

fn kept() -> Model {
    Model {
        inputs: vec![value("images", UINT8, &[Named("n"), Of(24), Of(32), Of(3)])],
        outputs: vec![value("features", FLOAT, &[Named("n"), Of(16)])],
        weights: vec![],
        metadata: vec![
            ("pomona.name", "made"),
            ("pomona.resize", "bicubic"),
            ("pomona.source", "this test"),
            ("pomona.license", "Apache-2.0"),
        ],
    }
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(tag << 3, &mut bytes);
    varint(value, &mut bytes);
    bytes
}

fn message(tag: u64, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = Vec::new();
    varint(tag << 3 | 2, &mut bytes);
    varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

impl Dim {
    fn encoded(self) -> Vec<u8> {
        message(
            1,
            &[&match self {
                Of(value) => number(1, value as u64),
                Named(name) => message(2, &[name.as_bytes()]),
            }],
        )
    }
}

impl Value {
    fn encoded(&self, tag: u64) -> Vec<u8> {
        let shape = self.dims.as_ref().map(|dims| {
            let dims: Vec<_> = dims.iter().map(|dim| dim.encoded()).collect();
            message(2, &[&dims.concat()])
        });
        let tensor = message(1, &[&number(1, self.element), &shape.unwrap_or_default()]);
        message(
            tag,
            &[
                &message(1, &[self.name.as_bytes()]),
                &message(2, &[&tensor]),
            ],
        )
    }
}

impl Model {
    fn encoded(&self) -> Vec<u8> {
        let mut graph = Vec::new();
        for weight in &self.weights {
            graph.extend(message(5, &[&message(8, &[weight.as_bytes()])]));
        }
        for input in &self.inputs {
            graph.extend(input.encoded(11));
        }
        for output in &self.outputs {
            graph.extend(output.encoded(12));
        }
        let mut model = [number(1, 8), message(7, &[&graph])].concat();
        for (key, value) in &self.metadata {
            let entry = [
                message(1, &[key.as_bytes()]),
                message(2, &[value.as_bytes()]),
            ];
            model.extend(message(14, &[&entry.concat()]));
        }
        model
    }
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).expect("writes");
    path
}

/// The error's words behind the path.
fn refusal(name: &str, model: &Model) -> String {
    let path = written(&format!("{name}.onnx"), &model.encoded());
    let error = Contract::read(&path).expect_err(name);
    assert!(matches!(error, Error::Contract { .. }), "{name}: {error:?}");
    let message = error.to_string();
    let (_, words) = message
        .split_once("breaks the model contract: ")
        .expect("the contract is named");
    assert!(
        message.starts_with(&path.display().to_string()),
        "{message}"
    );
    words.replace(" (`pomona model convert` makes models that keep it)", "")
}

#[test]
fn a_kept_contract_is_read() {
    let contract = Contract::read(written("kept.onnx", &kept().encoded())).expect("keeps it");
    assert_eq!(contract.name, "made");
    assert_eq!(
        contract.size,
        Size {
            height: 24,
            width: 32
        }
    );
    assert_eq!(contract.dim, 16);
    assert_eq!(contract.metadata["pomona.source"], "this test");
    assert_eq!(contract.metadata.len(), 4);
}

#[test]
fn weights_among_the_inputs_are_no_inputs() {
    let mut model = kept();
    model.inputs.push(value("kernel", FLOAT, &[Of(3)]));
    model.weights.push("kernel");
    Contract::read(written("old.onnx", &model.encoded())).expect("keeps it");
}

#[test]
fn each_broken_part_of_the_input_is_shown() {
    const EXPECTED: &str = "the input must be uint8 images[n, height, width, 3], found ";
    let images = |element, dims: &[Dim]| vec![value("images", element, dims)];
    let n = Named("n");
    let cases = [
        ("no_input", vec![], "nothing"),
        (
            "other_name",
            vec![value("pixels", UINT8, &[n, Of(24), Of(32), Of(3)])],
            "uint8 pixels[n, 24, 32, 3]",
        ),
        (
            "float",
            images(FLOAT, &[n, Of(24), Of(32), Of(3)]),
            "float32 images[n, 24, 32, 3]",
        ),
        (
            "double",
            images(DOUBLE, &[n, Of(24), Of(32), Of(3)]),
            "ONNX type 11 images[n, 24, 32, 3]",
        ),
        (
            "planes",
            images(UINT8, &[n, Of(3), Of(24), Of(32)]),
            "uint8 images[n, 3, 24, 32]",
        ),
        (
            "fixed_n",
            images(UINT8, &[Of(1), Of(24), Of(32), Of(3)]),
            "uint8 images[1, 24, 32, 3]",
        ),
        (
            "open_size",
            images(UINT8, &[n, Named("h"), Named("w"), Of(3)]),
            "uint8 images[n, h, w, 3]",
        ),
        (
            "no_height",
            images(UINT8, &[n, Of(0), Of(32), Of(3)]),
            "uint8 images[n, 0, 32, 3]",
        ),
        (
            "negative",
            images(UINT8, &[n, Of(-24), Of(32), Of(3)]),
            "uint8 images[n, -24, 32, 3]",
        ),
        (
            "flat",
            images(UINT8, &[n, Of(2304)]),
            "uint8 images[n, 2304]",
        ),
        (
            "no_shape",
            vec![Value {
                name: "images",
                element: UINT8,
                dims: None,
            }],
            "uint8 images of unknown shape",
        ),
        (
            "two_inputs",
            vec![kept().inputs[0].clone(), value("mask", FLOAT, &[n])],
            "uint8 images[n, 24, 32, 3], float32 mask[n]",
        ),
    ];
    for (name, inputs, found) in cases {
        let words = refusal(name, &Model { inputs, ..kept() });
        assert_eq!(words, format!("{EXPECTED}{found}"));
    }
}

#[test]
fn each_broken_part_of_the_output_is_shown() {
    const EXPECTED: &str = "the output must be float32 features[n, d], found ";
    let features = |element, dims: &[Dim]| vec![value("features", element, dims)];
    let n = Named("n");
    let cases = [
        ("no_output", vec![], "nothing"),
        (
            "classes",
            vec![value("logits", FLOAT, &[n, Of(1000)])],
            "float32 logits[n, 1000]",
        ),
        (
            "integers",
            features(UINT8, &[n, Of(16)]),
            "uint8 features[n, 16]",
        ),
        (
            "maps",
            features(FLOAT, &[n, Of(7), Of(7), Of(16)]),
            "float32 features[n, 7, 7, 16]",
        ),
        (
            "open_d",
            features(FLOAT, &[n, Named("d")]),
            "float32 features[n, d]",
        ),
        (
            "no_d",
            features(FLOAT, &[n, Of(0)]),
            "float32 features[n, 0]",
        ),
        (
            "two_outputs",
            vec![
                kept().outputs[0].clone(),
                value("logits", FLOAT, &[n, Of(9)]),
            ],
            "float32 features[n, 16], float32 logits[n, 9]",
        ),
    ];
    for (name, outputs, found) in cases {
        let words = refusal(name, &Model { outputs, ..kept() });
        assert_eq!(words, format!("{EXPECTED}{found}"));
    }
}

#[test]
fn sizes_that_no_memory_holds_are_refused_with_the_model() {
    let n = Named("n");
    for side in [4097, 1 << 20, 1 << 32, i64::MAX] {
        let inputs = vec![value("images", UINT8, &[n, Of(side), Of(side), Of(3)])];
        let words = refusal("huge_input", &Model { inputs, ..kept() });
        assert!(words.starts_with("the input must be "), "{words}");
    }
    for dim in [(1 << 20) + 1, 1 << 40, i64::MAX] {
        let outputs = vec![value("features", FLOAT, &[n, Of(dim)])];
        let words = refusal("huge_output", &Model { outputs, ..kept() });
        assert!(words.starts_with("the output must be "), "{words}");
    }
}

#[test]
fn each_missing_word_of_metadata_is_named() {
    for at in 0..kept().metadata.len() {
        let mut absent = kept();
        let (key, _) = absent.metadata.remove(at);
        let expected = format!("{key} must be in the metadata, found nothing");
        assert_eq!(refusal("absent", &absent), expected);

        let mut empty = kept();
        empty.metadata[at].1 = "";
        assert_eq!(refusal("empty", &empty), expected);
    }
}

#[test]
fn another_resize_is_refused() {
    let mut model = kept();
    model.metadata[1].1 = "bilinear";
    assert_eq!(
        refusal("bilinear", &model),
        "pomona.resize must be bicubic, found bilinear"
    );
}

#[test]
fn what_is_no_model_says_so() {
    let whole = kept().encoded();
    for (name, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("text", b"<html>Not Found</html>"),
        ("zip", b"PK\x03\x04\x14\x00\x00\x00\x08\x00"),
    ] {
        let path = written(name, bytes);
        let error = Contract::read(&path).expect_err(name);
        assert!(matches!(error, Error::NotOnnx { .. }), "{name}: {error:?}");
        let words = format!("{} is not a complete ONNX model", path.display());
        assert!(error.to_string().starts_with(&words), "{error}");
    }
    // An empty file is a message without fields, which breaks the contract at its first part.
    let error = Contract::read(written("empty_file", b"")).expect_err("empty");
    assert!(error.to_string().contains("the input must be"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nowhere.onnx");
    let error = Contract::read(&path).expect_err("not there");
    assert!(matches!(error, Error::ReadModel { .. }), "{error:?}");
    let words = format!("can't read the model {}: ", path.display());
    assert!(error.to_string().starts_with(&words), "{error}");
}

#[test]
fn no_bytes_of_a_model_file_make_it_panic() {
    let whole = kept().encoded();
    for at in 0..whole.len() {
        for value in [0x00, 0x7F, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            // Either is right: what counts is that it answers.
            let _ = Contract::read(written("damaged.onnx", &bytes));
        }
        let _ = Contract::read(written("shorter.onnx", &whole[..at]));
    }
}
