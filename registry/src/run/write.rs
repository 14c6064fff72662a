//! Parameters and tags of runs.

use std::collections::BTreeMap;

use domain::{EventKind, RunId};
use serde_json::{Value, json};
use storage::{Tx, sql::Conn};

use super::{NAME_TAG, USER_TAG, change, note, require_active};
use crate::{
    Registry, RegistryError, check,
    query::{KEYS_AT_ONCE, ROWS_AT_ONCE, Statement},
};

/// Values of parameters are cut to this many characters.
const PARAM_CHARS_MAX: usize = 6_000;
/// Values of tags are cut to this many characters.
const TAG_CHARS_MAX: usize = 8_000;
/// The tag in which old clients keep what they logged as models.
const MODELS_TAG: &str = "mlflow.log-model.history";
/// Longest list of models of old clients, in bytes.
const MODELS_BYTES_MAX: usize = 1 << 20;

impl Registry {
    /// Adds parameters; values beyond 6,000 characters are cut. Saying the same again is fine; saying something else
    /// is refused, and then nothing is added.
    ///
    /// # Errors
    /// An unknown or deleted run, a bad key, or a parameter that has another value.
    pub async fn log_params(&self, run: &RunId, mut params: BTreeMap<String, String>) -> Result<(), RegistryError> {
        settle_params(&mut params)?;
        let mut tx = self.begin().await?;
        require_active(tx.conn(), run).await?;
        add_params(tx.conn(), run, &params).await?;
        Ok(tx.commit().await?)
    }

    /// Sets tags; those that exist are replaced, values beyond 8,000 characters are cut. The tag `mlflow.runName`
    /// renames the run; `mlflow.user` also says who runs it, where that was not known.
    ///
    /// # Errors
    /// An unknown or deleted run, or a bad key or name.
    pub async fn set_tags(&self, run: &RunId, mut tags: BTreeMap<String, String>) -> Result<(), RegistryError> {
        settle_tags(&mut tags)?;
        let mut tx = self.begin().await?;
        require_active(tx.conn(), run).await?;
        self.put_tags(&mut tx, run, &tags).await?;
        Ok(tx.commit().await?)
    }

    /// Sets tags and what follows from them.
    pub(crate) async fn put_tags(
        &self,
        tx: &mut Tx,
        run: &RunId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), RegistryError> {
        if let Some(name) = tags.get(NAME_TAG)
            && change::rename(tx.conn(), run, name).await?
        {
            note(tx, self.now(), EventKind::RunChanged, run, None, json!({"name": name})).await?;
        }
        if let Some(user) = tags.get(USER_TAG) {
            sqlx::query("UPDATE registry_runs SET user_id = $2 WHERE id = $1 AND user_id = ''")
                .bind(run.to_string())
                .bind(check::cut(user, check::KEY_CHARS_MAX))
                .execute(tx.conn())
                .await?;
        }
        add_tags(tx.conn(), run, tags).await
    }

    /// Removes a tag.
    ///
    /// # Errors
    /// An unknown or deleted run, a tag it does not have, or the one that says its name.
    pub async fn delete_tag(&self, run: &RunId, key: &str) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        require_active(tx.conn(), run).await?;
        if key == NAME_TAG {
            let hint = "set it to another name instead";
            return Err(RegistryError::invalid(
                format!("tag `{key}`"),
                "says the run's name, which it always has",
                hint,
            ));
        }
        let gone = sqlx::query("DELETE FROM registry_tags WHERE run = $1 AND key = $2")
            .bind(run.to_string())
            .bind(key)
            .execute(tx.conn())
            .await?;
        if gone.rows_affected() == 0 {
            return Err(RegistryError::NoSuch { what: "tag", name: key.to_owned() });
        }
        Ok(tx.commit().await?)
    }

    /// Adds to the list of models that old clients keep in the tag `mlflow.log-model.history`. One that is in it
    /// already is not added again.
    ///
    /// # Errors
    /// An unknown or deleted run, or a text that does not describe a model.
    pub async fn log_model_history(&self, run: &RunId, model: &str) -> Result<(), RegistryError> {
        let model = described_model(model)?;
        let mut tx = self.begin().await?;
        require_active(tx.conn(), run).await?;
        let known: Option<String> = sqlx::query_scalar("SELECT value FROM registry_tags WHERE run = $1 AND key = $2")
            .bind(run.to_string())
            .bind(MODELS_TAG)
            .fetch_optional(tx.conn())
            .await?;
        // A tag that somebody set to something else is not ours to keep.
        let mut models: Vec<Value> = known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if models.contains(&model) {
            return Ok(());
        }
        models.push(model);
        let text = Value::from(models).to_string();
        if text.len() > MODELS_BYTES_MAX {
            let problem = format!("would have {} bytes where at most {MODELS_BYTES_MAX} are taken", text.len());
            return Err(RegistryError::invalid(format!("tag `{MODELS_TAG}`"), problem, "start another run"));
        }
        add_tags(tx.conn(), run, &[(MODELS_TAG.to_owned(), text)].into()).await?;
        Ok(tx.commit().await?)
    }
}

