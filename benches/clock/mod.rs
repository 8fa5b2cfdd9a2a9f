//! The clock of the benches.

use std::error::Error;
use std::fs;
use std::time::Duration;

/// Processor time of this thread.
pub fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().ok_or("an empty schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}
