//! Listing the objects of blobs, a page at a time.

use std::sync::Arc;

use aws_sdk_s3::types::Object;
use domain::Timestamp;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Place, failure::failed, length};
use crate::{
    StorageError,
    blobs::{BlobInfo, BlobList},
};

/// Every object whose key is that of a blob; others are passed over.
pub(super) fn walk(place: Arc<Place>) -> BlobList {
    let head = format!("{}sha256/", place.prefix);
    let pages = place.client.list_objects_v2().bucket(&place.bucket).prefix(&head).into_paginator().send();
    let found = stream::try_unfold((pages, place, head), |(mut pages, place, head)| async move {
        let Some(page) = pages.next().await else { return Ok::<_, StorageError>(None) };
        let page = page.map_err(|error| failed(format!("list {}", place.shown(&head)), error))?;
        let blobs: Vec<_> = page.contents().iter().filter_map(|object| blob(&head, object)).map(Ok).collect();
        Ok(Some((stream::iter(blobs), (pages, place, head))))
    });
    found.try_flatten().boxed()
}

fn blob(head: &str, object: &Object) -> Option<BlobInfo> {
    let (folder, rest) = object.key()?.strip_prefix(head)?.split_once('/')?;
    let digest = format!("{folder}{rest}").parse().ok()?;
    let written = object.last_modified()?;
    let micros = written.secs().saturating_mul(1_000_000).saturating_add(i64::from(written.subsec_nanos() / 1_000));
    Some(BlobInfo { digest, bytes: length(object.size()), written_at: Timestamp::from_micros(micros) })
}
