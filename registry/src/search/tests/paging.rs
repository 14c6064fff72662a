//! Pages while rows come and go, tokens that are none, and every kind of thing.

use domain::{Coded as _, ErrorCode};

use super::world::{Chance, World, a_run, living};
use crate::{
    query::{Page, Statement},
    search::{Kind, Search, page},
};

fn everything(_: &mut Statement) {}

async fn find(world: &World, kind: Kind, search: &Search) -> Page<Vec<String>> {
    let mut conn = world.meta.reader().acquire().await.unwrap();
    page(&mut conn, kind, everything, search).await.unwrap_or_else(|error| panic!("{error} of {search:?}"))
}

#[tokio::test]
async fn rows_that_come_between_pages_neither_repeat_nor_hide_others() {
    let mut chance = Chance(7);
    let world = World::new().await;
    let runs: Vec<_> = (0..50).map(|n| a_run(&mut chance, n)).collect();
    world.insert(&runs).await;
    for order in ["metrics.a DESC", "params.`b c`", "end_time", "start_time DESC"] {
        let order_by = vec![order.to_owned()];
        let before: Vec<String> = world.pages("", &order_by, 1000).await.unwrap().concat();
        let mut search = Search { order_by, limit: 3, ..Search::default() };
        let (mut seen, mut turn) = (Vec::new(), 0);
        loop {
            let mut conn = world.meta.reader().acquire().await.unwrap();
            let found = page(&mut conn, Kind::Runs, living, &search).await.unwrap();
            drop(conn);
            seen.extend(found.items.into_iter().flatten());
            let Some(token) = found.next else { break };
            search.page_token = token;
            let new = (0..3).map(|i| under_new_id(a_run(&mut chance, i), order, turn));
            let new: Vec<_> = new.collect();
            world.insert(&new).await;
            turn += 1;
        }
        let old: Vec<_> = seen.iter().filter(|id| before.contains(id)).cloned().collect();
        assert_eq!(old, before, "{order}: what was there is found once, in its order");
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len(), "{order}: nothing is found twice");
    }
}

/// The run under an id that no other turn has.
fn under_new_id(run: super::world::ARun, order: &str, turn: usize) -> super::world::ARun {
    super::world::ARun { id: format!("{}-{order}-{turn}", run.id), ..run }
}

#[tokio::test]
async fn a_token_is_of_one_query_and_cannot_be_made_up() {
    let mut chance = Chance(3);
    let world = World::new().await;
    world.insert(&(0..20).map(|n| a_run(&mut chance, n)).collect::<Vec<_>>()).await;
    let first = Search { order_by: vec!["metrics.a".into()], limit: 2, ..Search::default() };
    let token = find(&world, Kind::Runs, &first).await.next.expect("there is more");
    let mut conn = world.meta.reader().acquire().await.unwrap();
    let with = |change: fn(&mut Search)| {
        let mut search = Search { page_token: token.clone(), ..first.clone() };
        change(&mut search);
        search
    };
    assert!(page(&mut conn, Kind::Runs, everything, &with(|_| ())).await.is_ok());
    assert!(page(&mut conn, Kind::Runs, everything, &with(|s| s.limit = 9)).await.is_ok(), "pages may grow");
    for (search, problem) in [
        (with(|s| s.filter = "metrics.a > 1".into()), "belongs to another query"),
        (with(|s| s.order_by = vec!["metrics.a DESC".into()]), "belongs to another query"),
        (with(|s| s.order_by.clear()), "belongs to another query"),
        (with(|s| s.page_token = "' OR 1=1 --".into()), "is not one of ours"),
        (with(|s| s.page_token = "e30".into()), "is not one of ours"),
        (with(|s| s.page_token.truncate(20)), "is not one of ours"),
    ] {
        let error = page(&mut conn, Kind::Runs, everything, &search).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains(problem), "{error}");
    }
    let of_models = Search { order_by: vec!["name".into()], page_token: token.clone(), limit: 1, ..Search::default() };
    assert!(page(&mut conn, Kind::Models, everything, &of_models).await.is_err());
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let mut chance = Chance(4);
    let world = World::new().await;
    world.insert(&(0..6).map(|n| a_run(&mut chance, n)).collect::<Vec<_>>()).await;
    let search = Search { limit: 6, ..Search::default() };
    let found = find(&world, Kind::Runs, &search).await;
    assert_eq!((found.items.len(), found.next), (6, None));
}

