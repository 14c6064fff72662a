//! How a search of 5,000 runs is carried out.

use std::fmt::Write as _;

use super::world::{World, living};
use crate::search::{Kind, Search, filter, order, page, sql};

const RUNS: usize = 5_000;

async fn full() -> World {
    let world = World::new().await;
    let mut tx = world.meta.begin().await.unwrap();
    let mut many = String::new();
    for run in 0..RUNS {
        let at = 1_700_000_000_000_000_i64 + run as i64 * 1_000_000;
        let id = format!("{run:032x}");
        writeln!(
            many,
            "INSERT INTO registry_runs (id, experiment, name, user_id, state, artifact_uri, code_version, environment,
                 started_at) VALUES ('{id}', 0, 'n', '', 'finished', '', '', '{{}}', {at});"
        )
        .unwrap();
        for key in 0..20 {
            let value = (run * 31 + key) % 17;
            writeln!(many, "INSERT INTO registry_params VALUES ('{id}', 'p{key}', '{value}');").unwrap();
        }
        for key in 0..10 {
            let value = (run * 7919 + key) % 5_003;
            writeln!(many, "INSERT INTO registry_latest_metrics VALUES ('{id}', 'm{key}', {value}.5, 0, 0, 0, 0);")
                .unwrap();
        }
        for key in 0..8 {
            writeln!(many, "INSERT INTO registry_tags VALUES ('{id}', 't{key}', 'v');").unwrap();
        }
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(many)).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world
}

async fn plan(world: &World, search: &Search) -> String {
    let filter = filter::parse(Kind::Runs, &search.filter).unwrap();
    let orders = order::complete(Kind::Runs, order::parse(Kind::Runs, &search.order_by).unwrap()).unwrap();
    let slots = sql::slots(&orders);
    let plan = sql::Plan {
        dialect: storage::sql::Dialect::Sqlite,
        kind: Kind::Runs,
        filter: filter.as_ref(),
        orders: &orders,
        slots: &slots,
        datasets: &[],
        after: None,
        limit: search.limit,
    };
    let explain = format!("EXPLAIN QUERY PLAN {}", plan.statement(living).text());
    let mut conn = world.meta.reader().acquire().await.unwrap();
    let rows: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *conn).await.unwrap();
    rows.into_iter().map(|(.., line)| line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_search_visits_its_experiment_by_index_and_side_tables_by_key() {
    let world = World::new().await;
    let search = Search {
        filter: "metrics.m1 > 1 AND params.p1 = '3' AND tags.t1 = 'v'".into(),
        order_by: vec!["metrics.m2 DESC".into()],
        limit: 100,
        ..Search::default()
    };
    let plan = plan(&world, &search).await;
    assert!(plan.contains("USING INDEX registry_runs_of_experiment"), "{plan}");
    assert!(!plan.lines().any(|line| line.starts_with("SCAN")), "{plan}");
}

/// `cargo test --release -p registry --lib speed -- --ignored --nocapture` prints how long searches take.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_long_does_a_search_of_5000_runs_take() {
    let world = full().await;
    let mut conn = world.meta.reader().acquire().await.unwrap();
    for (filter, order) in [
        ("", "start_time DESC"),
        ("", "metrics.m2 DESC"),
        ("metrics.m1 > 2500 AND params.p1 = '3' AND tags.t1 = 'v'", "metrics.m2 DESC"),
        ("metrics.m1 > 2500", "metrics.m2 DESC"),
        ("params.p1 LIKE '%1%'", "start_time DESC"),
        ("params.p1 = '3' AND tags.t1 = 'v'", "params.p2"),
    ] {
        let mut search =
            Search { filter: filter.into(), order_by: vec![order.into()], limit: 100, ..Search::default() };
        let mut times = Vec::new();
        for _ in 0..50 {
            let start = tokio::time::Instant::now();
            let found = page(&mut conn, Kind::Runs, living, &search).await.unwrap();
            times.push(start.elapsed());
            search.page_token = found.next.unwrap_or_default();
        }
        times.sort();
        println!("p50 {:?} p98 {:?}: {filter} ORDER BY {order}\n{}", times[25], times[49], plan(&world, &search).await);
    }
}
