//! Stages: how far a version has come, in MLflow's words.

use domain::{EventKind, ModelRef, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::Tx;

use crate::{ModelVersion, Registry, RegistryError, approval, row, version};

/// How far a version has come, in MLflow's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Stage {
    #[default]
    None,
    Staging,
    Production,
    Archived,
}

impl Stage {
    const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }

    /// Whether it is one that a version is chosen for, and that clients load it by.
    #[must_use]
    pub const fn is_named(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }

    /// The stage that an alias of this name stands for.
    pub(crate) fn named(alias: &str) -> Option<Self> {
        Self::parse(alias).ok().filter(|stage| stage.is_named())
    }

    /// The stage of that name, in whatever case.
    ///
    /// # Errors
    /// A name that is none of the four.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let found = Self::ALL.into_iter().find(|stage| stage.as_str().eq_ignore_ascii_case(text));
        let hint = "use None, Staging, Production or Archived";
        found.ok_or_else(|| RegistryError::invalid(format!("stage {text:?}"), "does not exist", hint))
    }
}

impl Registry {
    /// Moves a version to a stage; with `archive`, what stood there before becomes archived.
    ///
    /// # Errors
    /// An unknown version, `archive` for a stage that many versions share, or a stage that a protected alias holds.
    pub async fn move_to_stage(
        &self,
        reference: &ModelRef,
        stage: Stage,
        archive: bool,
    ) -> Result<ModelVersion, RegistryError> {
        if archive && !stage.is_named() {
            let problem = "is not one that versions are archived from";
            let hint = "archive existing versions only for Staging or Production";
            return Err(RegistryError::invalid(format!("stage `{}`", stage.as_str()), problem, hint));
        }
        let now = self.now();
        let mut tx = self.begin().await?;
        let before = version::one(tx.conn(), reference).await?.stage;
        if before != stage || archive {
            approval::stage_free(tx.conn(), reference, before).await?;
            approval::stage_free(tx.conn(), reference, stage).await?;
        }
        shift(&mut tx, reference, stage, archive, now).await?;
        let changed = version::one(tx.conn(), reference).await?;
        tx.commit().await?;
        Ok(changed)
    }
}

/// Moves a version that exists to a stage and tells of it; with `archive`, what stood there before becomes archived.
/// The caller has seen to it that it may move.
pub(crate) async fn shift(
    tx: &mut Tx,
    reference: &ModelRef,
    stage: Stage,
    archive: bool,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let (model, number) = (reference.model.as_str(), i64::from(reference.version));
    if archive {
        let archived: Vec<i64> = sqlx::query_scalar(
            "UPDATE registry_versions SET stage = 'Archived', updated_at = $4
             WHERE model = $1 AND version <> $2 AND stage = $3 RETURNING version",
        )
        .bind(model)
        .bind(number)
        .bind(stage.as_str())
        .bind(now.micros())
        .fetch_all(tx.conn())
        .await?;
        for other in archived {
            let other = ModelRef { model: reference.model.clone(), version: row::uncount(other, "version")? };
            let body = json!({"stage": Stage::Archived, "in_favour_of": reference.version});
            version::note(tx, now, EventKind::VersionChanged, &other, body).await?;
        }
    }
    sqlx::query("UPDATE registry_versions SET stage = $3, updated_at = $4 WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(number)
        .bind(stage.as_str())
        .bind(now.micros())
        .execute(tx.conn())
        .await?;
    version::touch(tx.conn(), &reference.model, now).await?;
    version::note(tx, now, EventKind::VersionChanged, reference, json!({"stage": stage})).await
}
