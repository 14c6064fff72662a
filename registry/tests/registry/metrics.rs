//! Metric series: the newest point, pages, comparisons and charts.

use std::collections::BTreeSet;

use domain::{Coded, ErrorCode, RunId};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use registry::{Batch, MetricEntry, MetricPoint, StepRange};

use crate::world::{World, point};

/// What the newest point must be, said as simply as possible.
fn newest(points: &[MetricPoint]) -> Option<&MetricPoint> {
    points.iter().max_by(|a, b| {
        let rank = |point: &MetricPoint| if point.value.is_nan() { f64::NEG_INFINITY } else { point.value };
        let numbers = (!a.value.is_nan()).cmp(&!b.value.is_nan()).then(rank(a).total_cmp(&rank(b)));
        a.step.cmp(&b.step).then(a.at.cmp(&b.at)).then(numbers)
    })
}

fn any_point() -> impl Strategy<Value = MetricPoint> {
    let value = prop_oneof![
        4 => (-3_i32..3).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
    ];
    ("[ab]", -1_i64..3, 0_i64..3, value).prop_map(|(key, step, seconds, value)| point(&key, step, seconds, value))
}

#[test]
fn the_newest_point_is_what_a_naive_reading_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let calls = prop::collection::vec(prop::collection::vec(any_point(), 0..6), 1..6);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(48) });
    let result = runner.run(&calls, |calls| {
        runtime.block_on(async {
            let run = world.run().await;
            for call in &calls {
                world.registry.log_metrics(&run, call.clone()).await.unwrap();
            }
            let all: Vec<MetricPoint> = calls.into_iter().flatten().collect();
            let latest = world.registry.tracked_run(&run).await.unwrap().latest;
            for key in ["a", "b"] {
                let of_key: Vec<_> = all.iter().filter(|point| point.key == key).cloned().collect();
                let found = latest.iter().find(|point| point.key == key);
                let shape = |point: &MetricPoint| (point.step, point.at, point.value.to_bits());
                prop_assert_eq!(found.map(shape), newest(&of_key).map(shape));
                let distinct: BTreeSet<_> = of_key.iter().map(shape).collect();
                let history = world.registry.metric_history(&run, key).await.unwrap();
                prop_assert_eq!(history.len(), distinct.len());
                prop_assert!(history.is_sorted_by_key(|point| (point.step, point.at)));
            }
            Ok(())
        })
    });
    result.unwrap();
}

