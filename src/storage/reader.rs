//! Reads of photos, and what came of them.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::limits::{ByteBudget, Limits};
use super::runtime::{Buckets, bucket};
use super::s3::Bucket;
use super::tries::Clock;
use super::trouble::{CHECK_STORE, Trouble};
use super::{Location, Settings, local};
use crate::{Error, ImageError, StorageFault};

/// What can't be done where it fails.
pub(crate) const READING: &str = "read photos from";
/// Spark can read no larger file either.
const MAX_BYTES: u64 = 1 << 31;

/// A photo's bytes, and the room that they take until they are dropped.
#[derive(Debug)]
pub(crate) struct Photo {
    pub(crate) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Photo {
    pub(crate) fn new(bytes: Vec<u8>, room: OwnedSemaphorePermit) -> Self {
        Self { bytes, _room: room }
    }
}

/// An empty vector that takes so many bytes.
pub(crate) fn room_for(bytes: u64) -> Result<Vec<u8>, Trouble> {
    let refused = |reason: String| Trouble::Photo(ImageError::NotRead { reason });
    if bytes >= MAX_BYTES {
        return Err(refused(format!("{bytes} bytes, the limit is {MAX_BYTES}")));
    }
    let mut content = Vec::new();
    content
        .try_reserve_exact(bytes as usize)
        .map_err(|_| refused(format!("not enough memory for {bytes} bytes")))?;
    Ok(content)
}

/// What came of a read.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The photo's bytes.
    Photo(Photo),
    /// The photo has no bytes to be had, and that is no news of the store.
    None(ImageError),
    /// The store did not give it, as it may not give others.
    Withheld(StorageFault),
    /// The store gives none at all.
    Fault(Error),
}

/// Reads photos.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    settings: Arc<Settings>,
    limits: Limits,
    budget: ByteBudget,
    buckets: Buckets,
}

impl Reader {
    pub(crate) fn new(settings: Arc<Settings>, limits: Limits, buckets: Buckets) -> Self {
        Self {
            settings,
            limits,
            budget: ByteBudget::new(limits.max_bytes_in_flight),
            buckets,
        }
    }

    pub(crate) async fn read(&self, path: &str) -> Outcome {
        match Location::parse(path) {
            Err(error) => Outcome::Fault(error),
            Ok(Location::File(file)) => {
                let result = local::read(file, &self.budget).await;
                self.outcome(result, "this machine's disk", path)
            }
            Ok(Location::S3 { bucket: name, key }) => {
                let settings = self.settings.of(&name);
                let bucket = bucket(&self.buckets, &name, settings);
                let result = self.read_from(&bucket, &key).await;
                self.outcome(result, &bucket.place(), path)
            }
        }
    }

    /// Tries to read an object until it is there, it can't be, or its time is over.
    async fn read_from(&self, bucket: &Bucket, key: &str) -> Result<Photo, Trouble> {
        let mut clock = Clock::start(self.limits);
        loop {
            match bucket.read(key, &self.budget, &mut clock).await {
                Ok(photo) => return Ok(photo),
                Err(trouble) => clock.again(trouble).await?,
            }
        }
    }

    fn outcome(&self, result: Result<Photo, Trouble>, place: &str, path: &str) -> Outcome {
        let fault = |reason, remedy| StorageFault {
            task: READING,
            place: place.to_owned(),
            reason,
            path: path.to_owned(),
            remedy,
        };
        match result {
            Ok(photo) => Outcome::Photo(photo),
            Err(Trouble::Photo(error)) => Outcome::None(error),
            Err(Trouble::Name(reason)) => Outcome::None(ImageError::NotRead {
                reason: format!("its name can't be asked for: {reason}"),
            }),
            Err(Trouble::Fault { reason, remedy } | Trouble::Lasting { reason, remedy }) => {
                Outcome::Fault(fault(reason, remedy).into())
            }
            Err(Trouble::Refused(reason) | Trouble::Passing(reason)) => {
                Outcome::Withheld(fault(reason, CHECK_STORE))
            }
        }
    }
}
