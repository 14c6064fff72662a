//! The registry's tables. Instants are UTC microseconds; digests and ids are hexadecimal texts.
//!
//! A metric value that is not a number has no SQL form that databases agree on, so null stands for NaN.

use std::sync::Arc;

use domain::{Field, ValueType};
use storage::Migration;

/// The columnar table that holds every metric point ever logged.
pub(crate) const POINTS: &str = "metrics";

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "runs, datasets, versions, aliases",
    sql: "
CREATE TABLE registry_experiments (
    name TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);
CREATE TABLE registry_datasets (
    digest TEXT PRIMARY KEY,
    row_count BIGINT NOT NULL,
    spec TEXT NOT NULL,
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    cutoff BIGINT NOT NULL,
    sources TEXT NOT NULL,
    blobs TEXT NOT NULL,
    recorded_at BIGINT NOT NULL
);
CREATE TABLE registry_runs (
    id TEXT PRIMARY KEY,
    experiment TEXT NOT NULL REFERENCES registry_experiments (name),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    dataset TEXT REFERENCES registry_datasets (digest),
    code_version TEXT NOT NULL,
    environment TEXT NOT NULL,
    cause BIGINT,
    started_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX registry_runs_of_experiment ON registry_runs (experiment, id);
CREATE TABLE registry_params (
    run TEXT NOT NULL REFERENCES registry_runs (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
);
CREATE TABLE registry_tags (
    run TEXT NOT NULL REFERENCES registry_runs (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
);
CREATE TABLE registry_latest_metrics (
    run TEXT NOT NULL REFERENCES registry_runs (id),
    key TEXT NOT NULL,
    value DOUBLE PRECISION,
    step BIGINT NOT NULL,
    at BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (run, key)
);
CREATE TABLE registry_models (
    name TEXT PRIMARY KEY,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE registry_versions (
    model TEXT NOT NULL REFERENCES registry_models (name),
    version BIGINT NOT NULL,
    run TEXT NOT NULL REFERENCES registry_runs (id),
    signature TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (model, version)
);
CREATE TABLE registry_version_files (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (model, version, path),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version)
);
CREATE TABLE registry_version_metrics (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    key TEXT NOT NULL,
    value DOUBLE PRECISION,
    PRIMARY KEY (model, version, key),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version)
);
CREATE TABLE registry_version_tags (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, version, key),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version)
);
CREATE TABLE registry_aliases (
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    moved_at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version)
);
",
}];

/// Columns of the table of metric points.
pub(crate) fn point_fields() -> [Field; 5] {
    let field = |name: &str, kind| Field::new(Arc::<str>::from(name), kind);
    [
        field("run", ValueType::Text),
        field("key", ValueType::Text),
        field("value", ValueType::Float),
        field("step", ValueType::Int),
        field("at", ValueType::Timestamp),
    ]
}
