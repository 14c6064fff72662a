//! What is wrong with a pipeline.

use domain::{
    Field, Span, ValueType,
    definition::{EstimatorSpec, InputSpec, Learner, Pipeline, Prep},
};

use super::{Catalog, Notes, check_label, column_type, source_columns, unknown};

pub(super) fn check(pipeline: &Pipeline, catalog: &Catalog<'_>, notes: &mut Notes<'_>) {
    let endpoint = notes.find("endpoint", "endpoint", pipeline.endpoint.as_str(), &catalog.endpoints);
    if let Some(endpoint) = endpoint.filter(|e| e.model != pipeline.model) {
        notes.add("model", format!("endpoint `{}` serves model `{}`", endpoint.name, endpoint.model));
    }
    dataset(pipeline, catalog, notes);
    notes.expect(!pipeline.inputs.is_empty(), "inputs", "a model needs at least one input");
    if let Some(service) = catalog.services.get(pipeline.dataset.service.as_str()) {
        let columns = catalog.columns(service);
        for (i, spec) in pipeline.inputs.iter().enumerate() {
            input(spec, &format!("inputs[{i}]"), &columns, notes);
        }
    }
    notes.expect(!pipeline.estimators.is_empty(), "estimators", "a pipeline needs at least one estimator");
    for (i, spec) in pipeline.estimators.iter().enumerate() {
        let field = format!("estimators[{i}]");
        if pipeline.estimators[..i].iter().any(|other| other.name == spec.name) {
            notes.add(format!("{field}.name"), format!("`{}` stands twice", spec.name));
        }
        estimator(spec, &field, notes);
    }
    let gate = &pipeline.gate;
    notes.expect((0.5..=0.999).contains(&gate.confidence), "gate.confidence", "lies between 0.5 and 0.999");
    notes.expect(gate.min_gain.is_finite() && gate.min_gain >= 0.0, "gate.min_gain", "is a number from 0");
    let rollout = &pipeline.rollout;
    notes.expect((1..=50).contains(&rollout.canary_percent), "rollout.canary_percent", "lies between 1 and 50");
    notes.expect(rollout.min_labels >= 2, "rollout.min_labels", "is at least 2");
    notes.expect(rollout.max_duration > Span::ZERO, "rollout.max_duration", "is longer than nothing");
}

fn dataset(pipeline: &Pipeline, catalog: &Catalog<'_>, notes: &mut Notes<'_>) {
    let spec = &pipeline.dataset;
    notes.expect(spec.holdout > Span::ZERO, "dataset.holdout", "is longer than nothing");
    if spec.window.is_some_and(|window| window <= spec.holdout) {
        notes.add("dataset.window", "is longer than the holdout, which is cut from it");
    }
    check_label(&spec.label, "dataset.label", catalog, notes);
    let service = notes.find("dataset.service", "feature service", spec.service.as_str(), &catalog.services);
    let spine = notes.find("dataset.spine", "source", spec.spine.as_str(), &catalog.sources);
    let Some(spine) = spine else { return };
    let noun = format!("column of spine `{}`", spine.name);
    for (i, key) in spec.label.key.iter().enumerate() {
        if column_type(spine, key.as_str()).is_none() {
            notes.add(format!("dataset.label.key[{i}]"), unknown(&noun, key.as_str(), source_columns(spine)));
        }
    }
    let Some(service) = service else { return };
    let request = service.request.iter().filter(|r| r.default.is_none());
    let needed = catalog.keys(service).into_iter().chain(request.map(|r| Field::new(r.name.as_str(), r.kind)));
    for column in needed {
        match column_type(spine, &column.name) {
            Some(found) if fits(found, column.kind) => {}
            Some(found) => notes.add(
                "dataset.spine",
                format!(
                    "column `{}` of `{}` is {} where service `{}` wants {}",
                    column.name, spine.name, found, service.name, column.kind
                ),
            ),
            None => notes.add(
                "dataset.spine",
                format!(
                    "{}, which service `{}` needs",
                    unknown(&noun, &column.name, source_columns(spine)),
                    service.name
                ),
            ),
        }
    }
}

