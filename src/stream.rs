//! Photos by their paths: read in the background, featurized as they arrive, given in order.

use std::collections::VecDeque;
use std::mem;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use ndarray::Array2;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::featurizer::{Batch, Worker};
use crate::storage::{LOOK_INTERVAL, Limits, Outcome, Photo, READING, Reader, Settings, runtime};
use crate::{Error, Features, Featurizer, ImageError, Result, StorageFault};

/// Photos in a row that a store may withhold until that is its fault and not theirs.
const WITHHELD_IN_A_ROW: usize = 8;

/// Turns paths of photos into feature vectors, reading ahead.
///
/// [`submit`](Self::submit) begins to read, and [`next`](Self::next) gives the features of what was
/// submitted, in that order. Whatever photo is there first is featurized first: its bytes are in
/// memory until then, and others wait for their room.
///
/// Threads that compute live no longer than a call of `next`. One thread of the process reads; a
/// forked child starts its own.
#[derive(Debug)]
pub struct PathFeaturizer {
    featurizer: Arc<Featurizer>,
    reader: Reader,
    handle: Handle,
    concurrency: usize,
    pending: Pending,
    process: u32,
}

/// What has been submitted and not given up, with all that its reads share.
///
/// A call that fails drops it. Reads that are still under way then end on a desk that nobody looks
/// at, whenever they do, and none of what they bring meets what is submitted afterwards.
#[derive(Debug)]
struct Pending {
    /// Photos that may be read at once.
    turns: Arc<Semaphore>,
    /// To drop them is to abort them.
    reads: JoinSet<()>,
    desk: Arc<Desk>,
    submitted: usize,
}

impl Pending {
    fn new(concurrency: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(concurrency)),
            reads: JoinSet::new(),
            desk: Arc::default(),
            submitted: 0,
        }
    }
}

impl PathFeaturizer {
    /// Prepares to read; nothing is asked of any store yet.
    ///
    /// # Errors
    /// [`Error::StartReading`] or [`Error::ForkedWhileBusy`].
    pub fn new(featurizer: Arc<Featurizer>, settings: Settings, limits: Limits) -> Result<Self> {
        let limits = limits.clamped();
        let concurrency = limits.concurrency.get();
        let (handle, buckets) = runtime()?;
        Ok(Self {
            featurizer,
            reader: Reader::new(Arc::new(settings), limits, buckets),
            handle,
            concurrency,
            pending: Pending::new(concurrency),
            process: process::id(),
        })
    }

    /// Begins to read a step of photos. `None` is a slot without one.
    ///
    /// # Errors
    /// [`Error::ForkedWhileReading`] in a child of the process that made this.
    pub fn submit(&mut self, paths: Vec<Option<String>>) -> Result<()> {
        self.check_process()?;
        let Pending {
            turns,
            reads,
            desk,
            submitted,
        } = &mut self.pending;
        while reads.try_join_next().is_some() {}
        let number = *submitted;
        *submitted += 1;
        let step = Step::new(paths.len(), self.featurizer.contract.dim);
        desk.lock().steps.push_back(step);
        for (slot, path) in paths.into_iter().enumerate() {
            let place = Place { step: number, slot };
            let Some(path) = path else {
                desk.arrive(place, Outcome::None(ImageError::Missing));
                continue;
            };
            let reader = self.reader.clone();
            let turns = Arc::clone(turns);
            let parcel = Parcel::new(desk, place, &path);
            let read = async move {
                let _turn = turns.acquire().await;
                parcel.deliver(reader.read(&path).await);
            };
            reads.spawn_on(read, &self.handle);
        }
        Ok(())
    }

