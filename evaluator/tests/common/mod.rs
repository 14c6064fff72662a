//! A small world for the evaluator: one endpoint, two inputs, versions whose scores are known.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use domain::{
    Column, EndpointName, Frame, PredictionId, Span, Timestamp,
    definition::{Endpoint, MonitorSpec, Persistence, ReviewSpec},
    ports::PredictionTap,
    prediction::{Label, LabelOrigin, LabelTarget, PredictionBatch, Scored, TargetRole},
};
use evaluator::{Evaluator, Watch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use runtime::{Clock, House, Metrics};
use stats::{ColumnReference, Holdout, Reference};
use storage::{LocalBlobs, Meta, Tables};

pub const HOUR: i64 = 3_600_000_000;
pub const DAY: i64 = 24 * HOUR;

pub fn at(hour: i64) -> Timestamp {
    Timestamp::from_micros(1_364_774_400_000_000 + hour * HOUR) // 2013-04-01T00:00:00Z
}

pub fn endpoint() -> EndpointName {
    "pumps".parse().unwrap()
}

pub struct World {
    pub evaluator: Evaluator,
    pub house: House,
    pub meta: Meta,
    pub metrics: Metrics,
}

impl World {
    pub async fn open(dir: &Path) -> Self {
        Self::open_with(dir, 65_536).await
    }

    pub async fn open_with(dir: &Path, queue_rows: usize) -> Self {
        let meta = storage::testing::meta_in(dir).await;
        let blobs = Arc::new(LocalBlobs::open(&dir.join("blobs")).await.unwrap());
        let tables = Tables::open(meta.clone(), blobs, &dir.join("wal")).await.unwrap();
        let (house, metrics, clock) = (House::new(), Metrics::new(), Clock::manual(at(0)));
        let evaluator = Evaluator::open_with(meta.clone(), tables, clock, house.clone(), metrics.clone(), queue_rows)
            .await
            .unwrap();
        Self { evaluator, house, meta, metrics }
    }

    pub async fn close(self) {
        assert!(self.house.shutdown(Duration::from_secs(60)).await.is_empty());
    }

    /// Kinds and subjects of the journal's events, oldest first.
    pub async fn story(&self) -> Vec<domain::Event> {
        self.meta.journal().read(0, 10_000).await.unwrap()
    }
}

pub fn definition() -> Endpoint {
    Endpoint {
        name: endpoint(),
        model: "pump-failure".parse().unwrap(),
        service: "pump-inputs".parse().unwrap(),
        label_key: vec!["pump".parse().unwrap()],
        labels: domain::definition::LabelSpec {
            source: "failures".parse().unwrap(),
            key: vec!["pump".parse().unwrap()],
            column: "failed".parse().unwrap(),
        },
        sample: 1.0,
        threshold: 0.5,
        review: ReviewSpec { band: 0.0, max_open: 0 },
        monitor: MonitorSpec {
            window: Span::from_micros(DAY),
            every: Span::from_micros(DAY),
            label_delay: Span::from_micros(2 * HOUR),
            slices: vec!["site".to_owned()],
            min_labels: 100,
            max_log_loss_rise: 0.05,
            max_bias: 0.05,
            max_weighted_psi: None,
            persistence: Persistence { fired: 2, of: 3 },
        },
        description: String::new(),
    }
}

/// What the versions were trained on: `heat` from 0 to 1 evenly, three sites, scores equal to `heat`.
pub fn reference() -> Reference {
    let heat: Vec<_> = (0..2_000).map(|i| Some((f64::from(i) + 0.5) / 2_000.0)).collect();
    let sites: Vec<_> = (0..2_000).map(|i| Some(["north", "south", "east"][i % 3])).collect();
    Reference {
        columns: BTreeMap::from([
            ("heat".to_owned(), ColumnReference::fit_numeric(&heat, 20)),
            ("site".to_owned(), ColumnReference::fit_categorical(&sites, 50)),
        ]),
        prediction: ColumnReference::fit_numeric(&heat, 20),
        importance: BTreeMap::from([("heat".to_owned(), 0.2), ("site".to_owned(), 0.0)]),
        // Log loss of a calibrated score that is uniform on 0..1 is 0.5, its Brier score 1/6.
        holdout: Holdout { rows: 2_000, log_loss: 0.5, auc: Some(0.833), brier: 1.0 / 6.0, rate: 0.5 },
    }
}

pub fn watch(champion: u32) -> Watch {
    watch_as(definition(), champion)
}

pub fn watch_as(definition: Endpoint, champion: u32) -> Watch {
    Watch { definition, references: (1..=3).map(|v| (v, reference())).collect(), champion }
}

/// One prediction to offer.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: PredictionId,
    pub at: Timestamp,
    pub key: Option<Arc<str>>,
    pub heat: Option<f64>,
    pub site: Option<&'static str>,
    pub scores: Vec<(u32, TargetRole, f32)>,
    pub truth: bool,
}

