//! Which tables exist and which segments make them up, in the relational database.

use std::{collections::HashSet, sync::Arc};

use domain::Digest;
use sqlx::{AssertSqlSafe, Row as _};

use crate::{
    Blobs, Meta, Migration, StorageError,
    garbage::{digests_in, require_stored},
    segment::Segment,
    sql::Conn,
};

pub(crate) const MIGRATIONS: &[Migration] = &[TABLES, KEEPERS, BY_DIGEST];

const TABLES: Migration = Migration {
    name: "tables and segments",
    sql: "CREATE TABLE tables (
            name TEXT NOT NULL PRIMARY KEY,
            columns TEXT NOT NULL
          );
          CREATE TABLE segments (
            table_name TEXT NOT NULL REFERENCES tables (name),
            position BIGINT NOT NULL,
            digest TEXT NOT NULL,
            row_count BIGINT NOT NULL,
            extents TEXT NOT NULL,
            covered BIGINT NOT NULL,
            chain TEXT NOT NULL,
            PRIMARY KEY (table_name, position)
          );",
};

/// Which data directory holds the table's log, where several servers share the database.
const KEEPERS: Migration = Migration { name: "keepers", sql: "ALTER TABLE tables ADD COLUMN keeper TEXT" };

/// Asked for each blob that may be garbage.
const BY_DIGEST: Migration =
    Migration { name: "segments by digest", sql: "CREATE INDEX segments_by_digest ON segments (digest)" };

/// Creates the table, or checks that it has these columns. Gives the data directory that keeps it, where that is
/// another than `keeper`; a table that nobody keeps becomes `keeper`'s.
pub(crate) async fn claim(
    meta: &Meta,
    table: &str,
    columns: &str,
    keeper: Option<&str>,
) -> Result<Option<String>, StorageError> {
    let mut tx = meta.begin().await?;
    let found: Option<(String, Option<String>)> = sqlx::query_as("SELECT columns, keeper FROM tables WHERE name = $1")
        .bind(table)
        .fetch_optional(tx.conn())
        .await?;
    match found {
        Some((found, kept)) if found == columns => match (kept, keeper) {
            (Some(kept), Some(keeper)) if kept != keeper => Ok(Some(kept)),
            (None, Some(keeper)) => {
                sqlx::query("UPDATE tables SET keeper = $2 WHERE name = $1")
                    .bind(table)
                    .bind(keeper)
                    .execute(tx.conn())
                    .await?;
                tx.commit().await?;
                Ok(None)
            }
            _ => Ok(None),
        },
        // Its keeper has not handed its rows over yet, which is for the keeper to do.
        Some((_, Some(kept))) if columns == VAULTED && keeper.is_some_and(|keeper| keeper != kept) => Ok(Some(kept)),
        Some((found, _)) => {
            let differing = found.lines().zip(columns.lines()).find(|(a, b)| a != b);
            let detail = differing.map_or_else(
                || format!("it has {} columns, asked for {}", found.lines().count(), columns.lines().count()),
                |(has, asked)| format!("it has `{has}`, asked for `{asked}`"),
            );
            Err(StorageError::SchemaMismatch { table: table.to_owned(), detail })
        }
        None => {
            sqlx::query("INSERT INTO tables (name, columns, keeper) VALUES ($1, $2, $3)")
                .bind(table)
                .bind(columns)
                .bind(keeper)
                .execute(tx.conn())
                .await?;
            tx.commit().await?;
            Ok(None)
        }
    }
}

/// What stands as the columns of a table whose rows a vault keeps. No table's own columns read like this.
pub(crate) const VAULTED: &str = "(in a vault)";

/// Whether the manifest keeps the rows of this table.
pub(crate) async fn keeps(meta: &Meta, table: &str) -> Result<bool, StorageError> {
    let columns: Option<String> = sqlx::query_scalar("SELECT columns FROM tables WHERE name = $1")
        .bind(table)
        .fetch_optional(meta.reader())
        .await?;
    Ok(columns.is_some_and(|columns| columns != VAULTED))
}

