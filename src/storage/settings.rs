//! How S3 is reached: what a cluster's configuration says of a bucket.

use std::collections::HashMap;
use std::fmt;

/// Where the keys come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// The given keys; without them those of the environment, of the container or of the instance.
    #[default]
    Chain,
    /// The given keys.
    Keys,
    /// None: requests are not signed.
    Anonymous,
    /// Those of the environment.
    Environment,
    /// Those of the container or of the instance.
    Instance,
}

/// How one bucket is reached.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct S3Settings {
    /// Another server than AWS's, with its scheme: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region; without it, AWS is asked.
    pub region: Option<String>,
    /// Whether the bucket's name is in the path of a request and not in the name of the host.
    pub path_style: bool,
    /// Where the keys come from.
    pub credentials: Credentials,
    /// The keys, and what temporary ones have besides.
    pub access_key: Option<String>,
    /// See `access_key`.
    pub secret_key: Option<String>,
    /// See `access_key`.
    pub session_token: Option<String>,
}

/// Logs and errors never have keys in them.
impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// The settings of all buckets.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Of every bucket that has none of its own.
    pub default: S3Settings,
    /// Of single buckets, by name; whole, not only where they differ.
    pub buckets: HashMap<String, S3Settings>,
}

impl Settings {
    /// Those of a bucket.
    #[must_use]
    pub fn of(&self, bucket: &str) -> &S3Settings {
        self.buckets.get(bucket).unwrap_or(&self.default)
    }
}
