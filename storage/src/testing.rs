//! Suites every implementation passes, twins that fail on purpose, and servers for tests: Postgres, Redis and S3.
//!
//! **Determinate and unknown.** A call that fails [`When::Before`] has done nothing: [`StorageError::Injected`].
//! One that fails [`When::After`] was carried out and its answer lost, as when a connection breaks or a disk
//! reports an error late: [`StorageError::Unknown`]. Callers must survive both; since every operation of
//! [`Blobs`] and [`Kv`] may be repeated, repeating is always a right answer, and that is what the suites do.

mod journal;
mod listing;
mod loading;
mod meta;
mod postgres;
mod redis;
mod s3;

pub use journal::{event, journal_suite};
pub use meta::{Home, meta_in, meta_suite};
pub use postgres::Postgres;
pub use redis::{Keeps, Redis, RedisCluster};
pub use s3::S3;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::Digest;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{BlobList, BlobStream, BlobWriter, Blobs, Floor, Kv, Pair, SortedPairs, StorageError};

/// On which side of a failing call the failure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing was done.
    Before,
    /// It was done, and the answer was lost.
    After,
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    Never,
    Nth(u64),
    Every(u64),
}

/// Which calls fail, counted over all methods from 1. Clones share the count.
#[derive(Debug, Clone)]
pub struct Faults {
    plan: Plan,
    when: When,
    calls: Arc<AtomicU64>,
}

impl Faults {
    fn new(plan: Plan, when: When) -> Self {
        Self { plan, when, calls: Arc::default() }
    }

    #[must_use]
    pub fn never() -> Self {
        Self::new(Plan::Never, When::Before)
    }

    /// Only the `n`-th call fails.
    #[must_use]
    pub fn nth(n: u64, when: When) -> Self {
        Self::new(Plan::Nth(n), when)
    }

    /// Every `k`-th call fails.
    #[must_use]
    pub fn every(k: u64, when: When) -> Self {
        Self::new(Plan::Every(k.max(1)), when)
    }

    /// Calls counted so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn around<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = match self.plan {
            Plan::Never => false,
            Plan::Nth(n) => number == n,
            Plan::Every(k) => number.is_multiple_of(k),
        };
        match (fails, self.when) {
            (false, _) => call.await,
            (true, When::Before) => Err(StorageError::Injected(doing)),
            (true, When::After) => {
                call.await?;
                Err(StorageError::Unknown { doing, reason: "injected after it was done".into() })
            }
        }
    }
}

/// Blobs that fail as planned.
pub struct FaultyBlobs<B> {
    inner: B,
    faults: Faults,
}

impl<B: Blobs> FaultyBlobs<B> {
    pub const fn new(inner: B, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<B: Blobs> Blobs for FaultyBlobs<B> {
    async fn put(&self, bytes: Bytes) -> Result<Digest, StorageError> {
        self.faults.around("put", self.inner.put(bytes)).await
    }
    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StorageError> {
        let inner = self.faults.around("writer", self.inner.writer()).await?;
        Ok(Box::new(FaultyWriter { inner, faults: self.faults.clone() }))
    }
    async fn get(&self, digest: &Digest) -> Result<Bytes, StorageError> {
        self.faults.around("get", self.inner.get(digest)).await
    }
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<BlobStream, StorageError> {
        match self.faults.around("read", async { self.inner.read(digest, range.clone()).await }).await {
            // The answer was on its way when it broke off.
            Err(broken @ StorageError::Unknown { .. }) => {
                let begun = self.inner.read(digest, range).await?.take(1);
                Ok(begun.chain(stream::once(std::future::ready(Err(broken)))).boxed())
            }
            other => other,
        }
    }
    async fn len(&self, digest: &Digest) -> Result<u64, StorageError> {
        self.faults.around("len", self.inner.len(digest)).await
    }
    async fn exists(&self, digest: &Digest) -> Result<bool, StorageError> {
        self.faults.around("exists", self.inner.exists(digest)).await
    }
    async fn delete(&self, digest: &Digest) -> Result<(), StorageError> {
        self.faults.around("delete", self.inner.delete(digest)).await
    }
    async fn claim(&self, owner: &str) -> Result<(), StorageError> {
        self.faults.around("claim", self.inner.claim(owner)).await
    }
    async fn list(&self) -> BlobList {
        match self.faults.around("list", async { Ok(self.inner.list().await) }).await {
            Ok(list) => list,
            Err(broken) => stream::once(std::future::ready(Err(broken))).boxed(),
        }
    }
}

/// A writer that fails as planned; each piece and the end are a call.
struct FaultyWriter {
    inner: Box<dyn BlobWriter>,
    faults: Faults,
}

#[async_trait]
impl BlobWriter for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.faults.around("write", self.inner.write(bytes)).await
    }
    async fn finish(self: Box<Self>) -> Result<(Digest, u64), StorageError> {
        let Self { inner, faults } = *self;
        faults.around("finish", inner.finish()).await
    }
}

