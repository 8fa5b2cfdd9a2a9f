//! Many images to one matrix and one error slot per image: batches and threads.

use std::mem;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use ndarray::Array2;

use crate::contract::Contract;
use crate::decode::{DecodeOptions, Decoder};
use crate::fork::ForkAwareMutex;
use crate::model::Model;
use crate::resize::{Resizer, Size};
use crate::{Error, ImageError, Result};

/// How a [`Featurizer`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that decode and run the model, each with a session of its own.
    pub threads: NonZeroUsize,
    /// Images that go through the model at once.
    pub batch_size: NonZeroUsize,
    /// How images are decoded.
    pub decode: DecodeOptions,
}

impl Options {
    /// MobileNetV2 was fastest with two (4 % over eight): more images leave the cache between two
    /// layers, and take twice the memory.
    pub const DEFAULT_BATCH_SIZE: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
            batch_size: Self::DEFAULT_BATCH_SIZE,
            decode: DecodeOptions::default(),
        }
    }
}

/// What came out of a call.
#[derive(Debug)]
pub struct Features {
    /// A row per image, float32 `[n, dim]`; of NaN where the image has an error.
    pub matrix: Array2<f32>,
    /// A slot per image.
    pub errors: Vec<Option<ImageError>>,
}

/// Turns encoded images into feature vectors.
///
/// Nothing is started before the first batch: no thread, no session, no ONNX Runtime. Threads live
/// no longer than a call, so that a process can fork between calls.
#[derive(Debug)]
pub struct Featurizer {
    pub(crate) contract: Contract,
    pub(crate) runtime: PathBuf,
    options: Options,
    workers: ForkAwareMutex<Vec<Worker>>,
}

impl Featurizer {
    /// Checks the model file. `runtime` is the library file of ONNX Runtime, loaded on first use.
    ///
    /// # Errors
    /// Those of [`Contract::read`].
    pub fn open(
        model: impl Into<PathBuf>,
        runtime: impl Into<PathBuf>,
        options: Options,
    ) -> Result<Self> {
        Ok(Self {
            contract: Contract::read(model)?,
            runtime: runtime.into(),
            options,
            workers: ForkAwareMutex::new(Vec::new()),
        })
    }

    /// What the model promises.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// How this featurizer works.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// What each thread works with, for one caller at a time.
    pub(crate) fn workers(&self) -> Result<MutexGuard<'_, Vec<Worker>>> {
        let Options {
            threads, decode, ..
        } = self.options;
        let mut workers = self.workers.lock()?;
        workers.resize_with(threads.get(), || Worker::new(decode));
        Ok(workers)
    }

    /// The features of encoded images, in their order. `None` is a slot without an image.
    ///
    /// `interrupted` is asked on the calling thread before each image; its `true` ends the call.
    /// Calls from several threads take turns.
    ///
    /// # Errors
    /// An image that can't be read fills its error slot. [`Error`] is of the model, of ONNX
    /// Runtime, [`Error::ForkedWhileBusy`] or [`Error::Interrupted`].
    pub fn featurize(
        &self,
        images: &[Option<&[u8]>],
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Features> {
        let Self {
            contract,
            runtime,
            options,
            workers: _,
        } = self;
        let Options {
            threads,
            batch_size,
            decode: _,
        } = *options;
        let mut workers = self.workers()?;

        let mut matrix = Array2::zeros((images.len(), contract.dim));
        let mut errors = Vec::new();
        errors.resize_with(images.len(), || None);

        // A small call is spread over all threads.
        let step = images
            .len()
            .div_ceil(threads.get())
            .clamp(1, batch_size.get());
        let rows = matrix.as_slice_mut().unwrap_or_default();
        let batches = images
            .chunks(step)
            .zip(rows.chunks_mut(step * contract.dim));
        let jobs = Jobs::new(batches.zip(errors.chunks_mut(step)).map(
            |((images, rows), errors)| Batch {
                images,
                rows,
                errors,
            },
        ));
        let work = |worker: &mut Worker, interrupted: &mut dyn FnMut() -> bool| -> Result<()> {
            while let Some(batch) = jobs.next() {
                worker
                    .run(contract, runtime, batch, interrupted)
                    .inspect_err(|_| jobs.stop())?;
            }
            Ok(())
        };
        let help = |worker: &mut Worker| match work(worker, &mut || jobs.stopped()) {
            // Whoever stopped the jobs says why.
            Err(Error::Interrupted) => Ok(()),
            result => result,
        };
        let Some((first, others)) = workers.split_first_mut() else {
            unreachable!("at least one thread")
        };
        let batches = images.len().div_ceil(step);
        let others = &mut others[..batches.saturating_sub(1).min(threads.get() - 1)];
        thread::scope(|scope| {
            let others: Vec<_> = others
                .iter_mut()
                .map(|worker| scope.spawn(|| help(worker)))
                .collect();
            let mut result = work(first, interrupted);
            for other in others {
                let other = other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })?;
        Ok(Features { matrix, errors })
    }
}

/// The images of one run of the model, and where their results go.
pub(crate) struct Batch<'a> {
    pub(crate) images: &'a [Option<&'a [u8]>],
    pub(crate) rows: &'a mut [f32],
    pub(crate) errors: &'a mut [Option<ImageError>],
}

