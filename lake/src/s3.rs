//! Tables in a bucket, over S3's protocol.

use std::fmt;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use storage::StorageError;
use url::Url;

use crate::failure;

/// A user's two keys.
#[derive(Clone)]
pub struct LakeKeys {
    pub access_key: String,
    pub secret_key: String,
}

impl fmt::Debug for LakeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LakeKeys(..)")
    }
}

/// Which bucket, and how to get there.
#[derive(Debug, Clone)]
pub struct LakeS3 {
    pub bucket: String,
    /// What all keys begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// `None`: AWS.
    pub endpoint: Option<String>,
    /// `None`: from AWS's environment variables; where there is an endpoint, `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of an address and not in its host.
    pub path_style: bool,
    /// `None`: from AWS's environment variables, or the machine's own role.
    pub keys: Option<LakeKeys>,
}

/// The bucket, and the address of the folder of tables. Asks nothing of the store yet.
///
/// A commit is a put of a name that must not exist yet. Stores that do not check this atomically are safe all the same,
/// as long as each table has one writer.
pub(crate) fn open(options: &LakeS3) -> Result<(AmazonS3, Url), StorageError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&options.bucket)
        .with_virtual_hosted_style_request(!options.path_style);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    match (&options.region, &options.endpoint) {
        (Some(region), _) => builder = builder.with_region(region),
        (None, Some(_)) => builder = builder.with_region("us-east-1"),
        (None, None) => {}
    }
    if let Some(LakeKeys { access_key, secret_key }) = &options.keys {
        builder = builder.with_access_key_id(access_key).with_secret_access_key(secret_key);
    }
    let doing = || format!("open bucket `{}`", options.bucket);
    let store = builder.build().map_err(failure::store(doing()))?;
    let mut address = format!("s3://{}/", options.bucket);
    if !options.prefix.is_empty() {
        address = format!("{address}{}/", options.prefix);
    }
    let base = Url::parse(&format!("{address}tables/"))
        .map_err(|e| StorageError::Objects { doing: doing(), reason: e.to_string() })?;
    Ok((store, base))
}
