//! Tables of the evaluator in the metadata database.

use storage::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_monitors",
    sql: "
CREATE TABLE evaluator_endpoints (
    name TEXT PRIMARY KEY,
    definition TEXT,
    champion BIGINT,
    champion_since BIGINT,
    generation BIGINT NOT NULL,
    evaluated_through BIGINT
);
CREATE TABLE evaluator_inputs (
    id BIGINT PRIMARY KEY,
    columns TEXT NOT NULL UNIQUE
);
CREATE TABLE evaluator_reports (
    endpoint TEXT NOT NULL,
    window_end BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (endpoint, window_end)
);
CREATE TABLE evaluator_alerts (
    id TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    state TEXT NOT NULL,
    raised_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX evaluator_alerts_by_endpoint ON evaluator_alerts (endpoint, raised_at);
CREATE TABLE evaluator_tasks (
    id TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    prediction TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX evaluator_tasks_by_endpoint ON evaluator_tasks (endpoint, state, id);
",
}];
