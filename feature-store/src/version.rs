//! Versions of definitions: which one stands, and since when.

use domain::{Timestamp, ViewName, definition::Definition};
use storage::sqlx::{self, Row as _};

use crate::{
    FeatureStore,
    error::{Doing as _, FeatureError},
};

/// What is known about a definition beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How often it was changed, from 1.
    pub version: u64,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

impl FeatureStore {
    /// The definitions that stand, each with its version and times, in the order in which they can be applied.
    ///
    /// # Errors
    /// What storage says.
    pub async fn standing(&self) -> Result<Vec<(Definition, Standing)>, FeatureError> {
        let rows = sqlx::query(
            "SELECT kind, name, MAX(version), MIN(applied_at), MAX(applied_at) FROM feature_definitions
             GROUP BY kind, name",
        )
        .fetch_all(self.0.meta.reader())
        .await
        .doing("read definitions")?;
        let mut known = std::collections::HashMap::with_capacity(rows.len());
        for row in rows {
            let kind: String = row.try_get(0).doing("read definitions")?;
            let name: String = row.try_get(1).doing("read definitions")?;
            let number = |at: usize| row.try_get::<i64, _>(at).doing("read definitions");
            let standing = Standing {
                version: u64::try_from(number(2)?).unwrap_or(1),
                created_at: Timestamp::from_micros(number(3)?),
                changed_at: Timestamp::from_micros(number(4)?),
            };
            known.insert((kind, name), standing);
        }
        let of = |definition: Definition| {
            let found = known.get(&(definition.kind().to_owned(), definition.name().to_owned())).copied();
            found.map(|standing| (definition, standing))
        };
        Ok(self.definitions().into_iter().filter_map(of).collect())
    }

    /// How often the view was changed, from 1: its newest version, the one that is served.
    ///
    /// # Errors
    /// `Unknown` view; what storage says.
    pub async fn view_version(&self, view: &ViewName) -> Result<u64, FeatureError> {
        self.view(view)?;
        let newest =
            sqlx::query("SELECT MAX(version) FROM feature_definitions WHERE kind = 'FeatureView' AND name = $1")
                .bind(view.as_str())
                .fetch_one(self.0.meta.reader())
                .await
                .doing("read a definition's version")?;
        let version = newest.try_get::<Option<i64>, _>(0).doing("read a definition's version")?;
        Ok(version.and_then(|version| u64::try_from(version).ok()).unwrap_or(1))
    }
}
