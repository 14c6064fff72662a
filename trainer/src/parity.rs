//! Proof that the exported graph computes what was trained, on the holdout and on rows made to break it.

use std::sync::Arc;

use backends::Backend;
use domain::{Column, Field, Frame, ValueType};

use crate::{TrainerError, net::Net, prep::Preprocessor};

/// Largest difference between the two engines' probabilities that is let through.
pub(crate) const ALLOWED: f64 = 1e-5;
/// Holdout rows on which probes are built, and rows per run.
const BASES: usize = 8;
const BATCH: usize = 4_096;

/// ONNX Runtime's scores for the holdout, and the largest difference seen anywhere.
pub(crate) struct Parity {
    pub(crate) scores: Vec<f32>,
    pub(crate) max_abs_diff: f64,
}

/// Compares the engines on all rows of `holdout` and on the probes.
pub(crate) fn prove(
    backend: &dyn Backend,
    net: &Net,
    prep: &Preprocessor,
    holdout: &Frame,
) -> Result<Parity, TrainerError> {
    let columns = holdout.select(prep.inputs.iter().map(|field| &*field.name))?;
    let (probes, names) = probes(&prep.inputs, &columns);
    let scores = run(backend, &columns)?;
    let (at, on_holdout) = largest(&scores, &net.predict(&prep.encode(&columns)?)?);
    let (probe, on_probes) = largest(&run(backend, &probes)?, &net.predict(&prep.encode(&probes)?)?);
    let max_abs_diff = on_holdout.max(on_probes);
    if max_abs_diff > ALLOWED {
        let row = if on_holdout >= on_probes { format!("holdout row {at}") } else { names[probe].clone() };
        return Err(TrainerError::Parity { max_abs_diff, allowed: ALLOWED, row });
    }
    Ok(Parity { scores, max_abs_diff })
}

fn run(backend: &dyn Backend, rows: &Frame) -> Result<Vec<f32>, TrainerError> {
    let all: Vec<usize> = (0..rows.rows()).collect();
    let mut scores = Vec::with_capacity(all.len());
    for batch in all.chunks(BATCH) {
        scores.extend(backend.predict(&rows.take(batch))?);
    }
    Ok(scores)
}

/// Where the two differ most, and by how much; a difference that is no number counts as endless.
fn largest(a: &[f32], b: &[f32]) -> (usize, f64) {
    let difference = |(a, b): (&f32, &f32)| {
        let difference = f64::from((a - b).abs());
        if difference.is_nan() { f64::INFINITY } else { difference }
    };
    a.iter().zip(b).map(difference).enumerate().fold((0, 0.0), |worst, now| if now.1 > worst.1 { now } else { worst })
}

/// Rows like the first of the holdout in which one column, then every column, is null, unseen or extreme; with names.
fn probes(inputs: &[Field], holdout: &Frame) -> (Frame, Vec<String>) {
    let cases = inputs.iter().map(|field| hostile(field.kind).len()).max().unwrap_or(0);
    let bases = BASES.min(holdout.rows());
    let mut names = Vec::new();
    let mut base_of = Vec::new();
    let mut changes: Vec<(Option<usize>, usize)> = Vec::new();
    for (at, field) in inputs.iter().enumerate() {
        for (case, (name, _)) in hostile(field.kind).iter().enumerate() {
            names.push(format!("a row whose `{}` is {name}", field.name));
            base_of.push(changes.len() % bases);
            changes.push((Some(at), case));
        }
    }
    for case in 0..cases {
        names.push(format!("a row with hostile value {case} in every column"));
        base_of.push(changes.len() % bases);
        changes.push((None, case));
    }
    let mut probes = Frame::of_rows(changes.len());
    for (at, field) in inputs.iter().enumerate() {
        let hostile = hostile(field.kind);
        let column = holdout.column(&field.name).expect("selected above").take(&base_of);
        let mut changed = Column::with_capacity(field.kind, changes.len());
        for (row, &(only, case)) in changes.iter().enumerate() {
            let hit = only.is_none_or(|only| only == at);
            let value = if hit { hostile[case % hostile.len()].1.get(0) } else { column.get(row) };
            changed.push(value).expect("hostile values have their column's type");
        }
        probes.add(field.name.clone(), changed).expect("names are distinct and lengths equal");
    }
    (probes, names)
}

