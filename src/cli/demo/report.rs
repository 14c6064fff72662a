//! The closing table: what was served, how good it was, what moved and what the platform did, by month.

use std::{collections::BTreeMap, fmt};

use domain::Timestamp;
use serde_json::{Value, json};

use super::{plan::Plan, replay::Tally};
use crate::cli::{
    client::{Client, encode},
    output,
    table::Table,
};

/// Quality of one row of the table.
#[derive(Clone, Copy, Default)]
struct Quality {
    auc: Option<f64>,
    log_loss: Option<f64>,
    brier: Option<f64>,
}

#[derive(Default)]
struct Line {
    predictions: u64,
    versions: String,
    served: Quality,
    first: Quality,
    rate: Option<f64>,
    /// Mean importance-weighted PSI of the windows that closed in the bucket, and how many had a rule fire.
    weighted_psi: Option<f64>,
    fired: usize,
    actions: Vec<String>,
}

pub struct Report {
    bucket: String,
    lines: BTreeMap<String, Line>,
    first: u64,
    promoted_at: Option<Timestamp>,
    /// Over the same requests since the first promotion: served, first version.
    since: (Quality, Quality),
    /// Mean over the buckets: served, first version.
    mean_auc: (Option<f64>, Option<f64>),
    triggered: usize,
    review_open: usize,
    url: String,
    endpoint: String,
}

/// The name of the bucket an instant lies in.
pub fn bucket(length: &str, at: Timestamp) -> String {
    let at = if length == "week" {
        // The epoch was a Thursday: three days on, weeks begin on Monday.
        let days = domain::Span::from_micros(3 * domain::Span::DAY.micros());
        let week = domain::Span::from_micros(7 * domain::Span::DAY.micros());
        (at + days).floor(week) - days
    } else {
        at
    };
    let text = at.to_string();
    if length == "month" { text[..7].to_owned() } else { text[..10].to_owned() }
}

/// What training tried and what each candidate scored on the holdout.
pub fn candidates(client: &Client, plan: &Plan, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let model = endpoint_model(client, plan)?;
    let versions = client.get(&format!("/api/v1/models/{}/versions", encode(&model)))?;
    let text = output::rows(
        &versions,
        &[
            ("version", "version"),
            ("estimator", "tags.estimator"),
            ("holdout auc", "metrics.holdout_auc"),
            ("log loss", "metrics.holdout_log_loss"),
            ("candle vs onnx", "metrics.parity_max_abs_diff"),
        ],
    );
    text.lines().for_each(|line| say(&format!("   {line}")));
    Ok(())
}

fn endpoint_model(client: &Client, plan: &Plan) -> anyhow::Result<String> {
    let endpoint = client.get(&format!("/api/v1/endpoints/{}", encode(&plan.endpoint)))?;
    Ok(endpoint["definition"]["model"].as_str().unwrap_or(&plan.endpoint).to_owned())
}

fn quality(row: &Value) -> Quality {
    Quality { auc: row["auc"].as_f64(), log_loss: row["log_loss"].as_f64(), brier: row["brier"].as_f64() }
}

fn is_version(row: &Value, version: u64) -> bool {
    row["version"] == json!(version.to_string()) || row["version"] == json!(version)
}

