//! Generated data with known answers.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::{Arc, Once};

use domain::{
    Column, Frame, JobId, Span, Timestamp,
    definition::{EstimatorSpec, InputSpec, Learner, Prep},
};
use rand::RngExt as _;
use runtime::seeded;
use trainer::{Progress, TrainJob, Trained, TrainerError};

pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        backends::silence_telemetry();
        backends::init(None).unwrap();
    });
}

pub fn input(column: &str, prep: Prep) -> InputSpec {
    let period = (prep == Prep::Cycle).then_some(24.0);
    let dim = (prep == Prep::Embedding).then_some(4);
    InputSpec { column: column.into(), prep, minus: None, period, dim, clip: 5.0, min_count: 5 }
}

pub fn logistic() -> EstimatorSpec {
    EstimatorSpec {
        name: "baseline".into(),
        learner: Learner::Logistic,
        hidden: Vec::new(),
        dropout: 0.0,
        epochs: 30,
        batch_size: 128,
        learning_rate: 0.02,
        weight_decay: 0.0,
        patience: 3,
        half_life: None,
    }
}

pub fn mlp() -> EstimatorSpec {
    EstimatorSpec {
        name: "mlp".into(),
        learner: Learner::Mlp,
        hidden: vec![32, 16],
        dropout: 0.1,
        epochs: 30,
        learning_rate: 0.005,
        weight_decay: 0.01,
        ..logistic()
    }
}

pub fn job(inputs: Vec<InputSpec>, estimator: EstimatorSpec) -> TrainJob {
    TrainJob {
        id: JobId::mint(),
        model: "test".into(),
        inputs,
        estimator,
        label: "label".into(),
        event_time: "event_timestamp".into(),
        seed: 7,
        threads: 1,
    }
}

/// Rows of standard normal `x1`, `x2`, noise `x3` and a label whose log odds are `odds(x1, x2)`, with those odds.
pub fn normal_rows(rows: usize, seed: u64, odds: impl Fn(f64, f64) -> f64) -> (Frame, Vec<f64>) {
    let mut random = seeded(seed, "rows");
    let mut normal = || (0..12).map(|_| random.random_range(0.0..1.0)).sum::<f64>() - 6.0;
    let (mut x1, mut x2, mut x3, mut logits) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rows {
        let (a, b) = (normal(), normal());
        logits.push(odds(a, b));
        x1.push(Some(a));
        x2.push(Some(b));
        x3.push(Some(normal()));
    }
    let mut chance = seeded(seed, "labels");
    let labels = logits.iter().map(|z| Some(chance.random_bool(1.0 / (1.0 + (-z).exp())))).collect();
    let frame = Frame::new([
        ("x1".into(), Column::Float(x1)),
        ("x2".into(), Column::Float(x2)),
        ("x3".into(), Column::Float(x3)),
        ("label".into(), Column::Bool(labels)),
        ("event_timestamp".into(), times(rows)),
    ])
    .unwrap();
    (frame, logits)
}

pub fn times(rows: usize) -> Column {
    Column::Timestamp((0..rows as i64).map(|i| Some(Timestamp::from_micros(i * Span::HOUR.micros()))).collect())
}

/// Every type and every kind of hole: nulls, rare categories, a constant, a huge offset.
pub fn mixed_rows(rows: usize, seed: u64) -> Frame {
    let mut random = seeded(seed, "mixed");
    let places = ["JFK", "LGA", "EWR", "ÖSD"];
    let mut columns: [Vec<Option<f64>>; 4] = Default::default();
    let (mut place, mut seats, mut wet, mut labels) = (vec![], vec![], vec![], vec![]);
    for row in 0..rows {
        let delay: f64 = random.random_range(-5.0..300.0);
        let at = random.random_range(0..places.len());
        let hour: f64 = random.random_range(0.0..24.0);
        let usual: f64 = random.random_range(0.0..100.0);
        columns[0].push((row % 7 != 0).then_some(delay));
        columns[1].push((row % 11 != 0).then_some(hour));
        columns[2].push(Some(1_600_000_000.0 + usual * 1e5));
        columns[3].push((row % 13 != 0).then_some(usual));
        let name = if row % 97 == 0 { format!("rare{row}") } else { places[at].to_owned() };
        place.push((row % 17 != 0).then(|| Arc::from(name)));
        seats.push((row % 19 != 0).then_some([20, 55, 140, 300][at]));
        wet.push((row % 23 != 0).then_some(random.random_bool(0.3)));
        let z = (delay - 150.0) / 100.0 + (hour / 24.0 * std::f64::consts::TAU).sin() + at as f64 - 1.5;
        labels.push(Some(random.random_bool(1.0 / (1.0 + (-z).exp()))));
    }
    let [delay, hour, epoch, usual] = columns;
    Frame::new([
        ("delay".into(), Column::Float(delay)),
        ("hour".into(), Column::Float(hour)),
        ("epoch".into(), Column::Float(epoch)),
        ("usual".into(), Column::Float(usual)),
        ("always".into(), Column::Int(vec![Some(3); rows])),
        ("never".into(), Column::Float(vec![None; rows])),
        ("place".into(), Column::Text(place)),
        ("seats".into(), Column::Int(seats)),
        ("wet".into(), Column::Bool(wet)),
        ("label".into(), Column::Bool(labels)),
        ("event_timestamp".into(), times(rows)),
    ])
    .unwrap()
}

pub fn mixed_inputs() -> Vec<InputSpec> {
    let difference = InputSpec { minus: Some("usual".into()), ..input("delay", Prep::Difference) };
    vec![
        input("delay", Prep::Numeric),
        input("delay", Prep::Log),
        difference,
        input("hour", Prep::Cycle),
        input("hour", Prep::Numeric),
        input("epoch", Prep::Numeric),
        input("usual", Prep::Log),
        input("always", Prep::Numeric),
        input("never", Prep::Numeric),
        input("never", Prep::OneHot),
        input("wet", Prep::Numeric),
        input("wet", Prep::OneHot),
        input("seats", Prep::OneHot),
        input("seats", Prep::Embedding),
        input("place", Prep::OneHot),
        input("place", Prep::Embedding),
    ]
}

pub fn fit(job: &TrainJob, train: &Frame, holdout: &Frame) -> Result<Trained, TrainerError> {
    start();
    trainer::fit(job, train, holdout, |_: Progress| {})
}

/// Area under the curve, by counting pairs.
pub fn auc(scores: &[f64], labels: &Frame) -> f64 {
    let Some(Column::Bool(labels)) = labels.column("label") else { panic!("no labels") };
    let of = |wanted| scores.iter().zip(labels).filter(move |(_, y)| **y == Some(wanted)).map(|(s, _)| *s);
    let (mut won, mut pairs) = (0.0, 0.0);
    for positive in of(true) {
        for negative in of(false) {
            pairs += 1.0;
            won += if positive > negative {
                1.0
            } else if positive == negative {
                0.5
            } else {
                0.0
            };
        }
    }
    won / pairs
}
