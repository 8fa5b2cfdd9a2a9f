//! Photos where they are, on S3 or the disk: listed and read, many at a time, in so many bytes.

mod limits;
mod list;
mod local;
mod location;
mod reader;
mod runtime;
mod s3;
mod settings;
mod tries;
mod trouble;

pub use limits::Limits;
pub use list::{ListedFile, Listing, list_folders};
pub use location::Location;
pub use settings::{Credentials, S3Settings, Settings};

pub(crate) use reader::{Outcome, Photo, READING, Reader};
pub(crate) use runtime::{LOOK_INTERVAL, runtime};
