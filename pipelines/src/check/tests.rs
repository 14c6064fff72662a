use super::*;
use crate::parse;

/// Definitions that stand; tests spoil one line at a time.
const GOOD: &str = "
kind: Entity
name: unit
key: unit
---
kind: Source
name: questions
timestamp: asked
columns:
  - {name: asked, type: timestamp}
  - {name: id, type: text}
  - {name: unit, type: text}
  - {name: load, type: int}
---
kind: Source
name: readings
timestamp: at
columns: [{name: at, type: timestamp}, {name: unit, type: text}, {name: heat, type: float}]
---
kind: Source
name: answers
timestamp: known
columns:
  - {name: known, type: timestamp}
  - {name: id, type: text}
  - {name: failed, type: bool}
---
kind: FeatureView
name: recent
source: readings
entities: [unit]
aggregations: [{name: heat_24h, column: heat, function: mean, window: 24h}]
---
kind: FeatureService
name: inputs
views: [{view: recent}]
request: [{name: load, type: float}]
---
kind: Endpoint
name: failure
model: failure
service: inputs
label_key: [id]
labels: {source: answers, key: [id], column: failed}
monitor: {slices: [unit]}
---
kind: Pipeline
name: retrain
model: failure
endpoint: failure
dataset:
  service: inputs
  spine: questions
  label: {source: answers, key: [id], column: failed}
  window: 30d
  holdout: 7d
inputs:
  - {column: load, prep: numeric}
  - {column: recent__heat_24h, prep: log}
  - {column: unit, prep: embedding, dim: 4}
estimators:
  - {name: simple, learner: logistic}
  - {name: net, learner: mlp, hidden: [16]}
";

fn problems(yaml: &str) -> Vec<String> {
    let batch = parse(yaml).expect("the file is read");
    let found = check(&batch, &Catalog::new(&batch));
    found.iter().map(ToString::to_string).collect()
}

/// What is wrong once `from` is written as `to`.
fn spoiled(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "`{from}` is not there to be spoiled");
    problems(&GOOD.replace(from, to))
}

#[test]
fn good_definitions_have_no_problems() {
    assert_eq!(problems(GOOD), Vec::<String>::new());
}

#[test]
fn names_that_do_not_exist_name_their_neighbours() {
    for (from, to, expected) in [
        (
            "endpoint: failure",
            "endpoint: failur",
            "Pipeline `retrain`: endpoint: endpoint `failur` does not exist: did you mean `failure`?",
        ),
        (
            "spine: questions",
            "spine: question",
            "Pipeline `retrain`: dataset.spine: source `question` does not exist: did you mean `questions`?",
        ),
        (
            "column: recent__heat_24h",
            "column: recent__heat_12h",
            "Pipeline `retrain`: inputs[1].column: column of the service `recent__heat_12h` does not exist: did you mean `recent__heat_24h`?",
        ),
        (
            "slices: [unit]",
            "slices: [uni]",
            "Endpoint `failure`: monitor.slices[0]: column of the service `uni` does not exist: did you mean `unit`?",
        ),
        (
            "service: inputs\nlabel_key",
            "service: input\nlabel_key",
            "Endpoint `failure`: service: feature service `input` does not exist: did you mean `inputs`?",
        ),
    ] {
        assert_eq!(spoiled(from, to), [expected]);
    }
}

#[test]
fn a_preparation_has_exactly_its_parameters() {
    assert_eq!(
        spoiled("{column: load, prep: numeric}", "{column: load, prep: cycle}"),
        ["Pipeline `retrain`: inputs[0].period: is missing: prep `cycle` needs it"]
    );
    assert_eq!(
        spoiled("{column: load, prep: numeric}", "{column: load, prep: numeric, dim: 3}"),
        ["Pipeline `retrain`: inputs[0].dim: belongs to prep `embedding` only"]
    );
    assert_eq!(
        spoiled("{column: load, prep: numeric}", "{column: unit, prep: numeric}"),
        ["Pipeline `retrain`: inputs[0].column: `unit` is text where a number is needed"]
    );
}

#[test]
fn numbers_out_of_range_are_found_all_at_once() {
    let spoiled = format!(
        "{}gate: {{confidence: 0.4}}\nrollout: {{canary_percent: 60}}\n",
        GOOD.replace("hidden: [16]", "hidden: []").replace("window: 30d", "window: 7d")
    );
    let fields: Vec<_> = problems(&spoiled).iter().map(|p| p.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(fields, ["dataset.window", "estimators[1].hidden", "gate.confidence", "rollout.canary_percent"]);
    let endpoint = GOOD.replace("label_key: [id]\n", "label_key: [id]\nsample: 1.5\nthreshold: -0.1\n");
    let fields: Vec<_> = problems(&endpoint).iter().map(|p| p.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(fields, ["sample", "threshold"]);
}

#[test]
fn a_spine_has_what_the_service_needs() {
    let found = spoiled("  - {name: load, type: int}\n", "");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("Pipeline `retrain`: dataset.spine: column of spine `questions` `load` does not exist")
    );
    let found = spoiled("{name: load, type: int}", "{name: load, type: text}");
    assert_eq!(
        found,
        ["Pipeline `retrain`: dataset.spine: column `load` of `questions` is text where service `inputs` wants float"]
    );
}

#[test]
fn a_label_source_takes_posted_labels() {
    assert_eq!(
        spoiled("  - {name: failed, type: bool}\n", "  - {name: failed, type: int}\n")[..],
        [
            "Endpoint `failure`: labels.column: `failed` is int where a label is bool",
            "Pipeline `retrain`: dataset.label.column: `failed` is int where a label is bool"
        ]
    );
    assert_eq!(
        spoiled(
            "  - {name: failed, type: bool}\n",
            "  - {name: failed, type: bool}\n  - {name: who, type: text, required: true}\n"
        ),
        ["Endpoint `failure`: labels.source: `answers` requires column `who`, which a posted label does not have"]
    );
    assert_eq!(
        spoiled("label_key: [id]", "label_key: [id, unit]"),
        ["Endpoint `failure`: labels.key: has 1 columns where `label_key` has 2: they pair in order"]
    );
}

#[test]
fn a_definition_stands_once_in_a_batch() {
    let twice = format!("{GOOD}---\nkind: Entity\nname: unit\nkey: unit\n");
    assert_eq!(problems(&twice), ["Entity `unit`: name: stands twice in this batch"]);
}
