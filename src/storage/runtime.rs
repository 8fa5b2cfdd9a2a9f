//! The threads that read and the connections that they keep, once per process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::{future, io, mem, process, thread};

use tokio::runtime::{Builder, Handle};

use super::s3::Bucket;
use super::settings::S3Settings;
use crate::fork::{ForkAwareMutex, HeldByParent};
use crate::{Error, Result};

const THREAD_NAME: &str = "pomona-reads";

/// Threads that wait for disks and for DNS. Requests to S3 need none: one more thread waits for all
/// of them.
const MAX_BLOCKING_THREADS: usize = 8;

static READING: ForkAwareMutex<Option<Reading>> = ForkAwareMutex::new(None);

struct Reading {
    process: u32,
    handle: Handle,
    buckets: Buckets,
}

/// Clients of buckets, each of which keeps its connections.
pub(crate) type Buckets = Arc<Mutex<HashMap<(String, S3Settings), Arc<Bucket>>>>;

/// The tokio runtime of this process and its clients, started on first use.
pub(crate) fn runtime() -> Result<(Handle, Buckets)> {
    let locked = READING.lock();
    let mut reading = locked
        .map_err(|HeldByParent| Error::ForkedWhileStarting("the thread that reads photos"))?;
    let process = process::id();
    if let Some(parents) = reading.take_if(|reading| reading.process != process) {
        // Dropping it would close connections that the parent uses.
        mem::forget(parents);
    }
    let reading = match &mut *reading {
        Some(reading) => reading,
        None => reading.insert(Reading {
            process,
            handle: start().map_err(Error::StartReading)?,
            buckets: Buckets::default(),
        }),
    };
    Ok((reading.handle.clone(), Arc::clone(&reading.buckets)))
}

fn start() -> io::Result<Handle> {
    // Before the first client: reqwest uses the provider of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name(THREAD_NAME)
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    // A multi-threaded runtime would panic if its thread could not be started.
    thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(move || runtime.block_on(future::pending::<()>()))?;
    Ok(handle)
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
