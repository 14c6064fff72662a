//! Experiments, runs and logged models of another store.

use domain::{EventKind, NewEvent, RunId, Timestamp};
use serde_json::json;
use storage::Tx;

use super::{ACTOR, Brought, BroughtExperiment, BroughtLoggedModel, BroughtRun, mark, marked, refused};
use crate::{
    DatasetInput, LoggedModelStatus, MetricEntry, MetricPoint, ModelOutput, Registry, RegistryError, check,
    experiment::{self, ARTIFACTS},
    input, logged_model,
    metric::{columns, latest},
    query::Statement,
    row, run,
};

impl Registry {
    pub(super) async fn bring_experiment(&self, new: BroughtExperiment) -> Result<Brought, RegistryError> {
        check::experiment(&new.name)?;
        experiment::check_tags(&new.tags)?;
        let id = new.id.to_string();
        let mut tx = self.begin().await?;
        let known: Vec<(i64, String)> =
            sqlx::query_as("SELECT id, name FROM registry_experiments WHERE id = $1 OR name = $2")
                .bind(new.id)
                .bind(&new.name)
                .fetch_all(tx.conn())
                .await?;
        let made = match known.first() {
            None => true,
            Some((known, name)) if (*known, name) != (new.id, &new.name) => {
                return refused(format!("experiment {known} is called {name:?} here"));
            }
            // Either it was brought before, or both have one, as the one for runs that name none.
            Some(_) if marked(tx.conn(), "experiment", &id).await? || known.len() > 1 => return Ok(Brought::Same),
            Some(_) => false,
        };
        if made {
            sqlx::query(
                "INSERT INTO registry_experiments (id, name, artifact_location, created_at, updated_at, deleted_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(new.id)
            .bind(&new.name)
            .bind(format!("{ARTIFACTS}{id}"))
            .bind(new.created_at.micros())
            .bind(new.updated_at.micros())
            .bind(new.deleted_at.map(Timestamp::micros))
            .execute(tx.conn())
            .await?;
        }
        for (key, value) in &new.tags {
            sqlx::query(
                "INSERT INTO registry_experiment_tags (experiment, key, value) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING",
            )
            .bind(new.id)
            .bind(key)
            .bind(value)
            .execute(tx.conn())
            .await?;
        }
        mark(tx.conn(), "experiment", &id).await?;
        let kind = if made { EventKind::ExperimentCreated } else { EventKind::ExperimentChanged };
        self.tell_brought(&mut tx, kind, format!("experiment/{id}"), json!({"name": new.name, "imported": true}))
            .await?;
        tx.commit().await?;
        Ok(if made { Brought::Made } else { Brought::Same })
    }

    pub(super) async fn bring_run(&self, new: BroughtRun) -> Result<Brought, RegistryError> {
        let id = new.id.to_string();
        for key in new.params.keys().chain(new.tags.keys()) {
            check::key("parameter or tag", key)?;
        }
        check::within("the run's name", &new.name, check::KEY_CHARS_MAX)?;
        check::within("the user id", &new.user_id, check::KEY_CHARS_MAX)?;
        let mut tx = self.begin().await?;
        let known: Option<(i64, i64)> =
            sqlx::query_as("SELECT experiment, started_at FROM registry_runs WHERE id = $1")
                .bind(&id)
                .fetch_optional(tx.conn())
                .await?;
        match known {
            None => {}
            Some(known) if known != (new.experiment, new.started_at.micros()) => {
                return refused(format!("another run `{id}` is here, in experiment {}", known.0));
            }
            Some(_) if marked(tx.conn(), "run", &id).await? => return Ok(Brought::Done),
            Some(_) => return Ok(Brought::Same),
        }
        let location = experiment::require(tx.conn(), new.experiment).await?.location;
        sqlx::query(
            "INSERT INTO registry_runs
                 (id, experiment, name, user_id, state, artifact_uri, code_version, environment, started_at, ended_at)
             VALUES ($1, $2, $3, $4, $5, $6, '', '{}', $7, $8)",
        )
        .bind(&id)
        .bind(new.experiment)
        .bind(&new.name)
        .bind(&new.user_id)
        .bind(new.state.as_str())
        .bind(run::artifacts_of(&location, &new.id))
        .bind(new.started_at.micros())
        .bind(new.ended_at.map(Timestamp::micros))
        .execute(tx.conn())
        .await?;
        run::add_params(tx.conn(), &new.id, &new.params).await?;
        let mut tags = new.tags;
        tags.insert(run::NAME_TAG.to_owned(), new.name.clone());
        run::add_tags(tx.conn(), &new.id, &tags).await?;
        let body = json!({"experiment_id": new.experiment, "name": new.name, "imported": true});
        self.tell_brought(&mut tx, EventKind::RunStarted, format!("run/{id}"), body).await?;
        tx.commit().await?;
        Ok(Brought::Made)
    }

    pub(super) async fn bring_points(&self, id: &RunId, points: Vec<MetricPoint>) -> Result<Brought, RegistryError> {
        for point in &points {
            check::key("metric", &point.key)?;
        }
        {
            let mut conn = self.meta().reader().acquire().await?;
            run::require(&mut conn, id).await?;
            if marked(&mut conn, "run", &id.to_string()).await? {
                return Ok(Brought::Done);
            }
        }
        let entries: Vec<MetricEntry> = points.into_iter().map(MetricEntry::from).collect();
        // History first, as everywhere. Points that stand twice are one to whoever reads them.
        self.points().append(columns::batch(self.points().schema(), id, &entries)?).await?;
        let mut tx = self.begin().await?;
        run::require(tx.conn(), id).await?;
        latest::of_run(tx.conn(), id, &entries).await?;
        tx.commit().await?;
        Ok(Brought::Made)
    }

    pub(super) async fn bring_inputs(
        &self,
        id: &RunId,
        datasets: &[DatasetInput],
        read: &[String],
        made: &[ModelOutput],
    ) -> Result<Brought, RegistryError> {
        let mut tx = self.begin().await?;
        run::require(tx.conn(), id).await?;
        input::put(tx.conn(), id, datasets).await?;
        for model in read {
            input::link(tx.conn(), id, model, input::READ, 0).await?;
        }
        for output in made {
            input::link(tx.conn(), id, &output.model, input::MADE, output.step).await?;
        }
        tx.commit().await?;
        Ok(Brought::Made)
    }

    pub(super) async fn bring_logged_model(&self, new: BroughtLoggedModel) -> Result<Brought, RegistryError> {
        check::text("logged model", &new.id, 1)?;
        check::pairs("tag", &new.tags)?;
        let mut tx = self.begin().await?;
        let known: Option<(i64, i64)> =
            sqlx::query_as("SELECT experiment, created_at FROM registry_logged_models WHERE id = $1")
                .bind(&new.id)
                .fetch_optional(tx.conn())
                .await?;
        match known {
            None => {}
            Some(known) if known != (new.experiment, new.created_at.micros()) => {
                return refused(format!("another logged model `{}` is here, in experiment {}", new.id, known.0));
            }
            Some(_) if marked(tx.conn(), "logged_model", &new.id).await? => return Ok(Brought::Done),
            Some(_) => return Ok(Brought::Same),
        }
        let status = LoggedModelStatus::parse(&new.status);
        let status = status.ok_or_else(|| {
            RegistryError::invalid("the status", "is unknown", "send PENDING, READY or UPLOAD_FAILED")
        })?;
        let location = experiment::require(tx.conn(), new.experiment).await?.location;
        sqlx::query(
            "INSERT INTO registry_logged_models (id, experiment, name, model_type, status, status_message, source_run,
                 artifact_uri, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, (SELECT id FROM registry_runs WHERE id = $7), $8, $9, $10)",
        )
        .bind(&new.id)
        .bind(new.experiment)
        .bind(&new.name)
        .bind(&new.model_type)
        .bind(status.as_str())
        .bind(&new.status_message)
        .bind(new.source_run.map(|run| run.to_string()))
        .bind(format!("{location}/models/{}/artifacts", new.id))
        .bind(new.created_at.micros())
        .bind(new.updated_at.micros())
        .execute(tx.conn())
        .await?;
        logged_model::add_params(tx.conn(), &new.id, &new.params).await?;
        logged_model::add_tags(tx.conn(), &new.id, &new.tags).await?;
        for measure in &new.metrics {
            run::require(tx.conn(), &measure.run).await?;
            sqlx::query(
                "INSERT INTO registry_logged_model_metrics
                     (model, key, dataset_name, dataset_digest, run, value, step, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            )
            .bind(&new.id)
            .bind(&measure.key)
            .bind(&measure.dataset_name)
            .bind(&measure.dataset_digest)
            .bind(measure.run.to_string())
            .bind(row::float(measure.value))
            .bind(measure.step)
            .bind(measure.at.micros())
            .execute(tx.conn())
            .await?;
        }
        let body = json!({"experiment": new.experiment, "name": new.name, "run": new.source_run, "imported": true});
        self.tell_brought(&mut tx, EventKind::LoggedModelCreated, format!("logged_model/{}", new.id), body).await?;
        tx.commit().await?;
        Ok(Brought::Made)
    }

    /// All of a run or logged model is here; from now on it is as deleted as it was.
    pub(super) async fn end(
        &self,
        kind: &'static str,
        table: &'static str,
        id: &str,
        deleted_at: Option<Timestamp>,
    ) -> Result<Brought, RegistryError> {
        let mut tx = self.begin().await?;
        if marked(tx.conn(), kind, id).await? {
            return Ok(Brought::Done);
        }
        let mut known = Statement::new("SELECT id FROM ");
        known.push(table).push(" WHERE id = ").bind(id);
        let known: Option<(String,)> = known.query_as().fetch_optional(tx.conn()).await?;
        if known.is_none() {
            return Err(RegistryError::NoSuch { what: kind, name: id.to_owned() });
        }
        if let Some(at) = deleted_at {
            let mut delete = Statement::new("UPDATE ");
            delete.push(table).push(" SET deleted_at = ").bind(at.micros()).push(" WHERE id = ").bind(id);
            delete.query().execute(tx.conn()).await?;
        }
        mark(tx.conn(), kind, id).await?;
        let event = if kind == "run" { EventKind::RunChanged } else { EventKind::LoggedModelChanged };
        self.tell_brought(
            &mut tx,
            event,
            format!("{kind}/{id}"),
            json!({"imported": true, "deleted": deleted_at.is_some()}),
        )
        .await?;
        tx.commit().await?;
        Ok(Brought::Made)
    }

    pub(super) async fn tell_brought(
        &self,
        tx: &mut Tx,
        kind: EventKind,
        subject: String,
        body: serde_json::Value,
    ) -> Result<(), RegistryError> {
        let event = NewEvent { at: self.now(), kind, subject, actor: ACTOR.into(), cause: None, body };
        tx.append(event).await?;
        Ok(())
    }
}
