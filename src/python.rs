//! The Python extension `pomona._native`: classes, the GIL, exceptions. No other file knows Python.
//!
//! The documented contract of what stands here is `python/pomona/_native.pyi`.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array3;
use numpy::{IntoPyArray, PyArray2, PyArray3};
use pyo3::exceptions::{PyInterruptedError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString, PyTuple};

use crate::decode::{DEFAULT_MAX_PIXELS, DecodeOptions, Decoder, make_room};
use crate::resize::{CHANNELS, Resizer, Size};
use crate::storage::{self, Credentials, Limits, S3Settings, Settings};
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
            Error::InvalidOption { .. } | Error::Path { .. } => PyValueError::new_err(message),
            Error::ReadModel { .. }
            | Error::NotOnnx { .. }
            | Error::Contract { .. }
            | Error::Runtime { .. } => exceptions::ModelError::new_err(message),
            Error::LoadRuntime(_) | Error::Storage(_) | Error::StartReading(_) => {
                PyOSError::new_err(message)
            }
            Error::StartRuntime(_) | Error::ForkedWhileBusy | Error::ForkedWhileReading => {
                PyRuntimeError::new_err(message)
            }
            Error::Interrupted => PyInterruptedError::new_err(message),
        }
    }
}

fn image_error(index: usize, reason: &ImageError) -> PyErr {
    exceptions::ImageError::new_err((index, reason.to_string(), reason.kind().as_str()))
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
struct Featurizer(Arc<crate::Featurizer>);

#[pymethods]
impl Featurizer {
    // The signatures in text give the defaults as numbers; stubtest and a test hold them to it.
    #[new]
    #[pyo3(
        signature = (
            model, *, threads=1, batch_size=Options::DEFAULT_BATCH_SIZE.get() as i64,
            max_pixels=DEFAULT_MAX_PIXELS as i64, apply_exif=false, allow_trailing=false,
        ),
        text_signature = "(model, *, threads=1, batch_size=2, max_pixels=178956970, \
                          apply_exif=False, allow_trailing=False)"
    )]
    fn new(
        model: &Bound<'_, PyAny>,
        threads: i64,
        batch_size: i64,
        max_pixels: i64,
        apply_exif: bool,
        allow_trailing: bool,
    ) -> PyResult<Self> {
        let py = model.py();
        let options = Options {
            threads: positive("threads", threads)?,
            batch_size: positive("batch_size", batch_size)?,
            decode: DecodeOptions {
                max_pixels: natural("max_pixels", max_pixels)?,
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
        Ok(Self(Arc::new(featurizer)))
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
        Ok(with_errors(images.py(), self.run(images)?))
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
        interruptible(images.py(), |interrupted| {
            let images: Vec<_> = owned.iter().map(|image| image.as_deref()).collect();
            self.0.featurize(&images, interrupted)
        })
    }
}

/// Runs a call without the GIL, and asks Python now and then whether a signal has come.
fn interruptible<T: Send>(
    py: Python<'_>,
    call: impl FnOnce(&mut dyn FnMut() -> bool) -> crate::Result<T> + Send,
) -> PyResult<T> {
    let mut signal = None;
    let mut checked = Instant::now();
    let result = py.detach(|| {
        call(&mut || {
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
        None => Ok(result?),
    }
}

#[pyclass(module = "pomona._native")]
struct PathFeaturizer(crate::PathFeaturizer);

#[pymethods]
impl PathFeaturizer {
    #[new]
    #[pyo3(
        signature = (
            featurizer, *, concurrency=Limits::DEFAULT_CONCURRENCY.get() as i64,
            max_bytes_in_flight=Limits::DEFAULT_MAX_BYTES_IN_FLIGHT.get() as i64,
            timeout=Limits::DEFAULT_TIMEOUT.as_secs_f64(), storage=HashMap::new(),
        ),
        text_signature = "(featurizer, *, concurrency=32, max_bytes_in_flight=134217728, \
                          timeout=60.0, storage={})"
    )]
    fn new(
        py: Python<'_>,
        featurizer: &Featurizer,
        concurrency: i64,
        max_bytes_in_flight: i64,
        timeout: f64,
        storage: HashMap<String, HashMap<String, String>>,
    ) -> PyResult<Self> {
        let limits = Limits {
            concurrency: positive("concurrency", concurrency)?,
            max_bytes_in_flight: positive("max_bytes_in_flight", max_bytes_in_flight)?,
            timeout: seconds("timeout", timeout)?,
        };
        let settings = settings(storage)?;
        let featurizer = Arc::clone(&featurizer.0);
        let stream = py.detach(|| crate::PathFeaturizer::new(featurizer, settings, limits))?;
        Ok(Self(stream))
    }

    fn submit(&mut self, py: Python<'_>, paths: &Bound<'_, PyAny>) -> PyResult<()> {
        if paths.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "submit takes paths of photos, not one: pass [path]",
            ));
        }
        let paths = paths
            .try_iter()?
            .map(|path| path?.extract())
            .collect::<PyResult<Vec<Option<String>>>>()?;
        Ok(py.detach(|| self.0.submit(paths))?)
    }

    #[expect(clippy::type_complexity, reason = "the pair that the stub documents")]
    fn next<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<Option<(Bound<'py, PyArray2<f32>>, Vec<Option<PyErr>>)>> {
        let features = interruptible(py, |interrupted| self.0.next(interrupted))?;
        Ok(features.map(|features| with_errors(py, features)))
    }
}

/// What the stub documents of a folder: files with their lengths and times, and folders.
type Listing = (Vec<(String, u64, i64)>, Vec<String>);

