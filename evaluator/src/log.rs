//! The prediction log on disk: what was asked, what was answered, what was true.
//!
//! Three append-only tables per endpoint. `predictions.<endpoint>` holds a row per prediction, its inputs as a
//! JSON array whose column names are kept once (`evaluator_inputs`); `scores.<endpoint>` a row per prediction
//! and version that scored it; `labels.<endpoint>` a row per label that counted.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Column, EndpointName, Field, Frame, PredictionId, Timestamp, ValueType,
    prediction::{LabelOrigin, PredictionBatch, TargetRole},
};
use storage::{Meta, Table, Tables, TimeRange, from_batches, schema_of, to_batch};

use crate::{
    error::EvaluatorError,
    rows::LogTable,
    state::{LabelCell, NewRow, Score},
};

/// The tables of one endpoint.
#[derive(Clone)]
pub(crate) struct Log {
    meta: Meta,
    predictions: Table,
    scores: Table,
    labels: Table,
    /// Lists of input columns and their ids, shared by all endpoints.
    columns: Arc<Mutex<HashMap<Vec<Arc<str>>, i64>>>,
}

/// A label that counts, on its way to the log.
#[derive(Debug, Clone)]
pub(crate) struct LabelRow {
    pub id: PredictionId,
    pub cell: LabelCell,
    pub reviewer: Option<Arc<str>>,
}

/// A prediction as read back.
#[derive(Debug)]
pub(crate) struct Logged {
    pub row: NewRow,
    pub served_at: Timestamp,
    columns: Arc<[String]>,
    /// JSON array, parsed when asked for.
    inputs: Arc<str>,
}

impl Logged {
    /// The inputs' values, in the order of `names`.
    pub(crate) fn values(&self) -> Result<Vec<serde_json::Value>, EvaluatorError> {
        serde_json::from_str(&self.inputs).map_err(|e| EvaluatorError::corrupt("logged inputs", e))
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.columns
    }

    /// The inputs by name.
    pub(crate) fn inputs(&self) -> Result<serde_json::Map<String, serde_json::Value>, EvaluatorError> {
        Ok(self.columns.iter().cloned().zip(self.values()?).collect())
    }
}

fn schema(fields: &[(&str, ValueType)]) -> Vec<Field> {
    fields.iter().map(|(name, kind)| Field::new(*name, *kind)).collect()
}

pub(crate) fn prediction_fields() -> Vec<Field> {
    use ValueType::{Int, Text, Timestamp};
    schema(&[
        ("id", Text),
        ("event_time", Timestamp),
        ("served_at", Timestamp),
        ("label_key", Text),
        ("columns", Int),
        ("inputs", Text),
    ])
}

pub(crate) fn score_fields() -> Vec<Field> {
    use ValueType::{Float, Int, Text, Timestamp};
    schema(&[("id", Text), ("event_time", Timestamp), ("version", Int), ("role", Text), ("score", Float)])
}

pub(crate) fn label_fields() -> Vec<Field> {
    use ValueType::{Bool, Text, Timestamp};
    schema(&[("id", Text), ("known_at", Timestamp), ("value", Bool), ("origin", Text), ("reviewer", Text)])
}

impl Log {
    pub(crate) async fn open(meta: &Meta, tables: &Tables, endpoint: &EndpointName) -> Result<Self, EvaluatorError> {
        Ok(Self {
            meta: meta.clone(),
            predictions: open_table(tables, format!("predictions.{endpoint}"), &prediction_fields()).await?,
            scores: open_table(tables, format!("scores.{endpoint}"), &score_fields()).await?,
            labels: open_table(tables, format!("labels.{endpoint}"), &label_fields()).await?,
            columns: Arc::default(),
        })
    }

