//! Photos on the local disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

use super::budget::{ByteBudget, Photo};
use super::retry::StoreError;
use crate::ImageError;

/// Reads a file, once the budget has room for it.
pub(crate) async fn read(path: PathBuf, budget: &ByteBudget) -> Result<Photo, StoreError> {
    let opened = blocking(move || {
        // Opening a pipe waits for a writer, and a device may be endless.
        if !fs::metadata(&path)?.is_file() {
            return Ok(None);
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Some((file, bytes)))
    })
    .await?;
    let (mut file, bytes) = opened.ok_or(StoreError::Photo(ImageError::NotAFile))?;
    let mut photo = budget.allocate(bytes).await.map_err(StoreError::Photo)?;
    blocking(move || {
        // The budget has no room for what is written to the file meanwhile.
        file.by_ref().take(bytes).read_to_end(&mut photo.bytes)?;
        Ok(photo)
    })
    .await
}

/// Runs a call that may wait for a disk on one of the threads for that.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let result = tokio::task::spawn_blocking(call).await;
    result
        .map_err(|error| StoreError::Refused(error.to_string()))?
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::Photo(ImageError::Gone),
            _ => StoreError::Refused(error.to_string()),
        })
}
