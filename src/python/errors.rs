//! Python exceptions of the core's errors: the nearest built-in one, or one of Pomona's own.

use pyo3::PyErr;
use pyo3::exceptions::{PyInterruptedError, PyOSError, PyRuntimeError, PyValueError};

use crate::{Error, ImageError};

mod exceptions {
    pyo3::import_exception!(pomona._errors, ImageError);
    pyo3::import_exception!(pomona._errors, ModelError);
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::InvalidOption { .. } | Error::Path { .. } => PyValueError::new_err(message),
            Error::ReadModel { .. }
            | Error::NotOnnx { .. }
            | Error::Contract { .. }
            | Error::Runtime { .. } => exceptions::ModelError::new_err(message),
            Error::LoadRuntime(_)
            | Error::StartThreads(_)
            | Error::StartReading(_)
            | Error::Storage(_) => PyOSError::new_err(message),
            Error::StartRuntime(_)
            | Error::ForkedWhileBusy
            | Error::ForkedWhileStarting(_)
            | Error::ForkedWhileReading => PyRuntimeError::new_err(message),
            Error::Interrupted => PyInterruptedError::new_err(message),
        }
    }
}

pub(super) fn image_error(index: usize, reason: &ImageError) -> PyErr {
    exceptions::ImageError::new_err((index, reason.to_string(), reason.kind().as_str()))
}

/// An exception or None for each image.
pub(super) fn image_errors(errors: &[Option<ImageError>]) -> Vec<Option<PyErr>> {
    let errors = errors.iter().enumerate();
    let errors = errors.map(|(index, error)| Some(image_error(index, error.as_ref()?)));
    errors.collect()
}
