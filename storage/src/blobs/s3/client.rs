//! How a bucket is reached: address, credentials, and how long to wait.

use std::{fmt, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client,
    config::{
        Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use super::{
    Place,
    failure::{failed, status_of},
};
use crate::StorageError;

/// A request without a body, and what any other takes besides its bytes.
const ATTEMPT: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Bytes a second that a body moves at least.
pub(super) const SENDING: u64 = 512 << 10;
/// Bytes a second that the store copies, or puts together, at least.
pub(super) const COPYING: u64 = 16 << 20;

/// A key and its secret.
#[derive(Clone)]
pub struct S3Keys {
    pub access_key: String,
    pub secret_key: String,
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys(***)")
    }
}

/// Where the objects lie, and how they are reached.
#[derive(Debug, Clone)]
pub struct S3Options {
    pub bucket: String,
    /// What all keys begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// `None`: AWS.
    pub endpoint: Option<String>,
    /// `None`: from AWS's environment variables or profile; where there is an endpoint, `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of an address and not in its host.
    pub path_style: bool,
    /// `None`: from AWS's environment variables, profile, or the machine's own role.
    pub keys: Option<S3Keys>,
    /// Whether clients may be given signed addresses of the bucket.
    pub direct: bool,
}

/// So long for an attempt that moves so many bytes, at so many a second.
pub(super) fn patience(bytes: u64, bytes_per_second: u64) -> Builder {
    let attempt = ATTEMPT + Duration::from_secs(bytes.div_ceil(bytes_per_second));
    Builder::default().timeout_config(timeouts(attempt))
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        // A store that hangs is given up soon; one that refuses, and is asked again, is not waited for longer.
        .operation_timeout(attempt * 2)
        .disable_read_timeout()
        .build()
}

/// Asks nothing of the store yet.
pub(super) async fn connect(options: &S3Options) -> Client {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(BACKOFF)
                .with_max_backoff(BACKOFF_MAX),
        )
        .timeout_config(timeouts(ATTEMPT))
        // Our own limits watch over bodies, in both directions.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
        // Whoever reads checks against the name.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let region = options.region.clone().or_else(|| options.endpoint.is_some().then(|| "us-east-1".to_owned()));
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(S3Keys { access_key, secret_key }) = &options.keys {
        let keys = Credentials::builder().access_key_id(access_key).secret_access_key(secret_key);
        loader = loader.credentials_provider(keys.provider_name("millpond's settings").build());
    }
    let shared = loader.load().await;
    Client::from_conf(Builder::from(&shared).force_path_style(options.path_style).build())
}

/// Whether the bucket is there and lets us in.
pub(super) async fn check(place: &Place) -> Result<(), StorageError> {
    let Err(error) = place.client.head_bucket().bucket(&place.bucket).send().await else { return Ok(()) };
    let bucket = &place.bucket;
    let elsewhere = error.raw_response().and_then(|answer| answer.headers().get("x-amz-bucket-region"));
    let reason = match (status_of(&error), elsewhere) {
        (Some(301 | 400), Some(region)) => format!("it lies in region `{region}`"),
        (Some(404), _) => "there is none of that name".to_owned(),
        (Some(401 | 403), _) => "the credentials were refused".to_owned(),
        _ => return Err(failed(format!("reach bucket `{bucket}`"), error)),
    };
    Err(StorageError::Objects { doing: format!("open bucket `{bucket}`"), reason })
}
