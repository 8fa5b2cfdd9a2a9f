//! Tries of a store: as often as it takes, as long as it may.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::limits::{ByteBudget, Limits};
use super::trouble::Trouble;

/// Waits between tries: twice as long each time, up to a limit, and never two readers alike.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Tries in a row to reach a server, some seconds in all: one that is started anew needs no more.
const LASTING_TRIES: u32 = 6;

/// The time and the tries of one answer.
#[derive(Debug)]
pub(crate) struct Clock {
    limits: Limits,
    started: Instant,
    waited: Duration,
    bytes: u64,
    tries: u32,
    /// The last ones, if they could not reach the server.
    lasting: u32,
}

impl Clock {
    pub(crate) fn start(limits: Limits) -> Self {
        Self {
            limits,
            started: Instant::now(),
            waited: Duration::ZERO,
            bytes: 0,
            tries: 0,
            lasting: 0,
        }
    }

    /// Waits until another try may do better.
    ///
    /// # Errors
    /// What to say of it, if no other try may, or if the time is over.
    pub(crate) async fn again(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.tries += 1;
        let reason = match trouble {
            Trouble::Passing(reason) => {
                self.lasting = 0;
                reason
            }
            Trouble::Lasting { reason, remedy } => {
                self.lasting += 1;
                if self.lasting == LASTING_TRIES {
                    return Err(Trouble::Fault { reason, remedy });
                }
                reason
            }
            other => return Err(other),
        };
        let wait = pause(self.tries);
        if Instant::now() + wait >= self.end() {
            let (took, tries) = (self.took().as_secs_f32(), self.tries);
            return Err(Trouble::Refused(format!(
                "no whole answer in {took:.1} s and {tries} tries, the last: {reason}"
            )));
        }
        sleep(wait).await;
        Ok(())
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

    /// When all of the answer should be there.
    fn end(&self) -> Instant {
        self.started + self.waited + self.limits.time_for(self.bytes)
    }

    fn took(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
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
