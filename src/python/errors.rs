//! Python exceptions of the core's errors: the nearest built-in one, or one of Pomona's own.

use std::ffi::CString;

use pyo3::exceptions::{PyInterruptedError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::decode::Notes;
use crate::{Error, ImageError};

mod exceptions {
    pyo3::import_exception!(pomona._errors, ImageError);
    pyo3::import_exception!(pomona._errors, ImageWarning);
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

/// Issues a Python warning for each image that has one, where the result can't carry them.
pub(super) fn warn_of(py: Python<'_>, notes: &[Notes]) -> PyResult<()> {
    for (index, notes) in notes.iter().enumerate() {
        if let Some(warning) = &notes.warning {
            let message = CString::new(format!("image {index}: {warning}"))?;
            PyErr::warn(py, &py.get_type::<exceptions::ImageWarning>(), &message, 1)?;
        }
    }
    Ok(())
}

/// An exception or None for each image.
pub(super) fn image_errors(errors: &[Option<ImageError>]) -> Vec<Option<PyErr>> {
    let errors = errors.iter().enumerate();
    let errors = errors.map(|(index, error)| Some(image_error(index, error.as_ref()?)));
    errors.collect()
}