    /// Logs batches of this endpoint. Scores go first: a crash between the two leaves scores without a
    /// prediction, which are skipped when read, never a prediction without its scores.
    pub(crate) async fn append(&self, batches: &[PredictionBatch]) -> Result<(), EvaluatorError> {
        let (mut rows, mut scores) = (Cells::new(prediction_fields()), Cells::new(score_fields()));
        for batch in batches {
            let columns = self.columns_id(batch.inputs.names()).await?;
            let ids: Vec<Arc<str>> = batch.ids.iter().map(|id| id.to_string().into()).collect();
            for (i, id) in ids.iter().enumerate() {
                rows.text(0, Some(id.clone()));
                rows.instant(1, batch.event_times[i]);
                rows.instant(2, batch.served_at);
                rows.text(3, batch.label_keys[i].clone());
                rows.int(4, columns);
                rows.text(5, Some(inputs_json(&batch.inputs, i).into()));
            }
            for scored in &batch.scored {
                for (i, score) in &scored.scores {
                    scores.text(0, Some(ids[*i].clone()));
                    scores.instant(1, batch.event_times[*i]);
                    scores.int(2, i64::from(scored.version));
                    scores.text(3, Some(role_text(scored.role).into()));
                    scores.float(4, f64::from(*score));
                }
            }
        }
        let doing = "log predictions";
        for (table, cells) in [(&self.scores, scores), (&self.predictions, rows)] {
            let batch = to_batch(&cells.frame(doing)?).map_err(EvaluatorError::storage(doing))?;
            table.append_soon(batch).await.map_err(EvaluatorError::storage(doing))?;
        }
        Ok(())
    }

    /// Logs labels; durable when it returns.
    pub(crate) async fn append_labels(&self, labels: &[LabelRow]) -> Result<(), EvaluatorError> {
        let mut rows = Cells::new(label_fields());
        for label in labels {
            rows.text(0, Some(label.id.to_string().into()));
            rows.instant(1, label.cell.known_at);
            rows.bool(2, label.cell.value);
            rows.text(3, Some(origin_text(label.cell.origin).into()));
            rows.text(4, label.reviewer.clone());
        }
        let doing = "log labels";
        let batch = to_batch(&rows.frame(doing)?).map_err(EvaluatorError::storage(doing))?;
        self.labels.append(batch).await.map_err(EvaluatorError::storage(doing))
    }

    /// The predictions with event time in `[from, to]`, in order of arrival, with their scores.
    pub(crate) async fn read(&self, range: Option<(Timestamp, Timestamp)>) -> Result<Vec<Logged>, EvaluatorError> {
        let predictions = read_table(&self.predictions, &prediction_fields(), range).await?;
        let scores = read_table(&self.scores, &score_fields(), range).await?;
        let known = self.all_columns().await?;
        let mut scores = scores_by_id(&scores)?;
        let (ids, times) = (texts(&predictions, "id")?, predictions.timestamps("event_time")?);
        let (served, keys) = (predictions.timestamps("served_at")?, texts(&predictions, "label_key")?);
        let (columns, inputs) = (predictions.require("columns")?, texts(&predictions, "inputs")?);
        let Column::Int(columns) = columns else {
            return Err(EvaluatorError::corrupt("logged inputs", "no column list"));
        };
        (0..predictions.rows())
            .map(|i| {
                let id = cell(&ids[i], "id")?;
                let list = columns[i].and_then(|id| known.get(&id));
                let list = list.ok_or_else(|| EvaluatorError::corrupt("logged inputs", "unknown column list"))?;
                let row = NewRow {
                    id: parse(id)?,
                    event_time: times[i].unwrap_or_default(),
                    label_key: keys[i].clone(),
                    scores: scores.remove(id).unwrap_or_default(),
                };
                let inputs = cell(&inputs[i], "inputs")?.clone();
                Ok(Logged { row, served_at: served[i].unwrap_or_default(), columns: list.clone(), inputs })
            })
            .collect()
    }

