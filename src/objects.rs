//! Where blobs and tables are kept, as the settings say.

use std::{path::Path, sync::Arc};

use access::default_project;
use domain::ProjectName;
use feature_store::{Lake, LakeKeys, LakeS3};
use runtime::config::{Objects, Secret};
use storage::{Blobs, LocalBlobs, S3Blobs, S3Keys, S3Options};

use crate::app::mendable;

/// Opens a project's part of the bucket, or the folder of its data directory where none is set. What the first project
/// keeps lies directly below the prefix, and no project's part lies in another's.
///
/// # Errors
/// Settings that contradict each other, and a place that cannot be reached or written to.
pub async fn open(settings: &Objects, data: &Path, project: &ProjectName) -> anyhow::Result<Arc<dyn Blobs>> {
    let Some(url) = &settings.url else {
        return Ok(Arc::new(LocalBlobs::open(&data.join("blobs")).await.map_err(mendable)?));
    };
    let options = S3Options {
        bucket: url.bucket.clone(),
        prefix: prefix_of(&url.prefix, project),
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        path_style: path_style(settings),
        keys: keys(settings)?,
        direct: settings.direct,
    };
    Ok(Arc::new(S3Blobs::open(&options).await.map_err(mendable)?))
}

/// Opens the place of a project's tables of rows, beside its blobs: `tables/` in the same part of the bucket or in the
/// same folder.
///
/// # Errors
/// Settings that contradict each other, and a folder that cannot be made.
pub async fn lake(settings: &Objects, data: &Path, project: &ProjectName) -> anyhow::Result<Lake> {
    let Some(url) = &settings.url else {
        return Lake::local(&data.join("blobs").join("tables")).await.map_err(mendable);
    };
    let keys = keys(settings)?.map(|S3Keys { access_key, secret_key }| LakeKeys { access_key, secret_key });
    let options = LakeS3 {
        bucket: url.bucket.clone(),
        prefix: prefix_of(&url.prefix, project),
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        path_style: path_style(settings),
        keys,
    };
    Lake::s3(&options).map_err(mendable)
}

fn path_style(settings: &Objects) -> bool {
    settings.path_style.unwrap_or(settings.endpoint.is_some())
}

/// Where a project's objects lie. Those of the first lie where those of the only one did.
fn prefix_of(prefix: &str, project: &ProjectName) -> String {
    if *project == default_project() {
        return prefix.to_owned();
    }
    let parent = prefix.trim_end_matches('/');
    if parent.is_empty() { format!("projects/{project}") } else { format!("{parent}/projects/{project}") }
}

fn keys(settings: &Objects) -> anyhow::Result<Option<S3Keys>> {
    let text = |secret: &Secret| secret.reveal().to_owned();
    match (&settings.access_key, &settings.secret_key) {
        (Some(access), Some(secret)) => Ok(Some(S3Keys { access_key: text(access), secret_key: text(secret) })),
        (None, None) => Ok(None),
        _ => anyhow::bail!("one of objects.access_key and objects.secret_key is set: set both, or none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_project_lies_in_the_keys_of_another() {
        let vision: ProjectName = "vision".parse().expect("a name");
        for (of, first, other) in [("", "", "projects/vision"), ("team/a", "team/a", "team/a/projects/vision")] {
            assert_eq!(prefix_of(of, &default_project()), first);
            assert_eq!(prefix_of(of, &vision), other);
        }
    }
}