#[tokio::test]
async fn pages_hold_every_point_once_while_more_arrive() {
    let world = World::new().await;
    let run = world.run().await;
    let registry = &world.registry;
    registry.log_metrics(&run, (0..10).map(|i| point("m", i, i, 0.5)).collect()).await.unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = registry.metric_page(&run, "m", 3, &token).await.unwrap();
        seen.extend(page.items.into_iter().map(|point| point.step));
        if seen.len() == 3 {
            registry.log_metrics(&run, (10..12).map(|i| point("m", i, i, 0.5)).collect()).await.unwrap();
            registry.log_metrics(&run, vec![point("m", 2, 2, 0.5)]).await.unwrap();
        }
        match page.next {
            Some(next) => token = next,
            None => break,
        }
    }
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    let page = registry.metric_page(&run, "m", 12, "").await.unwrap();
    assert_eq!((page.items.len(), page.next), (12, None), "exactly full is the last");
    for bad in ["x", "é", &"0".repeat(47), &"g".repeat(48)] {
        let error = registry.metric_page(&run, "m", 3, bad).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

#[tokio::test]
async fn pages_tell_equal_steps_and_odd_values_apart() {
    let world = World::new().await;
    let run = world.run().await;
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1.5];
    let points = values.map(|value| point("m", -4, 0, value)).to_vec();
    world.registry.log_metrics(&run, points.clone()).await.unwrap();
    world.registry.log_metrics(&run, points).await.unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = world.registry.metric_page(&run, "m", 1, &token).await.unwrap();
        seen.extend(page.items.iter().map(|point| point.value.to_bits()));
        let Some(next) = page.next else { break };
        token = next;
    }
    let wanted = [f64::NEG_INFINITY, -0.0, 0.0, 1.5, f64::INFINITY, f64::NAN].map(f64::to_bits);
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn runs_are_compared_at_the_same_steps() {
    let world = World::new().await;
    let (one, two) = (world.run().await, world.run().await);
    let registry = &world.registry;
    registry.log_metrics(&one, (0..1_000).map(|i| point("m", i, i, i as f64)).collect()).await.unwrap();
    registry.log_metrics(&two, (0..333).map(|i| point("m", 3 * i + 1, i, i as f64)).collect()).await.unwrap();
    registry.log_metrics(&two, vec![point("other", 0, 0, 1.0)]).await.unwrap();
    let runs = [two, RunId::mint(), one];
    let steps = async |range, count| {
        let found = registry.metric_interval(&runs, "m", range, count).await.unwrap();
        let of = |run| found.iter().filter(|p| p.run == run).map(|p| p.point.step).collect::<Vec<_>>();
        (of(one), of(two))
    };
    let (of_one, of_two) = steps(None, 10).await;
    assert_eq!((of_one.first(), of_one.last(), of_one.len()), (Some(&0), Some(&999), 10));
    assert_eq!((of_two.first(), of_two.last()), (Some(&1), Some(&997)), "its own ends are kept");
    assert!(of_two.len() <= 12);
    let (of_one, of_two) = steps(Some(StepRange { start: 10, end: 20 }), 2_500).await;
    assert_eq!(of_one, (10..=20).collect::<Vec<_>>());
    assert_eq!(of_two, [10, 13, 16, 19]);
    assert_eq!(steps(None, 1).await.0, [0, 999]);
    let backwards = registry.metric_interval(&runs, "m", Some(StepRange { start: 2, end: 1 }), 10).await;
    assert_eq!(backwards.unwrap_err().code(), ErrorCode::InvalidArgument);

    let all = registry.metric_histories(&runs, "m", 25_000).await.unwrap();
    assert_eq!((all.len(), all[0].run, all[1_332].run), (1_333, two, one));
    assert_eq!(registry.metric_histories(&runs, "m", 5).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_chart_hides_neither_peaks_nor_gaps() {
    let world = World::new().await;
    let run = world.run().await;
    let value = |i: i64| match i {
        7_123 => 1e9,
        8_001 => -1e9,
        4_000..4_100 => f64::NAN,
        _ => (i as f64 / 500.0).sin(),
    };
    let points: Vec<_> = (0..20_000).map(|i| point("m", i, i, value(i))).collect();
    world.registry.log_metrics(&run, points.clone()).await.unwrap();
    let chart = world.registry.metric_chart(&run, "m", 500).await.unwrap();
    assert_eq!(chart.total, 20_000);
    assert!(chart.points.len() <= 500, "{}", chart.points.len());
    assert!(chart.points.is_sorted_by_key(|point| point.step));
    let has = |step: i64| chart.points.iter().any(|point| point.step == step);
    assert!(has(0) && has(19_999) && has(7_123) && has(8_001));
    assert!(chart.points.iter().any(|point| point.value.is_nan()), "a gap stays a gap");
    // Of every stretch of 200 points.
    for stretch in points.chunks(200) {
        let numbers = || stretch.iter().filter(|point| !point.value.is_nan());
        let least = numbers().min_by(|a, b| a.value.total_cmp(&b.value));
        let greatest = numbers().max_by(|a, b| a.value.total_cmp(&b.value));
        for kept in [stretch.first(), stretch.last(), least, greatest].into_iter().flatten() {
            let same = |p: &MetricPoint| p.step == kept.step || (!kept.value.is_nan() && p.value == kept.value);
            assert!(chart.points.iter().any(same), "{kept:?}");
        }
    }
    let all = world.registry.metric_chart(&run, "m", 20_000).await.unwrap();
    assert_eq!(all.points.len(), 20_000);
    assert!(world.registry.metric_chart(&run, "none", 5).await.unwrap().points.is_empty());
    assert_eq!(world.registry.metric_chart(&run, "m", 4).await.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(world.registry.metric_chart(&RunId::mint(), "m", 50).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_point_about_a_logged_model_stands_with_the_model_too() {
    let world = World::new().await;
    let run = world.run().await;
    let mut tx = world.meta.begin().await.unwrap();
    storage::sqlx::query(
        "INSERT INTO registry_logged_models (id, experiment, name, status, artifact_uri, created_at, updated_at)
         VALUES ('m-1', 0, 'model', 'READY', 'mlflow-artifacts:/0/models/m-1/artifacts', 0, 0)",
    )
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let about = |step, value, dataset: &str| MetricEntry {
        model: Some("m-1".into()),
        dataset_name: dataset.into(),
        dataset_digest: if dataset.is_empty() { String::new() } else { "d1".into() },
        ..MetricEntry::from(point("acc", step, step, value))
    };
    let metrics =
        vec![about(2, 0.9, "wine"), about(1, 0.5, "wine"), about(3, f64::NAN, ""), point("acc", 9, 9, 0.1).into()];
    for _ in 0..2 {
        world.registry.log_batch(&run, Batch { metrics: metrics.clone(), ..Batch::default() }).await.unwrap();
    }
    let rows: Vec<(String, String, Option<f64>, i64)> = storage::sqlx::query_as(
        "SELECT dataset_name, dataset_digest, value, step FROM registry_logged_model_metrics ORDER BY dataset_name",
    )
    .fetch_all(world.meta.reader())
    .await
    .unwrap();
    let wanted = [(String::new(), String::new(), None, 3), ("wine".into(), "d1".into(), Some(0.9), 2)];
    assert_eq!(rows, wanted);
    assert_eq!(world.registry.run(&run).await.unwrap().metrics["acc"], 0.1);
    assert_eq!(world.registry.metric_history(&run, "acc").await.unwrap().len(), 4);
}
