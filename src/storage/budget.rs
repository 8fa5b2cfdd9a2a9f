//! The memory of photos that are being read or wait to be decoded.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ImageError;

/// Spark's `binaryFile` can't read larger files either.
const MAX_BYTES: u64 = 1 << 31;

/// The bytes of a photo, which count towards the budget until they are dropped.
#[derive(Debug)]
pub(crate) struct Photo {
    pub(crate) bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// A budget of bytes for photos, allotted in the order of the requests.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget {
    permits: Arc<Semaphore>,
    total: u32,
}

impl ByteBudget {
    /// Bytes per permit: a semaphore acquires at most `u32::MAX` permits at once.
    const UNIT: u64 = 1024;

    pub(crate) fn new(bytes: NonZeroU64) -> Self {
        let total = Self::permits(bytes.get());
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until the budget has room for so many bytes, and allocates them. A photo larger than
    /// the budget takes all of it; one that is too large to read takes none.
    ///
    /// # Errors
    /// [`ImageError::NotRead`] if the photo is too large or the memory can't be allocated.
    pub(crate) async fn allocate(&self, bytes: u64) -> Result<Photo, ImageError> {
        let refused = |reason| ImageError::NotRead { reason };
        if bytes >= MAX_BYTES {
            return Err(refused(format!("{bytes} bytes, the limit is {MAX_BYTES}")));
        }
        let permits = Self::permits(bytes).min(self.total);
        let Ok(permit) = Arc::clone(&self.permits).acquire_many_owned(permits).await else {
            unreachable!("the semaphore is never closed")
        };
        let mut content = Vec::new();
        content
            .try_reserve_exact(bytes as usize)
            .map_err(|_| refused(format!("not enough memory for {bytes} bytes")))?;
        Ok(Photo {
            bytes: content,
            _permit: permit,
        })
    }

    fn permits(bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(Self::UNIT)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_photo_that_is_too_large_is_refused_while_others_hold_the_whole_budget() {
        let budget = ByteBudget::new(NonZeroU64::MIN);
        let photo = budget.allocate(1).now_or_never().expect("a free budget");
        assert!(budget.allocate(1).now_or_never().is_none());
        let refused = budget.allocate(MAX_BYTES).now_or_never();
        let error = refused.expect("no wait").expect_err("too large");
        assert!(error.to_string().contains("the limit is"), "{error}");
        drop(photo);
        assert!(budget.allocate(1).now_or_never().is_some());
    }
}
