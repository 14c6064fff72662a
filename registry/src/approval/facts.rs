//! What gates look at.

use std::collections::BTreeMap;

use domain::ModelRef;
use storage::sql::Conn;

use crate::{RegistryError, version};

/// What the registry knows of a version, as far as gates ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Of the run that made it; over them those that it was registered with, which never change.
    pub(super) metrics: BTreeMap<String, f64>,
    pub(super) unsafe_reason: Option<String>,
    pub(super) files_known: bool,
    pub(super) signature: bool,
    pub(super) run: bool,
    pub(super) dataset: bool,
}

impl Facts {
    /// The metric's value; in words, why there is none.
    pub(super) fn metric(&self, key: &str) -> Result<f64, String> {
        match self.metrics.get(key) {
            None => Err(format!("{key} was never logged")),
            Some(value) if value.is_nan() => Err(format!("{key} is not a number")),
            Some(value) => Ok(*value),
        }
    }

    pub(super) async fn of(conn: &mut Conn, version: &ModelRef) -> Result<Self, RegistryError> {
        let found = version::one(conn, version).await?;
        let mut facts = Self {
            unsafe_reason: found.unsafe_reason,
            files_known: !found.files.is_empty(),
            signature: !found.signature.inputs.is_empty() || found.stated_signature.is_some(),
            run: found.run.is_some(),
            ..Self::default()
        };
        if let Some(run) = found.run {
            let run = run.to_string();
            let logged: Vec<(String, Option<f64>)> =
                sqlx::query_as("SELECT key, value FROM registry_latest_metrics WHERE run = $1")
                    .bind(&run)
                    .fetch_all(&mut *conn)
                    .await?;
            facts.metrics = logged.into_iter().map(|(key, value)| (key, value.unwrap_or(f64::NAN))).collect();
            facts.dataset = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM registry_runs WHERE id = $1 AND dataset IS NOT NULL)
                     OR EXISTS (SELECT 1 FROM registry_inputs WHERE run = $1)",
            )
            .bind(&run)
            .fetch_one(conn)
            .await?;
        }
        facts.metrics.extend(found.metrics);
        Ok(facts)
    }
}
