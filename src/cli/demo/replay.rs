//! Playing history back: rows, questions and labels in the order in which they would have come.

use std::{collections::BTreeMap, path::Path};

use domain::{Span, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::{
    data::{Columns, Rows},
    plan::Plan,
};
use crate::cli::client::{CallError, Client, encode};

/// Rows in one ingestion request.
const CHUNK: usize = 10_000;

/// What was served, as the client saw it: bucket of event time (`2013-04`) -> version -> predictions.
pub type Tally = BTreeMap<String, BTreeMap<u64, u64>>;

/// The open files of an example.
pub struct Replay<'a> {
    client: &'a Client,
    streams: Vec<(String, Rows)>,
    questions: Rows,
    question_columns: Vec<String>,
    question_time: String,
    labels: Rows,
    label_source: String,
    label_time: String,
    label_key: Vec<String>,
    label_value: String,
}

impl<'a> Replay<'a> {
    pub fn open(client: &'a Client, folder: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let definitions = client.get("/api/v1/definitions")?;
        let open = |source: &str, file: &str| -> anyhow::Result<(Rows, Columns)> {
            let columns = Columns::of(&definitions, source)?;
            Ok((Rows::read(&folder.join(file), &columns)?, columns))
        };
        let streams = plan
            .streams
            .iter()
            .map(|s| Ok((s.source.clone(), open(&s.source, &s.file)?.0)))
            .collect::<anyhow::Result<_>>()?;
        let (questions, asked) = open(&plan.questions.source, &plan.questions.file)?;
        let (labels, known) = open(&plan.labels.source, &plan.labels.file)?;
        Ok(Self {
            client,
            streams,
            questions,
            question_columns: plan.questions.columns.clone(),
            question_time: asked.timestamp,
            labels,
            label_source: plan.labels.source.clone(),
            label_time: known.timestamp,
            label_key: plan.labels.key.clone(),
            label_value: plan.labels.value.clone(),
        })
    }

    /// Ingests everything known by `start`. Returns a line for each source.
    pub fn ingest_history(&mut self, start: Timestamp) -> anyhow::Result<Vec<(String, String)>> {
        let mut lines = Vec::new();
        for (source, rows) in &mut self.streams {
            lines.push((source.clone(), ingest(self.client, source, rows.take_until(start))?));
        }
        lines
            .push((self.label_source.clone(), ingest(self.client, &self.label_source, self.labels.take_until(start))?));
        self.questions.take_until(start);
        Ok(lines)
    }

    /// Replays `(start, end]`.
    pub fn run(&mut self, plan: &Plan, quiet: bool) -> anyhow::Result<Tally> {
        let total = u64::try_from((plan.end - plan.start).micros() / plan.step.micros()).unwrap_or(0);
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(total) };
        bar.set_style(ProgressStyle::with_template("   {bar:40} {percent:>3}%  {msg}  [{elapsed_precise}]")?);
        let mut tally = Tally::new();
        let mut now = plan.start;
        let mut settled = plan.start;
        let mut month = String::new();
        let last = plan.end - Span::from_micros(1);
        while now < last {
            // The end is exclusive: an instant on it belongs to the bucket after.
            now = (now + plan.step).min(last);
            for (source, rows) in &mut self.streams {
                ingest(self.client, source, rows.take_until(now))?;
            }
            self.ask(plan, now, &mut tally)?;
            self.tell(plan, now)?;
            if now - settled >= plan.settle || now >= last {
                self.settle(plan)?;
                settled = now;
            }
            let text = now.to_string();
            let served: u64 = tally.values().flat_map(BTreeMap::values).sum();
            bar.set_message(format!("{}  {served} predictions", &text[..10]));
            bar.inc(1);
            // A terminal shows the bar; a log gets a line a month.
            if bar.is_hidden() && !quiet && text[..7] != month {
                month = text[..7].to_owned();
                println!("   {}  {served} predictions", &text[..10]);
            }
        }
        bar.finish_and_clear();
        Ok(tally)
    }

    /// Asks about every question of the step.
    fn ask(&mut self, plan: &Plan, now: Timestamp, tally: &mut Tally) -> anyhow::Result<()> {
        let path = format!("/api/v1/endpoints/{}/predict", encode(&plan.endpoint));
        for chunk in self.questions.take_until(now).chunks(plan.batch) {
            let instances: Vec<Value> = chunk
                .iter()
                .map(|(_, row)| {
                    let mut instance: Map<String, Value> = self
                        .question_columns
                        .iter()
                        .map(|name| (name.clone(), row.get(name).cloned().unwrap_or(Value::Null)))
                        .collect();
                    instance.insert("event_timestamp".into(), row[&self.question_time].clone());
                    Value::Object(instance)
                })
                .collect();
            let answer = self.client.post(&path, &json!({"instances": instances}))?;
            for ((at, _), prediction) in chunk.iter().zip(answer["predictions"].as_array().into_iter().flatten()) {
                let bucket = super::report::bucket(&plan.bucket, *at);
                let version = prediction["version"].as_u64().unwrap_or(0);
                *tally.entry(bucket).or_default().entry(version).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Posts the labels that became known in the step.
    fn tell(&mut self, plan: &Plan, now: Timestamp) -> anyhow::Result<()> {
        let path = format!("/api/v1/endpoints/{}/labels", encode(&plan.endpoint));
        let (time, keys, value) = (&self.label_time, &self.label_key, &self.label_value);
        for chunk in self.labels.take_until(now).chunks(CHUNK) {
            let labels: Vec<Value> = chunk
                .iter()
                .map(|(_, row)| {
                    let key: Vec<&str> = keys.iter().map(|k| row[k].as_str().unwrap_or("")).collect();
                    json!({"key": key.join("|"), "value": row[value], "known_at": row[time]})
                })
                .collect();
            self.client.post(&path, &json!({"labels": labels}))?;
        }
        Ok(())
    }

    /// Holds event time still until the platform has evaluated, decided and trained.
    fn settle(&self, plan: &Plan) -> Result<(), CallError> {
        let path = format!("/api/v1/endpoints/{}/settle", encode(&plan.endpoint));
        while self.client.post(&path, &json!({}))?["settled"] != true {}
        Ok(())
    }
}

fn ingest(client: &Client, source: &str, rows: &[(Timestamp, Map<String, Value>)]) -> anyhow::Result<String> {
    let (mut accepted, mut duplicates, mut quarantined) = (0, 0, 0);
    let path = format!("/api/v1/sources/{}/rows", encode(source));
    for chunk in rows.chunks(CHUNK) {
        let mut body = Vec::new();
        for (_, row) in chunk {
            serde_json::to_writer(&mut body, row)?;
            body.push(b'\n');
        }
        let report = client.send(&path, "application/x-ndjson", &body)?;
        let count = |name: &str| report[name].as_u64().unwrap_or(0);
        accepted += count("accepted");
        duplicates += count("duplicates");
        quarantined += count("quarantined");
    }
    Ok(format!("{accepted} rows accepted, {duplicates} duplicates, {quarantined} quarantined"))
}
