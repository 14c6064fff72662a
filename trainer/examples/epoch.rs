//! How many rows a second does an epoch learn? 45 numbers and 3 embeddings -> 64 -> 32 -> 1, batches of 512.
//!
//! `RAYON_NUM_THREADS=1 cargo run -p trainer --example epoch`

use std::sync::Arc;

use domain::{
    Column, Frame, JobId, Span, Timestamp,
    definition::{EstimatorSpec, InputSpec, Learner, Prep},
};
use rand::RngExt as _;
use trainer::{Progress, TrainJob, TrainerError};

const ROWS: usize = 100_000;
const NUMBERS: usize = 45;

fn rows(count: usize, seed: u64) -> Frame {
    let mut random = runtime::seeded(seed, "rows");
    let mut columns: Vec<Vec<Option<f64>>> = vec![Vec::new(); NUMBERS];
    let mut texts: Vec<Vec<Option<Arc<str>>>> = vec![Vec::new(); 3];
    let names: Vec<Arc<str>> = (0..100).map(|i| format!("place{i}").into()).collect();
    let (mut labels, mut times) = (Vec::new(), Vec::new());
    for row in 0..count {
        let mut odds = -1.0;
        for (at, column) in columns.iter_mut().enumerate() {
            let x: f64 = random.random_range(-2.0..2.0);
            odds += x * 0.1 * (at % 5) as f64;
            column.push(Some(x));
        }
        for (text, known) in texts.iter_mut().zip([16, 3, 100]) {
            let at = random.random_range(0..known);
            odds += at as f64 / known as f64;
            text.push(Some(names[at].clone()));
        }
        labels.push(Some(random.random_bool(1.0 / (1.0 + (-odds).exp()))));
        times.push(Some(Timestamp::from_micros(row as i64 * Span::HOUR.micros())));
    }
    let numbers = columns.into_iter().enumerate().map(|(i, v)| (format!("x{i}").into(), Column::Float(v)));
    let texts = texts.into_iter().enumerate().map(|(i, v)| (format!("c{i}").into(), Column::Text(v)));
    let rest = [("label".into(), Column::Bool(labels)), ("event_timestamp".into(), Column::Timestamp(times))];
    Frame::new(numbers.chain(texts).chain(rest)).expect("columns of equal length")
}

fn main() -> Result<(), TrainerError> {
    backends::silence_telemetry();
    let input = |column: String, prep| InputSpec {
        column,
        prep,
        minus: None,
        period: None,
        dim: (prep == Prep::Embedding).then_some(8),
        clip: 5.0,
        min_count: 20,
    };
    let numbers = (0..NUMBERS).map(|i| input(format!("x{i}"), Prep::Numeric));
    let inputs = numbers.chain((0..3).map(|i| input(format!("c{i}"), Prep::Embedding))).collect();
    let (train, holdout) = (rows(ROWS, 1), rows(20_000, 2));
    let hidden: Vec<usize> = std::env::args().skip(1).filter_map(|width| width.parse().ok()).collect();
    let job = TrainJob {
        id: JobId::mint(),
        model: "epoch".into(),
        inputs,
        estimator: EstimatorSpec {
            name: "mlp".into(),
            learner: Learner::Mlp,
            hidden: if hidden.is_empty() { vec![64, 32] } else { hidden },
            dropout: 0.1,
            epochs: 4,
            batch_size: 512,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            patience: 4,
            half_life: None,
        },
        label: "label".into(),
        event_time: "event_timestamp".into(),
        seed: 1,
        threads: 1,
    };
    let trained = trainer::fit(&job, &train, &holdout, |step| {
        if let Progress::Epoch { epoch, seconds, valid_loss, .. } = step {
            println!("epoch {epoch}: {:.0} rows/s, valid loss {valid_loss:.4}", ROWS as f64 * 0.9 / seconds);
        }
    })?;
    for (name, value) in &trained.metrics {
        println!("{name} {value:.6}");
    }
    Ok(())
}
