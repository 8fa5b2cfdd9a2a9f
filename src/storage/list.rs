//! Lists folders of S3, many at a time.

use std::pin::pin;

use futures_util::{TryStreamExt, stream};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};
use tokio::time::timeout;

use super::location::S3Path;
use super::retry::{Deadline, StoreError};
use super::runtime::{bucket, runtime};
use super::s3::{Bucket, CHECK_STORE};
use super::{ReadOptions, Settings};
use crate::crew::POLL_INTERVAL;
use crate::{Error, Result, StorageFault};

const SEPARATOR: &str = "/";
/// object_store drops the slash from such a key, which makes it the key of another object.
const LEADING_SLASH: &str = "keys that start with a slash can't be requested";

/// The contents of a folder, or a single file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files.
    pub files: Vec<ListedFile>,
    /// The paths of the folders, without trailing slashes.
    pub folders: Vec<String>,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// The path, with the scheme and bucket of the listed folder.
    pub path: String,
    /// Its size, in bytes.
    pub length: u64,
    /// When it was modified, in milliseconds since 1970.
    pub modified: i64,
}

/// Lists folders of S3, `options.concurrency` at a time, without the contents of their subfolders.
///
/// The listing of a file is that file alone. A path where nothing exists has no listing.
///
/// # Errors
/// [`Error::Path`] for a path that is not of S3, and for a folder with names in it that can't be
/// requested, such as `a//b`; [`Error::Storage`] if the store does not list a folder;
/// [`Error::StartReading`], [`Error::ForkedWhileStarting`] or [`Error::Interrupted`].
pub fn list_folders(
    folders: &[String],
    settings: &Settings,
    options: ReadOptions,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<Vec<Option<Listing>>> {
    let options = options.clamped();
    let folders = folders.iter().map(|path| Folder::parse(path));
    let folders = folders.collect::<Result<Vec<_>>>()?;
    let (handle, buckets) = runtime()?;
    let mut listings = vec![None; folders.len()];
    {
        let lists = stream::iter(folders.iter().zip(&mut listings).map(Ok::<_, Error>));
        let lists =
            lists.try_for_each_concurrent(options.concurrency.get(), |(folder, listing)| {
                let bucket = bucket(&buckets, &folder.bucket, settings.of(&folder.bucket));
                async move {
                    *listing = folder.list(&bucket, options).await?;
                    Ok(())
                }
            });
        let mut lists = pin!(lists);
        loop {
            match handle.block_on(async { timeout(POLL_INTERVAL, &mut lists).await }) {
                Ok(result) => break result?,
                Err(_) if interrupted() => return Err(Error::Interrupted),
                Err(_) => {}
            }
        }
    }
    Ok(listings)
}

/// A folder to list.
#[derive(Debug)]
struct Folder {
    path: String,
    /// Scheme and bucket, which come before its keys.
    root: String,
    bucket: String,
    /// Without trailing slashes; empty for the whole bucket.
    key: String,
}

impl Folder {
    fn parse(path: &str) -> Result<Self> {
        let refused = |reason: &str| Error::Path {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let S3Path {
            scheme,
            bucket,
            key,
        } = S3Path::parse(path).ok_or_else(|| refused("it is not a folder of S3"))?;
        let key = key.trim_end_matches('/');
        if key.starts_with('/') {
            return Err(refused(LEADING_SLASH));
        }
        Ok(Self {
            path: path.to_owned(),
            root: format!("{scheme}://{bucket}/"),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }

    async fn list(&self, bucket: &Bucket, options: ReadOptions) -> Result<Option<Listing>> {
        let prefix = match &*self.key {
            "" => String::new(),
            key => format!("{key}/"),
        };
        let mut listing = Listing::default();
        let mut page_token = None;
        let mut anything = false;
        loop {
            let page = PaginatedListOptions {
                delimiter: Some(SEPARATOR.into()),
                page_token,
                ..PaginatedListOptions::default()
            };
            let (page, token) = self.page(bucket, &prefix, page, options).await?;
            anything |= !page.objects.is_empty() || !page.common_prefixes.is_empty();
            if page.common_prefixes.iter().any(Path::is_root) {
                return Err(self.error(bucket, StoreError::Name(LEADING_SLASH.to_owned())));
            }
            // The object that marks the folder has the folder's name here.
            let files = page
                .objects
                .iter()
                .filter(|file| file.location.as_ref() != self.key);
            listing.files.extend(files.map(|file| self.file(file)));
            let folders = page.common_prefixes.iter();
            listing
                .folders
                .extend(folders.map(|folder| format!("{}{folder}", self.root)));
            page_token = token;
            if page_token.is_none() {
                break;
            }
        }
        if !anything && !self.key.is_empty() {
            return self.list_file(bucket, options).await;
        }
        Ok(Some(listing))
    }

    /// Lists the object with exactly this key, which is the first of those that start with it.
    async fn list_file(&self, bucket: &Bucket, options: ReadOptions) -> Result<Option<Listing>> {
        let page = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let (page, _) = self.page(bucket, &self.key, page, options).await?;
        let first = page.objects.first();
        let file = first.filter(|file| file.location.as_ref() == self.key);
        Ok(file.map(|file| Listing {
            files: vec![self.file(file)],
            folders: Vec::new(),
        }))
    }

    async fn page(
        &self,
        bucket: &Bucket,
        prefix: &str,
        page: PaginatedListOptions,
        options: ReadOptions,
    ) -> Result<(ListResult, Option<String>)> {
        let mut deadline = Deadline::start(options);
        loop {
            match bucket.list(prefix, page.clone(), &deadline).await {
                Ok(page) => return Ok((page.result, page.page_token)),
                Err(error) => {
                    let retried = deadline.retry(error).await;
                    retried.map_err(|error| self.error(bucket, error))?;
                }
            }
        }
    }

    fn file(&self, file: &ObjectMeta) -> ListedFile {
        ListedFile {
            path: format!("{}{}", self.root, file.location),
            length: file.size,
            modified: file.last_modified.timestamp_millis(),
        }
    }

    fn error(&self, bucket: &Bucket, error: StoreError) -> Error {
        let path = self.path.clone();
        let (reason, remedy) = match error {
            StoreError::Name(reason) => return Error::Path { path, reason },
            StoreError::Photo(error) => (error.to_string(), CHECK_STORE),
            StoreError::Refused(reason) => (reason, CHECK_STORE),
            StoreError::Fault { reason, remedy } => (reason, remedy),
        };
        let fault = StorageFault {
            task: "list",
            place: bucket.place(),
            reason,
            path,
            remedy,
        };
        fault.into()
    }
}
