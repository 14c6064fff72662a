//! Features chosen one by one, rows by view, and whether what is online is what was.

use std::sync::{Arc, Mutex};

use domain::{Coded as _, Column, ErrorCode, Frame, Timestamp, Value};
use feature_store::{FeatureStatus, IngestReport, Stretch};
use serde_json::{Map, Value as Json, json};
use storage::Kv;
use tempfile::TempDir;

use crate::world::World;

fn definitions() -> Vec<Json> {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    vec![
        json!({"kind": "Entity", "name": "pump", "key": "pump", "type": "text"}),
        json!({"kind": "Source", "name": "readings", "timestamp": "at", "created": "written", "row_id": ["pump"],
            "columns": [column("pump", "text"), column("temp", "float"), column("flow", "int"), column("at", "timestamp"),
                        column("written", "timestamp")]}),
        json!({"kind": "FeatureView", "name": "heat", "source": "readings", "entities": ["pump"], "ttl": "1h",
            "features": [{"name": "warmth", "column": "temp"}]}),
        json!({"kind": "FeatureView", "name": "water", "source": "readings", "entities": ["pump"],
            "features": [{"name": "flow"}]}),
        json!({"kind": "FeatureView", "name": "lately", "source": "readings", "entities": ["pump"],
            "aggregations": [{"name": "flow_1h", "column": "flow", "function": "sum", "window": "1h"}]}),
    ]
}

fn row(pump: &str, minute: u32, temp: f64, flow: i64) -> Json {
    json!({"pump": pump, "temp": temp, "flow": flow, "at": format!("2024-05-01T00:{minute:02}:00Z")})
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn keys(pumps: &[&str]) -> Frame {
    Frame::new([("pump".into(), Column::Text(pumps.iter().map(|p| Some((*p).into())).collect()))]).unwrap()
}

fn object(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

#[tokio::test]
async fn chosen_features_are_the_same_online_and_from_history_and_stand_by_view() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    world.put("readings", vec![row("a", 1, 20.5, 3), row("a", 5, 21.5, 4), row("b", 2, 9.0, 5)]).await;
    let chosen = world.store.select(&[("water", "flow"), ("lately", "flow_1h"), ("heat", "warmth")]).unwrap();
    let names: Vec<String> = chosen.features().map(|f| format!("{}:{}", f.view, f.feature)).collect();
    assert_eq!(names, ["water:flow", "lately:flow_1h", "heat:warmth"]);
    let (keys, at) = (keys(&["a", "b", "c"]), [at("2024-05-01T01:03:00Z"); 3]);
    let online = world.store.online_selected(&chosen, &keys, &at).await.unwrap();
    assert_eq!(online, world.store.historical_selected(&chosen, &keys, &at).await.unwrap());
    let column = |name: &str| online.features.require(name).unwrap();
    assert_eq!(*column("water__flow"), Column::Int(vec![Some(4), Some(5), None]));
    // The window holds `a`'s second row only, and the older row of `b` is too old for `heat`.
    assert_eq!(column("lately__flow_1h").get(0), Value::Float(4.0));
    use FeatureStatus::{NotFound, OutsideMaxAge, Present};
    assert_eq!(online.meta[2].statuses, [Present, OutsideMaxAge, NotFound]);
}

#[tokio::test]
async fn a_choice_is_compiled_anew_when_a_definition_changes() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    assert_eq!(world.store.select(&[("heat", "flow")]).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(world.store.view_version(&"heat".parse().unwrap()).await.unwrap(), 1);
    let mut changed = definitions().remove(2);
    changed["features"] = json!([{"name": "flow"}]);
    world.apply(&[changed]).await;
    assert!(world.store.select(&[("heat", "flow")]).is_ok());
    assert_eq!(world.store.select(&[("heat", "warmth")]).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(world.store.view_version(&"heat".parse().unwrap()).await.unwrap(), 2);
    let standing = world.store.standing().await.unwrap();
    assert_eq!(
        standing.iter().map(|(d, s)| (d.name(), s.version)).collect::<Vec<_>>()[2..4],
        [("heat", 2), ("lately", 1)]
    );
}

#[tokio::test]
async fn rows_are_pulled_by_stretch_and_the_latest_of_each_key_counts() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let mut tie = row("a", 5, 23.0, 6);
    tie["written"] = json!("2024-05-01T09:00:00Z");
    world
        .put(
            "readings",
            vec![
                row("a", 5, 21.0, 4),
                row("b", 2, 9.0, 5),
                row("a", 1, 20.0, 3),
                json!({"at": "2024-05-01T00:03:00Z"}),
            ],
        )
        .await;
    // A correction: what it replaces is a row no longer.
    world.put("readings", vec![tie]).await;
    let (source, columns) = ("readings".parse().unwrap(), ["pump".to_owned(), "flow".to_owned()]);
    let stretch = |from: &str, to: &str| Stretch { from: Some(at(from)), to: Some(at(to)) };
    let all = world.store.rows(&source, &columns, Stretch::default()).await.unwrap();
    assert_eq!(*all.require("flow").unwrap(), Column::Int(vec![Some(3), Some(5), None, Some(6)]));
    let edge = stretch("2024-05-01T00:02:00Z", "2024-05-01T00:03:00Z");
    let some = world.store.rows(&source, &columns, edge).await.unwrap();
    assert_eq!(*some.require("flow").unwrap(), Column::Int(vec![Some(5), None]), "both ends count");
    let latest = world.store.latest_rows(&source, &columns[..1], &columns, Stretch::default()).await.unwrap();
    assert_eq!(*latest.require("flow").unwrap(), Column::Int(vec![Some(5), Some(6)]), "no row without a key");
    let unknown = world.store.rows(&source, &["flaw".to_owned()], Stretch::default()).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.hint().as_str()), (ErrorCode::NotFound, "did you mean `flow`?"));
}