/// Whether values of type `found` can stand in a column of type `wanted`.
fn fits(found: ValueType, wanted: ValueType) -> bool {
    found == wanted || (found, wanted) == (ValueType::Int, ValueType::Float)
}

fn input(spec: &InputSpec, field: &str, columns: &[Field], notes: &mut Notes<'_>) {
    let numeric = |kind: ValueType| matches!(kind, ValueType::Int | ValueType::Float | ValueType::Bool);
    let wants_number = matches!(spec.prep, Prep::Numeric | Prep::Log | Prep::Difference | Prep::Cycle);
    let named = [("column", Some(&spec.column)), ("minus", spec.minus.as_ref())];
    for (key, column) in named.into_iter().filter_map(|(key, column)| Some((key, column?))) {
        match columns.iter().find(|c| *c.name == **column).map(|c| c.kind) {
            None => {
                let known = columns.iter().map(|c| &*c.name);
                notes.add(format!("{field}.{key}"), unknown("column of the service", column, known));
            }
            Some(kind) if wants_number && !numeric(kind) => {
                notes.add(format!("{field}.{key}"), format!("`{column}` is {kind} where a number is needed"));
            }
            Some(ValueType::List(_)) => {
                notes.add(format!("{field}.{key}"), format!("`{column}` is a list, which no model reads"));
            }
            Some(ValueType::Timestamp) => {
                notes.add(format!("{field}.{key}"), format!("`{column}` is a timestamp, which no model reads"));
            }
            Some(_) => {}
        }
    }
    parameter(spec.minus.is_some(), spec.prep == Prep::Difference, &format!("{field}.minus"), "difference", notes);
    parameter(spec.period.is_some(), spec.prep == Prep::Cycle, &format!("{field}.period"), "cycle", notes);
    parameter(spec.dim.is_some(), spec.prep == Prep::Embedding, &format!("{field}.dim"), "embedding", notes);
    let period = spec.period.unwrap_or(1.0);
    notes.expect(period.is_finite() && period > 0.0, format!("{field}.period"), "is a number above 0");
    notes.expect((1..=256).contains(&spec.dim.unwrap_or(1)), format!("{field}.dim"), "lies between 1 and 256");
    notes.expect(spec.clip.is_finite() && spec.clip > 0.0, format!("{field}.clip"), "is a number above 0");
}

/// A parameter stands exactly where its preparation needs it.
fn parameter(given: bool, needed: bool, field: &str, prep: &str, notes: &mut Notes<'_>) {
    match (given, needed) {
        (false, true) => notes.add(field, format!("is missing: prep `{prep}` needs it")),
        (true, false) => notes.add(field, format!("belongs to prep `{prep}` only")),
        _ => {}
    }
}

fn estimator(spec: &EstimatorSpec, field: &str, notes: &mut Notes<'_>) {
    let mut expect = |fine, key: &str, message: &str| notes.expect(fine, format!("{field}.{key}"), message);
    let lawful = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    expect(
        (1..=64).contains(&spec.name.len()) && spec.name.bytes().all(lawful),
        "name",
        "is 1 to 64 letters, digits, `-` or `_`",
    );
    match spec.learner {
        Learner::Mlp => {
            expect(!spec.hidden.is_empty(), "hidden", "is missing: an mlp needs the widths of its hidden layers");
            expect(spec.hidden.iter().all(|w| (1..=8192).contains(w)), "hidden", "widths lie between 1 and 8192");
        }
        Learner::Logistic => expect(spec.hidden.is_empty(), "hidden", "belongs to learner `mlp` only"),
    }
    expect((0.0..1.0).contains(&spec.dropout), "dropout", "lies between 0 and below 1");
    expect(spec.epochs >= 1, "epochs", "is at least 1");
    expect(spec.batch_size >= 1, "batch_size", "is at least 1");
    expect(spec.patience >= 1, "patience", "is at least 1");
    expect(spec.learning_rate.is_finite() && spec.learning_rate > 0.0, "learning_rate", "is a number above 0");
    expect(spec.weight_decay.is_finite() && spec.weight_decay >= 0.0, "weight_decay", "is a number from 0");
    expect(spec.half_life.is_none_or(|half| half > Span::ZERO), "half_life", "is longer than nothing");
}