/// Rows by the hour whose truth follows their heat; `skew` is added to the chance of failure, and the live
/// version 1 knows nothing of it. Version 2 shadows with a score that does know.
pub fn rows(seed: u64, hours: std::ops::Range<i64>, per_hour: usize, skew: f64) -> Vec<Row> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut unit = move || f64::from(chance.next_u32()) / 4_294_967_296.0;
    let mut rows = Vec::new();
    for hour in hours {
        for i in 0..per_hour {
            let heat = unit();
            let truth_chance = (heat + skew).clamp(0.02, 0.98);
            rows.push(Row {
                id: PredictionId::mint(),
                // A second past, so that no row lies on the edge of a window.
                at: at(hour) + Span::from_micros(1_000_000 + i as i64 * HOUR / per_hour as i64),
                key: Some(format!("{seed}-{hour}-{i}").into()),
                heat: Some(heat),
                site: Some(["north", "south", "east"][i % 3]),
                scores: vec![
                    (1, TargetRole::Live, heat.clamp(0.02, 0.98) as f32),
                    (2, TargetRole::Shadow, truth_chance as f32),
                ],
                truth: unit() < truth_chance,
            });
        }
    }
    rows
}

pub fn batch(rows: &[Row]) -> PredictionBatch {
    let mut scored: Vec<Scored> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        for &(version, role, score) in &row.scores {
            match scored.iter_mut().find(|s| s.version == version && s.role == role) {
                Some(s) => s.scores.push((i, score)),
                None => scored.push(Scored { version, role, scores: vec![(i, score)] }),
            }
        }
    }
    let inputs = Frame::new([
        ("heat".into(), Column::Float(rows.iter().map(|r| r.heat).collect())),
        ("site".into(), Column::Text(rows.iter().map(|r| r.site.map(Into::into)).collect())),
    ]);
    PredictionBatch {
        endpoint: endpoint(),
        ids: rows.iter().map(|r| r.id).collect(),
        event_times: rows.iter().map(|r| r.at).collect(),
        served_at: at(0),
        label_keys: rows.iter().map(|r| r.key.clone()).collect(),
        inputs: inputs.unwrap(),
        scored,
    }
}

/// The outcome, known an hour after the prediction.
pub fn outcome(row: &Row) -> Label {
    label(LabelTarget::Key(row.key.clone().unwrap()), row.truth, row.at + Span::HOUR)
}

pub fn label(target: LabelTarget, value: bool, known_at: Timestamp) -> Label {
    Label { target, value, known_at, origin: LabelOrigin::Outcome, reviewer: None }
}

/// Offers rows hour by hour, with the outcomes of the hour before, as a replay would.
pub async fn play(evaluator: &Evaluator, rows: &[Row]) {
    let mut before: Vec<Label> = Vec::new();
    for hour in rows.chunk_by(|a, b| a.at.floor(Span::HOUR) == b.at.floor(Span::HOUR)) {
        assert!(evaluator.offer(batch(hour)));
        if !before.is_empty() {
            let report = evaluator.labels(&endpoint(), std::mem::take(&mut before)).await.unwrap();
            assert_eq!(report.problems, []);
        }
        before = hour.iter().map(outcome).collect();
    }
    if !before.is_empty() {
        evaluator.labels(&endpoint(), before).await.unwrap();
    }
    evaluator.settle(&endpoint()).await.unwrap();
}
