//! A mutex on which a forked child never waits forever.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

/// The owner of a mutex that no process has locked yet; no process has this id.
const NOBODY: u32 = 0;

/// How often, and how far apart, a child tries a mutex that a thread of its parent may hold: long
/// enough for another thread of the child to become its owner.
const TRIES: u32 = 20;
const TRY_INTERVAL: Duration = Duration::from_millis(1);

/// A [`Mutex`] that knows which process it belongs to.
///
/// A mutex that another thread held at the moment of a fork stays locked in the child, where that
/// thread does not exist. So a new process does not wait for the mutex: it becomes the owner of a
/// free one, and a locked one is an error.
#[derive(Debug)]
pub(crate) struct ForkAwareMutex<T> {
    owner: AtomicU32,
    value: Mutex<T>,
}

/// A thread of the parent process held the mutex when this process was forked.
#[derive(Debug)]
pub(crate) struct HeldByParent;

impl<T> ForkAwareMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            owner: AtomicU32::new(NOBODY),
            value: Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>, HeldByParent> {
        let process = process::id();
        // Before the mutex is locked, so that a thread that finds it locked knows by whom.
        let _ = self
            .owner
            .compare_exchange(NOBODY, process, Ordering::AcqRel, Ordering::Acquire);
        for _ in 0..TRIES {
            if self.owner.load(Ordering::Acquire) == process {
                return Ok(self.value.lock().unwrap_or_else(PoisonError::into_inner));
            }
            let guard = match self.value.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    thread::sleep(TRY_INTERVAL);
                    continue;
                }
            };
            self.owner.store(process, Ordering::Release);
            return Ok(guard);
        }
        Err(HeldByParent)
    }
}
