//! `list_folders`: folders of S3.

use std::collections::HashMap;

use pyo3::prelude::*;

use super::arguments::{positive, seconds, settings};
use super::interruptible;
use crate::storage::{self, Listing, ReadOptions};

/// The files with their lengths and times, and the folders, as in the stub.
type FilesAndFolders = (Vec<(String, u64, i64)>, Vec<String>);

#[doc = docstring!(list_folders)]
#[pyfunction]
#[pyo3(
    signature = (
        folders, *, concurrency=ReadOptions::DEFAULT_CONCURRENCY.get() as i64,
        timeout=ReadOptions::DEFAULT_TIMEOUT.as_secs_f64(), storage=HashMap::new(),
    ),
    text_signature = "(folders, *, concurrency=32, timeout=60.0, storage={})"
)]
pub(super) fn list_folders(
    py: Python<'_>,
    folders: Vec<String>,
    concurrency: i64,
    timeout: f64,
    storage: HashMap<String, HashMap<String, String>>,
) -> PyResult<Vec<Option<FilesAndFolders>>> {
    let settings = settings(storage)?;
    let options = ReadOptions {
        concurrency: positive("concurrency", concurrency)?,
        timeout: seconds("timeout", timeout)?,
        ..ReadOptions::default()
    };

    let listings = interruptible(py, |interrupted| {
        storage::list_folders(&folders, &settings, options, interrupted)
    })?;

    let listings = listings.into_iter().map(|listing| {
        let Listing { files, folders } = listing?;
        let files = files.into_iter();
        let files = files.map(|file| (file.path, file.length, file.modified));
        Some((files.collect(), folders))
    });
    Ok(listings.collect())
}
