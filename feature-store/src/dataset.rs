//! Training sets: labelled questions of a spine source, joined to a service's features as they were known then.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use domain::{
    Column, ColumnName, Digest, Field, Frame, SourceName, Timestamp, Value, ValueType,
    definition::{DatasetSpec, Source},
    error::nearest,
    ports::ServiceSchema,
};

use crate::{
    FeatureStore, Inner,
    catalog::Catalog,
    error::{Doing as _, FeatureError},
    features,
    history::History,
    key,
    table::Mark,
    view::SourcePlan,
};

/// The event time column of every dataset.
pub(crate) const EVENT_TIME: &str = "event_timestamp";
/// The label column of every dataset.
pub(crate) const LABEL: &str = "label";
/// A text column of a label source that says who labelled, and the value that outranks all others.
const ORIGIN: &str = "origin";
const REVIEWER: &str = "reviewer";

/// A training set and its holdout. Columns: event time, what identifies the row, entity keys, request values,
/// features (`view__feature`), label. Rows stand in order of event time.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub train: Frame,
    /// The newest slice by event time.
    pub holdout: Frame,
    /// Name of the bool column to predict.
    pub label: String,
    /// Name of the event time column.
    pub event_time: String,
    /// Event times of the first and last row; `None` when there are none.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// The state of every source that was read.
    pub source_snapshots: BTreeMap<String, Digest>,
    /// Rows of the spine in the window whose label was not known by the cutoff.
    pub dropped_unlabelled: u64,
}

impl FeatureStore {
    /// Builds the dataset as it could be known at `cutoff`: questions with event time in `(cutoff - window,
    /// cutoff]` whose label was known by then, features as of each question's own event time. The holdout is
    /// what lies less than `spec.holdout` before the newest labelled question.
    ///
    /// A label row with a null label is none. Of several label rows a reviewer's (text column `origin` =
    /// `reviewer`) outranks others, then the newest counts.
    ///
    /// # Errors
    /// `Dataset` when a source or column it needs is missing or of a wrong type; `Unknown` service.
    pub async fn dataset(&self, spec: &DatasetSpec, cutoff: Timestamp) -> Result<Dataset, FeatureError> {
        self.0.dataset(spec, cutoff, None).await
    }

    /// Builds a dataset once more, from the states of its sources that `snapshots` names (see
    /// [`Dataset::source_snapshots`]): the same rows, whatever was ingested or compacted since, until a vacuum takes the
    /// files of that time.
    ///
    /// # Errors
    /// As `dataset`; `Unknown` snapshot; what storage says, `Gone` where a vacuum took the files of that time.
    pub async fn dataset_again(
        &self,
        spec: &DatasetSpec,
        cutoff: Timestamp,
        snapshots: &BTreeMap<String, Digest>,
    ) -> Result<Dataset, FeatureError> {
        self.0.dataset(spec, cutoff, Some(snapshots)).await
    }
}

/// Columns a spine hands through, by name and position in the source.
struct Passed {
    columns: Vec<(Arc<str>, usize)>,
    label_keys: Vec<usize>,
}

impl Inner {
    async fn dataset(
        &self,
        spec: &DatasetSpec,
        cutoff: Timestamp,
        snapshots: Option<&BTreeMap<String, Digest>>,
    ) -> Result<Dataset, FeatureError> {
        let catalog = self.catalog();
        let plan = catalog.service(&spec.service)?;
        let spine = find(&catalog, "spine", &spec.spine)?;
        let labels = find(&catalog, "label.source", &spec.label.source)?;
        let passed = passed(spec, &spine.definition, &plan.schema)?;
        let label_at = column(&labels.definition, "label.column", &spec.label.column, Some(ValueType::Bool))?;
        let label_keys = label_keys(spec, &spine.definition, &labels.definition)?;

        let mut sources: BTreeSet<&SourceName> = plan.parts.iter().map(|part| &part.view.source).collect();
        sources.extend([&spec.spine, &spec.label.source]);
        let marks = match snapshots {
            Some(snapshots) => self.marks_of(snapshots, sources).await?,
            None => {
                let mut marks = BTreeMap::new();
                for source in sources {
                    marks.insert(source.clone(), self.mark(source).await?);
                }
                marks
            }
        };

        let known = {
            let mut needed: BTreeSet<usize> = label_keys.iter().copied().collect();
            needed.insert(label_at);
            let origin = origin(&labels.definition);
            needed.extend(origin);
            let history = self.history(&labels, &needed, cutoff, &marks).await?;
            let keys = label_keys.clone();
            self.cpu.run(move || known_labels(&history, &keys, label_at, origin)).await.doing("read labels")??
        };
        let needed = passed.columns.iter().map(|(_, at)| *at).chain(passed.label_keys.iter().copied()).collect();
        let history = self.history(&spine, &needed, cutoff, &marks).await?;
        let window = spec.window;
        let (questions, dropped) = self
            .cpu
            .run(move || questions(&history, &passed, &known, window.map(|window| cutoff - window)))
            .await
            .doing("read the spine")??;

        let at: Arc<[Timestamp]> = questions.timestamps(EVENT_TIME)?.iter().map(|t| t.unwrap_or_default()).collect();
        let questions = Arc::new(questions);
        let parts = self.join(&catalog, &plan, questions.clone(), at.clone(), &marks).await?;
        let answers = features::features(&plan, parts, at.len())?;
        let rows = assemble(&questions, &answers, &plan.schema)?;

        let from = at.first().copied();
        let to = at.last().copied();
        let edge = to.map_or(0, |newest| at.partition_point(|at| *at <= newest - spec.holdout));
        let slice = |from: usize, to: usize| rows.take(&(from..to).collect::<Vec<_>>());
        Ok(Dataset {
            train: slice(0, edge),
            holdout: slice(edge, at.len()),
            label: LABEL.to_owned(),
            event_time: EVENT_TIME.to_owned(),
            from,
            to,
            source_snapshots: marks.into_iter().map(|(name, mark)| (name.to_string(), mark.digest)).collect(),
            dropped_unlabelled: dropped,
        })
    }

