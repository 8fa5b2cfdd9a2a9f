//! Many images to one matrix and one error slot per image.

use std::mem;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::Array2;

use crate::contract::Contract;
use crate::decode::{DecodeOptions, Decoded, Decoder, Notes};
use crate::fork::ForkAwareMutex;
use crate::model::{self, Model};
use crate::resize::{Resizer, Size};
use crate::{Error, ImageError, Result, crew};

/// Options of a [`Featurizer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that decode and run the model, each with its own session.
    pub threads: NonZeroUsize,
    /// Images that go through the model at once.
    pub batch_size: NonZeroUsize,
    /// How images are decoded.
    pub decode: DecodeOptions,
}

impl Options {
    /// MobileNetV2 was fastest with two (4 % faster than with eight): the activations of more images
    /// do not fit into the cache between two layers, and take more memory.
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

/// The result of a call.
#[derive(Debug)]
pub struct Features {
    /// A row per image, float32 `[n, dim]`; NaN where the image has an error.
    pub matrix: Array2<f32>,
    /// A slot per image.
    pub errors: Vec<Option<ImageError>>,
    /// What the user should know about each image that has features.
    pub notes: Vec<Notes>,
}

impl Features {
    /// A row of NaN and no error for each image.
    pub(crate) fn new(images: usize, dim: usize) -> Self {
        let mut errors = Vec::new();
        errors.resize_with(images, || None);
        Self {
            matrix: Array2::from_elem((images, dim), f32::NAN),
            errors,
            notes: vec![Notes::default(); images],
        }
    }
}

/// Turns encoded images into feature vectors.
///
/// Nothing is started before the first batch: no thread, no session, no ONNX Runtime. Threads live
/// no longer than a call, so a process can fork between calls.
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

    /// The options.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// The workers, one per thread, for one call at a time.
    pub(crate) fn workers(&self) -> Result<MutexGuard<'_, Vec<Worker>>> {
        let Options {
            threads, decode, ..
        } = self.options;
        let Ok(mut workers) = self.workers.lock() else {
            drop(model::lock_environment()?);
            return Err(Error::ForkedWhileBusy);
        };
        workers.resize_with(threads.get(), || Worker::new(decode));
        Ok(workers)
    }

    /// The features of encoded images, in their order. `None` is a slot without an image.
    ///
    /// `interrupted` is called on the calling thread, before each image that this thread decodes
    /// and while it waits for other threads; when it returns true, the call ends. Calls from several
    /// threads take turns.
    ///
    /// # Errors
    /// An image that can't be decoded fills its error slot. [`Error`] is for a failure of the model
    /// or of ONNX Runtime, for threads that can't be started, [`Error::ForkedWhileBusy`],
    /// [`Error::ForkedWhileStarting`] or [`Error::Interrupted`].
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

        let Features {
            mut matrix,
            mut errors,
            mut notes,
        } = Features::new(images.len(), contract.dim);

        // A small call is spread over all threads.
        let size = images
            .len()
            .div_ceil(threads.get())
            .clamp(1, batch_size.get());
        let rows = matrix.as_slice_mut().unwrap_or_default();
        let rows = rows.chunks_mut(size * contract.dim);
        let slots = errors.chunks_mut(size).zip(notes.chunks_mut(size));
        let batches = images.chunks(size).zip(rows).zip(slots);
        let busy = batches.len().min(threads.get());
        let batches = Mutex::new(batches);
        let next = || {
            let mut batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            let ((images, rows), (errors, notes)) = batches.next()?;
            Some(Batch {
                images,
                rows,
                errors,
                notes,
            })
        };
        crew::run(&mut workers[..busy], interrupted, |worker, should_stop| {
            while let Some(batch) = next() {
                worker.run(contract, runtime, batch, should_stop)?;
            }
            Ok(())
        })?;
        Ok(Features {
            matrix,
            errors,
            notes,
        })
    }
}

/// The images of one run of the model, and where their results go.
pub(crate) struct Batch<'a> {
    pub(crate) images: &'a [Option<&'a [u8]>],
    pub(crate) rows: &'a mut [f32],
    pub(crate) errors: &'a mut [Option<ImageError>],
    pub(crate) notes: &'a mut [Notes],
}

/// What one thread needs, a session and buffers, kept from batch to batch unless one fails.
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
    /// A batch that fails, is interrupted or panics leaves a new worker behind: no other photo meets
    /// a session or a buffer in an unknown state.
    pub(crate) fn run(
        &mut self,
        contract: &Contract,
        runtime: &Path,
        batch: Batch<'_>,
        should_stop: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let mut worker = mem::replace(self, Self::new(self.decode));
        worker.run_batch(contract, runtime, batch, should_stop)?;
        *self = worker;
        Ok(())
    }

    fn run_batch(
        &mut self,
        contract: &Contract,
        runtime: &Path,
        batch: Batch<'_>,
        should_stop: &mut dyn FnMut() -> bool,
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
            notes,
        } = batch;
        let image_bytes = contract.size.bytes();
        pixels.resize(images.len() * image_bytes, 0);

        // The decoded images close ranks: the model sees no others.
        let mut decoded = 0;
        for ((image, error), notes) in images.iter().zip(errors.iter_mut()).zip(notes) {
            if should_stop() {
                return Err(Error::Interrupted);
            }
            let target = &mut pixels[decoded * image_bytes..][..image_bytes];
            match prepare_into(decoder, resizer, *image, target, contract.size) {
                Ok(noted) => {
                    *notes = noted;
                    decoded += 1;
                }
                Err(reason) => *error = Some(reason),
            }
        }
        if decoded > 0 {
            let model = match model {
                Some(model) => model,
                None => model.insert(Model::load(contract, runtime)?),
            };
            model.run_into(
                &pixels[..decoded * image_bytes],
                &mut rows[..decoded * contract.dim],
            )?;
        }
        spread(rows, contract.dim, decoded, errors);
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
) -> Result<Notes, ImageError> {
    let Decoded {
        pixels,
        size: from,
        notes,
    } = decoder.decode(image.ok_or(ImageError::Missing)?, Some(size))?;
    resizer.resize_into(pixels, from, target, size);
    Ok(notes)
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
