//! One bucket of S3: its client, and single tries of reading an object and of listing some.

mod error;

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, resolve_bucket_region};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientOptions, HeaderMap, HeaderValue, ObjectStoreExt, RetryConfig};
use tokio::sync::OnceCell;
use tokio::time::error::Elapsed;
use tokio::time::{timeout, timeout_at};

use self::error::{CHECK_CREDENTIALS, CHECK_REGION, ErrorResponse, root_cause};
use super::budget::{ByteBudget, Photo};
use super::retry::{Deadline, StoreError, TryError};
use super::settings::{Credentials, S3Settings};

pub(crate) use self::error::CHECK_STORE;

/// Connecting takes some milliseconds within a region; a server that is gone never answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The metadata service of an instance runs on the same machine.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
const METADATA: &str = "http://169.254.169.254/latest";
const METADATA_ENDPOINT_VARIABLE: &str = "AWS_METADATA_ENDPOINT";
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// The region that servers other than AWS's expect in a signature.
const DEFAULT_REGION: &str = "us-east-1";
const CONTENT_LENGTH: &str = "content-length";
const BUCKET_REGION: &str = "x-amz-bucket-region";
/// Bytes of an error response's body that are parsed.
const MAX_ERROR_BODY: usize = 16 * 1024;

/// A bucket, and its client once it has been used.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    settings: S3Settings,
    client: OnceCell<AmazonS3>,
}

impl Bucket {
    pub(crate) fn new(name: &str, settings: &S3Settings) -> Self {
        Self {
            name: name.to_owned(),
            settings: settings.clone(),
            client: OnceCell::new(),
        }
    }

    /// The bucket and its endpoint, for error messages.
    pub(crate) fn place(&self) -> String {
        let at = match (&self.settings.endpoint, &self.settings.region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => format!("AWS in {region}"),
            (None, None) => "AWS".to_owned(),
        };
        format!("s3://{} at {at}", self.name)
    }

    /// Tries once to read an object, as soon as the budget has room for it.
    pub(crate) async fn read(
        &self,
        key: &str,
        budget: &ByteBudget,
        deadline: &mut Deadline,
    ) -> Result<Photo, TryError> {
        let path = object_path(key)?;
        let client = self.client(deadline).await?;
        let answer = timeout_at(deadline.next_part(), client.get(&path))
            .await
            .map_err(hung)??;
        let size = answer.meta.size;
        let allocated = deadline.pause(size, budget.allocate(size)).await;
        let mut photo = allocated.map_err(StoreError::Photo)?;
        let mut parts = answer.into_stream();
        while let Some(part) = timeout_at(deadline.next_part(), parts.next())
            .await
            .map_err(hung)?
        {
            photo.bytes.extend_from_slice(&part?);
        }
        match photo.bytes.len() as u64 {
            length if length == size => Ok(photo),
            length => Err(TryError::Transient(format!(
                "{length} of {size} bytes arrived"
            ))),
        }
    }

    /// Tries once to list a page of the objects whose keys start with a prefix; those with another
    /// slash after it are summed up as folders.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
        deadline: &Deadline,
    ) -> Result<PaginatedListResult, TryError> {
        let client = self.client(deadline).await?;
        let page = client.list_paginated(Some(prefix), options);
        Ok(timeout_at(deadline.next_part(), page)
            .await
            .map_err(hung)??)
    }

    /// The client, once it has credentials.
    async fn client(&self, deadline: &Deadline) -> Result<&AmazonS3, TryError> {
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        if self.settings.credentials != Credentials::Anonymous {
            let credential = client.credentials().get_credential();
            let credential = timeout_at(deadline.next_part(), credential);
            let refused = |error: object_store::Error| TryError::Unreachable {
                reason: format!("there are no credentials: {}", root_cause(&error)),
                remedy: CHECK_CREDENTIALS,
            };
            credential.await.map_err(hung)?.map_err(refused)?;
        }
        Ok(client)
    }

    async fn connect(&self) -> Result<AmazonS3, TryError> {
        let Self { name, settings, .. } = self;
        let S3Settings {
            endpoint,
            region,
            path_style,
            credentials,
            access_key,
            secret_key,
            session_token,
        } = settings;
        let keys = access_key.as_ref().zip(secret_key.as_ref());
        let from_environment = match credentials {
            Credentials::Chain => keys.is_none(),
            Credentials::Environment => true,
            Credentials::Keys | Credentials::Anonymous | Credentials::Instance => false,
        };
        let mut builder = match credentials {
            Credentials::Anonymous => AmazonS3Builder::new().with_skip_signature(true),
            _ => environment(AmazonS3Builder::new(), from_environment),
        };
        match (credentials, keys) {
            (Credentials::Chain | Credentials::Keys, Some((access_key, secret_key))) => {
                builder = builder
                    .with_access_key_id(access_key)
                    .with_secret_access_key(secret_key);
                if let Some(token) = session_token {
                    builder = builder.with_token(token);
                }
            }
            (Credentials::Keys, None) => {
                return Err(StoreError::fault("there are no keys", CHECK_CREDENTIALS).into());
            }
            _ => {}
        }
        let region = match (region, endpoint) {
            (Some(region), _) => region.clone(),
            (None, Some(_)) => DEFAULT_REGION.to_owned(),
            (None, None) => region_of(name).await?,
        };
        let virtual_hosted = match endpoint {
            None => !path_style && !name.contains('.'),
            Some(endpoint) => !path_style && !is_address(endpoint),
        };
        let plain = endpoint.as_ref().is_some_and(|e| e.starts_with("http://"));
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(match endpoint.split_once("://") {
                Some((scheme, host)) if virtual_hosted => format!("{scheme}://{name}.{host}"),
                _ => endpoint.clone(),
            });
        }
        builder
            .with_bucket_name(name)
            .with_region(region)
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_client_options(options(plain))
            .with_http_connector(Connector)
            // `Deadline` retries, as a body that breaks off needs another try as well.
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            })
            .build()
            .map_err(|error| {
                let reason = format!("its client can't be made: {}", root_cause(&error));
                StoreError::fault(reason, "check the settings of fs.s3a").into()
            })
    }
}

