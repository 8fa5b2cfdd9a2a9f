//! What goes wrong with a read: whose fault it is, and whether another try may help.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

use crate::ImageError;

/// Why a try to read a photo failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another try may do better.
    Passing(String),
    /// Another try may do better; if several in a row don't, it is a fault.
    Lasting {
        reason: String,
        remedy: &'static str,
    },
    /// The store won't give this photo.
    Refused(String),
    /// It is of the photo.
    Photo(ImageError),
    /// It is of a name, which the client can't ask for.
    Name(String),
    /// It would be the same with every other photo.
    Fault {
        reason: String,
        remedy: &'static str,
    },
}

pub(crate) const CHECK_ENDPOINT: &str =
    "check the endpoint (fs.s3a.endpoint) and the network of the cluster";
pub(crate) const CHECK_STORE: &str = "check that the store works, and what may be read there";
pub(crate) const CHECK_CREDENTIALS: &str = "check the credentials (fs.s3a.access.key, \
     fs.s3a.secret.key and fs.s3a.session.token, or the role of the cluster) and what they may do";
const CHECK_BUCKET: &str = "check its name";
pub(crate) const CHECK_REGION: &str = "set fs.s3a.endpoint.region to the bucket's region";

/// An answer of S3 that is none of success.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub(crate) struct Refusal {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    region: Option<String>,
}

impl Refusal {
    /// Reads the answer's XML.
    pub(crate) fn new(status: u16, region: Option<&str>, body: &str) -> Self {
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

    fn trouble(&self) -> Trouble {
        let said = self.describe();
        let fault = |what: &str, remedy| Trouble::Fault {
            reason: format!("{what} ({said})"),
            remedy,
        };
        match (self.status, self.code.as_deref()) {
            (_, Some("SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable"))
            | (408 | 429 | 500.., _) => Trouble::Passing(said),
            (_, Some("NoSuchBucket")) => fault("there is no such bucket", CHECK_BUCKET),
            (_, Some("NoSuchKey")) => Trouble::Photo(ImageError::Gone),
            (404, None) => fault("what answers there is no S3 server", CHECK_ENDPOINT),
            (404, _) => Trouble::Photo(ImageError::Gone),
            (300..=399, _) | (_, Some("AuthorizationHeaderMalformed" | "PermanentRedirect")) => {
                let region = self.region.as_deref().unwrap_or("another one");
                fault(
                    &format!("the bucket is not in the region that was asked, but in {region}"),
                    CHECK_REGION,
                )
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
            _ => Trouble::Refused(said),
        }
    }
}

/// The text of the first XML element of a name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.is_empty()).then(|| text.to_owned())
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        if let Some(refusal) = find::<Refusal>(&error) {
            return refusal.trouble();
        }
        let reason = innermost(&error);
        if let object_store::Error::InvalidPath { .. } = error {
            return Self::Name(reason);
        }
        match find::<HttpError>(&error).map(HttpError::kind) {
            Some(HttpErrorKind::Connect) => Self::Lasting {
                reason: format!("there is no way to it: {reason}"),
                remedy: CHECK_ENDPOINT,
            },
            Some(_) => Self::Passing(reason),
            None => Self::Refused(reason),
        }
    }
}

/// The first error of a kind in a chain of sources.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    sources(error).find_map(|source| source.downcast_ref())
}

/// What the last source of an error says, which is what happened.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    sources(error).last().unwrap_or(error).to_string()
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
