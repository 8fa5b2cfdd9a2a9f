//! Paths of photos, as Spark has them.

use std::path::PathBuf;

use crate::{Error, Result};

/// The schemes of S3: one store, by three of Hadoop's clients.
const S3_SCHEMES: [&str; 3] = ["s3", "s3a", "s3n"];

/// Where a photo is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of this machine.
    File(PathBuf),
    /// An object of S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key, verbatim: neither encoded nor decoded.
        key: String,
    },
}

impl Location {
    /// Parses a path of `binaryFile`, in which every character stands for itself: `%20` is not a
    /// space.
    ///
    /// # Errors
    /// [`Error::Path`] for a path of another store, and for one without a file or key.
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
        match S3Path::parse(path) {
            Some(S3Path { bucket, key, .. }) if !key.is_empty() => Ok(Self::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }),
            _ => refused("it must name a bucket and a key"),
        }
    }
}

/// The parts of a path of S3. The key is empty in the path of a whole bucket.
pub(super) struct S3Path<'a> {
    pub(super) scheme: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
}

impl<'a> S3Path<'a> {
    /// The parts of a path; `None` if it has another scheme or no bucket.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let (scheme, rest) = split_scheme(path).filter(|(scheme, _)| is_s3(scheme))?;
        let rest = rest.strip_prefix("//")?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        (!bucket.is_empty()).then_some(Self {
            scheme,
            bucket,
            key,
        })
    }
}

fn is_s3(scheme: &str) -> bool {
    S3_SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
}

/// The scheme, and what follows its colon; `None` for a plain path.
fn split_scheme(path: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = path.split_once(':')?;
    let mut letters = scheme.chars();
    let plausible = letters.next()?.is_ascii_alphabetic()
        && letters.all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    (plausible && rest.starts_with('/')).then_some((scheme, rest))
}