/// The path that requests exactly this key. Parsing a path drops a slash at either end of it, which
/// makes it the path of another object.
fn object_path(key: &str) -> Result<Path, StoreError> {
    match Path::parse(key) {
        Ok(path) if path.as_ref() == key => Ok(path),
        Ok(_) => Err(StoreError::Name(
            "it starts or ends with a slash".to_owned(),
        )),
        Err(error) => Err(StoreError::Name(error.to_string())),
    }
}

fn hung(_: Elapsed) -> TryError {
    TryError::Transient("the server hangs".to_owned())
}

fn options(plain: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(plain)
        // Plain HTTP needs no certificates, and the system may not have any.
        .with_no_system_certificates(plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled()
        .with_user_agent(HeaderValue::from_static(concat!(
            "pomona/",
            env!("CARGO_PKG_VERSION")
        )))
}

/// Adds the environment's settings of where an instance or a container has its keys and, if wanted,
/// the keys in the environment.
fn environment(builder: AmazonS3Builder, keys: bool) -> AmazonS3Builder {
    use AmazonS3ConfigKey as Key;
    let wanted = |key: &Key| match key {
        Key::AccessKeyId | Key::SecretAccessKey | Key::Token => keys,
        Key::ContainerCredentialsRelativeUri
        | Key::ContainerCredentialsFullUri
        | Key::ContainerAuthorizationTokenFile
        | Key::WebIdentityTokenFile
        | Key::RoleArn
        | Key::RoleSessionName
        | Key::StsEndpoint
        | Key::MetadataEndpoint => true,
        _ => false,
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("AWS_"))
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
        .filter(|(key, _)| wanted(key))
        .fold(builder, |builder, (key, value)| {
            builder.with_config(key, value)
        })
}

/// Whether an endpoint is an IP address or `localhost`, which have no subdomains for buckets.
fn is_address(endpoint: &str) -> bool {
    let host = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, host)| host);
    let host = host.split('/').next().unwrap_or(host);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// The region of a bucket, from AWS; if AWS can't be reached, the region of the environment or of
/// this instance, where most of its buckets are.
async fn region_of(bucket: &str) -> Result<String, TryError> {
    let options = options(false);
    let asked = timeout(CONNECT_TIMEOUT, resolve_bucket_region(bucket, &options));
    let reason = match asked.await {
        Ok(Ok(region)) => return Ok(region),
        Ok(Err(error)) => root_cause(&error),
        Err(_) => "no answer".to_owned(),
    };
    let set = REGION_VARIABLES
        .iter()
        .find_map(|name| std::env::var(name).ok());
    match set {
        Some(region) => Ok(region),
        None => region_of_instance()
            .await
            .ok_or_else(|| TryError::Unreachable {
                reason: format!("the bucket's region is unknown ({reason})"),
                remedy: CHECK_REGION,
            }),
    }
}

async fn region_of_instance() -> Option<String> {
    let endpoint = std::env::var(METADATA_ENDPOINT_VARIABLE);
    let metadata = endpoint.map_or(METADATA.to_owned(), |endpoint| format!("{endpoint}/latest"));
    let client = reqwest::Client::builder()
        .tls_certs_only([])
        .timeout(METADATA_TIMEOUT)
        .build()
        .ok()?;
    let token = client
        .put(format!("{metadata}/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "60");
    let region = client
        .get(format!("{metadata}/meta-data/placement/region"))
        .header("X-aws-ec2-metadata-token", text(token).await?);
    text(region).await
}

/// The body of a successful response.
async fn text(request: reqwest::RequestBuilder) -> Option<String> {
    let response = request.send().await.ok()?.error_for_status().ok()?;
    response.text().await.ok()
}

/// Makes clients whose errors are an [`ErrorResponse`]: object_store's own errors are private.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.0.execute(request).await?;
        let status = response.status();
        if status.is_success() {
            keep_length_only(response.headers_mut());
            return Ok(response);
        }
        let region = response.headers().get(BUCKET_REGION);
        let region = region
            .and_then(|region| region.to_str().ok())
            .map(str::to_owned);
        let body = response.into_body().bytes().await.unwrap_or_default();
        let body = String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_BODY)]).into_owned();
        let error = ErrorResponse::new(status.as_u16(), region.as_deref(), &body);
        Err(HttpError::new(HttpErrorKind::Unknown, error))
    }
}

/// Drops the other headers: an object's metadata may be in any encoding, and object_store refuses an
/// object whose metadata it can't parse.
fn keep_length_only(headers: &mut HeaderMap) {
    let length = headers.remove(CONTENT_LENGTH);
    headers.clear();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}
