//! Collecting garbage while others store, name and forget.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, EventKind, Timestamp};
use futures::TryStreamExt as _;
use proptest::{collection::vec, prelude::*};

use super::rig::{Rig, all, numbers};
use crate::{
    Blobs, Collected, Collector, LocalBlobs, Meta, Migration, References, StorageError, digests_in, require_stored,
    sql::Conn,
    testing::{Faults, FaultyBlobs, When, meta_in},
};

/// A room with one table: names and the blobs they stand for.
#[derive(Clone)]
struct Shelf {
    meta: Meta,
    blobs: Arc<dyn Blobs>,
}

#[async_trait]
impl References for Shelf {
    async fn named(&self, conn: &mut Conn, of: &[Digest]) -> Result<HashSet<Digest>, StorageError> {
        let all: Vec<String> = sqlx::query_scalar("SELECT digest FROM shelf").fetch_all(conn).await?;
        Ok(all.iter().flat_map(|digest| digests_in(digest)).filter(|digest| of.contains(digest)).collect())
    }
}

impl Shelf {
    async fn open(dir: &Path) -> Self {
        let blobs = LocalBlobs::open(&dir.join("blobs")).await.unwrap();
        Self::over(dir, Arc::new(blobs)).await
    }

    async fn over(dir: &Path, blobs: Arc<dyn Blobs>) -> Self {
        let meta = meta_in(dir).await;
        let table = "CREATE TABLE shelf (name BIGINT PRIMARY KEY, digest TEXT NOT NULL)";
        meta.migrate("shelf", &[Migration { name: "shelf", sql: table }]).await.unwrap();
        Self { meta, blobs }
    }

    fn collector(&self) -> Collector {
        Collector::new(self.meta.clone(), self.blobs.clone(), vec![Arc::new(self.clone())])
    }

    async fn collect(&self) -> Result<Collected, StorageError> {
        self.collector().collect(Timestamp::MAX, Timestamp::from_micros(0), "test").await
    }

    async fn put(&self, content: u8) -> Digest {
        self.blobs.put(Bytes::from(vec![content; 3])).await.unwrap()
    }

    /// False: its bytes were cleared away in the meantime.
    async fn name(&self, name: i64, digest: Digest) -> bool {
        let mut tx = self.meta.begin().await.unwrap();
        match require_stored(&*self.blobs, &[digest]).await {
            Err(StorageError::Cleared(cleared)) => {
                assert_eq!(cleared, digest);
                return false;
            }
            other => other.unwrap(),
        }
        let insert = "INSERT INTO shelf (name, digest) VALUES ($1, $2)
                      ON CONFLICT (name) DO UPDATE SET digest = excluded.digest";
        sqlx::query(insert).bind(name).bind(digest.to_string()).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        true
    }

