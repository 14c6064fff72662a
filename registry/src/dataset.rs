//! Datasets: which rows a model learned from, kept as Parquet and named by digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::{Digest, EventKind, NewEvent, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::sql::Conn;

use crate::{Registry, RegistryError, row};

/// A training set as it was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetSnapshot {
    /// Its name: the digest of its Parquet bytes, or of the digests of its parts.
    pub digest: Digest,
    pub rows: u64,
    /// What was asked for: the definition's `DatasetSpec`, as JSON.
    pub spec: serde_json::Value,
    /// Event time of the oldest row.
    pub from: Timestamp,
    /// Event time of the newest row.
    pub to: Timestamp,
    /// Nothing known later than this went in.
    pub cutoff: Timestamp,
    /// Source -> what it held when the dataset was built.
    pub source_snapshots: BTreeMap<String, Digest>,
    /// Part (`train`, `holdout`) -> its Parquet blob. Empty: `digest` itself is the blob.
    pub blobs: BTreeMap<String, Digest>,
}

/// A recorded dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    #[serde(flatten)]
    pub snapshot: DatasetSnapshot,
    pub recorded_at: Timestamp,
}

impl Registry {
    /// Keeps bytes, such as a dataset's Parquet file, and gives their name. Durable when it returns.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<Digest, RegistryError> {
        Ok(self.blobs().put(bytes).await?)
    }

    /// Whether bytes of that name are kept; they are not looked at.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.blobs().exists(digest).await?)
    }

    /// The bytes of that name, checked against it.
    pub async fn get_blob(&self, digest: &Digest) -> Result<Bytes, RegistryError> {
        Ok(self.blobs().get(digest).await?)
    }

    /// Records a dataset whose blobs are stored. One that is known already stays as it was first recorded.
    ///
    /// # Errors
    /// `MissingBlob`, naming the part.
    pub async fn record_dataset(&self, snapshot: DatasetSnapshot) -> Result<Dataset, RegistryError> {
        let whole = [("dataset", &snapshot.digest)];
        let parts = snapshot.blobs.iter().map(|(part, digest)| (part.as_str(), digest));
        let blobs: Vec<_> = if snapshot.blobs.is_empty() { whole.to_vec() } else { parts.collect() };
        let now = self.now();
        let mut tx = self.begin().await?;
        // Inside the transaction that names them: see `storage::Collector`.
        for (part, digest) in blobs {
            if !self.blobs().exists(digest).await? {
                return Err(RegistryError::MissingBlob { what: format!("part `{part}`"), digest: *digest });
            }
        }
        if let Some(known) = find(tx.conn(), &snapshot.digest).await? {
            return Ok(known);
        }
        sqlx::query(
            "INSERT INTO registry_datasets
                 (digest, row_count, spec, from_at, to_at, cutoff, sources, blobs, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(snapshot.digest.to_string())
        .bind(row::count(snapshot.rows))
        .bind(row::to_json(&snapshot.spec))
        .bind(snapshot.from.micros())
        .bind(snapshot.to.micros())
        .bind(snapshot.cutoff.micros())
        .bind(row::to_json(&snapshot.source_snapshots))
        .bind(row::to_json(&snapshot.blobs))
        .bind(now.micros())
        .execute(tx.conn())
        .await?;
        tx.append(NewEvent {
            at: now,
            kind: EventKind::DatasetBuilt,
            subject: format!("dataset/{}", snapshot.digest),
            actor: crate::ACTOR.into(),
            cause: None,
            body: json!({"rows": snapshot.rows, "from": snapshot.from, "to": snapshot.to, "cutoff": snapshot.cutoff}),
        })
        .await?;
        tx.commit().await?;
        Ok(Dataset { snapshot, recorded_at: now })
    }

    /// One recorded dataset.
    pub async fn dataset(&self, digest: &Digest) -> Result<Dataset, RegistryError> {
        let mut conn = self.meta().reader().acquire().await?;
        find(&mut conn, digest).await?.ok_or(RegistryError::NoSuchDataset(*digest))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    row_count: i64,
    spec: String,
    from_at: i64,
    to_at: i64,
    cutoff: i64,
    sources: String,
    blobs: String,
    recorded_at: i64,
}

pub(crate) async fn find(conn: &mut Conn, digest: &Digest) -> Result<Option<Dataset>, RegistryError> {
    let found: Option<Row> = sqlx::query_as(
        "SELECT row_count, spec, from_at, to_at, cutoff, sources, blobs, recorded_at
         FROM registry_datasets WHERE digest = $1",
    )
    .bind(digest.to_string())
    .fetch_optional(conn)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let snapshot = DatasetSnapshot {
        digest: *digest,
        rows: row::uncount(found.row_count, "dataset")?,
        spec: row::from_json(&found.spec, "dataset")?,
        from: Timestamp::from_micros(found.from_at),
        to: Timestamp::from_micros(found.to_at),
        cutoff: Timestamp::from_micros(found.cutoff),
        source_snapshots: row::from_json(&found.sources, "dataset")?,
        blobs: row::from_json(&found.blobs, "dataset")?,
    };
    Ok(Some(Dataset { snapshot, recorded_at: Timestamp::from_micros(found.recorded_at) }))
}