fn described_model(text: &str) -> Result<Value, RegistryError> {
    let refuse = |problem: String| {
        let hint = "send the text of the model's MLmodel file as JSON";
        Err(RegistryError::invalid("`model_json`", problem, hint))
    };
    let model: Value = match serde_json::from_str(text) {
        Ok(model @ Value::Object(_)) => model,
        Ok(_) => return refuse("is not a JSON object".into()),
        Err(error) => return refuse(format!("is not JSON: {error}")),
    };
    let needed = ["artifact_path", "flavors", "utc_time_created", "run_id"];
    match needed.into_iter().find(|field| model.get(field).is_none()) {
        Some(field) => refuse(format!("has no field `{field}`")),
        None => Ok(model),
    }
}

/// The value of a parameter as it is stored.
pub(crate) fn cut_param(value: &str) -> &str {
    check::cut(value, PARAM_CHARS_MAX)
}

/// The value of a tag as it is stored.
pub(crate) fn cut_tag(value: &str) -> &str {
    check::cut(value, TAG_CHARS_MAX)
}

/// Checks keys and cuts values.
pub(super) fn settle_params(params: &mut BTreeMap<String, String>) -> Result<(), RegistryError> {
    settle("parameter", params, cut_param)
}

/// Checks keys and cuts values.
pub(super) fn settle_tags(tags: &mut BTreeMap<String, String>) -> Result<(), RegistryError> {
    settle("tag", tags, cut_tag)
}

fn settle(what: &str, pairs: &mut BTreeMap<String, String>, cut: impl Fn(&str) -> &str) -> Result<(), RegistryError> {
    for (key, value) in pairs {
        check::key(what, key)?;
        value.truncate(cut(value).len());
    }
    Ok(())
}

/// Fails if the run has one of these parameters with another value.
pub(crate) async fn changed_param(
    conn: &mut Conn,
    run: &RunId,
    params: &BTreeMap<String, String>,
) -> Result<(), RegistryError> {
    let keys: Vec<&str> = params.keys().map(String::as_str).collect();
    for keys in keys.chunks(KEYS_AT_ONCE) {
        let mut statement = Statement::new("SELECT key, value FROM registry_params WHERE run = ");
        statement.bind(run.to_string()).push(" AND key IN (").bind_all(keys.iter().copied()).push(")");
        same(run, params, statement.query_as().fetch_all(&mut *conn).await?)?;
    }
    Ok(())
}

pub(crate) async fn add_params(
    conn: &mut Conn,
    run: &RunId,
    params: &BTreeMap<String, String>,
) -> Result<(), RegistryError> {
    let pairs: Vec<_> = params.iter().collect();
    for pairs in pairs.chunks(ROWS_AT_ONCE) {
        let mut statement = Statement::new("INSERT INTO registry_params (run, key, value) VALUES ");
        rows(&mut statement, run, pairs);
        // The update changes nothing, but makes the row come back.
        statement.push(" ON CONFLICT (run, key) DO UPDATE SET key = excluded.key RETURNING key, value");
        same(run, params, statement.query_as().fetch_all(&mut *conn).await?)?;
    }
    Ok(())
}

fn same(run: &RunId, params: &BTreeMap<String, String>, stored: Vec<(String, String)>) -> Result<(), RegistryError> {
    match stored.into_iter().find(|(key, found)| params.get(key).is_some_and(|value| value != found)) {
        None => Ok(()),
        Some((key, found)) => Err(RegistryError::ParamChanged { run: *run, key, found }),
    }
}

pub(crate) async fn add_tags(
    conn: &mut Conn,
    run: &RunId,
    tags: &BTreeMap<String, String>,
) -> Result<(), RegistryError> {
    let pairs: Vec<_> = tags.iter().collect();
    for pairs in pairs.chunks(ROWS_AT_ONCE) {
        let mut statement = Statement::new("INSERT INTO registry_tags (run, key, value) VALUES ");
        rows(&mut statement, run, pairs);
        statement.push(" ON CONFLICT (run, key) DO UPDATE SET value = excluded.value");
        statement.query().execute(&mut *conn).await?;
    }
    Ok(())
}

fn rows(statement: &mut Statement, run: &RunId, pairs: &[(&String, &String)]) {
    let id = run.to_string();
    for (position, (key, value)) in pairs.iter().enumerate() {
        statement.push(if position == 0 { "(" } else { ", (" });
        statement.bind_all([id.as_str(), key.as_str(), value.as_str()]).push(")");
    }
}