#[tokio::test]
async fn what_callers_write_is_data() {
    let mut chance = Chance(5);
    let world = World::new().await;
    let mut runs: Vec<_> = (0..8).map(|n| a_run(&mut chance, n)).collect();
    for run in &mut runs {
        run.experiment = 0;
        run.deleted = false;
    }
    let evil = "x' OR '1'='1'; DROP TABLE registry_runs; --";
    runs[0].params.insert(evil.into(), evil.into());
    world.insert(&runs).await;
    let quoted = evil.replace('\'', "''");
    let filter = format!("params.`{evil}` = '{quoted}' AND params.\"{evil}\" LIKE '%{quoted}%'");
    let order_by = vec![format!("params.`{evil}`"), format!("metrics.`{evil}` DESC")];
    assert_eq!(world.pages(&filter, &order_by, 5).await.unwrap().concat(), [runs[0].id.clone()]);
    let error = world.pages("run_id = '' OR '1'='1'", &[], 5).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert_eq!(world.pages("", &[], 100).await.unwrap().concat().len(), 8, "the table still stands");
}

#[tokio::test]
async fn every_kind_is_searched_by_all_it_has() {
    let world = World::new().await;
    world
        .execute(
            "INSERT INTO registry_experiment_tags VALUES (0, 'team', 'a'), (1, 'team', 'B');
             UPDATE registry_experiments SET created_at = 5000, updated_at = 7999 WHERE id = 1;
             INSERT INTO registry_models VALUES ('m1', 2, '', '', 1000, 9000), ('M2', 1, '', '', 2000, 8000);
             INSERT INTO registry_model_tags VALUES ('m1', 'stage', 'x'), ('M2', 'stage', 'y');
             INSERT INTO registry_versions (model, version, source, download, signature, flavors, stage, description, user_id,
                 run_link, created_at, updated_at)
             VALUES ('m1', 1, 's3://a', '', '', '', '', '', '', '', 1000, 9000),
                 ('m1', 2, 's3://b', '', '', '', '', '', '', '', 2000, 9000),
                 ('M2', 1, 'file:c', '', '', '', '', '', '', '', 3000, 8000);
             INSERT INTO registry_version_tags VALUES ('m1', 2, 'ok', 'yes');
             INSERT INTO registry_logged_models
                 (id, experiment, name, model_type, status, artifact_uri, created_at, updated_at)
             VALUES ('l1', 0, 'tree', 'sk', 'READY', '', 1000, 1000), ('l2', 0, 'net', NULL, 'PENDING', '', 2000, 2000);",
        )
        .await;
    let check = async |kind, filter: &str, order: &[&str], wanted: &[&str]| {
        let order_by = order.iter().map(|text| (*text).to_owned()).collect();
        let search = Search { filter: filter.into(), order_by, limit: 1, ..Search::default() };
        let (mut found, mut search) = (Vec::new(), search);
        loop {
            let page = find(&world, kind, &search).await;
            found.extend(page.items.into_iter().map(|key| key.join("/")));
            match page.next {
                Some(token) => search.page_token = token,
                None => break,
            }
        }
        assert_eq!(found, wanted, "{kind:?}: {filter} {order:?}");
    };
    let kind = Kind::Experiments;
    check(kind, "", &[], &["1", "0"]).await;
    check(kind, "", &["experiment_id"], &["0", "1"]).await;
    check(kind, "last_update_time = 7 AND creation_time < 6", &[], &["1"]).await;
    check(kind, "experiment_id IN ('0', '7') or name LIKE 'E%'", &[], &["0"]).await;
    check(kind, "tags.team ILIKE 'b'", &["name"], &["1"]).await;
    let kind = Kind::Models;
    check(kind, "", &[], &["M2", "m1"]).await;
    check(kind, "name ILIKE 'M%' AND tags.stage != 'z'", &["timestamp"], &["m1", "M2"]).await;
    check(kind, "name LIKE 'M%'", &["last_updated_timestamp DESC"], &["M2"]).await;
    let kind = Kind::Versions;
    check(kind, "", &[], &["m1/2", "m1/1", "M2/1"]).await;
    check(kind, "version_number >= 1.5", &[], &["m1/2"]).await;
    check(kind, "source_path LIKE 's3://%' AND tags.ok IS NULL", &[], &["m1/1"]).await;
    check(kind, "NOT run_id = 'x' AND name = 'm1'", &["version_number ASC"], &["m1/1", "m1/2"]).await;
    check(kind, "tag.ok = 'yes'", &["creation_timestamp", "run_id DESC"], &["m1/2"]).await;
    let kind = Kind::LoggedModels;
    check(kind, "", &[], &["l2", "l1"]).await;
    check(kind, "status = 'READY' AND model_type = 'sk'", &[], &["l1"]).await;
    check(kind, "NOT model_type = 'sk'", &[], &["l2"]).await;
    check(kind, "name IN ('tree', 'net') AND params.a IS NULL", &["model_type DESC"], &["l1", "l2"]).await;
}
