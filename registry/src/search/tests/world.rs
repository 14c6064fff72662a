//! Rows to search in, chosen by a seed.

use std::collections::BTreeMap;

use domain::state::RunState;
use storage::{Meta, sql::Conn};
use tempfile::TempDir;

use crate::{RegistryError, query::Statement, schema, search};

/// SplitMix64: the same seed always gives the same world.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

pub const KEYS: [&str; 3] = ["a", "b c", "d'`\"%"];
pub const TEXTS: [&str; 9] = ["", "x", "X", "xy", "Xyz", "a*b?[c]", "ÄÖ", "it's 50%", "x_y"];
pub const NUMBERS: [f64; 8] = [0.0, -0.5, 1.0, 1.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
pub const TIMES: [i64; 6] = [0, 1_999, 2_000, 2_001, 1_700_000_000_000_000, 1_700_000_000_000_999];

#[derive(Debug, Clone)]
pub struct ARun {
    pub id: String,
    pub experiment: i64,
    pub name: String,
    pub user: String,
    pub state: RunState,
    pub started: i64,
    pub ended: Option<i64>,
    pub deleted: bool,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, f64>,
    /// Name, digest, context.
    pub datasets: Vec<(String, String, Option<String>)>,
}

pub fn a_run(chance: &mut Chance, n: usize) -> ARun {
    let texts = |chance: &mut Chance| {
        let some: Vec<_> = KEYS.iter().filter(|_| !chance.one_in(3)).collect();
        some.into_iter().map(|key| ((*key).to_owned(), chance.pick(&TEXTS).to_owned())).collect()
    };
    let mut metrics = BTreeMap::new();
    for key in KEYS {
        if !chance.one_in(3) {
            metrics.insert(key.to_owned(), chance.pick(&NUMBERS));
        }
    }
    let mut datasets = Vec::new();
    for i in 0..chance.below(3) {
        let context = (!chance.one_in(3)).then(|| chance.pick(&TEXTS).to_owned());
        datasets.push((chance.pick(&TEXTS).to_owned(), format!("d{i}"), context));
    }
    ARun {
        // Not in the order of insertion.
        id: format!("{:04}", (n * 7919) % 10_000),
        experiment: i64::from(chance.one_in(5)),
        name: chance.pick(&TEXTS).to_owned(),
        user: chance.pick(&["ann", "bob"]).to_owned(),
        state: chance.pick(RunState::ALL),
        started: chance.pick(&TIMES),
        ended: (!chance.one_in(3)).then(|| chance.pick(&TIMES)),
        deleted: chance.one_in(6),
        params: texts(chance),
        tags: texts(chance),
        metrics,
        datasets,
    }
}

pub struct World {
    pub meta: Meta,
    _dir: TempDir,
}

impl World {
    pub async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let meta = Meta::open(&dir.path().join("meta.db")).await.unwrap();
        meta.migrate("registry", schema::MIGRATIONS).await.unwrap();
        let mut tx = meta.begin().await.unwrap();
        for id in 0..2_i64 {
            sqlx::query("INSERT INTO registry_experiments VALUES ($1, $2, 'mlflow-artifacts:/0', 0, 0, NULL)")
                .bind(id)
                .bind(format!("e{id}"))
                .execute(tx.conn())
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        Self { meta, _dir: dir }
    }

    pub async fn insert(&self, runs: &[ARun]) {
        let mut tx = self.meta.begin().await.unwrap();
        for run in runs {
            insert(tx.conn(), run).await;
        }
        tx.commit().await.unwrap();
    }

    pub async fn execute(&self, sql: &'static str) {
        let mut tx = self.meta.begin().await.unwrap();
        sqlx::raw_sql(sql).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Every page of the living runs of experiment 0, page by page.
    pub async fn pages(
        &self,
        filter: &str,
        order_by: &[String],
        limit: usize,
    ) -> Result<Vec<Vec<String>>, RegistryError> {
        let mut search =
            search::Search { filter: filter.into(), order_by: order_by.to_vec(), limit, ..Default::default() };
        let mut pages = Vec::new();
        let mut conn = self.meta.reader().acquire().await.unwrap();
        loop {
            let page = search::page(&mut conn, search::Kind::Runs, living, &search).await?;
            pages.push(page.items.into_iter().flatten().collect());
            match page.next {
                None => return Ok(pages),
                Some(token) => search.page_token = token,
            }
        }
    }
}

pub fn living(sql: &mut Statement) {
    sql.push("r.experiment IN (").bind_all([0]).push(") AND r.deleted_at IS NULL");
}

async fn insert(conn: &mut Conn, run: &ARun) {
    sqlx::query(
        "INSERT INTO registry_runs (id, experiment, name, user_id, state, artifact_uri, code_version, environment,
             started_at, ended_at, deleted_at) VALUES ($1, $2, $3, $4, $5, '', '', '{}', $6, $7, $8)",
    )
    .bind(&run.id)
    .bind(run.experiment)
    .bind(&run.name)
    .bind(&run.user)
    .bind(run.state.as_str())
    .bind(run.started)
    .bind(run.ended)
    .bind(run.deleted.then_some(1_i64))
    .execute(&mut *conn)
    .await
    .unwrap();
    for (table, pairs) in [("params", &run.params), ("tags", &run.tags)] {
        for (key, value) in pairs {
            let sql = format!("INSERT INTO registry_{table} (run, key, value) VALUES ($1, $2, $3)");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&run.id)
                .bind(key)
                .bind(value)
                .execute(&mut *conn)
                .await
                .unwrap();
        }
    }
    for (key, value) in &run.metrics {
        sqlx::query("INSERT INTO registry_latest_metrics VALUES ($1, $2, $3, 0, 0, 0, 0)")
            .bind(&run.id)
            .bind(key)
            .bind(crate::row::float(*value))
            .execute(&mut *conn)
            .await
            .unwrap();
    }
    for (i, (name, digest, context)) in run.datasets.iter().enumerate() {
        sqlx::query(
            "INSERT INTO registry_inputs (run, name, digest, source_type, source, context, tags, position)
             VALUES ($1, $2, $3, '', '', $4, '[]', $5)",
        )
        .bind(&run.id)
        .bind(name)
        .bind(digest)
        .bind(context)
        .bind(i64::try_from(i).unwrap())
        .execute(&mut *conn)
        .await
        .unwrap();
    }
}
