//! The conductor's own tables. Instants are UTC microseconds; lists and records are JSON.

use storage::Migration;

/// Name under which the migrations are counted.
pub(crate) const ROOM: &str = "pipelines";

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_conductor",
    sql: "
CREATE TABLE conductor_definitions (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    version BIGINT NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE conductor_endpoints (
    name TEXT PRIMARY KEY,
    targets TEXT NOT NULL,
    shadow TEXT NOT NULL,
    champion BIGINT NOT NULL,
    first_version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE TABLE pipeline_runs (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    state TEXT NOT NULL,
    spec TEXT NOT NULL,
    cause TEXT NOT NULL,
    story BIGINT NOT NULL,
    cutoff BIGINT NOT NULL,
    labelled BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    champion BIGINT,
    challenger BIGINT,
    decision TEXT,
    rollout TEXT,
    error TEXT,
    ended BIGINT
);
CREATE INDEX pipeline_runs_by_pipeline ON pipeline_runs (pipeline, id);
CREATE TABLE pipeline_steps (
    run TEXT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    step_key TEXT,
    why TEXT,
    result TEXT,
    started BIGINT,
    finished BIGINT,
    error TEXT,
    PRIMARY KEY (run, name)
);
CREATE TABLE pipeline_results (
    step_key TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    result TEXT NOT NULL,
    committed_at BIGINT NOT NULL
);
CREATE TABLE pipeline_alerts (
    seq BIGINT NOT NULL,
    pipeline TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (seq, pipeline)
);
CREATE TABLE pipeline_cursor (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
INSERT INTO pipeline_cursor (id, seq) VALUES (1, 0);
",
}];