    async fn history(
        &self,
        plan: &SourcePlan,
        needed: &BTreeSet<usize>,
        to: Timestamp,
        marks: &BTreeMap<SourceName, Mark>,
    ) -> Result<History, FeatureError> {
        let source = &plan.definition.name;
        History::load(plan, &*self.source_table(source)?, needed, Some(to), marks.get(source)).await
    }
}

/// The newest label by key. Reviewers' outrank others; of one rank the newest counts.
fn known_labels(
    history: &History,
    keys: &[usize],
    label: usize,
    origin: Option<usize>,
) -> Result<HashMap<Vec<u8>, bool>, FeatureError> {
    let columns: Vec<&Column> = keys.iter().map(|&at| history.column(at)).collect::<Result<_, _>>()?;
    let labels = history.column(label)?;
    let origins = origin.map(|at| history.column(at)).transpose()?;
    type Rank = (bool, i64, Option<i64>, i64);
    let mut best: HashMap<Vec<u8>, (Rank, bool)> = HashMap::new();
    for row in 0..history.rows() {
        let Value::Bool(value) = labels.get(row) else { continue };
        let mut key = Vec::new();
        if !columns.iter().all(|column| key::push_cell(&mut key, column, row)) {
            continue;
        }
        let reviewed = matches!(origins.map(|o| o.get(row)), Some(Value::Text(who)) if &*who == REVIEWER);
        let created = history.created.as_ref().and_then(|created| created[row]);
        let rank = (reviewed, history.times[row], created, history.numbers[row]);
        match best.get(&key) {
            Some((known, _)) if *known >= rank => {}
            _ => drop(best.insert(key, (rank, value))),
        }
    }
    Ok(best.into_iter().map(|(key, (_, value))| (key, value)).collect())
}

/// The labelled rows of the spine after `after`, in order of event time, and how many had no label.
fn questions(
    history: &History,
    passed: &Passed,
    known: &HashMap<Vec<u8>, bool>,
    after: Option<Timestamp>,
) -> Result<(Frame, u64), FeatureError> {
    let keys: Vec<&Column> = passed.label_keys.iter().map(|&at| history.column(at)).collect::<Result<_, _>>()?;
    let mut rows: Vec<usize> =
        (0..history.rows()).filter(|&row| after.is_none_or(|after| history.times[row] > after.micros())).collect();
    rows.sort_by_key(|&row| history.times[row]);
    let mut labelled = Vec::with_capacity(rows.len());
    let mut labels = Vec::with_capacity(rows.len());
    let mut key = Vec::new();
    for &row in &rows {
        key.clear();
        let complete = keys.iter().all(|column| key::push_cell(&mut key, column, row));
        if let Some(label) = complete.then(|| known.get(&key)).flatten() {
            labelled.push(row);
            labels.push(Some(*label));
        }
    }
    let times = labelled.iter().map(|&row| Some(Timestamp::from_micros(history.times[row]))).collect();
    let mut frame = Frame::new([(Arc::from(EVENT_TIME), Column::Timestamp(times))])?;
    for (name, at) in &passed.columns {
        frame.add(name.clone(), history.column(*at)?.take(&labelled))?;
    }
    frame.add(LABEL, Column::Bool(labels))?;
    Ok((frame, (rows.len() - labelled.len()) as u64))
}