fn hostile(kind: ValueType) -> Vec<(&'static str, Column)> {
    let float = |name, x| (name, Column::Float(vec![x]));
    let int = |name, x| (name, Column::Int(vec![x]));
    let text = |name, x: Option<&str>| (name, Column::Text(vec![x.map(Arc::from)]));
    match kind {
        ValueType::Bool => [("null", None), ("true", Some(true)), ("false", Some(false))]
            .map(|(name, x)| (name, Column::Bool(vec![x])))
            .to_vec(),
        ValueType::Int => vec![
            int("null", None),
            int("0", Some(0)),
            int("-1", Some(-1)),
            int("2^24 + 1", Some((1 << 24) + 1)),
            int("the greatest int", Some(i64::MAX)),
            int("the least int", Some(i64::MIN)),
        ],
        ValueType::Float => vec![
            float("null", None),
            float("-0.0", Some(-0.0)),
            float("-1", Some(-1.0)),
            float("1e-40", Some(1e-40)),
            float("1e30", Some(1e30)),
            float("-1e30", Some(-1e30)),
            float("the greatest float", Some(f64::MAX)),
            float("the least float", Some(f64::MIN)),
            float("NaN", Some(f64::NAN)),
        ],
        ValueType::Text | ValueType::Timestamp | ValueType::List(_) => vec![
            text("null", None),
            text("empty", Some("")),
            text("unseen", Some("no such category \u{1F986}")),
            text("a blank", Some(" ")),
            text("a text with a NUL", Some("a\0b")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use backends::BackendError;
    use domain::{
        Signature,
        definition::{EstimatorSpec, InputSpec, Learner},
    };

    use super::*;
    use crate::prep::Plan;

    #[test]
    fn probes_reach_every_column_with_every_hostile_value() {
        let holdout = Frame::new([
            ("x".into(), Column::Float(vec![Some(1.0), Some(2.0)])),
            ("place".into(), Column::Text(vec![Some("JFK".into()), None])),
        ])
        .unwrap();
        let (probes, names) = probes(&holdout.fields(), &holdout);
        assert_eq!(probes.rows(), 9 + 5 + 9);
        assert_eq!(names[0], "a row whose `x` is null");
        assert_eq!(probes.column("x").unwrap().get(6), domain::Value::Float(f64::MAX));
        assert_eq!(probes.column("place").unwrap().get(0), domain::Value::Text("JFK".into()));
        assert_eq!(probes.column("x").unwrap().get(14), domain::Value::Null);
        assert_eq!(probes.column("place").unwrap().get(14), domain::Value::Null);
    }

    /// Answers as the net does, but for one category.
    struct Doctored<'a> {
        net: &'a Net,
        prep: &'a Preprocessor,
        signature: Signature,
        wrong_by: f32,
    }

    impl Backend for Doctored<'_> {
        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn predict(&self, rows: &Frame) -> Result<Vec<f32>, BackendError> {
            let mut scores = self.net.predict(&self.prep.encode(rows).unwrap()).unwrap();
            let Some(Column::Text(places)) = rows.column("place") else { panic!("a text column") };
            for (score, place) in scores.iter_mut().zip(places) {
                if place.as_deref() == Some(" ") {
                    *score += self.wrong_by;
                }
            }
            Ok(scores)
        }
    }

    #[test]
    fn a_graph_that_errs_on_one_hostile_value_is_refused() {
        let text = |t: &str| Some(Arc::<str>::from(t));
        let holdout = Frame::new([("place".into(), Column::Text(vec![text("JFK"), text("LGA"), None]))]).unwrap();
        let spec: InputSpec =
            serde_json::from_value(serde_json::json!({"column": "place", "prep": "one_hot", "min_count": 1})).unwrap();
        let estimator: EstimatorSpec =
            serde_json::from_value(serde_json::json!({"name": "line", "learner": "logistic"})).unwrap();
        let plan = Plan::new(&[spec], &holdout, &[]).unwrap();
        let prep = Preprocessor::fit(&plan, Learner::Logistic, &holdout).unwrap();
        let net = Net::new(&prep, &estimator, 0.3, 1).unwrap();
        let judge = |wrong_by| {
            let backend = Doctored { net: &net, prep: &prep, signature: Signature::default(), wrong_by };
            prove(&backend, &net, &prep, &holdout)
        };
        assert_eq!(judge(0.0).unwrap().max_abs_diff, 0.0);
        assert!(judge(9e-6).unwrap().max_abs_diff > 8e-6);
        let error = judge(2e-5).err().unwrap();
        assert!(
            matches!(error, TrainerError::Parity { .. }) && error.to_string().contains("`place` is a blank"),
            "{error}"
        );
    }

    #[test]
    fn an_answer_that_is_no_number_is_the_largest_difference() {
        assert_eq!(largest(&[0.5, f32::NAN], &[0.4, 0.5]), (1, f64::INFINITY));
    }
}
