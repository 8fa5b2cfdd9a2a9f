//! Reads a photo from wherever its path says.

use std::sync::Arc;

use super::budget::{ByteBudget, Photo};
use super::retry::{Deadline, StoreError};
use super::runtime::{Buckets, bucket};
use super::s3::{Bucket, CHECK_STORE};
use super::{Location, ReadOptions, Settings, local};
use crate::{Error, ImageError, StorageFault};

/// The task of a [`StorageFault`].
pub(crate) const READING: &str = "read photos from";

/// Why a photo was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The photo can't be read, which says nothing about the store.
    Photo(ImageError),
    /// The store refused the photo, as it may refuse others.
    Refused(StorageFault),
    /// No photo can be read.
    Fault(Error),
}

/// Reads photos.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    settings: Arc<Settings>,
    options: ReadOptions,
    budget: ByteBudget,
    buckets: Buckets,
}

impl Reader {
    pub(crate) fn new(settings: Arc<Settings>, options: ReadOptions, buckets: Buckets) -> Self {
        Self {
            settings,
            options,
            budget: ByteBudget::new(options.max_bytes_in_flight),
            buckets,
        }
    }

    pub(crate) async fn read(&self, path: &str) -> Result<Photo, ReadError> {
        let (result, place) = match Location::parse(path).map_err(ReadError::Fault)? {
            Location::File(file) => (
                local::read(file, &self.budget).await,
                "this machine's disk".to_owned(),
            ),
            Location::S3 { bucket: name, key } => {
                let bucket = bucket(&self.buckets, &name, self.settings.of(&name));
                (self.read_object(&bucket, &key).await, bucket.place())
            }
        };
        let fault = |reason, remedy| StorageFault {
            task: READING,
            place,
            reason,
            path: path.to_owned(),
            remedy,
        };
        result.map_err(|error| match error {
            StoreError::Photo(error) => ReadError::Photo(error),
            StoreError::Name(reason) => ReadError::Photo(ImageError::NotRead {
                reason: format!("its name can't be requested: {reason}"),
            }),
            StoreError::Refused(reason) => ReadError::Refused(fault(reason, CHECK_STORE)),
            StoreError::Fault { reason, remedy } => ReadError::Fault(fault(reason, remedy).into()),
        })
    }

    async fn read_object(&self, bucket: &Bucket, key: &str) -> Result<Photo, StoreError> {
        let mut deadline = Deadline::start(self.options);
        loop {
            match bucket.read(key, &self.budget, &mut deadline).await {
                Ok(photo) => return Ok(photo),
                Err(error) => deadline.retry(error).await?,
            }
        }
    }
}
