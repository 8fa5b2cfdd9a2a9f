//! The Python extension `pomona._native`: classes, the GIL, exceptions. No other file knows Python.
//!
//! The documented contract of what stands here is `python/pomona/_native.pyi`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ndarray::Array3;
use numpy::{IntoPyArray, PyArray2, PyArray3};
use pyo3::exceptions::{PyInterruptedError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString, PyTuple};

use crate::decode::{DEFAULT_MAX_PIXELS, DecodeOptions, Decoder};
use crate::resize::{CHANNELS, Resizer, Size};
use crate::{Error, Features, ImageError, Options, peak};

mod exceptions {
    pyo3::import_exception!(pomona._errors, ImageError);
    pyo3::import_exception!(pomona._errors, ModelError);
}

/// ONNX Runtime as the wheel carries it, beside the extension.
const RUNTIME: &str = "lib/libonnxruntime.so.1.24.4";

/// Python's signal handlers run at least this often while a batch is worked on.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::InvalidOption { .. } => PyValueError::new_err(message),
            Error::ReadModel { .. }
            | Error::NotOnnx { .. }
            | Error::Contract { .. }
            | Error::Runtime { .. } => exceptions::ModelError::new_err(message),
            Error::LoadRuntime(_) => PyOSError::new_err(message),
            Error::StartRuntime(_) | Error::ForkedWhileBusy => PyRuntimeError::new_err(message),
            Error::Interrupted => PyInterruptedError::new_err(message),
        }
    }
}

fn image_error(index: usize, reason: &ImageError) -> PyErr {
    exceptions::ImageError::new_err((index, reason.to_string()))
}

/// What to do with the images that have no features.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnError {
    Raise,
    Nan,
}

impl FromPyObject<'_, '_> for OnError {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match &*value.extract::<String>()? {
            "raise" => Ok(Self::Raise),
            "nan" => Ok(Self::Nan),
            other => Err(PyValueError::new_err(format!(
                "on_error must be 'raise' or 'nan', not {other:?}"
            ))),
        }
    }
}

#[pyclass(frozen, module = "pomona")]
struct Featurizer(crate::Featurizer);

#[pymethods]
impl Featurizer {
    // The signatures in text give the defaults as numbers; stubtest and a test hold them to it.
    #[new]
    #[pyo3(
        signature = (
            model, *, threads=1, batch_size=Options::DEFAULT_BATCH_SIZE.get(),
            max_pixels=DEFAULT_MAX_PIXELS, apply_exif=false, allow_trailing=false,
        ),
        text_signature = "(model, *, threads=1, batch_size=2, max_pixels=178956970, \
                          apply_exif=False, allow_trailing=False)"
    )]
    fn new(
        model: &Bound<'_, PyAny>,
        threads: usize,
        batch_size: usize,
        max_pixels: u64,
        apply_exif: bool,
        allow_trailing: bool,
    ) -> PyResult<Self> {
        let py = model.py();
        let options = Options {
            threads: positive("threads", threads)?,
            batch_size: positive("batch_size", batch_size)?,
            decode: DecodeOptions {
                max_pixels,
                apply_exif,
                allow_trailing,
            },
        };
        let path: PathBuf = py
            .import("pomona.models")?
            .call_method1("resolve", (model,))?
            .extract()?;
        let package: PathBuf = py
            .import("pomona._native")?
            .getattr("__file__")?
            .extract()?;
        let runtime = package.with_file_name(RUNTIME);
        let featurizer = py.detach(|| crate::Featurizer::open(path, runtime, options))?;
        Ok(Self(featurizer))
    }

    #[pyo3(
        signature = (images, *, on_error=OnError::Raise),
        text_signature = "($self, images, *, on_error='raise')"
    )]
    fn featurize<'py>(
        &self,
        images: &Bound<'py, PyAny>,
        on_error: OnError,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let Features { matrix, errors } = self.run(images)?;
        let first = errors
            .iter()
            .enumerate()
            .find_map(|(i, error)| Some((i, error.as_ref()?)));
        match first {
            Some((index, reason)) if on_error == OnError::Raise => Err(image_error(index, reason)),
            _ => Ok(matrix.into_pyarray(images.py())),
        }
    }

    #[expect(clippy::type_complexity, reason = "the pair that the stub documents")]
    fn try_featurize<'py>(
        &self,
        images: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray2<f32>>, Vec<Option<PyErr>>)> {
        let Features { matrix, errors } = self.run(images)?;
        let errors = errors.iter().enumerate();
        let errors = errors.map(|(index, error)| Some(image_error(index, error.as_ref()?)));
        Ok((matrix.into_pyarray(images.py()), errors.collect()))
    }

    #[getter]
    fn dim(&self) -> usize {
        self.0.contract().dim
    }

    #[getter]
    fn image_size(&self) -> (usize, usize) {
        let Size { width, height } = self.0.contract().size;
        (height, width)
    }

    #[getter]
    fn model_name(&self) -> &str {
        &self.0.contract().name
    }

    #[getter]
    fn model_path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.0
            .contract()
            .path
            .as_os_str()
            .into_pyobject(py)?
            .cast_into()
            .map_err(Into::into)
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        (&self.0.contract().metadata).into_pyobject(py)
    }

    #[getter]
    fn threads(&self) -> usize {
        self.0.options().threads.get()
    }

    /// A copy in another process opens the model there, and starts ONNX Runtime there.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Options {
            threads,
            batch_size,
            decode,
        } = self.0.options();
        let DecodeOptions {
            max_pixels,
            apply_exif,
            allow_trailing,
        } = decode;
        let options = PyDict::new(py);
        options.set_item("threads", threads)?;
        options.set_item("batch_size", batch_size)?;
        options.set_item("max_pixels", max_pixels)?;
        options.set_item("apply_exif", apply_exif)?;
        options.set_item("allow_trailing", allow_trailing)?;
        let open = py
            .import("functools")?
            .getattr("partial")?
            .call((py.get_type::<Self>(),), Some(&options))?;
        (open, (self.model_path(py)?,)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let contract = self.0.contract();
        format!(
            "Featurizer({:?}, threads={}): {} x {} pixels to {} features",
            contract.name,
            self.threads(),
            contract.size.height,
            contract.size.width,
            contract.dim,
        )
    }
}

