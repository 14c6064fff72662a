//! Whose the blobs of a place in the bucket are: an object that names the database.

use aws_sdk_s3::primitives::ByteStream;

use super::{
    Place,
    failure::{absent, failed, refused},
};
use crate::StorageError;

/// Writes the name where there is none, and looks who stands there: also a store that knows no conditions is right
/// unless two databases come at the same moment.
pub(super) async fn claim(place: &Place, owner: &str) -> Result<(), StorageError> {
    let key = format!("{}owner", place.prefix);
    let mut found = read(place, &key).await?;
    if found.is_none() {
        write(place, &key, owner).await?;
        found = read(place, &key).await?;
    }
    match found {
        Some(found) if found != owner => Err(StorageError::Claimed { place: place.shown(&place.prefix), owner: found }),
        _ => Ok(()),
    }
}

async fn read(place: &Place, key: &str) -> Result<Option<String>, StorageError> {
    let object = match place.client.get_object().bucket(&place.bucket).key(key).send().await {
        Ok(object) => object,
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(failed(format!("read {}", place.shown(key)), error)),
    };
    let bytes = object.body.collect().await.map_err(|error| StorageError::Objects {
        doing: format!("read {}", place.shown(key)),
        reason: error.to_string(),
    })?;
    Ok(Some(String::from_utf8_lossy(&bytes.into_bytes()).trim().to_owned()))
}

async fn write(place: &Place, key: &str, owner: &str) -> Result<(), StorageError> {
    let body = ByteStream::from(owner.as_bytes().to_vec());
    let sent = place.client.put_object().bucket(&place.bucket).key(key).if_none_match("*").body(body).send().await;
    match sent {
        Ok(_) => Ok(()),
        // Another was first.
        Err(error) if refused(&error, &[409, 412]) => Ok(()),
        Err(error) => Err(failed(format!("write {}", place.shown(key)), error)),
    }
}