/// A key-value store that fails as planned.
pub struct FaultyKv<K> {
    inner: K,
    faults: Faults,
}

impl<K: Kv> FaultyKv<K> {
    pub const fn new(inner: K, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<K: Kv> Kv for FaultyKv<K> {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.faults.around("get_many", self.inner.get_many(keys)).await
    }
    async fn floor_many(&self, queries: &[Floor]) -> Result<Vec<Option<Pair>>, StorageError> {
        self.faults.around("floor_many", self.inner.floor_many(queries)).await
    }
    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        self.faults.around("range", self.inner.range(from, to, limit)).await
    }
    async fn write(&self, puts: Vec<Pair>, deletes: Vec<Vec<u8>>, durable: bool) -> Result<(), StorageError> {
        self.faults.around("write", self.inner.write(puts, deletes, durable)).await
    }
    async fn load(&self, pairs: SortedPairs) -> Result<u64, StorageError> {
        self.faults.around("load", self.inner.load(pairs)).await
    }
}

/// Repeats a call that failed on purpose; any other failure ends the suite.
async fn insist<T>(call: impl AsyncFn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    let mut attempts = 0;
    loop {
        match call().await {
            Err(StorageError::Injected(_) | StorageError::Unknown { .. }) if attempts < 10 => attempts += 1,
            other => return other,
        }
    }
}

/// What every [`Blobs`] keeps to; `fresh` gives an empty one.
///
/// # Panics
/// Where the implementation breaks a promise.
pub async fn blobs_suite<B: Blobs>(fresh: impl AsyncFn() -> B) {
    bytes_come_back_under_their_digest(&fresh().await).await;
    storing_twice_is_storing_once(&fresh().await).await;
    what_was_never_stored_is_not_found(&fresh().await).await;
    a_deleted_blob_is_gone_and_can_come_back(&fresh().await).await;
    bytes_in_pieces_are_the_same_blob(&fresh().await).await;
    a_blob_is_not_there_before_its_end(&fresh().await).await;
    a_range_is_what_the_blob_has_of_it(&fresh().await).await;
    a_reader_reads_to_the_end_although_the_blob_is_deleted(&fresh().await).await;
    listing::shows_every_whole_blob_once(&fresh().await).await;
    listing::shows_a_blob_stored_again_as_young_again(&fresh().await).await;
}

async fn put(blobs: &impl Blobs, bytes: &'static [u8]) -> Digest {
    insist(async || blobs.put(Bytes::from_static(bytes)).await).await.expect("put")
}

async fn bytes_come_back_under_their_digest(blobs: &impl Blobs) {
    for bytes in [b"".as_slice(), b"pond", &[0; 100_000]] {
        let digest = put(blobs, bytes).await;
        assert_eq!(digest, Digest::of(bytes));
        assert_eq!(insist(async || blobs.get(&digest).await).await.expect("get"), bytes);
        assert!(insist(async || blobs.exists(&digest).await).await.expect("exists"));
    }
}

async fn storing_twice_is_storing_once(blobs: &impl Blobs) {
    let (first, second) = (put(blobs, b"again").await, put(blobs, b"again").await);
    assert_eq!(first, second);
    assert_eq!(insist(async || blobs.get(&first).await).await.expect("get"), b"again".as_slice());
}

async fn what_was_never_stored_is_not_found(blobs: &impl Blobs) {
    let absent = Digest::of(b"absent");
    put(blobs, b"present").await;
    assert!(!insist(async || blobs.exists(&absent).await).await.expect("exists"));
    let got = insist(async || blobs.get(&absent).await).await;
    assert!(matches!(got, Err(StorageError::NoSuchBlob(d)) if d == absent), "{got:?}");
}

