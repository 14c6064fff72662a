//! What the learners find in data whose truth is known.

mod common;

use common::{fit, input, job, logistic, mixed_inputs, mixed_rows, mlp, normal_rows};
use domain::{
    Coded as _, Column, ErrorCode, Frame,
    definition::{InputSpec, Prep},
};
use trainer::{TrainerError, metric};

fn numeric(columns: &[&str]) -> Vec<InputSpec> {
    columns.iter().map(|column| input(column, Prep::Numeric)).collect()
}

#[test]
fn logistic_regression_finds_a_linear_signal() {
    let truth = |a: f64, b: f64| 1.5 * a - b - 0.5;
    let (train, _) = normal_rows(6_000, 1, truth);
    let (holdout, logits) = normal_rows(3_000, 2, truth);
    let trained = fit(&job(numeric(&["x1", "x2", "x3"]), logistic()), &train, &holdout).unwrap();
    let best = common::auc(&logits, &holdout);
    let found = trained.metrics[metric::AUC];
    assert!(found > best - 0.005, "found {found}, possible {best}");
    assert!(trained.metrics[metric::LOG_LOSS] < trained.metrics[metric::BASELINE_LOG_LOSS] - 0.1);
    let importance = &trained.importance;
    assert!(importance["x1"] > importance["x2"] && importance["x2"] > 0.05, "{importance:?}");
    assert!(importance["x3"] < 0.005, "{importance:?}");
    let found = common::auc(&trained.holdout_scores.iter().map(|p| f64::from(*p)).collect::<Vec<_>>(), &holdout);
    assert!((found - trained.metrics[metric::AUC]).abs() < 1e-9, "scores are in the holdout's order");
}

#[test]
fn a_perceptron_finds_what_no_line_can() {
    let truth = |a: f64, b: f64| 4.0 * a.signum() * b.signum();
    let (train, _) = normal_rows(4_000, 3, truth);
    let (holdout, _) = normal_rows(2_000, 4, truth);
    let inputs = numeric(&["x1", "x2"]);
    let line = fit(&job(inputs.clone(), logistic()), &train, &holdout).unwrap().metrics[metric::AUC];
    let net = fit(&job(inputs, mlp()), &train, &holdout).unwrap().metrics[metric::AUC];
    assert!(line < 0.6, "{line}");
    assert!(net > 0.93, "{net}");
}

#[test]
fn every_step_agrees_in_candle_and_onnx_runtime_on_hostile_rows() {
    let (train, holdout) = (mixed_rows(2_500, 5), mixed_rows(2_100, 6));
    for estimator in [logistic(), mlp()] {
        let estimator = domain::definition::EstimatorSpec { epochs: 3, ..estimator };
        let trained = fit(&job(mixed_inputs(), estimator), &train, &holdout).unwrap();
        let difference = trained.metrics[metric::PARITY];
        assert!(difference <= 1e-5, "{difference:e}");
        assert!(trained.metrics[metric::AUC] > 0.7, "{:?}", trained.metrics);
        let names: Vec<&str> = trained.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["MLmodel", "model.onnx", "reference.json"]);
    }
}

#[test]
fn each_step_alone_agrees_too() {
    let (train, holdout) = (mixed_rows(600, 5), mixed_rows(300, 6));
    for spec in mixed_inputs() {
        let name = format!("{} {:?}", spec.column, spec.prep);
        for mut estimator in [logistic(), mlp()] {
            estimator.epochs = 1;
            match fit(&job(vec![spec.clone()], estimator), &train, &holdout) {
                Ok(trained) => assert!(trained.metrics[metric::PARITY] <= 1e-5, "{name}"),
                // No category of a column that is always null.
                Err(error) => assert!(spec.column == "never" && spec.prep == Prep::OneHot, "{name}: {error}"),
            }
        }
    }
}

