//! Errors of S3: which of them a retry can fix, and what to do about the others.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

use crate::ImageError;
use crate::storage::retry::{StoreError, TryError};

pub(super) const CHECK_ENDPOINT: &str =
    "check the endpoint (fs.s3a.endpoint) and the network of the cluster";
pub(crate) const CHECK_STORE: &str = "check that the store works, and what may be read there";
pub(super) const CHECK_CREDENTIALS: &str = "check the credentials (fs.s3a.access.key, \
     fs.s3a.secret.key and fs.s3a.session.token, or the role of the cluster) and what they may do";
const CHECK_BUCKET: &str = "check its name";
pub(super) const CHECK_REGION: &str = "set fs.s3a.endpoint.region to the bucket's region";

/// An unsuccessful response of S3.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub(super) struct ErrorResponse {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    region: Option<String>,
}

impl ErrorResponse {
    /// Parses the XML of the response's body.
    pub(super) fn new(status: u16, region: Option<&str>, body: &str) -> Self {
        Self {
            status,
            code: element(body, "Code"),
            message: element(body, "Message"),
            region: region
                .map(str::to_owned)
                .or_else(|| element(body, "Region")),
        }
    }

    fn describe(&self) -> String {
        let code = self.code.as_deref().unwrap_or("no reason given");
        match &self.message {
            Some(message) => format!("{} {code}: {message}", self.status),
            None => format!("{} {code}", self.status),
        }
    }

    fn try_error(&self) -> TryError {
        let description = self.describe();
        let fault =
            |what: &str, remedy| StoreError::fault(format!("{what} ({description})"), remedy);
        TryError::Permanent(match (self.status, self.code.as_deref()) {
            (_, Some("SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable"))
            | (408 | 429 | 500.., _) => return TryError::Transient(description),
            (_, Some("NoSuchBucket")) => fault("there is no such bucket", CHECK_BUCKET),
            (_, Some("NoSuchKey")) => StoreError::Photo(ImageError::Gone),
            (404, None) => fault("the server is not an S3 server", CHECK_ENDPOINT),
            (404, _) => StoreError::Photo(ImageError::Gone),
            (300..=399, _) | (_, Some("AuthorizationHeaderMalformed" | "PermanentRedirect")) => {
                let region = self.region.as_deref().unwrap_or("another one");
                let what = format!("the bucket is not in the requested region, but in {region}");
                fault(&what, CHECK_REGION)
            }
            (
                _,
                Some(
                    "InvalidAccessKeyId"
                    | "SignatureDoesNotMatch"
                    | "ExpiredToken"
                    | "InvalidToken"
                    | "TokenRefreshRequired"
                    | "InvalidSecurity"
                    | "RequestTimeTooSkewed"
                    | "NotSignedUp"
                    | "AccountProblem",
                ),
            ) => fault("it does not accept the credentials", CHECK_CREDENTIALS),
            _ => StoreError::Refused(description),
        })
    }
}

/// The text of the first XML element with a name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.is_empty()).then(|| text.to_owned())
}

impl From<object_store::Error> for TryError {
    fn from(error: object_store::Error) -> Self {
        if let Some(response) = find::<ErrorResponse>(&error) {
            return response.try_error();
        }
        let reason = root_cause(&error);
        if let object_store::Error::InvalidPath { .. } = error {
            return StoreError::Name(reason).into();
        }
        match find::<HttpError>(&error).map(HttpError::kind) {
            Some(HttpErrorKind::Connect) => Self::Unreachable {
                reason: format!("it can't be reached: {reason}"),
                remedy: CHECK_ENDPOINT,
            },
            Some(_) => Self::Transient(reason),
            None => StoreError::Refused(reason).into(),
        }
    }
}

/// The first error of a type in a chain of sources.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    sources(error).find_map(|source| source.downcast_ref())
}

/// The message of the last source of an error.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    sources(error).last().unwrap_or(error).to_string()
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
