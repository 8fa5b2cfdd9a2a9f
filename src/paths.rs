//! Photos by path: read ahead, featurized as they arrive, returned in the order of submission.

use std::collections::VecDeque;
use std::mem;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ndarray::ArrayView1;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::crew::{self, POLL_INTERVAL};
use crate::decode::Notes;
use crate::featurizer::{Batch, Worker};
use crate::storage::{Photo, READING, ReadError, ReadOptions, Reader, Settings, runtime};
use crate::{Error, Features, Featurizer, ImageError, Result, StorageFault};

/// A store that refuses this many photos in a row is at fault, rather than the photos.
const REFUSED_IN_A_ROW: usize = 8;

/// Turns paths of photos into feature vectors, reading ahead.
///
/// [`submit`](Self::submit) starts to read, and [`next`](Self::next) returns the features of each
/// submission, in order. Photos are featurized in the order in which they arrive; their bytes stay
/// in memory until then, within a budget.
///
/// The threads that compute live no longer than a call of `next`. Those that read belong to the
/// process; a forked child starts its own.
#[derive(Debug)]
pub struct PathFeaturizer {
    featurizer: Arc<Featurizer>,
    reader: Reader,
    handle: Handle,
    concurrency: usize,
    pending: Pending,
    process: u32,
}

/// What has been submitted and not returned, with everything that its reads share.
///
/// A call that fails drops it, which aborts its reads. A read that ends later delivers to a queue
/// that nothing refers to any more, so it can't reach a later submission.
#[derive(Debug)]
struct Pending {
    /// One for each photo that may be read at once.
    permits: Arc<Semaphore>,
    reads: JoinSet<()>,
    queue: Arc<Queue>,
    submitted: usize,
}

impl Pending {
    fn new(concurrency: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(concurrency)),
            reads: JoinSet::new(),
            queue: Arc::default(),
            submitted: 0,
        }
    }
}

impl PathFeaturizer {
    /// Prepares to read; no store is contacted yet.
    ///
    /// # Errors
    /// [`Error::StartReading`] or [`Error::ForkedWhileStarting`].
    pub fn new(
        featurizer: Arc<Featurizer>,
        settings: Settings,
        options: ReadOptions,
    ) -> Result<Self> {
        let options = options.clamped();
        let concurrency = options.concurrency.get();
        let (handle, buckets) = runtime()?;
        Ok(Self {
            featurizer,
            reader: Reader::new(Arc::new(settings), options, buckets),
            handle,
            concurrency,
            pending: Pending::new(concurrency),
            process: process::id(),
        })
    }

    /// Starts to read photos, as one submission. `None` is a slot without a photo.
    ///
    /// # Errors
    /// [`Error::ForkedWhileReading`] in a child of the process that made this.
    pub fn submit(&mut self, paths: Vec<Option<String>>) -> Result<()> {
        self.check_process()?;
        let Pending {
            permits,
            reads,
            queue,
            submitted,
        } = &mut self.pending;
        while reads.try_join_next().is_some() {}
        queue.lock().submissions.push_back(Submission {
            features: Features::new(paths.len(), self.featurizer.contract.dim),
            incomplete: paths.len(),
        });
        for (index, path) in paths.into_iter().enumerate() {
            let slot = Slot {
                submission: *submitted,
                index,
            };
            let Some(path) = path else {
                queue.deliver(slot, Err(ReadError::Photo(ImageError::Missing)));
                continue;
            };
            let reader = self.reader.clone();
            let permits = Arc::clone(permits);
            let guard = ReadGuard::new(queue, slot, &path);
            let read = async move {
                let _permit = permits.acquire().await;
                guard.deliver(reader.read(&path).await);
            };
            reads.spawn_on(read, &self.handle);
        }
        *submitted += 1;
        Ok(())
    }