    /// The features of the oldest step that has not been given yet; `None` if there is none.
    ///
    /// `interrupted` is asked on the calling thread, some times a second; its `true` ends the call.
    ///
    /// # Errors
    /// A photo that can't be read fills its error slot. [`Error`] is of the store, of a path, of the
    /// model, of ONNX Runtime, [`Error::ForkedWhileReading`] or [`Error::Interrupted`]. After an
    /// error there are no more steps, until others are submitted.
    pub fn next(&mut self, interrupted: &mut dyn FnMut() -> bool) -> Result<Option<Features>> {
        self.check_process()?;
        if self.pending.desk.lock().steps.is_empty() {
            return Ok(None);
        }
        let pending = mem::replace(&mut self.pending, Pending::new(self.concurrency));
        self.compute(&pending.desk, interrupted)?;
        let step = {
            let mut state = pending.desk.lock();
            state.given += 1;
            state.steps.pop_front()
        };
        self.pending = pending;
        Ok(step.map(|step| Features {
            matrix: step.matrix,
            errors: step.errors,
        }))
    }

    /// Featurizes what arrives until the oldest step is complete.
    fn compute(&self, desk: &Desk, interrupted: &mut dyn FnMut() -> bool) -> Result<()> {
        let mut workers = self.featurizer.workers()?;
        let Some((first, others)) = workers.split_first_mut() else {
            unreachable!("at least one thread")
        };
        let help = |worker: &mut Worker| match self.work(worker, desk, &mut || desk.lock().stopped)
        {
            // Whoever stopped the others says why.
            Err(Error::Interrupted) => Ok(()),
            result => result,
        };
        thread::scope(|scope| {
            let others: Vec<_> = others
                .iter_mut()
                .map(|worker| scope.spawn(|| help(worker)))
                .collect();
            let mut result = self.work(first, desk, interrupted);
            for other in others {
                let other = other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = match result {
                    Ok(()) | Err(Error::Interrupted) if other.is_err() => other,
                    result => result,
                };
            }
            result
        })
    }

    fn work(
        &self,
        worker: &mut Worker,
        desk: &Desk,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let Featurizer {
            contract, runtime, ..
        } = &*self.featurizer;
        let _stops = StopOnPanic(desk);
        let batch_size = self.featurizer.options().batch_size.get();
        let mut rows = vec![0.0; batch_size * contract.dim];
        let mut photos = Vec::new();
        loop {
            let photos = &mut photos;
            desk.take(batch_size, photos, interrupted)
                .inspect_err(|_| desk.stop())?;
            if photos.is_empty() {
                return Ok(());
            }
            let images: Vec<_> = photos
                .iter()
                .map(|(_, photo): &(_, Photo)| Some(&photo.bytes[..]))
                .collect();
            let rows = &mut rows[..images.len() * contract.dim];
            let mut errors: Vec<_> = images.iter().map(|_| None).collect();
            let batch = Batch {
                images: &images,
                rows,
                errors: &mut errors,
            };
            worker
                .run(contract, runtime, batch, interrupted)
                .inspect_err(|_| desk.stop())?;
            let places = photos.drain(..).map(|(place, _)| place);
            desk.note(places, rows, errors);
        }
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
            // To cancel reads is to wake threads that are not here.
            mem::forget(mem::take(&mut self.pending.reads));
        }
    }
}

/// Where a photo's features go.
#[derive(Debug, Clone, Copy)]
struct Place {
    step: usize,
    slot: usize,
}

/// Where readers leave photos and threads take them from.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    news: Condvar,
}

/// Ends the work of all threads when one of them panics: what that one had taken never comes, and
/// the others would wait for it.
struct StopOnPanic<'a>(&'a Desk);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// What a read owes: an outcome, also if it panics.
struct Parcel {
    desk: Arc<Desk>,
    place: Place,
    outcome: Outcome,
}

impl Parcel {
    fn new(desk: &Arc<Desk>, place: Place, path: &str) -> Self {
        let lost = StorageFault {
            task: READING,
            place: "the store".to_owned(),
            reason: "the read has ended without a result".to_owned(),
            path: path.to_owned(),
            remedy: "please report it",
        };
        Self {
            desk: Arc::clone(desk),
            place,
            outcome: Outcome::Fault(lost.into()),
        }
    }