/// Forgets the segments of these tables. The first goes on with a vault, the others are gone.
pub(crate) async fn hand_over(meta: &Meta, tables: &[String]) -> Result<(), StorageError> {
    let mut tx = meta.begin().await?;
    for (position, table) in tables.iter().enumerate() {
        sqlx::query("DELETE FROM segments WHERE table_name = $1").bind(table).execute(tx.conn()).await?;
        let statement = if position == 0 {
            sqlx::query("UPDATE tables SET columns = $2 WHERE name = $1").bind(table).bind(VAULTED)
        } else {
            sqlx::query("DELETE FROM tables WHERE name = $1").bind(table)
        };
        statement.execute(tx.conn()).await?;
    }
    tx.commit().await
}

/// The table's segments in row order.
pub(crate) async fn segments(meta: &Meta, table: &str) -> Result<Vec<Arc<Segment>>, StorageError> {
    let rows = sqlx::query(
        "SELECT digest, row_count, extents, covered, chain FROM segments WHERE table_name = $1 ORDER BY position",
    )
    .bind(table)
    .fetch_all(meta.reader())
    .await?;
    let damaged = |e: String| StorageError::corrupt(format!("manifest of table {table}"), e);
    rows.iter()
        .map(|row| {
            let (digest, extents, chain): (String, String, String) =
                (row.try_get(0)?, row.try_get(2)?, row.try_get(4)?);
            Ok(Arc::new(Segment {
                digest: digest.parse().map_err(|e| damaged(format!("{e}")))?,
                rows: row.try_get::<i64, _>(1)?.unsigned_abs(),
                extents: serde_json::from_str(&extents).map_err(|e| damaged(e.to_string()))?,
                covered: row.try_get::<i64, _>(3)?.unsigned_abs(),
                chain: chain.parse().map_err(|e| damaged(format!("{e}")))?,
            }))
        })
        .collect()
}

/// Of these blobs, the ones that are segments of any table.
pub(crate) async fn named(conn: &mut Conn, of: &[Digest]) -> Result<HashSet<Digest>, StorageError> {
    let places: Vec<String> = (1..=of.len()).map(|place| format!("${place}")).collect();
    let statement = format!("SELECT DISTINCT digest FROM segments WHERE digest IN ({})", places.join(", "));
    // Places only; the digests are bound.
    let mut query = sqlx::query_scalar(AssertSqlSafe(statement));
    for digest in of {
        query = query.bind(digest.to_string());
    }
    let rows: Vec<String> = query.fetch_all(conn).await?;
    Ok(rows.iter().flat_map(|row| digests_in(row)).collect())
}

/// Adds the segment at `position`. Adding it again, after a commit whose outcome was unknown, changes nothing.
///
/// [`StorageError::Cleared`] when its bytes were removed since they were stored: store them again first.
pub(crate) async fn add(
    meta: &Meta,
    blobs: &dyn Blobs,
    table: &str,
    position: usize,
    segment: &Segment,
) -> Result<(), StorageError> {
    let extents = serde_json::to_string(&segment.extents).map_err(|e| StorageError::corrupt("extents", e))?;
    let mut tx = meta.begin().await?;
    require_stored(blobs, &[segment.digest]).await?;
    // The same rows give the same digest, so a row that stands here already is this one.
    sqlx::query(
        "INSERT INTO segments (table_name, position, digest, row_count, extents, covered, chain)
         SELECT $1, $2, $3, $4, $5, $6, $7
         WHERE NOT EXISTS (SELECT 1 FROM segments WHERE table_name = $1 AND position = $2 AND chain = $7)",
    )
    .bind(table)
    .bind(signed(position as u64))
    .bind(segment.digest.to_string())
    .bind(signed(segment.rows))
    .bind(extents)
    .bind(signed(segment.covered))
    .bind(segment.chain.to_string())
    .execute(tx.conn())
    .await?;
    tx.commit().await
}

/// Counts never come near the limit.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
