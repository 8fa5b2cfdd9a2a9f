//! The Python extension `pomona._native`, and the only module that knows Python.
//!
//! Each binding takes owned arguments, detaches from the interpreter to call the core, and wraps the
//! result. Its documentation is `python/pomona/_native.pyi`, which `docs` has for Python's `help`.

mod arguments;
#[macro_use]
mod docs;
mod errors;
mod featurizer;
mod image;
mod listing;
mod path_featurizer;
mod peak;

use std::time::{Duration, Instant};

use numpy::IntoPyArray;
use pyo3::prelude::*;

use self::errors::image_errors;
use crate::Features;

/// How often Python's signal handlers run during a call, at least.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The `FeaturizedBatch` of features.
fn featurized_batch<'py>(py: Python<'py>, features: Features) -> PyResult<Bound<'py, PyAny>> {
    let Features {
        matrix,
        errors,
        notes,
    } = features;
    let (warnings, orientations): (Vec<_>, Vec<_>) = notes
        .into_iter()
        .map(|notes| (notes.warning, notes.orientation))
        .unzip();
    let matrix = matrix.into_pyarray(py);
    let class = py.import("pomona._batch")?.getattr("FeaturizedBatch")?;
    class.call1((matrix, image_errors(&errors), warnings, orientations))
}

/// Calls the core while detached from the interpreter, except to run signal handlers now and then.
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

#[pymodule]
mod _native {
    use numpy::PyArray2;
    use pyo3::prelude::*;

    use crate::decode::DEFAULT_MAX_PIXELS;

    #[pymodule_export]
    use super::featurizer::PyFeaturizer;
    #[pymodule_export]
    use super::image::load_image;
    #[pymodule_export]
    use super::listing::list_folders;
    #[pymodule_export]
    use super::path_featurizer::PyPathFeaturizer;
    #[pymodule_export]
    use super::peak::{multiply_adds, vectors};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // numpy's bridge is built on first use, by Python code that a signal handler may interrupt
        // by raising, and then it panics. Here it can't happen in the middle of a batch.
        let py = module.py();
        py.import("numpy")?;
        PyArray2::<f32>::zeros(py, [0, 0], false);
        module.add("MAX_PIXELS", DEFAULT_MAX_PIXELS)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
