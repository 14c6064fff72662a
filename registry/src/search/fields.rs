//! What each kind can be searched and ordered by, and where that stands in SQL.

use domain::error::nearest;

use super::Kind;

/// What a field holds, and so which comparisons it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    /// A number in the table, a text on the wire.
    Id,
    /// The status of a logged model, which has more than one spelling.
    ModelStatus,
    Int,
    /// Milliseconds on the wire, microseconds in the table.
    Time,
    Float,
}

impl Holds {
    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Time | Self::Float)
    }
}

/// A column of the searched table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    /// Its names, lowercase; messages show the first.
    pub names: &'static [&'static str],
    pub sql: &'static str,
    pub holds: Holds,
    pub nullable: bool,
}

/// A table with a `key` and a `value` for each thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub table: &'static str,
    /// Its columns and what they equal in the searched table: the head of its primary key.
    pub links: &'static [(&'static str, &'static str)],
    pub holds: Holds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Attribute(&'static Attribute),
    /// The row of a side table under this key.
    Kept(&'static Side, String),
    /// A column of the datasets that a run read.
    Dataset(&'static str),
}

impl Field {
    pub(super) const fn holds(&self) -> Holds {
        match self {
            Self::Attribute(attribute) => attribute.holds,
            Self::Kept(side, _) => side.holds,
            Self::Dataset(_) => Holds::Text,
        }
    }
}

/// MLflow's words for our states; a test walks all of them.
const RUN_STATUS: &str = "CASE r.state WHEN 'scheduled' THEN 'SCHEDULED' WHEN 'running' THEN 'RUNNING' \
     WHEN 'finished' THEN 'FINISHED' WHEN 'failed' THEN 'FAILED' WHEN 'cancelled' THEN 'KILLED' END";

const fn given(names: &'static [&'static str], sql: &'static str, holds: Holds) -> Attribute {
    Attribute { names, sql, holds, nullable: false }
}

const fn nullable(names: &'static [&'static str], sql: &'static str, holds: Holds) -> Attribute {
    Attribute { names, sql, holds, nullable: true }
}

const CREATED: &[&str] = &["creation_timestamp", "creation_time", "creation_timestamp_ms"];
const UPDATED: &[&str] = &["last_updated_timestamp", "last_updated_time", "last_updated_timestamp_ms"];

static RUNS: [Attribute; 7] = [
    given(&["run_id", "run_uuid"], "r.id", Holds::Text),
    given(&["run_name"], "r.name", Holds::Text),
    given(&["status"], RUN_STATUS, Holds::Text),
    given(&["artifact_uri"], "r.artifact_uri", Holds::Text),
    given(&["user_id"], "r.user_id", Holds::Text),
    given(&["start_time", "created"], "r.started_at", Holds::Time),
    nullable(&["end_time"], "r.ended_at", Holds::Time),
];
static EXPERIMENTS: [Attribute; 4] = [
    given(&["experiment_id"], "e.id", Holds::Id),
    given(&["name"], "e.name", Holds::Text),
    given(&["creation_time", "creation_timestamp"], "e.created_at", Holds::Time),
    given(&["last_update_time", "last_updated_timestamp"], "e.updated_at", Holds::Time),
];
static MODELS: [Attribute; 3] = [
    given(&["name"], "m.name", Holds::Text),
    given(&["creation_timestamp", "creation_time", "timestamp"], "m.created_at", Holds::Time),
    given(UPDATED, "m.updated_at", Holds::Time),
];
static VERSIONS: [Attribute; 6] = [
    given(&["name"], "v.model", Holds::Text),
    given(&["version_number", "version"], "v.version", Holds::Int),
    nullable(&["run_id"], "v.run", Holds::Text),
    given(&["source_path"], "v.source", Holds::Text),
    given(CREATED, "v.created_at", Holds::Time),
    given(UPDATED, "v.updated_at", Holds::Time),
];
static LOGGED_MODELS: [Attribute; 7] = [
    given(&["model_id"], "l.id", Holds::Text),
    given(&["name"], "l.name", Holds::Text),
    nullable(&["model_type"], "l.model_type", Holds::Text),
    given(&["status"], "l.status", Holds::ModelStatus),
    nullable(&["source_run_id"], "l.source_run", Holds::Text),
    given(CREATED, "l.created_at", Holds::Time),
    given(UPDATED, "l.updated_at", Holds::Time),
];