/// Batches that threads take in turn, until one of them stops it.
struct Jobs<I> {
    batches: Mutex<I>,
    stopped: AtomicBool,
}

impl<I: Iterator> Jobs<I> {
    fn new(batches: I) -> Self {
        Self {
            batches: Mutex::new(batches),
            stopped: AtomicBool::new(false),
        }
    }

    fn next(&self) -> Option<I::Item> {
        if self.stopped() {
            return None;
        }
        self.batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What one thread needs, kept from batch to batch while they go well: a session and buffers.
#[derive(Debug)]
pub(crate) struct Worker {
    decode: DecodeOptions,
    decoder: Decoder,
    resizer: Resizer,
    pixels: Vec<u8>,
    model: Option<Model>,
}

impl Worker {
    fn new(decode: DecodeOptions) -> Self {
        Self {
            decode,
            decoder: Decoder::new(decode),
            resizer: Resizer::default(),
            pixels: Vec::new(),
            model: None,
        }
    }

    /// Fills the rows and error slots of a batch.
    ///
    /// A batch that fails on the whole, or panics, leaves a new worker behind: no session and no
    /// buffer that was in the middle of something meets another photo.
    pub(crate) fn run(
        &mut self,
        contract: &Contract,
        runtime: &Path,
        batch: Batch<'_>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let mut worker = mem::replace(self, Self::new(self.decode));
        worker.run_batch(contract, runtime, batch, interrupted)?;
        *self = worker;
        Ok(())
    }

    fn run_batch(
        &mut self,
        contract: &Contract,
        runtime: &Path,
        batch: Batch<'_>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let Self {
            decode: _,
            decoder,
            resizer,
            pixels,
            model,
        } = self;
        let Batch {
            images,
            rows,
            errors,
        } = batch;
        let image_bytes = contract.size.bytes();
        pixels.resize(images.len() * image_bytes, 0);

        // The images that can be read close ranks: the model sees no others.
        let mut read = 0;
        for (image, error) in images.iter().zip(errors.iter_mut()) {
            if interrupted() {
                return Err(Error::Interrupted);
            }
            let target = &mut pixels[read * image_bytes..][..image_bytes];
            match prepare_into(decoder, resizer, *image, target, contract.size) {
                Ok(()) => read += 1,
                Err(reason) => *error = Some(reason),
            }
        }
        if read > 0 {
            let model = match model {
                Some(model) => model,
                None => model.insert(Model::load(contract, runtime)?),
            };
            model.run_into(
                &pixels[..read * image_bytes],
                &mut rows[..read * contract.dim],
            )?;
        }
        spread(rows, contract.dim, read, errors);
        Ok(())
    }
}

/// Decodes an image and resizes it into `target`.
fn prepare_into(
    decoder: &mut Decoder,
    resizer: &mut Resizer,
    image: Option<&[u8]>,
    target: &mut [u8],
    size: Size,
) -> Result<(), ImageError> {
    let (pixels, from) = decoder.decode(image.ok_or(ImageError::Missing)?)?;
    resizer.resize_into(pixels, from, target, size);
    Ok(())
}

/// Moves the first `filled` rows to the slots without an error, and fills the others with NaN.
fn spread<E>(rows: &mut [f32], dim: usize, mut filled: usize, errors: &[Option<E>]) {
    for (slot, error) in errors.iter().enumerate().rev() {
        if error.is_some() {
            rows[slot * dim..][..dim].fill(f32::NAN);
        } else {
            filled -= 1;
            rows.copy_within(filled * dim..(filled + 1) * dim, slot * dim);
        }
    }
}
