//! The tables.

use storage::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "tokens and projects",
    sql: "CREATE TABLE access_tokens (
            id TEXT NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            role TEXT NOT NULL,
            scopes TEXT NOT NULL,
            house BIGINT NOT NULL,
            digest TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            created_by TEXT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT,
            last_used_at BIGINT,
            replaces TEXT
          );
          CREATE TABLE access_projects (
            name TEXT NOT NULL PRIMARY KEY,
            created_at BIGINT NOT NULL,
            created_by TEXT NOT NULL
          );",
}];