const fn side(table: &'static str, links: &'static [(&'static str, &'static str)], holds: Holds) -> Side {
    Side { table, links, holds }
}

const OF_RUN: &[(&str, &str)] = &[("run", "r.id")];
const OF_LOGGED: &[(&str, &str)] = &[("model", "l.id")];
static RUN_METRICS: Side = side("registry_latest_metrics", OF_RUN, Holds::Float);
static RUN_PARAMS: Side = side("registry_params", OF_RUN, Holds::Text);
static RUN_TAGS: Side = side("registry_tags", OF_RUN, Holds::Text);
static EXPERIMENT_TAGS: Side = side("registry_experiment_tags", &[("experiment", "e.id")], Holds::Text);
static MODEL_TAGS: Side = side("registry_model_tags", &[("model", "m.name")], Holds::Text);
static VERSION_TAGS: Side =
    side("registry_version_tags", &[("model", "v.model"), ("version", "v.version")], Holds::Text);
static LOGGED_METRICS: Side = side("registry_logged_model_metrics", OF_LOGGED, Holds::Float);
static LOGGED_PARAMS: Side = side("registry_logged_model_params", OF_LOGGED, Holds::Text);
static LOGGED_TAGS: Side = side("registry_logged_model_tags", OF_LOGGED, Holds::Text);

const DATASET_COLUMNS: [&str; 3] = ["name", "digest", "context"];
const ATTRIBUTE_WORDS: [&str; 4] = ["attributes", "attribute", "attr", "run"];
const DATASET_WORDS: [&str; 2] = ["datasets", "dataset"];

type Words = &'static [&'static str];
const METRIC: Words = &["metrics", "metric"];
const PARAM: Words = &["params", "param", "parameters", "parameter"];
const TAG: Words = &["tags", "tag"];

/// The searched table and its name in SQL.
pub(super) const fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Runs => "registry_runs r",
        Kind::Experiments => "registry_experiments e",
        Kind::Models => "registry_models m",
        Kind::Versions => "registry_versions v",
        Kind::LoggedModels => "registry_logged_models l",
    }
}

pub(super) fn attributes(kind: Kind) -> &'static [Attribute] {
    match kind {
        Kind::Runs => &RUNS,
        Kind::Experiments => &EXPERIMENTS,
        Kind::Models => &MODELS,
        Kind::Versions => &VERSIONS,
        Kind::LoggedModels => &LOGGED_MODELS,
    }
}

type Sides<const N: usize> = [(Words, &'static Side); N];
static RUN_SIDES: Sides<3> = [(METRIC, &RUN_METRICS), (PARAM, &RUN_PARAMS), (TAG, &RUN_TAGS)];
static EXPERIMENT_SIDES: Sides<1> = [(TAG, &EXPERIMENT_TAGS)];
static MODEL_SIDES: Sides<1> = [(TAG, &MODEL_TAGS)];
static VERSION_SIDES: Sides<1> = [(TAG, &VERSION_TAGS)];
static LOGGED_SIDES: Sides<3> = [(METRIC, &LOGGED_METRICS), (PARAM, &LOGGED_PARAMS), (TAG, &LOGGED_TAGS)];

fn sides(kind: Kind) -> &'static [(Words, &'static Side)] {
    match kind {
        Kind::Runs => &RUN_SIDES,
        Kind::Experiments => &EXPERIMENT_SIDES,
        Kind::Models => &MODEL_SIDES,
        Kind::Versions => &VERSION_SIDES,
        Kind::LoggedModels => &LOGGED_SIDES,
    }
}

