//! Arguments of Python as owned values of the core, checked.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

use pyo3::exceptions::{PyDeprecationWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::decode::{DecodeMode, DecodeOptions};
use crate::resize::Size;
use crate::storage::{Credentials, S3Settings, Settings};
use crate::{Error, Result};

/// What to do with images that can't be decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnError {
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

/// Python code for arguments that have none of the usual types.
fn fallback<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
    py.import("pomona._arguments")
}

/// The items of an iterable, which `check` of [`fallback`] refuses if they would not be what was
/// meant: bytes, for example, iterate as numbers.
fn items<'py, T>(
    iterable: &Bound<'py, PyAny>,
    check: &str,
    item: impl Fn(&Bound<'py, PyAny>, usize) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    if !iterable.is_instance_of::<PyList>() && !iterable.is_instance_of::<PyTuple>() {
        fallback(iterable.py())?.call_method1(check, (iterable,))?;
    }
    let items = iterable.try_iter()?.enumerate();
    items.map(|(index, value)| item(&value?, index)).collect()
}

/// The bytes of a batch.
pub(super) fn images(images: &Bound<'_, PyAny>) -> PyResult<Vec<Option<PyBackedBytes>>> {
    items(images, "check_images", image)
}

/// The paths of a submission.
pub(super) fn paths(paths: &Bound<'_, PyAny>) -> PyResult<Vec<Option<String>>> {
    items(paths, "check_paths", |path, index| {
        if path.is_none() || path.is_instance_of::<PyString>() {
            return path.extract();
        }
        let text = fallback(path.py())?.call_method1("path_text", (path, index))?;
        text.extract()
    })
}

pub(super) fn image(image: &Bound<'_, PyAny>, index: usize) -> PyResult<Option<PyBackedBytes>> {
    if image.is_none() {
        return Ok(None);
    }
    if let Ok(bytes) = image.extract() {
        return Ok(Some(bytes));
    }
    // Such as a memoryview: the limited API of Python 3.7 can't read its buffer without a copy.
    let bytes = fallback(image.py())?.call_method1("image_bytes", (image, index))?;
    Ok(bytes.extract()?)
}

/// Refuses keyword arguments that the function does not have.
pub(super) fn refuse_unknown(function: &str, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    if let Some(keywords) = keywords {
        fallback(keywords.py())?.call_method1("refuse_unknown", (function, keywords))?;
    }
    Ok(())
}

impl FromPyObject<'_, '_> for DecodeMode {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match &*value.extract::<String>()? {
            "exact" => Ok(Self::Exact),
            "fast" => Ok(Self::Fast),
            other => Err(PyValueError::new_err(format!(
                "decode must be 'exact' or 'fast', not {other:?}"
            ))),
        }
    }
}

/// The value from which [`DecodeMode`] is extracted.
pub(super) fn mode_name(mode: DecodeMode) -> &'static str {
    match mode {
        DecodeMode::Exact => "exact",
        DecodeMode::Fast => "fast",
    }
}

pub(super) fn decode_options(
    apply_exif: bool,
    strict: bool,
    max_pixels: i64,
    mode: DecodeMode,
) -> Result<DecodeOptions> {
    Ok(DecodeOptions {
        max_pixels: natural("max_pixels", max_pixels)?,
        apply_exif,
        strict,
        mode,
    })
}

/// Warns of an option that does nothing since 0.2.0.
pub(super) fn ignore_allow_trailing(py: Python<'_>, given: Option<bool>) -> PyResult<()> {
    if given.is_none() {
        return Ok(());
    }
    let message = c"allow_trailing is deprecated and ignored: bytes after an image are accepted";
    PyErr::warn(py, &py.get_type::<PyDeprecationWarning>(), message, 1)
}

/// Settings of S3 by bucket; those of `""` are for every other bucket.
pub(super) fn settings(storage: HashMap<String, HashMap<String, String>>) -> Result<Settings> {
    let mut settings = Settings::default();
    for (bucket, values) in storage {
        let values = s3_settings(values)?;
        match &*bucket {
            "" => settings.default = values,
            _ => drop(settings.buckets.insert(bucket, values)),
        }
    }
    Ok(settings)
}

fn s3_settings(values: HashMap<String, String>) -> Result<S3Settings> {
    let mut settings = S3Settings::default();
    for (name, value) in values {
        match &*name {
            "endpoint" => settings.endpoint = Some(value),
            "region" => settings.region = Some(value),
            "path_style" => settings.path_style = value == "true",
            "credentials" => settings.credentials = credentials(value)?,
            "access_key" => settings.access_key = Some(value),
            "secret_key" => settings.secret_key = Some(value),
            "session_token" => settings.session_token = Some(value),
            _ => return Err(invalid("storage", "settings of S3", name)),
        }
    }
    Ok(settings)
}

fn credentials(value: String) -> Result<Credentials> {
    Ok(match &*value {
        "chain" => Credentials::Chain,
        "keys" => Credentials::Keys,
        "anonymous" => Credentials::Anonymous,
        "environment" => Credentials::Environment,
        "instance" => Credentials::Instance,
        _ => {
            let expected = "chain, keys, anonymous, environment or instance";
            return Err(invalid("credentials", expected, value));
        }
    })
}

pub(super) fn seconds(name: &'static str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| invalid(name, "a time", value))
}

/// A number above 0, as whichever of Rust's non-zero types.
pub(super) fn positive<T: TryFrom<NonZeroU64>>(name: &'static str, value: i64) -> Result<T> {
    let positive = u64::try_from(value).ok().and_then(NonZeroU64::new);
    let positive = positive.and_then(|value| T::try_from(value).ok());
    positive.ok_or_else(|| invalid(name, "at least 1", value))
}

fn natural(name: &'static str, value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| invalid(name, "at least 0", value))
}

pub(super) fn size(size: &Bound<'_, PyAny>) -> PyResult<Size> {
    let Ok((height, width)) = size.extract::<(i64, i64)>() else {
        return Err(PyTypeError::new_err(format!(
            "size must be a pair of integers, (height, width), not {}",
            size.repr()?
        )));
    };
    // A JPEG has at most so many.
    let side = |value| match u16::try_from(value) {
        Ok(side @ 1..) => Ok(side.into()),
        _ => Err(invalid("size", "1 to 65,535 pixels high and wide", value)),
    };
    Ok(Size {
        width: side(width)?,
        height: side(height)?,
    })
}

fn invalid(name: &'static str, expected: &'static str, found: impl ToString) -> Error {
    Error::InvalidOption {
        name,
        expected,
        found: found.to_string(),
    }
}
