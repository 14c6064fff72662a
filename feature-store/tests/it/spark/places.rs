//! Where a join runs, and what Spark is not asked.

use std::{sync::Arc, time::Duration};

use domain::{Coded as _, Column, ErrorCode, Frame, Value};
use feature_store::{JoinPlace, Remote, Spark};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    spark_server::SparkServer,
    world::{World, cell, event, events, spine, t},
};

async fn world(place: JoinPlace) -> World {
    let address = SparkServer::shared().address.parse().unwrap();
    let spark = Spark::new(address, None, Duration::from_secs(120)).unwrap();
    let remote = Remote { spark: Some(spark), place };
    let world = World::open_remote(Arc::new(TempDir::new().unwrap()), |kv| Arc::new(kv), remote).await;
    let mut definitions = events();
    definitions.extend([
        json!({"kind": "FeatureView", "name": "sketch", "source": "events", "entities": ["who"], "aggregations": [
            {"name": "kinds", "column": "note", "function": "distinct", "window": "1h"},
        ]}),
        json!({"kind": "FeatureService", "name": "sketches", "views": [{"view": "sketch"}]}),
    ]);
    world.apply(&definitions).await;
    world
}

#[tokio::test]
async fn what_fits_is_joined_here_what_does_not_on_spark_and_the_plan_says_why() {
    let world = world(JoinPlace::Auto).await;
    let service = "all".parse().unwrap();
    let small = world.store.join_plan(&service, 10).unwrap();
    // A question is 150 bytes, and joins of tests have 4,096.
    assert_eq!((small.place, small.bytes, small.rows), (JoinPlace::Local, 1_500, 0));
    assert_eq!(small.reason, "0 rows and 10 questions need about 1500 bytes; `features.join_memory_bytes` is 4096");
    world.put("events", (0..100).map(|n| event(n, "a", n, 1.0)).collect()).await;
    let large = world.store.join_plan(&service, 10).unwrap();
    assert_eq!((large.place, large.rows), (JoinPlace::Spark, 100));
    assert!(large.reason.ends_with("`features.join_memory_bytes` is only 4096"), "{}", large.reason);
    let sketches = world.store.join_plan(&"sketches".parse().unwrap(), 1_000).unwrap();
    assert_eq!(sketches.place, JoinPlace::Local);
    assert!(sketches.reason.contains("`kinds` is a distinct, a sketch of ours"), "{}", sketches.reason);
    let (keys, at) = spine(&[(Some("a"), 50)]);
    let answer = world.store.historical(&service, &keys, &at).await.unwrap();
    assert_eq!(cell(&answer.features, "last__id", 0), Value::Int(50));
    // Sketches are answered, and here.
    let (keys, at) = spine(&vec![(Some("a"), 50); 40]);
    assert_eq!(world.store.historical(&"sketches".parse().unwrap(), &keys, &at).await.unwrap().features.rows(), 40);
}

#[tokio::test]
async fn where_only_spark_may_be_asked_a_sketch_is_refused_by_name() {
    let world = world(JoinPlace::Spark).await;
    let (keys, at) = spine(&[(Some("a"), 50)]);
    let error = world.store.historical(&"sketches".parse().unwrap(), &keys, &at).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert_eq!(
        format!("{error}; {}", error.hint()),
        "view `sketch` cannot be joined on Spark: `kinds` is a distinct, a sketch of ours that Spark does not have; \
         set `joins.place` to `auto` or `local`"
    );
}

#[tokio::test]
async fn composite_keys_lists_defaults_and_times_come_back_as_they_went() {
    let world = world(JoinPlace::Spark).await;
    world
        .apply(&[
            json!({"kind": "Entity", "name": "seat", "keys": [{"name": "row", "type": "int"}, {"name": "hall", "type": "text"},
                {"name": "opened", "type": "timestamp"}]}),
            json!({"kind": "Source", "name": "sales", "timestamp": "at", "columns": [
                {"name": "row", "type": "int"}, {"name": "hall", "type": "text"}, {"name": "opened", "type": "timestamp"},
                {"name": "at", "type": "timestamp"}, {"name": "prices", "type": "float[2]"}, {"name": "who", "type": "text[]"},
                {"name": "until", "type": "timestamp"},
            ]}),
            json!({"kind": "FeatureView", "name": "sale", "source": "sales", "entities": ["seat"], "features": [
                {"name": "prices", "default": [0, 0]}, {"name": "who"}, {"name": "until", "default": "1960-01-01T00:00:00Z"},
            ]}),
            json!({"kind": "FeatureService", "name": "sales", "views": [{"view": "sale"}]}),
        ])
        .await;
    let quote = "o'`\"\\ ünd; DROP";
    let sale = |row: i64, hall: &str, at: i64, who: serde_json::Value| {
        json!({"row": row, "hall": hall, "opened": "1899-12-31T23:59:59.999999Z", "at": t(at), "prices": if row == 1 { json!([0.1, -0.0]) } else { json!(null) }, "who": who,
            "until": "1890-01-01T00:00:00.000001Z"})
    };
    world
        .put(
            "sales",
            vec![sale(1, quote, 5, json!(["x", quote])), sale(1, "b", 6, json!(null)), sale(2, "b", 7, json!([]))],
        )
        .await;
    let opened = Some("1899-12-31T23:59:59.999999Z".parse().unwrap());
    let hall = [Some(quote), Some("b"), Some("b"), None, Some(quote)].map(|hall| hall.map(Into::into));
    let keys = Frame::new([
        ("row".into(), Column::Int(vec![Some(1), Some(1), Some(2), Some(1), Some(2)])),
        ("hall".into(), Column::Text(hall.to_vec())),
        ("opened".into(), Column::Timestamp(vec![opened; 5])),
    ])
    .unwrap();
    let at = [t(10); 5];
    let service = "sales".parse().unwrap();
    let answer = world.store.historical(&service, &keys, &at).await.unwrap();
    assert_eq!(answer, world.store.online(&service, &keys, &at).await.unwrap());
    let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| Value::Text((*text).into())).collect());
    assert_eq!(cell(&answer.features, "sale__who", 0), texts(&["x", quote]));
    assert_eq!(cell(&answer.features, "sale__who", 2), texts(&[]));
    assert_eq!(cell(&answer.features, "sale__prices", 4), Value::List([Value::Float(0.0), Value::Float(0.0)].into()));
}
