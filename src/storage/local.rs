//! Photos on the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

use super::limits::ByteBudget;
use super::reader::{Photo, room_for};
use super::trouble::Trouble;
use crate::ImageError;

/// Reads a file, once there is room for it.
pub(crate) async fn read(path: PathBuf, budget: &ByteBudget) -> Result<Photo, Trouble> {
    let found = elsewhere(move || {
        // To open a pipe is to wait for somebody to write to it, and a device may have no end.
        if !fs::metadata(&path)?.is_file() {
            return Ok(None);
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Some((file, bytes)))
    })
    .await?;
    let (mut file, bytes) = found.ok_or(Trouble::Photo(ImageError::NotAFile))?;
    let room = budget.take(bytes).await;
    let mut content = room_for(bytes)?;
    let content = elsewhere(move || {
        // A file that grows is no photo yet, and has no room for more.
        file.by_ref().take(bytes).read_to_end(&mut content)?;
        Ok(content)
    })
    .await?;
    Ok(Photo::new(content, room))
}

/// Runs what may wait for a disk on a thread of its own.
async fn elsewhere<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Trouble> {
    let result = tokio::task::spawn_blocking(read).await;
    result
        .map_err(|error| Trouble::Refused(error.to_string()))?
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => Trouble::Photo(ImageError::Gone),
            _ => Trouble::Refused(error.to_string()),
        })
}
