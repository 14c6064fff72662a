//! Training sets: which rows, which labels, what they may know.

use domain::{Column, Value, ValueType, definition::DatasetSpec, ports::Features as _};
use feature_store::Dataset;
use serde_json::{Value as Json, json};

use crate::world::{World, cell, event, events, t};

/// Trips ask, arrivals answer; the service of `events` tells about who asks.
async fn world() -> World {
    let world = World::new().await;
    let mut definitions = events();
    definitions[5]["request"] =
        json!([{"name": "km", "type": "float"}, {"name": "mode", "type": "text", "default": "bus"}]);
    definitions.extend([
        json!({"kind": "Source", "name": "trips", "timestamp": "start", "row_id": ["trip"], "columns": [
            {"name": "trip", "type": "int", "required": true}, {"name": "who", "type": "text"},
            {"name": "start", "type": "timestamp"}, {"name": "km", "type": "float"}, {"name": "mode", "type": "text"},
        ]}),
        json!({"kind": "Source", "name": "arrivals", "timestamp": "known", "row_id": ["trip", "origin"], "columns": [
            {"name": "trip", "type": "int", "required": true}, {"name": "known", "type": "timestamp"},
            {"name": "late", "type": "bool"}, {"name": "origin", "type": "text"},
        ]}),
    ]);
    world.apply(&definitions).await;
    world
}

fn trip(trip: i64, start: i64) -> Json {
    json!({"trip": trip, "who": "a", "start": t(start), "km": trip as f64, "mode": if trip % 2 == 0 { Some("car") } else { None }})
}

fn arrival(trip: i64, known: i64, late: impl Into<Json>, origin: &str) -> Json {
    json!({"trip": trip, "known": t(known), "late": late.into(), "origin": origin})
}

fn spec(window: Option<&str>, holdout: &str) -> DatasetSpec {
    let label = json!({"source": "arrivals", "key": ["trip"], "column": "late"});
    let mut spec = json!({"service": "all", "spine": "trips", "label": label, "holdout": holdout});
    if let Some(window) = window {
        spec["window"] = json!(window);
    }
    serde_json::from_value(spec).unwrap()
}

fn trips(frame: &domain::Frame) -> Vec<i64> {
    match frame.require("trip").unwrap() {
        Column::Int(v) => v.iter().map(|trip| trip.unwrap()).collect(),
        other => panic!("{other:?}"),
    }
}

async fn build(world: &World, spec: &DatasetSpec, cutoff: i64) -> Dataset {
    world.store.dataset(spec, t(cutoff)).await.unwrap()
}

#[tokio::test]
pub async fn a_dataset_holds_the_labelled_rows_of_its_window_and_nothing_later() {
    let world = world().await;
    world.put("events", (0..10).map(|n| event(n, "a", n * 10, n as f64)).collect()).await;
    // Sent out of order, to come out in order.
    world.put("trips", [7, 3, 1, 2, 5, 4, 6, 8].map(|n| trip(n, n * 10)).to_vec()).await;
    let late = |n: i64| arrival(n, n * 10 + 15, n % 3 == 0, "outcome");
    world.put("arrivals", [1, 2, 3, 4, 6, 7, 8].map(late).to_vec()).await;

    let all = build(&world, &spec(None, "15us"), 80).await;
    // Trip 5 has no label, 7 and 8 are labelled after the cutoff; the newest labelled is 6 at 60.
    assert_eq!((trips(&all.train), trips(&all.holdout), all.dropped_unlabelled), (vec![1, 2, 3, 4], vec![6], 3));
    assert_eq!((all.from, all.to), (Some(t(10)), Some(t(60))));
    let names: Vec<&str> = all.train.names().iter().map(|name| &**name).collect();
    assert_eq!(names[..5], ["event_timestamp", "trip", "who", "km", "mode"]);
    assert_eq!((names[5], names.last()), ("last__x", Some(&"label")));
    assert_eq!((all.label.as_str(), all.event_time.as_str()), ("label", "event_timestamp"));
    let column = |name: &str| (0..4).map(|row| cell(&all.train, name, row)).collect::<Vec<_>>();
    assert_eq!(column("label"), [false, false, true, false].map(Value::Bool));
    assert_eq!(column("mode"), ["bus", "car", "bus", "car"].map(|mode| Value::Text(mode.into())));
    // Features as of the trip's own start.
    assert_eq!(column("last__x"), [1.0, 2.0, 3.0, 4.0].map(Value::Float));
    assert_eq!(all.source_snapshots.keys().collect::<Vec<_>>(), ["arrivals", "events", "trips"]);

    // The window is open at its beginning: 20 is outside (80 - 60, 80].
    let recent = build(&world, &spec(Some("60us"), "1us"), 80).await;
    assert_eq!((trips(&recent.train), trips(&recent.holdout)), (vec![3, 4], vec![6]));
    assert_eq!(build(&world, &spec(Some("60us"), "1us"), 80).await.source_snapshots, recent.source_snapshots);
    world.put("arrivals", vec![arrival(5, 70, true, "outcome")]).await;
    let known = build(&world, &spec(Some("60us"), "1us"), 80).await;
    assert_eq!(trips(&known.train), [3, 4, 5]);
    assert_ne!(known.source_snapshots["arrivals"], recent.source_snapshots["arrivals"]);
    assert_eq!(known.source_snapshots["trips"], recent.source_snapshots["trips"]);
}

