//! Reads of photos: as often as it takes, as long as it may, and what came of it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::limits::{ByteBudget, Limits};
use super::runtime::{Buckets, bucket};
use super::s3::Bucket;
use super::trouble::Trouble;
use super::{Location, Settings, local};
use crate::{Error, ImageError, StorageFault};

/// Waits between tries: twice as long each time, up to a limit, and never two readers alike.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Tries in a row to reach a server, some seconds in all: one that is started anew needs no more.
const LASTING_TRIES: u32 = 6;
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

/// The time of one photo.
#[derive(Debug)]
pub(crate) struct Clock {
    limits: Limits,
    started: Instant,
    waited: Duration,
    bytes: u64,
}

impl Clock {
    fn start(limits: Limits) -> Self {
        Self {
            limits,
            started: Instant::now(),
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Notes how large the photo is, and waits for room for it, which does not count.
    pub(crate) async fn wait_for_room(
        &mut self,
        bytes: u64,
        budget: &ByteBudget,
    ) -> OwnedSemaphorePermit {
        self.bytes = bytes;
        let asked = Instant::now();
        let room = budget.take(bytes).await;
        self.waited += asked.elapsed();
        room
    }

    /// When the store should have said something.
    pub(crate) fn next(&self) -> Instant {
        self.end().min(Instant::now() + self.limits.patience())
    }

    /// When the photo should be there.
    fn end(&self) -> Instant {
        self.started + self.waited + self.limits.time_for(self.bytes)
    }

    fn took(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
    }
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
        let (mut tries, mut lasting) = (0, 0);
        loop {
            let trouble = match bucket.read(key, &self.budget, &mut clock).await {
                Ok(photo) => return Ok(photo),
                Err(trouble) => trouble,
            };
            tries += 1;
            let reason = match trouble {
                Trouble::Passing(reason) => {
                    lasting = 0;
                    reason
                }
                Trouble::Lasting { reason, remedy } => {
                    lasting += 1;
                    if lasting == LASTING_TRIES {
                        return Err(Trouble::Fault { reason, remedy });
                    }
                    reason
                }
                other => return Err(other),
            };
            let wait = pause(tries);
            if Instant::now() + wait >= clock.end() {
                let took = clock.took().as_secs_f32();
                return Err(Trouble::Refused(format!(
                    "no whole answer in {took:.1} s and {tries} tries, the last: {reason}"
                )));
            }
            sleep(wait).await;
        }
    }

    fn outcome(&self, result: Result<Photo, Trouble>, place: &str, path: &str) -> Outcome {
        let fault = |reason, remedy| StorageFault {
            place: place.to_owned(),
            reason,
            path: path.to_owned(),
            remedy,
        };
        match result {
            Ok(photo) => Outcome::Photo(photo),
            Err(Trouble::Photo(error)) => Outcome::None(error),
            Err(Trouble::Fault { reason, remedy } | Trouble::Lasting { reason, remedy }) => {
                Outcome::Fault(fault(reason, remedy).into())
            }
            Err(Trouble::Refused(reason) | Trouble::Passing(reason)) => Outcome::Withheld(fault(
                reason,
                "check that the store works, and what may be read there",
            )),
        }
    }
}

/// How long to wait after so many tries.
fn pause(tries: u32) -> Duration {
    let longest = FIRST_WAIT
        .saturating_mul(1 << (tries - 1).min(16))
        .min(LONGEST_WAIT);
    // Each hasher of the standard library has a seed of its own, from the system's random numbers.
    let random = RandomState::new().hash_one(tries) as f64 / u64::MAX as f64;
    longest.mul_f64(0.5 + random / 2.0)
}
