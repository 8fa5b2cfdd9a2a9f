//! `Featurizer`: encoded images to features.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::arguments::{self, OnError, decode_options, mode_name, positive};
use super::errors::{image_error, warn_of};
use super::{featurized_batch, interruptible};
use crate::decode::{DEFAULT_MAX_PIXELS, DecodeMode, DecodeOptions};
use crate::resize::Size;
use crate::{Features, Featurizer, Options};

/// ONNX Runtime in the wheel, relative to the extension.
const RUNTIME: &str = "lib/libonnxruntime.so.1.24.4";

#[doc = docstring!(Featurizer)]
#[pyclass(frozen, name = "Featurizer", module = "pomona")]
pub(super) struct PyFeaturizer(pub(super) Arc<Featurizer>);

#[pymethods]
impl PyFeaturizer {
    // The text signatures repeat the defaults as literals; stubtest and a test compare them.
    #[new]
    #[pyo3(
        signature = (
            model, *, threads=1, batch_size=Options::DEFAULT_BATCH_SIZE.get() as i64,
            apply_exif=false, strict=false, max_pixels=DEFAULT_MAX_PIXELS as i64,
            decode=DecodeMode::Exact, allow_trailing=None, **unknown,
        ),
        text_signature = "(model, *, threads=1, batch_size=2, apply_exif=False, strict=False, \
                          max_pixels=178956970, decode='exact', allow_trailing=None)"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are keyword arguments")]
    fn new(
        model: &Bound<'_, PyAny>,
        threads: i64,
        batch_size: i64,
        apply_exif: bool,
        strict: bool,
        max_pixels: i64,
        decode: DecodeMode,
        allow_trailing: Option<bool>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = model.py();
        arguments::refuse_unknown("Featurizer", unknown)?;
        arguments::ignore_allow_trailing(py, allow_trailing)?;
        let options = Options {
            threads: positive("threads", threads)?,
            batch_size: positive("batch_size", batch_size)?,
            decode: decode_options(apply_exif, strict, max_pixels, decode)?,
        };
        let models = py.import("pomona.models")?;
        let path: PathBuf = models.call_method1("resolve", (model,))?.extract()?;
        let extension = py.import("pomona._native")?.getattr("__file__")?;
        let runtime = extension.extract::<PathBuf>()?.with_file_name(RUNTIME);

        let featurizer = py.detach(|| Featurizer::open(path, runtime, options))?;

        Ok(Self(Arc::new(featurizer)))
    }

    #[doc = docstring!(Featurizer.featurize)]
    #[pyo3(
        signature = (images, *, on_error=OnError::Raise),
        text_signature = "($self, images, *, on_error='raise')"
    )]
    fn featurize<'py>(
        &self,
        images: &Bound<'py, PyAny>,
        on_error: OnError,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let py = images.py();
        let Features {
            matrix,
            errors,
            notes,
        } = self.run(images)?;
        let mut errors = errors.iter().enumerate();
        match errors.find_map(|(index, error)| Some((index, error.as_ref()?))) {
            Some((index, reason)) if on_error == OnError::Raise => {
                return Err(image_error(index, reason));
            }
            _ => warn_of(py, &notes)?,
        }
        Ok(matrix.into_pyarray(py))
    }

    #[doc = docstring!(Featurizer.try_featurize)]
    fn try_featurize<'py>(&self, images: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        featurized_batch(images.py(), self.run(images)?)
    }

    #[doc = docstring!(Featurizer.dim)]
    #[getter]
    fn dim(&self) -> usize {
        self.0.contract().dim
    }

    #[doc = docstring!(Featurizer.image_size)]
    #[getter]
    fn image_size(&self) -> (usize, usize) {
        let Size { width, height } = self.0.contract().size;
        (height, width)
    }

    #[doc = docstring!(Featurizer.model_name)]
    #[getter]
    fn model_name(&self) -> &str {
        &self.0.contract().name
    }

    #[doc = docstring!(Featurizer.model_path)]
    #[getter]
    fn model_path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let path = self.0.contract().path.as_os_str().into_pyobject(py)?;
        Ok(path.cast_into()?)
    }

    #[doc = docstring!(Featurizer.metadata)]
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        (&self.0.contract().metadata).into_pyobject(py)
    }

    #[doc = docstring!(Featurizer.threads)]
    #[getter]
    fn threads(&self) -> usize {
        self.0.options().threads.get()
    }

    /// A copy in another process opens the model and starts ONNX Runtime there.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Options {
            threads,
            batch_size,
            decode,
        } = self.0.options();
        let DecodeOptions {
            max_pixels,
            apply_exif,
            strict,
            mode,
        } = decode;
        let options = PyDict::new(py);
        options.set_item("threads", threads)?;
        options.set_item("batch_size", batch_size)?;
        options.set_item("apply_exif", apply_exif)?;
        options.set_item("strict", strict)?;
        options.set_item("max_pixels", max_pixels)?;
        options.set_item("decode", mode_name(mode))?;
        let partial = py.import("functools")?.getattr("partial")?;
        let open = partial.call((py.get_type::<Self>(),), Some(&options))?;
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

impl PyFeaturizer {
    fn run(&self, images: &Bound<'_, PyAny>) -> PyResult<Features> {
        let owned = arguments::images(images)?;
        interruptible(images.py(), |interrupted| {
            let images: Vec<_> = owned.iter().map(|image| image.as_deref()).collect();
            self.0.featurize(&images, interrupted)
        })
    }
}
