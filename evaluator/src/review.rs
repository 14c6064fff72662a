//! The review queue: predictions so near the threshold that a person should say.

use std::{collections::HashMap, sync::Arc};

use domain::{
    EndpointName, EventKind, NewEvent, PredictionId, TaskId, Timestamp,
    prediction::{Label, LabelOrigin, LabelTarget},
    state::{TaskEvent, TaskState},
};
use serde::{Deserialize, Serialize};
use storage::{Meta, Tx};

use crate::error::EvaluatorError;

/// A question for a person, and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub endpoint: EndpointName,
    pub prediction: PredictionId,
    /// Event time of the prediction.
    pub event_time: Timestamp,
    pub label_key: Option<Arc<str>>,
    /// Version that answered.
    pub version: u32,
    pub score: f32,
    /// What the model saw.
    pub inputs: serde_json::Map<String, serde_json::Value>,
    /// Why a person is asked.
    pub why: String,
    pub state: TaskState,
    #[serde(default)]
    pub value: Option<bool>,
    #[serde(default)]
    pub reviewer: Option<Arc<str>>,
    /// Event time reached when the answer came.
    #[serde(default)]
    pub answered_at: Option<Timestamp>,
}

/// An answered task, and the label to store and to send on.
#[derive(Debug, Clone)]
pub struct Answer {
    pub task: Task,
    pub label: Label,
}

impl Task {
    /// Whether a score is near enough to ask, and if so why in words.
    pub(crate) fn why(score: f32, threshold: f64, band: f64) -> Option<String> {
        let near = (f64::from(score) - threshold).abs() <= band;
        near.then(|| format!("score {score:.3} is within {band} of the threshold {threshold}"))
    }

    /// `None` while the task is not answered.
    fn answer(&self) -> Option<Answer> {
        let label = Label {
            target: LabelTarget::Prediction(self.prediction),
            value: self.value?,
            known_at: self.answered_at?,
            origin: LabelOrigin::Reviewer,
            reviewer: self.reviewer.clone(),
        };
        Some(Answer { task: self.clone(), label })
    }
}

fn encode(task: &Task) -> Result<String, EvaluatorError> {
    serde_json::to_string(task).map_err(|e| EvaluatorError::corrupt("a review task", e))
}

fn decode(body: &str) -> Result<Task, EvaluatorError> {
    serde_json::from_str(body).map_err(|e| EvaluatorError::corrupt("a review task", e))
}

/// Stores new tasks; one that exists for its prediction stays as it is.
pub(crate) async fn create(meta: &Meta, tasks: &[Task]) -> Result<(), EvaluatorError> {
    let failed = || EvaluatorError::storage("store review tasks");
    let mut tx = meta.begin().await.map_err(failed())?;
    for task in tasks {
        sqlx::query(
            "INSERT INTO evaluator_tasks (id, endpoint, prediction, state, body) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (prediction) DO NOTHING",
        )
        .bind(task.id.to_string())
        .bind(task.endpoint.as_str())
        .bind(task.prediction.to_string())
        .bind(task.state.as_str())
        .bind(encode(task)?)
        .execute(tx.conn())
        .await
        .map_err(|e| EvaluatorError::storage("store review tasks")(e))?;
    }
    tx.commit().await.map_err(EvaluatorError::storage("store review tasks"))
}

/// Tasks of an endpoint, oldest first; `state` absent: all.
pub(crate) async fn list(
    meta: &Meta,
    endpoint: &EndpointName,
    state: Option<TaskState>,
    limit: usize,
) -> Result<Vec<Task>, EvaluatorError> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT body FROM evaluator_tasks WHERE endpoint = $1 AND ($2 IS NULL OR state = $2) ORDER BY id LIMIT $3",
    )
    .bind(endpoint.as_str())
    .bind(state.map(TaskState::as_str))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(meta.reader())
    .await
    .map_err(EvaluatorError::storage("list review tasks"))?;
    rows.iter().map(|(body,)| decode(body)).collect()
}