#[pyfunction]
#[pyo3(
    signature = (
        folders, *, concurrency=Limits::DEFAULT_CONCURRENCY.get() as i64,
        timeout=Limits::DEFAULT_TIMEOUT.as_secs_f64(), storage=HashMap::new(),
    ),
    text_signature = "(folders, *, concurrency=32, timeout=60.0, storage={})"
)]
fn list_folders(
    py: Python<'_>,
    folders: Vec<String>,
    concurrency: i64,
    timeout: f64,
    storage: HashMap<String, HashMap<String, String>>,
) -> PyResult<Vec<Option<Listing>>> {
    let settings = settings(storage)?;
    let limits = Limits {
        concurrency: positive("concurrency", concurrency)?,
        timeout: seconds("timeout", timeout)?,
        ..Limits::default()
    };
    let listings = interruptible(py, |interrupted| {
        storage::list_folders(&folders, &settings, limits, interrupted)
    })?;
    let listings = listings.into_iter().map(|listing| {
        let storage::Listing { files, folders } = listing?;
        let files = files.into_iter();
        let files = files.map(|file| (file.path, file.length, file.modified));
        Some((files.collect(), folders))
    });
    Ok(listings.collect())
}

/// The settings of all buckets; those by the name of "" are of every other one.
fn settings(storage: HashMap<String, HashMap<String, String>>) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for (bucket, options) in storage {
        let of_bucket = s3_settings(options)?;
        match &*bucket {
            "" => settings.default = of_bucket,
            _ => drop(settings.buckets.insert(bucket, of_bucket)),
        }
    }
    Ok(settings)
}

fn s3_settings(options: HashMap<String, String>) -> Result<S3Settings, Error> {
    let mut settings = S3Settings::default();
    for (name, value) in options {
        match &*name {
            "endpoint" => settings.endpoint = Some(value),
            "region" => settings.region = Some(value),
            "path_style" => settings.path_style = value == "true",
            "credentials" => settings.credentials = credentials(value)?,
            "access_key" => settings.access_key = Some(value),
            "secret_key" => settings.secret_key = Some(value),
            "session_token" => settings.session_token = Some(value),
            _ => {
                return Err(Error::InvalidOption {
                    name: "storage",
                    expected: "settings of S3",
                    found: name,
                });
            }
        }
    }
    Ok(settings)
}

fn credentials(value: String) -> Result<Credentials, Error> {
    Ok(match &*value {
        "chain" => Credentials::Chain,
        "keys" => Credentials::Keys,
        "anonymous" => Credentials::Anonymous,
        "environment" => Credentials::Environment,
        "instance" => Credentials::Instance,
        _ => {
            return Err(Error::InvalidOption {
                name: "credentials",
                expected: "chain, keys, anonymous, environment or instance",
                found: value,
            });
        }
    })
}

/// Features as Python has them.
fn with_errors<'py>(
    py: Python<'py>,
    features: Features,
) -> (Bound<'py, PyArray2<f32>>, Vec<Option<PyErr>>) {
    let Features { matrix, errors } = features;
    let errors = errors.iter().enumerate();
    let errors = errors.map(|(index, error)| Some(image_error(index, error.as_ref()?)));
    (matrix.into_pyarray(py), errors.collect())
}

#[pyfunction]
#[pyo3(
    signature = (
        image, *, size=None, max_pixels=DEFAULT_MAX_PIXELS as i64, apply_exif=false,
        allow_trailing=false,
    ),
    text_signature = "(image, *, size=None, max_pixels=178956970, apply_exif=False, \
                      allow_trailing=False)"
)]
fn load_image<'py>(
    image: &Bound<'py, PyAny>,
    size: Option<(i64, i64)>,
    max_pixels: i64,
    apply_exif: bool,
    allow_trailing: bool,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let py = image.py();
    let owned = image_of(image, 0)?;
    let size = size.map(|(height, width)| {
        PyResult::Ok(Size {
            width: side(width)?,
            height: side(height)?,
        })
    });
    let size = size.transpose()?;
    let options = DecodeOptions {
        max_pixels: natural("max_pixels", max_pixels)?,
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
    let mut resized = Vec::new();
    make_room(&mut resized, size.bytes(), size)?;
    Resizer::default().resize_into(pixels, from, &mut resized, size);
    Ok((resized, size))
}

#[pyfunction]
fn multiply_adds(py: Python<'_>, threads: i64, seconds: f64) -> PyResult<u64> {
    let threads = positive("threads", threads)?;
    let duration = self::seconds("seconds", seconds)?;
    Ok(py.detach(|| peak::multiply_adds(threads, duration)))
}

#[pyfunction]
fn vectors() -> &'static str {
    peak::vectors()
}

fn seconds(name: &'static str, value: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(value).map_err(|_| Error::InvalidOption {
        name,
        expected: "a time",
        found: value.to_string(),
    })
}

/// A number above 0, in whichever of Rust's types for these.
fn positive<T: TryFrom<NonZeroU64>>(name: &'static str, value: i64) -> Result<T, Error> {
    let positive = u64::try_from(value).ok().and_then(NonZeroU64::new);
    let positive = positive.and_then(|value| T::try_from(value).ok());
    positive.ok_or_else(|| Error::InvalidOption {
        name,
        expected: "at least 1",
        found: value.to_string(),
    })
}

fn natural(name: &'static str, value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::InvalidOption {
        name,
        expected: "at least 0",
        found: value.to_string(),
    })
}

/// Pixels of one side of an image, as many as a JPEG can have.
fn side(value: i64) -> Result<usize, Error> {
    let side = u16::try_from(value).ok().filter(|&side| side > 0);
    side.map(usize::from).ok_or_else(|| Error::InvalidOption {
        name: "size",
        expected: "1 to 65,535 pixels high and wide",
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
    use super::{Featurizer, PathFeaturizer, list_folders, load_image, multiply_adds, vectors};
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
