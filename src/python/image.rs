//! `load_image`: one image to pixels.

use ndarray::Array3;
use numpy::{IntoPyArray, PyArray3};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::arguments::{self, decode_options};
use super::errors::image_error;
use crate::ImageError;
use crate::decode::{DEFAULT_MAX_PIXELS, DecodeOptions, Decoder, allocate};
use crate::resize::{CHANNELS, Resizer, Size};

#[pyfunction]
#[pyo3(
    signature = (
        image, *, size=None, max_pixels=DEFAULT_MAX_PIXELS as i64, apply_exif=false,
        allow_trailing=false,
    ),
    text_signature = "(image, *, size=None, max_pixels=178956970, apply_exif=False, \
                      allow_trailing=False)"
)]
pub(super) fn load_image<'py>(
    image: &Bound<'py, PyAny>,
    size: Option<(i64, i64)>,
    max_pixels: i64,
    apply_exif: bool,
    allow_trailing: bool,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let py = image.py();
    let owned = arguments::image(image, 0)?;
    let size = size.map(arguments::size).transpose()?;
    let options = decode_options(max_pixels, apply_exif, allow_trailing)?;

    let loaded = py.detach(|| load(owned.as_deref(), size, options));

    let (pixels, size) = loaded.map_err(|reason| image_error(0, &reason))?;
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
    allocate(&mut resized, size.bytes(), size)?;
    Resizer::default().resize_into(pixels, from, &mut resized, size);
    Ok((resized, size))
}