/// The open tasks of an endpoint by prediction.
pub(crate) async fn open(
    meta: &Meta,
    endpoint: &EndpointName,
) -> Result<HashMap<PredictionId, TaskId>, EvaluatorError> {
    let tasks = list(meta, endpoint, Some(TaskState::Queued), usize::MAX).await?;
    Ok(tasks.into_iter().map(|task| (task.prediction, task.id)).collect())
}

async fn fetch(tx: &mut Tx, id: TaskId) -> Result<Task, EvaluatorError> {
    let body: Option<(String,)> = sqlx::query_as("SELECT body FROM evaluator_tasks WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await
        .map_err(EvaluatorError::storage("read a review task"))?;
    decode(&body.ok_or(EvaluatorError::UnknownTask(id))?.0)
}

async fn store(tx: &mut Tx, task: &Task) -> Result<(), EvaluatorError> {
    sqlx::query("UPDATE evaluator_tasks SET state = $2, body = $3 WHERE id = $1")
        .bind(task.id.to_string())
        .bind(task.state.as_str())
        .bind(encode(task)?)
        .execute(tx.conn())
        .await
        .map_err(EvaluatorError::storage("store a review task"))?;
    Ok(())
}

/// The task, whatever its state.
pub(crate) async fn get(meta: &Meta, id: TaskId) -> Result<Task, EvaluatorError> {
    let body: Option<(String,)> = sqlx::query_as("SELECT body FROM evaluator_tasks WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(meta.reader())
        .await
        .map_err(EvaluatorError::storage("read a review task"))?;
    decode(&body.ok_or(EvaluatorError::UnknownTask(id))?.0)
}

/// Answers a task: durable, journaled, once. The same answer again gives the first one back.
pub(crate) async fn answer(
    meta: &Meta,
    id: TaskId,
    value: bool,
    reviewer: &str,
    now: Timestamp,
    event_now: Timestamp,
) -> Result<Answer, EvaluatorError> {
    let doing = "answer a review task";
    let mut tx = meta.begin().await.map_err(EvaluatorError::storage(doing))?;
    let mut task = fetch(&mut tx, id).await?;
    let Ok(state) = task.state.next(TaskEvent::Answer) else {
        return match task.answer() {
            Some(known) if known.label.value == value => Ok(known),
            Some(known) => Err(EvaluatorError::AlreadyAnswered { task: id, value: known.label.value }),
            None => Err(EvaluatorError::Withdrawn(id)),
        };
    };
    task.state = state;
    task.value = Some(value);
    task.reviewer = Some(reviewer.into());
    task.answered_at = Some(event_now.max(task.event_time));
    store(&mut tx, &task).await?;
    let event = NewEvent {
        at: now,
        kind: EventKind::ReviewAnswered,
        subject: format!("task/{id}"),
        actor: reviewer.to_owned(),
        cause: None,
        body: serde_json::json!({
            "endpoint": task.endpoint, "task": id, "prediction": task.prediction,
            "label_key": task.label_key, "score": task.score, "value": value, "reviewer": reviewer,
        }),
    };
    tx.append(event).await.map_err(EvaluatorError::storage(doing))?;
    tx.commit().await.map_err(EvaluatorError::storage(doing))?;
    task.answer().ok_or_else(|| EvaluatorError::corrupt("a review task", "answered without an answer"))
}

/// Takes tasks off the queue whose label arrived otherwise; answered ones stay.
pub(crate) async fn withdraw(meta: &Meta, ids: &[TaskId]) -> Result<(), EvaluatorError> {
    let doing = "withdraw review tasks";
    let mut tx = meta.begin().await.map_err(EvaluatorError::storage(doing))?;
    for id in ids {
        let mut task = fetch(&mut tx, *id).await?;
        if let Ok(state) = task.state.next(TaskEvent::Withdraw) {
            task.state = state;
            store(&mut tx, &task).await?;
        }
    }
    tx.commit().await.map_err(EvaluatorError::storage(doing))
}