/// Why a name means nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Whether the word before the dot is the wrong one.
    pub is_entity: bool,
    pub expected: String,
    pub nearest: Option<String>,
}

/// The attribute of that name, whatever its case; `Run name` is another way to write `run_name`.
pub(super) fn attribute(kind: Kind, name: &str) -> Option<&'static Attribute> {
    let name = name.to_lowercase().replace(' ', "_");
    attributes(kind).iter().find(|attribute| attribute.names.contains(&name.as_str()))
}

/// What `entity.key`, or `key` alone, means.
pub(super) fn resolve(kind: Kind, entity: Option<&str>, key: &str) -> Result<Field, Unknown> {
    let Some(entity) = entity else {
        return attribute(kind, key).map(Field::Attribute).ok_or_else(|| unknown_attribute(kind, key, true));
    };
    let word = entity.to_lowercase();
    if ATTRIBUTE_WORDS.contains(&word.as_str()) {
        return attribute(kind, key).map(Field::Attribute).ok_or_else(|| unknown_attribute(kind, key, false));
    }
    if let Some((_, side)) = sides(kind).iter().find(|(words, _)| words.contains(&word.as_str())) {
        return Ok(Field::Kept(side, key.to_owned()));
    }
    if kind == Kind::Runs && DATASET_WORDS.contains(&word.as_str()) {
        let column = DATASET_COLUMNS.iter().find(|column| column.eq_ignore_ascii_case(key));
        return column.map(|column| Field::Dataset(column)).ok_or_else(|| Unknown {
            is_entity: false,
            expected: format!("a key of a dataset ({})", DATASET_COLUMNS.join(", ")),
            nearest: nearest(&key.to_lowercase(), DATASET_COLUMNS).map(str::to_owned),
        });
    }
    let known = entity_words(kind);
    Err(Unknown {
        is_entity: true,
        expected: format!("one of {}", known.join(", ")),
        nearest: nearest(&word, known).map(str::to_owned),
    })
}

/// One word for each entity of a kind.
fn entity_words(kind: Kind) -> Vec<&'static str> {
    let mut words: Vec<_> = sides(kind).iter().map(|(words, _)| words[0]).collect();
    words.push(ATTRIBUTE_WORDS[0]);
    if kind == Kind::Runs {
        words.push(DATASET_WORDS[0]);
    }
    words
}

fn unknown_attribute(kind: Kind, key: &str, alone: bool) -> Unknown {
    let shown: Vec<_> = attributes(kind).iter().map(|attribute| attribute.names[0]).collect();
    let all = attributes(kind).iter().flat_map(|attribute| attribute.names.iter().copied());
    let mut expected = format!("an attribute ({})", shown.join(", "));
    if alone {
        let others = entity_words(kind).into_iter().filter(|word| *word != ATTRIBUTE_WORDS[0]);
        expected.push_str(&format!(" or {}", others.map(|word| format!("{word}.KEY")).collect::<Vec<_>>().join(", ")));
    }
    Unknown { is_entity: false, expected, nearest: nearest(&key.to_lowercase(), all).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use domain::state::RunState;

    use super::*;

    #[test]
    fn every_state_of_a_run_has_a_word() {
        for state in RunState::ALL {
            assert!(RUN_STATUS.contains(&format!("WHEN '{}' THEN", state.as_str())), "{state:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_among_all_of_a_kind() {
        let near = |kind, entity, key| resolve(kind, entity, key).unwrap_err().nearest;
        assert_eq!(near(Kind::Runs, None, "stat_time").as_deref(), Some("start_time"));
        assert_eq!(near(Kind::Runs, Some("metrik"), "loss").as_deref(), Some("metrics"));
        assert_eq!(near(Kind::Runs, Some("dataset"), "nam").as_deref(), Some("name"));
        assert_eq!(near(Kind::Models, Some("parms"), "lr"), None, "models have no parameters");
        assert_eq!(near(Kind::LoggedModels, Some("parms"), "lr").as_deref(), Some("params"));
    }
}
