//! A mutex on which a forked child never waits forever.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use crate::{Error, Result};

/// The owner of a lock that no process has taken yet; no process has this id.
const NOBODY: u32 = 0;

/// How often, and how far apart, a child looks at a lock that may be held by a thread of the
/// parent: long enough for a thread of the child's own to sign for it.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// A [`Mutex`] that knows which process it belongs to.
///
/// A lock that another thread held at the moment of a fork stays held in the child, where that
/// thread does not exist. In a new process the lock is therefore never waited for: a free one is
/// taken over, one that stays held is [`Error::ForkedWhileBusy`].
#[derive(Debug)]
pub(crate) struct ForkAwareMutex<T> {
    owner: AtomicU32,
    value: Mutex<T>,
}

impl<T> ForkAwareMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            owner: AtomicU32::new(NOBODY),
            value: Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>> {
        let here = process::id();
        // Signed before it is locked: whoever finds it held can tell by whom.
        let _ = self
            .owner
            .compare_exchange(NOBODY, here, Ordering::AcqRel, Ordering::Acquire);
        for _ in 0..LOOKS {
            if self.owner.load(Ordering::Acquire) == here {
                return Ok(self.value.lock().unwrap_or_else(PoisonError::into_inner));
            }
            match self.value.try_lock() {
                Ok(guard) => return Ok(self.sign(here, guard)),
                Err(TryLockError::Poisoned(held)) => return Ok(self.sign(here, held.into_inner())),
                Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN_LOOKS),
            }
        }
        Err(Error::ForkedWhileBusy)
    }

    fn sign<'a>(&self, here: u32, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.owner.store(here, Ordering::Release);
        guard
    }
}
