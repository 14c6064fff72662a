//! Promises over a real S3 server.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use domain::{Coded as _, ErrorCode};
use futures::StreamExt as _;

use super::*;
use crate::testing::{Faults, FaultyBlobs, S3, When, blobs_suite};

const MIB: usize = 1 << 20;

async fn fresh() -> S3Blobs {
    S3Blobs::open(&S3::shared().bucket()).await.unwrap()
}

/// Parts as small as the protocol takes, so that some megabytes are several.
const SMALL: Cuts = Cuts { part_bytes: 5 * MIB, copy_bytes_max: 11 * MIB as u64, copy_part_bytes: 5 * MIB as u64 };

/// Bytes of which no part is like another.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed * 2 + 1;
    let next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// Keys of all objects below a folder.
fn keys(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![folder.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found
}

/// What uploads leave beside the buckets until they are complete.
fn half_made(server: &S3) -> BTreeSet<String> {
    let beside = server.folder("");
    let names = fs::read_dir(beside).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".upload")).collect()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn write(blobs: &S3Blobs, bytes: &Bytes, piece_bytes: usize) -> Result<(Digest, u64), StorageError> {
    let mut writer = blobs.writer().await?;
    let mut left = bytes.clone();
    while !left.is_empty() {
        writer.write(left.split_to(piece_bytes.min(left.len()))).await?;
    }
    writer.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_promises_of_blobs() {
    blobs_suite(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_repeat_survive_failing_s3() {
    for (every, when) in [6, 7, 8].into_iter().flat_map(|every| [(every, When::Before), (every, When::After)]) {
        let faults = Faults::every(every, when);
        blobs_suite(async || FaultyBlobs::new(fresh().await, faults.clone())).await;
        assert!(faults.calls() > 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_of_any_number_of_parts_is_one_object() {
    let (server, options) = (S3::start(), S3::shared().bucket());
    let options = S3Options { endpoint: Some(server.endpoint()), ..options };
    fs::create_dir(server.folder(&options.bucket)).unwrap();
    let blobs = S3Blobs::with(&options, SMALL).await.unwrap();
    let mut expected = BTreeSet::new();
    // The last one is copied in parts, too.
    for (seed, length) in [5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 10 * MIB + 7, 12 * MIB].into_iter().enumerate()
    {
        let bytes = noise(length, seed as u64);
        let written = write(&blobs, &bytes, 700_001).await.unwrap();
        assert_eq!(written, (Digest::of(&bytes), length as u64));
        assert_eq!(blobs.put(bytes.clone()).await.unwrap(), written.0, "again, in one");
        assert_eq!(blobs.len(&written.0).await.unwrap(), length as u64);
        assert!(blobs.get(&written.0).await.unwrap() == bytes, "{length}");
        expected.insert(blobs.place.key(&written.0));
    }
    let folder = server.folder(&options.bucket);
    eventually("only blobs are left", || keys(&folder) == expected && half_made(&server).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_dropped_leaves_nothing() {
    let server = S3::start();
    let options = server.bucket();
    let blobs = S3Blobs::with(&options, SMALL).await.unwrap();
    let bytes = noise(11 * MIB, 1);
    let mut writer = blobs.writer().await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    eventually("parts arrive", || half_made(&server).iter().any(|name| name.contains(".part-"))).await;
    drop(writer);
    eventually("they are gone", || half_made(&server).is_empty()).await;

    let mut writer = blobs.writer().await.unwrap();
    // Given up while a part is sent.
    let mut writing = Box::pin(writer.write(bytes.clone()));
    assert!(futures::poll!(&mut writing).is_pending());
    drop(writing);
    assert!(writer.write(bytes).await.is_err(), "it is spent");
    assert!(writer.finish().await.is_err());
    eventually("nothing is left", || half_made(&server).is_empty()).await;
    assert!(keys(&server.folder(&options.bucket)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_refused_and_healed_by_storing_it_again() {
    let server = S3::shared();
    let options = server.bucket();
    let blobs = S3Blobs::with(&options, SMALL).await.unwrap();
    for length in [5, MIB, 6 * MIB] {
        let right = noise(length, 3);
        let digest = blobs.put(right.clone()).await.unwrap();
        let file = server.folder(&options.bucket).join(blobs.place.key(&digest));
        let mut flipped = right.to_vec();
        flipped[length / 2] ^= 1;
        for wrong in [&flipped[..], &right[1..], b""] {
            fs::write(&file, wrong).unwrap();
            let got = blobs.get(&digest).await.unwrap_err();
            assert!(matches!(got, StorageError::Corrupt { .. }), "{got:?}");
            assert_eq!(got.code(), ErrorCode::DataLoss);
            let read = match blobs.read(&digest, 0..length as u64).await {
                Ok(stream) => stream.map_ok(|piece| piece.len()).collect::<Vec<_>>().await,
                Err(error) => vec![Err(error)],
            };
            let (last, before) = read.split_last().unwrap();
            assert!(matches!(last, Err(StorageError::Corrupt { .. })), "{last:?}");
            let given: usize = before.iter().map(|piece| *piece.as_ref().unwrap()).sum();
            assert!(given < wrong.len().max(1), "{given} of {} bytes were given", wrong.len());
            assert_eq!(blobs.put(right.clone()).await.unwrap(), digest);
            assert!(blobs.get(&digest).await.unwrap() == right);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_bytes_do_not_disturb_each_other() {
    let blobs = fresh().await;
    let bytes = noise(MIB, 4);
    let writers = (0..8).map(|_| blobs.put(bytes.clone()));
    for digest in futures::future::join_all(writers).await {
        assert!(blobs.get(&digest.unwrap()).await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_unavailable_soon_and_heals_by_itself() {
    let server = S3::start();
    let blobs = S3Blobs::open(&server.bucket()).await.unwrap();
    let kept = blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    let failing = async |limit: Duration| {
        let asked = Instant::now();
        let (put, get, exists, deleted) = futures::join!(
            blobs.put(Bytes::from_static(b"more")),
            blobs.get(&kept),
            blobs.exists(&kept),
            blobs.delete(&kept)
        );
        for failure in [put.map(drop), get.map(drop), exists.map(drop), deleted] {
            let failure = failure.unwrap_err();
            assert_eq!(failure.code(), ErrorCode::Unavailable, "{failure}");
            assert!(S3::secrets().iter().all(|secret| !format!("{failure} {failure:?}").contains(secret)));
        }
        assert!(asked.elapsed() < limit, "it does not hang: {:?}", asked.elapsed());
    };
    server.down();
    failing(Duration::from_secs(5)).await;
    server.up();
    assert_eq!(blobs.get(&kept).await.unwrap(), "kept");
    server.freeze();
    failing(Duration::from_secs(12)).await;
    server.thaw();
    blobs.put(Bytes::from_static(b"more")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_in_the_middle_leaves_nothing_half_made() {
    let server = S3::start();
    let options = server.bucket();
    let blobs = S3Blobs::with(&options, SMALL).await.unwrap();
    let bytes = noise(16 * MIB, 5);
    let digest = Digest::of(&bytes);
    let mut writer = blobs.writer().await.unwrap();
    writer.write(bytes.slice(..11 * MIB)).await.unwrap();
    server.down();
    let failed = match writer.write(bytes.slice(11 * MIB..)).await {
        Ok(()) => writer.finish().await.map(drop),
        failed => failed,
    };
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Unavailable);
    server.up();
    assert!(!blobs.exists(&digest).await.unwrap());
    assert_eq!(write(&blobs, &bytes, MIB).await.unwrap().0, digest, "again, from the start");

    // A reader takes up where it was when the store comes back in time, and says so when it does not.
    let mut reading = blobs.read(&digest, 0..u64::MAX).await.unwrap();
    let mut all = vec![reading.try_next().await.unwrap().unwrap()];
    server.down();
    server.up();
    all.extend(reading.try_collect::<Vec<_>>().await.unwrap());
    assert!(all.concat() == bytes);
    let mut reading = blobs.read(&digest, 0..u64::MAX).await.unwrap();
    reading.try_next().await.unwrap();
    server.down();
    let failed = reading.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::Unavailable, "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_bucket_is_said_in_a_line_without_secrets() {
    let good = S3::shared().bucket();
    let [access_key, secret_key] = S3::secrets().map(str::to_owned);
    let keys = |access_key: &str, secret_key: &str| {
        Some(S3Keys { access_key: access_key.into(), secret_key: secret_key.into() })
    };
    let endpoint = |address: &str| Some(address.to_owned());
    let tls = S3::shared().endpoint().replace("http:", "https:");
    let cases = [
        (S3Options { bucket: "absent".into(), ..good.clone() }, "there is none of that name"),
        (S3Options { keys: keys(&access_key, "wrong"), ..good.clone() }, "refused"),
        (S3Options { keys: keys("nobody", &secret_key), ..good.clone() }, "refused"),
        (S3Options { endpoint: endpoint("http://127.0.0.1:1"), ..good.clone() }, "Connection refused"),
        (S3Options { endpoint: endpoint("http://no.such.host.invalid"), ..good.clone() }, "could not reach"),
        // A server without TLS.
        (S3Options { endpoint: endpoint(&tls), ..good.clone() }, "could not reach"),
    ];
    for (options, expected) in cases {
        let refused = S3Blobs::open(&options).await.unwrap_err();
        let said = format!("{refused} {refused:?} {} {options:?}", refused.hint());
        assert!(said.contains(expected) && !said.contains('\n'), "{said}");
        assert!(!said.contains(&secret_key) && !said.contains(&access_key), "{said}");
    }
    S3Blobs::open(&good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dead_processes_left_is_cleared_after_a_day() {
    let server = S3::shared();
    let options = server.bucket();
    let staging = server.folder(&options.bucket).join("mill/objects/staging");
    let blobs = S3Blobs::open(&options).await.unwrap();
    let kept = blobs.put(Bytes::from_static(b"kept")).await.unwrap();
    fs::create_dir_all(&staging).unwrap();
    let left = |name: &str, hours: u64| -> PathBuf {
        let path = staging.join(name);
        fs::write(&path, b"half").unwrap();
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        path
    };
    let (old, young) = (left("old", 25), left("young", 23));
    let blob = server.folder(&options.bucket).join(blobs.place.key(&kept));
    fs::File::options().write(true).open(blob).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let blobs = S3Blobs::open(&options).await.unwrap();
    assert_eq!((old.exists(), young.exists()), (false, true));
    assert_eq!(blobs.get(&kept).await.unwrap(), "kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_belongs_to_the_database_that_came_first() {
    let options = S3::shared().bucket();
    let (one, two) = (S3Blobs::open(&options).await.unwrap(), S3Blobs::open(&options).await.unwrap());
    one.claim("a").await.unwrap();
    two.claim("a").await.unwrap();
    match two.claim("b").await {
        Err(error @ StorageError::Claimed { .. }) => {
            assert_eq!(error.code(), ErrorCode::Conflict);
            assert!(error.to_string().contains("belongs to another installation (`a`)"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let beside = S3Options { prefix: format!("{}/projects/b", options.prefix), ..options };
    S3Blobs::open(&beside).await.unwrap().claim("b").await.unwrap();
}
