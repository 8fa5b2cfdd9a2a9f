//! One bucket of S3: the client, and a single try to read an object or to list some.

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

use super::limits::ByteBudget;
use super::reader::{Photo, room_for};
use super::settings::{Credentials, S3Settings};
use super::tries::Clock;
use super::trouble::{CHECK_CREDENTIALS, CHECK_REGION, Refusal, Trouble, innermost};

/// A connection takes some milliseconds within a region, and the more where there is no way.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the metadata of an instance, which are on the machine itself.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Where an instance asks for its role and its region.
const METADATA: &str = "http://169.254.169.254/latest";
const METADATA_ENDPOINT_VARIABLE: &str = "AWS_METADATA_ENDPOINT";
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// What servers other than AWS's expect in a signature.
const REGION_OF_OTHERS: &str = "us-east-1";
const CONTENT_LENGTH: &str = "content-length";
const BUCKET_REGION: &str = "x-amz-bucket-region";
/// What of an error's body is looked at.
const SHOWN_OF_ERRORS: usize = 16 * 1024;

/// A bucket and, from the first read on, its client.
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

    /// Which bucket it is, for people.
    pub(crate) fn place(&self) -> String {
        let at = match (&self.settings.endpoint, &self.settings.region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => format!("AWS in {region}"),
            (None, None) => "AWS".to_owned(),
        };
        format!("s3://{} at {at}", self.name)
    }

    /// Tries once to read an object, once there is room for it.
    pub(crate) async fn read(
        &self,
        key: &str,
        budget: &ByteBudget,
        clock: &mut Clock,
    ) -> Result<Photo, Trouble> {
        let path = Path::parse(key).map_err(|error| Trouble::Name(error.to_string()))?;
        let client = self.client(clock).await?;
        let found = timeout_at(clock.next(), client.get(&path))
            .await
            .map_err(hung)??;
        let size = found.meta.size;
        let room = clock.wait_for_room(size, budget).await;
        let mut content = room_for(size)?;
        let mut parts = found.into_stream();
        while let Some(part) = timeout_at(clock.next(), parts.next()).await.map_err(hung)? {
            content.extend_from_slice(&part?);
        }
        match content.len() as u64 {
            all if all == size => Ok(Photo::new(content, room)),
            came => Err(Trouble::Passing(format!("{came} of {size} bytes came"))),
        }
    }

    /// Tries once to list some of the objects whose keys begin with a prefix, those with another
    /// slash in them summed up as folders.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
        clock: &Clock,
    ) -> Result<PaginatedListResult, Trouble> {
        let client = self.client(clock).await?;
        let page = client.list_paginated(Some(prefix), options);
        Ok(timeout_at(clock.next(), page).await.map_err(hung)??)
    }

    /// The client, once there are keys for it.
    async fn client(&self, clock: &Clock) -> Result<&AmazonS3, Trouble> {
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        if self.settings.credentials != Credentials::Anonymous {
            let credential = timeout_at(clock.next(), client.credentials().get_credential());
            let refused = |error: object_store::Error| Trouble::Lasting {
                reason: format!("there are no credentials: {}", innermost(&error)),
                remedy: CHECK_CREDENTIALS,
            };
            credential.await.map_err(hung)?.map_err(refused)?;
        }
        Ok(client)
    }

    async fn connect(&self) -> Result<AmazonS3, Trouble> {
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
        let given = access_key.is_some() && secret_key.is_some();
        let from_environment = match credentials {
            Credentials::Chain => !given,
            Credentials::Environment => true,
            Credentials::Keys | Credentials::Anonymous | Credentials::Instance => false,
        };
        let mut builder = match credentials {
            Credentials::Anonymous => AmazonS3Builder::new().with_skip_signature(true),
            _ => environment(AmazonS3Builder::new(), from_environment),
        };
        if matches!(credentials, Credentials::Chain | Credentials::Keys) {
            if let (Some(access_key), Some(secret_key)) = (access_key, secret_key) {
                builder = builder
                    .with_access_key_id(access_key)
                    .with_secret_access_key(secret_key);
                if let Some(token) = session_token {
                    builder = builder.with_token(token);
                }
            } else if *credentials == Credentials::Keys {
                return Err(Trouble::Fault {
                    reason: "there are no keys".to_owned(),
                    remedy: CHECK_CREDENTIALS,
                });
            }
        }
        let region = match (region, endpoint) {
            (Some(region), _) => region.clone(),
            (None, Some(_)) => REGION_OF_OTHERS.to_owned(),
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
            // The tries are counted where the whole of a photo is.
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            })
            .build()
            .map_err(|error| Trouble::Fault {
                reason: format!("its client can't be made: {}", innermost(&error)),
                remedy: "check the settings of fs.s3a",
            })
    }
}

fn hung(_: Elapsed) -> Trouble {
    Trouble::Passing("the server hangs".to_owned())
}

fn options(plain: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(plain)
        // Without TLS there is no need for the system's certificates, which may not be there.
        .with_no_system_certificates(plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled()
        .with_user_agent(HeaderValue::from_static(concat!(
            "pomona/",
            env!("CARGO_PKG_VERSION")
        )))
}

/// Takes from the environment what says where an instance's or a container's keys are, and, if
/// wanted, the keys in it.
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

/// Whether an endpoint is an address, or this machine, below which there are no names.
fn is_address(endpoint: &str) -> bool {
    let host = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, host)| host);
    let host = host.split('/').next().unwrap_or(host);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// The region of a bucket of AWS: as AWS says; where it can't be asked, the environment's or this
/// instance's own, where buckets mostly are.
async fn region_of(bucket: &str) -> Result<String, Trouble> {
    let options = options(false);
    let asked = timeout(CONNECT_TIMEOUT, resolve_bucket_region(bucket, &options));
    let reason = match asked.await {
        Ok(Ok(region)) => return Ok(region),
        Ok(Err(error)) => innermost(&error),
        Err(_) => "no answer".to_owned(),
    };
    let set = REGION_VARIABLES
        .iter()
        .find_map(|name| std::env::var(name).ok());
    match set {
        Some(region) => Ok(region),
        None => region_of_instance().await.ok_or_else(|| Trouble::Lasting {
            reason: format!("it is not known in which region the bucket is ({reason})"),
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
    let token = token
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?
        .text()
        .await
        .ok()?;
    let region = client
        .get(format!("{metadata}/meta-data/placement/region"))
        .header("X-aws-ec2-metadata-token", token);
    let region = region.send().await.ok()?.error_for_status().ok()?;
    region.text().await.ok()
}

/// Makes clients whose errors keep what S3 says; those of object_store are not for others to read.
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
        let body = String::from_utf8_lossy(&body[..body.len().min(SHOWN_OF_ERRORS)]).into_owned();
        let refusal = Refusal::new(status.as_u16(), region.as_deref(), &body);
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

/// An object's metadata, which may be in any encoding, are no reason to refuse it.
fn keep_length_only(headers: &mut HeaderMap) {
    let length = headers.remove(CONTENT_LENGTH);
    headers.clear();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}