/// Questions, then features, then the label. A request value that is null takes its default, as it does in serving.
fn assemble(questions: &Frame, answers: &Frame, schema: &ServiceSchema) -> Result<Frame, FeatureError> {
    let mut rows = Frame::of_rows(questions.rows());
    for (name, column) in questions.iter().filter(|(name, _)| &***name != LABEL) {
        let request = schema.request.iter().find(|request| request.field.name == *name);
        let column = match request.and_then(|request| request.default.as_ref()) {
            Some(default) => filled(column, default)?,
            None => column.clone(),
        };
        rows.add(name.clone(), column)?;
    }
    for (name, column) in answers.iter() {
        rows.add(name.clone(), column.clone())?;
    }
    rows.add(LABEL, questions.require(LABEL)?.clone())?;
    Ok(rows)
}

fn filled(column: &Column, default: &Value) -> Result<Column, FeatureError> {
    let mut out = Column::with_capacity(column.kind(), column.len());
    for row in 0..column.len() {
        let value = column.get(row);
        let value = if value.is_null() { default.clone() } else { value };
        out.push(value).map_err(|e| wrong("service", e.to_string()))?;
    }
    Ok(out)
}

/// What the spine hands through: what identifies its rows, the service's keys and request values.
fn passed(spec: &DatasetSpec, spine: &Source, schema: &ServiceSchema) -> Result<Passed, FeatureError> {
    let mut columns: Vec<(Arc<str>, usize)> = Vec::new();
    let mut pass = |field: &str, name: &str, kind: Option<ValueType>| -> Result<(), FeatureError> {
        let at = column(spine, field, &parse_name(field, name)?, kind)?;
        let own_time = spine.timestamp.as_str() == name;
        if name == LABEL || (name == EVENT_TIME && !own_time) {
            return Err(wrong(field, format!("column `{name}` of the spine has a name the dataset needs itself")));
        }
        if name != EVENT_TIME && !columns.iter().any(|(known, _)| **known == *name) {
            columns.push((name.into(), at));
        }
        Ok(())
    };
    for name in spine.row_id.iter().chain(&spec.label.key) {
        pass("spine", name.as_str(), None)?;
    }
    let needed = schema.keys.iter().chain(schema.request.iter().map(|request| &request.field));
    for Field { name, kind } in needed {
        pass("spine", name, Some(*kind))?;
    }
    let label_keys =
        spec.label.key.iter().map(|name| column(spine, "label.key", name, None)).collect::<Result<_, _>>()?;
    Ok(Passed { columns, label_keys })
}

fn label_keys(spec: &DatasetSpec, spine: &Source, labels: &Source) -> Result<Vec<usize>, FeatureError> {
    if spec.label.key.is_empty() {
        return Err(wrong("label.key", "at least one column is needed".into()));
    }
    let kind = |name: &ColumnName| spine.columns.iter().find(|c| c.name == *name).map(|c| c.kind);
    spec.label.key.iter().map(|name| column(labels, "label.key", name, kind(name))).collect()
}

fn origin(labels: &Source) -> Option<usize> {
    labels.columns.iter().position(|c| c.name.as_str() == ORIGIN && c.kind == ValueType::Text)
}

fn find(catalog: &Catalog, field: &str, name: &SourceName) -> Result<Arc<SourcePlan>, FeatureError> {
    catalog.source(name).map_err(|error| match error {
        FeatureError::Unknown { name, near, .. } => {
            FeatureError::Dataset { field: field.into(), reason: format!("unknown source `{name}`"), near }
        }
        other => other,
    })
}

/// Position of a column, which must be of `kind` where that is given.
fn column(source: &Source, field: &str, name: &ColumnName, kind: Option<ValueType>) -> Result<usize, FeatureError> {
    let Some(at) = source.columns.iter().position(|c| c.name == *name) else {
        let near = nearest(name.as_str(), source.columns.iter().map(|c| c.name.as_str())).map(str::to_owned);
        let reason = format!("source `{}` has no column `{name}`", source.name);
        return Err(FeatureError::Dataset { field: field.into(), reason, near });
    };
    match kind {
        Some(kind) if source.columns[at].kind != kind => {
            let (found, wanted) = (source.columns[at].kind, kind);
            Err(wrong(field, format!("column `{name}` of source `{}` is {found}, {wanted} is needed", source.name)))
        }
        _ => Ok(at),
    }
}

fn parse_name(field: &str, name: &str) -> Result<ColumnName, FeatureError> {
    name.parse().map_err(|e: domain::BadName| wrong(field, e.to_string()))
}

fn wrong(field: &str, reason: String) -> FeatureError {
    FeatureError::Dataset { field: field.into(), reason, near: None }
}