    /// The features of the oldest submission that has not been returned; `None` if there is none.
    ///
    /// `interrupted` is called on the calling thread, several times a second; when it returns true,
    /// the call ends.
    ///
    /// # Errors
    /// A photo that can't be read fills its error slot. [`Error`] is for a failure of the store, of
    /// a path, of the model or of ONNX Runtime, for threads that can't be started,
    /// [`Error::ForkedWhileReading`] or [`Error::Interrupted`]. An error drops everything that has
    /// been submitted.
    pub fn next(&mut self, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<Features>> {
        self.check_process()?;
        let pending = mem::replace(&mut self.pending, Pending::new(self.concurrency));
        if pending.queue.lock().submissions.is_empty() {
            return Ok(None);
        }
        let mut workers = self.featurizer.workers()?;
        crew::run(&mut workers, interrupted, |worker, should_stop| {
            featurize(&self.featurizer, worker, &pending.queue, should_stop)
        })?;
        let submission = {
            let mut state = pending.queue.lock();
            state.returned += 1;
            state.submissions.pop_front()
        };
        self.pending = pending;
        Ok(submission.map(|submission| submission.features))
    }

    fn check_process(&self) -> Result<()> {
        match process::id() == self.process {
            true => Ok(()),
            false => Err(Error::ForkedWhileReading),
        }
    }
}

impl Drop for PathFeaturizer {
    fn drop(&mut self) {
        if process::id() != self.process {
            // Aborting reads would wake threads that this process does not have.
            mem::forget(mem::take(&mut self.pending.reads));
        }
    }
}

/// Featurizes photos as they arrive until the oldest submission is complete.
fn featurize(
    featurizer: &Featurizer,
    worker: &mut Worker,
    queue: &Queue,
    should_stop: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let Featurizer {
        contract, runtime, ..
    } = featurizer;
    let batch_size = featurizer.options().batch_size.get();
    let mut rows = vec![0.0; batch_size * contract.dim];
    while let Some(photos) = queue.take(batch_size, should_stop)? {
        let images: Vec<_> = photos
            .iter()
            .map(|(_, photo)| Some(&photo.bytes[..]))
            .collect();
        let rows = &mut rows[..images.len() * contract.dim];
        let mut errors: Vec<_> = images.iter().map(|_| None).collect();
        let mut notes = vec![Notes::default(); images.len()];
        let batch = Batch {
            images: &images,
            rows,
            errors: &mut errors,
            notes: &mut notes,
        };
        worker.run(contract, runtime, batch, should_stop)?;
        let rows = rows.chunks(contract.dim).zip(notes).zip(errors);
        let results = rows.map(|(featurized, error)| error.map_or(Ok(featurized), Err));
        queue.complete(photos.iter().map(|(slot, _)| *slot).zip(results));
    }
    Ok(())
}

/// Where the features of a photo go.
#[derive(Debug, Clone, Copy)]
struct Slot {
    submission: usize,
    index: usize,
}

/// Delivers the result of a read when it is dropped, even if the read panics.
struct ReadGuard {
    queue: Arc<Queue>,
    slot: Slot,
    result: Result<Photo, ReadError>,
}

impl ReadGuard {
    fn new(queue: &Arc<Queue>, slot: Slot, path: &str) -> Self {
        let lost = StorageFault {
            task: READING,
            place: "the store".to_owned(),
            reason: "the read has ended without a result".to_owned(),
            path: path.to_owned(),
            remedy: "please report it",
        };
        Self {
            queue: Arc::clone(queue),
            slot,
            result: Err(ReadError::Fault(lost.into())),
        }
    }

    fn deliver(mut self, result: Result<Photo, ReadError>) {
        self.result = result;
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let delivered = Err(ReadError::Photo(ImageError::Missing));
        let result = mem::replace(&mut self.result, delivered);
        self.queue.deliver(self.slot, result);
    }
}

/// Connects the reads, which deliver photos, with the threads that featurize them.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Submissions that have been returned.
    returned: usize,
    /// The other submissions, the oldest first.
    submissions: VecDeque<Submission>,
    /// Photos that wait to be featurized.
    photos: VecDeque<(Slot, Photo)>,
    /// Reads in a row that the store has refused.
    refused: usize,
    fault: Option<Error>,
}

#[derive(Debug)]
struct Submission {
    features: Features,
    incomplete: usize,
}

impl State {
    fn complete(&mut self, slot: Slot, result: Result<(&[f32], Notes), ImageError>) {
        let submission = &mut self.submissions[slot.submission - self.returned];
        let Features {
            matrix,
            errors,
            notes,
        } = &mut submission.features;
        match result {
            Ok((row, noted)) => {
                matrix.row_mut(slot.index).assign(&ArrayView1::from(row));
                notes[slot.index] = noted;
            }
            Err(error) => errors[slot.index] = Some(error),
        }
        submission.incomplete -= 1;
    }

    fn is_oldest_complete(&self) -> bool {
        self.submissions
            .front()
            .is_none_or(|submission| submission.incomplete == 0)
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the result of a read.
    fn deliver(&self, slot: Slot, result: Result<Photo, ReadError>) {
        let mut state = self.lock();
        state.refused = match &result {
            Err(ReadError::Refused(_)) => state.refused + 1,
            _ => 0,
        };
        match result {
            Ok(photo) => state.photos.push_back((slot, photo)),
            Err(ReadError::Photo(error)) => state.complete(slot, Err(error)),
            Err(ReadError::Refused(fault)) if state.refused == REFUSED_IN_A_ROW => {
                state.fault.get_or_insert(fault.into());
            }
            Err(ReadError::Refused(StorageFault { reason, .. })) => {
                state.complete(slot, Err(ImageError::NotRead { reason }));
            }
            Err(ReadError::Fault(error)) => {
                state.fault.get_or_insert(error);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for photos and takes up to `most` of those that have arrived; `None` once the oldest
    /// submission is complete.
    fn take(
        &self,
        most: usize,
        should_stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<(Slot, Photo)>>> {
        let mut state = self.lock();
        loop {
            if let Some(fault) = state.fault.take() {
                return Err(fault);
            }
            if state.is_oldest_complete() {
                return Ok(None);
            }
            if !state.photos.is_empty() {
                let most = most.min(state.photos.len());
                return Ok(Some(state.photos.drain(..most).collect()));
            }
            drop(state);
            if should_stop() {
                return Err(Error::Interrupted);
            }
            let idle = |state: &mut State| {
                state.fault.is_none() && state.photos.is_empty() && !state.is_oldest_complete()
            };
            let changed = &self.changed;
            let waited = changed.wait_timeout_while(self.lock(), POLL_INTERVAL, idle);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Completes slots with their rows and notes, or with their errors.
    fn complete<'a>(
        &self,
        results: impl Iterator<Item = (Slot, Result<(&'a [f32], Notes), ImageError>)>,
    ) {
        let mut state = self.lock();
        for (slot, result) in results {
            state.complete(slot, result);
        }
        drop(state);
        self.changed.notify_all();
    }
}
