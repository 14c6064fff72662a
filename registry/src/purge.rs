//! Deleting for good what has long been deleted: runs, logged models, experiments, with their files' names.
//!
//! What something living came from stays: a version keeps its run and its logged model. Points of metrics stand in sealed
//! segments and stay there, unseen: nothing shows points of a run that is not there.

use domain::{EventKind, NewEvent, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage::{Tx, sql::Conn};

use crate::{Registry, RegistryError, artifact, experiment, query::Statement, source};

/// How many are purged in one transaction.
const AT_ONCE: usize = 50;

/// What was deleted for good, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    pub runs: Vec<String>,
    pub logged_models: Vec<String>,
    pub experiments: Vec<i64>,
    /// Deleted for as long, and needed still.
    pub kept: Vec<Kept>,
}

/// Something deleted that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// `run`, `logged model` or `experiment`.
    pub what: String,
    pub id: String,
    pub why: String,
}

/// The rows that hang on a run, and the column that names it.
const OF_RUN: [(&str, &str); 6] = [
    ("registry_params", "run"),
    ("registry_tags", "run"),
    ("registry_latest_metrics", "run"),
    ("registry_inputs", "run"),
    ("registry_logged_model_metrics", "run"),
    ("registry_run_models", "run"),
];
const OF_LOGGED_MODEL: [(&str, &str); 4] = [
    ("registry_logged_model_params", "model"),
    ("registry_logged_model_tags", "model"),
    ("registry_logged_model_metrics", "model"),
    ("registry_run_models", "model"),
];

/// A kind of thing that is purged by its id.
struct Kind {
    what: &'static str,
    table: &'static str,
    rows: &'static [(&'static str, &'static str)],
    event: EventKind,
    subject: &'static str,
    /// (table and condition on its row, why that row needs the thing); `d` is the deleted thing.
    needed_by: &'static [(&'static str, &'static str)],
}

// Logged models come first: a run is needed by those that it made.
const LOGGED_MODEL: Kind = Kind {
    what: "logged model",
    table: "registry_logged_models",
    rows: &OF_LOGGED_MODEL,
    event: EventKind::LoggedModelPurged,
    subject: "logged_model",
    needed_by: &[("registry_versions n WHERE n.logged_model = d.id", "a version was registered from it")],
};
const RUN: Kind = Kind {
    what: "run",
    table: "registry_runs",
    rows: &OF_RUN,
    event: EventKind::RunPurged,
    subject: "run",
    needed_by: &[
        ("registry_versions n WHERE n.run = d.id", "a version came from it"),
        ("registry_logged_models n WHERE n.source_run = d.id", "a logged model came from it"),
    ],
};

impl Registry {
    /// Deletes for good what was deleted before `before`, or says what that would be.
    ///
    /// In several transactions: what is interrupted goes on the next time.
    pub async fn purge_deleted(&self, before: Timestamp, dry_run: bool, actor: &str) -> Result<Purged, RegistryError> {
        let mut purged = Purged::default();
        purged.logged_models = self.purge(&LOGGED_MODEL, before, dry_run, actor, &mut purged.kept).await?;
        purged.runs = self.purge(&RUN, before, dry_run, actor, &mut purged.kept).await?;
        purged.experiments = self.purge_experiments(before, dry_run, actor, &purged.runs, &mut purged.kept).await?;
        Ok(purged)
    }

