//! The registry's tables. Instants are UTC microseconds; digests and ids are hexadecimal texts.
//!
//! A metric value that is not a number has no SQL form that databases agree on, so null stands for NaN.

use std::sync::Arc;

use domain::{Field, ValueType};
use storage::Migration;

/// The columnar table that holds every metric point ever logged.
pub(crate) const POINTS: &str = "metrics";

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { name: "experiments and runs", sql: RUNS },
    Migration { name: "artifacts", sql: ARTIFACTS },
    Migration { name: "logged models", sql: LOGGED_MODELS },
    Migration { name: "models, versions, aliases", sql: MODELS },
    Migration { name: "uploads past the server", sql: DIRECT_UPLOADS },
    Migration { name: "files by digest", sql: FILES_BY_DIGEST },
    Migration { name: "approvals", sql: APPROVALS },
    Migration { name: "lineage", sql: LINEAGE },
    Migration { name: "webhooks", sql: WEBHOOKS },
    Migration { name: "brought in", sql: BROUGHT },
];

const RUNS: &str = "
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
CREATE TABLE registry_experiments (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    artifact_location TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE TABLE registry_experiment_tags (
    experiment BIGINT NOT NULL REFERENCES registry_experiments (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (experiment, key)
);
CREATE TABLE registry_runs (
    id TEXT PRIMARY KEY,
    experiment BIGINT NOT NULL REFERENCES registry_experiments (id),
    name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    state TEXT NOT NULL,
    artifact_uri TEXT NOT NULL,
    dataset TEXT REFERENCES registry_datasets (digest),
    code_version TEXT NOT NULL,
    environment TEXT NOT NULL,
    cause BIGINT,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    deleted_at BIGINT
);
CREATE INDEX registry_runs_of_experiment ON registry_runs (experiment, started_at, id);
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
CREATE TABLE registry_inputs (
    run TEXT NOT NULL REFERENCES registry_runs (id),
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    source_type TEXT NOT NULL,
    source TEXT NOT NULL,
    schema TEXT,
    profile TEXT,
    context TEXT,
    tags TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (run, name, digest)
);
";

const ARTIFACTS: &str = "
CREATE TABLE registry_artifacts (
    path TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    written_at BIGINT NOT NULL
);
CREATE INDEX registry_artifacts_by_digest ON registry_artifacts (digest);
CREATE TABLE registry_uploads (
    id TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    parts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    completed_at BIGINT
);
CREATE TABLE registry_upload_parts (
    upload TEXT NOT NULL REFERENCES registry_uploads (id),
    part BIGINT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (upload, part)
);
";

const LOGGED_MODELS: &str = "
CREATE TABLE registry_logged_models (
    id TEXT PRIMARY KEY,
    experiment BIGINT NOT NULL REFERENCES registry_experiments (id),
    name TEXT NOT NULL,
    model_type TEXT,
    status TEXT NOT NULL,
    status_message TEXT,
    source_run TEXT REFERENCES registry_runs (id),
    artifact_uri TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX registry_logged_models_of_experiment ON registry_logged_models (experiment, created_at, id);
CREATE TABLE registry_logged_model_params (
    model TEXT NOT NULL REFERENCES registry_logged_models (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, key)
);
CREATE TABLE registry_logged_model_tags (
    model TEXT NOT NULL REFERENCES registry_logged_models (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, key)
);
CREATE TABLE registry_logged_model_metrics (
    model TEXT NOT NULL REFERENCES registry_logged_models (id),
    key TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_digest TEXT NOT NULL,
    run TEXT NOT NULL REFERENCES registry_runs (id),
    value DOUBLE PRECISION,
    step BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (model, key, dataset_name, dataset_digest, run)
);
CREATE TABLE registry_run_models (
    run TEXT NOT NULL REFERENCES registry_runs (id),
    model TEXT NOT NULL,
    role TEXT NOT NULL,
    step BIGINT NOT NULL,
    PRIMARY KEY (run, role, model, step)
);
";

const MODELS: &str = "
CREATE TABLE registry_models (
    name TEXT PRIMARY KEY,
    last_version BIGINT NOT NULL,
    description TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE registry_model_tags (
    model TEXT NOT NULL REFERENCES registry_models (name) ON UPDATE CASCADE ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, key)
);
CREATE TABLE registry_versions (
    model TEXT NOT NULL REFERENCES registry_models (name) ON UPDATE CASCADE ON DELETE CASCADE,
    version BIGINT NOT NULL,
    run TEXT REFERENCES registry_runs (id),
    logged_model TEXT REFERENCES registry_logged_models (id),
    source TEXT NOT NULL,
    download TEXT NOT NULL,
    signature TEXT NOT NULL,
    stated_signature TEXT,
    flavors TEXT NOT NULL,
    model_uuid TEXT,
    input_example TEXT,
    stage TEXT NOT NULL,
    description TEXT NOT NULL,
    user_id TEXT NOT NULL,
    run_link TEXT NOT NULL,
    unsafe_reason TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (model, version)
);
CREATE INDEX registry_versions_of_run ON registry_versions (run);
CREATE INDEX registry_versions_of_logged_model ON registry_versions (logged_model);
CREATE INDEX registry_versions_by_download ON registry_versions (download);
CREATE TABLE registry_version_files (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (model, version, path),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE registry_version_metrics (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    key TEXT NOT NULL,
    value DOUBLE PRECISION,
    PRIMARY KEY (model, version, key),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE registry_version_tags (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, version, key),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE registry_aliases (
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    moved_at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES registry_versions (model, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX registry_aliases_of_version ON registry_aliases (model, version);
";

const DIRECT_UPLOADS: &str = "
ALTER TABLE registry_uploads ADD COLUMN ticket TEXT;
";

/// What was brought in from another store, so that it can be told from what was made here.
const BROUGHT: &str = "
CREATE TABLE registry_brought (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
";

/// Asked for each blob that may be garbage.
const FILES_BY_DIGEST: &str = "
CREATE INDEX registry_version_files_by_digest ON registry_version_files (digest);
CREATE INDEX registry_upload_parts_by_digest ON registry_upload_parts (digest);
";

const APPROVALS: &str = "
CREATE TABLE registry_protections (
    model TEXT NOT NULL REFERENCES registry_models (name) ON UPDATE CASCADE ON DELETE CASCADE,
    alias TEXT NOT NULL,
    approvals BIGINT NOT NULL,
    gates TEXT NOT NULL,
    allow_unsafe BIGINT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (model, alias)
);
CREATE TABLE registry_approvals (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL REFERENCES registry_models (name) ON UPDATE CASCADE ON DELETE CASCADE,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    cause BIGINT,
    needed BIGINT NOT NULL,
    gates TEXT NOT NULL,
    decided_at BIGINT
);
CREATE INDEX registry_approvals_of_model ON registry_approvals (model, id);
CREATE UNIQUE INDEX registry_approvals_waiting ON registry_approvals (model, alias, version) WHERE state = 'pending';
CREATE TABLE registry_votes (
    approval TEXT NOT NULL REFERENCES registry_approvals (id) ON DELETE CASCADE,
    person TEXT NOT NULL,
    actor TEXT NOT NULL,
    verdict TEXT NOT NULL,
    comment TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (approval, person)
);
";

/// What lineage looks up from the data on.
const LINEAGE: &str = "
CREATE INDEX registry_runs_of_dataset ON registry_runs (dataset);
CREATE INDEX registry_inputs_by_dataset ON registry_inputs (name, digest);
CREATE INDEX registry_run_models_of_model ON registry_run_models (model);
CREATE INDEX registry_logged_models_of_run ON registry_logged_models (source_run);
";

const WEBHOOKS: &str = "
CREATE TABLE registry_webhooks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    events TEXT NOT NULL,
    status TEXT NOT NULL,
    secret TEXT,
    since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    claimed_by TEXT NOT NULL,
    claimed_until BIGINT NOT NULL
);
CREATE TABLE registry_outbox (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
INSERT INTO registry_outbox (id, seq) VALUES (1, 0);
CREATE TABLE registry_deliveries (
    id TEXT PRIMARY KEY,
    webhook TEXT NOT NULL REFERENCES registry_webhooks (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    last_status BIGINT,
    last_error TEXT,
    finished_at BIGINT,
    UNIQUE (webhook, seq)
);
CREATE INDEX registry_deliveries_waiting ON registry_deliveries (webhook, state, seq);
";

/// Columns of the table of metric points: run, key, value, step, time.
pub(crate) const POINT_COLUMNS: [&str; 5] = ["run", "key", "value", "step", "at"];

/// The columns with their types.
pub(crate) fn point_fields() -> [Field; 5] {
    use ValueType as T;
    let [run, key, value, step, at] = POINT_COLUMNS;
    let columns = [(run, T::Text), (key, T::Text), (value, T::Float), (step, T::Int), (at, T::Timestamp)];
    columns.map(|(name, kind)| Field::new(Arc::<str>::from(name), kind))
}