    pub(crate) const fn table(&self, what: LogTable) -> &Table {
        match what {
            LogTable::Predictions => &self.predictions,
            LogTable::Scores => &self.scores,
            LogTable::Labels => &self.labels,
        }
    }

    /// All labels, in order of arrival.
    pub(crate) async fn read_labels(&self) -> Result<Vec<LabelRow>, EvaluatorError> {
        let frame = read_table(&self.labels, &label_fields(), None).await?;
        let (ids, origins, reviewers) = (texts(&frame, "id")?, texts(&frame, "origin")?, texts(&frame, "reviewer")?);
        let (known_at, values) = (frame.timestamps("known_at")?, frame.require("value")?);
        let Column::Bool(values) = values else { return Err(EvaluatorError::corrupt("a label", "no value")) };
        (0..frame.rows())
            .map(|i| {
                let origin = match &**cell(&origins[i], "origin")? {
                    "reviewer" => LabelOrigin::Reviewer,
                    _ => LabelOrigin::Outcome,
                };
                let value = values[i].ok_or_else(|| EvaluatorError::corrupt("a label", "no value"))?;
                let cell_of = LabelCell { value, origin, known_at: known_at[i].unwrap_or_default() };
                Ok(LabelRow { id: parse(cell(&ids[i], "id")?)?, cell: cell_of, reviewer: reviewers[i].clone() })
            })
            .collect()
    }

    /// The id of a list of input columns, stored durably before rows refer to it.
    async fn columns_id(&self, names: &[Arc<str>]) -> Result<i64, EvaluatorError> {
        let known = self.columns.lock().unwrap_or_else(PoisonError::into_inner).get(names).copied();
        if let Some(id) = known {
            return Ok(id);
        }
        let doing = "store the names of logged inputs";
        let list = serde_json::to_string(names).map_err(|e| EvaluatorError::corrupt("input names", e))?;
        let mut tx = self.meta.begin().await.map_err(EvaluatorError::storage(doing))?;
        sqlx::query(
            "INSERT INTO evaluator_inputs (id, columns)
             SELECT COALESCE(MAX(id), 0) + 1, $1 FROM evaluator_inputs WHERE true
             ON CONFLICT (columns) DO NOTHING",
        )
        .bind(&list)
        .execute(tx.conn())
        .await
        .map_err(EvaluatorError::storage(doing))?;
        let (id,): (i64,) = sqlx::query_as("SELECT id FROM evaluator_inputs WHERE columns = $1")
            .bind(&list)
            .fetch_one(tx.conn())
            .await
            .map_err(EvaluatorError::storage(doing))?;
        tx.commit().await.map_err(EvaluatorError::storage(doing))?;
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).insert(names.to_vec(), id);
        Ok(id)
    }

    pub(crate) async fn all_columns(&self) -> Result<BTreeMap<i64, Arc<[String]>>, EvaluatorError> {
        let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, columns FROM evaluator_inputs")
            .fetch_all(self.meta.reader())
            .await
            .map_err(EvaluatorError::storage("read the names of logged inputs"))?;
        let list = |text: &str| serde_json::from_str::<Vec<String>>(text).map(Arc::from);
        rows.iter()
            .map(|(id, text)| Ok((*id, list(text).map_err(|e| EvaluatorError::corrupt("input names", e))?)))
            .collect()
    }
}

fn inputs_json(inputs: &Frame, row: usize) -> String {
    serde_json::Value::Array(inputs.iter().map(|(_, column)| column.get(row).to_json()).collect()).to_string()
}

const fn role_text(role: TargetRole) -> &'static str {
    match role {
        TargetRole::Live => "live",
        TargetRole::Shadow => "shadow",
    }
}

const fn origin_text(origin: LabelOrigin) -> &'static str {
    match origin {
        LabelOrigin::Outcome => "outcome",
        LabelOrigin::Reviewer => "reviewer",
    }
}