#[tokio::test]
pub async fn the_newest_label_counts_and_a_reviewers_outranks_it() {
    let world = world().await;
    world.put("trips", [1, 2, 3, 4].map(|n| trip(n, n)).to_vec()).await;
    world
        .put(
            "arrivals",
            vec![
                arrival(1, 10, true, "outcome"),
                arrival(1, 20, false, "outcome"),
                arrival(2, 10, true, "reviewer"),
                arrival(2, 20, false, "outcome"),
                arrival(3, 10, true, "outcome"),
                arrival(3, 20, Json::Null, "reviewer"),
                arrival(4, 20, Json::Null, "outcome"),
                arrival(1, 90, true, "reviewer"),
            ],
        )
        .await;
    let labels = async |cutoff: i64| {
        let dataset = build(&world, &spec(None, "0s"), cutoff).await;
        assert_eq!((dataset.holdout.rows(), dataset.dropped_unlabelled), (0, 1));
        [0, 1, 2].map(|row| cell(&dataset.train, "label", row))
    };
    assert_eq!(labels(50).await, [false, true, true].map(Value::Bool));
    assert_eq!(labels(90).await, [true, true, true].map(Value::Bool));
}

#[tokio::test]
pub async fn a_datasets_features_are_those_the_ports_give() {
    let world = world().await;
    world.put("events", (0..40).map(|n| event(n, "a", n * 3 % 40, n as f64)).collect()).await;
    world.put("trips", (1..30).map(|n| trip(n, n)).collect()).await;
    world.put("arrivals", (1..30).map(|n| arrival(n, n + 1, true, "outcome")).collect()).await;
    let dataset = build(&world, &spec(None, "5us"), 100).await;
    assert_eq!((dataset.train.rows(), dataset.holdout.rows()), (24, 5));
    for frame in [&dataset.train, &dataset.holdout] {
        let at: Vec<_> = frame.timestamps("event_timestamp").unwrap().iter().map(|at| at.unwrap()).collect();
        let features = world.store.latest(&"all".parse().unwrap(), frame, &at).await.unwrap();
        for (name, column) in features.iter() {
            assert_eq!(frame.require(name).unwrap(), column, "{name}");
        }
    }
}

#[tokio::test]
pub async fn an_empty_dataset_still_has_its_columns() {
    let world = world().await;
    let dataset = build(&world, &spec(None, "5us"), 100).await;
    assert_eq!((dataset.train.rows(), dataset.holdout.rows(), dataset.from), (0, 0, None));
    assert_eq!(dataset.train.require("label").unwrap().kind(), ValueType::Bool);
    assert_eq!(dataset.train.require("win__count").unwrap().kind(), ValueType::Int);
}

#[tokio::test]
async fn a_dataset_that_cannot_be_built_says_which_field_is_wrong() {
    let world = world().await;
    for (change, message) in [
        (json!({"spine": "trip"}), "dataset: spine: unknown source `trip`; did you mean `trips`?"),
        (json!({"spine": "arrivals"}), "dataset: spine: source `arrivals` has no column `who`; "),
        (
            json!({"label": {"source": "arrivals", "key": ["trips"], "column": "late"}}),
            "dataset: spine: source `trips` has no column `trips`; did you mean `trip`?",
        ),
        (
            json!({"label": {"source": "arrivals", "key": ["trip"], "column": "origin"}}),
            "dataset: label.column: column `origin` of source `arrivals` is text, bool is needed; ",
        ),
        (
            json!({"label": {"source": "arrivals", "key": [], "column": "late"}}),
            "dataset: label.key: at least one column is needed; ",
        ),
        (json!({"service": "al"}), "FeatureService `al` does not exist; did you mean `all`?"),
    ] {
        let mut json = serde_json::to_value(spec(None, "5us")).unwrap();
        for (field, value) in change.as_object().unwrap() {
            json[field] = value.clone();
        }
        let spec = serde_json::from_value(json).unwrap();
        let error = world.store.dataset(&spec, t(100)).await.unwrap_err();
        use domain::Coded as _;
        assert_eq!(format!("{error}; {}", error.hint()), message);
    }
}
