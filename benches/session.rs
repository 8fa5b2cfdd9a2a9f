//! Our ONNX session alone, on prepared pixels and one thread. No featurizer can be faster, so the
//! difference is the cost of Pomona's decoding, resizing and copying.
//!
//! Usage: session MODEL RUNTIME SECONDS

#![expect(
    clippy::print_stdout,
    reason = "the bench reads the result from standard output"
)]

use std::error::Error;
use std::time::{Duration, Instant};
use std::{env, fs};

use pomona::Options;
use pomona::contract::Contract;
use pomona::model::Model;

const BATCH: usize = Options::DEFAULT_BATCH_SIZE.get();
const WARM_UP: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [model, runtime, seconds, ..] = args.as_slice() else {
        return Err("usage: session MODEL RUNTIME SECONDS".into());
    };
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let contract = Contract::read(model)?;
    let mut model = Model::load(&contract, runtime.as_ref())?;
    let pixels: Vec<_> = (0..BATCH * contract.size.bytes())
        .map(|position| (position % 251) as u8)
        .collect();
    let mut features = vec![0.0; BATCH * contract.dim];
    for _ in 0..WARM_UP {
        model.run_into(&pixels, &mut features)?;
    }

    let mut images = 0;
    let start = Instant::now();
    let cpu_start = cpu_time()?;
    while start.elapsed() < seconds {
        model.run_into(&pixels, &mut features)?;
        images += BATCH;
    }
    let wall = start.elapsed();
    let cpu = cpu_time()? - cpu_start;
    println!(
        r#"{{"images_per_second": {}, "images_per_cpu_second": {}, "peak_mb": {}}}"#,
        images as f64 / wall.as_secs_f64(),
        images as f64 / cpu.as_secs_f64(),
        peak_mb()?,
    );
    Ok(())
}

/// CPU time of this thread, the only one that computes.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().ok_or("an empty schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// Peak resident memory, in MiB.
fn peak_mb() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"))
        .ok_or("no VmHWM in /proc/self/status")?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}
