//! Listing the objects that are blobs, a page at a time.

use std::sync::Arc;

use aws_sdk_s3::types::Object;
use domain::{Digest, Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Place, failure::failed, length};
use crate::{BlobInfo, BlobList, StorageError};

/// Where in the listing we are.
enum Turn {
    First,
    After(String),
    Over,
}

/// Every object whose key is that of a blob; others are passed over.
pub(super) fn walk(place: Arc<Place>) -> BlobList {
    let pages = stream::try_unfold((place, Turn::First), |(place, turn)| async move {
        let after = match turn {
            Turn::First => None,
            Turn::After(token) => Some(token),
            Turn::Over => return Ok(None),
        };
        let asked = place.client.list_objects_v2().bucket(&place.bucket).prefix(place.blobs());
        let page = asked.set_continuation_token(after).send().await;
        let page = page.map_err(|error| failed(format!("list {}", place.shown(&place.blobs())), error))?;
        let turn = page.next_continuation_token.map_or(Turn::Over, Turn::After);
        let found: Vec<_> =
            page.contents.unwrap_or_default().iter().filter_map(|object| blob(&place, object)).collect();
        Ok::<_, StorageError>(Some((stream::iter(found.into_iter().map(Ok)), (place, turn))))
    });
    pages.try_flatten().boxed()
}

fn blob(place: &Place, object: &Object) -> Option<BlobInfo> {
    let name = object.key()?.strip_prefix(&place.blobs())?;
    let (head, rest) = name.split_once('/').filter(|(head, _)| head.len() == 2)?;
    let digest = format!("{head}{rest}").parse::<Digest>().ok()?;
    let at = object.last_modified()?;
    let micros = at.secs().saturating_mul(1_000_000).saturating_add(i64::from(at.subsec_nanos() / 1000));
    Some(BlobInfo { digest, bytes: length(object.size()), written_at: Timestamp::from_micros(micros) })
}