#[test]
fn a_served_model_answers_nulls_and_unseen_categories() {
    let (train, holdout) = (mixed_rows(1_500, 5), mixed_rows(500, 6));
    let trained = fit(&job(mixed_inputs(), mlp()), &train, &holdout).unwrap();
    let model = backends::load(&trained.signature, &trained.files).unwrap();
    let served = model.predict(&holdout).unwrap();
    assert_eq!(served, trained.holdout_scores);

    let mut rows = Frame::of_rows(2);
    for field in &trained.signature.inputs {
        let mut column = Column::empty(field.kind);
        column.push(domain::Value::Null).unwrap();
        let unseen = match field.kind {
            domain::ValueType::Text => domain::Value::Text("never heard of".into()),
            _ => domain::Value::Null,
        };
        column.push(unseen).unwrap();
        rows.add(field.name.clone(), column).unwrap();
    }
    let scores = model.predict(&rows).unwrap();
    assert!(scores.iter().all(|p| (0.0..=1.0).contains(p)));
    assert_eq!(scores[0], scores[1], "an unseen category is what a null is");
}

#[test]
fn the_same_seed_and_data_give_the_same_model() {
    let (train, holdout) = (mixed_rows(800, 5), mixed_rows(300, 6));
    let run = |seed| {
        let mut job = job(mixed_inputs(), mlp());
        (job.seed, job.estimator.epochs) = (seed, 3);
        let mut trained = fit(&job, &train, &holdout).unwrap();
        trained.metrics.remove(metric::FIT_SECONDS);
        trained.metrics.remove(metric::ROWS_PER_SECOND);
        trained
    };
    let (first, second, other) = (run(1), run(1), run(2));
    assert_eq!(first.files["model.onnx"], second.files["model.onnx"]);
    assert_eq!(first.files["reference.json"], second.files["reference.json"]);
    assert_eq!(first.metrics, second.metrics);
    assert_eq!(first.holdout_scores, second.holdout_scores);
    assert_ne!(first.holdout_scores, other.holdout_scores);
}

#[test]
fn recent_rows_count_more_with_a_half_life() {
    // The signal turns round half way through: only a learner that forgets follows it.
    let (mut train, _) = normal_rows(4_000, 8, |a, _| 3.0 * a);
    let Some(Column::Bool(labels)) = train.remove("label") else { panic!("labels") };
    let turned = labels.iter().enumerate().map(|(row, y)| if row < 2_400 { y.map(|y| !y) } else { *y }).collect();
    train.add("label", Column::Bool(turned)).unwrap();
    let (holdout, _) = normal_rows(1_000, 9, |a, _| 3.0 * a);
    let inputs = numeric(&["x1"]);
    let forgetful = domain::definition::EstimatorSpec { half_life: Some("10d".parse().unwrap()), ..logistic() };
    // One epoch each, so that stopping early plays no part.
    let score = |mut estimator: domain::definition::EstimatorSpec| {
        estimator.epochs = 1;
        fit(&job(inputs.clone(), estimator), &train, &holdout).unwrap().metrics[metric::AUC]
    };
    assert!(score(logistic()) < 0.3);
    assert!(score(forgetful) > 0.8);
}

#[test]
fn wrong_jobs_are_refused_with_a_reason() {
    let (rows, _) = normal_rows(400, 1, |a, _| a);
    let refusal = |change: &dyn Fn(&mut trainer::TrainJob)| {
        let mut job = job(numeric(&["x1"]), logistic());
        change(&mut job);
        let error = fit(&job, &rows, &rows).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
        format!("{error}; {}", error.hint())
    };
    assert!(refusal(&|j| j.inputs.clear()).contains("no input columns"));
    assert!(refusal(&|j| j.inputs[0].column = "x_1".into()).contains("did you mean `x1`"));
    assert!(refusal(&|j| j.inputs[0].column = "label".into()).contains("label or the event time"));
    assert!(refusal(&|j| j.inputs[0].prep = Prep::Difference).contains("needs `minus`"));
    assert!(refusal(&|j| j.inputs[0].prep = Prep::Cycle).contains("needs `period`"));
    assert!(refusal(&|j| j.inputs[0].clip = 0.0).contains("`clip`"));
    assert!(refusal(&|j| j.estimator.hidden = vec![4]).contains("`hidden` belongs to `mlp`"));
    assert!(refusal(&|j| j.estimator.learning_rate = f64::NAN).contains("learning_rate"));
    assert!(refusal(&|j| j.label = "x2".into()).contains("`x2` is float where bool is needed"));
    assert!(refusal(&|j| j.event_time = "when".into()).contains("`when` is missing"));
    let missing_dim = refusal(&|j| {
        j.estimator = mlp();
        j.inputs[0] = InputSpec { dim: None, ..input("x1", Prep::Embedding) };
    });
    assert!(missing_dim.contains("`embedding` needs `dim`"), "{missing_dim}");
}

