//! The cost of a call: small and large batches of photos on one thread and on two.
//!
//! Usage: cargo bench --bench calls -- MODEL RUNTIME FOLDER SECONDS
//!
//! Prints a line per number of threads and of photos: the median time of a call, in
//! microseconds a photo. To compare two builds, run them in turn and compare the medians of the runs.

#![expect(clippy::print_stdout, reason = "the results are the program's output")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use pomona::{Featurizer, Options};

const THREADS: [usize; 2] = [1, 2];
const PHOTOS: [usize; 4] = [1, 2, 8, 100];
const WARM_UP: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let [model, runtime, folder, seconds] = args.as_slice() else {
        return Err("usage: calls MODEL RUNTIME FOLDER SECONDS".into());
    };
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let photos = photos(folder.as_ref())?;
    for threads in THREADS {
        let options = Options {
            threads: NonZeroUsize::new(threads).ok_or("no threads")?,
            ..Options::default()
        };
        let featurizer = Featurizer::open(model, runtime, options)?;
        for number in PHOTOS {
            let images: Vec<_> = photos.iter().cycle().take(number).collect();
            let images: Vec<_> = images.iter().map(|photo| Some(&photo[..])).collect();
            for _ in 0..WARM_UP {
                featurizer.featurize(&images, &mut || false)?;
            }
            let mut times = Vec::new();
            let start = Instant::now();
            while start.elapsed() < seconds {
                let call = Instant::now();
                featurizer.featurize(&images, &mut || false)?;
                times.push(call.elapsed());
            }
            times.sort();
            println!(
                r#"{{"threads": {threads}, "photos": {number}, "calls": {}, "us": {:.2}}}"#,
                times.len(),
                times[times.len() / 2].as_secs_f64() * 1e6 / number as f64,
            );
        }
    }
    Ok(())
}

/// The first JPEGs of a folder, by name.
fn photos(folder: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    paths.truncate(PHOTOS[PHOTOS.len() - 1]);
    match paths.is_empty() {
        true => Err("the folder has no JPEGs".into()),
        false => Ok(paths.iter().map(fs::read).collect::<Result<_, _>>()?),
    }
}
