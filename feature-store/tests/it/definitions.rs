//! What definitions may say, and what applying them does.

use domain::{Coded as _, Column, ErrorCode, Frame, Timestamp, Value, ports::Features as _};
use feature_store::Action;
use serde_json::{Value as Json, json};

use crate::world::{World, cell, event, events, parsed, spine, t};

/// The events with one definition changed.
fn changed(kind: &str, name: &str, change: impl Fn(&mut Json)) -> Vec<Json> {
    let mut all = events();
    let one = all.iter_mut().find(|json| json["kind"] == kind && json["name"] == name).unwrap();
    change(one);
    all
}

async fn refused(definitions: &[Json]) -> String {
    let world = World::new().await;
    let error = world.store.apply(&parsed(definitions), "test").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(world.store.definitions().is_empty(), "nothing is half applied");
    format!("{error}; {}", error.hint())
}

#[tokio::test]
async fn a_wrong_reference_names_the_definition_the_field_and_the_nearest_name() {
    for (definitions, message) in [
        (
            changed("FeatureView", "last", |v| v["entities"] = json!(["whoo"])),
            "FeatureView `last`: entities: unknown entity `whoo`; did you mean `who`?",
        ),
        (
            changed("FeatureView", "win", |v| v["source"] = json!("event")),
            "FeatureView `win`: source: unknown source `event`; did you mean `events`?",
        ),
        (
            changed("FeatureView", "last", |v| v["features"][1]["column"] = json!("noted")),
            "FeatureView `last`: features.remark: unknown column `noted`; did you mean `note`?",
        ),
        (
            changed("FeatureView", "win", |v| v["aggregations"][0]["column"] = json!("okay")),
            "FeatureView `win`: aggregations.count: unknown column `okay`; did you mean `ok`?",
        ),
        (
            changed("FeatureService", "all", |v| v["views"][0]["view"] = json!("lost")),
            "FeatureService `all`: views: unknown feature view `lost`; did you mean `last`?",
        ),
        (
            changed("FeatureService", "all", |v| v["views"][2]["features"] = json!(["cuont"])),
            "FeatureService `all`: views.win.features: unknown feature `cuont`; did you mean `count`?",
        ),
        (
            changed("Source", "events", |v| v["timestamp"] = json!("a")),
            "Source `events`: timestamp: unknown column `a`; did you mean `at`?",
        ),
        (
            changed("Source", "events", |v| v["row_id"] = json!(["ids"])),
            "Source `events`: row_id: unknown column `ids`; did you mean `id`?",
        ),
    ] {
        assert_eq!(refused(&definitions).await, message);
    }
}

