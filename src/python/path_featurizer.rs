//! `PathFeaturizer`: paths of photos to features, reading ahead.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;

use super::arguments::{self, positive, seconds, settings};
use super::featurizer::PyFeaturizer;
use super::{featurized_batch, interruptible};
use crate::PathFeaturizer;
use crate::storage::ReadOptions;

#[doc = docstring!(PathFeaturizer)]
#[pyclass(name = "PathFeaturizer", module = "pomona._native")]
pub(super) struct PyPathFeaturizer(PathFeaturizer);

#[pymethods]
impl PyPathFeaturizer {
    #[new]
    #[pyo3(
        signature = (
            featurizer, *, concurrency=ReadOptions::DEFAULT_CONCURRENCY.get() as i64,
            max_bytes_in_flight=ReadOptions::DEFAULT_MAX_BYTES_IN_FLIGHT.get() as i64,
            timeout=ReadOptions::DEFAULT_TIMEOUT.as_secs_f64(), storage=HashMap::new(),
        ),
        text_signature = "(featurizer, *, concurrency=32, max_bytes_in_flight=134217728, \
                          timeout=60.0, storage={})"
    )]
    fn new(
        py: Python<'_>,
        featurizer: &PyFeaturizer,
        concurrency: i64,
        max_bytes_in_flight: i64,
        timeout: f64,
        storage: HashMap<String, HashMap<String, String>>,
    ) -> PyResult<Self> {
        let options = ReadOptions {
            concurrency: positive("concurrency", concurrency)?,
            max_bytes_in_flight: positive("max_bytes_in_flight", max_bytes_in_flight)?,
            timeout: seconds("timeout", timeout)?,
        };
        let settings = settings(storage)?;
        let featurizer = Arc::clone(&featurizer.0);

        let featurizer = py.detach(|| PathFeaturizer::new(featurizer, settings, options))?;

        Ok(Self(featurizer))
    }

    #[doc = docstring!(PathFeaturizer.submit)]
    fn submit(&mut self, py: Python<'_>, paths: &Bound<'_, PyAny>) -> PyResult<()> {
        let paths = arguments::paths(paths)?;
        Ok(py.detach(|| self.0.submit(paths))?)
    }

    #[doc = docstring!(PathFeaturizer.next)]
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let features = interruptible(py, |interrupted| self.0.next(interrupted))?;
        features
            .map(|features| featurized_batch(py, features))
            .transpose()
    }
}