    async fn forget(&self, name: i64) {
        let mut tx = self.meta.begin().await.unwrap();
        sqlx::query("DELETE FROM shelf WHERE name = $1").bind(name).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn stored(&self) -> BTreeSet<Digest> {
        self.blobs.list().await.map_ok(|blob| blob.digest).try_collect().await.unwrap()
    }

    async fn named(&self) -> BTreeSet<Digest> {
        let all: Vec<String> =
            sqlx::query_scalar("SELECT digest FROM shelf").fetch_all(self.meta.reader()).await.unwrap();
        all.iter().map(|digest| digest.parse().unwrap()).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A writer stores bytes and holds their name.
    Put {
        writer: usize,
        content: u8,
    },
    /// A writer names what it holds.
    Name {
        writer: usize,
        name: i64,
    },
    Forget {
        name: i64,
    },
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, 0..6_u8).prop_map(|(writer, content)| Step::Put { writer, content }),
        3 => (0..3_usize, 0..4_i64).prop_map(|(writer, name)| Step::Name { writer, name }),
        2 => (0..4_i64).prop_map(|name| Step::Forget { name }),
        2 => Just(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_125),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn in_whatever_order_things_happen_what_is_named_is_there(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let shelf = Shelf::open(dir.path()).await;
            let (mut held, mut names) = ([None; 3], BTreeMap::new());
            let mut stored = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Put { writer, content } => {
                        let digest = shelf.put(content).await;
                        held[writer] = Some(digest);
                        stored.insert(digest);
                    }
                    Step::Name { writer, name } => {
                        let Some(digest) = held[writer] else { continue };
                        assert_eq!(shelf.name(name, digest).await, stored.contains(&digest));
                        if stored.contains(&digest) {
                            names.insert(name, digest);
                        }
                    }
                    Step::Forget { name } => {
                        shelf.forget(name).await;
                        names.remove(&name);
                    }
                    Step::Collect => {
                        let live: BTreeSet<Digest> = names.values().copied().collect();
                        let collected = shelf.collect().await.unwrap();
                        assert_eq!(collected.seen, stored.len() as u64);
                        assert_eq!(collected.removed, (stored.len() - live.len()) as u64);
                        assert_eq!(collected.garbage, collected.removed);
                        stored = live;
                    }
                }
                assert_eq!(shelf.stored().await, stored);
                assert_eq!(shelf.named().await, names.values().copied().collect());
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_beside_a_collector_that_never_rests_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path()).await;
    let over = Arc::new(AtomicBool::new(false));
    let collecting = {
        let (shelf, over) = (shelf.clone(), over.clone());
        tokio::spawn(async move {
            let mut removed = 0;
            while !over.load(Ordering::SeqCst) {
                removed += shelf.collect().await.unwrap().removed;
            }
            removed
        })
    };
    let writers = (0..4_i64).map(|writer| {
        let shelf = shelf.clone();
        tokio::spawn(async move {
            let mut repeated = 0;
            for turn in 0..60_u8 {
                // All writers store the same few contents, over and over.
                let digest = loop {
                    let digest = shelf.put(turn % 5).await;
                    if shelf.name(writer, digest).await {
                        break digest;
                    }
                    repeated += 1;
                };
                assert_eq!(shelf.blobs.get(&digest).await.unwrap(), vec![turn % 5; 3]);
            }
            repeated
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    collecting.await.unwrap();
    let removed = shelf.collect().await.unwrap();
    assert_eq!(removed.garbage, removed.removed);
    assert_eq!(shelf.stored().await, shelf.named().await);
}

#[tokio::test]
async fn what_is_young_stays_and_a_dry_run_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path()).await;
    let kept = shelf.put(1).await;
    assert!(shelf.name(1, kept).await);
    let garbage = shelf.put(2).await;
    let collector = shelf.collector();
    let counted = collector.count(Timestamp::MAX).await.unwrap();
    let expected = Collected { seen: 2, garbage: 1, garbage_bytes: 3, ..Collected::default() };
    assert_eq!(counted, expected);
    let none = collector.collect(Timestamp::from_micros(1), Timestamp::from_micros(0), "test").await.unwrap();
    assert_eq!(none, Collected { seen: 2, young: 2, ..Collected::default() });
    assert_eq!(shelf.stored().await, [kept, garbage].into());
    assert_eq!(shelf.meta.journal().read(0, 10).await.unwrap(), []);

    let reading = shelf.blobs.read(&garbage, 0..3).await.unwrap();
    let collected = shelf.collect().await.unwrap();
    assert_eq!(collected, Collected { removed: 1, removed_bytes: 3, ..expected });
    assert_eq!(shelf.stored().await, [kept].into());
    assert_eq!(reading.try_collect::<Vec<_>>().await.unwrap().concat(), [2; 3], "who reads goes on");
    let events = shelf.meta.journal().read(0, 10).await.unwrap();
    assert_eq!((events.len(), events[0].kind, events[0].actor.as_str()), (1, EventKind::BlobsCollected, "test"));
    assert_eq!(events[0].body["blobs"], serde_json::json!([garbage]));
    assert!(!shelf.name(2, garbage).await, "what is gone cannot be named");
}

#[tokio::test]
async fn a_collection_that_breaks_off_anywhere_removed_garbage_only() {
    for when in [When::Before, When::After] {
        for nth in 1..14 {
            let dir = tempfile::tempdir().unwrap();
            let inner = LocalBlobs::open(&dir.path().join("blobs")).await.unwrap();
            let whole = Shelf::over(dir.path(), Arc::new(inner.clone())).await;
            for content in 0..10 {
                let digest = whole.put(content).await;
                if content % 3 == 0 {
                    assert!(whole.name(i64::from(content), digest).await);
                }
            }
            let faulty = Arc::new(FaultyBlobs::new(inner, Faults::nth(nth, when)));
            let broken = Shelf { meta: whole.meta.clone(), blobs: faulty };
            // One listing and six removals; there is nothing to break beyond.
            assert_eq!(broken.collect().await.is_err(), nth <= 7, "call {nth}");
            assert!(whole.named().await.is_subset(&whole.stored().await), "call {nth} {when:?}");
            whole.collect().await.unwrap();
            assert_eq!(whole.stored().await, whole.named().await, "call {nth} {when:?}");
        }
    }
}

#[tokio::test]
async fn segments_of_a_table_are_named_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path()).await;
    let table = rig.numbers().await;
    table.append(numbers(0, 10)).await.unwrap();
    table.flush().await.unwrap();
    let garbage = rig.blobs.put(Bytes::from_static(b"a segment of no manifest")).await.unwrap();
    let collector = Collector::new(rig.meta.clone(), rig.blobs.clone(), vec![Arc::new(rig.tables.clone())]);
    let now = Timestamp::from_micros(0);
    assert_eq!(collector.collect(Timestamp::MAX, now, "test").await.unwrap().removed, 1);
    assert!(!rig.blobs.exists(&garbage).await.unwrap());
    drop((table, rig, collector));
    let table = Rig::open(dir.path()).await.numbers().await;
    assert_eq!(all(&table).await, (0..10).collect::<Vec<_>>());
}

#[test]
fn digests_are_found_wherever_they_stand_in_a_text() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let text = format!("{{\"train\":\"{a}\",\"parts\":[\"{b}\"],\"run\":\"0190\",\"long\":\"{a}{b}\"}}");
    assert_eq!(digests_in(&text), [a, b].into());
    assert_eq!(digests_in(&a.to_string()), [a].into());
    assert_eq!(digests_in(""), HashSet::new());
}
