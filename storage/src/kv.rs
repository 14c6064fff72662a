//! Ordered bytes by key: the online values.

use std::{collections::BTreeMap, path::Path, time::Instant};

use async_trait::async_trait;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};

use crate::{StorageError, disk};

/// A stored key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Pairs in strictly ascending order of their keys. They are pulled on a thread that may block.
pub type SortedPairs = Box<dyn Iterator<Item = Result<Pair, StorageError>> + Send>;

/// Pairs of one write of a store that cannot load.
const LOADED_AT_ONCE: usize = 8_192;

/// Keys above this length are refused.
const KEY_BYTES_MAX: usize = 65_535;
/// Calls with more items than this leave the caller's thread.
const INLINE_ITEMS_MAX: usize = 64;
/// Decoded blocks kept in memory.
const CACHE_BYTES: u64 = 256 << 20;

/// Asks for the greatest stored key that is not above `key` and shares its first `prefix` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    pub key: Vec<u8>,
    /// Length of the shared part in bytes, at most the key's; more counts as all of it.
    pub prefix: usize,
}

impl Floor {
    pub(crate) fn low(&self) -> &[u8] {
        &self.key[..self.prefix.min(self.key.len())]
    }
}

/// Ordered keys and values. Keys are 1 to 65535 bytes long and sort as bytes.
///
/// One call sees one state: a write that happens meanwhile is seen whole or not at all.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// The value of each key, in the order asked for.
    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError>;

    /// Per query the greatest stored key not above `query.key` that shares its first `query.prefix` bytes, with its value.
    async fn floor_many(&self, queries: &[Floor]) -> Result<Vec<Option<Pair>>, StorageError>;

    /// At most `limit` pairs with `from <= key < to`, ascending.
    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError>;

    /// Deletes, then puts, all or nothing; of several puts of one key the last counts. With `durable` it is on
    /// disk when the call returns, else soon after. A failed or cancelled call may have taken effect, whole.
    async fn write(&self, puts: Vec<Pair>, deletes: Vec<Vec<u8>>, durable: bool) -> Result<(), StorageError>;

    /// Puts many pairs at the speed of the disk; on disk when it returns, how many they were. After an error some of them
    /// may be there: loading them again mends it. A store that can do better than write after write has its own way.
    ///
    /// [`StorageError::Corrupt`] when the keys do not ascend, and what `pairs` itself says.
    async fn load(&self, pairs: SortedPairs) -> Result<u64, StorageError> {
        let mut ascending = Ascending::new(pairs);
        loop {
            let page = tokio::task::spawn_blocking(move || {
                let page = ascending.by_ref().take(LOADED_AT_ONCE).collect::<Result<Vec<_>, _>>()?;
                Ok::<_, StorageError>((page, ascending))
            });
            let (page, rest) = page.await.map_err(|_| StorageError::WorkerGone("key-value store"))??;
            let last = page.len() < LOADED_AT_ONCE;
            self.write(page, Vec::new(), last).await?;
            if last {
                return Ok(rest.count);
            }
            ascending = rest;
        }
    }
}

/// Makes sure that keys ascend and are of a lawful length.
struct Ascending {
    pairs: SortedPairs,
    last: Vec<u8>,
    count: u64,
}

impl Ascending {
    fn new(pairs: SortedPairs) -> Self {
        Self { pairs, last: Vec::new(), count: 0 }
    }
}

impl Iterator for Ascending {
    type Item = Result<Pair, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = match self.pairs.next()? {
            Ok(pair) => pair,
            Err(error) => return Some(Err(error)),
        };
        if !(1..=KEY_BYTES_MAX).contains(&pair.0.len()) {
            return Some(Err(StorageError::BadKey { length: pair.0.len() }));
        }
        // No lawful key is empty, so the first one passes.
        if pair.0 <= self.last {
            return Some(Err(StorageError::corrupt(
                "a load of sorted pairs",
                format!("pair {} is out of order", self.count),
            )));
        }
        self.last.clone_from(&pair.0);
        self.count += 1;
        Some(Ok(pair))
    }
}

/// The store inside this process: a log-structured merge tree on local disk.
#[derive(Clone)]
pub struct EmbeddedKv {
    database: Database,
    keyspace: Keyspace,
}

