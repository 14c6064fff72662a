//! The feature server on the wire.

use serde_json::{Value, json};

use crate::{
    support::{Answer, Server},
    world,
};

/// What an error says: the exception class and the message.
#[track_caller]
fn refused(answer: &Answer, status: u16) -> (String, String) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let detail: Value = serde_json::from_str(answer.body.as_str().expect("a JSON string")).expect("JSON within it");
    assert_eq!(detail["module"], "feast.errors");
    let text = |name: &str| detail[name].as_str().expect("a text").to_owned();
    (text("class"), text("message"))
}

fn read(server: &Server, request: &Value) -> Answer {
    server.post("/get-online-features", request)
}

/// As Python sends it, whose JSON may hold words that no other has.
fn write(server: &Server, view: &str, df: &str) -> Answer {
    let body = format!(r#"{{"feature_view_name": "{view}", "df": {df}, "allow_registry_cache": false}}"#);
    server.call("POST", "/write-to-online-store", "application/json", body.as_bytes())
}

#[test]
fn the_answer_is_by_column_with_a_status_and_an_event_time_for_each_value() {
    let (server, _data) = world();
    let now = "2024-03-10T12:00:00.250Z";
    let rows = json!([
        {"driver_id": 1, "zone": "n", "fare": 1.5, "trips": null, "event_timestamp": now},
        {"driver_id": 1, "zone": "s", "fare": 0.1, "trips": 9_007_199_254_740_993_i64, "event_timestamp": now}]);
    server.ingest("fares", "application/json", rows.to_string().as_bytes()).ok();
    let old = json!([{"driver_id": 1, "trips": 3, "event_timestamp": now}]);
    server.ingest("driver_stats", "application/json", old.to_string().as_bytes()).ok();
    let answer = read(
        &server,
        &json!({"features": ["fares:trips", "driver_stats:note", "fares:fare"],
                "entities": {"zone": ["s", "n", "?", "s"], "driver_id": [1, 1, 1, 1]},
                "include_feature_view_version_metadata": true}),
    )
    .ok();
    let (never, s, n, none) = ("1970-01-01T00:00:00Z", "PRESENT", "NULL_VALUE", "NOT_FOUND");
    let wanted = json!({
    "metadata": {"feature_names": ["zone", "driver_id", "trips", "fare", "note"],
                 "feature_view_metadata": [{"name": "fares", "version": 1}, {"name": "driver_stats", "version": 1}]},
    "results": [
        {"values": ["s", "n", "?", "s"], "statuses": [s, s, s, s], "event_timestamps": [never, never, never, never]},
        {"values": [1, 1, 1, 1], "statuses": [s, s, s, s], "event_timestamps": [never, never, never, never]},
        {"values": [9_007_199_254_740_993_i64, null, null, 9_007_199_254_740_993_i64], "statuses": [s, n, none, s],
         "event_timestamps": [now, now, never, now]},
        {"values": [0.1, 1.5, null, 0.1], "statuses": [s, s, none, s], "event_timestamps": [now, now, never, now]},
        // A row older than the view's time to live is told as such.
        {"values": [null, null, null, null], "statuses": vec!["OUTSIDE_MAX_AGE"; 4], "event_timestamps": vec![now; 4]},
    ]});
    assert_eq!(answer, wanted);
}

#[test]
fn versions_entities_by_name_and_services_are_understood() {
    let (server, _data) = world();
    let ask = |request: Value| read(&server, &request);
    let names = |answer: Answer| answer.ok()["metadata"]["feature_names"].clone();
    let keys = json!({"driver": [1.0, null]});
    for feature in ["driver_stats:trips", "driver_stats@v1:trips", "driver_stats@latest:trips"] {
        let found = names(ask(json!({"features": [feature], "entities": keys})));
        assert_eq!(found, json!(["driver_id", "trips"]), "{feature}");
    }
    let (class, message) = refused(&ask(json!({"features": ["driver_stats@v2:trips"], "entities": keys})), 404);
    assert_eq!(class, "FeatureViewVersionNotFound", "{message}");
    let all = json!({"driver_id": [1], "zone": ["n"]});
    let found = names(ask(json!({"feature_service": "rides", "entities": all, "full_feature_names": true})));
    let wanted = [
        "driver_id",
        "zone",
        "driver_stats__conv_rate",
        "driver_stats__trips",
        "driver_stats__note",
        "driver_stats__active",
        "fares__fare",
    ];
    assert_eq!(found, json!(wanted));
    assert_eq!(
        refused(&ask(json!({"feature_service": "ride", "entities": all})), 404).0,
        "FeatureServiceNotFoundException"
    );
}

#[test]
fn a_request_that_does_not_fit_is_told_what_where_and_how_to_mend_it() {
    let (server, _data) = world();
    let features = json!(["driver_stats:trips"]);
    let bodies: &[(Value, u16, &str)] = &[
        (json!({"features": features, "entities": {"driver_id": [1, "x"]}}), 422, "entities.driver_id[1] is text"),
        (json!({"features": features, "entities": {"driver_id": [1.5]}}), 422, "entities.driver_id[0]"),
        (
            json!({"features": features, "entities": {"driver_id": [18_446_744_073_709_551_615_u64]}}),
            422,
            "the key is int",
        ),
        (json!({"features": features, "entities": {"driver_id": [[1]]}}), 422, "null, a bool, a number or a text"),
        (json!({"features": features, "entities": {"driver_id": []}}), 422, "at least one"),
        (json!({"features": features, "entities": {}}), 422, "driver_id"),
        (json!({"features": features, "entities": [1]}), 422, "an object of lists"),
        (json!({"features": features}), 422, "entities"),
        (json!({"features": features, "entities": {"driver_id": [1], "zone": ["a", "b"]}}), 422, "2 values"),
        (json!({"features": features, "entities": {"driver_id": [1], "driver": [1]}}), 422, "twice"),
        (json!({"features": [], "entities": {"driver_id": [1]}}), 422, "no features"),
        (json!({"features": ["trips"], "entities": {"driver_id": [1]}}), 422, "view:feature"),
        (
            json!({"features": ["driver_stats:trips", "driver_stats:trips"], "entities": {"driver_id": [1]}}),
            422,
            "twice",
        ),
        (json!({"features": ["../x:trips"], "entities": {"driver_id": [1]}}), 404, "does not exist"),
        (json!({"features": features, "entities": {"driver_id": [1]}, "fulll": true}), 422, "fulll"),
        (json!([]), 422, "does not fit"),
    ];
    for (body, status, mentions) in bodies {
        let (_, message) = refused(&read(&server, body), *status);
        assert!(message.contains(mentions), "{body}: {message}");
    }
    for body in ["", "{", "\u{0}", "{\"entities\": NaN", &"[".repeat(10_000)] {
        refused(&server.call("POST", "/get-online-features", "application/json", body.as_bytes()), 422);
    }
}

#[test]
fn a_write_is_taken_whole_or_not_at_all() {
    let (server, _data) = world();
    let rows = || server.get("/api/v1/sources/driver_stats/quarantine").ok();
    let df = |trips: &str| {
        format!(
            r#"{{"driver_id": [1, 2], "conv_rate": [0.5, NaN], "trips": {trips}, "note": ["a", null], "active": [true, null],
            "event_timestamp": ["2024-03-10T12:00:00", "2024-03-10T14:00:00+02:00"], "created": [null, null]}}"#
        )
    };
    let bad: &[(&str, &str, u16, &str)] = &[
        ("driver_stats", &df("[1, \"x\"]"), 422, "row 2, column `trips`"),
        ("driver_stats", &df("[1]"), 422, "df.trips has 1"),
        ("driver_stats", &df("7"), 422, "df.trips is not a list"),
        ("driver_stats", &df("[1, Infinity]"), 422, "column `trips`"),
        ("driver_stats", r#"{"driver_id": [1], "event_timestamp": ["soon"]}"#, 422, "event_timestamp[0]"),
        ("driver_stats", r#"{"driver_id": [1], "conv_rate": [1]}"#, 422, "event time"),
        ("driver_stats", r#"{"driver_id": [1], "speed": [1], "event_timestamp": ["2024-03-10"]}"#, 422, "speed"),
        (
            "driver_week",
            r#"{"driver_id": [1], "trips_7d": [1], "event_timestamp": ["2024-03-10T00:00:00"]}"#,
            422,
            "windows",
        ),
        ("no_such", &df("[1, 2]"), 404, "no_such"),
        ("No Such", &df("[1, 2]"), 404, "No Such"),
        ("driver_stats", "[1]", 422, "does not fit"),
    ];
    for (view, df, status, mentions) in bad {
        let (_, message) = refused(&write(&server, view, df), *status);
        assert!(message.contains(mentions), "{df}: {message}");
    }
    let none = read(&server, &json!({"features": ["driver_stats:trips"], "entities": {"driver_id": [1, 2]}})).ok();
    assert_eq!(none["results"][1]["statuses"], json!(["NOT_FOUND", "NOT_FOUND"]), "nothing was half written");
    assert_eq!(rows(), json!([]), "what is refused is not set aside either");

    assert_eq!(write(&server, "driver_stats", &df("[1, 2]")).ok(), Value::Null);
    let when = json!({"service": "rides", "rows": [{"driver_id": 2, "event_timestamp": "2024-03-10T12:00:00Z"}]});
    let row = &server.post("/api/v1/features/historical", &when).ok()["rows"][0];
    assert_eq!((&row["driver_stats__conv_rate"], &row["driver_stats__trips"]), (&Value::Null, &json!(2)));
}

#[test]
fn a_write_that_would_blank_out_what_another_view_serves_is_refused_and_an_echo_is_passed_over() {
    let (server, _data) = world();
    server
        .apply(
            "
kind: FeatureView
name: notes
source: driver_stats
entities: [driver]
features: [{name: note}]
",
        )
        .ok();
    let df = r#"{"driver_id": [1], "note": ["x"], "event_timestamp": ["2024-03-10T12:00:00"]}"#;
    let (_, message) = refused(&write(&server, "notes", df), 422);
    assert!(message.contains("driver_stats") && message.contains("whole rows of the source"), "{message}");

    let whole = r#"{"driver_id": [1], "conv_rate": [0.5], "trips": [1], "note": ["x"], "active": [true],
        "event_timestamp": ["2024-03-10T12:00:00"], "created": ["2024-03-10T12:00:01"]}"#;
    let push = format!(r#"{{"push_source_name": "driver_stats_push", "df": {whole}, "to": "online_and_offline"}}"#);
    assert_eq!(server.call("POST", "/push", "application/json", push.as_bytes()).ok(), Value::Null);
    // What `feast materialize` sends back: the view's own columns of rows that are there.
    let echo = r#"{"driver_id": [1], "conv_rate": [0.5], "trips": [1], "note": ["x"], "active": [true],
        "event_timestamp": ["2024-03-10T12:00:00"]}"#;
    assert_eq!(write(&server, "driver_stats", echo).ok(), Value::Null);
    let row = json!({"service": "rides", "rows": [{"driver_id": 1, "event_timestamp": "2024-03-10T12:00:00Z"}]});
    assert_eq!(server.post("/api/v1/features/online", &row).ok()["rows"][0]["driver_stats__note"], "x");
}

#[test]
fn a_push_goes_to_a_source_and_says_which_words_it_knows() {
    let (server, _data) = world();
    let push = |name: &str, to: &str| {
        let df = json!({"driver_id": [1], "zone": ["n"], "fare": [2.5], "event_timestamp": ["2024-03-10T12:00:00Z"]});
        server.post("/push", &json!({"push_source_name": name, "df": df, "to": to}))
    };
    push("fares", "online").ok();
    push("fares_push", "offline").ok();
    assert_eq!(refused(&push("fare", "online"), 422).0, "PushSourceNotFoundException");
    assert!(refused(&push("fares", "nowhere"), 422).1.contains("nowhere"));
}

#[test]
fn a_materialisation_checks_the_range_and_says_what_is_wrong_with_it() {
    let (server, _data) = world();
    let df = r#"{"driver_id": [1], "trips": [1], "event_timestamp": ["2024-03-10T12:00:00"]}"#;
    write(&server, "driver_stats", df).ok();
    let post = |path: &str, body: Value| server.post(path, &body);
    let vague = json!({"start_ts": "in March", "end_ts": "2024-04-01T00:00:00"});
    assert!(refused(&post("/materialize", vague), 422).1.contains("start_ts"));
    let range = json!({"start_ts": "2024-03-01", "end_ts": "2024-04-01T00:00:00", "feature_views": null});
    assert_eq!(post("/materialize", range.clone()).ok(), Value::Null);
    assert_eq!(post("/materialize-incremental", json!({"end_ts": "2030-01-01T00:00:00Z"})).ok(), Value::Null);
    let begun = post("/materialize?async=true", json!({"disable_event_timestamp": true, "feature_views": ["fares"]}));
    assert_eq!((begun.status, begun.body), (202, json!({"status": "accepted", "feature_views": ["fares"]})));
    let swapped = json!({"start_ts": "2024-04-01T00:00:00", "end_ts": "2024-03-01T00:00:00"});
    assert!(refused(&post("/materialize", swapped), 422).1.contains("not before"));
    assert!(refused(&post("/materialize", json!({"end_ts": "2024-03-01T00:00:00"})), 422).1.contains("start_ts"));
    let unknown = json!({"disable_event_timestamp": true, "feature_views": ["driver_stat"]});
    assert_eq!(refused(&post("/materialize", unknown), 404).0, "FeatureViewNotFoundException");
    assert!(refused(&post("/materialize?sync=1", range), 400).1.contains("sync"));
}
