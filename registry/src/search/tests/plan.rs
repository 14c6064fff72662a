//! How the database carries a search out.

use super::world::{World, living};
use crate::search::{Kind, Search, filter, order, sql};

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
