//! Marks: which rows a digest of a source stands for, so that a training set can be built again from the digests it names.

use std::collections::BTreeMap;

use domain::{Digest, SourceName};
use storage::sqlx::{self, Row as _};

use crate::{
    Inner,
    error::{Doing as _, FeatureError, unknown},
    table::Mark,
};

const DOING: &str = "keep what a training set was made of";

impl Inner {
    /// The source's present state, kept under its digest.
    pub(crate) async fn mark(&self, source: &SourceName) -> Result<Mark, FeatureError> {
        let table = self.source_table(source)?;
        let mark = {
            let _writing = table.writing.lock().await;
            table.mark()
        };
        if self.marked(source, &mark.digest).await?.is_none() {
            let mut tx = self.meta.begin().await.doing(DOING)?;
            // Nothing that anybody sees changes with it: whoever built something from the mark says so.
            sqlx::query(
                "INSERT INTO feature_marks (source, digest, row_count, version)
                 SELECT $1, $2, $3, $4
                 WHERE NOT EXISTS (SELECT 1 FROM feature_marks WHERE source = $1 AND digest = $2)",
            )
            .bind(source.as_str())
            .bind(mark.digest.to_string())
            .bind(i64::try_from(mark.rows).unwrap_or(i64::MAX))
            .bind(i64::try_from(mark.version).unwrap_or(i64::MAX))
            .execute(tx.conn())
            .await
            .doing(DOING)?;
            tx.commit().await.doing(DOING)?;
        }
        Ok(mark)
    }

    /// The marks of these digests.
    pub(crate) async fn marks_of(
        &self,
        snapshots: &BTreeMap<String, Digest>,
        sources: impl IntoIterator<Item = &SourceName>,
    ) -> Result<BTreeMap<SourceName, Mark>, FeatureError> {
        let mut marks = BTreeMap::new();
        for source in sources {
            let named = snapshots.get(source.as_str());
            let Some(digest) = named else {
                return Err(unknown("snapshot of source", source.as_str(), snapshots.keys().map(String::as_str)));
            };
            let found = self.marked(source, digest).await?;
            let mark = found.ok_or_else(|| unknown("snapshot", &format!("{source}@{digest}"), []))?;
            marks.insert(source.clone(), mark);
        }
        Ok(marks)
    }

    async fn marked(&self, source: &SourceName, digest: &Digest) -> Result<Option<Mark>, FeatureError> {
        let row = sqlx::query("SELECT row_count, version FROM feature_marks WHERE source = $1 AND digest = $2")
            .bind(source.as_str())
            .bind(digest.to_string())
            .fetch_optional(self.meta.reader())
            .await
            .doing(DOING)?;
        let Some(row) = row else { return Ok(None) };
        let count = |at: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.unsigned_abs());
        let (rows, version) = (count(0).doing(DOING)?, count(1).doing(DOING)?);
        Ok(Some(Mark { rows, digest: *digest, version }))
    }
}
