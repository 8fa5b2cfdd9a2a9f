//! Multiply-adds as fast as the processor at hand can do them: what no float32 model can exceed.
//!
//! A cloud's virtual core has a clock that nobody states, and a twin that may be at work on the
//! same units, so a data sheet is no help. Here, chains of multiply-adds run from registers and
//! wait for nothing, on the widest vectors there are. Whoever measures divides their number by the
//! processor time that they took.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use pulp::{Arch, Simd, WithSimd};

/// Chains that run beside each other. Processors start two multiply-adds a cycle and finish one
/// after four or five, so ten keep them busy; with the two factors, these fill 14 of the 16
/// registers of AVX2.
const CHAINS: usize = 12;

/// Multiply-adds of a chain between two looks at the clock: some 20 microseconds.
const STEPS: usize = 10_000;

/// Does float32 multiply-adds on `threads` threads for as long as told, and counts them; each thread
/// does a stretch at least.
///
/// Threads that share a core share its units.
#[must_use]
pub fn multiply_adds(threads: NonZeroUsize, duration: Duration) -> u64 {
    let arch = Arch::new();
    let start = Instant::now();
    let run = || {
        let mut done = 0;
        loop {
            done += arch.dispatch(Chains);
            if start.elapsed() >= duration {
                return done;
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(run)).collect();
        let others = others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        run() + others.sum::<u64>()
    })
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
        // Every value tends to 1, far from infinities and from denormals, which cost time of their
        // own. The compiler knows neither factors nor starts, so it can't merge the chains.
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
        let done = multiply_adds(two, Duration::from_millis(5));
        assert_eq!(done % stretch, 0);
        assert!(done >= 2 * stretch, "{done}");
    }
}
