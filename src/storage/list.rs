//! Folders of S3: what is in each, many folders at a time.

use std::sync::Arc;

use object_store::list::PaginatedListOptions;
use object_store::{ListResult, ObjectMeta};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Settings;
use super::limits::Limits;
use super::location::{is_s3, split_scheme};
use super::runtime::{LOOK_INTERVAL, bucket, runtime};
use super::s3::Bucket;
use super::tries::Clock;
use super::trouble::{CHECK_STORE, Trouble};
use crate::{Error, Result, StorageFault};

const LISTING: &str = "list";
const SEPARATOR: &str = "/";

/// What a folder has in it, or that it is a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files.
    pub files: Vec<ListedFile>,
    /// The paths of the folders, without a slash at their ends.
    pub folders: Vec<String>,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// The path, with the scheme and bucket of its folder's.
    pub path: String,
    /// How large it is, in bytes.
    pub length: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified: i64,
}

/// Lists folders of S3, `limits.concurrency` at a time, and not what is in the folders in them.
///
/// A path of a file is a listing of that file alone. Where there is nothing, there is no listing.
///
/// # Errors
/// [`Error::Path`] for paths that are not of S3, and for folders with names in them that can't be
/// asked for, such as `a//b`; [`Error::Storage`] if the store gives no listing;
/// [`Error::StartReading`]; [`Error::ForkedWhileBusy`]; [`Error::Interrupted`].
pub fn list_folders(
    folders: &[String],
    settings: &Settings,
    limits: Limits,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<Vec<Option<Listing>>> {
    let limits = limits.clamped();
    let folders = folders.iter().map(|path| Folder::parse(path));
    let folders = folders.collect::<Result<Vec<_>>>()?;
    let mut listings = vec![None; folders.len()];
    let (handle, buckets) = runtime()?;
    let turns = Arc::new(Semaphore::new(limits.concurrency.get()));
    let mut lists = JoinSet::new();
    for (place, folder) in folders.into_iter().enumerate() {
        let turns = Arc::clone(&turns);
        let bucket = bucket(&buckets, &folder.bucket, settings.of(&folder.bucket));
        let list = async move {
            let _turn = turns.acquire().await;
            (place, folder.list(&bucket, limits).await)
        };
        lists.spawn_on(list, &handle);
    }
    loop {
        let ended = handle.block_on(async { timeout(LOOK_INTERVAL, lists.join_next()).await });
        if interrupted() {
            return Err(Error::Interrupted);
        }
        match ended {
            Ok(None) => return Ok(listings),
            Ok(Some(Ok((place, listing)))) => listings[place] = listing?,
            Ok(Some(Err(panic))) => return Err(lost(panic.to_string())),
            Err(_) => {}
        }
    }
}

/// The fault of a listing that has ended without a result.
fn lost(reason: String) -> Error {
    let fault = StorageFault {
        task: LISTING,
        place: "the store".to_owned(),
        reason,
        path: "a folder".to_owned(),
        remedy: "please report it",
    };
    fault.into()
}

/// A place whose files are wanted.
#[derive(Debug)]
struct Folder {
    path: String,
    /// What comes before its keys: scheme and bucket.
    root: String,
    bucket: String,
    /// Its own, without slashes at its ends; empty for all of the bucket.
    key: String,
}

impl Folder {
    fn parse(path: &str) -> Result<Self> {
        let parts = split_scheme(path)
            .filter(|(scheme, _)| is_s3(scheme))
            .and_then(|(scheme, rest)| Some((scheme, rest.strip_prefix("//")?)))
            .map(|(scheme, rest)| (scheme, rest.split_once('/').unwrap_or((rest, ""))))
            .filter(|(_, (bucket, _))| !bucket.is_empty());
        let (scheme, (bucket, key)) = parts.ok_or_else(|| Error::Path {
            path: path.to_owned(),
            reason: "it is no folder of S3".to_owned(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            root: format!("{scheme}://{bucket}/"),
            bucket: bucket.to_owned(),
            key: key.trim_end_matches('/').to_owned(),
        })
    }

    async fn list(&self, bucket: &Bucket, limits: Limits) -> Result<Option<Listing>> {
        let prefix = match &*self.key {
            "" => String::new(),
            key => format!("{key}/"),
        };
        let mut listing = Listing::default();
        let mut page_token = None;
        let mut anything = false;
        loop {
            let options = PaginatedListOptions {
                delimiter: Some(SEPARATOR.into()),
                page_token,
                ..PaginatedListOptions::default()
            };
            let (page, token) = self.page(bucket, &prefix, options, limits).await?;
            anything |= !page.objects.is_empty() || !page.common_prefixes.is_empty();
            // An object that marks the folder has the folder's own name here.
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
            return self.list_file(bucket, limits).await;
        }
        Ok(Some(listing))
    }

    /// Lists what has this very name: the first of all that begin with it.
    async fn list_file(&self, bucket: &Bucket, limits: Limits) -> Result<Option<Listing>> {
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let (page, _) = self.page(bucket, &self.key, options, limits).await?;
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
        options: PaginatedListOptions,
        limits: Limits,
    ) -> Result<(ListResult, Option<String>)> {
        let mut clock = Clock::start(limits);
        loop {
            match bucket.list(prefix, options.clone(), &clock).await {
                Ok(page) => return Ok((page.result, page.page_token)),
                Err(trouble) => {
                    let again = clock.again(trouble).await;
                    again.map_err(|trouble| self.error(bucket, trouble))?;
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

    fn error(&self, bucket: &Bucket, trouble: Trouble) -> Error {
        let path = self.path.clone();
        let (reason, remedy) = match trouble {
            Trouble::Name(reason) => return Error::Path { path, reason },
            Trouble::Fault { reason, remedy } | Trouble::Lasting { reason, remedy } => {
                (reason, remedy)
            }
            Trouble::Refused(reason) | Trouble::Passing(reason) => (reason, CHECK_STORE),
            Trouble::Photo(reason) => (reason.to_string(), CHECK_STORE),
        };
        let fault = StorageFault {
            task: LISTING,
            place: bucket.place(),
            reason,
            path,
            remedy,
        };
        fault.into()
    }
}
