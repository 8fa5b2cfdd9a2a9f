//! How many photos are read at once, in how much memory, and how long a store may take.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Options of reading photos and of listing folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Photos that are read at once, or folders that are listed at once.
    pub concurrency: NonZeroUsize,
    /// Bytes of photos in memory, read or being read. A larger photo is read alone.
    pub max_bytes_in_flight: NonZeroU64,
    /// How long a store may take for a small photo, including retries; a large photo has more time,
    /// in proportion to its size.
    pub timeout: Duration,
}

impl ReadOptions {
    /// Hides the latency of S3, about 100 ms, behind computations of 3 ms a photo.
    pub const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
    /// A dozen photos of 10 MB, which take longer to decode than to read.
    pub const DEFAULT_MAX_BYTES_IN_FLIGHT: NonZeroU64 =
        NonZeroU64::new(128 * 1024 * 1024).expect("not zero");
    /// Several tries on a store that hangs now and then.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
    /// Short enough to be added to any `Instant`.
    const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    /// Tries that fit into the timeout if a store never answers.
    const HUNG_TRIES: u32 = 4;
    /// A slower store counts as hung.
    const MIN_BYTES_PER_SECOND: u64 = 100_000;

    /// Clamps the options to what tokio's timers and semaphores accept.
    pub(crate) fn clamped(self) -> Self {
        let most = NonZeroUsize::new(Semaphore::MAX_PERMITS).unwrap_or(NonZeroUsize::MAX);
        Self {
            concurrency: self.concurrency.min(most),
            timeout: self.timeout.min(Self::MAX_TIMEOUT),
            ..self
        }
    }

    /// How long a store may take for the head of an answer, or for the next part of its body.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.timeout / Self::HUNG_TRIES
    }

    /// How long a store may take for a photo of so many bytes, including retries.
    pub(crate) fn total_timeout(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(bytes / Self::MIN_BYTES_PER_SECOND)
    }
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            concurrency: Self::DEFAULT_CONCURRENCY,
            max_bytes_in_flight: Self::DEFAULT_MAX_BYTES_IN_FLIGHT,
            timeout: Self::DEFAULT_TIMEOUT,
        }
    }
}
