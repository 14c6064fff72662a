//! Labels: into the feature store first, where the next training set finds them, then to the evaluator.

use std::sync::Arc;

use domain::{
    EndpointName, ErrorCode, TaskId, Value,
    definition::{Endpoint, Source},
    error::Coded as _,
    prediction::{Label, LabelOrigin, LabelTarget},
};
use evaluator::{LabelProblem, LabelReport};
use serde_json::{Map, Value as Json};

use crate::{
    check::ORIGIN,
    conductor::Conductor,
    error::{Asking as _, ConductorError},
};

/// Rows to be ingested, each with the index of its label.
struct Rows {
    rows: Vec<Map<String, Json>>,
    indices: Vec<usize>,
    problems: Vec<LabelProblem>,
}

impl Conductor {
    /// Takes labels for an endpoint's predictions; durable when it returns. They become rows of the endpoint's label
    /// source and are joined to the logged predictions. A label that cannot be taken (unknown prediction, a key with
    /// too few parts, a value its column refuses) is listed in the report and does not hinder the others.
    ///
    /// # Errors
    /// An endpoint that does not exist, or storage that fails; then the labels may be sent again.
    pub async fn label(&self, endpoint: &EndpointName, labels: Vec<Label>) -> Result<LabelReport, ConductorError> {
        let definition = self.definition(endpoint)?;
        let source = self.rooms().features.source(&definition.labels.source).asking("find the label source")?;
        let mut rows = self.rows(&definition, &source, &labels).await?;
        if !rows.rows.is_empty() {
            let report = self.rooms().features.ingest_rows(&source.name, std::mem::take(&mut rows.rows)).await;
            let report = report.asking("store labels")?;
            if report.quarantined > report.first_errors.len() as u64 {
                // Only the first are named, so nobody could tell which labels were stored.
                let first = report.first_errors.first().map(|e| e.reason.clone()).unwrap_or_default();
                return Err(ConductorError::BadLabels { source_name: source.name, refused: report.quarantined, first });
            }
            for error in report.first_errors {
                let at = usize::try_from(error.line).ok().and_then(|line| line.checked_sub(1));
                let Some(index) = at.and_then(|at| rows.indices.get(at)).copied() else { continue };
                rows.problems.push(problem(index, format!("label row refused: {}", error.reason), String::new()));
            }
        }
        let taken: Vec<usize> = (0..labels.len()).filter(|i| !rows.problems.iter().any(|p| p.index == *i)).collect();
        let joinable: Vec<Label> = taken.iter().map(|i| labels[*i].clone()).collect();
        let evaluator = &self.rooms().evaluator;
        let mut report = if evaluator.endpoints().contains(endpoint) {
            evaluator.labels(endpoint, joinable).await.asking("join labels")?
        } else {
            // Nothing was ever predicted here; the labels are kept for training all the same.
            LabelReport { unmatched: joinable.len() as u64, ..LabelReport::default() }
        };
        for problem in &mut report.problems {
            problem.index = taken.get(problem.index).copied().unwrap_or(problem.index);
        }
        report.problems.append(&mut rows.problems);
        report.problems.sort_by_key(|p| p.index);
        Ok(report)
    }

    /// Answers a review task; the answer is a label like any other. Sent again after an interruption, the same answer
    /// completes what was left.
    ///
    /// # Errors
    /// A task that does not exist, was withdrawn or has the other answer.
    pub async fn answer(&self, task: &TaskId, value: bool, reviewer: &str) -> Result<LabelReport, ConductorError> {
        let answer = self.rooms().evaluator.answer(task, value, reviewer).await.asking("answer the review task")?;
        self.label(&answer.task.endpoint, vec![answer.label]).await
    }

    async fn rows(&self, endpoint: &Endpoint, source: &Source, labels: &[Label]) -> Result<Rows, ConductorError> {
        let mut rows = Rows { rows: Vec::with_capacity(labels.len()), indices: Vec::new(), problems: Vec::new() };
        for (index, label) in labels.iter().enumerate() {
            let key = match &label.target {
                LabelTarget::Key(key) => key.clone(),
                LabelTarget::Prediction(id) => match self.rooms().evaluator.prediction(id).await {
                    Ok(found) if found.endpoint != endpoint.name => {
                        let message = format!("prediction `{id}` belongs to endpoint `{}`", found.endpoint);
                        rows.problems.push(problem(index, message, String::new()));
                        continue;
                    }
                    Ok(found) => match found.label_key {
                        Some(key) => key,
                        // Without a key no training set can find it; the evaluator can still count it.
                        None => continue,
                    },
                    Err(e) if e.code() == ErrorCode::NotFound => {
                        rows.problems.push(LabelProblem {
                            index,
                            code: e.code(),
                            message: e.to_string(),
                            hint: e.hint(),
                        });
                        continue;
                    }
                    Err(e) => return Err(e).asking("find the prediction"),
                },
            };
            match row(endpoint, source, &key, label) {
                Ok(row) => {
                    rows.rows.push(row);
                    rows.indices.push(index);
                }
                Err(message) => {
                    let names: Vec<_> = endpoint.label_key.iter().map(AsRef::as_ref).collect();
                    rows.problems.push(problem(index, message, format!("write the key as `{}`", names.join("|"))));
                }
            }
        }
        Ok(rows)
    }
}

fn problem(index: usize, message: String, hint: String) -> LabelProblem {
    LabelProblem { index, code: ErrorCode::InvalidArgument, message, hint }
}

/// The label as a row of its source.
fn row(endpoint: &Endpoint, source: &Source, key: &Arc<str>, label: &Label) -> Result<Map<String, Json>, String> {
    let spec = &endpoint.labels;
    let parts: Vec<&str> = key.split('|').collect();
    if parts.len() != spec.key.len() {
        return Err(format!("label key `{key}` has {} parts where {} are needed", parts.len(), spec.key.len()));
    }
    let mut row = Map::new();
    for (column, part) in spec.key.iter().zip(parts) {
        let kind = source.columns.iter().find(|c| c.name == *column).map(|c| c.kind);
        let kind = kind.ok_or_else(|| format!("label source `{}` has no column `{column}`", source.name))?;
        let value = Value::from_text(part, kind).map_err(|e| format!("label key `{key}`: `{column}`: {e}"))?;
        row.insert(column.to_string(), value.to_json());
    }
    row.insert(source.timestamp.to_string(), Json::String(label.known_at.to_string()));
    row.insert(spec.column.to_string(), Json::Bool(label.value));
    if source.columns.iter().any(|c| c.name.as_str() == ORIGIN) {
        let origin = match label.origin {
            LabelOrigin::Outcome => "outcome",
            LabelOrigin::Reviewer => "reviewer",
        };
        row.insert(ORIGIN.to_owned(), Json::String(origin.to_owned()));
    }
    Ok(row)
}
