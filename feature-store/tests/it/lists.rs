//! Arrays and embeddings: in by every format, out online and from history as they came.

use domain::{Column, Frame, ListType, Scalar, Value, ValueType, ports::Features as _};
use feature_store::Format;
use serde_json::{Value as Json, json};

use crate::world::{World, cell, parsed, spine, t};

fn definitions() -> Vec<Json> {
    vec![
        json!({"kind": "Entity", "name": "who", "key": "who"}),
        json!({"kind": "Source", "name": "texts", "timestamp": "at", "columns": [
            {"name": "who", "type": "text"}, {"name": "at", "type": "timestamp"},
            {"name": "embedding", "type": "float[3]"}, {"name": "words", "type": "text[]"},
        ]}),
        json!({"kind": "FeatureView", "name": "text", "source": "texts", "entities": ["who"], "features": [
            {"name": "embedding", "default": [0, 0, 0]}, {"name": "words"},
        ]}),
        json!({"kind": "FeatureView", "name": "texts", "source": "texts", "entities": ["who"], "aggregations": [
            {"name": "different", "column": "words", "function": "distinct", "window": "1h"},
        ]}),
        json!({"kind": "FeatureService", "name": "texts", "views": [{"view": "text"}, {"view": "texts"}]}),
    ]
}

fn floats(values: [f64; 3]) -> Value {
    Value::List(values.into_iter().map(Value::Float).collect())
}

fn words(values: &[&str]) -> Value {
    Value::List(values.iter().map(|word| Value::Text((*word).into())).collect())
}

#[tokio::test]
async fn lists_come_in_by_every_format_and_out_on_every_path() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let source = "texts".parse().unwrap();
    let report =
        world.put("texts", vec![json!({"who": "a", "at": t(1), "embedding": [1, 2.5, -3], "words": ["x", "y"]})]).await;
    assert_eq!((report.accepted, report.quarantined), (1, 0));
    let csv = format!("who,at,embedding,words\nb,{},\"[4,5,6]\",[]\n", t(2));
    assert_eq!(world.store.ingest(&source, Format::Csv, csv.into()).await.unwrap().accepted, 1);
    // Parquet of a writer who fixes no length.
    let mut embedding = Column::empty(ValueType::List(ListType::of(Scalar::Int)));
    [Value::List([7, 8, 9].map(Value::Int).into()), Value::List([7].map(Value::Int).into())]
        .into_iter()
        .for_each(|list| embedding.push(list).unwrap());
    let frame = Frame::new([
        ("who".into(), Column::Text(vec![Some("c".into()), Some("d".into())])),
        ("at".into(), Column::Timestamp(vec![Some(t(3)); 2])),
        ("embedding".into(), embedding),
    ])
    .unwrap();
    let parquet = storage::to_parquet(&frame).unwrap();
    let report = world.store.ingest(&source, Format::Parquet, parquet).await.unwrap();
    assert_eq!((report.accepted, report.quarantined), (1, 1));
    assert_eq!(report.first_errors[0].reason, "expected 3 elements, found 1");
    let service = "texts".parse().unwrap();
    let (keys, at) = spine(&[(Some("a"), 9), (Some("b"), 9), (Some("c"), 9), (Some("d"), 9)]);
    let world = world.reopen().await;
    let online = world.store.latest(&service, &keys, &at).await.unwrap();
    assert_eq!(online, world.store.as_of(&service, &keys, &at).await.unwrap());
    let of = |name: &str| (0..4).map(|row| cell(&online, name, row)).collect::<Vec<_>>();
    assert_eq!(
        of("text__embedding"),
        [floats([1.0, 2.5, -3.0]), floats([4.0, 5.0, 6.0]), floats([7.0, 8.0, 9.0]), floats([0.0; 3])]
    );
    assert_eq!(of("text__words"), [words(&["x", "y"]), words(&[]), Value::Null, Value::Null]);
    assert_eq!(of("texts__different"), [1, 1, 0, 0].map(Value::Int));
    // A view that is made when the rows are there reads them from Parquet.
    let late = World::new().await;
    late.apply(&definitions()[..2]).await;
    late.put("texts", vec![json!({"who": "a", "at": t(1), "embedding": [1, 2.5, -3], "words": ["x", "y"]})]).await;
    let late = late.reopen().await;
    late.apply(&definitions()[2..]).await;
    let known = late.store.latest(&service, &keys.take(&[0]), &at[..1]).await.unwrap();
    assert_eq!(known, online.take(&[0]));
    // And from the offline table, where they lie as Delta Lake has them.
    late.store.compact(&source, "test").await.unwrap();
    assert_eq!(late.store.table(&source).await.unwrap().unsealed_rows, 0);
    assert_eq!(late.store.as_of(&service, &keys.take(&[0]), &at[..1]).await.unwrap(), known);
}

#[tokio::test]
async fn lists_that_do_not_fit_are_set_aside_with_their_place() {
    let world = World::new().await;
    world.apply(&definitions()).await;
    let row = |embedding: Json| json!({"who": "a", "at": t(1), "embedding": embedding});
    let rows = vec![row(json!([1, 2])), row(json!([1, null, 3])), row(json!([1, 2, "x"])), row(json!("none"))];
    let report = world.put("texts", rows).await;
    let reasons: Vec<&str> = report.first_errors.iter().map(|error| error.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "expected 3 elements, found 2",
            "element 1: expected float, found null",
            "element 2: expected float, found text \"x\"",
            "expected float[3], found text \"none\"",
        ]
    );
}

#[tokio::test]
async fn definitions_say_where_a_list_cannot_stand() {
    let world = World::new().await;
    world.apply(&definitions()[..2]).await;
    let refused = async |json: Json| world.store.plan(&parsed(&[json])).await.unwrap_err().to_string();
    assert_eq!(
        refused(json!({"kind": "Entity", "name": "e", "key": "k", "type": "int[]"})).await,
        "Entity `e`: type: a list cannot be a key; use int or text"
    );
    let view = |function: &str| {
        json!({"kind": "FeatureView", "name": "v", "source": "texts", "entities": ["who"], "aggregations": [
            {"name": "f", "column": "embedding", "function": function, "window": "1h", "k": if function == "last" { json!(3) } else { json!(null) }},
        ]})
    };
    for (function, reason) in [
        ("sum", "an aggregation needs bool, int or float"),
        ("max", "min and max need bool, int, float or timestamp"),
        ("last", "last takes every type but lists"),
    ] {
        let message = format!("FeatureView `v`: aggregations.f: column `embedding` is float[3], {reason}");
        assert_eq!(refused(view(function)).await, message);
    }
    let wrong = serde_json::from_value::<domain::definition::Definition>(
        json!({"kind": "Source", "name": "s", "timestamp": "at", "columns": [{"name": "at", "type": "floats"}]}),
    );
    assert!(
        wrong.unwrap_err().to_string().contains("unknown variant `floats`, expected one of `bool`, `int`, `float`")
    );
}
