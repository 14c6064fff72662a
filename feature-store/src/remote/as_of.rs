//! The newest row of each question, as SQL.

use super::sql;

/// A view as a query sees it. All expressions are over the columns of `table`.
#[derive(Debug, Clone)]
pub struct AsOf {
    /// A view of the session.
    pub table: String,
    pub keys: Vec<String>,
    /// The event time as a whole number; so are the questions'.
    pub time: String,
    /// When the row was written, as such a number, which may be null.
    pub created: Option<String>,
    /// The row's number in order of ingestion.
    pub number: String,
    /// Rows numbered from this on do not count.
    pub below: i64,
    /// The number of the row that a row puts right; `None`: no row puts another right.
    pub replaces: Option<String>,
    /// Whether a row counts only from when it was written.
    pub known: bool,
    pub features: Vec<String>,
}

impl AsOf {
    /// The rows that count, as `k0..`, `t`, `c`, `r` and `f0..`: no key is null, no later row replaces them.
    #[must_use]
    pub fn live(&self) -> String {
        let Self { table, time, number, below, .. } = self;
        let created = self.created.as_deref().unwrap_or("CAST(NULL AS BIGINT)");
        let named = |prefix: char, all: &[String]| -> String {
            all.iter().enumerate().map(|(at, expression)| format!("{expression} AS {prefix}{at}, ")).collect()
        };
        let (keys, features) = (named('k', &self.keys), named('f', &self.features));
        let rows = format!("SELECT {keys}{features}{created} AS c, {time} AS t, {number} AS r FROM {table}");
        let known = if self.known { " AND c IS NOT NULL" } else { "" };
        let counts = format!("t IS NOT NULL AND r < {below}{known} AND {}", sql::keyed(self.keys.len()));
        match &self.replaces {
            None => format!("SELECT * FROM ({rows}) AS s WHERE {counts}"),
            Some(replaces) => format!(
                "SELECT s.* FROM ({rows}) AS s LEFT ANTI JOIN (SELECT {replaces} AS g FROM {table} \
                 WHERE {replaces} IS NOT NULL AND {number} < {below}) AS d ON s.r = d.g WHERE {counts}"
            ),
        }
    }

    /// For each question of `spine` (`n`, `k0..`, `a`) that some row answers: `n`, `t` (the row's time), `f0..`.
    #[must_use]
    pub fn sql(&self, spine: &str) -> String {
        let keys = sql::keys(self.keys.len());
        let keyed = sql::keyed(self.keys.len());
        let comma = if keys.is_empty() { "" } else { ", " };
        let features: String = (0..self.features.len()).map(|at| format!(", 'f{at}', f{at}")).collect();
        // From when on a row is seen, and which of those seen counts.
        let (seen, newest) = match self.known {
            true => ("GREATEST(t, c)", "MAX(v)"),
            false => ("t", "LAST_VALUE(v) IGNORE NULLS"),
        };
        let window = sql::so_far(&keys, "w, q, c NULLS FIRST, r");
        let out: String = (0..self.features.len()).map(|at| format!(", v.f{at} AS f{at}")).collect();
        format!(
            "WITH live AS ({live}), merged AS (\
             SELECT {keys}{comma}{seen} AS w, 0 AS q, c, r, CAST(NULL AS BIGINT) AS n, \
             named_struct('t', t, 'c', c, 'r', r{features}) AS v FROM live \
             UNION ALL SELECT {keys}{comma}a, 1, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), n, NULL FROM {spine} AS s WHERE a IS NOT NULL AND {keyed}), \
             found AS (SELECT n, q, {newest} OVER {window} AS v FROM merged) \
             SELECT n, v.t AS t{out} FROM found WHERE q = 1 AND v IS NOT NULL",
            live = self.live(),
        )
    }
}