#[tokio::test]
async fn definitions_that_contradict_themselves_are_refused() {
    for (definitions, message) in [
        (
            changed("FeatureView", "win", |v| v["features"] = json!([{"name": "x"}])),
            "features and aggregations cannot stand in one view",
        ),
        (changed("FeatureView", "win", |v| v["ttl"] = json!("1h")), "ttl: not allowed beside aggregations"),
        (changed("FeatureView", "last", |v| v["features"] = json!([])), "a view needs features or aggregations"),
        (
            changed("FeatureView", "win", |v| v["aggregations"][0]["column"] = json!("note")),
            "column `note` is text, an aggregation needs bool, int or float",
        ),
        (
            changed("FeatureView", "win", |v| v["aggregations"][0]["window"] = json!("0s")),
            "the window must be longer than zero",
        ),
        (
            changed("FeatureView", "last", |v| v["features"][0]["default"] = json!("zero")),
            "features.x.default: expected float, found text",
        ),
        (changed("Entity", "who", |v| v["type"] = json!("int")), "is text, the key of entity `who` is int"),
        (changed("Entity", "who", |v| v["key"] = json!("whom")), "for entity `who`: `whom`"),
        (changed("Source", "events", |v| v["timestamp"] = json!("id")), "column `id` is int, a timestamp is needed"),
        (changed("Source", "events", |v| v["timezone"] = json!("Mars/Olympus")), "is not a known IANA time zone"),
        (
            changed("FeatureService", "all", |v| v["request"] = json!([{"name": "who", "type": "text"}])),
            "request.who: an entity key has this name already",
        ),
        (
            changed("FeatureService", "all", |v| v["request"] = json!([{"name": "last__x", "type": "float"}])),
            "a feature has this name already",
        ),
        (
            changed("FeatureService", "all", |v| v["request"] = json!([{"name": "n", "type": "int", "default": 1.5}])),
            "request.n.default: expected int, found number 1.5",
        ),
        (
            changed("FeatureService", "all", |v| v["views"] = json!([{"view": "last"}, {"view": "last"}])),
            "stands twice",
        ),
        ([events(), events()].concat(), "name: is defined twice"),
    ] {
        let found = refused(&definitions).await;
        assert!(found.contains(message), "{found} lacks {message}");
    }
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_tells_nobody() {
    let world = World::new().await;
    let definitions = parsed(&events());
    let first = world.store.apply(&definitions, "test").await.unwrap();
    assert!(first.iter().all(|change| change.action == Action::Created));
    let told = world.meta.journal().recent(100).await.unwrap();
    assert_eq!(told.len(), 6);
    assert_eq!((told[5].subject.as_str(), told[5].actor.as_str()), ("entity/who", "test"));
    assert!(world.store.plan(&definitions).await.unwrap().iter().all(|change| change.action == Action::Unchanged));
    let second = world.store.apply(&definitions, "test").await.unwrap();
    assert!(second.iter().all(|change| change.action == Action::Unchanged));
    assert_eq!(world.meta.journal().recent(100).await.unwrap().len(), 6);
    assert_eq!(world.store.definitions().len(), 6);
    let reopened = world.reopen().await;
    let third = reopened.store.apply(&definitions, "test").await.unwrap();
    assert!(third.iter().all(|change| change.action == Action::Unchanged));
}

#[tokio::test]
async fn a_plan_says_what_differs_and_does_not_do_it() {
    let world = World::new().await;
    world.apply(&events()).await;
    let longer = parsed(&changed("FeatureView", "fresh", |v| v["ttl"] = json!("1h")));
    let plan = world.store.plan(&longer).await.unwrap();
    let fresh = plan.iter().find(|change| change.name == "fresh").unwrap();
    assert_eq!((fresh.kind.as_str(), fresh.action, fresh.detail.as_str()), ("FeatureView", Action::Updated, "ttl"));
    assert_eq!(world.store.view(&"fresh".parse().unwrap()).unwrap().ttl, Some("30us".parse().unwrap()));
    world.store.apply(&longer, "test").await.unwrap();
    assert_eq!(world.store.view(&"fresh".parse().unwrap()).unwrap().ttl, Some("1h".parse().unwrap()));
}

#[tokio::test]
async fn a_view_that_comes_or_changes_later_knows_the_rows_that_were_there() {
    let world = World::new().await;
    world.apply(&events()[..2]).await;
    world.put("events", (0..50).map(|n| event(n, "a", n, n as f64)).collect()).await;
    world.apply(&events()[2..]).await;
    let service = "all".parse().unwrap();
    let (keys, at) = spine(&[(Some("a"), 30), (Some("a"), 49)]);
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(cell(&online, "win__sum", 0), Value::Float((6..=30).sum::<i32>().into()));
    // Another column is aggregated: the view is built anew, and rows after it go on from there.
    world.apply(&changed("FeatureView", "win", |v| v["aggregations"][1]["column"] = json!("id"))).await;
    world.put("events", vec![event(1_000, "a", 49, 0.0)]).await;
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
    assert_eq!(cell(&online, "win__sum", 1), Value::Float(f64::from((25..=49).sum::<i32>()) + 1_000.0));
}

#[tokio::test]
async fn a_source_with_rows_may_gain_columns_and_lose_none() {
    let world = World::new().await;
    world.apply(&events()).await;
    // Without rows a column may still change its type.
    let numbers = |s: &mut Json| s["columns"][6]["type"] = json!("int");
    let numbered = changed("FeatureView", "last", |v| v["features"][1]["default"] = json!(0));
    let mut definitions = changed("Source", "events", numbers);
    definitions[2] = numbered[2].clone();
    world.apply(&definitions).await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 1, 1.0)]).await;
    for (change, reason) in [
        (json!({"type": "int", "name": "x"}), "column `x` cannot turn from float to int"),
        (json!({"type": "float", "name": "y"}), "column `x` cannot be removed"),
    ] {
        let definitions = changed("Source", "events", |s| s["columns"][4] = change.clone());
        let only_source = parsed(&definitions[1..2]);
        let error = world.store.apply(&only_source, "test").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict);
        assert!(error.to_string().contains(reason), "{error}");
    }
    let wider = changed("Source", "events", |s| {
        s["columns"].as_array_mut().unwrap().push(json!({"name": "y", "type": "float"}));
    });
    world.apply(&wider).await;
    world.apply(&[json!({"kind": "FeatureView", "name": "ys", "source": "events", "entities": ["who"], "features": [{"name": "y"}]}),
        json!({"kind": "FeatureService", "name": "ys", "views": [{"view": "ys"}]})]).await;
    let again = world.put("events", vec![event(1, "a", 1, 1.0)]).await;
    assert_eq!(again.duplicates, 1, "a row from before the column is still known");
    let mut row = event(2, "a", 2, 1.0);
    row["y"] = json!(7.5);
    world.put("events", vec![row]).await;
    let world = world.reopen().await;
    let (keys, at) = spine(&[(Some("a"), 1), (Some("a"), 2)]);
    let service = "ys".parse().unwrap();
    let offline = world.store.as_of(&service, &keys, &at).await.unwrap();
    assert_eq!([cell(&offline, "ys__y", 0), cell(&offline, "ys__y", 1)], [Value::Null, Value::Float(7.5)]);
    assert_eq!(world.store.latest(&service, &keys, &at).await.unwrap(), offline);
}

