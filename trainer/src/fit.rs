use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use backends::{MODEL_FILE, OUTPUT};
use domain::{
    Field, Frame, ModelFiles, Signature, Timestamp, ValueType,
    definition::{EstimatorSpec, Learner},
};

use stats::reference::Holdout;

use crate::{
    Progress, TrainJob, Trained, TrainerError,
    importance::importance,
    job::metric,
    mlmodel,
    net::{self, Rows},
    parity,
    prep::{Plan, Preprocessor},
    reference, rows,
    scores::Scores,
};

/// Fewer rows than this teach nothing worth serving.
const TRAIN_ROWS_MIN: usize = 100;
/// Fewer rows than this judge nothing.
const HOLDOUT_ROWS_MIN: usize = 20;
/// Widest hidden layer.
const HIDDEN_MAX: usize = 4_096;

/// Fits a model in this process: learns on `train`, stops by its newest tenth, judges on `holdout`.
///
/// The same job on the same data and machine gives the same model; only the two metrics of time differ.
///
/// # Errors
/// When the job is wrong or does not fit the data, the data is too little or one-sided, training diverges, or ONNX
/// Runtime is missing or computes something else than candle.
pub fn fit(
    job: &TrainJob,
    train: &Frame,
    holdout: &Frame,
    mut progress: impl FnMut(Progress),
) -> Result<Trained, TrainerError> {
    let start = Instant::now();
    check(&job.estimator)?;
    let plan = Plan::new(&job.inputs, train, &[&job.label, &job.event_time])?;
    let labels = rows::labels(job, "training", train)?;
    let holdout_labels = rows::labels(job, "holdout", holdout)?;
    rows::enough(job, "training", &labels, TRAIN_ROWS_MIN)?;
    rows::enough(job, "holdout", &holdout_labels, HOLDOUT_ROWS_MIN)?;
    let times = rows::times(job, "training", train)?;

    let (older, newest) = rows::split(&times);
    let (learn, valid) = (train.take(&older), train.take(&newest));
    // Scales and categories come from the rows that are learned from: a category of the newest tenth alone would have
    // a vector that nothing ever trained.
    let prep = Preprocessor::fit(&plan, job.estimator.learner, &learn)?;
    if prep.width() == 0 && prep.embeddings.is_empty() {
        return Err(TrainerError::input(
            &job.inputs[0].column,
            "no category is seen `min_count` times, nor is there another input",
        ));
    }
    let pick = |which: &[usize]| which.iter().map(|&row| labels[row]).collect::<Vec<_>>();
    let learn_times: Vec<Timestamp> = older.iter().map(|&row| times[row]).collect();
    let learn = Rows {
        encoded: prep.encode(&learn)?,
        labels: pick(&older),
        weights: rows::weights(&learn_times, job.estimator.half_life),
    };
    rows::enough(job, "training", &learn.labels, 1)?;
    let valid = Rows { encoded: prep.encode(&valid)?, labels: pick(&newest), weights: vec![1.0; newest.len()] };
    progress(Progress::Started { rows: older.len(), valid_rows: newest.len(), holdout_rows: holdout.rows() });

    let learned = net::train(&prep, &job.estimator, job.seed, &learn, &valid, |e| {
        progress(Progress::Epoch {
            epoch: e.epoch,
            train_loss: e.train_loss,
            valid_loss: e.valid_loss,
            valid_auc: e.valid_auc,
            seconds: e.seconds,
        });
    })?;

    let onnx = backends::init(None)?;
    let signature = Signature { inputs: prep.inputs.clone(), outputs: vec![Field::new(OUTPUT, ValueType::Float)] };
    let mut files = ModelFiles::from([(MODEL_FILE.to_owned(), learned.net.to_onnx(&job.model, &prep)?.into())]);
    let backend = backends::load(&signature, &files)?;
    let parity = parity::prove(&*backend, &learned.net, &prep, holdout)?;
    progress(Progress::Parity { max_abs_diff: parity.max_abs_diff });

    let judged = Scores::new(&parity.scores, &holdout_labels);
    let constant = vec![rows::rate(&labels) as f32; holdout_labels.len()];
    let epoch_seconds: f64 = learned.epochs.iter().map(|epoch| epoch.seconds).sum();
    let best = learned.epochs[learned.best];
    let mut metrics: BTreeMap<String, f64> = [
        (metric::LOG_LOSS, judged.log_loss()),
        (metric::AUC, judged.auc()),
        (metric::BRIER, judged.brier()),
        (metric::RATE, rows::rate(&holdout_labels)),
        (metric::ROWS, holdout_labels.len() as f64),
        (metric::BASELINE_LOG_LOSS, Scores::new(&constant, &holdout_labels).log_loss()),
        (metric::TRAIN_ROWS, older.len() as f64),
        (metric::TRAIN_RATE, rows::rate(&learn.labels)),
        (metric::VALID_ROWS, newest.len() as f64),
        (metric::VALID_LOG_LOSS, best.valid_loss),
        (metric::BEST_EPOCH, f64::from(best.epoch)),
        (metric::PARITY, parity.max_abs_diff),
        (metric::ROWS_PER_SECOND, (older.len() * learned.epochs.len()) as f64 / epoch_seconds.max(1e-9)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();

    let importance = importance(&learned.net, &prep, holdout, &holdout_labels, job.seed)?;
    let holdout = Holdout {
        rows: holdout_labels.len() as u64,
        log_loss: judged.log_loss(),
        auc: Some(judged.auc()),
        brier: judged.brier(),
        rate: rows::rate(&holdout_labels),
    };
    let reference = reference::write(&prep, train, &parity.scores, &importance, holdout)?;
    files.insert(reference::FILE.to_owned(), reference.into());
    let mlmodel = mlmodel::write(&job.id, &prep.inputs, now(), &onnx.version)?;
    files.insert(mlmodel::FILE.to_owned(), mlmodel.into_bytes().into());
    metrics.insert(metric::FIT_SECONDS.to_owned(), start.elapsed().as_secs_f64());
    progress(Progress::Finished {
        best_epoch: best.epoch,
        holdout_log_loss: metrics[metric::LOG_LOSS],
        holdout_auc: metrics[metric::AUC],
    });
    Ok(Trained {
        files,
        signature,
        metrics,
        epochs: learned.epochs,
        params: params(job, &prep),
        environment: environment(job, &onnx.version),
        holdout_scores: parity.scores,
        importance,
    })
}

fn check(spec: &EstimatorSpec) -> Result<(), TrainerError> {
    let bad =
        |reason: &str| Err(TrainerError::BadEstimator { estimator: spec.name.clone(), reason: reason.to_owned() });
    match spec.learner {
        Learner::Mlp if spec.hidden.is_empty() => return bad("`mlp` needs the widths of its `hidden` layers"),
        Learner::Logistic if !spec.hidden.is_empty() => return bad("`hidden` belongs to `mlp`"),
        Learner::Logistic if spec.dropout != 0.0 => return bad("`dropout` belongs to `mlp`"),
        _ => {}
    }
    if spec.hidden.iter().any(|width| !(1..=HIDDEN_MAX).contains(width)) {
        return bad("`hidden` widths must lie between 1 and 4096");
    }
    if !(0.0..1.0).contains(&spec.dropout) {
        return bad("`dropout` must lie between 0 and below 1");
    }
    if !(1..=10_000).contains(&spec.epochs) {
        return bad("`epochs` must lie between 1 and 10000");
    }
    if !(1..=1_000_000).contains(&spec.batch_size) {
        return bad("`batch_size` must lie between 1 and 1000000");
    }
    if !(spec.learning_rate > 0.0 && spec.learning_rate <= 10.0) {
        return bad("`learning_rate` must lie above 0, at most at 10");
    }
    if !(0.0..=10.0).contains(&spec.weight_decay) {
        return bad("`weight_decay` must lie between 0 and 10");
    }
    if spec.half_life.is_some_and(|span| span.micros() <= 0) {
        return bad("`half_life` must be longer than nothing");
    }
    Ok(())
}

fn params(job: &TrainJob, prep: &Preprocessor) -> BTreeMap<String, String> {
    let spec = &job.estimator;
    let learner = match spec.learner {
        Learner::Logistic => "logistic",
        Learner::Mlp => "mlp",
    };
    let hidden: Vec<String> = spec.hidden.iter().map(ToString::to_string).collect();
    [
        ("estimator", spec.name.clone()),
        ("learner", learner.to_owned()),
        ("hidden", hidden.join("-")),
        ("dropout", spec.dropout.to_string()),
        ("epochs", spec.epochs.to_string()),
        ("batch_size", spec.batch_size.to_string()),
        ("learning_rate", spec.learning_rate.to_string()),
        ("weight_decay", spec.weight_decay.to_string()),
        ("patience", spec.patience.to_string()),
        ("half_life", spec.half_life.map(|span| span.to_string()).unwrap_or_default()),
        ("seed", job.seed.to_string()),
        ("input_columns", prep.inputs.len().to_string()),
        ("dense_inputs", prep.width().to_string()),
        ("embeddings", prep.embeddings.len().to_string()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn environment(job: &TrainJob, onnx_version: &str) -> BTreeMap<String, String> {
    [
        ("trainer", env!("CARGO_PKG_VERSION").to_owned()),
        ("candle", "0.11".to_owned()),
        ("onnxruntime", onnx_version.to_owned()),
        ("os", std::env::consts::OS.to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
        ("threads", job.threads.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Wall time, for the record only: no decision hangs on it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
