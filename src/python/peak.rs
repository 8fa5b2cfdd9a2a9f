//! `multiply_adds` and `vectors`: the peak of the CPU.

use pyo3::prelude::*;

use super::{arguments, interruptible};
use crate::peak;

#[doc = docstring!(multiply_adds)]
#[pyfunction]
pub(super) fn multiply_adds(py: Python<'_>, threads: i64, seconds: f64) -> PyResult<u64> {
    let threads = arguments::positive("threads", threads)?;
    let duration = arguments::seconds("seconds", seconds)?;
    interruptible(py, |interrupted| {
        peak::multiply_adds(threads, duration, interrupted)
    })
}

#[doc = docstring!(vectors)]
#[pyfunction]
pub(super) fn vectors() -> &'static str {
    peak::vectors()
}
