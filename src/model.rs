//! One model in memory: uint8 images in, float32 features out.

use std::path::Path;
use std::sync::MutexGuard;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use crate::contract::{Contract, INPUT, OUTPUT};
use crate::fork::{ForkAwareMutex, HeldByParent};
use crate::int8::Network;
use crate::resize::CHANNELS;
use crate::{Error, Result};

/// ONNX Runtime allows one environment in a process. It lives from the first batch to the process's
/// end.
static ENVIRONMENT: ForkAwareMutex<Option<Environment>> = ForkAwareMutex::new(None);

/// A model in memory, used by one thread at a time. It starts no thread.
#[derive(Debug)]
pub struct Model {
    contract: Contract,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    OnnxRuntime(Session),
    /// Where it is faster.
    Int8(Network),
}

impl Model {
    /// Loads the model. The first one in a process that ONNX Runtime runs starts it, from the library
    /// file `runtime`.
    ///
    /// # Errors
    /// [`Error::LoadRuntime`], [`Error::StartRuntime`], [`Error::Runtime`] or
    /// [`Error::ForkedWhileStarting`].
    pub fn load(contract: &Contract, runtime: &Path) -> Result<Self> {
        let engine = match Network::read(contract) {
            Some(network) => Engine::Int8(network),
            None => match open(&environment(runtime)?, &contract.path) {
                Ok(session) => Engine::OnnxRuntime(session),
                Err(source) => {
                    return Err(Error::Runtime {
                        path: contract.path.clone(),
                        source,
                    });
                }
            },
        };
        Ok(Self {
            contract: contract.clone(),
            engine,
        })
    }

    /// Computes the features of `n` images: `pixels` is RGB8 `[n, height, width, 3]`, `features`
    /// is written as `[n, dim]`.
    ///
    /// # Errors
    /// [`Error::Runtime`] if ONNX Runtime fails.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn run_into(&mut self, pixels: &[u8], features: &mut [f32]) -> Result<()> {
        let Self { contract, engine } = self;
        let n = pixels.len() / contract.size.bytes();
        assert_eq!(pixels.len(), n * contract.size.bytes(), "whole images");
        assert_eq!(features.len(), n * contract.dim, "a row for each image");
        let session = match engine {
            Engine::Int8(network) => {
                network.run_into(pixels, features);
                return Ok(());
            }
            Engine::OnnxRuntime(session) => session,
        };
        let shape = [n, contract.size.height, contract.size.width, CHANNELS];
        let mut run = || -> ort::Result<()> {
            let images = TensorRef::from_array_view((shape, pixels))?;
            let outputs = session.run(ort::inputs![INPUT => images])?;
            let (_, values) = outputs[OUTPUT].try_extract_tensor::<f32>()?;
            if values.len() != features.len() {
                return Err(ort::Error::new(format!(
                    "{} values for {n} images instead of the {} of the model's contract",
                    values.len(),
                    features.len(),
                )));
            }
            features.copy_from_slice(values);
            Ok(())
        };
        run().map_err(|source| Error::Runtime {
            path: contract.path.clone(),
            source,
        })
    }
}

/// # Errors
/// [`Error::ForkedWhileStarting`] in a child that was forked while ONNX Runtime was being loaded.
pub(crate) fn lock_environment() -> Result<MutexGuard<'static, Option<Environment>>> {
    let locked = ENVIRONMENT.lock();
    locked.map_err(|HeldByParent| Error::ForkedWhileStarting("ONNX Runtime"))
}

fn environment(runtime: &Path) -> Result<Environment> {
    let mut running = lock_environment()?;
    if let Some(environment) = &*running {
        return Ok(environment.clone());
    }
    let started = ort::init_from(runtime)?
        .with_name("pomona")
        .with_telemetry(false)
        .build()
        .map_err(Error::StartRuntime)?;
    Ok(running.insert(started).clone())
}

fn open(environment: &Environment, path: &Path) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // The calling thread runs the whole graph: ONNX Runtime starts no thread.
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        // Otherwise sums of int8 products saturate on CPUs that have AVX2 but not VNNI: the median
        // cosine to float32 is 0.92 instead of 0.998. It costs nothing on CPUs with VNNI.
        .with_precise_qmm()?
        .with_log_level(LogLevel::Error)?
        .commit_from_file(path)
}