impl EmbeddedKv {
    /// Opens or creates the store in `dir`; [`StorageError::Locked`] while another process has it.
    pub async fn open(dir: &Path) -> Result<Self, StorageError> {
        let patient_until = Instant::now() + disk::LOCK_PATIENCE;
        loop {
            let at = dir.to_owned();
            let opened = tokio::task::spawn_blocking(move || -> Result<Self, fjall::Error> {
                let database = Database::builder(&at).cache_size(CACHE_BYTES).open()?;
                let keyspace = database.keyspace("values", KeyspaceCreateOptions::default)?;
                Ok(Self { database, keyspace })
            });
            match opened.await.map_err(|_| StorageError::WorkerGone("key-value store"))? {
                Err(fjall::Error::Locked) if Instant::now() < patient_until => {
                    tokio::time::sleep(disk::LOCK_RETRY).await;
                }
                Err(fjall::Error::Locked) => return Err(StorageError::Locked(dir.to_owned())),
                other => return Ok(other?),
            }
        }
    }

    /// Runs `work` here when it is small, on a blocking thread when it is not.
    async fn run<T: Send + 'static>(
        &self,
        inline: bool,
        work: impl FnOnce(&Self) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        if inline {
            return work(self);
        }
        let kv = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&kv));
        done.await.map_err(|_| StorageError::WorkerGone("key-value store"))?
    }

    fn gets(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let state = self.database.snapshot();
        keys.iter().map(|key| Ok(state.get(&self.keyspace, key)?.map(|value| value.to_vec()))).collect()
    }

    fn floors(&self, queries: &[Floor]) -> Result<Vec<Option<Pair>>, StorageError> {
        let state = self.database.snapshot();
        queries.iter().map(|query| self.floor(&state, query)).collect()
    }

    fn floor(&self, state: &Snapshot, query: &Floor) -> Result<Option<Pair>, StorageError> {
        let mut found = state.range(&self.keyspace, query.low()..=query.key.as_slice());
        Ok(match found.next_back() {
            Some(guard) => {
                let (key, value) = guard.into_inner()?;
                Some((key.to_vec(), value.to_vec()))
            }
            None => None,
        })
    }
}

#[async_trait]
impl Kv for EmbeddedKv {
    async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        if keys.len() <= INLINE_ITEMS_MAX {
            return self.gets(keys);
        }
        let keys = keys.to_vec();
        self.run(false, move |kv| kv.gets(&keys)).await
    }

    async fn floor_many(&self, queries: &[Floor]) -> Result<Vec<Option<Pair>>, StorageError> {
        if queries.len() <= INLINE_ITEMS_MAX {
            return self.floors(queries);
        }
        let queries = queries.to_vec();
        self.run(false, move |kv| kv.floors(&queries)).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let (from, to) = (from.to_vec(), to.to_vec());
        self.run(limit <= INLINE_ITEMS_MAX, move |kv| {
            let state = kv.database.snapshot();
            let pairs = state.range(&kv.keyspace, from..to).take(limit).map(|guard| {
                let (key, value) = guard.into_inner()?;
                Ok((key.to_vec(), value.to_vec()))
            });
            pairs.collect()
        })
        .await
    }

    async fn write(&self, puts: Vec<Pair>, deletes: Vec<Vec<u8>>, durable: bool) -> Result<(), StorageError> {
        let inline = !durable && puts.len() + deletes.len() <= INLINE_ITEMS_MAX;
        let changes = last_change_of_each_key(puts, deletes)?;
        self.run(inline, move |kv| {
            let mut batch = kv.database.batch();
            if durable {
                batch = batch.durability(Some(PersistMode::SyncAll));
            }
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(&kv.keyspace, key, value),
                    None => batch.remove(&kv.keyspace, key),
                }
            }
            Ok(batch.commit()?)
        })
        .await
    }

    /// Writes tables of the tree directly, past journal and memory, and publishes them in one step: readers see all of
    /// the pairs or none, and so does a crash.
    async fn load(&self, pairs: SortedPairs) -> Result<u64, StorageError> {
        self.run(false, move |kv| {
            let mut pairs = Ascending::new(pairs);
            let mut tables = kv.keyspace.start_ingestion()?;
            for pair in pairs.by_ref() {
                let (key, value) = pair?;
                tables.write(key, value)?;
            }
            tables.finish()?;
            Ok(pairs.count)
        })
        .await
    }
}

/// The store gives all items of a batch one sequence number, so each key may stand in it only once.
fn last_change_of_each_key(
    puts: Vec<Pair>,
    deletes: Vec<Vec<u8>>,
) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>, StorageError> {
    let changes = deletes.into_iter().map(|key| (key, None));
    let changes = changes.chain(puts.into_iter().map(|(key, value)| (key, Some(value))));
    changes
        .map(|(key, value)| match key.len() {
            1..=KEY_BYTES_MAX => Ok((key, value)),
            length => Err(StorageError::BadKey { length }),
        })
        .collect()
}
