//! What every listing of blobs keeps to.

use domain::Digest;
use futures::TryStreamExt as _;

use super::{insist, noise, put, write_pieces};
use crate::{BlobInfo, Blobs, StorageError};

/// Every blob with its length and age, in the order of the digests.
async fn listed(blobs: &impl Blobs) -> Vec<BlobInfo> {
    let mut all = insist(async || blobs.list().await.try_collect::<Vec<_>>().await).await.expect("list");
    all.sort_unstable_by_key(|blob| blob.digest);
    all
}

pub(super) async fn shows_every_whole_blob_once(blobs: &impl Blobs) {
    assert_eq!(listed(blobs).await, []);
    let mut expected = Vec::new();
    for length in 0..40 {
        let bytes = noise(length * 997);
        let (digest, bytes) = insist(async || write_pieces(blobs, &bytes, &[]).await).await.expect("written");
        expected.push((digest, bytes));
    }
    put(blobs, b"twice").await;
    put(blobs, b"twice").await;
    expected.push((Digest::of(b"twice"), 5));
    let gone = put(blobs, b"gone").await;
    insist(async || blobs.delete(&gone).await).await.expect("delete");
    let half = insist(async || {
        let mut writer = blobs.writer().await?;
        writer.write(noise(500_000)).await?;
        Ok::<_, StorageError>(writer)
    });
    let half = half.await.expect("begun");
    expected.sort_unstable();
    let found = listed(blobs).await;
    assert_eq!(found.iter().map(|blob| (blob.digest, blob.bytes)).collect::<Vec<_>>(), expected);
    drop(half);
}

pub(super) async fn shows_a_blob_stored_again_as_young_again(blobs: &impl Blobs) {
    let large = noise(600_000);
    let (small, large_digest) = (put(blobs, b"again").await, Digest::of(&large));
    insist(async || write_pieces(blobs, &large, &[]).await).await.expect("written");
    let age = async |digest: Digest| {
        listed(blobs).await.into_iter().find(|blob| blob.digest == digest).expect("it is listed").written_at
    };
    // Stores count time in steps of up to a second.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    for (digest, before) in [(small, age(small).await), (large_digest, age(large_digest).await)] {
        loop {
            if digest == small {
                put(blobs, b"again").await;
            } else {
                insist(async || write_pieces(blobs, &large, &[]).await).await.expect("written");
            }
            let now = age(digest).await;
            assert!(now >= before, "{now} is before {before}");
            if now > before {
                break;
            }
            assert!(std::time::Instant::now() < patience, "{digest} stays as old as it was");
        }
    }
}
