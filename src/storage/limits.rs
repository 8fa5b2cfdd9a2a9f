//! How much is read at once, and how long a store may take.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What bounds the reading of photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Photos that are read at once.
    pub concurrency: NonZeroUsize,
    /// Bytes of photos that are in memory, read or being read. A photo larger than that is read
    /// alone.
    pub max_bytes_in_flight: NonZeroU64,
    /// How long a store may take for a small photo, all tries together; a large one has more time
    /// by its size.
    pub timeout: Duration,
}

impl Limits {
    /// Hides some 100 ms of S3 behind 3 ms of computing.
    pub const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
    /// A dozen photos of 10 MB, which take longer to decode than to read.
    pub const DEFAULT_MAX_BYTES_IN_FLIGHT: NonZeroU64 =
        NonZeroU64::new(128 * 1024 * 1024).expect("not zero");
    /// Some tries of a store that hangs now and then.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
    /// What no clock can add up to its end.
    const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    /// As many tries fit into the time if a store does not answer at all.
    const HUNG_TRIES: u32 = 4;
    /// Slower than that, a store is taken to hang.
    const LEAST_BYTES_PER_SECOND: u64 = 100_000;

    /// These, as far as clocks and semaphores count.
    pub(crate) fn clamped(self) -> Self {
        let most = NonZeroUsize::new(Semaphore::MAX_PERMITS).unwrap_or(NonZeroUsize::MAX);
        Self {
            concurrency: self.concurrency.min(most),
            timeout: self.timeout.min(Self::LONGEST_TIMEOUT),
            ..self
        }
    }

    /// How long a store may let us wait, for its answer or for more of it.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout / Self::HUNG_TRIES
    }

    /// How long a photo of a size may take, all tries together.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(bytes / Self::LEAST_BYTES_PER_SECOND)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: Self::DEFAULT_CONCURRENCY,
            max_bytes_in_flight: Self::DEFAULT_MAX_BYTES_IN_FLIGHT,
            timeout: Self::DEFAULT_TIMEOUT,
        }
    }
}

/// Bytes that photos may take, given out in the order in which they are asked for.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget {
    units: Arc<Semaphore>,
    total: u32,
}

impl ByteBudget {
    /// Bytes are counted in these: the semaphore gives out no more than `u32::MAX` at once.
    const UNIT: u64 = 1024;

    pub(crate) fn new(bytes: NonZeroU64) -> Self {
        let total = Self::units(bytes.get());
        Self {
            units: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Room for so many bytes, once there is; all room for more bytes than there can be.
    pub(crate) async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let units = Self::units(bytes).min(self.total);
        let Ok(room) = Arc::clone(&self.units).acquire_many_owned(units).await else {
            unreachable!("nobody closes it")
        };
        room
    }

    fn units(bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(Self::UNIT)).unwrap_or(u32::MAX)
    }
}
