//! How S3 is reached: the settings of a cluster's configuration for each bucket.

use std::collections::HashMap;
use std::fmt;

/// Where the keys come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// The given keys, or else those of the environment, of the container or of the instance.
    #[default]
    Chain,
    /// The given keys.
    Keys,
    /// Nowhere: requests are not signed.
    Anonymous,
    /// The environment.
    Environment,
    /// The container or the instance.
    Instance,
}

/// How one bucket is reached.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct S3Settings {
    /// A server other than AWS's, with its scheme: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region; AWS is asked if there is none.
    pub region: Option<String>,
    /// Whether requests have the bucket's name in their path and not in the host name.
    pub path_style: bool,
    /// Where the keys come from.
    pub credentials: Credentials,
    /// The given access key.
    pub access_key: Option<String>,
    /// Its secret key.
    pub secret_key: Option<String>,
    /// Its session token, if it is temporary.
    pub session_token: Option<String>,
}

/// Leaves the keys out: logs and errors must not contain them.
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
    /// The settings of every bucket that is not in `buckets`.
    pub default: S3Settings,
    /// The complete settings of single buckets, by name.
    pub buckets: HashMap<String, S3Settings>,
}

impl Settings {
    /// The settings of a bucket.
    #[must_use]
    pub fn of(&self, bucket: &str) -> &S3Settings {
        self.buckets.get(bucket).unwrap_or(&self.default)
    }
}