async fn a_deleted_blob_is_gone_and_can_come_back(blobs: &impl Blobs) {
    let (gone, kept) = (put(blobs, b"gone").await, put(blobs, b"kept").await);
    for _ in 0..2 {
        insist(async || blobs.delete(&gone).await).await.expect("delete");
        assert!(!insist(async || blobs.exists(&gone).await).await.expect("exists"));
    }
    assert!(insist(async || blobs.exists(&kept).await).await.expect("exists"));
    put(blobs, b"gone").await;
    assert_eq!(insist(async || blobs.get(&gone).await).await.expect("get"), b"gone".as_slice());
}

/// Bytes without a period that a piece could hide behind.
fn noise(length: usize) -> Bytes {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn write_pieces(blobs: &impl Blobs, bytes: &Bytes, cuts: &[usize]) -> Result<(Digest, u64), StorageError> {
    let mut writer = blobs.writer().await?;
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        writer.write(bytes.slice(from..to)).await?;
        from = to;
    }
    writer.finish().await
}

/// The whole stream in one.
async fn read(blobs: &impl Blobs, digest: &Digest, range: Range<u64>) -> Result<Bytes, StorageError> {
    let joined = |mut all: BytesMut, piece: Bytes| {
        all.extend_from_slice(&piece);
        std::future::ready(Ok(all))
    };
    Ok(blobs.read(digest, range).await?.try_fold(BytesMut::new(), joined).await?.freeze())
}

async fn bytes_in_pieces_are_the_same_blob(blobs: &impl Blobs) {
    let large = noise(3_000_001);
    let cases: [(Bytes, &[usize]); 5] = [
        (Bytes::new(), &[]),
        (noise(7), &[0, 3]),
        (large.slice(..600_000), &[1, 300_000]),
        (large.clone(), &[70_000, 2_999_999]),
        (large.clone(), &[]),
    ];
    for (bytes, cuts) in cases {
        let name = insist(async || write_pieces(blobs, &bytes, cuts).await).await.expect("written");
        assert_eq!(name, (Digest::of(&bytes), bytes.len() as u64), "cut at {cuts:?}");
        assert_eq!(insist(async || blobs.len(&name.0).await).await.expect("len"), name.1);
        assert_eq!(insist(async || blobs.get(&name.0).await).await.expect("get"), bytes);
        let whole = insist(async || read(blobs, &name.0, 0..name.1).await).await.expect("read");
        assert!(whole == bytes, "cut at {cuts:?}");
    }
}

async fn a_blob_is_not_there_before_its_end(blobs: &impl Blobs) {
    let bytes = noise(1_000_000);
    let digest = Digest::of(&bytes);
    let absent = async || {
        assert!(!insist(async || blobs.exists(&digest).await).await.expect("exists"));
        let found = insist(async || blobs.len(&digest).await).await;
        assert!(matches!(found, Err(StorageError::NoSuchBlob(d)) if d == digest), "{found:?}");
        let found = insist(async || read(blobs, &digest, 0..1).await).await;
        assert!(matches!(found, Err(StorageError::NoSuchBlob(d)) if d == digest), "{found:?}");
    };
    let begin = async || {
        let mut writer = blobs.writer().await?;
        writer.write(bytes.clone()).await?;
        Ok::<_, StorageError>(writer)
    };
    let writer = insist(begin).await.expect("begun");
    absent().await;
    drop(writer);
    absent().await;
}

async fn a_range_is_what_the_blob_has_of_it(blobs: &impl Blobs) {
    let bytes = noise(700_000);
    let (digest, end) = insist(async || write_pieces(blobs, &bytes, &[]).await).await.expect("written");
    for range in [0..0, 0..1, 0..end, 5..300_005, 262_144..262_145, end - 1..end, 0..u64::MAX, 9..end + 9, end..end + 1]
    {
        let found = insist(async || read(blobs, &digest, range.clone()).await).await.expect("read");
        let at = |index: u64| index.min(end) as usize;
        assert!(found == bytes[at(range.start)..at(range.end)], "{range:?}: {} bytes", found.len());
    }
}

