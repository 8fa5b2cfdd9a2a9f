//! The cost of a new decompressor for each JPEG, compared with one that is reused.
//!
//! Usage: cargo bench --bench decompressor -- FOLDER
//!
//! Each round decodes the photos of the folder in both ways; the results are the medians of the
//! rounds. They are wall-clock times, because Linux counts the CPU time of a thread in ticks as long
//! as a quarter of a round. The photos are read beforehand.

#![expect(clippy::print_stdout, reason = "the result is the program's output")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use turbojpeg::{Decompressor, Image, PixelFormat};

const ROUNDS: usize = 51;
const MOST_PHOTOS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let mut paths = Vec::new();
    find_jpegs(
        folder.ok_or("usage: decompressor FOLDER")?.as_ref(),
        &mut paths,
    )?;
    paths.sort();
    paths.truncate(MOST_PHOTOS);
    let photos: Vec<_> = paths.iter().map(fs::read).collect::<Result<_, _>>()?;
    if photos.is_empty() {
        return Err("the folder has no JPEGs".into());
    }

    let mut pixels = Vec::new();
    let mut reused = Decompressor::new()?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for photo in &photos {
            decode(&mut reused, photo, &mut pixels)?;
        }
        let middle = Instant::now();
        for photo in &photos {
            decode(&mut Decompressor::new()?, photo, &mut pixels)?;
        }
        let end = Instant::now();
        // The first round warms up.
        if round > 0 {
            times[0].push(middle - start);
            times[1].push(end - middle);
        }
    }
    let [reused, own] = times.map(|times| median(times).as_secs_f64() * 1e6 / photos.len() as f64);
    println!(
        "{} JPEGs, {ROUNDS} rounds, medians: {reused:.2} us a photo with one decompressor for all, \
         {own:.2} us with one for each: {:+.2} us, {:+.1} %",
        photos.len(),
        own - reused,
        (own / reused - 1.0) * 100.0,
    );
    Ok(())
}

fn find_jpegs(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_jpegs(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "jpg") {
            found.push(path);
        }
    }
    Ok(())
}

fn decode(
    decompressor: &mut Decompressor,
    photo: &[u8],
    pixels: &mut Vec<u8>,
) -> Result<(), Box<dyn Error>> {
    let format = PixelFormat::RGB;
    let header = decompressor.read_header(photo)?;
    let pitch = header.width * format.size();
    pixels.resize(pitch * header.height, 0);
    let image = Image {
        pixels: pixels.as_mut_slice(),
        width: header.width,
        pitch,
        height: header.height,
        format,
    };
    Ok(decompressor.decompress(photo, image)?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
