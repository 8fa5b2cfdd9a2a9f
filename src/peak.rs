//! The peak of the CPU: float32 multiply-adds a second, which no float32 model can exceed.
//!
//! The clock rate of a cloud's virtual core is rarely published, and another virtual core may share
//! its arithmetic units, so the peak is measured: chains of multiply-adds on registers, with the
//! widest vectors of the CPU, limited by neither memory nor latency. Divide their number by the CPU
//! time that they took.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use pulp::{Arch, Simd, WithSimd};

use crate::{Error, Result, crew};

/// Independent chains. CPUs start two multiply-adds a cycle, each of which takes four or five
/// cycles, so ten chains keep them busy; with the two factors, these fill 14 of the 16 registers of
/// AVX2.
const CHAINS: usize = 12;

/// Multiply-adds of a chain between two looks at the clock: some 20 microseconds.
const STEPS: usize = 10_000;

/// Does float32 multiply-adds on `threads` threads for `duration`, and counts them; each thread does
/// at least one stretch.
///
/// Threads that share a core share its arithmetic units. `interrupted` is called on the calling
/// thread; when it returns true, the call ends.
///
/// # Errors
/// [`Error::StartThreads`] or [`Error::Interrupted`].
pub fn multiply_adds(
    threads: NonZeroUsize,
    duration: Duration,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<u64> {
    let arch = Arch::new();
    let start = Instant::now();
    let mut counts = vec![0; threads.get()];
    crew::run(&mut counts, interrupted, |count, should_stop| {
        loop {
            *count += arch.dispatch(Chains);
            if start.elapsed() >= duration {
                return Ok(());
            }
            if should_stop() {
                return Err(Error::Interrupted);
            }
        }
    })?;
    Ok(counts.iter().sum())
}

/// The vectors that [`multiply_adds`] computes with.
#[must_use]
pub fn vectors() -> &'static str {
    match Arch::new() {
        Arch::V4(_) => "AVX-512",
        Arch::V3(_) => "AVX2",
        _ => "SSE2",
    }
}

/// One stretch of all chains; its output is the number of multiply-adds.
struct Chains;

impl WithSimd for Chains {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        // Every value converges to 1, far from infinities and from denormals, which are slower. The
        // compiler knows neither factors nor starts, so it can't merge the chains.
        let [factor, term] = black_box([0.5, 0.5]).map(|half| simd.splat_f32s(half));
        let starts: [f32; CHAINS] = black_box(std::array::from_fn(|chain| chain as f32));
        let mut values = starts.map(|start| simd.splat_f32s(start));
        for _ in 0..STEPS {
            for value in &mut values {
                *value = simd.mul_add_e_f32s(*value, factor, term);
            }
        }
        for value in values {
            black_box(simd.reduce_sum_f32s(value));
        }
        (STEPS * CHAINS * S::F32_LANES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_vectors_are_counted() {
        let lanes = match vectors() {
            "AVX-512" => 16,
            "AVX2" => 8,
            _ => 1,
        };
        assert_eq!(
            Arch::new().dispatch(Chains),
            (STEPS * CHAINS * lanes) as u64
        );
    }

    #[test]
    fn the_work_of_all_threads_is_counted() {
        let two = NonZeroUsize::new(2).expect("not zero");
        let stretch = Arch::new().dispatch(Chains);
        let done = multiply_adds(two, Duration::from_millis(5), &mut || false).expect("runs");
        assert_eq!(done % stretch, 0);
        assert!(done >= 2 * stretch, "{done}");
    }
}