#[test]
fn text_cannot_be_a_number() {
    let rows = mixed_rows(300, 5);
    let error = fit(&job(vec![input("place", Prep::Log)], logistic()), &rows, &rows).unwrap_err();
    assert_eq!(error.to_string(), "input column `place` is text, which `log` cannot take");
}

#[test]
fn data_that_teaches_or_judges_nothing_is_refused() {
    let (rows, _) = normal_rows(400, 1, |a, _| a);
    let job = job(numeric(&["x1"]), logistic());
    let few = rows.take(&(0..60).collect::<Vec<_>>());
    assert!(matches!(fit(&job, &few, &rows), Err(TrainerError::TooFewRows { part: "training", rows: 60, .. })));
    let Some(Column::Bool(labels)) = rows.column("label") else { panic!("labels") };
    let positive: Vec<usize> = (0..400).filter(|&row| labels[row] == Some(true)).collect();
    let error = fit(&job, &rows, &rows.take(&positive)).unwrap_err();
    assert_eq!(error.to_string(), "the holdout rows have one class only: every `label` is true");
    let mut holes = rows.clone();
    let Some(Column::Bool(mut labels)) = holes.remove("label") else { panic!("labels") };
    labels[3] = None;
    holes.add("label", Column::Bool(labels)).unwrap();
    let error = fit(&job, &holes, &rows).unwrap_err();
    assert_eq!(error.to_string(), "row 3 of the training rows has no `label`");
}

#[test]
fn the_files_say_what_the_model_was_made_from() {
    let (train, holdout) = (mixed_rows(1_500, 5), mixed_rows(500, 6));
    let trained = fit(&job(mixed_inputs(), logistic()), &train, &holdout).unwrap();
    let reference: stats::Reference = serde_json::from_slice(&trained.files["reference.json"]).unwrap();
    let inputs: Vec<&str> = trained.signature.inputs.iter().map(|field| &*field.name).collect();
    assert_eq!(inputs, ["delay", "usual", "hour", "epoch", "always", "never", "wet", "seats", "place"]);
    assert_eq!(reference.columns.len(), inputs.len());
    assert!(reference.columns.values().all(|column| column.counts().rows() == 1_500));
    let kind = |name: &str| matches!(reference.columns[name], stats::ColumnReference::Categorical { .. });
    assert!(kind("place") && kind("wet") && kind("seats") && !kind("hour") && !kind("always"));
    assert_eq!(reference.prediction.counts().rows(), 500);
    assert_eq!(reference.importance, trained.importance);
    assert_eq!(reference.holdout.log_loss, trained.metrics[metric::LOG_LOSS]);

    let mlmodel = std::str::from_utf8(&trained.files["MLmodel"]).unwrap();
    for wanted in
        ["flavors:", "onnx:", "data: model.onnx", "python_function:", "utc_time_created:", r#""name":"probability""#]
    {
        assert!(mlmodel.contains(wanted), "{wanted} in {mlmodel}");
    }
    assert_eq!(trained.params["learner"], "logistic");
    assert!(trained.environment["onnxruntime"].starts_with("1."));
}
