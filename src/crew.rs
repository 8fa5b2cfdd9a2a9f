//! The threads of one call.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{panic, thread};

use rayon::{ThreadBuilder, ThreadPoolBuilder};

use crate::{Error, Result};

/// How often a waiting thread checks whether it should stop.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs `work` with every worker in parallel, and returns once all threads have ended.
///
/// The calling thread takes the first worker, so one worker needs no other thread. The pool of the
/// others lives no longer than the call: a process can fork between calls.
///
/// `work` is given a function that returns whether to stop, which `work` answers with
/// [`Error::Interrupted`]. It returns true once another thread has failed or panicked, or once
/// `interrupted`, which is called on the calling thread only, has returned true.
///
/// # Errors
/// [`Error::StartThreads`], or the first error of `work`; an error that stopped the other threads
/// takes precedence over their [`Error::Interrupted`].
pub(crate) fn run<W: Send>(
    workers: &mut [W],
    interrupted: &mut dyn FnMut() -> bool,
    work: impl Fn(&mut W, &mut dyn FnMut() -> bool) -> Result<()> + Sync,
) -> Result<()> {
    let (own, helpers) = match workers {
        [] => return Ok(()),
        [own] => return work(own, interrupted),
        [own, helpers @ ..] => (own, helpers),
    };
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed);
    let guarded = |worker: &mut W, should_stop: &mut dyn FnMut() -> bool| {
        let guard = StopOnDrop(&stop);
        work(worker, should_stop)?;
        mem::forget(guard);
        Ok(())
    };
    let mut waiting = helpers.len();
    // `build_scoped` returns before its threads have left the process, and a fork may follow at
    // once. So this is the same, except that it joins them.
    thread::scope(|threads| {
        let mut handles = Vec::new();
        let pool = ThreadPoolBuilder::new()
            .num_threads(waiting)
            .spawn_handler(|helper: ThreadBuilder| {
                let thread = thread::Builder::new();
                handles.push(thread.spawn_scoped(threads, || helper.run())?);
                Ok(())
            })
            .build()
            .map_err(Error::StartThreads)?;
        let result = pool.in_place_scope(|scope| {
            let (sender, results) = mpsc::channel();
            for helper in helpers {
                let sender = sender.clone();
                let (guarded, mut stopped) = (&guarded, &stopped);
                // Nobody receives if the calling thread has panicked.
                scope.spawn(move |_| drop(sender.send(guarded(helper, &mut stopped))));
            }
            drop(sender);
            let mut result = guarded(own, &mut || stopped() || interrupted());
            while waiting > 0 {
                let other = match results.recv_timeout(POLL_INTERVAL) {
                    Ok(other) => other,
                    // A helper has panicked; the scope passes the panic on.
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        if !stopped() && interrupted() {
                            stop.store(true, Ordering::Relaxed);
                            result = result.and(Err(Error::Interrupted));
                        }
                        continue;
                    }
                };
                waiting -= 1;
                result = match result {
                    Ok(()) | Err(Error::Interrupted) if other.is_err() => other,
                    result => result,
                };
            }
            result
        });
        drop(pool);
        for handle in handles {
            handle
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic));
        }
        result
    })
}

/// Stops the other threads when one fails or panics: they would wait for the work that it took.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::thread::ThreadId;

    use super::*;

    /// Waits for the order to stop, as work does that waits for photos.
    fn wait(should_stop: &mut dyn FnMut() -> bool) -> Result<()> {
        while !should_stop() {
            thread::sleep(Duration::from_millis(1));
        }
        Err(Error::Interrupted)
    }

    fn fault() -> Error {
        Error::InvalidOption {
            name: "a",
            expected: "b",
            found: "c".to_owned(),
        }
    }

    #[test]
    fn every_worker_has_its_turn_and_the_first_one_is_the_callers() {
        for number in 0..5 {
            let mut workers: Vec<Option<ThreadId>> = vec![None; number];
            run(&mut workers, &mut || false, |worker, _| {
                *worker = Some(thread::current().id());
                Ok(())
            })
            .expect("runs");
            assert!(workers.iter().all(Option::is_some));
            assert!(workers.is_empty() || workers[0] == Some(thread::current().id()));
        }
    }

    #[test]
    fn the_error_of_any_thread_stops_the_others_and_is_the_result() {
        for failing in 0..4 {
            let mut workers = [0, 1, 2, 3];
            let result = run(&mut workers, &mut || false, |worker, should_stop| {
                match *worker == failing {
                    true => Err(fault()),
                    false => wait(should_stop),
                }
            });
            assert!(
                matches!(result, Err(Error::InvalidOption { .. })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn a_panic_of_any_thread_stops_the_others_and_comes_out_of_the_call() {
        for panicking in 0..4 {
            let mut workers = [0, 1, 2, 3];
            let call = || {
                run(&mut workers, &mut || false, |worker, should_stop| {
                    assert!(*worker != panicking, "expected");
                    wait(should_stop)
                })
            };
            panic::catch_unwind(AssertUnwindSafe(call)).expect_err("the panic");
        }
    }

    #[test]
    fn the_caller_asks_while_it_waits_for_the_others_and_not_again_after_a_yes() {
        let mut workers = [true, false, false];
        let mut asked = 0;
        let mut interrupted = || {
            asked += 1;
            asked == 3
        };
        let result = run(
            &mut workers,
            &mut interrupted,
            |own, should_stop| match own {
                true => Ok(()),
                false => wait(should_stop),
            },
        );
        assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
        assert_eq!(asked, 3);
    }
}
