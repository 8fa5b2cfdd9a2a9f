//! Where a photo is, from its path as Spark gives it.

use std::path::PathBuf;

use crate::{Error, Result};

/// The schemes of S3: one and the same store, by three of Hadoop's clients.
const S3_SCHEMES: [&str; 3] = ["s3", "s3a", "s3n"];

/// A photo's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of this machine.
    File(PathBuf),
    /// An object of S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key, as it is: neither encoded nor decoded.
        key: String,
    },
}

impl Location {
    /// Reads a path of `binaryFile`, in which every character stands for itself: `%20` is no space.
    ///
    /// # Errors
    /// [`Error::Path`] for a path of another store, and for one that names no photo.
    pub fn parse(path: &str) -> Result<Self> {
        let refused = |reason: &str| {
            Err(Error::Path {
                path: path.to_owned(),
                reason: reason.to_owned(),
            })
        };
        let Some((scheme, rest)) = split_scheme(path) else {
            return match path {
                "" => refused("it is empty"),
                _ => Ok(Self::File(PathBuf::from(path))),
            };
        };
        if scheme.eq_ignore_ascii_case("file") {
            let local = match rest.strip_prefix("//") {
                Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                None => rest,
            };
            return match local.starts_with('/') {
                true => Ok(Self::File(PathBuf::from(local))),
                false => refused("it is a file of another machine"),
            };
        }
        if !is_s3(scheme) {
            return refused(
                "photos are read by their paths from s3, s3a, s3n and file only; for others, read \
                 their content with Spark",
            );
        }
        let bucket_and_key = rest
            .strip_prefix("//")
            .and_then(|rest| rest.split_once('/'));
        match bucket_and_key {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Self::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }),
            _ => refused("it must name a bucket and a key"),
        }
    }
}

/// Whether a scheme is one of S3.
pub(super) fn is_s3(scheme: &str) -> bool {
    S3_SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
}

/// The scheme, and what follows its colon; `None` for a plain path.
pub(super) fn split_scheme(path: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = path.split_once(':')?;
    let mut letters = scheme.chars();
    let plausible = letters.next()?.is_ascii_alphabetic()
        && letters.all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    (plausible && rest.starts_with('/')).then_some((scheme, rest))
}