impl Report {
    pub fn gather(client: &Client, plan: &Plan, tally: Tally, first: u64) -> anyhow::Result<Self> {
        let base = format!("/api/v1/endpoints/{}", encode(&plan.endpoint));
        let mut lines: BTreeMap<String, Line> = BTreeMap::new();
        for (name, versions) in tally {
            let line = lines.entry(name).or_default();
            line.predictions = versions.values().sum();
            line.versions = versions.keys().map(|v| format!("v{v}")).collect::<Vec<_>>().join(" ");
        }
        let at = |value: &Value| value.as_str().and_then(|t| t.parse::<Timestamp>().ok());
        let rows = client.get(&format!("{base}/quality?bucket={}", plan.bucket))?;
        for row in rows.as_array().into_iter().flatten() {
            let Some(start) = at(&row["bucket_start"]) else { continue };
            let Some(line) = lines.get_mut(&bucket(&plan.bucket, start)) else { continue };
            if row["version"] == "served" {
                line.served = quality(row);
                line.rate = row["rate"].as_f64();
            } else if is_version(row, first) {
                line.first = quality(row);
            }
        }
        Self::add_drift(client, plan, &base, &mut lines)?;
        let runs = client.get(&format!("/api/v1/pipeline-runs?pipeline={}&limit=1000", encode(&plan.pipeline)))?;
        let mut promoted_at = None;
        let mut triggered = 0;
        for run in runs.as_array().into_iter().flatten().rev() {
            if run["cause"]["kind"] != "alert" {
                continue;
            }
            triggered += 1;
            let Some(cutoff) = at(&run["cutoff"]) else { continue };
            let outcome = output::cell(&run["state"]).replace('_', " ");
            let version = run["challenger"].as_u64().map_or_else(String::new, |v| format!(" v{v}"));
            lines
                .entry(bucket(&plan.bucket, cutoff))
                .or_default()
                .actions
                .push(format!("retrained{version}: {outcome}"));
            if run["state"] == "promoted" && promoted_at.is_none() {
                promoted_at = at(&run["ended"]).or(Some(cutoff));
            }
        }
        let since = match promoted_at {
            Some(from) => Self::since(client, &base, from, first)?,
            None => Default::default(),
        };
        let mean = |pick: &dyn Fn(&Line) -> Option<f64>| {
            let all: Vec<f64> = lines.values().filter_map(pick).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        let mean_auc = (mean(&|l| l.served.auc), mean(&|l| l.first.auc));
        let tasks = client.get(&format!("{base}/review?limit=1000"))?;
        Ok(Self {
            bucket: plan.bucket.clone(),
            first,
            promoted_at,
            since,
            mean_auc,
            triggered,
            review_open: tasks.as_array().map_or(0, Vec::len),
            url: client.base().to_owned(),
            endpoint: plan.endpoint.clone(),
            lines,
        })
    }

    fn add_drift(client: &Client, plan: &Plan, base: &str, lines: &mut BTreeMap<String, Line>) -> anyhow::Result<()> {
        let reports = client.get(&format!("{base}/reports?limit=10000"))?;
        let mut sums: BTreeMap<String, (f64, u32)> = BTreeMap::new();
        for report in reports.as_array().into_iter().flatten() {
            let Some(end) = report["window_end"].as_str().and_then(|t| t.parse::<Timestamp>().ok()) else { continue };
            let name = bucket(&plan.bucket, end);
            let Some(line) = lines.get_mut(&name) else { continue };
            line.fired += usize::from(report["fired"].as_array().is_some_and(|fired| !fired.is_empty()));
            if let Some(psi) = report["weighted_psi"].as_f64() {
                let sum = sums.entry(name).or_default();
                sum.0 += psi;
                sum.1 += 1;
            }
        }
        for (name, (sum, count)) in sums {
            if let Some(line) = lines.get_mut(&name) {
                line.weighted_psi = Some(sum / f64::from(count));
            }
        }
        Ok(())
    }

    fn since(client: &Client, base: &str, from: Timestamp, first: u64) -> anyhow::Result<(Quality, Quality)> {
        let rows = client.get(&format!("{base}/quality?bucket=all&from={}", encode(&from.to_string())))?;
        let find = |wanted: &dyn Fn(&Value) -> bool| {
            rows.as_array().into_iter().flatten().find(|row| wanted(row)).map(quality).unwrap_or_default()
        };
        Ok((find(&|row| row["version"] == "served"), find(&|row| is_version(row, first))))
    }

    pub fn to_json(&self) -> Value {
        let show = |q: &Quality| json!({"auc": q.auc, "log_loss": q.log_loss, "brier": q.brier});
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|(name, line)| {
                json!({
                    "bucket": name, "predictions": line.predictions, "rate": line.rate, "versions": line.versions,
                    "served": show(&line.served), "first": show(&line.first),
                    "weighted_psi": line.weighted_psi, "windows_fired": line.fired, "actions": line.actions,
                })
            })
            .collect();
        json!({
            "bucket": self.bucket, "lines": lines, "first_version": self.first, "retrains_triggered": self.triggered,
            "first_promotion": self.promoted_at.map(|t| t.to_string()),
            "since_first_promotion": {"served": show(&self.since.0), "first": show(&self.since.1)},
            "mean_auc": {"served": self.mean_auc.0, "first": self.mean_auc.1},
            "review_tasks_open": self.review_open,
        })
    }
}

fn number(x: Option<f64>) -> String {
    x.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&[
            &self.bucket,
            "served",
            "rate",
            "AUC",
            "log loss",
            "Brier",
            "first AUC",
            "log loss",
            "Brier",
            "drift",
            "windows fired",
            "versions",
            "what the platform did",
        ]);
        for (name, line) in &self.lines {
            table.row([
                name.clone(),
                line.predictions.to_string(),
                number(line.rate),
                number(line.served.auc),
                number(line.served.log_loss),
                number(line.served.brier),
                number(line.first.auc),
                number(line.first.log_loss),
                number(line.first.brier),
                number(line.weighted_psi),
                line.fired.to_string(),
                line.versions.clone(),
                line.actions.join("; "),
            ]);
        }
        writeln!(f, "{table}")?;
        writeln!(f, "rate: share of positives; first: version {} on the same requests, never retrained;", self.first)?;
        writeln!(f, "drift: PSI of the model's inputs against its training data, weighted by importance\n")?;
        writeln!(f, "retrains triggered by the evaluator: {}", self.triggered)?;
        if let Some(at) = self.promoted_at {
            writeln!(
                f,
                "since the first promotion on {}: served AUC {} log loss {}; version {} AUC {} log loss {}",
                &at.to_string()[..10],
                number(self.since.0.auc),
                number(self.since.0.log_loss),
                self.first,
                number(self.since.1.auc),
                number(self.since.1.log_loss)
            )?;
        }
        writeln!(f, "mean AUC over the table: served {}, first {}", number(self.mean_auc.0), number(self.mean_auc.1))?;
        writeln!(f, "review tasks waiting: {}\n", self.review_open)?;
        writeln!(f, "next: open {} in a browser, {}/docs for the API, or", self.url, self.url)?;
        writeln!(f, "  millpond evaluate quality {} --slice origin --bucket month", self.endpoint)?;
        writeln!(f, "  millpond pipelines list")?;
        writeln!(f, "  millpond review list {}", self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_monday() {
        let sunday: Timestamp = "2013-04-07T23:59:00Z".parse().unwrap();
        let monday: Timestamp = "2013-04-08T00:00:00Z".parse().unwrap();
        assert_eq!(bucket("week", sunday), "2013-04-01");
        assert_eq!(bucket("week", monday), "2013-04-08");
        assert_eq!(bucket("month", monday), "2013-04");
    }
}