async fn open_table(tables: &Tables, name: String, fields: &[Field]) -> Result<Table, EvaluatorError> {
    tables.table(&name, schema_of(fields)).await.map_err(EvaluatorError::storage("open the prediction log"))
}

async fn read_table(
    table: &Table,
    fields: &[Field],
    range: Option<(Timestamp, Timestamp)>,
) -> Result<Frame, EvaluatorError> {
    let range = range.map(|(from, to)| TimeRange { column: "event_time".to_owned(), from, to });
    let doing = "read the prediction log";
    let batches = table.scan(range).await.map_err(EvaluatorError::storage(doing))?;
    from_batches(&schema_of(fields), &batches).map_err(EvaluatorError::storage(doing))
}

fn scores_by_id(frame: &Frame) -> Result<HashMap<Arc<str>, Vec<Score>>, EvaluatorError> {
    let (ids, roles) = (texts(frame, "id")?, texts(frame, "role")?);
    let (Column::Int(versions), Column::Float(scores)) = (frame.require("version")?, frame.require("score")?) else {
        return Err(EvaluatorError::corrupt("a score", "wrong column type"));
    };
    let mut by_id: HashMap<Arc<str>, Vec<Score>> = HashMap::new();
    for (i, id) in ids.iter().enumerate() {
        let role = if roles[i].as_deref() == Some("shadow") { TargetRole::Shadow } else { TargetRole::Live };
        let version = versions[i].and_then(|v| u32::try_from(v).ok());
        let (Some(version), Some(score)) = (version, scores[i]) else {
            return Err(EvaluatorError::corrupt("a score", "no version or no value"));
        };
        #[expect(clippy::cast_possible_truncation, reason = "it was written from an f32")]
        let score = Score { version, role, score: score as f32 };
        by_id.entry(cell(id, "id")?.clone()).or_default().push(score);
    }
    Ok(by_id)
}

fn texts<'a>(frame: &'a Frame, name: &str) -> Result<&'a [Option<Arc<str>>], EvaluatorError> {
    match frame.require(name)? {
        Column::Text(texts) => Ok(texts),
        _ => Err(EvaluatorError::corrupt("the prediction log", format!("`{name}` is not text"))),
    }
}

fn cell<'a>(value: &'a Option<Arc<str>>, name: &str) -> Result<&'a Arc<str>, EvaluatorError> {
    value.as_ref().ok_or_else(|| EvaluatorError::corrupt("the prediction log", format!("`{name}` is null")))
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, EvaluatorError> {
    text.parse().map_err(|e: T::Err| EvaluatorError::corrupt("the prediction log", e))
}

/// Columns under construction.
struct Cells(Vec<(Arc<str>, Column)>);

impl Cells {
    fn new(fields: Vec<Field>) -> Self {
        Self(fields.into_iter().map(|field| (field.name, Column::empty(field.kind))).collect())
    }

    fn text(&mut self, column: usize, value: Option<Arc<str>>) {
        if let Column::Text(v) = &mut self.0[column].1 {
            v.push(value);
        }
    }

    fn instant(&mut self, column: usize, value: Timestamp) {
        if let Column::Timestamp(v) = &mut self.0[column].1 {
            v.push(Some(value));
        }
    }

    fn int(&mut self, column: usize, value: i64) {
        if let Column::Int(v) = &mut self.0[column].1 {
            v.push(Some(value));
        }
    }

    fn float(&mut self, column: usize, value: f64) {
        if let Column::Float(v) = &mut self.0[column].1 {
            v.push(Some(value));
        }
    }

    fn bool(&mut self, column: usize, value: bool) {
        if let Column::Bool(v) = &mut self.0[column].1 {
            v.push(Some(value));
        }
    }

    /// A cell of the wrong type was skipped above, so it shows here as a ragged column.
    fn frame(self, doing: &'static str) -> Result<Frame, EvaluatorError> {
        Frame::new(self.0).map_err(|e| EvaluatorError::Storage { doing, source: e.into() })
    }
}
