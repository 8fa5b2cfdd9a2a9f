//! Retries of requests, within a deadline.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::options::ReadOptions;
use crate::ImageError;

/// Delays between tries double up to a maximum; a random part keeps readers out of step.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Tries in a row that may fail to reach a server: some seconds, in which one can restart.
const UNREACHABLE_TRIES: u32 = 6;

/// Why a store does not answer a request, however often it is tried.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The store works, and has no such photo that can be read.
    Photo(ImageError),
    /// The client can't request this name.
    Name(String),
    /// The store refuses this request, and may refuse others.
    Refused(String),
    /// Every other request would fail as well.
    Fault {
        reason: String,
        remedy: &'static str,
    },
}

impl StoreError {
    pub(crate) fn fault(reason: impl Into<String>, remedy: &'static str) -> Self {
        let reason = reason.into();
        Self::Fault { reason, remedy }
    }
}

/// Why a single try of a request failed.
#[derive(Debug)]
pub(crate) enum TryError {
    /// The next try may succeed.
    Transient(String),
    /// The next try may succeed; after several in a row it is a fault.
    Unreachable {
        reason: String,
        remedy: &'static str,
    },
    /// Every other try would fail as well.
    Permanent(StoreError),
}

impl From<StoreError> for TryError {
    fn from(error: StoreError) -> Self {
        Self::Permanent(error)
    }
}

/// The tries of one request, and the time that they have left.
#[derive(Debug)]
pub(crate) struct Deadline {
    options: ReadOptions,
    started: Instant,
    paused: Duration,
    bytes: u64,
    tries: u32,
    /// The last tries that did not reach the server.
    unreachable: u32,
}

impl Deadline {
    pub(crate) fn start(options: ReadOptions) -> Self {
        Self {
            options,
            started: Instant::now(),
            paused: Duration::ZERO,
            bytes: 0,
            tries: 0,
            unreachable: 0,
        }
    }

    /// Waits until the next try may succeed.
    ///
    /// # Errors
    /// If the next try can't succeed, or would be after the deadline.
    pub(crate) async fn retry(&mut self, error: TryError) -> Result<(), StoreError> {
        self.tries += 1;
        let reason = match error {
            TryError::Transient(reason) => {
                self.unreachable = 0;
                reason
            }
            TryError::Unreachable { reason, remedy } => {
                self.unreachable += 1;
                if self.unreachable == UNREACHABLE_TRIES {
                    return Err(StoreError::Fault { reason, remedy });
                }
                reason
            }
            TryError::Permanent(error) => return Err(error),
        };
        let delay = delay(self.tries);
        if Instant::now() + delay >= self.end() {
            let elapsed = self.started.elapsed().saturating_sub(self.paused);
            return Err(StoreError::Refused(format!(
                "no complete answer in {:.1} s and {} tries, the last: {reason}",
                elapsed.as_secs_f32(),
                self.tries,
            )));
        }
        sleep(delay).await;
        Ok(())
    }

    /// Waits for something other than the store, such as the budget for an answer of so many bytes:
    /// that time does not count.
    pub(crate) async fn pause<T>(&mut self, bytes: u64, wait: impl Future<Output = T>) -> T {
        self.bytes = bytes;
        let started = Instant::now();
        let result = wait.await;
        self.paused += started.elapsed();
        result
    }

    /// When the next part of the answer is due.
    pub(crate) fn next_part(&self) -> Instant {
        self.end().min(Instant::now() + self.options.read_timeout())
    }

    /// When the complete answer is due.
    fn end(&self) -> Instant {
        self.started + self.paused + self.options.total_timeout(self.bytes)
    }
}

/// The delay after so many tries.
fn delay(tries: u32) -> Duration {
    let longest = FIRST_DELAY
        .saturating_mul(1 << (tries - 1).min(16))
        .min(MAX_DELAY);
    // Each `RandomState` has its own seed from the system's random numbers.
    let random = RandomState::new().hash_one(tries) as f64 / u64::MAX as f64;
    longest.mul_f64(0.5 + random / 2.0)
}
