//! Samples for the prediction log, shadows and metrics.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use domain::{Column, prediction::TargetRole};
use serde_json::json;

use crate::fakes::{World, expected, flight, state};

#[tokio::test]
async fn a_sample_holds_all_the_model_saw_and_what_it_said() {
    let world = World::new();
    world.deploy(&[(1, 60), (2, 40)], &[]).await.unwrap();
    let mut instances: Vec<_> = (0..50).map(flight).collect();
    instances[0] = json!({"origin": "JFK", "distance": 0, "event_timestamp": "2013-01-01T00:00:00Z"});
    let answer = world.ask(instances).await.unwrap();
    let [batch] = &world.tap.take()[..] else { panic!("one request, one batch") };
    assert_eq!(batch.ids, answer.predictions.iter().map(|prediction| prediction.id).collect::<Vec<_>>());
    assert_eq!(batch.event_times[0].to_string(), "2013-01-01T00:00:00Z");
    assert_eq!(batch.served_at.to_string(), "2013-04-01T12:00:00Z");
    assert_eq!(batch.label_keys[..2], [None, Some("f1".into())]);
    let names: Vec<_> = batch.inputs.names().iter().map(|name| &**name).collect();
    assert_eq!(names, ["origin", "distance", "month", "weather__temp"]);
    assert_eq!(batch.inputs.column("weather__temp"), Some(&Column::Int(vec![Some(3); 50])));
    let mut rows = BTreeSet::new();
    for scored in &batch.scored {
        assert_eq!(scored.role, TargetRole::Live);
        for &(row, score) in &scored.scores {
            let prediction = &answer.predictions[row];
            assert_eq!((scored.version, score), (prediction.version, prediction.score));
            assert!(rows.insert(row), "row {row} stands twice");
        }
    }
    assert_eq!(rows.len(), 50);
}

#[tokio::test]
async fn the_sampled_share_is_that_asked_for_and_always_the_same_rows() {
    let world = World::new();
    world.serving.configure(state(&[(1, 50), (2, 50)], &[], 0.2)).await.unwrap();
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut keys = BTreeSet::new();
        let mut of_second = 0;
        for chunk in (0..3_000).collect::<Vec<_>>().chunks(1_000) {
            world.ask(chunk.iter().map(|&id| flight(id)).collect()).await.unwrap();
        }
        for batch in world.tap.take() {
            assert_eq!(batch.inputs.rows(), batch.ids.len());
            keys.extend(batch.label_keys.iter().flatten().cloned());
            of_second += batch.scored.iter().filter(|s| s.version == 2).map(|s| s.scores.len()).sum::<usize>();
        }
        // Five standard deviations of binomials: n = 3,000 at 0.2 and at 0.1.
        assert!((490..=710).contains(&keys.len()), "{}", keys.len());
        assert!((218..=382).contains(&of_second), "{of_second}");
        rounds.push(keys);
    }
    assert_eq!(rounds[0], rounds[1]);
}

#[tokio::test]
async fn a_shadow_scores_the_logged_rows_and_answers_none() {
    let world = World::new();
    world.serving.configure(state(&[(1, 100)], &[7], 0.5)).await.unwrap();
    let answer = world.ask((0..400).map(flight).collect()).await.unwrap();
    assert!(answer.predictions.iter().all(|prediction| prediction.version == 1));
    assert!(world.house.shutdown(Duration::from_secs(20)).await.is_empty());
    let [batch] = &world.tap.take()[..] else { panic!("one request, one batch") };
    assert!((150..=250).contains(&batch.ids.len()), "{}", batch.ids.len());
    let shadow = batch.scored.iter().find(|scored| scored.version == 7).unwrap();
    assert_eq!((shadow.role, shadow.scores.len()), (TargetRole::Shadow, batch.ids.len()));
    let distances = batch.inputs.column("distance").unwrap().to_floats().unwrap();
    for &(row, score) in &shadow.scores {
        assert_eq!(score, expected(7, distances[row].unwrap(), 3.0));
    }
}

#[tokio::test]
async fn a_broken_shadow_hurts_nobody() {
    let world = World::new();
    world.deploy(&[(1, 100)], &[crate::fakes::BREAKS_ON_ROWS]).await.unwrap();
    world.ask(vec![flight(1)]).await.unwrap();
    assert!(world.house.shutdown(Duration::from_secs(20)).await.is_empty());
    let [batch] = &world.tap.take()[..] else { panic!("one request, one batch") };
    assert_eq!(batch.scored.iter().map(|scored| scored.version).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn what_the_log_refuses_is_counted_and_answered_all_the_same() {
    let world = World::new();
    world.deploy(&[(1, 100)], &[]).await.unwrap();
    world.tap.refuse.store(true, Ordering::SeqCst);
    world.ask((0..30).map(flight).collect()).await.unwrap();
    world.deploy(&[(1, 100)], &[2]).await.unwrap();
    world.ask((0..12).map(flight).collect()).await.unwrap();
    assert!(world.house.shutdown(Duration::from_secs(20)).await.is_empty());
    let text = world.metrics.render();
    for line in [
        "millpond_log_dropped_total{endpoint=\"flight-delay\"} 42",
        "millpond_predictions_total{endpoint=\"flight-delay\",version=\"1\"} 42",
        "millpond_model_seconds_count{endpoint=\"flight-delay\",version=\"1\",stage=\"infer\"} 2",
        "millpond_model_seconds_count{endpoint=\"flight-delay\",version=\"all\",stage=\"features\"} 2",
        "millpond_queue_depth{queue=\"infer/delay/1\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