#[tokio::test]
async fn an_aggregation_over_values_too_large_for_exact_sums_is_refused() {
    let world = World::new().await;
    world.apply(&events()[..2]).await;
    world.put("events", vec![event(1, "a", 1, 1e12)]).await;
    let error = world.store.apply(&parsed(&events()), "test").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.to_string().contains("view `win` cannot aggregate column `x`"), "{error}");
    assert_eq!(world.store.definitions().len(), 2);
}

#[tokio::test]
async fn an_entity_of_several_columns_is_found_by_all_of_them_together() {
    let world = World::new().await;
    let definitions = [
        json!({"kind": "Entity", "name": "leg", "keys": ["carrier", {"name": "number", "type": "int"}]}),
        json!({"kind": "Source", "name": "legs", "timestamp": "at", "columns": [
            {"name": "carrier", "type": "text"}, {"name": "number", "type": "int"},
            {"name": "at", "type": "timestamp"}, {"name": "delay", "type": "float"},
        ]}),
        json!({"kind": "FeatureView", "name": "leg", "source": "legs", "entities": ["leg"], "features": [{"name": "delay"}]}),
        json!({"kind": "FeatureView", "name": "legs", "source": "legs", "entities": ["leg"], "aggregations": [
            {"name": "sum", "column": "delay", "function": "sum", "window": "1h"},
            {"name": "max", "column": "delay", "function": "max", "window": "1h"},
        ]}),
        json!({"kind": "FeatureService", "name": "legs", "views": [{"view": "leg"}, {"view": "legs"}]}),
    ];
    world.apply(&definitions).await;
    assert_eq!(serde_json::to_value(world.store.definitions()).unwrap()[0]["keys"], definitions[0]["keys"]);
    let row = |carrier: Option<&str>, number: i64, at: i64, delay: f64| json!({"carrier": carrier, "number": number, "at": t(at), "delay": delay});
    let rows = vec![
        row(Some("UA"), 1, 10, 5.0),
        row(Some("UA"), 2, 10, 7.0),
        row(Some("AA"), 1, 11, 9.0),
        row(None, 1, 12, 8.0),
    ];
    world.put("legs", rows).await;
    let service = "legs".parse().unwrap();
    let names: Vec<_> =
        world.store.service_schema(&service).unwrap().keys.iter().map(|key| key.name.to_string()).collect();
    assert_eq!(names, ["carrier", "number"]);
    let carriers = [Some("UA"), Some("UA"), Some("AA"), None, Some("AA")];
    let keys = Frame::new([
        ("number".into(), Column::Int(vec![Some(1), Some(2), Some(1), Some(1), Some(2)])),
        ("carrier".into(), Column::Text(carriers.iter().map(|carrier| carrier.map(Into::into)).collect())),
    ])
    .unwrap();
    let answer = world.store.latest(&service, &keys, &[t(20); 5]).await.unwrap();
    assert_eq!(answer, world.store.as_of(&service, &keys, &[t(20); 5]).await.unwrap());
    for name in ["leg__delay", "legs__max"] {
        let found: Vec<_> = (0..5).map(|row| cell(&answer, name, row)).collect();
        assert_eq!(
            found,
            [Value::Float(5.0), Value::Float(7.0), Value::Float(9.0), Value::Null, Value::Null],
            "{name}"
        );
    }
    for (wrong, reason) in [
        (json!({"kind": "Entity", "name": "leg"}), "key: an entity has one `key`, or several `keys`"),
        (
            json!({"kind": "Entity", "name": "leg", "key": "a", "keys": ["b"]}),
            "key: an entity has one `key`, or several `keys`",
        ),
        (json!({"kind": "Entity", "name": "leg", "keys": ["a", "a"]}), "keys: `a` stands twice"),
        (
            json!({"kind": "Entity", "name": "leg", "keys": ["a", {"name": "b", "type": "float"}]}),
            "keys: a float cannot be a key; use int or text",
        ),
    ] {
        let error = world.store.plan(&parsed(&[wrong])).await.unwrap_err();
        assert_eq!(error.to_string(), format!("Entity `leg`: {reason}"));
    }
}