    fn deliver(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let outcome = mem::replace(&mut self.outcome, Outcome::None(ImageError::Missing));
        self.desk.arrive(self.place, outcome);
    }
}

#[derive(Debug, Default)]
struct State {
    /// Steps that have been given.
    given: usize,
    /// Steps that have not, the oldest first.
    steps: VecDeque<Step>,
    arrived: VecDeque<(Place, Photo)>,
    withheld: usize,
    fault: Option<Error>,
    stopped: bool,
}

#[derive(Debug)]
struct Step {
    matrix: Array2<f32>,
    errors: Vec<Option<ImageError>>,
    missing: usize,
}

impl Step {
    fn new(photos: usize, dim: usize) -> Self {
        let mut errors = Vec::new();
        errors.resize_with(photos, || None);
        Self {
            matrix: Array2::from_elem((photos, dim), f32::NAN),
            errors,
            missing: photos,
        }
    }
}

impl State {
    /// The step of a place; none if it has been given up.
    fn step(&mut self, place: Place) -> Option<&mut Step> {
        self.steps.get_mut(place.step.checked_sub(self.given)?)
    }

    fn refuse(&mut self, place: Place, error: ImageError) {
        if let Some(step) = self.step(place) {
            step.errors[place.slot] = Some(error);
            step.missing -= 1;
        }
    }

    fn is_oldest_complete(&self) -> bool {
        self.steps.front().is_none_or(|step| step.missing == 0)
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what came of a read.
    fn arrive(&self, place: Place, outcome: Outcome) {
        let mut state = self.lock();
        match outcome {
            Outcome::Photo(photo) => {
                state.withheld = 0;
                state.arrived.push_back((place, photo));
            }
            Outcome::None(error) => {
                state.withheld = 0;
                state.refuse(place, error);
            }
            Outcome::Withheld(fault) => {
                state.withheld += 1;
                if state.withheld == WITHHELD_IN_A_ROW {
                    state.fault.get_or_insert(fault.into());
                } else {
                    let reason = fault.reason;
                    state.refuse(place, ImageError::NotRead { reason });
                }
            }
            Outcome::Fault(error) => {
                state.fault.get_or_insert(error);
            }
        }
        drop(state);
        self.news.notify_all();
    }

    /// Waits for photos and takes those that are there, up to a number; none once the oldest step
    /// is complete.
    fn take(
        &self,
        most: usize,
        photos: &mut Vec<(Place, Photo)>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let mut state = self.lock();
        loop {
            if let Some(fault) = state.fault.take() {
                return Err(fault);
            }
            if state.is_oldest_complete() {
                return Ok(());
            }
            if !state.arrived.is_empty() {
                let number = state.arrived.len().min(most);
                photos.extend(state.arrived.drain(..number));
                return Ok(());
            }
            if state.stopped {
                return Err(Error::Interrupted);
            }
            drop(state);
            if interrupted() {
                return Err(Error::Interrupted);
            }
            state = self.lock();
            if state.arrived.is_empty() && state.fault.is_none() && !state.is_oldest_complete() {
                let waited = self.news.wait_timeout(state, LOOK_INTERVAL);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Notes the rows and errors of photos.
    fn note(
        &self,
        places: impl Iterator<Item = Place>,
        rows: &[f32],
        errors: Vec<Option<ImageError>>,
    ) {
        let dim = rows.len() / errors.len();
        let mut state = self.lock();
        for ((place, row), error) in places.zip(rows.chunks(dim)).zip(errors) {
            if let Some(step) = state.step(place) {
                let target = step.matrix.row_mut(place.slot);
                target
                    .into_iter()
                    .zip(row)
                    .for_each(|(to, from)| *to = *from);
                step.errors[place.slot] = error;
                step.missing -= 1;
            }
        }
        drop(state);
        self.news.notify_all();
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.news.notify_all();
    }
}
