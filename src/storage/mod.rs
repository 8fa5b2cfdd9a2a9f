//! Photos on S3 or on the local disk: listed, and read concurrently within a budget of bytes.

mod budget;
mod list;
mod local;
mod location;
mod options;
mod reader;
mod retry;
mod runtime;
mod s3;
mod settings;

pub use list::{ListedFile, Listing, list_folders};
pub use location::Location;
pub use options::ReadOptions;
pub use settings::{Credentials, S3Settings, Settings};

pub(crate) use budget::Photo;
pub(crate) use reader::{READING, ReadError, Reader};
pub(crate) use runtime::runtime;
