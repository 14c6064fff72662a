//! Where blobs are kept, as the settings say.

use std::{path::Path, sync::Arc};

use runtime::config::{Objects, Secret};
use storage::{Blobs, LocalBlobs, S3Blobs, S3Keys, S3Options};

use crate::app::mendable;

/// Opens the bucket, or the folder of the data directory where none is set.
///
/// # Errors
/// Settings that contradict each other, and a place that cannot be reached or written to.
pub async fn open(settings: &Objects, data: &Path) -> anyhow::Result<Arc<dyn Blobs>> {
    let Some(url) = &settings.url else {
        return Ok(Arc::new(LocalBlobs::open(&data.join("blobs")).await.map_err(mendable)?));
    };
    let options = S3Options {
        bucket: url.bucket.clone(),
        prefix: url.prefix.clone(),
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        path_style: settings.path_style.unwrap_or(settings.endpoint.is_some()),
        keys: keys(settings)?,
        direct: settings.direct,
    };
    Ok(Arc::new(S3Blobs::open(&options).await.map_err(mendable)?))
}

fn keys(settings: &Objects) -> anyhow::Result<Option<S3Keys>> {
    let text = |secret: &Secret| secret.reveal().to_owned();
    match (&settings.access_key, &settings.secret_key) {
        (Some(access), Some(secret)) => Ok(Some(S3Keys { access_key: text(access), secret_key: text(secret) })),
        (None, None) => Ok(None),
        _ => anyhow::bail!("one of objects.access_key and objects.secret_key is set: set both, or none"),
    }
}