#[tokio::test]
async fn a_view_takes_rows_unless_another_view_would_lose_by_it() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let write = async |view: &str, rows: Vec<Json>| {
        world.store.write_view(&view.parse().unwrap(), rows.into_iter().map(object).collect()).await
    };
    let whole = json!({"pump": "a", "warmth": 20.0, "flow": 3, "at": "2024-05-01T00:01:00Z", "written": null});
    assert_eq!(write("heat", vec![whole.clone()]).await.unwrap().accepted, 1);
    let alone = json!({"pump": "a", "warmth": 21.0, "at": "2024-05-01T00:02:00Z"});
    let lost = write("heat", vec![alone]).await.unwrap_err();
    assert!(lost.to_string().contains("`water`") && lost.to_string().contains("`flow`"), "{lost}");
    assert!(write("lately", vec![json!({"pump": "a"})]).await.unwrap_err().to_string().contains("windows"));
    // `written` is left out: what says nothing new is passed over, what does is taken.
    let both = json!({"kind": "FeatureView", "name": "both", "source": "readings", "entities": ["pump"],
        "features": [{"name": "temp"}, {"name": "flow"}]});
    world.apply(&[both]).await;
    let echo = json!({"pump": "a", "temp": 20.0, "flow": 3, "at": "2024-05-01T00:01:00Z"});
    assert_eq!(write("both", vec![echo]).await.unwrap(), IngestReport::default());
    let news = json!({"pump": "a", "warmth": 20.0, "flow": 9, "at": "2024-05-01T00:09:00Z"});
    assert_eq!(write("heat", vec![news]).await.unwrap().accepted, 1);
    let bad = vec![
        json!({"pump": "b", "warmth": 1.0, "flow": 1, "at": "2024-05-01T00:09:00Z"}),
        json!({"pump": "b", "warmth": "x", "flow": 1, "at": "2024-05-01T00:10:00Z"}),
    ];
    assert!(write("heat", bad).await.unwrap_err().to_string().contains("row 2, column `temp`"));
    assert_eq!(world.store.stats(&"readings".parse().unwrap()).unwrap().rows, 2, "all or none");
}

#[tokio::test]
async fn online_values_that_were_lost_are_found_out_and_built_anew() {
    let kept: Arc<Mutex<Option<Arc<dyn Kv>>>> = Arc::default();
    let keep = kept.clone();
    let dir = Arc::new(TempDir::new().unwrap());
    let world = World::open_with(dir, move |kv| {
        let kv: Arc<dyn Kv> = Arc::new(kv);
        *keep.lock().unwrap() = Some(kv.clone());
        kv
    })
    .await;
    world.apply(&definitions()).await;
    world.put("readings", vec![row("a", 1, 20.0, 3), row("b", 2, 9.0, 5)]).await;
    let (heat, all) = ("heat".parse().unwrap(), Stretch { from: None, to: Some(at("2024-05-01T00:30:00Z")) });
    let kv = kept.lock().unwrap().clone().unwrap();
    let lost: Vec<Vec<u8>> = kv.range(b"r", b"s", 100).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(lost.len(), 4, "two rows in two plain views");
    kv.write(Vec::new(), lost, true).await.unwrap();
    let mended = world.store.verify_online(&heat, all).await.unwrap();
    assert_eq!((mended.entities, mended.rebuilt), (2, true));
    let chosen = world.store.select(&[("heat", "warmth")]).unwrap();
    let found = world.store.online_selected(&chosen, &keys(&["b"]), &[at("2024-05-01T00:30:00Z")]).await.unwrap();
    assert_eq!(*found.features.require("heat__warmth").unwrap(), Column::Float(vec![Some(9.0)]));
    assert!(!world.store.verify_online(&heat, all).await.unwrap().rebuilt);
}