async fn a_reader_reads_to_the_end_although_the_blob_is_deleted(blobs: &impl Blobs) {
    let bytes = noise(2_000_000);
    let (digest, end) = insist(async || write_pieces(blobs, &bytes, &[]).await).await.expect("written");
    // A stream that breaks off for another reason is begun again, before anything is deleted.
    let begin = async || {
        let mut reading = blobs.read(&digest, 0..end).await?;
        let first = reading.try_next().await?.expect("a piece");
        let second = reading.try_next().await?.expect("another piece");
        Ok::<_, StorageError>((first, second, reading))
    };
    let (first, second, reading) = insist(begin).await.expect("read");
    insist(async || blobs.delete(&digest).await).await.expect("delete");
    let rest: Vec<Bytes> = reading.try_collect().await.expect("read to the end");
    assert!([vec![first, second], rest].concat().concat() == bytes);
}

/// What every [`Kv`] keeps to; `fresh` gives an empty one.
///
/// # Panics
/// Where the implementation breaks a promise.
pub async fn kv_suite<K: Kv>(fresh: impl AsyncFn() -> K) {
    values_come_back_in_the_order_asked_for(&fresh().await).await;
    a_floor_never_leaves_its_prefix(&fresh().await).await;
    floors_agree_with_a_plain_map(&fresh().await).await;
    a_range_is_half_open_and_ascending(&fresh().await).await;
    the_last_put_of_a_key_counts_and_puts_win_over_deletes(&fresh().await).await;
    a_key_outside_its_bounds_is_refused_with_the_whole_write(&fresh().await).await;
    a_reader_sees_a_write_whole(Arc::new(fresh().await)).await;
    loading::stands_beside_what_is_written(&fresh().await).await;
    loading::refuses_what_is_out_of_order(&fresh().await).await;
}

fn key(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs.iter().map(|(k, v)| (key(k), key(v))).collect()
}

async fn write(kv: &impl Kv, puts: &[(&str, &str)], deletes: &[&str], durable: bool) {
    let deletes: Vec<_> = deletes.iter().map(|k| key(k)).collect();
    insist(async || kv.write(pairs(puts), deletes.clone(), durable).await).await.expect("write");
}

async fn get(kv: &impl Kv, keys: &[&str]) -> Vec<Option<Vec<u8>>> {
    let keys: Vec<_> = keys.iter().map(|k| key(k)).collect();
    insist(async || kv.get_many(&keys).await).await.expect("get_many")
}

async fn values_come_back_in_the_order_asked_for(kv: &impl Kv) {
    write(kv, &[("a", "1"), ("b", ""), ("c", "3")], &[], true).await;
    assert_eq!(get(kv, &["c", "x", "b", "a"]).await, [Some(key("3")), None, Some(vec![]), Some(key("1"))]);
    write(kv, &[("c", "4")], &["a", "x"], false).await;
    assert_eq!(get(kv, &["a", "c"]).await, [None, Some(key("4"))]);
    let many: Vec<_> = (0..200).map(|i| if i % 2 == 0 { key("c") } else { key("a") }).collect();
    let got = insist(async || kv.get_many(&many).await).await.expect("get_many");
    assert_eq!(got.len(), 200);
    assert!(got.iter().enumerate().all(|(i, v)| v.is_some() == (i % 2 == 0)));
}

async fn floor(kv: &impl Kv, at: &str, prefix: usize) -> Option<Pair> {
    let query = [Floor { key: key(at), prefix }];
    insist(async || kv.floor_many(&query).await).await.expect("floor_many").remove(0)
}

async fn a_floor_never_leaves_its_prefix(kv: &impl Kv) {
    write(kv, &[("p1:03", "a"), ("p1:07", "b"), ("p2:01", "c")], &[], false).await;
    assert_eq!(floor(kv, "p1:05", 3).await, pairs(&[("p1:03", "a")]).pop());
    assert_eq!(floor(kv, "p1:07", 3).await, pairs(&[("p1:07", "b")]).pop(), "the key itself counts");
    assert_eq!(floor(kv, "p1:99", 3).await, pairs(&[("p1:07", "b")]).pop());
    assert_eq!(floor(kv, "p1:02", 3).await, None);
    assert_eq!(floor(kv, "p2:00", 3).await, None, "the key before belongs to another prefix");
    assert_eq!(floor(kv, "p2:00", 0).await, pairs(&[("p1:07", "b")]).pop());
    assert_eq!(floor(kv, "p1:07", 99).await, pairs(&[("p1:07", "b")]).pop());
    write(kv, &[], &["p1:07"], false).await;
    assert_eq!(floor(kv, "p1:99", 3).await, pairs(&[("p1:03", "a")]).pop(), "a deleted key is passed over");
}