impl Featurizer {
    fn run(&self, images: &Bound<'_, PyAny>) -> PyResult<Features> {
        let owned = images_of(images)?;
        let mut signal = None;
        let mut checked = Instant::now();
        let features = images.py().detach(|| {
            let images: Vec<_> = owned.iter().map(|image| image.as_deref()).collect();
            self.0.featurize(&images, &mut || {
                if checked.elapsed() < SIGNAL_INTERVAL {
                    return false;
                }
                checked = Instant::now();
                signal = Python::attach(|py| py.check_signals()).err();
                signal.is_some()
            })
        });
        match signal {
            Some(raised) => Err(raised),
            None => Ok(features?),
        }
    }
}

#[pyfunction]
#[pyo3(
    signature = (
        image, *, size=None, max_pixels=DEFAULT_MAX_PIXELS, apply_exif=false,
        allow_trailing=false,
    ),
    text_signature = "(image, *, size=None, max_pixels=178956970, apply_exif=False, \
                      allow_trailing=False)"
)]
fn load_image<'py>(
    image: &Bound<'py, PyAny>,
    size: Option<(usize, usize)>,
    max_pixels: u64,
    apply_exif: bool,
    allow_trailing: bool,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let py = image.py();
    let owned = image_of(image, 0)?;
    let size = size.map(|(height, width)| {
        let [width, height] = [positive("size", width)?, positive("size", height)?];
        PyResult::Ok(Size {
            width: width.get(),
            height: height.get(),
        })
    });
    let size = size.transpose()?;
    let options = DecodeOptions {
        max_pixels,
        apply_exif,
        allow_trailing,
    };
    let (pixels, size) = py
        .detach(|| load(owned.as_deref(), size, options))
        .map_err(|reason| image_error(0, &reason))?;
    let pixels = Array3::from_shape_vec((size.height, size.width, CHANNELS), pixels)
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(pixels.into_pyarray(py))
}

fn load(
    image: Option<&[u8]>,
    size: Option<Size>,
    options: DecodeOptions,
) -> Result<(Vec<u8>, Size), ImageError> {
    let mut decoder = Decoder::new(options);
    let (pixels, from) = decoder.decode(image.ok_or(ImageError::Missing)?)?;
    let Some(size) = size else {
        return Ok((pixels.to_vec(), from));
    };
    let mut resized = vec![0; size.bytes()];
    Resizer::default().resize_into(pixels, from, &mut resized, size);
    Ok((resized, size))
}

#[pyfunction]
fn multiply_adds(py: Python<'_>, threads: usize, seconds: f64) -> PyResult<u64> {
    let threads = positive("threads", threads)?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| Error::InvalidOption {
        name: "seconds",
        expected: "a time",
        found: seconds.to_string(),
    })?;
    Ok(py.detach(|| peak::multiply_adds(threads, duration)))
}

#[pyfunction]
fn vectors() -> &'static str {
    peak::vectors()
}

fn positive(name: &'static str, value: usize) -> Result<NonZeroUsize, Error> {
    NonZeroUsize::new(value).ok_or_else(|| Error::InvalidOption {
        name,
        expected: "at least 1",
        found: value.to_string(),
    })
}

/// The bytes of a batch. A single photo is a mistake worth a sentence: bytes iterate as numbers.
fn images_of(images: &Bound<'_, PyAny>) -> PyResult<Vec<Option<PyBackedBytes>>> {
    if images.is_instance_of::<PyBytes>()
        || images.is_instance_of::<PyByteArray>()
        || images.is_instance_of::<PyMemoryView>()
    {
        return Err(PyTypeError::new_err(
            "featurize takes a batch of images, not one: pass [image]",
        ));
    }
    images
        .try_iter()?
        .enumerate()
        .map(|(index, image)| image_of(&image?, index))
        .collect()
}

fn image_of(image: &Bound<'_, PyAny>, index: usize) -> PyResult<Option<PyBackedBytes>> {
    if image.is_none() {
        return Ok(None);
    }
    if let Ok(bytes) = image.extract() {
        return Ok(Some(bytes));
    }
    // A memoryview, whose buffer the limited API of Python 3.7 can't reach without a copy.
    match image.call_method0("tobytes") {
        Ok(bytes) if bytes.is_instance_of::<PyBytes>() => Ok(Some(bytes.extract()?)),
        _ => Err(PyTypeError::new_err(format!(
            "image {index} must be bytes or None, not {}",
            image.get_type().name()?,
        ))),
    }
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{Featurizer, load_image, multiply_adds, vectors};
    use numpy::PyArray2;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // The bridge to numpy is built on first use, by Python code in which a signal's handler may
        // raise; the bridge panics then. Built here, it can't be in the middle of a batch.
        let py = module.py();
        py.import("numpy")?;
        PyArray2::<f32>::zeros(py, [0, 0], false);
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