    /// Forgets uploads that nobody completed in time.
    pub async fn clean_uploads(&self) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        artifact::clean(tx.conn(), self.now()).await?;
        Ok(tx.commit().await?)
    }

    async fn purge(
        &self,
        kind: &Kind,
        before: Timestamp,
        dry_run: bool,
        actor: &str,
        kept: &mut Vec<Kept>,
    ) -> Result<Vec<String>, RegistryError> {
        let mut gone = Vec::new();
        let mut after = String::new();
        loop {
            let mut tx = self.begin().await?;
            let page = deleted(tx.conn(), kind, before, &after).await?;
            let Some((last, ..)) = page.last() else { return Ok(gone) };
            after.clone_from(last);
            for (id, artifact_uri) in page {
                match needed(tx.conn(), kind, &id).await? {
                    Some(why) => kept.push(Kept { what: kind.what.into(), id, why: why.into() }),
                    None => {
                        if !dry_run {
                            self.erase(&mut tx, kind, &id, &artifact_uri, actor).await?;
                        }
                        gone.push(id);
                    }
                }
            }
            if !dry_run {
                tx.commit().await?;
            }
        }
    }

    async fn erase(
        &self,
        tx: &mut Tx,
        kind: &Kind,
        id: &str,
        artifact_uri: &str,
        actor: &str,
    ) -> Result<(), RegistryError> {
        for (table, column) in kind.rows.iter().chain(&[(kind.table, "id")]) {
            let mut delete = Statement::new("DELETE FROM ");
            delete.push(table).push(" WHERE ").push(column).push(" = ").bind(id);
            delete.query().execute(tx.conn()).await?;
        }
        if let Some(root) = source::kept(artifact_uri) {
            artifact::forget_below(tx.conn(), root).await?;
        }
        self.tell(tx, kind.event, format!("{}/{id}", kind.subject), actor, json!({"id": id})).await
    }

    async fn purge_experiments(
        &self,
        before: Timestamp,
        dry_run: bool,
        actor: &str,
        runs_gone: &[String],
        kept: &mut Vec<Kept>,
    ) -> Result<Vec<i64>, RegistryError> {
        let mut tx = self.begin().await?;
        let deleted: Vec<(i64,)> = sqlx::query_as(
            "SELECT id FROM registry_experiments WHERE deleted_at IS NOT NULL AND deleted_at < $1 ORDER BY id",
        )
        .bind(before.micros())
        .fetch_all(tx.conn())
        .await?;
        let newest: i64 = sqlx::query_scalar("SELECT MAX(id) FROM registry_experiments").fetch_one(tx.conn()).await?;
        let mut gone = Vec::new();
        for (id,) in deleted {
            let inside: Vec<(String,)> = sqlx::query_as(
                "SELECT id FROM registry_runs WHERE experiment = $1
                 UNION ALL SELECT id FROM registry_logged_models WHERE experiment = $1",
            )
            .bind(id)
            .fetch_all(tx.conn())
            .await?;
            // A dry run has purged no run yet.
            let inside = inside.iter().any(|(run,)| runs_gone.binary_search(run).is_err());
            let why = match id {
                experiment::DEFAULT_ID => Some("it is the one for runs that name none"),
                _ if inside => Some("there is something in it still"),
                // Numbers are counted on from the newest one.
                _ if id == newest => Some("it is the newest, whose number must not be given again"),
                _ => None,
            };
            if let Some(why) = why {
                kept.push(Kept { what: "experiment".into(), id: id.to_string(), why: why.into() });
                continue;
            }
            if !dry_run {
                for (table, column) in [("registry_experiment_tags", "experiment"), ("registry_experiments", "id")] {
                    let mut delete = Statement::new("DELETE FROM ");
                    delete.push(table).push(" WHERE ").push(column).push(" = ").bind(id);
                    delete.query().execute(tx.conn()).await?;
                }
                let subject = format!("experiment/{id}");
                self.tell(&mut tx, EventKind::ExperimentPurged, subject, actor, json!({"id": id})).await?;
            }
            gone.push(id);
        }
        if !dry_run {
            tx.commit().await?;
        }
        Ok(gone)
    }

    async fn tell(
        &self,
        tx: &mut Tx,
        kind: EventKind,
        subject: String,
        actor: &str,
        body: Value,
    ) -> Result<(), RegistryError> {
        let event = NewEvent { at: self.now(), kind, subject, actor: actor.to_owned(), cause: None, body };
        tx.append(event).await?;
        Ok(())
    }
}

/// Ids and artifact locations of what was deleted before an instant, by id, beyond `after`.
async fn deleted(
    conn: &mut Conn,
    kind: &Kind,
    before: Timestamp,
    after: &str,
) -> Result<Vec<(String, String)>, RegistryError> {
    let mut statement = Statement::new("SELECT id, artifact_uri FROM ");
    statement.push(kind.table).push(" WHERE deleted_at IS NOT NULL AND deleted_at < ").bind(before.micros());
    statement.push(" AND id > ").bind(after).push(" ORDER BY id LIMIT ").bind(AT_ONCE as i64);
    Ok(statement.query_as().fetch_all(conn).await?)
}

async fn needed(conn: &mut Conn, kind: &Kind, id: &str) -> Result<Option<&'static str>, RegistryError> {
    for (by, why) in kind.needed_by {
        let mut statement = Statement::new("SELECT d.id FROM ");
        statement.push(kind.table).push(" d WHERE d.id = ").bind(id);
        statement.push(" AND EXISTS (SELECT 1 FROM ").push(by).push(")");
        let found: Option<(String,)> = statement.query_as().fetch_optional(&mut *conn).await?;
        if found.is_some() {
            return Ok(Some(why));
        }
    }
    Ok(None)
}
