//! `load_image`: one image to pixels.

use ndarray::Array3;
use numpy::{IntoPyArray, PyArray3};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{self, decode_options};
use super::errors::{image_error, warn_of};
use crate::ImageError;
use crate::decode::{
    DEFAULT_MAX_PIXELS, DecodeMode, DecodeOptions, Decoded, Decoder, Notes, allocate,
};
use crate::resize::{CHANNELS, Resizer, Size};

#[doc = docstring!(load_image)]
#[expect(clippy::too_many_arguments, reason = "they are keyword arguments")]
#[pyfunction]
#[pyo3(
    signature = (
        image, *, size=None, apply_exif=false, strict=false,
        max_pixels=DEFAULT_MAX_PIXELS as i64, decode=DecodeMode::Exact, allow_trailing=None,
        **unknown,
    ),
    text_signature = "(image, *, size=None, apply_exif=False, strict=False, \
                      max_pixels=178956970, decode='exact', allow_trailing=None)"
)]
pub(super) fn load_image<'py>(
    image: &Bound<'py, PyAny>,
    size: Option<&Bound<'py, PyAny>>,
    apply_exif: bool,
    strict: bool,
    max_pixels: i64,
    decode: DecodeMode,
    allow_trailing: Option<bool>,
    unknown: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let py = image.py();
    arguments::refuse_unknown("load_image", unknown)?;
    arguments::ignore_allow_trailing(py, allow_trailing)?;
    let owned = arguments::image(image, 0)?;
    let size = size.map(arguments::size).transpose()?;
    let options = decode_options(apply_exif, strict, max_pixels, decode)?;

    let loaded = py.detach(|| load(owned.as_deref(), size, options));

    let (pixels, size, notes) = loaded.map_err(|reason| image_error(0, &reason))?;
    warn_of(py, &[notes])?;
    let pixels = Array3::from_shape_vec((size.height, size.width, CHANNELS), pixels)
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(pixels.into_pyarray(py))
}

fn load(
    image: Option<&[u8]>,
    size: Option<Size>,
    options: DecodeOptions,
) -> Result<(Vec<u8>, Size, Notes), ImageError> {
    let mut decoder = Decoder::new(options);
    let Decoded {
        pixels,
        size: from,
        notes,
    } = decoder.decode(image.ok_or(ImageError::Missing)?, size)?;
    let Some(size) = size else {
        return Ok((pixels.to_vec(), from, notes));
    };
    let mut resized = Vec::new();
    allocate(&mut resized, size.bytes(), size)?;
    Resizer::default().resize_into(pixels, from, &mut resized, size);
    Ok((resized, size, notes))
}