async fn floors_agree_with_a_plain_map(kv: &impl Kv) {
    let mut model = std::collections::BTreeMap::new();
    // A fixed walk over a small key space: collisions, deletions and gaps all occur.
    let mut step = 17_u32;
    let mut next = |below: u32| {
        step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (step >> 16) % below
    };
    for _ in 0..40 {
        let puts: Vec<_> = (0..5).map(|_| (vec![next(4) as u8, next(32) as u8], vec![next(250) as u8])).collect();
        let deletes: Vec<_> = (0..2).map(|_| vec![next(4) as u8, next(32) as u8]).collect();
        deletes.iter().for_each(|key| drop(model.remove(key)));
        model.extend(puts.iter().cloned());
        insist(async || kv.write(puts.clone(), deletes.clone(), false).await).await.expect("write");
    }
    let queries: Vec<_> = (0..4).flat_map(|a| (0..32).map(move |b| Floor { key: vec![a, b], prefix: 1 })).collect();
    let found = insist(async || kv.floor_many(&queries).await).await.expect("floor_many");
    for (query, found) in queries.iter().zip(found) {
        let low = query.low().to_vec();
        let expected = model.range(low..=query.key.clone()).next_back().map(|(k, v)| (k.clone(), v.clone()));
        assert_eq!(found, expected, "{query:?}");
    }
}

async fn a_range_is_half_open_and_ascending(kv: &impl Kv) {
    write(kv, &[("c", "3"), ("a", "1"), ("b", "2"), ("d", "4")], &[], false).await;
    let range = async |from: &str, to: &str, limit| {
        insist(async || kv.range(from.as_bytes(), to.as_bytes(), limit).await).await.expect("range")
    };
    assert_eq!(range("a", "c", 10).await, pairs(&[("a", "1"), ("b", "2")]));
    assert_eq!(range("a", "z", 3).await, pairs(&[("a", "1"), ("b", "2"), ("c", "3")]));
    assert_eq!(range("aa", "b", 10).await, []);
    assert_eq!(range("c", "a", 10).await, [], "nothing lies between ends in the wrong order");
    assert_eq!(range("a", "z", 1_000).await.len(), 4);
}

async fn the_last_put_of_a_key_counts_and_puts_win_over_deletes(kv: &impl Kv) {
    write(kv, &[("k", "old"), ("k", "new"), ("m", "1")], &["k"], false).await;
    assert_eq!(get(kv, &["k", "m"]).await, [Some(key("new")), Some(key("1"))]);
}

async fn a_key_outside_its_bounds_is_refused_with_the_whole_write(kv: &impl Kv) {
    for length in [0, 65_536] {
        let puts = vec![(key("good"), key("1")), (vec![b'x'; length], key("2"))];
        let refused = insist(async || kv.write(puts.clone(), vec![], false).await).await;
        assert!(matches!(refused, Err(StorageError::BadKey { length: l }) if l == length), "{refused:?}");
    }
    assert_eq!(get(kv, &["good"]).await, [None]);
}

async fn a_reader_sees_a_write_whole(kv: Arc<impl Kv>) {
    write(&*kv, &[("left", "0"), ("right", "0")], &[], false).await;
    let writer = kv.clone();
    let writing = tokio::spawn(async move {
        for round in 1..200 {
            let value = round.to_string();
            // `insist`, unrolled: its closure cannot be sent to a task.
            let mut attempts = 0;
            while let Err(e) = writer.write(pairs(&[("left", &value), ("right", &value)]), vec![], false).await {
                attempts += 1;
                assert!(attempts < 10, "{e}");
            }
        }
    });
    while !writing.is_finished() {
        let seen = get(&*kv, &["left", "right"]).await;
        assert_eq!(seen[0], seen[1]);
        tokio::task::yield_now().await;
    }
    writing.await.expect("writer");
    assert_eq!(get(&*kv, &["left"]).await, [Some(key("199"))]);
}
