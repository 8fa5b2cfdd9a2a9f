//! The threads that read, and the connections that they keep: one of each in a process.

use std::collections::HashMap;
use std::mem;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use super::s3::Bucket;
use super::settings::S3Settings;
use crate::fork::ForkAwareMutex;
use crate::{Error, Result};

/// All waiting is done by one thread: the cores are for the photos.
const THREADS: usize = 1;

/// How often a thread that waits for a store looks whether it should stop.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

static READING: ForkAwareMutex<Option<Reading>> = ForkAwareMutex::new(None);

struct Reading {
    process: u32,
    runtime: Runtime,
    buckets: Buckets,
}

/// Clients of buckets, each of which keeps its connections.
pub(crate) type Buckets = Arc<Mutex<HashMap<(String, S3Settings), Arc<Bucket>>>>;

/// The runtime of this process and its clients, started on first use.
pub(crate) fn runtime() -> Result<(Handle, Buckets)> {
    let mut reading = READING.lock()?;
    let here = process::id();
    if let Some(other) = reading.take_if(|reading| reading.process != here) {
        // It was the parent's: its threads are not here, and ending it would wait for them.
        mem::forget(other);
    }
    let reading = match &mut *reading {
        Some(reading) => reading,
        None => {
            // Before the first client: reqwest takes the process's.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("pomona-reads")
                .enable_all()
                .build()
                .map_err(Error::StartReading)?;
            reading.insert(Reading {
                process: here,
                runtime,
                buckets: Buckets::default(),
            })
        }
    };
    Ok((
        reading.runtime.handle().clone(),
        Arc::clone(&reading.buckets),
    ))
}

/// The client of a bucket.
pub(crate) fn bucket(buckets: &Buckets, name: &str, settings: &S3Settings) -> Arc<Bucket> {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (name.to_owned(), settings.clone());
    Arc::clone(
        buckets
            .entry(key)
            .or_insert_with(|| Arc::new(Bucket::new(name, settings))),
    )
}