#[tokio::test]
async fn a_view_says_who_answers_for_it_and_how_far_behind_it_is() {
    let mut definitions = events()[..3].to_vec();
    let about = json!({"owner": "plant@example.org", "tags": {"team": "pumps"}, "classification": "internal", "freshness": "1h"});
    definitions[2].as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
    let world = World::new().await;
    world.apply(&definitions).await;
    let written = serde_json::to_value(world.store.view(&"last".parse().unwrap()).unwrap()).unwrap();
    for field in ["owner", "tags", "classification", "freshness"] {
        assert_eq!(written[field], about[field]);
    }
    let none = world.store.freshness();
    assert_eq!((none[0].newest, none[0].behind, none[0].is_late()), (None, None, true));
    let now = world.clock.now();
    let minutes = |minutes: i64| Timestamp::from_micros(now.micros() - minutes * 60_000_000);
    world
        .put(
            "events",
            vec![json!({"id": 1, "who": "a", "at": minutes(30)}), json!({"id": 2, "who": "a", "at": minutes(90)})],
        )
        .await;
    let world = world.reopen().await;
    let found = world.store.freshness();
    assert_eq!(found[0].newest, Some(minutes(30)));
    assert_eq!((found[0].behind.unwrap().to_string(), found[0].is_late()), ("30m".into(), false));
    // A late row moves nothing back.
    world.put("events", vec![json!({"id": 3, "who": "a", "at": minutes(100)})]).await;
    assert_eq!(world.store.freshness()[0].newest, Some(minutes(30)));
    definitions[2]["freshness"] = "29m".into();
    world.apply(&definitions[2..]).await;
    assert!(world.store.freshness()[0].is_late());
    definitions[2]["freshness"] = "0s".into();
    let error = world.store.plan(&parsed(&definitions[2..])).await.unwrap_err();
    assert_eq!(error.to_string(), "FeatureView `last`: freshness: the target must be longer than zero");
}
